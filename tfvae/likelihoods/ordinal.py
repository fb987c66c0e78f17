"""Ordered levels."""

from typing import ClassVar

import numpy as np
import tensorflow as tf

from tfvae.distributions.images import ImageDistribution
from tfvae.likelihoods.likelihood import REGISTRY, Likelihood, check_levels
from tfvae.random import stateless_uniform


@REGISTRY.register("ordinal")
class Ordinal(Likelihood):
    """P(level ≤ k) = sigmoid(t_k − η_d): levels that a latent score η crosses thresholds to.

    The thresholds t_1 < … < t_(L−1) are trained, one set for each channel (column); they start at
    the logits of equal shares. Parameters: η. Values are levels in [0, 1]: level k of L is
    k / (L − 1).

    Source: McCullagh 1980, "Regression models for ordinal data", eq. 1.1.

    Args:
        num_levels: L.
    """

    is_density = False
    unbounded: ClassVar = {"scores": (0, 1)}

    def __init__(self, num_levels: int = 5, **kwargs):
        super().__init__(**kwargs)
        self.num_levels = check_levels(num_levels)

    def build(self, params_shape):
        shape = (params_shape[-1], self.num_levels - 1)
        self.raw_thresholds = self.add_weight(
            shape=shape, initializer="zeros", name="raw_thresholds", autocast=False
        )
        super().build(params_shape)

    def thresholds(self) -> tf.Tensor:
        """Return t, `[C, L − 1]`: the first, and then each by a positive step above the last."""
        shares = tf.linspace(1.0, self.num_levels - 1.0, self.num_levels - 1) / self.num_levels
        start = tf.math.log(shares) - tf.math.log1p(-shares)  # [L − 1]
        raw = tf.convert_to_tensor(self.raw_thresholds)
        steps = (start[1:] - start[:-1]) * tf.exp(raw[:, 1:])
        return tf.cumsum(tf.concat([start[0] + raw[:, :1], steps], -1), axis=-1)

    def num_categories(self, channels):
        return np.full(channels, self.num_levels)

    def distribution(self, params, batch_ndims):
        return _Ordinal(params, batch_ndims, self.thresholds())

    def get_config(self):
        return {"num_levels": self.num_levels, **super().get_config()}


class _Ordinal(ImageDistribution):
    """Independent levels. Parameters: scores `[batch..., sites..., C]`, thresholds `[C, L − 1]`."""

    def __init__(self, scores, batch_ndims, thresholds):
        self._thresholds = thresholds
        super().__init__(scores, batch_ndims, scores.shape[batch_ndims:], "Ordinal")

    def _log_masses(self):
        """Return the log-probability of every level, `[batch..., sites..., C, L]`.

        log σ(a) + log σ(−b) + log(1 − e^(b−a)) for the thresholds a above and b below, which does
        not cancel; at the outer levels, a = ∞ or b = −∞, terms vanish.
        """
        edges = self._thresholds - self._params[..., tf.newaxis]  # [..., C, L − 1]
        none = tf.zeros_like(edges[..., :1])
        upper = tf.concat([tf.math.log_sigmoid(edges), none], -1)
        lower = tf.concat([none, tf.math.log_sigmoid(-edges)], -1)
        steps = self._thresholds[..., 1:] - self._thresholds[..., :-1]
        inner = tf.math.log(-tf.math.expm1(-steps)) + tf.zeros_like(edges[..., 1:])
        return upper + lower + tf.concat([none, inner, none], -1)

    def _num_levels(self):
        return self._thresholds.shape[-1] + 1

    def log_prob_by_value(self, x):
        level = tf.cast(tf.round(x * (self._num_levels() - 1)), tf.int32)
        chosen = tf.one_hot(level, self._num_levels())
        return tf.reduce_sum(chosen * self._log_masses(), axis=-1)

    def log_prob_by_level(self, x, values):
        return self._log_masses()

    def _sample_n(self, n, seed=None):
        shape = tf.concat([[n], tf.shape(self._params)], 0)
        uniform = stateless_uniform(shape, seed)[..., tf.newaxis]
        below = tf.sigmoid(self._thresholds - self._params[..., tf.newaxis])  # P(level ≤ k)
        level = tf.reduce_sum(tf.cast(uniform > below, tf.float32), axis=-1)
        return level / (self._num_levels() - 1)

    def _mode(self):
        best = tf.argmax(self._log_masses(), -1, tf.int32)
        return tf.cast(best, tf.float32) / (self._num_levels() - 1)

    def draw(self, seed, index, temperature=1.0):
        """Return draws number `index`: how many thresholds are below η + T·g, for logistic g."""
        u = self._noise(seed, index, self._event)
        score = self._params + temperature * (tf.math.log(u) - tf.math.log1p(-u))
        above = score[..., tf.newaxis] > self._thresholds
        level = tf.reduce_sum(tf.cast(above, tf.float32), axis=-1)
        return level / (self._num_levels() - 1)

    def _mean(self):
        levels = tf.range(self._num_levels(), dtype=tf.float32) / (self._num_levels() - 1)
        return tf.reduce_sum(tf.exp(self._log_masses()) * levels, axis=-1)
