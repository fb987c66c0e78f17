"""Digits in mixed radix and the integers they write, with operators that LiteRT has."""

import numpy as np
import tensorflow as tf


def join(digits: tf.Tensor, bases) -> tf.Tensor:
    """Return Σ_i digit_i · Π_{j<i} base_j: the first digit counts least.

    Args:
        digits: `[..., D]` int32, digit i from 0 to base_i − 1.
        bases: D integers with a product below 2^31.

    Returns:
        `[...]` int32.
    """
    return tf.reduce_sum(digits * _places(bases), axis=-1)


def split(codes: tf.Tensor, bases) -> tf.Tensor:
    """Return the digits `[..., D]` of integers `[...]`; see `join`."""
    codes = tf.cast(codes, tf.int32)[..., tf.newaxis]
    return codes // _places(bases) % np.asarray(bases, np.int32)


def _places(bases):
    return np.cumprod([1, *bases[:-1]]).astype(np.int32)
