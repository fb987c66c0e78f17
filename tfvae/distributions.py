"""Distribution factories: tensors that a network emits become `tfd.Distribution`s.

Networks emit tensors and models build distributions from them, so a distribution never crosses a
Keras layer boundary, and networks save and export unchanged. The last axis of the parameters holds
`params_size(channels)` numbers for each site; `batch_ndims` says how many leading axes are batch.
All arithmetic is in float32, whatever the precision policy of the networks.

Images are floats in [0, 1]; a likelihood over L levels reads pixel value v as level v·(L − 1).
"""

import math

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfvae.errors import InvalidArgument, InvalidData
from tfvae.registry import Registry

tfd = tfp.distributions

POSTERIORS = Registry("posterior")
LIKELIHOODS = Registry("likelihood")


class Factory:
    """What every factory answers.

    Subclasses set `params_per_channel` (or override `params_size`) and implement `distribution`.
    """

    params_per_channel = 1

    def params_size(self, channels: int) -> int:
        """Return how many parameters a site with this many channels needs."""
        return channels * self.params_per_channel

    def event_shape(self, params_shape) -> tuple[int, ...]:
        """Return the shape of one value, given that of its parameters (both without batch axes).

        Raises:
            InvalidArgument: the last axis does not hold parameters for a whole number of channels.
        """
        *sites, size = params_shape
        for channels in range(1, size + 1):
            if self.params_size(channels) >= size:
                break
        if self.params_size(channels) != size:
            raise InvalidArgument(
                f"A network that feeds {type(self).__name__} ends in an axis of size {size}; "
                f"expected params_size(channels): {self.params_size(1)} for 1 channel, "
                f"{self.params_size(2)} for 2, {self.params_size(3)} for 3."
            )
        return (*sites, channels)

    def distribution(self, params: tf.Tensor, batch_ndims: int) -> tfd.Distribution:
        """Return the distribution of values, for float32 parameters."""
        raise NotImplementedError

    def __call__(self, params: tf.Tensor, batch_ndims: int = 1) -> tfd.Distribution:
        """Return the distribution whose parameters are `params`, with `batch_ndims` batch axes."""
        return self.distribution(tf.cast(params, tf.float32), batch_ndims)

    def get_config(self) -> dict:
        """Return the constructor arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict):
        """Return the factory with these constructor arguments."""
        return cls(**config)

    def __repr__(self):
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


@POSTERIORS.register("diagonal_normal")
class DiagonalNormal(Factory):
    """q(z|x) = Π_d N(z_d; μ_d, σ_d²), σ = softplus(raw + log(e − 1)), so that raw = 0 gives σ = 1.

    The last axis of the parameters is μ, then raw.
    """

    params_per_channel = 2

    def distribution(self, params, batch_ndims):  # noqa: D102
        loc, raw_scale = tf.split(params, 2, axis=-1)
        return _independent(tfd.Normal(loc, _positive(raw_scale)), batch_ndims)


class Likelihood(Factory):
    """A factory for p(x|z).

    Attributes:
        num_levels: how many values a pixel can take; None for a density on the real line.
    """

    num_levels: int | None = None

    def check(self, x: np.ndarray, name: str = "x") -> None:
        """Refuse data to which this likelihood gives no meaning.

        Raises:
            InvalidData: `x` is not finite, or lies outside [0, 1] while pixels have levels.
        """
        if not np.all(np.isfinite(x)):
            raise InvalidData(
                f"`{name}` holds {np.count_nonzero(~np.isfinite(x))} values that are infinite or "
                "not a number; expected finite pixels. Clean the data first."
            )
        if self.num_levels and x.size and (x.min() < 0 or x.max() > 1):
            raise InvalidData(
                f"`{name}` has values from {x.min():g} to {x.max():g}; the "
                f"{type(self).__name__} likelihood expects pixels in [0, 1]. "
                "Divide 8-bit images by 255, or use likelihood='normal'."
            )

    def off_levels(self, x: np.ndarray) -> float:
        """Return the fraction of values that are not one of the levels: 0 if all is well.

        A likelihood over levels is a probability only of data that lies on them; of grey pixels, a
        Bernoulli's "log-likelihood" is not one.
        """
        if not self.num_levels:
            return 0.0
        level = np.asarray(x, np.float32) * (self.num_levels - 1)
        return float(np.mean(np.abs(level - np.round(level)) > 1e-2))


@LIKELIHOODS.register("bernoulli")
class Bernoulli(Likelihood):
    """Binary pixels: p(x_d = 1 | z) = sigmoid(logit_d). Parameters: the logits."""

    num_levels = 2

    def distribution(self, params, batch_ndims):  # noqa: D102
        return _BernoulliImage(params, batch_ndims)


@LIKELIHOODS.register("categorical")
class Categorical(Likelihood):
    """Each channel of each pixel takes one of `num_levels` values with its own softmax.

    Args:
        num_levels: how many values; 256 for 8-bit images.
    """

    def __init__(self, num_levels: int = 256):
        self.num_levels = _check_levels(num_levels)
        self.params_per_channel = self.num_levels

    def distribution(self, params, batch_ndims):  # noqa: D102
        return _CategoricalImage(params, batch_ndims, self.num_levels)

    def get_config(self):  # noqa: D102
        return {"num_levels": self.num_levels}


@LIKELIHOODS.register("normal")
class Normal(Likelihood):
    """x_d ~ N(μ_d, σ²): a density, so log p(x) in nats is not comparable with discrete likelihoods.

    Args:
        scale: the fixed σ, or "learned": the network emits μ, then a raw scale, on the last axis,
            and σ_d = softplus(raw + log(e − 1)).
    """

    def __init__(self, scale: float | str = 1.0):
        if scale != "learned" and not (isinstance(scale, (int, float)) and scale > 0):
            raise InvalidArgument(
                f"`scale` is {scale!r}; expected a positive number or 'learned'."
            )
        self.scale = scale
        self.params_per_channel = 2 if scale == "learned" else 1

    def distribution(self, params, batch_ndims):  # noqa: D102
        if self.scale != "learned":
            return _independent(tfd.Normal(params, self.scale), batch_ndims)
        loc, raw_scale = tf.split(params, 2, axis=-1)
        return _independent(tfd.Normal(loc, _positive(raw_scale)), batch_ndims)

    def get_config(self):  # noqa: D102
        return {"scale": self.scale}


@LIKELIHOODS.register("discretized_logistic_mixture")
class DiscretizedLogisticMixture(Likelihood):
    """Levels under a mixture of logistics, with channels coupled inside each component.

    Component k gives channel c of a pixel the mass that a logistic of scale s_kc and location
    μ_kc + Σ_{c'<c} a_kcc' x_c' puts on the bin of the level, the outer bins taking the tails.
    Parameters for a pixel of C channels: K logits, then C·K locations, C·K log-scales, and
    K·C(C−1)/2 coefficients before tanh.

    Source: Salimans et al. 2017, "PixelCNN++", sec. 2.1 and 2.2; the mass of a bin is computed
    exactly, without the paper's fallback to the density at the centre.

    Args:
        num_components: K.
        num_levels: how many values; 256 for 8-bit images.
    """

    def __init__(self, num_components: int = 5, num_levels: int = 256):
        if num_components < 1:
            raise InvalidArgument(f"`num_components` is {num_components}; expected at least 1.")
        self.num_components = num_components
        self.num_levels = _check_levels(num_levels)

    def params_size(self, channels):  # noqa: D102
        return self.num_components * (1 + 2 * channels + channels * (channels - 1) // 2)

    def distribution(self, params, batch_ndims):  # noqa: D102
        *_, channels = self.event_shape(params.shape[batch_ndims:])
        return _LogisticMixtureImage(
            params, batch_ndims, channels, self.num_components, self.num_levels
        )

    def get_config(self):  # noqa: D102
        return {"num_components": self.num_components, "num_levels": self.num_levels}


class _ImageDistribution(tfd.Distribution):
    """What the image distributions share: parameters `[batch..., sites..., params]`."""

    def __init__(self, params, batch_ndims, event_shape, name):
        self._params = params
        self._batch_ndims = batch_ndims
        self._event = tuple(event_shape)
        super().__init__(
            dtype=tf.float32,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            name=name,
        )

    def _batch_shape(self):
        return self._params.shape[: self._batch_ndims]

    def _batch_shape_tensor(self):
        return tf.shape(self._params)[: self._batch_ndims]

    def _event_shape(self):
        return tf.TensorShape(self._event)

    def _event_shape_tensor(self):
        return tf.constant(self._event, tf.int32)

    def _sum_event(self, values):
        """Sum over the axes of the event, keeping sample and batch axes."""
        return tf.reduce_sum(values, axis=list(range(-len(self._event), 0)))

    def _with_samples(self, n):
        """Return the parameters repeated for n samples, `[n, batch..., sites..., params]`."""
        return tf.repeat(self._params[tf.newaxis], n, axis=0)


class _BernoulliImage(_ImageDistribution):
    def __init__(self, logits, batch_ndims):
        super().__init__(logits, batch_ndims, logits.shape[batch_ndims:], "BernoulliImage")

    def _log_prob(self, x):
        flat = math.prod(self._event)
        logits = tf.reshape(self._params, tf.concat([self._batch_shape_tensor(), [flat]], 0))
        x = tf.reshape(x, tf.concat([tf.shape(x)[: -len(self._event)], [flat]], 0))
        return _bernoulli_log_prob(x, logits)

    def _sample_n(self, n, seed=None):
        probs = tf.sigmoid(self._with_samples(n))
        return tf.cast(_uniform_like(probs, seed) < probs, tf.float32)

    def _mean(self):
        return tf.sigmoid(self._params)


@tf.custom_gradient
def _bernoulli_log_prob(x, logits):
    """Σ_d x_d l_d − softplus(l_d) over the last axis, with one transcendental function an entry.

    With s = sigmoid(l), softplus(l) = max(l, 0) − log max(s, 1 − s), and s is what the gradient,
    x − s, needs as well. The factors max(s, 1 − s) lie in [1/2, 1], so up to 64 of them can be
    multiplied without underflow before the logarithm is taken. Automatic differentiation of the
    textbook formula would evaluate more functions and keep more tensors of the size of `logits`,
    which is what training on a CPU waits for.
    """
    s = tf.sigmoid(logits)
    size = logits.shape[-1]
    group = max(n for n in range(1, 65) if size % n == 0)
    factors = tf.reshape(tf.maximum(s, 1.0 - s), [-1, size // group, group])
    log_factors = tf.math.log(tf.reduce_prod(factors, axis=-1))
    linear = tf.reduce_sum(x * logits - tf.nn.relu(logits), axis=-1)
    smooth = tf.reshape(tf.reduce_sum(log_factors, axis=-1), tf.shape(logits)[:-1])

    def gradient(upstream):
        upstream = upstream[..., tf.newaxis]
        for_x = _sum_to_shape(upstream * logits, tf.shape(x))
        return for_x, _sum_to_shape(upstream * (x - s), tf.shape(logits))

    return linear + smooth, gradient


def _sum_to_shape(values, shape):
    """Undo broadcasting: sum `values` over the axes along which `shape` was broadcast."""
    axes = tf.raw_ops.BroadcastGradientArgs(s0=tf.shape(values), s1=shape)[1]
    return tf.reshape(tf.reduce_sum(values, axis=axes), shape)


class _CategoricalImage(_ImageDistribution):
    def __init__(self, params, batch_ndims, num_levels):
        *sites, size = params.shape[batch_ndims:]
        channels = size // num_levels
        shape = tf.concat([tf.shape(params)[:-1], [channels, num_levels]], 0)
        self._logits = tf.reshape(params, shape)
        self._num_levels = num_levels
        super().__init__(params, batch_ndims, (*sites, channels), "CategoricalImage")

    def _log_prob(self, x):
        labels = _to_levels(x, self._num_levels)
        shape = tf.broadcast_dynamic_shape(tf.shape(labels), tf.shape(self._logits)[:-1])
        logits = tf.broadcast_to(self._logits, tf.concat([shape, [self._num_levels]], 0))
        labels = tf.broadcast_to(labels, shape)
        return self._sum_event(
            -tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        )

    def _sample_n(self, n, seed=None):
        flat = tf.reshape(self._logits, [-1, self._num_levels])
        draws = tf.random.stateless_categorical(flat, n, _stateless(seed))
        shape = tf.concat([[n], tf.shape(self._logits)[:-1]], 0)
        return _from_levels(tf.reshape(tf.transpose(draws), shape), self._num_levels)

    def _mean(self):
        levels = tf.range(self._num_levels, dtype=tf.float32) / (self._num_levels - 1)
        return tf.linalg.matvec(tf.nn.softmax(self._logits), levels)


class _LogisticMixtureImage(_ImageDistribution):
    """Works on values rescaled to [−1, 1]; component axis K is last."""

    def __init__(self, params, batch_ndims, channels, num_components, num_levels):
        sites = params.shape[batch_ndims:-1]
        self._num_levels = num_levels
        self._channels = channels
        couplings = channels * (channels - 1) // 2
        self._sizes = [num_components] * (1 + 2 * channels + couplings)
        super().__init__(params, batch_ndims, (*sites, channels), "DiscretizedLogisticMixture")

    def _split(self, params):
        """Return mixture logits, and per channel the location, log-scale and coefficients."""
        logits, *rest = tf.split(params, self._sizes, axis=-1)
        c = self._channels
        locs, log_scales, raw = rest[:c], rest[c : 2 * c], rest[2 * c :]
        coefficients = []
        for channel in range(c):
            coefficients.append([tf.tanh(a) for a in raw[:channel]])
            raw = raw[channel:]
        # A scale of e^-7 is far below the width of a bin: less would only lose precision.
        return logits, locs, [tf.maximum(s, -7.0) for s in log_scales], coefficients

    def _log_prob(self, x):
        logits, locs, log_scales, coefficients = self._split(self._params)
        levels = _to_levels(x, self._num_levels)
        values = 2.0 * _from_levels(levels, self._num_levels) - 1.0
        total = tf.nn.log_softmax(logits)
        for channel in range(self._channels):
            loc = locs[channel]
            for previous, coefficient in enumerate(coefficients[channel]):
                loc = loc + coefficient * values[..., previous, tf.newaxis]
            total += self._log_mass(
                levels[..., channel, tf.newaxis],
                values[..., channel, tf.newaxis] - loc,
                log_scales[channel],
            )
        per_pixel = tf.reduce_logsumexp(total, axis=-1)
        sites = len(self._event) - 1
        return tf.reduce_sum(per_pixel, axis=list(range(-sites, 0))) if sites else per_pixel

    def _log_mass(self, level, centered, log_scale):
        """Return log(σ(a) − σ(b)) for the bin's upper and lower edges a and b.

        Written as log σ(a) + log σ(−b) + log(1 − e^(b−a)), which does not cancel; at the outer
        bins, a = ∞ or b = −∞, the other two terms vanish.
        """
        half = 1.0 / (self._num_levels - 1)
        inverse = tf.exp(-log_scale)
        is_top, is_bottom = level == self._num_levels - 1, level == 0
        zero = tf.zeros_like(centered)
        upper = tf.where(is_top, zero, tf.math.log_sigmoid((centered + half) * inverse))
        lower = tf.where(is_bottom, zero, tf.math.log_sigmoid(-(centered - half) * inverse))
        width = tf.math.log(-tf.math.expm1(-2.0 * half * inverse))
        return upper + lower + tf.where(is_top | is_bottom, zero, width + zero)

    def _sample_n(self, n, seed=None):
        logits, locs, log_scales, coefficients = self._split(self._with_samples(n))
        seed = _stateless(seed)
        uniform = _uniform_like(logits, tf.random.fold_in(seed, 0))
        gumbel = -tf.math.log(-tf.math.log(uniform))
        chosen = tf.one_hot(tf.argmax(logits + gumbel, axis=-1), logits.shape[-1])

        def pick(values):
            return tf.reduce_sum(chosen * values, axis=-1)

        values = []
        for channel in range(self._channels):
            loc = pick(locs[channel])
            for previous, coefficient in zip(values, coefficients[channel], strict=True):
                loc += pick(coefficient) * previous
            u = _uniform_like(loc, tf.random.fold_in(seed, channel + 1))
            logistic = tf.math.log(u) - tf.math.log1p(-u)
            value = loc + tf.exp(pick(log_scales[channel])) * logistic
            level = _to_levels(tf.clip_by_value(0.5 * value + 0.5, 0.0, 1.0), self._num_levels)
            values.append(2.0 * _from_levels(level, self._num_levels) - 1.0)
        return 0.5 * tf.stack(values, axis=-1) + 0.5

    def _mean(self):
        """The mean of the mixture before rounding and clipping, clipped to [0, 1]."""
        logits, locs, _, coefficients = self._split(self._params)
        weights = tf.nn.softmax(logits)
        means = []
        for channel in range(self._channels):
            loc = locs[channel]
            for previous, coefficient in zip(means, coefficients[channel], strict=True):
                loc = loc + coefficient * previous
            means.append(loc)
        mixed = tf.stack([tf.reduce_sum(weights * mean, axis=-1) for mean in means], axis=-1)
        return tf.clip_by_value(0.5 * mixed + 0.5, 0.0, 1.0)


def _check_levels(num_levels):
    if num_levels < 2:
        raise InvalidArgument(f"`num_levels` is {num_levels}; expected at least 2.")
    return num_levels


def _independent(distribution, batch_ndims):
    return tfd.Independent(distribution, len(distribution.batch_shape) - batch_ndims)


def _positive(raw):
    return tf.nn.softplus(raw + math.log(math.e - 1.0)) + 1e-6


def _to_levels(x, num_levels):
    return tf.cast(tf.round(x * (num_levels - 1)), tf.int32)


def _from_levels(levels, num_levels):
    return tf.cast(levels, tf.float32) / (num_levels - 1)


def _stateless(seed):
    return tfp.random.sanitize_seed(seed)


def _uniform_like(values, seed):
    tiny = np.finfo(np.float32).tiny
    return tf.random.stateless_uniform(tf.shape(values), _stateless(seed), minval=tiny)
