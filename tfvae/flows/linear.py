"""Learned invertible linear maps."""

import numpy as np
import tensorflow as tf

from tfvae.checks import integer
from tfvae.flows.flow import REGISTRY, Flow


@REGISTRY.register("linear")
class Linear(Flow):
    """z = P L U u with a fixed permutation P, L unit lower and U upper triangular.

    log |det| = Σ_d log U_dd, and U_dd = exp(raw_d) > 0. It starts as P, and generalizes the
    permutations between couplings.

    Source: Kingma and Dhariwal 2018, "Glow", sec. 3.2 (LU decomposition).

    Args:
        seed: of P; None for no permutation.
    """

    def __init__(self, seed: int | None = 0, **kwargs):
        super().__init__(**kwargs)
        self.seed = None if seed is None else integer("seed", seed)

    def build(self, size, context_size=0):  # noqa: D102
        order = np.arange(size)
        if self.seed is not None:
            order = np.random.default_rng(self.seed).permutation(size)
        self._permutation = np.eye(size)[order]

        def weight(name, shape):
            return self.add_weight(shape=shape, initializer="zeros", name=name, autocast=False)

        self._below, self._above = weight("below", (size, size)), weight("above", (size, size))
        self._log_diagonal = weight("log_diagonal", (size,))
        super().build(size, context_size)

    def _factors(self):
        strictly_below = np.tril(np.ones((self.size, self.size)), -1)
        below = self._below * tf.cast(strictly_below, self.variable_dtype)
        above = self._above * tf.cast(strictly_below.T, self.variable_dtype)
        unit = tf.eye(self.size, dtype=self.variable_dtype)
        return unit + below, above + tf.linalg.diag(tf.exp(self._log_diagonal.value))

    def forward(self, u, context=None):  # noqa: D102
        lower, upper = self._factors()
        matrix = tf.cast(self._permutation, self.variable_dtype) @ lower @ upper
        log_det = tf.reduce_sum(self._log_diagonal.value) * tf.ones_like(u[..., 0])
        return tf.linalg.matvec(matrix, u), log_det

    def inverse(self, z, context=None):  # noqa: D102
        lower, upper = self._factors()
        back = tf.linalg.matvec(tf.cast(self._permutation.T, self.variable_dtype), z)[..., None]
        leading = tf.ones(len(z.shape) - 1, tf.int32)

        def batch(matrix):
            shape = tf.concat([leading, tf.shape(matrix)], 0)
            target = tf.concat([tf.shape(z)[:-1], tf.shape(matrix)], 0)
            return tf.broadcast_to(tf.reshape(matrix, shape), target)

        half = tf.linalg.triangular_solve(batch(lower), back)
        u = tf.linalg.triangular_solve(batch(upper), half, lower=False)
        log_det = -tf.reduce_sum(self._log_diagonal.value) * tf.ones_like(z[..., 0])
        return u[..., 0], log_det

    def get_config(self):  # noqa: D102
        return {**super().get_config(), "seed": self.seed}
