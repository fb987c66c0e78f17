"""Affine coupling (RealNVP)."""

from collections.abc import Callable

import tensorflow as tf

from tfvae._plain.checks import positive
from tfvae.flows.coupling import Coupling
from tfvae.flows.flow import REGISTRY


@REGISTRY.register("affine_coupling")
class AffineCoupling(Coupling):
    """z₁ = u₁,  z₂ = u₂ ∘ exp(s(u₁)) + t(u₁),  log|det ∂z/∂u| = Σ_d s_d(u₁).

    s = c·tanh(raw / c) lies within ±c, so that no layer can blow up or collapse a unit by more than
    e^c; the paper bounds it with a learned factor in place of c. The flow starts at the identity.

    Source: Dinh et al. 2017, "Density estimation using Real NVP", eq. 4, 5 and 8.

    Args:
        hidden: widths of the hidden layers of the network (s, t).
        activation: of these layers.
        max_log_scale: c.
    """

    params_per_unit = 2

    def __init__(
        self,
        hidden: tuple[int, ...] = (64, 64),
        activation: str | Callable = "tanh",
        max_log_scale: float = 2.0,
        **kwargs,
    ):
        super().__init__(hidden, activation, **kwargs)
        self.max_log_scale = positive("max_log_scale", max_log_scale)

    def _transform(self, u, params):
        s, t = self._scale_and_shift(params)
        return u * tf.exp(s) + t, s

    def _transform_back(self, z, params):
        s, t = self._scale_and_shift(params)
        return (z - t) * tf.exp(-s), -s

    def _scale_and_shift(self, params):
        raw, t = tf.split(params, 2, axis=-1)
        return bounded(raw, self.max_log_scale), t

    def get_config(self):
        return {**super().get_config(), "max_log_scale": self.max_log_scale}


def bounded(raw: tf.Tensor, bound: float) -> tf.Tensor:
    """Return bound·tanh(raw / bound): within ±bound, and near 0 the number itself."""
    return bound * tf.tanh(raw / bound)
