"""Truncated normal densities."""

import math

import tensorflow as tf
import tensorflow_probability as tfp

from tfvae.distributions.factory import independent
from tfvae.likelihoods.bounds import check_bounds
from tfvae.likelihoods.likelihood import REGISTRY, Likelihood
from tfvae.likelihoods.scales import WithScale
from tfvae.likelihoods.support import interval

tfd = tfp.distributions


@REGISTRY.register("truncated_normal")
class TruncatedNormal(WithScale, Likelihood):
    """x_d ~ N(μ_d, σ²) given that it lies in [low, high]: values that cannot lie outside.

    Args:
        low: the lower end; None for none.
        high: the upper end; None for none.
        scale: σ, a number, "shared", "by_value" or "learned", see `tfvae.likelihoods.scales`.
    """

    def __init__(
        self,
        low: float | None = 0.0,
        high: float | None = None,
        scale: float | str = "shared",
        **kwargs,
    ):
        super().__init__(scale, **kwargs)
        self.low, self.high = low, high
        self._ends = check_bounds(low, high)
        self.unbounded = {"raw scale": (1 / 2, 1)} if scale == "learned" else {}

    @property
    def support(self):  # noqa: D102
        return interval(*self._ends)

    def distribution(self, params, batch_ndims):  # noqa: D102
        (loc,), scale = self.split(params)
        return independent(
            _TruncatedNormal(loc, scale + tf.zeros_like(loc), *self._ends), batch_ndims
        )

    def get_config(self):  # noqa: D102
        return {"low": self.low, "high": self.high} | super().get_config()


class _TruncatedNormal(tfd.TruncatedNormal):
    """TFP's, with a log-density whose gradient is finite where an end is infinite."""

    def __init__(self, loc, scale, low: float, high: float):
        self._is_open = low == -math.inf, high == math.inf
        super().__init__(loc, scale, low, high)

    def _log_prob(self, x):
        standard = tfd.Normal(tf.zeros_like(self.loc), 1.0)
        a, b = ((end - self.loc) / self.scale for end in (self.low, self.high))
        if self._is_open[0]:
            log_mass = standard.log_cdf(b)
        elif self._is_open[1]:
            log_mass = standard.log_cdf(-a)
        else:
            # log (Φ(b) − Φ(a)), by the symmetry of Φ in its lower tail, where it does not cancel.
            is_upper = a > 0.0
            lower = standard.log_cdf(tf.where(is_upper, -b, a))
            upper = standard.log_cdf(tf.where(is_upper, -a, b))
            log_mass = upper + tf.math.log(-tf.math.expm1(tf.minimum(lower - upper, -1e-7)))
        density = tfd.Normal(self.loc, self.scale).log_prob(x)
        return tf.where((x < self.low) | (x > self.high), -math.inf, density - log_mass)
