"""Information in the latents: active units, posterior means, mutual information with x."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from tfvae._plain.checks import whole
from tfvae.conditions import refuse
from tfvae.evaluation.batches import as_array, batches, track
from tfvae.evaluation.importance import log_add_exp
from tfvae.evaluation.results import error_or_none, standard_error
from tfvae.joint import replay, representatives, sampler
from tfvae.models import VAE, LatentVariableModel
from tfvae.random import Stream, fold_in, make_seed

# Numbers in one tensor of (draws × posteriors × latent dimensions).
_CHUNK_SIZE = 2**21
_BATCH_SIZE = 500


def active_units(
    model: VAE, x: np.ndarray | tf.Tensor | tf.data.Dataset, threshold: float = 0.01
) -> int:
    """Count the latent dimensions that the data moves: Var_x(E[z_u|x]) > threshold.

    Source: Burda, Grosse and Salakhutdinov 2016, sec. 5.2.

    Args:
        model: a `VAE`.
        x: an array `[N, *x_shape]`, or a batched `tf.data.Dataset` of such.
        threshold: variance above which a unit counts as active.
    """
    return int(np.count_nonzero(posterior_means(model, x).var(axis=0) > threshold))


def posterior_means(
    model: VAE, x: np.ndarray | tf.Tensor | tf.data.Dataset, batch_size: int = 500
) -> np.ndarray:
    """Return E[z|x] for all examples, flattened to `[N, D]`.

    Of a posterior that is a flow, it is what the flow makes of the mean of its base.
    """
    refuse(model, "`posterior_means`")
    encode = tf.function(model.encode, reduce_retracing=True, autograph=False)
    parts, _ = batches(model, x, batch_size)
    means = np.concatenate([encode(batch).numpy() for batch in parts])
    return means.reshape(len(means), -1)


@dataclasses.dataclass(frozen=True)
class MutualInformation:
    """The information in q(z|x) about which of N examples x is; in nats, arrays of shape `[N]`.

    Attributes:
        per_example: estimates of KL(q(z|x_n) ‖ q(z)), each at most log N; their mean is I_q(x; z).
        rate: KL(q(z|x_n) ‖ p(z)): exact where TFP knows it, else from the same draws.
        num_samples: draws for each example.
    """

    per_example: np.ndarray
    rate: np.ndarray
    num_samples: int

    @property
    def mean(self) -> float:
        """I_q(x; z)."""
        return float(self.per_example.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of the mean, over examples and draws: std / √N."""
        return standard_error(self.per_example)

    @property
    def marginal_kl(self) -> float:
        """KL(q(z) ‖ p(z)) = E[rate] − I_q(x; z)."""
        return float(self.rate.mean()) - self.mean

    @property
    def limit(self) -> float:
        """log N, which I_q(x; z) over N examples cannot exceed."""
        return math.log(len(self.per_example))

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
        }

    def __str__(self):
        return (
            f"I(x; z) = {self.mean:.3f} ± {self.standard_error:.3f} nats of at most "
            f"{self.limit:.3f}, rate {self.rate.mean():.3f}, KL(q(z)‖p(z)) {self.marginal_kl:.3f}, "
            f"{len(self.per_example)} examples"
        )


def mutual_information(
    model: LatentVariableModel,
    x: np.ndarray | tf.Tensor | tf.data.Dataset,
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

    Source: Hoffman and Johnson 2016, "ELBO surgery: yet another way to carve up the variational
    evidence lower bound".

    Args:
        model: a `LatentVariableModel`.
        x: an array `[N, *x_shape]`, or a batched `tf.data.Dataset` of such; held in memory.
        num_samples: draws for each example.
        seed: decides the draws.
        progress: whether to show a progress bar on standard error.

    Returns:
        A `MutualInformation`.

    Raises:
        InvalidArgument: `num_samples` is below 1.
        InvalidData: data that is empty or does not fit the model.
    """
    refuse(model, "`mutual_information`")
    whole("num_samples", num_samples)
    x = as_array(model, x)
    stream = fold_in(make_seed(seed), int(Stream.EVALUATE))
    information, sampled_rate = np.zeros(len(x)), np.zeros(len(x))
    for number in track(range(num_samples), num_samples, "I(x; z)", progress):
        z, log_q, log_p = _draw(model, x, fold_in(stream, number))
        information += (log_q - _log_aggregate(model, x, z)) / num_samples
        sampled_rate += (log_q - log_p) / num_samples
    rate = _exact_rate(model, x)
    return MutualInformation(information, sampled_rate if rate is None else rate, num_samples)


def _parts(x):
    return [tf.constant(x[n : n + _BATCH_SIZE]) for n in range(0, len(x), _BATCH_SIZE)]


def _draw(model, x, seed):
    """Return one draw z ~ q(z|x) for each example, its log q(z|x) and its log p(z)."""
    parts = [_draw_batch(model, part, fold_in(seed, n)) for n, part in enumerate(_parts(x))]
    return [np.concatenate([np.asarray(v) for v in values]) for values in zip(*parts, strict=True)]


def _log_aggregate(model, x, z):
    """Return log q(z) = log (1/N) Σ_m q(z|x_m), `[N]`."""
    rows = max(1, _CHUNK_SIZE // (_BATCH_SIZE * math.prod(model.latent_shape)))
    log_sum = tf.fill([len(z)], -np.inf)
    z = tf.constant(z)
    for part in _parts(x):
        log_sum = _add_posteriors(model, part, z, log_sum, tf.constant(rows))
    return log_sum.numpy() - math.log(len(x))


def _exact_rate(model, x):
    """Return KL(q(z|x) ‖ p(z)), `[N]`, or None where it has no closed form."""
    if len(model.layer_shapes) > 1:
        return None
    parts = [_rate_batch(model, part) for part in _parts(x)]
    return None if parts[0] is None else np.concatenate(parts)


@tf.function(reduce_retracing=True, autograph=False)
def _draw_batch(model, x, seed):
    joint = model.inference(x)(sampler(1, seed))
    return model.join(joint.z)[0], joint.log_q()[0], joint.log_p()[0]


@tf.function(reduce_retracing=True, autograph=False)
def _rate_batch(model, x):
    layer = model.inference(x)(representatives).layers[0]
    by_unit = layer.kl_by_unit()
    return None if by_unit is None else tf.reduce_sum(by_unit[0], axis=-1)


@tf.function(reduce_retracing=True, autograph=False)
def _add_posteriors(model, x, z, log_sum, rows):
    """Add Σ_m q(z|x_m) over a batch of x to e^log_sum, `rows` latents at a time."""
    h = model.bottom_up(x)
    count = tf.shape(z)[0]

    def some(start, sums):
        values = model.split(z[start : start + rows, tf.newaxis])  # [R, 1, *shape]
        layers, _ = model.infer(h, replay(values))
        part = tf.reduce_logsumexp(sum(layer.log_q for layer in layers), axis=1)
        return start + rows, sums.write(start // rows, part)

    sums = tf.TensorArray(
        tf.float32, size=(count + rows - 1) // rows, element_shape=[None], infer_shape=False
    )
    _, sums = tf.while_loop(lambda start, _: start < count, some, (0, sums), parallel_iterations=1)
    return log_add_exp(log_sum, sums.concat())
