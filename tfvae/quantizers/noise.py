"""Random numbers that are the same in a graph and under XLA.

TensorFlow's stateless generators of floats and of integers in a range are not: these start from its
whole words, which are.
"""

import tensorflow as tf


def uniform(shape, seed: tf.Tensor) -> tf.Tensor:
    """Return float32 uniforms in (0, 1), both ends left out: odd multiples of 2^-24.

    Args:
        shape: of the result.
        seed: `[2]` int32.
    """
    words = tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=tf.uint32)
    upper = tf.bitwise.right_shift(words, tf.constant(9, tf.uint32))
    return (tf.cast(upper, tf.float32) + 0.5) * 2.0**-23


def gumbel(shape, seed: tf.Tensor) -> tf.Tensor:
    """Return draws of the standard Gumbel distribution, −log(−log u); see `uniform`."""
    return -tf.math.log(-tf.math.log(uniform(shape, seed)))


def rows(vectors: tf.Tensor, count: int, seed: tf.Tensor) -> tf.Tensor:
    """Return `count` random rows of `[N, D]`; none twice unless there are fewer than `count`.

    Of no vectors (a replica may have no examples of the last batch), zeros.
    """
    size = tf.shape(vectors)[0]
    keys = tf.random.stateless_uniform([size], seed, minval=None, maxval=None, dtype=tf.int32)
    # One more entry at the end, which only the empty batch reaches.
    order = tf.pad(tf.argsort(keys), [[0, 1]])
    chosen = tf.gather(order, tf.range(count) % tf.maximum(size, 1))
    return tf.gather(tf.pad(vectors, [[0, 1], [0, 0]]), chosen)
