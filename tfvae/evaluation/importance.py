"""Importance-sampled log p(x), in a stream: memory does not grow with `num_samples`."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from tfvae.errors import InvalidArgument
from tfvae.evaluation.batches import batches, track
from tfvae.random import Stream, fold_in, make_seed

# Numbers in one tensor of decoder outputs: small enough for a CPU's cache, large enough for a GPU.
_CHUNK_SIZE = 2**21
_BATCH_SIZE = 20


@dataclasses.dataclass(frozen=True)
class LogLikelihood:
    """Importance-sampled log p(x); all values in nats per example, arrays of shape `[N]`.

    Attributes:
        per_example: log (1/K) Σ_k w_k, a lower bound on log p(x) in expectation, tight as K grows.
        effective_sample_size: (Σ w)² / Σ w², between 1 and K.
        reconstruction: −E_q[log p(x|z)].
        kl: E_q[log q(z|x) − log p(z)], a Monte Carlo KL(q‖p).
        num_samples: K.
        num_values: dimensions of x, what bits/dim divides by.
    """

    per_example: np.ndarray
    effective_sample_size: np.ndarray
    reconstruction: np.ndarray
    kl: np.ndarray
    num_samples: int
    num_values: int

    @property
    def mean(self) -> float:
        """The mean over examples."""
        return float(self.per_example.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of the mean over examples: std / √N."""
        count = len(self.per_example)
        return float(self.per_example.std(ddof=1) / math.sqrt(count)) if count > 1 else math.nan

    @property
    def bits_per_dim(self) -> float:
        """−mean / (ln 2 · num_values)."""
        return -self.mean / (math.log(2) * self.num_values)

    @property
    def elbo(self) -> float:
        """The mean of the variational lower bound, −(reconstruction + kl)."""
        return -float((self.reconstruction + self.kl).mean())

    def summary(self) -> dict:
        """Return the means as a dictionary of plain numbers, for JSON.

        The standard error of a single example is None.
        """
        return {
            "log_likelihood": self.mean,
            "standard_error": self.standard_error if len(self.per_example) > 1 else None,
            "bits_per_dim": self.bits_per_dim,
            "elbo": self.elbo,
            "reconstruction": float(self.reconstruction.mean()),
            "kl": float(self.kl.mean()),
            "effective_sample_size": float(self.effective_sample_size.mean()),
            "num_samples": self.num_samples,
            "num_examples": len(self.per_example),
        }

    def __str__(self):
        return (
            f"log p(x) = {self.mean:.3f} ± {self.standard_error:.3f} nats "
            f"({self.bits_per_dim:.4f} bits/dim), ELBO {self.elbo:.3f}, effective sample size "
            f"{self.effective_sample_size.mean():.0f} of {self.num_samples}, "
            f"{len(self.per_example)} examples"
        )


def log_likelihood(
    model, x, num_samples: int = 5000, seed: int = 0, progress: bool = True
) -> LogLikelihood:
    """Estimate log p(x) by importance sampling from q(z|x).

    log p̂(x) = log (1/K) Σ_k p(x|z_k) p(z_k) / q(z_k|x),  z_k ~ q(z|x).

    Source: Burda, Grosse and Salakhutdinov 2016, "Importance weighted autoencoders", sec. 5.

    Args:
        model: a `LatentVariableModel`.
        x: an array `[N, *x_shape]`, or a batched `tf.data.Dataset` of such.
        num_samples: K; published results use 5000.
        seed: decides the samples.
        progress: whether to show a progress bar on standard error.

    Returns:
        A `LogLikelihood`.

    Raises:
        InvalidArgument: `num_samples` is below 1.
        InvalidData: data that is empty or does not fit the model.
    """
    if num_samples < 1:
        raise InvalidArgument(f"`num_samples` is {num_samples}; expected at least 1.")
    rows = max(1, _CHUNK_SIZE // math.prod(model.decoder.output_shape[1:]))
    batch_size = min(_BATCH_SIZE, rows)
    chunk = min(num_samples, rows // batch_size)

    stream = fold_in(make_seed(seed), int(Stream.EVALUATE))
    results = []
    for number, batch in enumerate(track(*batches(model, x, batch_size), "log p(x)", progress)):
        sums = _accumulate(
            model, batch, fold_in(stream, number), tf.constant(num_samples), tf.constant(chunk)
        )
        results.append([part.numpy() for part in sums])
    parts = [np.concatenate(part) for part in zip(*results, strict=True)]
    return LogLikelihood(*parts, num_samples, math.prod(model.x_shape))


@tf.function(reduce_retracing=True)
def _accumulate(model, x, seed, num_samples, chunk):
    """Return log p̂(x), the effective sample size, −E[log p(x|z)] and the KL, each `[B]`.

    At module level, so that measuring one model again does not trace the graph again.
    """
    q = model.q_z_given_x(x)
    zeros = tf.zeros(tf.shape(x)[:1])
    empty = zeros - np.inf

    def add_chunk(done, log_sum, log_sum_squares, reconstruction, kl):
        size = tf.minimum(chunk, num_samples - done)
        z = q.sample(size, seed=fold_in(seed, done))
        terms = model.log_weight_terms(x, z, q.log_prob(z))
        log_w = terms.log_weights()
        return (
            done + size,
            _log_add_exp(log_sum, tf.reduce_logsumexp(log_w, axis=0)),
            _log_add_exp(log_sum_squares, tf.reduce_logsumexp(2.0 * log_w, axis=0)),
            reconstruction - tf.reduce_sum(terms.log_likelihood, axis=0),
            kl + tf.reduce_sum(terms.kl, axis=0),
        )

    start = (0, empty, empty, zeros, zeros)
    _, log_sum, log_sum_squares, reconstruction, kl = tf.while_loop(
        lambda done, *_: done < num_samples, add_chunk, start, parallel_iterations=1
    )
    count = tf.cast(num_samples, tf.float32)
    return (
        log_sum - tf.math.log(count),
        tf.exp(2.0 * log_sum - log_sum_squares),
        reconstruction / count,
        kl / count,
    )


def _log_add_exp(a, b):
    return tf.reduce_logsumexp(tf.stack([a, b]), axis=0)
