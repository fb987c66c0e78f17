"""Von Mises densities of angles."""

import math
from typing import ClassVar

import tensorflow as tf

from tfvae.distributions import tfd
from tfvae.distributions.factory import independent
from tfvae.likelihoods.likelihood import REGISTRY, Likelihood
from tfvae.likelihoods.support import interval


@REGISTRY.register("von_mises")
class VonMises(Likelihood):
    """p(x_d|z) = exp(a cos x + b sin x) / (2π I_0(√(a² + b²))), for angles in radians, [−π, π].

    Parameters: a, then b, on the last axis: the mode is at the angle of (a, b) and the
    concentration κ is its length. The gradient is smooth everywhere, also for κ = 0, the uniform
    distribution.
    """

    params_per_channel = 2
    unbounded: ClassVar = {"components": (0, 1)}

    @property
    def support(self):
        return interval(-3.1415927410125732, 3.1415927410125732)._replace(
            noun="angles in radians, in [−π, π]",
            remedy="Convert degrees by np.deg2rad, and bring angles to the range by "
            "(x + π) % 2π − π.",
        )

    def distribution(self, params, batch_ndims):
        a, b = tf.split(params, 2, axis=-1)
        return independent(_Natural(a, b), batch_ndims)


class _Natural(tfd.VonMises):
    """The von Mises distribution by its natural parameters a = κ cos μ, b = κ sin μ."""

    def __init__(self, a, b):
        self._a, self._b = a, b
        length = tf.sqrt(a**2 + b**2 + 1e-12)  # the derivative of a root at 0 is infinite
        super().__init__(tf.stop_gradient(tf.atan2(b, a)), length)

    def _log_prob(self, x):
        exponent = self._a * tf.cos(x) + self._b * tf.sin(x)
        normalizer = tf.math.log(tf.math.bessel_i0e(self.concentration)) + self.concentration
        return exponent - normalizer - math.log(2.0 * math.pi)
