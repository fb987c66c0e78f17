"""Random numbers that are the same in a graph and under XLA, given the same seed.

TensorFlow's stateless generators are so for whole words alone, not for floats or for integers in a
range, and for seeds without a negative word alone: XLA extends the sign of a word, the kernels of a
graph do not.
"""

import tensorflow as tf


def uniform(shape, seed: tf.Tensor) -> tf.Tensor:
    """Return float32 uniforms in (0, 1), both ends left out: odd multiples of 2^-24.

    Args:
        shape: of the result.
        seed: `[2]` int32.
    """
    upper = tf.bitwise.right_shift(_words(shape, seed), tf.constant(9, tf.uint32))
    return (tf.cast(upper, tf.float32) + 0.5) * 2.0**-23


def gumbel(shape, seed: tf.Tensor) -> tf.Tensor:
    """Return draws of the standard Gumbel distribution, −log(−log u); see `uniform`."""
    return -tf.math.log(-tf.math.log(uniform(shape, seed)))


def rows(vectors: tf.Tensor, count: int, seed: tf.Tensor) -> tf.Tensor:
    """Return `count` random rows of `[N, D]`; none twice unless there are fewer than `count`.

    Of no vectors (a replica may have no examples of the last batch), zeros.
    """
    size = tf.shape(vectors)[0]
    # One more entry at the end, which only the empty batch reaches.
    order = tf.pad(tf.argsort(uniform([size], seed)), [[0, 1]])
    chosen = tf.gather(order, tf.range(count) % tf.maximum(size, 1))
    return tf.gather(tf.pad(vectors, [[0, 1], [0, 0]]), chosen)


def _words(shape, seed):
    seed = tf.bitwise.bitwise_and(seed, 0x7FFFFFFF)
    return tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=tf.uint32)
