"""Affine coupling: one half of a vector scales and shifts the other."""

import tensorflow as tf

from tfvae.checks import positive
from tfvae.flows.flow import REGISTRY, Flow, join_context
from tfvae.flows.network import CouplingNetwork


@REGISTRY.register("affine_coupling")
class AffineCoupling(Flow):
    """z_a = u_a,  z_b = u_b ⊙ exp(s(u_a; h)) + t(u_a; h),  log |det| = Σ_d s_d.

    a is the first half of the vector, of ⌊D/2⌋ numbers, and b the rest: stack several with
    permutations between (`tfvae.flows.stack`). s = c tanh(r/c) keeps every scale in e^±c; it starts
    at 0.

    Source: Dinh, Sohl-Dickstein and Bengio 2017, "Density estimation using Real NVP", eq. 4 to 8.

    Args:
        hidden: widths of the hidden layers of the network of s and t.
        activation: of its hidden layers.
        max_log_scale: c.
    """

    def __init__(self, hidden=(128, 128), activation="relu", max_log_scale: float = 2.0, **kwargs):
        super().__init__(**kwargs)
        self.hidden, self.activation = tuple(hidden), activation
        self.max_log_scale = positive("max_log_scale", max_log_scale)

    def build(self, size, context_size=0):  # noqa: D102
        self._kept = size // 2
        self._moved = size - self._kept
        self.network = CouplingNetwork(
            self._kept + context_size,
            2 * self._moved,
            self.hidden,
            self.activation,
            self.variable_dtype,
        )
        super().build(size, context_size)

    def forward(self, u, context=None):  # noqa: D102
        a, b = self._halves(u)
        log_scale, shift = self._scale_and_shift(a, context)
        z = tf.concat([a, b * tf.exp(log_scale) + shift], -1)
        return z, tf.reduce_sum(log_scale, -1)

    def inverse(self, z, context=None):  # noqa: D102
        a, b = self._halves(z)
        log_scale, shift = self._scale_and_shift(a, context)
        u = tf.concat([a, (b - shift) * tf.exp(-log_scale)], -1)
        return u, -tf.reduce_sum(log_scale, -1)

    def _halves(self, values):
        return values[..., : self._kept], values[..., self._kept :]

    def _scale_and_shift(self, a, context):
        raw, shift = tf.split(self.network(join_context(a, context)), 2, -1)
        return self.max_log_scale * tf.tanh(raw / self.max_log_scale), shift

    def get_config(self):  # noqa: D102
        own = {"hidden": list(self.hidden), "activation": self.activation}
        return {**super().get_config(), **own, "max_log_scale": self.max_log_scale}
