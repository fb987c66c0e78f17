"""log p(x) without sampling: small discrete latents, and the linear-Gaussian model."""

import dataclasses
import functools
import math

import numpy as np
import tensorflow as tf

from tfvae import exact
from tfvae._plain import memory
from tfvae._plain.checks import whole
from tfvae.errors import InvalidArgument
from tfvae.evaluation.batches import (
    alike,
    batches_beside_condition,
    count_values,
    join,
    sample_size,
    track,
)
from tfvae.evaluation.importance import log_add_exp
from tfvae.evaluation.results import Measured
from tfvae.likelihoods import Observed
from tfvae.models import LatentVariableModel

# Numbers in one tensor of (states × examples × decoder outputs), and in the widest layer of the
# networks for these states: 32 MiB, of which the log-density of a likelihood makes a handful.
_CHUNK_SIZE = 2**23


@dataclasses.dataclass(frozen=True)
class ExactLogLikelihood(Measured):
    """log p(x) itself, in nats per example.

    Attributes:
        per_example: log p(x), `[N]`.
        num_values: dimensions of x, what bits/dim divides by.
    """

    per_example: np.ndarray
    num_values: float


def exact_log_likelihood(
    model: LatentVariableModel,
    x: np.ndarray | tf.Tensor | tf.data.Dataset,
    *,
    condition: np.ndarray | tf.Tensor | int | None = None,
    batch_size: int = 100,
    progress: bool = True,
) -> ExactLogLikelihood:
    """Compute log p(x), or log p(x|y), without sampling, to float32 rounding.

    - Discrete latents of at most `tfvae.exact.MAX_STATES` states: log Σ_z p(x|z) p(z).
    - The linear-Gaussian model (a standard normal prior, an affine decoder, a Normal likelihood of
      fixed scale): log N(x; b, W Wᵀ + σ² I), see `tfvae.exact.linear_gaussian`. With a condition y,
      W and b may depend on it; those of the latest y are kept, of as many as 64 MiB hold.

    Source: Tipping and Bishop 1999, "Probabilistic principal component analysis", eq. 6.

    Args:
        model: a `LatentVariableModel`.
        x: an array `[N, *x_shape]`, or a batched `tf.data.Dataset` of such; of pairs (x, y) for a
            model with a condition.
        condition: y of log p(x|y), labels `[N]` or vectors `[N, C]` or one for all, for a model
            with a condition.
        batch_size: the most examples to go over the states with at a time; memory is bounded
            whatever it is, but all states are decoded anew for every batch.
        progress: whether to show a progress bar on standard error.

    Returns:
        An `ExactLogLikelihood`.

    Raises:
        InvalidArgument: log p(x) has no such form, or not given one of the conditions; the latent
            has too many states; or a condition is missing or not wanted.
        InvalidData: data that is empty or does not fit the model, or conditions that do not.
    """
    whole("batch_size", batch_size)
    log_p, size = _log_p(model)
    batch_size = min(batch_size, max(1, _CHUNK_SIZE // size))
    parts = track(*batches_beside_condition(model, x, condition, batch_size), "log p(x)", progress)
    results = [[np.asarray(log_p(batch, y)), count_values(batch)] for batch, y in parts]
    per_example, num_values = join(results)
    return ExactLogLikelihood(per_example, float(num_values.mean()))


def has_exact_log_likelihood(model, y: np.ndarray | None) -> bool:
    """Whether `exact_log_likelihood` can measure a model, given its conditions `[N, ...]`, if any.

    A decoder may be affine given some conditions and not given others.
    """
    if "continuous" not in model.latent_kinds:
        return exact.num_latent_states(model) <= exact.MAX_STATES
    given = [None] if y is None else np.unique(y, axis=0)
    return all(_linear_gaussian(model, each) is not None for each in given)


def _log_p(model):
    """Return the function from a batch and its conditions to its log p(x), `[B]`, and its memory.

    The memory is how many numbers an example takes.
    """
    if "continuous" not in model.latent_kinds:
        states = tf.constant(exact.latent_states(model))
        return lambda x, y: log_joint_sum(model, x, y, states), _numbers_of_a_state(model, 1)
    size, latents = math.prod(model.x_shape), math.prod(model.latent_shape)
    marginals = _Marginals(model, max(1, _CHUNK_SIZE // (size * latents)))
    if isinstance(model.likelihood, Observed):
        size = max(size, latents) * latents
    if model.condition is None:
        marginals(None)  # which refuses the model before x is read
    return functools.partial(_given, marginals), size


class _Marginals:
    """p(x|y) in closed form, of any condition y; the `most` that were found last are kept."""

    def __init__(self, model, most):
        self._model, self._most, self._kept = model, most, {}

    def __call__(self, y):
        """Return that of one condition, or of None without one."""
        key = None if y is None else y.tobytes()
        if key not in self._kept:
            if len(self._kept) == self._most:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = _marginal(self._model, y)
        return self._kept[key]


def _marginal(model, y):
    """Return p(x) in closed form, given one condition y if the model has one."""
    marginal = _linear_gaussian(model, y)
    if marginal is None:
        raise InvalidArgument(
            "log p(x) of this model has no closed form: its latents are "
            f"{', '.join(model.latent_kinds)}. Expected discrete latents, or a standard normal "
            "prior with an affine decoder and a Normal likelihood of fixed scale. Use "
            "tfvae.log_likelihood, which estimates it by importance sampling."
        )
    return marginal


def _linear_gaussian(model, y):
    # A chain of layers has no single prior and decoder, hence no closed form.
    return exact.linear_gaussian(model, y) if len(model.latent_kinds) == 1 else None


def _given(marginals, x, y) -> np.ndarray:
    """Return log p(x|y) of a batch in closed form, `[B]`: the examples of each y at once."""
    log_p = np.zeros(len(x))
    y = None if y is None else np.asarray(y)
    for chosen in alike(y, len(x)):
        marginal = marginals(None if y is None else y[chosen[0]])
        log_p[chosen] = marginal.log_prob(_flat(tf.gather(x, chosen))).numpy()
    return log_p


def _flat(x):
    return tf.reshape(x, [len(x), -1])


def _numbers_of_a_state(model, count) -> int:
    """Return how many numbers the largest tensor has for each state that `count` examples share.

    That is log p(x|z), or what the widest layer of the networks gives: networks that take a
    condition decode a state for each example, others once.
    """
    widest = max(max(memory.widths(part), default=0) for part in model.generative_parts)
    rows = 1 if model.condition is None else count
    return max(count * sample_size(model), rows * widest)


def log_joint_sum(model, x, y, states) -> tf.Tensor:
    """Return log Σ_z p(x, z) over the states `[S, *latent_shape]`, given conditions y, `[B]`."""
    chunk = max(1, _CHUNK_SIZE // _numbers_of_a_state(model, len(x)))
    return _log_joint_sum(model, x, y, states, tf.constant(chunk))


@tf.function(reduce_retracing=True, autograph=False)
def _log_joint_sum(model, x, y, states, chunk):
    """Go over the states in chunks, so that memory does not grow with their number."""

    def add_chunk(start, log_sum):
        part = _log_joint(model, x, y, states[start : start + chunk])
        return start + chunk, log_add_exp(log_sum, tf.reduce_logsumexp(part, axis=0))

    empty = tf.zeros(tf.shape(x)[:1]) - np.inf
    _, log_sum = tf.while_loop(
        lambda start, _: start < tf.shape(states)[0], add_chunk, (0, empty), parallel_iterations=1
    )
    return log_sum


def log_joint_table(model, x, y, states) -> tf.Tensor:
    """Return log p(x, z) of every state given y, `[S, B]`, decoded a few states at a time."""
    chunk = max(1, _CHUNK_SIZE // _numbers_of_a_state(model, len(x)))
    starts = range(0, len(states), chunk)
    return tf.concat([_log_joint(model, x, y, states[n : n + chunk]) for n in starts], 0)


@tf.function(reduce_retracing=True, autograph=False)
def _log_joint(model, x, y, states):
    """Return log p(x, z), `[S, B]`, compiled once for a shape."""
    return exact.log_joint(model, x, states, condition=y)
