"""Invertible linear maps."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfvae._plain.checks import integer, positive
from tfvae.flows.affine_coupling import bounded
from tfvae.flows.flow import REGISTRY, Flow, zero_log_det
from tfvae.flows.permutation import checked_order, permutation


@REGISTRY.register("linear")
class Linear(Flow):
    """z = u W + b with W = L U P, so that log|det ∂z/∂u| = Σ_d s_d costs nothing.

    L is lower triangular with the diagonal exp(s), U is upper triangular with ones on the diagonal
    and P is a fixed permutation; L and U start at the identity, so at the start the flow is P, an
    orthogonal map. A learned W mixes all units and so spares a coupling flow some of its layers.
    The context is not used.

    Source: Kingma and Dhariwal 2018, "Glow", sec. 3.2, eq. 10 and 11 (1×1 convolutions); Durkan et
    al. 2019, "Neural spline flows", sec. 3.2.

    Args:
        order: of P, as of a `Permutation`: "reverse", "rotate" or "random".
        seed: decides a random order.
        max_log_scale: s lies within ± this.

    Raises:
        InvalidArgument: no such order.
    """

    def __init__(
        self,
        order: str | Sequence[int] = "reverse",
        seed: int = 0,
        max_log_scale: float = 3.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.order, self.seed = checked_order(order), integer("seed", seed)
        self.max_log_scale = positive("max_log_scale", max_log_scale)

    def build(self, event_shape, context_size=0):
        super().build(event_shape, context_size)
        self.permutation = permutation(self.size, self.order, self.seed)
        square = (self.size, self.size)
        self.lower = self._add("lower", square)
        self.upper = self._add("upper", square)
        self.raw_scale = self._add("raw_scale", (self.size,))
        self.bias = self._add("bias", (self.size,))

    def _add(self, name, shape):
        return self.add_weight(shape=shape, initializer="zeros", name=name, autocast=False)

    def _factors(self):
        """Return L and U, `[D, D]`, and s, `[D]`."""
        s = bounded(tf.convert_to_tensor(self.raw_scale), self.max_log_scale)
        below = tf.constant(np.tri(self.size, k=-1), s.dtype)
        above = tf.transpose(below)
        identity = tf.constant(np.eye(self.size), s.dtype)
        lower = below * self.lower + identity * tf.exp(s)
        return lower, above * self.upper + identity, s

    def _forward(self, u, context):
        lower, upper, s = self._factors()
        w = tf.gather(tf.matmul(lower, upper), tf.constant(self.permutation, tf.int32), axis=1)
        return _times(u, w) + self.bias, zero_log_det(u) + tf.reduce_sum(s)

    def _inverse(self, z, context):
        lower, upper, s = self._factors()
        inverse = tf.linalg.triangular_solve(lower, tf.eye(self.size, dtype=s.dtype))
        inverse = tf.linalg.triangular_solve(upper, inverse, lower=False)  # (L U)⁻¹
        inverse = tf.gather(inverse, tf.constant(self.permutation, tf.int32), axis=0)
        return _times(z - self.bias, inverse), zero_log_det(z) - tf.reduce_sum(s)

    def get_config(self):
        names = ("order", "seed", "max_log_scale")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _times(x, matrix):
    return tf.tensordot(x, matrix, 1)
