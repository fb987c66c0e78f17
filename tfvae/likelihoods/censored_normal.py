"""Censored normal values."""

import math

import tensorflow as tf

from tfvae.distributions import tfd
from tfvae.distributions.draws import of_values
from tfvae.distributions.factory import independent
from tfvae.distributions.normal_cdf import log_ndtr, log_normal_density
from tfvae.likelihoods.bounded_normal import BoundedNormal
from tfvae.likelihoods.likelihood import REGISTRY


@REGISTRY.register("censored_normal")
class CensoredNormal(BoundedNormal):
    """x_d = clip(y_d, low, high), y_d ~ N(μ_d, σ²): readings of an instrument that saturates.

    Inside (low, high) log p is the density of the normal; at an end it is the log-probability that
    y lies at or beyond it.

    Source: Tobin 1958, "Estimation of relationships for limited dependent variables".

    Args:
        low: the lowest reading; None for none.
        high: the highest reading; None for none.
        scale: σ.

            - A number: fixed.
            - "shared": one trained number for all values and examples, from 1.
            - "by_value": a trained number for each value (column, gene, pixel), from 1.
            - "learned": the network emits it, softplus(raw + log(e − 1)), behind the locations on
              the last axis.
    """

    def distribution(self, params, batch_ndims):
        (loc,), scale = self.split(params)
        return independent(_Censored(loc, scale, *self._ends), batch_ndims)


class _Censored(tfd.Normal):
    """clip(y, low, high) for y ~ N(loc, scale²)."""

    def __init__(self, loc, scale, low, high):
        self._low, self._high = low, high
        super().__init__(loc, scale)

    def _log_prob(self, x):
        below = super()._log_cdf(tf.minimum(x, self._high))
        above = super()._log_survival_function(tf.maximum(x, self._low))
        density = super()._log_prob(x)
        return tf.where(x <= self._low, below, tf.where(x >= self._high, above, density))

    def _sample_n(self, n, seed=None):
        return tf.clip_by_value(super()._sample_n(n, seed), self._low, self._high)

    def draw_values(self, seed, index, shape, temperature):
        """Return draws that a device repeats, clip(μ + T·σ·ε, low, high)."""
        y = of_values(tfd.Normal(self.loc, self.scale), seed, index, shape, temperature)
        return tf.clip_by_value(y, self._low, self._high)

    def _mean(self):
        mean = self.loc + tf.zeros_like(self.scale)
        for end, sign in ((self._low, 1.0), (self._high, -1.0)):
            if math.isfinite(end):
                # E[max(y, a)] = μ + σ (φ(u) − u Φ(−u)), u = (μ − a)/σ; of min by symmetry.
                u = sign * (self.loc - end) / self.scale
                moved = tf.exp(log_normal_density(u)) - u * tf.exp(log_ndtr(-u))
                mean += sign * self.scale * moved
        return mean
