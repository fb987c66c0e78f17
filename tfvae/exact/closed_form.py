"""The closed form of p(x) of a linear-Gaussian model."""

import math
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfvae.likelihoods import Normal
from tfvae.priors import StandardNormal


class LinearGaussian(NamedTuple):
    """x = W z + b + σ ε with z, ε ~ N(0, I): p(x) = N(b, W Wᵀ + diag σ²), over flattened x.

    A value that is NaN is missing; the methods then use the other values.

    Attributes:
        weights: W, `[D, L]` float64.
        bias: b, `[D]`.
        scale: σ, `[D]`.
    """

    weights: np.ndarray
    bias: np.ndarray
    scale: np.ndarray

    def log_prob(self, x: np.ndarray) -> tf.Tensor:
        """Return log p(x_obs), `[B]` float64, for x `[B, D]`.

        With S = diag σ² of the observed values, A = I + Wᵀ S⁻¹ W, r = x − b and c = Wᵀ S⁻¹ r, it is
        −½ (rᵀ S⁻¹ r − cᵀ A⁻¹ c + log|A| + log|2π S|).

        If no value is missing, A is the same for all examples, else memory goes by B (D + L) L.
        """
        observed, residual, cholesky, half = self._statistics(x)
        log_scales = tf.reduce_sum(observed * np.log(2.0 * math.pi * self.scale**2), -1)
        squares = tf.reduce_sum(residual**2, -1) - tf.reduce_sum(half**2, [-2, -1])
        log_det = 2.0 * tf.reduce_sum(tf.math.log(tf.linalg.diag_part(cholesky)), -1)
        return -0.5 * (squares + log_det + log_scales)

    def mean_given(self, x: np.ndarray) -> tf.Tensor:
        """Return E[x|x_obs] = b + W E[z|x_obs], `[B, D]` float64; of an observed value, itself."""
        observed, _, cholesky, half = self._statistics(x)
        z = tf.linalg.triangular_solve(cholesky, half, adjoint=True)[..., 0]
        expected = self.bias + tf.matmul(z, self.weights, transpose_b=True)
        return tf.where(observed > 0, tf.cast(x, tf.float64), expected)

    def _statistics(self, x):
        """Return the mask, r/σ with 0 for what is missing, the Cholesky factor of A, C, and C⁻¹ c.

        C is `[B, L, L]`, or `[1, L, L]` if no value is missing.
        """
        x = tf.cast(x, tf.float64)
        missing = tf.math.is_nan(x)
        observed = tf.where(missing, tf.zeros_like(x), 1.0)
        residual = tf.where(missing, tf.zeros_like(x), (x - self.bias) / self.scale)
        scaled = self.weights / self.scale[:, np.newaxis]
        kept = observed[..., np.newaxis] if tf.reduce_any(missing) else tf.ones([1, 1, 1], x.dtype)
        outer = tf.matmul(kept * scaled, scaled, transpose_a=True)
        precision = tf.eye(self.weights.shape[1], dtype=tf.float64) + outer
        cholesky = tf.linalg.cholesky(precision)
        c = tf.matmul(residual, scaled)
        half = tf.linalg.triangular_solve(cholesky, c[..., np.newaxis])
        return observed, residual, cholesky, half


def linear_gaussian(
    model: keras.Model, condition: np.ndarray | tf.Tensor | int | None = None
) -> LinearGaussian | None:
    """Return p(x) in closed form, N(b, W Wᵀ + σ² I), over flattened x; None where it has none.

    Of a model with a condition it is p(x|y) of one y, `condition`, with W and b of this y.

    It has one for a single stochastic layer with the standard normal prior, a Normal likelihood
    whose σ does not depend on z, and a decoder that is affine, z → W z + b: probabilistic principal
    component analysis where σ is one number, factor analysis where it is one for each value.

    Source: Tipping and Bishop 1999, "Probabilistic principal component analysis", sec. 3.1.
    """
    likelihood = model.likelihood.complete()
    if len(model.layer_shapes) > 1 or getattr(model.likelihood, "missingness", None) is not None:
        return None
    of_z = not isinstance(likelihood, Normal) or likelihood.scale == "learned"
    if of_z or not isinstance(model.prior, StandardNormal):
        return None
    weights, bias = _affine_map(model, condition)
    if weights is None:
        return None
    scale = np.ravel(likelihood.current_scale()).astype(np.float64)
    return LinearGaussian(weights, bias, np.broadcast_to(scale, bias.shape))


def _affine_map(model, condition):
    """Return (W, b) in float64 where the decoder is z → W z + b, else (None, None)."""
    size = math.prod(model.latent_shape)
    z = 3.0 * np.random.default_rng(0).normal(size=(8, size))
    points = np.concatenate([np.zeros((1, size)), np.eye(size), z])  # decoded in one pass
    latents = tf.constant(points.reshape(-1, *model.latent_shape), tf.float32)
    params = model.x_parameters(latents, condition=condition)
    bias, units, decoded = np.split(
        np.asarray(params, np.float64).reshape(len(points), -1), [1, 1 + size]
    )
    bias = bias[0]
    weights = (units - bias).T
    predicted = z @ weights.T + bias
    if np.max(np.abs(predicted - decoded)) > 1e-4 * (1.0 + np.max(np.abs(decoded))):
        return None, None
    return weights, bias
