"""Fixed permutations of the units."""

import numpy as np
import tensorflow as tf

from tfvae.checks import integer
from tfvae.flows.flow import REGISTRY, Flow, zero_log_det


@REGISTRY.register("permutation")
class Permutation(Flow):
    """z_d = u_{π(d)}, with log|det ∂z/∂u| = 0.

    Args:
        seed: decides π; None reverses the order, which swaps the halves of a coupling.
    """

    def __init__(self, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.seed = None if seed is None else integer("seed", seed)

    def build(self, event_shape, context_size=0):  # noqa: D102
        super().build(event_shape, context_size)
        self.order = permutation(self.size, self.seed)

    def _forward(self, u, context):
        return _reordered(u, self.order), zero_log_det(u)

    def _inverse(self, z, context):
        return _reordered(z, np.argsort(self.order)), zero_log_det(z)

    def get_config(self):  # noqa: D102
        return {**super().get_config(), "seed": self.seed}


def permutation(size: int, seed: int | None) -> np.ndarray:
    """Return π as indices `[size]`: the reversal for None, else a function of the seed."""
    if seed is None:
        return np.arange(size)[::-1].copy()
    return np.random.default_rng(seed).permutation(size)


def _reordered(x, order):
    return tf.gather(x, tf.constant(order, tf.int32), axis=-1)
