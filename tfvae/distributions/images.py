"""Distributions over images in [0, 1], as `tfd.Distribution`s made for speed and exactness.

TFP's own would do the same arithmetic with several times the memory traffic (Bernoulli), or lose
digits in the difference of two cumulative distributions (logistic mixture).
"""

import math

import tensorflow as tf

from tfvae import random
from tfvae.distributions import tfd


class ImageDistribution(tfd.Distribution):
    """The base of these distributions, with parameters `[batch..., sites..., params]`.

    Subclasses implement `log_prob_by_value`, and `log_prob_by_level` where all levels at once take
    less than one after the other; see `tfvae.distributions`.
    """

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

    def log_prob_by_value(self, x):
        """Return log p of each value, `[..., *event]`."""
        raise NotImplementedError

    def _log_prob(self, x):
        """Sum over the axes of the event, keeping sample and batch axes."""
        values = self.log_prob_by_value(x)
        return tf.reduce_sum(values, axis=list(range(-len(self._event), 0)))

    def _noise(self, seed, index, shape):
        """Return uniforms that a device can repeat, `[N, *shape]`."""
        return tf.reshape(random.uniform(seed, index, math.prod(shape)), [-1, *shape])

    def _with_samples(self, n):
        """Return the parameters repeated for n samples, `[n, batch..., sites..., params]`."""
        return tf.repeat(self._params[tf.newaxis], n, axis=0)


class BernoulliImage(ImageDistribution):
    """Independent binary pixels. Parameters: logits `[batch..., *event]`."""

    def __init__(self, logits, batch_ndims):
        super().__init__(logits, batch_ndims, logits.shape[batch_ndims:], "BernoulliImage")

    def _log_prob(self, x):
        flat = math.prod(self._event)
        pairs = self._batch_ndims == 2 and self._params.shape[1] == 1
        if pairs and len(x.shape) == len(self._event) + 1:
            return self._pairwise_log_prob(tf.reshape(x, [-1, flat]))
        logits = tf.reshape(self._params, tf.concat([self._batch_shape_tensor(), [flat]], 0))
        x = tf.reshape(x, tf.concat([tf.shape(x)[: -len(self._event)], [flat]], 0))
        return _bernoulli_log_prob(x, logits)

    def log_prob_by_value(self, x):
        return x * self._params - tf.nn.softplus(self._params)

    def log_prob_by_level(self, x, values):
        """Return log p of every level of each value, `[..., *event, L]`."""
        return tf.stack([-tf.nn.softplus(self._params), -tf.nn.softplus(-self._params)], -1)

    def _pairwise_log_prob(self, x):
        """Return `[S, B]` for parameters `[S, 1, ...]` and x `[B, ...]`, by a matrix product."""
        logits = tf.reshape(self._params, [-1, x.shape[-1]])
        normalizer = tf.reduce_sum(tf.nn.softplus(logits), axis=-1)
        return tf.matmul(logits, x, transpose_b=True) - normalizer[:, tf.newaxis]

    def _sample_n(self, n, seed=None):
        probs = tf.sigmoid(self._with_samples(n))
        return tf.cast(_uniform_like(probs, seed) < probs, tf.float32)

    def _mean(self):
        return tf.sigmoid(self._params)

    def _mode(self):
        return tf.cast(self._params > 0.0, tf.float32)

    def draw(self, seed, index, temperature=1.0):
        """Return draws number `index`, 1 where logits + T·g > 0 for logistic noise g."""
        u = self._noise(seed, index, self._event)
        logistic = tf.math.log(u) - tf.math.log1p(-u)
        return tf.cast(self._params + temperature * logistic > 0.0, tf.float32)


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
        return for_x, _sum_to_shape(upstream * _residual(x, logits, s), tf.shape(logits))

    return linear + smooth, gradient


@tf.custom_gradient
def _residual(x, logits, s):
    """x − s for s = sigmoid(logits), with the derivative that a second gradient needs.

    Without it `s` would count as a constant there, since it was computed inside the first gradient.
    """

    def gradient(upstream):
        for_logits = _sum_to_shape(-upstream * s * (1.0 - s), tf.shape(logits))
        return _sum_to_shape(upstream, tf.shape(x)), for_logits, tf.zeros_like(s)

    return x - s, gradient


def _sum_to_shape(values, shape):
    """Undo broadcasting: sum `values` over the axes along which `shape` was broadcast."""
    axes = tf.raw_ops.BroadcastGradientArgs(s0=tf.shape(values), s1=shape)[1]
    return tf.reshape(tf.reduce_sum(values, axis=axes), shape)


class CategoricalImage(ImageDistribution):
    """A softmax over the levels of every channel; the last axis is channels × levels."""

    def __init__(self, params, batch_ndims, num_levels):
        *sites, size = params.shape[batch_ndims:]
        channels = size // num_levels
        shape = tf.concat([tf.shape(params)[:-1], [channels, num_levels]], 0)
        self._logits = tf.reshape(params, shape)
        self._num_levels = num_levels
        super().__init__(params, batch_ndims, (*sites, channels), "CategoricalImage")

    def log_prob_by_value(self, x):
        labels = _to_levels(x, self._num_levels)
        shape = tf.broadcast_dynamic_shape(tf.shape(labels), tf.shape(self._logits)[:-1])
        logits = tf.broadcast_to(self._logits, tf.concat([shape, [self._num_levels]], 0))
        labels = tf.broadcast_to(labels, shape)
        return -tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)

    def log_prob_by_level(self, x, values):
        """Return log p of every level of each value, `[..., *event, L]`."""
        return tf.nn.log_softmax(self._logits)

    def _sample_n(self, n, seed=None):
        flat = tf.reshape(self._logits, [-1, self._num_levels])
        draws = tf.random.stateless_categorical(flat, n, _stateless(seed))
        shape = tf.concat([[n], tf.shape(self._logits)[:-1]], 0)
        return _from_levels(tf.reshape(tf.transpose(draws), shape), self._num_levels)

    def _mean(self):
        levels = tf.range(self._num_levels, dtype=tf.float32) / (self._num_levels - 1)
        # Flat, since the softmax kernel takes at most five axes.
        probs = tf.nn.softmax(tf.reshape(self._logits, [-1, self._num_levels]))
        return tf.reshape(tf.linalg.matvec(probs, levels), tf.shape(self._logits)[:-1])

    def _mode(self):
        return _from_levels(tf.argmax(self._logits, -1, tf.int32), self._num_levels)

    def draw(self, seed, index, temperature=1.0):
        """Return draws number `index`, the largest of logits + T·g for Gumbel noise g."""
        u = self._noise(seed, index, (*self._event, self._num_levels))
        best = tf.argmax(self._logits + temperature * random.gumbel(u), -1, tf.int32)
        return _from_levels(best, self._num_levels)


class LogisticMixtureImage(ImageDistribution):
    """See `DiscretizedLogisticMixture`. Works on values rescaled to [−1, 1]; axis K is last."""

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
        # At the lowest scale, a twelfth of half a bin, a logistic at the centre of a bin has all of
        # its mass there but 2e^−12. A lower one would gain these 2e-5 bits at most, and rounding at
        # a bin's edge grows with its inverse. At the highest, inner bins have hardly any mass.
        # Outside, the gradient in a log-scale is 0.
        lowest = -math.log(12.0 * (self._num_levels - 1))
        log_scales = [tf.clip_by_value(s, lowest, 7.0) for s in log_scales]
        return logits, locs, log_scales, coefficients

    def _log_prob(self, x):
        per_pixel = tf.reduce_logsumexp(self._log_joints(x)[-1], axis=-1)
        sites = len(self._event) - 1
        return tf.reduce_sum(per_pixel, axis=list(range(-sites, 0))) if sites else per_pixel

    def log_prob_by_value(self, x):
        """Return log p of each channel given those before it, `[..., sites..., C]`."""
        marginals = [tf.reduce_logsumexp(joint, axis=-1) for joint in self._log_joints(x)]
        pairs = zip(marginals, [0.0, *marginals[:-1]], strict=True)
        return tf.stack([marginal - before for marginal, before in pairs], axis=-1)

    def log_prob_by_level(self, x, values):
        """Return log p of each level of each channel given the channels before it in x."""
        levels = tf.range(self._num_levels)[:, tf.newaxis]  # [L, 1], beside K
        logits, *parts = self._split(self._params)
        joints = [tf.nn.log_softmax(logits), *self._log_joints(x)[:-1]]
        components = self._components(parts, self._scaled(_to_levels(x, self._num_levels)))
        by_channel = []
        for joint, (loc, log_scale) in zip(joints, components, strict=True):
            loc, log_scale = loc[..., tf.newaxis, :], log_scale[..., tf.newaxis, :]
            centered = self._scaled(levels) - loc
            mass = self._log_mass(levels, centered, log_scale)  # [..., sites..., L, K]
            total = tf.reduce_logsumexp(joint, axis=-1)[..., tf.newaxis]
            by_level = tf.reduce_logsumexp(joint[..., tf.newaxis, :] + mass, axis=-1)
            by_channel.append(by_level - total)
        return tf.stack(by_channel, axis=-2)

    def _scaled(self, levels):
        """Return the values in [−1, 1] of levels."""
        return 2.0 * _from_levels(levels, self._num_levels) - 1.0

    def _components(self, parts, values):
        """Yield the locations, given the values of the channels before, and log-scales of each.

        Args:
            parts: locations, log-scales and coefficients, as from `_split`.
            values: in [−1, 1], `[..., sites..., C]`.
        """
        locs, log_scales, coefficients = parts
        for channel in range(self._channels):
            loc = locs[channel]
            for previous, coefficient in enumerate(coefficients[channel]):
                loc = loc + coefficient * values[..., previous, tf.newaxis]
            yield loc, log_scales[channel]

    def _log_joints(self, x):
        """Return log p(k, x_1, …, x_c) for each channel c and component k, `[..., sites..., K]`."""
        logits, *parts = self._split(self._params)
        levels = _to_levels(x, self._num_levels)
        values = self._scaled(levels)
        joints, total = [], tf.nn.log_softmax(logits)
        for channel, (loc, log_scale) in enumerate(self._components(parts, values)):
            total += self._log_mass(
                levels[..., channel, tf.newaxis],
                values[..., channel, tf.newaxis] - loc,
                log_scale,
            )
            joints.append(total)
        return joints

    def _log_mass(self, level, centered, log_scale):
        """Return log(σ(a) − σ(b)) for the bin's upper and lower edges a and b.

        Written as log σ(a) + log σ(−b) + log(1 − e^(b−a)), which does not cancel; at the outer
        bins, a = ∞ or b = −∞, the other two terms vanish. What is left is the rounding of a and b:
        the masses of all levels sum to 1 within 5e-5 at the lowest scale, 1e-6 from e^-4 on.
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
        uniform = _uniform_like(logits, random.fold_in(seed, 0))
        chosen = tf.one_hot(tf.argmax(logits + random.gumbel(uniform), axis=-1), logits.shape[-1])

        def pick(values):
            return tf.reduce_sum(chosen * values, axis=-1)

        values = []
        for channel in range(self._channels):
            loc = pick(locs[channel])
            for previous, coefficient in zip(values, coefficients[channel], strict=True):
                loc += pick(coefficient) * previous
            u = _uniform_like(loc, random.fold_in(seed, channel + 1))
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


def _to_levels(x, num_levels):
    return tf.cast(tf.round(x * (num_levels - 1)), tf.int32)


def _from_levels(levels, num_levels):
    return tf.cast(levels, tf.float32) / (num_levels - 1)


def _uniform_like(values, seed):
    return random.stateless_uniform(tf.shape(values), _stateless(seed))


def _stateless(seed):
    return tfd.sanitize_seed(seed)
