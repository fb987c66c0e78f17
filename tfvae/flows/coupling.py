"""Coupling layers, in which one half of the units decides how the other is transformed."""

import tensorflow as tf

from tfvae._plain.checks import whole
from tfvae.flows.conditioner import Conditioner
from tfvae.flows.flow import Flow


class Coupling(Flow):
    """z₁ = u₁,  z₂ = g(u₂; θ(u₁, context)), with g monotone in each unit.

    The Jacobian is triangular, so log|det ∂z/∂u| = Σ_d log g'(u₂_d), and the inverse costs the
    same: θ is known from z₁ = u₁. The first ⌊D/2⌋ units are u₁; of D = 1 there are none, and θ is
    a function of the context alone, or constants. What is transformed changes from layer to layer
    by a permutation or linear map in between (`tfvae.flows.stack`).

    Subclasses set `params_per_unit` and implement `_transform` and `_transform_back`, from values
    `[..., M]` and parameters `[..., M·params_per_unit]` to values and log-derivatives `[..., M]`.

    Source: Dinh et al. 2017, "Density estimation using Real NVP", sec. 3.2.

    Args:
        hidden: widths of the hidden layers of the network θ.
        activation: of these layers.
    """

    params_per_unit: int
    order = "rotate"

    def __init__(self, hidden=(64, 64), activation="tanh", **kwargs):
        super().__init__(**kwargs)
        self.hidden = tuple(whole("hidden", units) for units in hidden)
        self.activation = activation
        self.conditioner = Conditioner(self.hidden, activation, dtype=self.dtype_policy)

    def build(self, event_shape, context_size=0):
        super().build(event_shape, context_size)
        self.num_kept = self.size // 2
        num_params = self.params_per_unit * (self.size - self.num_kept)
        self.conditioner.build(max(self.num_kept, 1), num_params, context_size)

    def _forward(self, u, context):
        return self._couple(self._transform, u, context)

    def _inverse(self, z, context):
        return self._couple(self._transform_back, z, context)

    def _couple(self, transform, x, context):
        sizes = [self.num_kept, self.size - self.num_kept]
        kept, moved = tf.split(x, sizes, axis=-1)  # [..., D − M], [..., M]
        seen = kept if self.num_kept else tf.ones_like(x)
        moved, log_derivative = transform(moved, self.conditioner(seen, context))
        return tf.concat([kept, moved], -1), tf.reduce_sum(log_derivative, -1)

    def _transform(self, u, params):
        raise NotImplementedError

    def _transform_back(self, z, params):
        raise NotImplementedError

    def get_config(self):
        return {**super().get_config(), "hidden": self.hidden, "activation": self.activation}
