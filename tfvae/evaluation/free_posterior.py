"""Free posteriors: a q for every example, fitted with the decoder fixed."""

import dataclasses
import math
import numbers

import numpy as np
import tensorflow as tf

from tfvae import estimators, exact, objectives
from tfvae._plain.checks import whole
from tfvae.bound import Bound
from tfvae.conditions import as_argument
from tfvae.distributions import num_states, tfd
from tfvae.errors import InvalidArgument
from tfvae.evaluation.batches import (
    batches_beside_condition,
    join,
    refuse_drawn,
    sample_size,
    track,
)
from tfvae.evaluation.enumeration import log_joint_table
from tfvae.evaluation.importance import log_weight_sums
from tfvae.evaluation.results import error_or_none, standard_error
from tfvae.graphs import in_graph
from tfvae.models import VAE
from tfvae.optimizers import adam_direction
from tfvae.random import Stream, fold_in, make_seed

INITIALIZERS = ("encoder", "prior")
# Numbers in one tensor of decoder outputs, or of log-probabilities of states.
_CHUNK_SIZE = 2**21
_BATCH_SIZE = 100
# Up to here the bound is a sum over all states, which are decoded once a batch and not sampled.
_MAX_STATES = 2**12
# Draws that decide, for each example, between the fitted parameters and those it started from.
_CHOICE_SAMPLES = 500


@dataclasses.dataclass(frozen=True)
class FreePosterior:
    """Posteriors q_n(z), each of which maximizes the variational bound of its own example.

    Attributes:
        family: the model's posterior factory.
        parameters: what the factory takes, `[N, *params_shape]`.
        per_example: the variational bound E_{q_n}[log p(x_n, z) − log q_n(z)], `[N]`, in nats.
        encoder_bound: the bound of the encoder's q(z|x_n), with the same noise, `[N]`.
        log_likelihood: log p(x_n), `[N]`: exact if `is_enumerated`, else importance-sampled with
            the draws of q_n or those of the encoder, of the two the one with the larger effective
            sample size.
        is_enumerated: whether these figures are sums over all states, without noise.
        num_samples: draws for each example; unused where states are enumerated.
    """

    family: object
    parameters: np.ndarray
    per_example: np.ndarray
    encoder_bound: np.ndarray
    log_likelihood: np.ndarray
    is_enumerated: bool
    num_samples: int

    @property
    def mean(self) -> float:
        """The mean of the bound over examples."""
        return float(self.per_example.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of the mean over examples: std / √N."""
        return standard_error(self.per_example)

    def distribution(self, examples: slice | np.ndarray = slice(None)) -> tfd.Distribution:
        """Return q_n(z) of the examples that a slice or an array of indices selects, as a batch."""
        return self.family(tf.constant(self.parameters[examples]))

    def summary(self) -> dict:
        """Return the means as a dictionary of plain numbers, for JSON."""
        return {
            "free_bound": self.mean,
            "standard_error": error_or_none(self.per_example),
            "encoder_bound": float(self.encoder_bound.mean()),
            "num_examples": len(self.per_example),
        }

    def __str__(self):
        return (
            f"bound of free posteriors {self.mean:.3f} ± {self.standard_error:.3f} nats, of the "
            f"encoder {self.encoder_bound.mean():.3f}, {len(self.per_example)} examples"
        )


def fit_posterior(
    model: VAE,
    x: np.ndarray | tf.Tensor | tf.data.Dataset,
    *,
    condition: np.ndarray | tf.Tensor | int | None = None,
    num_samples: int = 10,
    num_fresh_samples: int = 5000,
    num_steps: int = 1000,
    learning_rate: float = 0.02,
    init: str = "encoder",
    seed: int = 0,
    progress: bool = True,
) -> FreePosterior:
    """Fit a posterior to every example by itself, with the decoder and the prior fixed.

    q_n = argmax_q E_q[log p(x_n|z) + log p(z) − log q(z)],  q in the model's posterior family,

    by Adam on the parameters of q_n, with a learning rate that falls linearly to 0. If the model
    has a condition, all of these densities are given y_n. The gradient is

    - pathwise, without its score term, for latents that can be reparameterized (Roeder, Wu and
      Duvenaud 2017, "Sticking the landing");
    - exact, by a sum over all states, for discrete latents of at most 4,096 states;
    - else the leave-one-out likelihood ratio (Kool, van Hoof and Welling 2019, "Buy 4 REINFORCE
      samples, get a baseline for free").

    The reported figures are measured with fresh draws. If the fitted parameters have a worse bound
    than the initial ones, by yet other draws, the initial ones are kept.

    Source: Cremer, Li and Duvenaud 2018, "Inference suboptimality in variational autoencoders".

    Args:
        model: a `VAE`.
        x: an array `[N, *x_shape]`, or a batched `tf.data.Dataset` of such; of pairs (x, y) for a
            model with a condition.
        condition: y, labels `[N]` or vectors `[N, C]` or one for all, for a model with a condition.
        num_samples: samples for each example in a step; at least 2 for the likelihood ratio.
        num_fresh_samples: samples for each example that the bounds are measured with.
        num_steps: gradient steps.
        learning_rate: of the first step. A parameter moves by about num_steps · learning_rate / 2
            at most.
        init: "encoder" starts at the encoder's output; "prior" at parameters of zero, which are
            N(0, I) for "diagonal_normal" and uniform for discrete latents.
        seed: decides all noise.
        progress: whether to show a progress bar on standard error.

    Returns:
        A `FreePosterior`.

    Raises:
        InvalidArgument: a value that cannot be used, a model without one posterior family, or a
            condition that is missing or not wanted.
        InvalidData: data that is empty or does not fit the model, or conditions that do not.
    """
    whole("num_steps", num_steps, least=0)
    whole("num_samples", num_samples)
    whole("num_fresh_samples", num_fresh_samples)
    check_family(model)
    _check(learning_rate, init)
    refuse_drawn(model, "`fit_posterior`")
    if _num_states(model) <= _MAX_STATES:
        method = _Enumerated(model)
    else:
        method = _Sampled(model, num_samples, num_fresh_samples)

    schedule = tf.constant(num_steps), tf.constant(learning_rate, tf.float32)
    stream = fold_in(make_seed(seed), int(Stream.EVALUATE))
    parts = batches_beside_condition(model, x, condition, method.batch_size)
    results = [
        _fit_batch(method, *part, init, schedule, fold_in(stream, number))
        for number, part in enumerate(track(*parts, "free posteriors", progress))
    ]
    is_enumerated = isinstance(method, _Enumerated)
    return FreePosterior(model.posterior, *join(results), is_enumerated, num_fresh_samples)


def _fit_batch(method, x, y, init, schedule, seed):
    """Return parameters, their bound, the encoder's, and log p(x), arrays `[B, ...]`."""
    given = as_argument(method.model.encode_condition(y, len(x)))
    encoded = tf.cast(method.model.bottom_up(x, **given), tf.float32)
    start = encoded if init == "encoder" else tf.zeros_like(encoded)
    problem = method.problem(x, y)
    fitted = method.fit(problem, start, schedule, fold_in(seed, 0))
    choice = fold_in(seed, 1), _CHOICE_SAMPLES
    is_better = (
        method.measure(problem, fitted, *choice)[0] > method.measure(problem, start, *choice)[0]
    )
    chosen = tf.where(tf.reshape(is_better, [-1, *[1] * (len(start.shape) - 1)]), fitted, start)
    # The same noise for both, so that equal parameters have equal bounds.
    bound, log_p, size = method.measure(problem, chosen, fold_in(seed, 2))
    encoder_bound, encoder_log_p, encoder_size = method.measure(problem, encoded, fold_in(seed, 2))
    # A posterior that is too narrow has few, huge weights: the sample size shows it.
    log_p = np.where(size >= encoder_size, log_p, encoder_log_p)
    return [np.asarray(part) for part in (chosen, bound, encoder_bound, log_p)]


class _Sampled:
    """Fits and measures with draws from q; the problem of a batch is x and its conditions."""

    def __init__(self, model, num_samples, num_fresh_samples):
        self.model = model
        self._num_samples, self._num_fresh_samples = num_samples, num_fresh_samples
        rows = max(1, _CHUNK_SIZE // sample_size(model))
        self.batch_size = max(1, min(_BATCH_SIZE, rows // num_samples))
        self._pathwise = model.posterior.kind == "continuous"
        if not self._pathwise and num_samples < 2:
            raise InvalidArgument(
                f"`num_samples` is {num_samples}, but the gradient of these {model.posterior.kind} "
                "latents compares each sample with the others; expected at least 2."
            )

    def problem(self, x, y):
        return x, y

    def fit(self, problem, start, schedule, seed):
        samples = tf.constant(self._num_samples)
        return _fit_sampled(self.model, *problem, start, *schedule, seed, samples, self._pathwise)

    def measure(self, problem, parameters, seed, most=None):
        """Return the bound, log p(x) and its effective sample size, `[B]`."""
        count = min(self._num_fresh_samples, most or self._num_fresh_samples)
        x, y = problem
        log_p, size, reconstruction, kl = log_weight_sums(
            self.model, x, seed, count, h=parameters, condition=y
        )
        return -(reconstruction + kl), log_p, size


class _Enumerated:
    """Fits and measures by sums over all states; the problem of a batch is log p(x, z) of each."""

    def __init__(self, model):
        self.model = model
        self._states = tf.constant(exact.latent_states(model))
        numbers_an_example = len(self._states) * math.prod(model.latent_shape)
        self.batch_size = max(1, min(_BATCH_SIZE, _CHUNK_SIZE // numbers_an_example))

    def problem(self, x, y):
        return log_joint_table(self.model, x, y, self._states)

    def fit(self, log_joint, start, schedule, seed):
        return _fit_enumerated(self.model, self._states, log_joint, start, *schedule)

    def measure(self, log_joint, parameters, seed, most=None):
        """Return the bound, log p(x) and an effective sample size, here of no meaning, `[B]`."""
        bound = _enumerated_bound(self.model, self._states, log_joint, parameters)
        return bound, tf.reduce_logsumexp(log_joint, axis=0), tf.zeros_like(bound)


@in_graph
def _fit_sampled(model, x, y, start, num_steps, learning_rate, seed, num_samples, pathwise):
    estimator = estimators.get("sticking_the_landing" if pathwise else "rloo")
    bound = Bound(objectives.elbo, num_samples)

    def gradient(step, parameters):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(parameters)
            infer = model.inference(x, h=parameters, condition=y)
            context = model.likelihood.filled(x)
            value = estimator.estimate(bound, infer, context, fold_in(seed, step), False).surrogate
        return tape.gradient(value, parameters)

    return _ascend(gradient, start, num_steps, learning_rate)


@in_graph
def _fit_enumerated(model, states, log_joint, start, num_steps, learning_rate):
    def gradient(step, parameters):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(parameters)
            value = _enumerated_bound(model, states, log_joint, parameters)
        return tape.gradient(value, parameters)

    return _ascend(gradient, start, num_steps, learning_rate)


@in_graph
def _enumerated_bound(model, states, log_joint, parameters):
    """Return Σ_z q(z) (log p(x, z) − log q(z)), `[B]`."""
    log_q = model.posterior(parameters).log_prob(states[:, tf.newaxis])
    return tf.reduce_sum(tf.exp(log_q) * (log_joint - log_q), axis=0)


def _ascend(gradient, start, num_steps, learning_rate):
    """Return parameters after Adam's steps up the gradient, with a rate that falls to 0.

    Every row is a problem of its own.
    """

    def update(step, parameters, first, second):
        done = tf.cast(step, tf.float32)
        direction, first, second = adam_direction(
            gradient(step, parameters), first, second, done + 1.0
        )
        rate = learning_rate * (1.0 - done / tf.cast(num_steps, tf.float32))
        return step + 1, parameters + rate * direction, first, second

    start = (0, start, tf.zeros_like(start), tf.zeros_like(start))
    _, parameters, _, _ = tf.while_loop(
        lambda step, *_: step < num_steps, update, start, parallel_iterations=1
    )
    return parameters


def _num_states(model):
    """Return how many states the latent has; infinity for a continuous one."""
    kind = model.posterior.kind
    return math.inf if kind == "continuous" else num_states(kind, model.latent_shape)


def check_family(model) -> None:
    """Refuse a model that has no single family of posteriors.

    Raises:
        InvalidArgument: with what measures it.
    """
    if not all(hasattr(model, name) for name in ("posterior", "encoder")):
        raise InvalidArgument(
            f"{type(model).__name__} has no single posterior family whose parameters could be free;"
            " expected a tfvae.VAE. Use tfvae.log_likelihood to measure it."
        )


def _check(learning_rate, init):
    if not isinstance(learning_rate, numbers.Real) or not 0 < learning_rate < math.inf:
        raise InvalidArgument(f"`learning_rate` is {learning_rate!r}; expected a positive number.")
    if init not in INITIALIZERS:
        raise InvalidArgument(f"`init` is {init!r}; expected one of {', '.join(INITIALIZERS)}.")
