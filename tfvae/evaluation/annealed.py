"""log p(x) by annealed importance sampling: chains from the prior to the posterior."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from tfvae._plain.checks import whole
from tfvae.conditions import as_argument
from tfvae.errors import InvalidArgument
from tfvae.evaluation.batches import (
    batches_beside_condition,
    count_values,
    join,
    refuse_drawn,
    sample_size,
    track,
)
from tfvae.evaluation.results import Measured, sampling_error
from tfvae.graphs import in_graph
from tfvae.joint import ancestral
from tfvae.models import LatentVariableModel
from tfvae.random import Stream, fold_in, make_seed

# Numbers in one tensor of decoder outputs, as in importance sampling; gradients keep several.
_CHUNK_SIZE = 2**21
_BATCH_SIZE = 100
_TARGET_ACCEPTANCE = 0.65
# Of log ε, a transition: fast enough to follow a posterior that narrows over 100 temperatures.
_ADAPTATION_RATE = 0.1
_PILOT_CHAINS = 4


@dataclasses.dataclass(frozen=True)
class AnnealedLogLikelihood(Measured):
    """log p(x) by annealed importance sampling; in nats per example, arrays of shape `[N]`.

    Attributes:
        per_example: log (1/K) Σ_k w_k over the chains, a lower bound on log p(x) in expectation.
        effective_sample_size: (Σ w)² / Σ w², between 1 and K.
        acceptance_rate: the mean over chains and temperatures of the probability to accept; NaN
            with one temperature, which makes no transition.
        num_chains: K.
        num_temperatures: T.
        num_values: dimensions of x, what bits/dim divides by.
    """

    per_example: np.ndarray
    effective_sample_size: np.ndarray
    acceptance_rate: np.ndarray
    num_chains: int
    num_temperatures: int
    num_values: float

    @property
    def sampling_error(self) -> np.ndarray:
        """Standard error of each `per_example` over the chains, by the delta method."""
        return sampling_error(self.effective_sample_size, self.num_chains)

    def summary(self) -> dict:
        """Return the means as a dictionary of plain numbers, for JSON; None for what is NaN."""
        accepted = float(self.acceptance_rate.mean())
        return {
            **super().summary(),
            "effective_sample_size": float(self.effective_sample_size.mean()),
            "acceptance_rate": None if math.isnan(accepted) else accepted,
            "num_chains": self.num_chains,
            "num_temperatures": self.num_temperatures,
        }

    def __str__(self):
        return (
            f"{super().__str__()}, effective sample size {self.effective_sample_size.mean():.1f} "
            f"of {self.num_chains} chains, acceptance {self.acceptance_rate.mean():.2f}"
        )


def annealed_importance_sampling(
    model: LatentVariableModel,
    x: np.ndarray | tf.Tensor | tf.data.Dataset,
    *,
    condition: np.ndarray | tf.Tensor | int | None = None,
    num_chains: int = 16,
    num_temperatures: int = 1000,
    num_leapfrog: int = 10,
    seed: int = 0,
    progress: bool = True,
) -> AnnealedLogLikelihood:
    """Estimate log p(x), or log p(x|y), by annealed importance sampling (AIS), without the encoder.

    Chains start at z_0 ~ p(z) and follow f_t(z) = p(z) p(x|z)^β_t, 0 = β_0 < … < β_T = 1:

        log w = Σ_{t=1}^{T} (β_t − β_{t−1}) log p(x|z_{t−1}),  z_t ~ HMC(z_{t−1}; f_t),

    with β on a sigmoid from −4 to 4, and E[w] = p(x) exactly. With T = 1 this is importance
    sampling from the prior. The step size of each example at each temperature comes from a pilot
    run of 4 chains, which follows an acceptance of 0.65; since the chains that are measured do not
    change it, the estimate stays unbiased. Every chain makes (T − 1)(num_leapfrog + 1)
    gradients.

    Source: Wu, Burda, Salakhutdinov and Grosse 2017, "On the quantitative analysis of decoder-based
    generative models"; Neal 2001, "Annealed importance sampling"; Neal 2011, "MCMC using
    Hamiltonian dynamics".

    Args:
        model: a `LatentVariableModel` with continuous latents, on all of the real line.
        x: an array `[N, *x_shape]`, or a batched `tf.data.Dataset` of such; of pairs (x, y) for a
            model with a condition.
        condition: y of log p(x|y), labels `[N]` or vectors `[N, C]` or one for all, for a model
            with a condition, whose p(z) and p(x|z) above are p(z|y) and p(x|z, y).
        num_chains: K, chains for each example.
        num_temperatures: T; published results use 1,000 to 10,000.
        num_leapfrog: leapfrog steps of one transition.
        seed: decides all noise.
        progress: whether to show a progress bar on standard error.

    Returns:
        An `AnnealedLogLikelihood`.

    Raises:
        InvalidArgument: discrete latents, a number below 1, or a condition that is missing or not
            wanted.
        InvalidData: data that is empty or does not fit the model, or conditions that do not.
    """
    refuse_drawn(model, "Annealed importance sampling")
    whole("num_chains", num_chains)
    whole("num_temperatures", num_temperatures)
    whole("num_leapfrog", num_leapfrog)
    discrete = sorted(set(model.latent_kinds) - {"continuous"})
    if discrete:
        raise InvalidArgument(
            f"Annealed importance sampling follows gradients in z, but this model has "
            f"{' and '.join(discrete)} latents; expected continuous ones. Use "
            "tfvae.exact_log_likelihood if they take few values, else tfvae.log_likelihood."
        )
    betas = tf.constant(sigmoid_schedule(num_temperatures), tf.float32)
    rows = max(1, _CHUNK_SIZE // sample_size(model))
    batch_size = max(1, min(_BATCH_SIZE, rows // num_chains))
    settings = betas, tf.constant(num_leapfrog)

    stream = fold_in(make_seed(seed), int(Stream.EVALUATE))
    results = []
    parts = batches_beside_condition(model, x, condition, batch_size)
    for number, (batch, y) in enumerate(track(*parts, "AIS", progress)):
        batch_seed = fold_in(stream, number)
        step_sizes = tf.zeros([0, len(batch)])  # one temperature makes no transition
        if num_temperatures > 1:
            step_sizes = _tune(model, batch, y, fold_in(batch_seed, 0), *settings)
        measured = _anneal(
            model, batch, y, fold_in(batch_seed, 1), *settings, step_sizes, tf.constant(num_chains)
        )
        results.append([*(part.numpy() for part in measured), count_values(batch)])
    *measured, num_values = join(results)
    num_values = float(num_values.mean())
    return AnnealedLogLikelihood(*measured, num_chains, num_temperatures, num_values)


def sigmoid_schedule(num_temperatures: int, radius: float = 4.0) -> np.ndarray:
    """Return β_0 = 0, …, β_T = 1: a sigmoid of `radius` · (2t/T − 1), scaled to [0, 1].

    Source: the sigmoidal schedule of Wu et al. 2017.
    """
    raw = 1.0 / (1.0 + np.exp(-np.linspace(-radius, radius, num_temperatures + 1)))
    return (raw - raw[0]) / (raw[-1] - raw[0])


@in_graph
def _tune(model, x, y, seed, betas, num_leapfrog):
    """Return the step sizes of T − 1 transitions, `[T − 1, B]`, from chains of their own."""
    count = tf.size(betas) - 2

    def transition(t, z, log_step, used):
        used = used.write(t, tf.exp(log_step))
        beta, step_seed = betas[t + 1], fold_in(seed, t + 1)
        z, _, acceptance = _hmc(model, x, y, z, beta, tf.exp(log_step), num_leapfrog, step_seed)
        log_step += _ADAPTATION_RATE * (acceptance - _TARGET_ACCEPTANCE)
        return t + 1, z, log_step, used

    z = _draw_prior(model, x, y, tf.constant(_PILOT_CHAINS), seed)
    # Of a standard normal in D dimensions, a step that is nearly always accepted.
    log_step = tf.math.log(0.5 * math.prod(model.latent_shape) ** -0.25)
    log_step = tf.fill(tf.shape(x)[:1], log_step)
    used = tf.TensorArray(tf.float32, size=count, element_shape=[None])
    _, _, _, used = tf.while_loop(
        lambda t, *_: t < count, transition, (0, z, log_step, used), parallel_iterations=1
    )
    return used.stack()


@in_graph
def _anneal(model, x, y, seed, betas, num_leapfrog, step_sizes, num_chains):
    """Return log p̂(x), the effective sample size and the acceptance rate, each `[B]`."""
    count = tf.size(betas) - 2

    def transition(t, z, log_w, accepted):
        beta, step_seed = betas[t + 1], fold_in(seed, t + 1)
        z, log_likelihood, acceptance = _hmc(
            model, x, y, z, beta, step_sizes[t], num_leapfrog, step_seed
        )
        log_w += (betas[t + 2] - beta) * log_likelihood
        return t + 1, z, log_w, accepted + acceptance

    z = _draw_prior(model, x, y, num_chains, seed)
    log_w = betas[1] * model.log_joint_terms(x, z, condition=y)[0]
    start = (0, z, log_w, tf.zeros(tf.shape(x)[:1]))
    _, _, log_w, accepted = tf.while_loop(
        lambda t, *_: t < count, transition, start, parallel_iterations=1
    )
    log_sum = tf.reduce_logsumexp(log_w, axis=0)
    return (
        log_sum - tf.math.log(tf.cast(num_chains, tf.float32)),
        tf.exp(2.0 * log_sum - tf.reduce_logsumexp(2.0 * log_w, axis=0)),
        accepted / tf.cast(count, tf.float32),
    )


def _draw_prior(model, x, y, num_chains, seed):
    """Return z ~ p(z), `[K, B, *latent_shape]`."""
    count = tf.shape(x)[0]
    given = as_argument(model.encode_condition(y, count))
    layers, _ = model.generate(ancestral([num_chains, count], fold_in(seed, 0)), **given)
    return model.join([layer.z for layer in layers])


def _hmc(model, x, y, z, beta, step_size, num_leapfrog, seed):
    """Make one Hamiltonian transition that leaves p(z) p(x|z)^β invariant.

    Args:
        y: conditions, `[B, ...]`, or None.
        z: `[K, B, *latent_shape]`.
        step_size: ε, `[B]`.

    Returns:
        The new z, its log p(x|z) `[K, B]`, and the acceptance probability, its mean over chains
        `[B]`.
    """
    seeds = fold_in(seed, 0), fold_in(seed, 1)
    momentum = tf.random.stateless_normal(tf.shape(z), seeds[0])
    step = tf.reshape(step_size, [-1, *[1] * len(model.latent_shape)])
    log_likelihood, log_density, gradient = _log_density(model, x, y, z, beta)

    def leapfrog(n, z, momentum, _likelihood, _density, gradient):
        momentum += 0.5 * step * gradient
        z += step * momentum
        log_likelihood, log_density, gradient = _log_density(model, x, y, z, beta)
        return n + 1, z, momentum + 0.5 * step * gradient, log_likelihood, log_density, gradient

    start = (0, z, momentum, log_likelihood, log_density, gradient)
    _, new_z, new_momentum, new_likelihood, new_density, _ = tf.while_loop(
        lambda n, *_: n < num_leapfrog, leapfrog, start, parallel_iterations=1
    )
    log_ratio = new_density - _kinetic(new_momentum) - log_density + _kinetic(momentum)
    # A trajectory that diverged has no energy to compare: it is refused.
    log_ratio = tf.where(tf.math.is_finite(log_ratio), tf.minimum(log_ratio, 0.0), -np.inf)
    uniform = tf.random.stateless_uniform(tf.shape(log_ratio), seeds[1])
    accept = tf.math.log(uniform) < log_ratio
    new_z = tf.where(tf.reshape(accept, _column(accept, z)), new_z, z)
    log_likelihood = tf.where(accept, new_likelihood, log_likelihood)
    acceptance = tf.reduce_mean(tf.exp(log_ratio), axis=0)
    # A loop asks for the shape that it began with, which the networks may have forgotten.
    return new_z, log_likelihood, tf.ensure_shape(acceptance, x.shape[:1])


def _log_density(model, x, y, z, beta):
    """Return log p(x|z), log p(z) + β log p(x|z), both `[K, B]`, and the latter's gradient in z."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(z)
        log_likelihood, log_p = model.log_joint_terms(x, z, condition=y)
        log_density = log_p + beta * log_likelihood
    return log_likelihood, log_density, tape.gradient(log_density, z)


def _kinetic(momentum):
    """Return ½ |v|², `[K, B]`."""
    return 0.5 * tf.reduce_sum(momentum**2, axis=list(range(2, len(momentum.shape))))


def _column(values, like):
    """Return the shape that lines `values` `[K, B]` up with `like` `[K, B, ...]`."""
    return tf.concat([tf.shape(values), [1] * (len(like.shape) - 2)], 0)
