"""Importance-sampled log p(x), in chunks: memory does not grow with `num_samples`."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfvae import objectives
from tfvae._plain.checks import whole
from tfvae.bound import Bound, LogWeightTerms
from tfvae.conditions import as_argument
from tfvae.distributions import tfd
from tfvae.errors import InvalidArgument
from tfvae.evaluation.batches import (
    batches_beside_condition,
    count_values,
    join,
    refuse_drawn,
    sample_size,
    track,
)
from tfvae.evaluation.codes import CodeLogLikelihood, code_log_likelihood
from tfvae.evaluation.results import Measured, sampling_error
from tfvae.graphs import in_graph
from tfvae.joint import sampler
from tfvae.models import CodeModel, LatentVariableModel
from tfvae.random import Stream, fold_in, make_seed

# Numbers in one tensor of decoder outputs: small enough for a CPU's cache, large enough for a GPU.
_CHUNK_SIZE = 2**21
_BATCH_SIZE = 20
_MOST_SAMPLES = 2**31 - 1  # they are counted in 32 bits


@dataclasses.dataclass(frozen=True)
class LogLikelihood(Measured):
    """Importance-sampled log p(x); all values in nats per example, arrays of shape `[N]`.

    Attributes:
        per_example: log (1/K) Σ_k w_k, a lower bound on log p(x) in expectation, tight as K grows.
        effective_sample_size: (Σ w)² / Σ w², between 1 and K.
        reconstruction: −E_q[log p(x|z)], the distortion (Alemi et al. 2018, "Fixing a broken
            ELBO").
        kl: E_q[log q(z|x) − log p(z)], a Monte Carlo KL(q‖p): the rate.
        num_samples: K.
        num_values: dimensions of x, what bits/dim divides by.
    """

    per_example: np.ndarray
    effective_sample_size: np.ndarray
    reconstruction: np.ndarray
    kl: np.ndarray
    num_samples: int
    num_values: float

    @property
    def elbo(self) -> float:
        """The mean of the variational lower bound, −(reconstruction + kl)."""
        return -float((self.reconstruction + self.kl).mean())

    @property
    def sampling_error(self) -> np.ndarray:
        """Standard error of each `per_example` over the samples drawn, by the delta method.

        It is √((1/ESS − 1/K) · K/(K − 1)), the coefficient of variation of the mean weight: an
        estimate from the weights themselves, too small where they miss the bulk of the posterior.
        NaN at K = 1.
        """
        return sampling_error(self.effective_sample_size, self.num_samples)

    def summary(self) -> dict:
        """Return the means as a dictionary of plain numbers, for JSON.

        The standard error of a single example is None.
        """
        return {
            **super().summary(),
            "elbo": self.elbo,
            "reconstruction": float(self.reconstruction.mean()),
            "kl": float(self.kl.mean()),
            "effective_sample_size": float(self.effective_sample_size.mean()),
            "num_samples": self.num_samples,
        }

    def __str__(self):
        return (
            f"log p(x) = {self.mean:.3f} ± {self.standard_error:.3f} nats "
            f"({self.bits_per_dim:.4f} bits/dim), ELBO {self.elbo:.3f}, effective sample size "
            f"{self.effective_sample_size.mean():.0f} of {self.num_samples}, "
            f"{len(self.per_example)} examples"
        )


def log_likelihood(
    model: LatentVariableModel | CodeModel,
    x: np.ndarray | tf.Tensor | tf.data.Dataset,
    *,
    condition: np.ndarray | tf.Tensor | int | None = None,
    num_samples: int = 5000,
    proposal: Callable[..., tfd.Distribution] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> LogLikelihood | CodeLogLikelihood:
    """Estimate log p(x), or log p(x|y), by importance sampling from q(z|x) or another proposal.

    log p̂(x) = log (1/K) Σ_k p(x|z_k) p(z_k) / q(z_k|x),  z_k ~ q(z|x).

    Any posterior that can be sampled and whose log-density is known can be used: continuous,
    discrete, or a chain of layers. The proposal must have mass wherever the posterior p(z|x) has;
    if its tails are lighter, the estimate is too low, and the effective sample size may not show
    it.

    A `CodeModel` has no q(z|x) and samples nothing: its log p(x) is bounded by
    log p(x|z_q(x)) + log p(codes of x), see `tfvae.evaluation.code_log_likelihood`, and
    `num_samples` and `seed` have no effect.

    Source: Burda, Grosse and Salakhutdinov 2016, "Importance weighted autoencoders", sec. 5.

    Args:
        model: a `LatentVariableModel` or a `CodeModel`.
        x: an array `[N, *x_shape]`, or a batched `tf.data.Dataset` of such; of pairs (x, y) for a
            model with a condition.
        condition: y of log p(x|y), labels `[N]` or vectors `[N, C]` or one for all, for a model
            with a condition.
        num_samples: K; published results use 5000.
        proposal: the q to draw from, a function of a float32 batch `[B, *x_shape]`, and of its
            conditions `[B, ...]` if the model has one, that returns a `tfd.Distribution` over
            latents with batch shape `[B]` and event shape `latent_shape`, in nats and made of
            TensorFlow operations; by default the model's own q(z|x). Then `kl` and `elbo` are those
            of the proposal.
        seed: decides the samples.
        progress: whether to show a progress bar on standard error.

    Returns:
        A `LogLikelihood`; of a `CodeModel`, a `CodeLogLikelihood`.

    Raises:
        InvalidArgument: `num_samples` is below 1 or above 2³¹ − 1, the proposal's shapes do not
            fit, the model has no use for an argument, or a condition is missing or not wanted.
        InvalidData: data that is empty or does not fit the model, or conditions that do not.
    """
    whole("num_samples", num_samples)
    if num_samples > _MOST_SAMPLES:
        raise InvalidArgument(
            f"`num_samples` is {num_samples:,}; expected at most {_MOST_SAMPLES:,}. Published "
            "results use 5000."
        )
    if isinstance(model, CodeModel):
        _refuse("proposal", proposal, "the codes of an example are its encoder's", model)
        return code_log_likelihood(model, x, condition=condition, progress=progress)
    if proposal is not None:
        refuse_drawn(model, "A `proposal`")
    batch_size = min(_BATCH_SIZE, _rows(model))
    stream = fold_in(make_seed(seed), int(Stream.EVALUATE))
    results = []
    parts = batches_beside_condition(model, x, condition, batch_size)
    for number, (batch, y) in enumerate(track(*parts, "log p(x)", progress)):
        if proposal is not None:
            _check_proposal(model, _proposed(proposal, batch, y), batch)
        batch_seed = fold_in(stream, number)
        sums = log_weight_sums(model, batch, batch_seed, num_samples, None, proposal, y)
        results.append([*sums, count_values(batch)])
    *measured, num_values = join(results)
    return LogLikelihood(*measured, num_samples, float(num_values.mean()))


def log_weight_sums(
    model, x, seed, num_samples, h=None, proposal=None, condition=None
) -> list[np.ndarray]:
    """Return log p̂(x), the effective sample size, −E[log p(x|z)] and the KL, each `[B]`.

    Args:
        model: a `LatentVariableModel`.
        x: examples, `[B, *x_shape]`.
        seed: `[2]` int32.
        num_samples: K.
        h: what q is made of, in place of `model.bottom_up(x)`.
        proposal: a function of x that returns another q, batch shape `[B]`; see `log_likelihood`.
        condition: y, `[B, ...]`.
    """
    chunk = min(num_samples, max(1, _rows(model) // len(x)))
    sizes = tf.constant(num_samples), tf.constant(chunk)
    sums = _accumulate(model, x, seed, *sizes, h, proposal, condition)
    return [part.numpy() for part in sums]


def _rows(model):
    return max(1, _CHUNK_SIZE // sample_size(model))


def _refuse(name, value, reason, model):
    if value is not None:
        raise InvalidArgument(
            f"log_likelihood got `{name}`, which {type(model).__name__} has no use for: {reason}. "
            "Leave it out."
        )


def _proposed(proposal, x, condition):
    """Return the q that a proposal gives, for a batch and its conditions if there are any."""
    return proposal(x) if condition is None else proposal(x, condition)


def _check_proposal(model, q, x):
    """Refuse a proposal whose shapes do not fit, before they broadcast to something wrong."""
    if not (hasattr(q, "sample") and hasattr(q, "log_prob")):
        raise InvalidArgument(
            f"`proposal` returned {type(q).__name__}; expected a tfd.Distribution over latents."
        )
    shapes = tuple(q.batch_shape), tuple(q.event_shape)
    expected = (len(x),), tuple(model.latent_shape)
    if shapes != expected:
        raise InvalidArgument(
            f"For a batch of {len(x)} examples `proposal` returned a distribution of batch shape "
            f"{shapes[0]} and event shape {shapes[1]}; expected {expected[0]} and {expected[1]}, "
            "one distribution over latents for each example. For independent dimensions, wrap it "
            "in tfd.Independent."
        )


@in_graph
def _accumulate(model, x, seed, num_samples, chunk, h, proposal, condition):
    """Return the four tensors of `log_weight_sums`."""
    if proposal is None:
        weigh = _own_weights(model, x, h, condition)
    else:
        weigh = _foreign_weights(model, x, _proposed(proposal, x, condition), condition)
    # Two at a time: the noise of a chunk is drawn while the one before it is decoded.
    return mean_over_samples(weigh, tf.shape(x)[0], seed, num_samples, chunk, parallel_iterations=2)


def mean_over_samples(weigh, batch_size, seed, num_samples, chunk, others=(), **options):
    """Return log p̂(x), the effective sample size, −E[log p(x|z)] and the KL, each `[B]`.

    Args:
        weigh: the function (K, seed) → terms of K samples; where there are `others`, a pair of
            them and of a list of sums over these K samples, `[B, ...]`.
        batch_size: B.
        seed: `[2]` int32.
        num_samples: K in all.
        chunk: samples at a time.
        others: zeros of the shapes of those sums, whose means are returned behind the four.
        options: of `tf.while_loop`.
    """
    zeros = tf.zeros([batch_size])
    empty = zeros - np.inf

    def add_chunk(done, log_sum, log_sum_squares, reconstruction, kl, *sums):
        size = tf.minimum(chunk, num_samples - done)
        weighed = weigh(size, fold_in(seed, done))
        terms, more = weighed if others else (weighed, ())
        log_w = terms.log_weights()
        return (
            done + size,
            log_add_exp(log_sum, tf.reduce_logsumexp(log_w, axis=0)),
            log_add_exp(log_sum_squares, tf.reduce_logsumexp(2.0 * log_w, axis=0)),
            reconstruction - tf.reduce_sum(terms.log_likelihood, axis=0),
            kl + tf.reduce_sum(terms.kl, axis=0),
            *(total + part for total, part in zip(sums, more, strict=True)),
        )

    start = (0, empty, empty, zeros, zeros, *others)
    _, log_sum, log_sum_squares, *sums = tf.while_loop(
        lambda done, *_: done < num_samples, add_chunk, start, **options
    )
    count = tf.cast(num_samples, tf.float32)
    return (
        log_sum - tf.math.log(count),
        tf.exp(2.0 * log_sum - log_sum_squares),
        *(total / count for total in sums),
    )


def _own_weights(model, x, h, condition):
    """Return the function (K, seed) → terms of samples of the model's own q."""
    if h is None:
        given = as_argument(model.encode_condition(condition, tf.shape(x)[0]))
        h = model.bottom_up(x, **given)

    def weigh(size, seed):
        infer = model.inference(x, h=h, condition=condition, seed=seed)
        return Bound(objectives.iwae).terms(infer(sampler(size, seed)))

    return weigh


def _foreign_weights(model, x, q, condition):
    """Return the function (K, seed) → terms of samples of another q."""

    def weigh(size, seed):
        z = q.sample(size, seed=seed)
        log_likelihood, log_p = model.log_joint_terms(x, z, condition=condition)
        return LogWeightTerms(log_likelihood, (q.log_prob(z) - log_p,))

    return weigh


def log_add_exp(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Return log (eᵃ + eᵇ)."""
    return tf.reduce_logsumexp(tf.stack([a, b]), axis=0)
