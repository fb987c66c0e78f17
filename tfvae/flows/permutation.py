"""Fixed permutations of the units."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfvae._plain.checks import integer
from tfvae.errors import unknown_name
from tfvae.flows.flow import REGISTRY, Flow, zero_log_det

_ORDERS = {
    "reverse": lambda size, seed: np.arange(size)[::-1].copy(),
    "rotate": lambda size, seed: np.roll(np.arange(size), -(size // 2)),
    "random": lambda size, seed: np.random.default_rng(seed % 2**64).permutation(size),
}
ORDERS = tuple(_ORDERS)


@REGISTRY.register("permutation")
class Permutation(Flow):
    """z_d = u_{π(d)}, with log|det ∂z/∂u| = 0.

    Args:
        order: "reverse", which turns an autoregressive order around; "rotate" by ⌊D/2⌋, which swaps
            the halves of a coupling, and where D is odd lets every unit take each part in turn;
            or "random".
        seed: decides a random order.

    Raises:
        InvalidArgument: no such order.
    """

    def __init__(self, order: str | Sequence[int] = "reverse", seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.order, self.seed = checked_order(order), integer("seed", seed)

    def build(self, event_shape, context_size=0):
        super().build(event_shape, context_size)
        self.permutation = permutation(self.size, self.order, self.seed)

    def _forward(self, u, context):
        return _reordered(u, self.permutation), zero_log_det(u)

    def _inverse(self, z, context):
        return _reordered(z, np.argsort(self.permutation)), zero_log_det(z)

    def get_config(self):
        return {**super().get_config(), "order": self.order, "seed": self.seed}


def checked_order(order: str) -> str:
    """Return the name of an order, or refuse it."""
    if order not in _ORDERS:
        raise unknown_name("order", order, _ORDERS)
    return order


def permutation(size: int, order: str, seed: int) -> np.ndarray:
    """Return π as indices `[size]`."""
    return _ORDERS[order](size, seed)


def _reordered(x, indices):
    """Return x_{π(d)}, with the gradient of a permutation; that of a gather is a slow scatter."""

    @tf.custom_gradient
    def reordered(x):
        back = np.argsort(indices)
        return _gather(x, indices), lambda upstream: _gather(upstream, back)

    return reordered(x)


def _gather(x, indices):
    return tf.gather(x, tf.constant(indices, tf.int32), axis=-1)
