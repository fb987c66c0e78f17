"""Truncated normal densities."""

import math

import tensorflow as tf

from tfvae.distributions import tfd
from tfvae.distributions.factory import independent
from tfvae.distributions.normal_cdf import log_ndtr, log_normal_density
from tfvae.likelihoods.bounded_normal import BoundedNormal
from tfvae.likelihoods.likelihood import REGISTRY


@REGISTRY.register("truncated_normal")
class TruncatedNormal(BoundedNormal):
    """x_d ~ N(μ_d, σ²) given that it lies in [low, high]: values that cannot lie outside.

    Args:
        low: the lower end; None for none.
        high: the upper end; None for none.
        scale: σ.

            - A number: fixed.
            - "shared": one trained number for all values and examples, from 1.
            - "by_value": a trained number for each value (column, gene, pixel), from 1.
            - "learned": the network emits it, softplus(raw + log(e − 1)), behind the locations on
              the last axis.
    """

    def distribution(self, params, batch_ndims):
        (loc,), scale = self.split(params)
        return independent(
            _TruncatedNormal(loc, scale + tf.zeros_like(loc), *self._ends), batch_ndims
        )


class _TruncatedNormal(tfd.TruncatedNormal):
    """TFP's, with a log-density whose gradient is finite where an end is infinite."""

    def __init__(self, loc, scale, low: float, high: float):
        self._is_open = low == -math.inf, high == math.inf
        super().__init__(loc, scale, low, high)

    def _log_prob(self, x):
        density = tfd.Normal(self.loc, self.scale).log_prob(x)
        inside = density - self._log_mass(*self._standard_ends())
        return tf.where((x < self.low) | (x > self.high), -math.inf, inside)

    def _mean(self):
        """μ + σ (φ(a) − φ(b)) / (Φ(b) − Φ(a)), kept within the ends, where it may cancel."""
        ends = self._standard_ends()
        log_mass = self._log_mass(*ends)
        terms = [
            0.0 if is_open else tf.exp(log_normal_density(end) - log_mass)
            for end, is_open in zip(ends, self._is_open, strict=True)
        ]
        mean = self.loc + self.scale * (terms[0] - terms[1])
        return tf.clip_by_value(mean, self.low, self.high)

    def _standard_ends(self):
        return [(end - self.loc) / self.scale for end in (self.low, self.high)]

    def _log_mass(self, a, b):
        """Return log (Φ(b) − Φ(a)), by the symmetry of Φ in its lower tail where it can cancel."""
        if self._is_open[0]:
            return log_ndtr(b)
        if self._is_open[1]:
            return log_ndtr(-a)
        is_upper = a > 0.0
        lower, upper = log_ndtr(tf.where(is_upper, -b, a)), log_ndtr(tf.where(is_upper, -a, b))
        return upper + tf.math.log(1.0 - tf.exp(tf.minimum(lower - upper, -1e-6)))
