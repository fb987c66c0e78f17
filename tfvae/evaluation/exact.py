"""log p(x) without sampling: small discrete latents, and the linear-Gaussian model."""

import dataclasses

import numpy as np
import tensorflow as tf

from tfvae import exact
from tfvae._plain.checks import whole
from tfvae.errors import InvalidArgument
from tfvae.evaluation.batches import (
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

# Numbers in one tensor of (states × examples × decoder outputs): 32 MiB, of which the log-density
# of a likelihood makes a handful.
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
      W and b may depend on it.

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
        InvalidArgument: log p(x) has no such form, the latent has too many states, or a condition
            is missing or not wanted.
        InvalidData: data that is empty or does not fit the model, or conditions that do not.
    """
    whole("batch_size", batch_size)
    log_p, size = _log_p(model)
    batch_size = min(batch_size, max(1, _CHUNK_SIZE // size))
    parts = track(*batches_beside_condition(model, x, condition, batch_size), "log p(x)", progress)
    results = [[np.asarray(log_p(batch, y)), count_values(batch)] for batch, y in parts]
    per_example, num_values = join(results)
    return ExactLogLikelihood(per_example, float(num_values.mean()))


def has_exact_log_likelihood(model) -> bool:
    """Whether `exact_log_likelihood` can measure the model."""
    try:
        _log_p(model)
    except InvalidArgument:
        return False
    return True


def _log_p(model):
    """Return the function from a batch and its conditions to its log p(x), `[B]`, and its memory.

    The memory is how many numbers an example takes.
    """
    if "continuous" not in model.latent_kinds:
        states = tf.constant(exact.latent_states(model))
        return lambda x, y: log_joint_sum(model, x, y, states), sample_size(model)
    y = None if model.condition is None else model.condition.example(1)[0]
    marginal = _marginal(model, y)
    size, latents = marginal.weights.shape
    if isinstance(model.likelihood, Observed):
        size = max(size, latents) * latents
    if model.condition is None:
        return lambda x, y: marginal.log_prob(_flat(x)).numpy(), size
    return lambda x, y: _given(model, x, y), size


def _marginal(model, y):
    """Return p(x) in closed form, given one condition y if the model has one."""
    # A chain of layers has no single prior and decoder, hence no closed form.
    marginal = exact.linear_gaussian(model, y) if len(model.latent_kinds) == 1 else None
    if marginal is None:
        raise InvalidArgument(
            "log p(x) of this model has no closed form: its latents are "
            f"{', '.join(model.latent_kinds)}. Expected discrete latents, or a standard normal "
            "prior with an affine decoder and a Normal likelihood of fixed scale. Use "
            "tfvae.log_likelihood, which estimates it by importance sampling."
        )
    return marginal


def _given(model, x, y) -> np.ndarray:
    """Return log p(x|y) of a batch in closed form, `[B]`: the examples of each y at once."""
    found, which = np.unique(y, axis=0, return_inverse=True)
    log_p = np.zeros(len(x))
    for number, of_these in enumerate(found):
        chosen = np.flatnonzero(which.ravel() == number)
        marginal = _marginal(model, of_these)
        log_p[chosen] = marginal.log_prob(_flat(tf.gather(x, chosen))).numpy()
    return log_p


def _flat(x):
    return tf.reshape(x, [len(x), -1])


def log_joint_sum(model, x, y, states) -> tf.Tensor:
    """Return log Σ_z p(x, z) over the states `[S, *latent_shape]`, given conditions y, `[B]`."""
    chunk = max(1, _CHUNK_SIZE // (len(x) * sample_size(model)))
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
    chunk = max(1, _CHUNK_SIZE // (len(x) * sample_size(model)))
    starts = range(0, len(states), chunk)
    return tf.concat([_log_joint(model, x, y, states[n : n + chunk]) for n in starts], 0)


@tf.function(reduce_retracing=True, autograph=False)
def _log_joint(model, x, y, states):
    """Return log p(x, z), `[S, B]`, compiled once for a shape."""
    return exact.log_joint(model, x, states, condition=y)
