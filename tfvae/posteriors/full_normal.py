"""Normals with a full covariance."""

import math

import numpy as np
import tensorflow as tf

from tfvae import random
from tfvae.distributions import tfd
from tfvae.distributions.factory import softplus_scale
from tfvae.errors import InvalidArgument
from tfvae.posteriors.posterior import REGISTRY, Posterior


@REGISTRY.register("full_normal")
class FullNormal(Posterior):
    """q(z|x) = N(z; μ, L Lᵀ), L lower triangular with a positive diagonal.

    The last axis of the parameters is μ, the raw diagonal of L, as in `DiagonalNormal`, and the
    D(D − 1)/2 numbers below it, row by row. Zeros give N(0, I).

    Source: Kingma and Welling 2019, "An introduction to variational autoencoders", sec. 2.5.1.
    """

    def params_size(self, channels):
        return 2 * channels + channels * (channels - 1) // 2

    def build(self, params_shape):
        if len(params_shape) != 1:
            raise InvalidArgument(
                "FullNormal is over one vector, but the encoder's output has shape "
                f"{tuple(params_shape)}. Let the encoder end in a flat vector, of "
                "posterior.params_size(D) numbers for D latents."
            )
        super().build(params_shape)

    def distribution(self, params, batch_ndims):
        (size,) = self.event_shape(params.shape[-1:])
        below = params.shape[-1] - 2 * size
        loc, raw, rest = tf.split(params, [size, size, below], -1)
        return FullCovarianceNormal(loc, lower_triangle(softplus_scale(raw), rest))


def _rolled(axes, by):
    """Return the order of 1 + `axes` axes in which the first comes last, or the other way round."""
    return np.roll(np.arange(1 + axes), -by)


def lower_triangle(diagonal, rest):
    """Return L `[..., D, D]` of its diagonal and of what stands below, row by row."""
    size, rows, start = diagonal.shape[-1], [], 0
    for row in range(size):
        # LiteRT takes no empty parts.
        parts = [rest[..., start : start + row]] if row else []
        parts.append(diagonal[..., row : row + 1])
        parts += [tf.zeros_like(diagonal[..., row + 1 :])] if row + 1 < size else []
        rows.append(tf.concat(parts, -1))
        start += row
    return tf.stack(rows, -2)


class FullCovarianceNormal(tfd.Distribution):
    """N(μ, L Lᵀ), with its KL to independent normals in closed form.

    Args:
        loc: μ, `[..., B, D]`.
        lower: L, `[..., B, D, D]`, lower triangular with a positive diagonal.
    """

    draws_by_example = True

    def __init__(self, loc, lower):
        self.loc, self.lower = loc, lower
        self._size = loc.shape[-1]
        super().__init__(
            dtype=tf.float32,
            reparameterization_type=tfd.FULLY_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            name="FullNormal",
        )

    def _batch_shape(self):
        return self.loc.shape[:-1]

    def _batch_shape_tensor(self):
        return tf.shape(self.loc)[:-1]

    def _event_shape(self):
        return self.loc.shape[-1:]

    def _event_shape_tensor(self):
        return tf.constant([self._size], tf.int32)

    def sample_and_log_prob(self, sample_shape, seed=None):
        """Return draws and their log-density, from the very noise that they were made of."""
        return self.experimental_sample_and_log_prob(sample_shape, seed)

    def _sample_n(self, n, seed=None):
        return self._moved(self._noise([n], seed))

    def _sample_and_log_prob(self, sample_shape, seed, **kwargs):
        noise = self._noise(sample_shape, seed)
        return self._moved(noise), self._log_density(noise)

    def _noise(self, sample_shape, seed):
        """Return ε ~ N(0, I), `[*sample_shape, ..., B, D]`."""
        axes = tf.reshape(tf.cast(sample_shape, tf.int32), [-1])
        shape = tf.concat([axes, tf.shape(self.loc)], 0)
        examples = axes.shape[0] + len(self.loc.shape) - 2
        return random.stateless_normal(shape, tfd.sanitize_seed(seed), examples)

    def _moved(self, noise):
        return self.loc + tf.linalg.matvec(self.lower, noise)

    def _log_prob(self, z):
        centred = z - self.loc  # [..., B, D]
        shape, axes = tf.shape(centred), len(self.loc.shape)
        # A system of equations for each L, whose right sides are all z that have this L: copies of
        # L for each of them would take D times as much memory as they do.
        of_one = shape[len(centred.shape) - axes :]
        columns = tf.transpose(tf.reshape(centred, tf.concat([[-1], of_one], 0)), _rolled(axes, 1))
        lower = tf.broadcast_to(self.lower, tf.concat([of_one, [self._size]], 0))
        noise = tf.linalg.triangular_solve(lower, columns)  # [B, D, ...]
        return self._log_density(tf.reshape(tf.transpose(noise, _rolled(axes, -1)), shape))

    def _log_density(self, noise):
        """Return log q(μ + L ε) = log N(ε; 0, I) − log det L."""
        squares = tf.reduce_sum(noise**2 + math.log(2.0 * math.pi), -1)
        return -0.5 * squares - tf.reduce_sum(tf.math.log(self._diagonal()), -1)

    def _diagonal(self):
        return tf.reduce_sum(self.lower * tf.eye(self._size), -1)

    def _mean(self):
        return self.loc

    def _mode(self):
        return self.loc

    def _stddev(self):
        return tf.sqrt(tf.reduce_sum(self.lower**2, -1))

    def kl_by_unit(self, p):
        """Return KL(self‖p), `[..., 1]`; None unless p is independent normals N(m_d, s_d²).

        ½ Σ_d (((L Lᵀ)_dd + (μ_d − m_d)²)/s_d² − 1 − 2 log L_dd + 2 log s_d).
        """
        normal = getattr(p, "distribution", p)
        if not isinstance(normal, tfd.Normal):
            return None
        variance = tf.reduce_sum(self.lower**2, -1)
        squares = (variance + (self.loc - normal.loc) ** 2) / normal.scale**2
        logs = tf.math.log(self._diagonal()) - tf.math.log(normal.scale)
        return 0.5 * tf.reduce_sum(squares - 1.0 - 2.0 * logs, -1, keepdims=True)
