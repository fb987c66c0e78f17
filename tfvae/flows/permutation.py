"""Permutations: what a coupling has kept, the next one moves."""

import numpy as np
import tensorflow as tf

from tfvae.checks import integer
from tfvae.flows.flow import REGISTRY, Flow


@REGISTRY.register("permutation")
class Permutation(Flow):
    """z_d = u_π(d), log |det| = 0.

    Args:
        seed: of a random π; None reverses the order.
    """

    def __init__(self, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.seed = None if seed is None else integer("seed", seed)

    def build(self, size, context_size=0):  # noqa: D102
        order = np.arange(size)[::-1]
        if self.seed is not None:
            order = np.random.default_rng(self.seed).permutation(size)
        self._order, self._back = order.astype(np.int32), np.argsort(order).astype(np.int32)
        super().build(size, context_size)

    def forward(self, u, context=None):  # noqa: D102
        return tf.gather(u, self._order, axis=-1), tf.zeros_like(u[..., 0])

    def inverse(self, z, context=None):  # noqa: D102
        return tf.gather(z, self._back, axis=-1), tf.zeros_like(z[..., 0])

    def get_config(self):  # noqa: D102
        return {**super().get_config(), "seed": self.seed}
