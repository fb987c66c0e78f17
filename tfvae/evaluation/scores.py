"""Scores of examples: log p(x) of each, its standard error, and its parts."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from tfvae import distributions, objectives
from tfvae._plain.checks import probability, whole
from tfvae.bound import Bound
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.evaluation.batches import (
    batches_beside_condition,
    join,
    refuse_drawn,
    sample_size,
    track,
)
from tfvae.evaluation.importance import mean_over_samples
from tfvae.evaluation.results import sampling_error
from tfvae.graphs import in_graph
from tfvae.joint import sampler
from tfvae.models import CodeModel, LatentVariableModel
from tfvae.random import Stream, fold_in, make_seed

_CHUNK_SIZE = 2**20  # numbers in one tensor of decoder outputs
_BATCH_SIZE = 500  # examples for which a graph is called once; they are gone over one by one


@dataclasses.dataclass(frozen=True)
class Scores:
    """The scores of each example under a model; all values in nats, arrays of shape `[N]`.

    Attributes:
        log_likelihood: log (1/K) Σ_k w_k, an estimate of log p(x); of a model of codes, its lower
            bound log p(x|codes of x) + log p(codes of x).
        reconstruction: −E_q[log p(x|z)].
        kl: E_q[log q(z|x) − log p(z)]; of a model of codes, −log p(codes of x).
        reconstruction_by_value: −E_q[log p(x_d|z)] of each value, `[N, *x_shape]`, which sum to
            `reconstruction`; None where the values of an example do not have shares of their own.
        effective_sample_size: (Σ w)² / Σ w², between 1 and K; None of a model of codes, which
            samples nothing.
        num_samples: K.
    """

    log_likelihood: np.ndarray
    reconstruction: np.ndarray
    kl: np.ndarray
    reconstruction_by_value: np.ndarray | None = None
    effective_sample_size: np.ndarray | None = None
    num_samples: int | None = None

    def __len__(self):
        return len(self.log_likelihood)

    @property
    def elbo(self) -> np.ndarray:
        """The variational lower bound, −(reconstruction + kl)."""
        return -(self.reconstruction + self.kl)

    @property
    def standard_error(self) -> np.ndarray | None:
        """Standard error of each `log_likelihood` over the samples drawn; None of codes.

        By the delta method, √((1/ESS − 1/K) · K/(K − 1)), see `LogLikelihood.sampling_error`.
        """
        if self.effective_sample_size is None:
            return None
        return sampling_error(self.effective_sample_size, self.num_samples)

    def columns(self) -> dict[str, np.ndarray]:
        """Return the arrays of one number for each example, by name, in the order of a table."""
        names = (
            "log_likelihood",
            "standard_error",
            "elbo",
            "reconstruction",
            "kl",
            "effective_sample_size",
        )
        found = {name: getattr(self, name) for name in names}
        return {name: values for name, values in found.items() if values is not None}

    def summary(self) -> dict:
        """Return means, and the lowest and the highest score, as plain numbers, for JSON."""
        log_p, error = self.log_likelihood, self.standard_error
        values = {
            "num_examples": len(self),
            "log_likelihood": float(log_p.mean()),
            "lowest": float(log_p.min()),
            "highest": float(log_p.max()),
            "elbo": float(self.elbo.mean()),
            "reconstruction": float(self.reconstruction.mean()),
            "kl": float(self.kl.mean()),
        }
        if error is not None:
            values["num_samples"] = self.num_samples
            # One sample says nothing of how far others would lie from it.
            values["mean_standard_error"] = float(error.mean()) if self.num_samples > 1 else None
        return values


def score(
    model: LatentVariableModel | CodeModel,
    x: np.ndarray | tf.Tensor | tf.data.Dataset,
    *,
    condition: np.ndarray | tf.Tensor | int | None = None,
    num_samples: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> Scores:
    """Score examples: log p(x) of each by importance sampling, and its parts.

    log p̂(x) = log (1/K) Σ_k p(x|z_k) p(z_k) / q(z_k|x),  z_k ~ q(z|x).

    The scores of an example depend on the model, the example and the seed alone: all examples share
    the same noise, so the other examples of a batch make no difference. For the mean over a test
    set use `tfvae.log_likelihood`, whose noise differs from example to example and averages out.

    Args:
        model: a `LatentVariableModel`, or a `CodeModel`, of which `num_samples` and `seed` have no
            effect.
        x: an array `[N, *x_shape]`, or a batched `tf.data.Dataset` of such; of pairs (x, y) for a
            model with a condition.
        condition: y of log p(x|y), labels `[N]` or vectors `[N, C]` or one for all, for a model
            with a condition.
        num_samples: K, samples for each example.
        seed: decides the samples.
        progress: whether to show a progress bar on standard error.

    Returns:
        `Scores`.

    Raises:
        InvalidArgument: `num_samples` is below 1, or a condition is missing or not wanted.
        InvalidData: data that is empty or does not fit the model, or conditions that do not.
    """
    whole("num_samples", num_samples)
    refuse_drawn(model, "A score")
    parts = track(*batches_beside_condition(model, x, condition, _BATCH_SIZE), "scores", progress)
    if isinstance(model, CodeModel):
        results = [_numpy(_score_codes(model, *part)) for part in parts]
        log_p, reconstruction, kl, shares = join(results)
        return Scores(log_p, reconstruction, kl, _known(shares))
    seed = fold_in(make_seed(seed), int(Stream.EVALUATE))
    chunk = min(num_samples, max(1, _CHUNK_SIZE // sample_size(model)))
    sizes = tf.constant(num_samples), tf.constant(chunk)
    results = [_numpy(_score(model, *part, seed, *sizes)) for part in parts]
    log_p, reconstruction, kl, shares, effective = join(results)
    return Scores(log_p, reconstruction, kl, _known(shares), effective, num_samples)


def threshold(log_likelihood: np.ndarray, false_alarm_rate: float) -> float:
    """Return the score below which an example is called an anomaly.

    It is the k-th smallest of n scores of held-out examples, k = ⌊rate · (n + 1)⌋. A further
    example from the same distribution then scores lower with a probability of at most `rate`,
    whatever the distribution of scores.

    Source: Vovk, Gammerman and Shafer 2005, "Algorithmic learning in a random world", sec. 2.2.

    Args:
        log_likelihood: scores of examples that the model was not trained on, `[n]`.
        false_alarm_rate: the share of ordinary examples that may be called anomalies.

    Raises:
        InvalidArgument: a rate that is no probability.
        InvalidData: no examples, too few for the rate, or scores that are not a number.
    """
    values = np.sort(np.ravel(log_likelihood))
    if np.isnan(values).any():
        raise InvalidData(
            f"{np.isnan(values).sum()} of {len(values)} scores are NaN, and nothing scores below "
            "that; expected numbers. Leave these examples out, or look for what is wrong with them."
        )
    return float(values[check_rate(false_alarm_rate, len(values)) - 1])


def gives_shares(model: LatentVariableModel | CodeModel) -> bool:
    """Whether the scores under a model have shares of each value of an example."""
    *sites, channels = model.x_shape
    p_x = model.likelihood(tf.zeros([1, *sites, model.likelihood.params_size(channels)]), 1)
    return _by_value(p_x, tf.zeros([1, *model.x_shape])) is not None


def check_rate(false_alarm_rate: float, count: int) -> int:
    """Return ⌊rate · (n + 1)⌋ for n examples, of which `threshold` makes a threshold.

    Raises:
        InvalidArgument: a rate that is no probability.
        InvalidData: too few examples for the rate.
    """
    rate = probability("false_alarm_rate", false_alarm_rate)
    k = math.floor(rate * (count + 1) + 1e-9)
    if k < 1 or count < 1:
        least = f"at least {max(1, math.ceil(1 / rate - 1e-9) - 1)}" if rate else "infinitely many"
        raise InvalidData(
            f"A threshold for a false-alarm rate of {rate:g} takes {least} examples that the model "
            f"was not trained on; there are {count}. Use a higher rate, or more examples."
        )
    return min(k, count)


def _numpy(tensors):
    return [tensor.numpy() for tensor in tensors]


@in_graph
def _score(model, x, y, seed, num_samples, chunk):
    """Return the tensors that `Scores` holds for a batch, `[B, ...]` each.

    One example after the other, each with the noise of `seed`: the other examples of the batch do
    not affect its scores, not even their rounding. A batch of one with its K samples keeps the
    matrix products as large as K examples would.
    """

    def of_one(number):
        given = None if y is None else y[number : number + 1]
        sums = _sums(model, x[number : number + 1], given, seed, num_samples, chunk)
        return [part[0] for part in sums]

    numbers = tf.range(tf.shape(x)[0])
    signature = [tf.TensorSpec(None)] * 5
    return tf.map_fn(of_one, numbers, fn_output_signature=signature, parallel_iterations=2)


def _sums(model, x, condition, seed, num_samples, chunk):
    """Return what `_score` does, of a batch whose examples have their own noise each."""
    infer = model.inference(x, condition=condition)

    def weigh(size, seed):
        joint = infer(sampler(size, seed))
        by_value = _by_value(joint.p_x, x)
        sums = tf.zeros([tf.shape(x)[0], 0])
        if by_value is not None:  # log p(x|z) need not be computed a second time
            axes = list(range(2, by_value.shape.rank))
            joint = joint._replace(log_likelihood=tf.reduce_sum(by_value, axes))
            sums = -tf.reduce_sum(by_value, axis=0)
        return Bound(objectives.iwae).terms(joint), [sums]

    first = _by_value(infer(sampler(1, seed)).p_x, x)  # for its shape alone
    log_p, effective, reconstruction, kl, shares = mean_over_samples(
        *(weigh, tf.shape(x)[0], seed, num_samples, chunk),
        others=[_zeros(x, first, 2)],
        parallel_iterations=1,
    )
    return log_p, reconstruction, kl, shares, effective


@in_graph
def _score_codes(model, x, condition):
    """Return the tensors that `Scores` holds for a batch, but for what samples have."""
    quantized, p_x = model.autoencode(x, condition=condition)
    rate = -model.prior.log_prob(quantized.codes, model.condition_of_prior(condition))
    reconstruction = -p_x.log_prob(x)
    by_value = _by_value(p_x, x)
    shares = _zeros(x, by_value, 1) if by_value is None else -by_value
    return -(reconstruction + rate), reconstruction, rate, shares


def _by_value(p_x, x):
    """Return log p of each value, `[..., B, *x_shape]`; None if it is not known."""
    try:
        return distributions.log_prob_by_value(p_x, x)
    except InvalidArgument:  # a likelihood of the user's own
        return None


def _zeros(x, by_value, batch_ndims):
    """Return zeros, `[B, *x_shape]`; where values have no shares, none of them, `[B, 0]`."""
    shape = [0] if by_value is None else by_value.shape[batch_ndims:]
    return tf.zeros([tf.shape(x)[0], *shape])


def _known(shares):
    return shares if shares.size else None
