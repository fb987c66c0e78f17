"""Causal self-attention, all positions at once or one at a time from cached keys and values."""

import math

import keras
import tensorflow as tf


class CausalSelfAttention(keras.layers.Layer):
    """softmax(Q Kᵀ / √d, over positions up to the query's) V, in several heads, then mixed.

    Source: Vaswani et al. 2017, "Attention is all you need", sec. 3.2.

    Args:
        num_heads: H.
        hidden_size: D, a multiple of H; the heads have size d = D / H.
    """

    def __init__(self, num_heads: int, hidden_size: int, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.hidden_size = hidden_size
        self.head_size = hidden_size // num_heads
        self.project = keras.layers.Dense(3 * hidden_size, dtype=self.dtype_policy)
        self.mix = keras.layers.Dense(hidden_size, dtype=self.dtype_policy)

    def build(self, input_shape):
        self.project.build(input_shape)
        self.mix.build(input_shape)

    def call(self, x):
        """Return `[B, P, D]` for x `[B, P, D]`; position i sees positions 0, …, i."""
        positions = tf.range(x.shape[1])
        seen = positions <= positions[:, tf.newaxis]
        return self._attend(*self._heads(x), seen)

    def empty_cache(self, batch_size, num_positions: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Return room for keys and values, two tensors `[B, H, P, d]`."""
        shape = [batch_size, self.num_heads, num_positions, self.head_size]
        return tf.zeros(shape, self.compute_dtype), tf.zeros(shape, self.compute_dtype)

    def step(self, x: tf.Tensor, cache, position: tf.Tensor):
        """Return what `call` has at one position, `[B, 1, D]` for x `[B, 1, D]`, and the cache."""
        query, *new = self._heads(x)
        keys, values = (write(old, position, y) for old, y in zip(cache, new, strict=True))
        seen = tf.range(keys.shape[2]) <= position
        return self._attend(query, keys, values, seen), (keys, values)

    def _heads(self, x):
        """Return queries, keys and values, `[B, H, P, d]` each."""
        shape = [-1, x.shape[1], 3, self.num_heads, self.head_size]
        heads = tf.reshape(self.project(x), shape)
        return tf.unstack(tf.transpose(heads, [2, 0, 3, 1, 4]))

    def _attend(self, queries, keys, values, seen):
        scores = tf.matmul(queries / math.sqrt(self.head_size), keys, transpose_b=True)
        # The exponentials are summed in float32 whatever the layer computes in.
        scores = tf.where(seen, tf.cast(scores, tf.float32), -math.inf)
        weights = tf.cast(tf.nn.softmax(scores), values.dtype)
        heads = tf.transpose(tf.matmul(weights, values), [0, 2, 1, 3])
        return self.mix(tf.reshape(heads, [-1, queries.shape[2], self.hidden_size]))


def write(cache: tf.Tensor, position: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Return a cache `[B, H, P, d]` with x `[B, H, 1, d]` at a position."""
    # Scattered into place, which a loop does without a copy of the cache; a concatenation or a
    # `tf.where` would move all of it at every step.
    num_heads, num_positions, head_size = cache.shape[1:]
    rows = tf.range(tf.shape(cache)[0] * num_heads)
    at = tf.stack([rows, tf.zeros_like(rows) + position], axis=1)
    flat = tf.reshape(cache, [-1, num_positions, head_size])
    flat = tf.tensor_scatter_nd_update(flat, at, tf.reshape(x, [-1, head_size]))
    return tf.reshape(flat, [-1, num_heads, num_positions, head_size])
