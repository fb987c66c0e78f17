"""Normals with a full covariance."""

import math

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

    def _sample_n(self, n, seed=None):
        shape = tf.concat([[n], tf.shape(self.loc)], 0)
        examples = len(self.loc.shape) - 1
        noise = random.stateless_normal(shape, tfd.sanitize_seed(seed), examples)
        return self.loc + tf.linalg.matvec(self.lower, noise)

    def _log_prob(self, z):
        centred = z - self.loc  # [..., D]
        lower = tf.broadcast_to(self.lower, tf.concat([tf.shape(centred), [self._size]], 0))
        noise = tf.linalg.triangular_solve(lower, centred[..., tf.newaxis])[..., 0]
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
