"""Information in the latents: active units, posterior means, mutual information with x."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from tfvae._plain.checks import whole
from tfvae.conditions import as_argument
from tfvae.evaluation.batches import (
    alike,
    arrays_beside_condition,
    batches_beside_condition,
    track,
)
from tfvae.evaluation.importance import log_add_exp
from tfvae.evaluation.results import error_or_none, standard_error
from tfvae.graphs import in_graph
from tfvae.joint import replay, representatives, sampler
from tfvae.models import LatentVariableModel
from tfvae.random import Stream, fold_in, make_seed

# Numbers in one tensor of (draws × posteriors × latent dimensions).
_CHUNK_SIZE = 2**21
_BATCH_SIZE = 500


def active_units(
    model: LatentVariableModel,
    x: np.ndarray | tf.Tensor | tf.data.Dataset,
    *,
    condition: np.ndarray | tf.Tensor | int | None = None,
    threshold: float = 0.01,
    progress: bool = True,
) -> int:
    """Count the latent dimensions that the data moves: Var_x(E[z_u|x]) > threshold.

    Of a model with a condition it is the variance of E[z_u|x, y] over the given pairs of x and y;
    with one condition for all, what x alone moves. Of several layers it is the variance of what
    `posterior_means` gives in place of the mean.

    Source: Burda, Grosse and Salakhutdinov 2016, sec. 5.2.

    Args:
        model: a `LatentVariableModel`.
        x: as in `posterior_means`.
        condition: as in `posterior_means`.
        threshold: variance above which a unit counts as active.
        progress: whether to show a progress bar on standard error.

    Raises:
        InvalidArgument: a condition that is missing or not wanted.
        InvalidData: data that is empty or does not fit the model, or conditions that do not.
    """
    means = posterior_means(model, x, condition=condition, progress=progress)
    return int(np.count_nonzero(means.var(axis=0) > threshold))


def posterior_means(
    model: LatentVariableModel,
    x: np.ndarray | tf.Tensor | tf.data.Dataset,
    *,
    condition: np.ndarray | tf.Tensor | int | None = None,
    batch_size: int = 500,
    progress: bool = True,
) -> np.ndarray:
    """Return E[z|x], or E[z|x, y], for all examples, flattened to `[N, D]`.

    Of a posterior that is a flow, it is what the flow makes of the mean of its base. Of several
    layers, each is conditioned on the points of the layers drawn before, which is not E[z_l|x].

    Args:
        model: a `LatentVariableModel`.
        x: an array `[N, *x_shape]`, or a batched `tf.data.Dataset` of such; of pairs (x, y) for a
            model with a condition.
        condition: y, labels `[N]` or vectors `[N, C]` or one for all, for a model with a condition.
        batch_size: examples to encode at a time.
        progress: whether to show a progress bar on standard error.

    Raises:
        InvalidArgument: a condition that is missing or not wanted.
        InvalidData: data that is empty or does not fit the model, or conditions that do not.
    """
    whole("batch_size", batch_size)
    parts = batches_beside_condition(model, x, condition, batch_size)
    means = [_encode(model, *part) for part in track(*parts, "E[z|x]", progress)]
    means = np.concatenate([part.numpy() for part in means])
    return means.reshape(len(means), -1)


@dataclasses.dataclass(frozen=True)
class MutualInformation:
    """The information in q(z|x) about which of N examples x is; in nats, arrays of shape `[N]`.

    Of a model with a condition, all of these distributions and I_q(x; z|y) are given y.

    Attributes:
        per_example: estimates of KL(q(z|x_n) ‖ q(z)), each at most the log of its `num_alike`;
            their mean is I_q(x; z).
        rate: KL(q(z|x_n) ‖ p(z)): in closed form where it is known, otherwise estimated from the
            same draws.
        num_samples: draws for each example.
        num_alike: how many examples q(z) is the mixture over, for each example: N, and with a
            condition the number of those that have the same one.
        is_conditional: whether the model has a condition.
    """

    per_example: np.ndarray
    rate: np.ndarray
    num_samples: int
    num_alike: np.ndarray
    is_conditional: bool

    @property
    def mean(self) -> float:
        """I_q(x; z), or I_q(x; z|y)."""
        return float(self.per_example.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of the mean, over examples and draws: std / √N."""
        return standard_error(self.per_example)

    @property
    def marginal_kl(self) -> float:
        """KL(q(z) ‖ p(z)) = E[rate] − I_q(x; z).

        Given conditions it is the mean over examples of KL(q(z|y_n) ‖ p(z|y_n)).
        """
        return float(self.rate.mean()) - self.mean

    @property
    def limit(self) -> float:
        """What I_q(x; z) cannot exceed: log N, and given conditions the mean of log `num_alike`."""
        return float(np.log(self.num_alike).mean())

    def summary(self) -> dict:
        """Return the means as a dictionary of plain numbers, for JSON."""
        return {
            "mutual_information": self.mean,
            "standard_error": error_or_none(self.per_example),
            "rate": float(self.rate.mean()),
            "marginal_kl": self.marginal_kl,
            "limit": self.limit,
            "num_samples": self.num_samples,
            "num_examples": len(self.per_example),
            "is_conditional": self.is_conditional,
        }

    def __str__(self):
        given = "|y" if self.is_conditional else ""
        return (
            f"I(x; z{given}) = {self.mean:.3f} ± {self.standard_error:.3f} nats of at most "
            f"{self.limit:.3f}, rate {self.rate.mean():.3f}, KL(q(z{given})‖p(z{given})) "
            f"{self.marginal_kl:.3f}, {len(self.per_example)} examples"
        )


def mutual_information(
    model: LatentVariableModel,
    x: np.ndarray | tf.Tensor | tf.data.Dataset,
    *,
    condition: np.ndarray | tf.Tensor | int | None = None,
    num_samples: int = 10,
    seed: int = 0,
    progress: bool = True,
) -> MutualInformation:
    """Estimate the mutual information of examples and latents under the encoder.

    I_q(x; z) = (1/N) Σ_n KL(q(z|x_n) ‖ q(z)),  q(z) = (1/N) Σ_m q(z|x_m),

    with the mixture over all N given examples, and KL by draws z ~ q(z|x_n). It splits the rate:
    (1/N) Σ_n KL(q(z|x_n) ‖ p(z)) = I_q(x; z) + KL(q(z) ‖ p(z)). The identity of one of N
    examples is at most log N nats of information, so with few examples I_q says little about a
    code that tells them all apart. The time grows as N² · num_samples; memory as N.

    Of a model with a condition it is the conditional mutual information I_q(x; z|y): all of these
    distributions are given y_n, and q(z|y_n) is the mixture over the examples whose condition is
    y_n. So it is 0 where no two examples have the same. The time then grows as Σ_y N_y² ·
    num_samples, with N_y examples that have the condition y.

    Source: Hoffman and Johnson 2016, "ELBO surgery: yet another way to carve up the variational
    evidence lower bound".

    Args:
        model: a `LatentVariableModel`.
        x: an array `[N, *x_shape]`, or a batched `tf.data.Dataset` of such, of pairs (x, y) for a
            model with a condition; held in memory.
        condition: y, labels `[N]` or vectors `[N, C]` or one for all, for a model with a condition.
        num_samples: draws for each example.
        seed: decides the draws.
        progress: whether to show a progress bar on standard error.

    Returns:
        A `MutualInformation`.

    Raises:
        InvalidArgument: `num_samples` is below 1, or a condition is missing or not wanted.
        InvalidData: data that is empty or does not fit the model, or conditions that do not.
    """
    whole("num_samples", num_samples)
    data = arrays_beside_condition(model, x, condition)
    x, y = data
    groups = alike(y, len(x))
    num_alike = np.zeros(len(x), int)
    for group in groups:
        num_alike[group] = len(group)
    groups = [group for group in groups if len(group) > 1]  # one alone is its own mixture
    stream = fold_in(make_seed(seed), int(Stream.EVALUATE))
    information, sampled_rate = np.zeros(len(x)), np.zeros(len(x))
    for number in track(range(num_samples), num_samples, "I(x; z)", progress):
        z, log_q, log_p = _draw(model, data, fold_in(stream, number))
        sampled_rate += (log_q - log_p) / num_samples
        for group in groups:
            of_group = [None if part is None else part[group] for part in data]
            log_aggregate = _log_aggregate(model, of_group, z[group])
            information[group] += (log_q[group] - log_aggregate) / num_samples
    rate = _exact_rate(model, data)
    rate = sampled_rate if rate is None else rate
    return MutualInformation(information, rate, num_samples, num_alike, y is not None)


def _parts(data):
    """Return batches of examples and their conditions, or None beside them."""
    x, y = data
    for start in range(0, len(x), _BATCH_SIZE):
        rows = slice(start, start + _BATCH_SIZE)
        yield tf.constant(x[rows]), None if y is None else tf.constant(y[rows])


def _draw(model, data, seed):
    """Return one draw z ~ q(z|x) for each example, its log q(z|x) and its log p(z)."""
    parts = [_draw_batch(model, *part, fold_in(seed, n)) for n, part in enumerate(_parts(data))]
    return [np.concatenate([np.asarray(v) for v in values]) for values in zip(*parts, strict=True)]


def _log_aggregate(model, data, z):
    """Return log q(z) = log (1/N) Σ_m q(z|x_m), `[N]`."""
    rows = max(1, _CHUNK_SIZE // (_BATCH_SIZE * math.prod(model.latent_shape)))
    log_sum = tf.fill([len(z)], -np.inf)
    z = tf.constant(z)
    for part in _parts(data):
        log_sum = _add_posteriors(model, *part, z, log_sum, tf.constant(rows))
    return log_sum.numpy() - math.log(len(data[0]))


def _exact_rate(model, data):
    """Return KL(q(z|x) ‖ p(z)), `[N]`, or None where it has no closed form."""
    if len(model.layer_shapes) > 1:
        return None
    parts = [_rate_batch(model, *part) for part in _parts(data)]
    return None if parts[0] is None else np.concatenate(parts)


@in_graph
def _encode(model, x, y):
    return model.encode(x, condition=y)


@in_graph
def _draw_batch(model, x, y, seed):
    layers = _layers(model, x, y, sampler(1, seed))
    z = model.join([layer.z for layer in layers])
    return z[0], sum(layer.log_q for layer in layers)[0], sum(layer.log_p() for layer in layers)[0]


@in_graph
def _rate_batch(model, x, y):
    layer = _layers(model, x, y, representatives)[0]
    by_unit = layer.kl_by_unit()
    return None if by_unit is None else tf.reduce_sum(by_unit[0], axis=-1)


def _layers(model, x, y, draw):
    """Return the layers of a pass over a batch, without p(x|z)."""
    given = as_argument(model.encode_condition(y, tf.shape(x)[0]))
    layers, _ = model.infer(model.bottom_up(x, **given), draw, **given)
    return layers


@in_graph
def _add_posteriors(model, x, y, z, log_sum, rows):
    """Add Σ_m q(z|x_m) over a batch of x to e^log_sum, `rows` latents at a time."""
    given = as_argument(model.encode_condition(y, tf.shape(x)[0]))
    h = model.bottom_up(x, **given)
    count = tf.shape(z)[0]

    def some(start, sums):
        values = model.split(z[start : start + rows, tf.newaxis])  # [R, 1, *shape]
        layers, _ = model.infer(h, replay(values), **given)
        part = tf.reduce_logsumexp(sum(layer.log_q for layer in layers), axis=1)
        return start + rows, sums.write(start // rows, part)

    sums = tf.TensorArray(
        tf.float32, size=(count + rows - 1) // rows, element_shape=[None], infer_shape=False
    )
    _, sums = tf.while_loop(lambda start, _: start < count, some, (0, sums), parallel_iterations=1)
    return log_add_exp(log_sum, sums.concat())
