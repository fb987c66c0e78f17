"""Measures of models of codes: a bound on log p(x), and the quality of reconstructions."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from tfvae.errors import InvalidArgument
from tfvae.evaluation.batches import batches_beside_condition, join, sample_size, track
from tfvae.evaluation.results import Measured
from tfvae.graphs import in_graph
from tfvae.models import CodeModel
from tfvae.models.code_usage import CodeUsage

# Numbers in one tensor of decoder outputs, or of the prior's logits: 32 MiB.
_CHUNK_SIZE = 2**23
_BATCH_SIZE = 100


@dataclasses.dataclass(frozen=True)
class CodeLogLikelihood(Measured):
    """A lower bound on log p(x) of a model of codes; in nats per example, arrays of shape `[N]`.

    Attributes:
        reconstruction: −log p(x|z_q(x)).
        rate: −log p(codes of x) under the model's prior.
        uniform_rate: S log K, what any S codes of K values cost without a learned prior.
        num_values: dimensions of x, what bits/dim divides by.
    """

    reconstruction: np.ndarray
    rate: np.ndarray
    uniform_rate: float
    num_values: int

    @property
    def per_example(self) -> np.ndarray:
        """log p(x|z_q(x)) + log p(codes of x), at most log p(x)."""
        return -(self.reconstruction + self.rate)

    @property
    def uniform_mean(self) -> float:
        """The mean over examples of the same bound with the uniform prior."""
        return -float(self.reconstruction.mean()) - self.uniform_rate

    @property
    def uniform_bits_per_dim(self) -> float:
        """−uniform_mean / (ln 2 · num_values)."""
        return -self.uniform_mean / (math.log(2) * self.num_values)

    def summary(self) -> dict:
        """Return the means as a dictionary of plain numbers, for JSON.

        The standard error of a single example is None.
        """
        return {
            **super().summary(),
            "reconstruction": float(self.reconstruction.mean()),
            "rate": float(self.rate.mean()),
            "uniform_log_likelihood": self.uniform_mean,
            "uniform_bits_per_dim": self.uniform_bits_per_dim,
        }

    def __str__(self):
        return (
            f"log p(x) ≥ {self.mean:.3f} ± {self.standard_error:.3f} nats "
            f"({self.bits_per_dim:.4f} bits/dim), reconstruction {self.reconstruction.mean():.3f}, "
            f"rate {self.rate.mean():.3f} (uniform prior {self.uniform_rate:.3f}), "
            f"{len(self.rate)} examples"
        )


def code_log_likelihood(
    model: CodeModel,
    x: np.ndarray | tf.Tensor | tf.data.Dataset,
    *,
    condition: np.ndarray | tf.Tensor | int | None = None,
    progress: bool = True,
) -> CodeLogLikelihood:
    """Bound log p(x) of a model of codes from below, by one term of its sum.

    log p(x) = log Σ_codes p(x|codes) p(codes) ≥ log p(x|z_q(x)) + log p(codes of x), since the
    model makes x from any codes, and the encoder's are among them. Nothing is sampled.

    Source: van den Oord et al. 2017, "Neural discrete representation learning", sec. 3.2.

    Args:
        model: a `CodeModel`.
        x: an array `[N, *x_shape]`, or a batched `tf.data.Dataset` of such, of pairs (x, y) or in
            a fixed order if there is a condition.
        condition: y of log p(x|y), labels `[N]` or vectors `[N, C]` or one for all, where the model
            or its prior takes one; else None.
        progress: whether to show a progress bar on standard error.

    Returns:
        A `CodeLogLikelihood`.

    Raises:
        InvalidArgument: the likelihood is a density, or a condition is missing or not wanted.
        InvalidData: data that is empty or does not fit the model, or conditions that do not.
    """
    _check_discrete(model.likelihood)
    per_code = math.prod(model.code_shape) * model.codebook_size
    rows = max(1, _CHUNK_SIZE // max(sample_size(model), per_code))
    parts = batches_beside_condition(model, x, condition, min(_BATCH_SIZE, rows))
    results = [
        [part.numpy() for part in _terms(model, batch, y)]
        for batch, y in track(*parts, "log p(x)", progress)
    ]
    uniform_rate = math.prod(model.code_shape) * math.log(model.codebook_size)
    return CodeLogLikelihood(*join(results), uniform_rate, math.prod(model.x_shape))


def _check_discrete(likelihood):
    if likelihood.is_density:
        raise InvalidArgument(
            f"The {type(likelihood).__name__} likelihood is a density on the real line, so p(x) is "
            "no probability, and bits/dim mean nothing; expected a likelihood over "
            "levels. Train with 'bernoulli', 'categorical' or 'discretized_logistic_mixture', or "
            "measure this model with tfvae.evaluation.code_measures."
        )


@in_graph
def _terms(model, x, condition):
    """Return −log p(x|z_q(x)) and −log p(codes), `[B]` each."""
    quantized, p_x = model.autoencode(x, condition=condition)
    given = model.condition_of_prior(condition)
    return -p_x.log_prob(x), -model.prior.log_prob(quantized.codes, given)


def code_measures(
    model: CodeModel,
    x: np.ndarray | tf.Tensor | tf.data.Dataset,
    *,
    condition: np.ndarray | tf.Tensor | int | None = None,
    progress: bool = True,
) -> dict:
    """Measure the reconstructions of a model of codes, and the usage of its codes.

    Args:
        model: a `CodeModel`, with any likelihood.
        x: an array `[N, *x_shape]`, or a batched `tf.data.Dataset` of such; of pairs (x, y) for a
            model with a condition.
        condition: y, as in `code_log_likelihood`, where the networks take one.
        progress: whether to show a progress bar on standard error.

    Returns:
        A dictionary of plain numbers, for JSON:

        - `mse`, the mean over all values of (x − mean of p(x|z_q(x)))²;
        - `mse_over_variance`, `mse` over the variance of all values of x: 1 for a model that knows
          only the mean of the data. None if the data is constant;
        - `psnr`, −10 log10(mse of an image) in dB, averaged over images: the peak is 1. None if an
          image is reproduced exactly, since its PSNR is infinite;
        - `perplexity` = exp(H), averaged over codebooks, H = −Σ_k p_k log p_k of the frequencies of
          a codebook's codes; `code_usage`, the fraction of codes that occur; and `code_bits`, what
          an example would take if each of its codes were coded by itself, Σ_codebooks sites · H /
          ln 2. They are those of `fit`, over the whole of x;
        - `num_examples`.

    Raises:
        InvalidArgument: a condition that is missing, or that is not wanted.
        InvalidData: data that is empty or does not fit the model, or conditions that do not.
    """
    rows = max(1, _CHUNK_SIZE // sample_size(model))
    needed = model.trains_on_condition
    parts = batches_beside_condition(model, x, condition, min(_BATCH_SIZE, rows), needed)
    moments, errors, usage = Moments(), [], None
    for batch, y in track(*parts, "reconstructions", progress):
        squared_error, codes = _reconstruct(model, batch, y)
        errors.append(squared_error.numpy())
        moments.add(batch.numpy())
        by_codebook = model.by_codebook(codes)
        usage = usage or _start_usage(by_codebook, model.codebook_size)
        usage.update_state(by_codebook)
    errors = np.concatenate(errors).astype(np.float64)
    mse, variance = float(errors.mean()), moments.variance
    return {
        "mse": mse,
        "mse_over_variance": mse / variance if variance > 0 else None,
        "psnr": float(np.mean(-10.0 * np.log10(errors))) if errors.all() else None,
        **{name: float(value) for name, value in usage.result().items()},
        "num_examples": len(errors),
    }


@in_graph
def _reconstruct(model, x, condition):
    """Return the mean squared error of each example, `[B]`, and its codes."""
    quantized, p_x = model.autoencode(x, condition=condition)
    error = p_x.mean() - x
    return tf.reduce_mean(error**2, axis=list(range(1, len(x.shape)))), quantized.codes


def _start_usage(by_codebook, codebook_size):
    usage = CodeUsage()
    usage.start([math.prod(part.shape[1:]) for part in by_codebook], codebook_size)
    return usage


class Moments:
    """The variance of all values of a stream of arrays."""

    def __init__(self):
        self._shift, self._count, self._sum, self._squares = None, 0, 0.0, 0.0

    def add(self, values: np.ndarray) -> None:
        """Take in some more values."""
        if self._shift is None:
            # Relative to one of them, since the difference of two large sums would lose digits.
            self._shift = float(values.flat[0])
        shifted = values.astype(np.float64) - self._shift
        self._count += shifted.size
        self._sum += float(shifted.sum())
        self._squares += float(np.square(shifted).sum())

    @property
    def variance(self) -> float:
        """The variance so far; 0 before the first value, and exactly so if all are equal."""
        if not self._count:
            return 0.0
        return self._squares / self._count - (self._sum / self._count) ** 2
