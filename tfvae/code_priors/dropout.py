"""Dropout whose masks are functions of a seed, so that training resumes exactly.

Keras's Dropout keeps its generator's state in a variable that no file holds. Masks are made from
`tfvae.random.words`, which for a given seed are the same with and without XLA.

Source: Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting".
"""

from collections.abc import Callable

import tensorflow as tf

from tfvae import random


class Dropout:
    """Sets a share `rate` of the values to 0 and divides the others by 1 − rate.

    One object serves one pass through a network: its calls are counted, and each has a mask of its
    own.

    Args:
        rate: probability that a value is dropped.
        seed: the number of a call → `[2]` int32 seed; None outside training, when nothing is
            dropped.
    """

    def __init__(self, rate: float, seed: Callable[[int], tf.Tensor] | None):
        self.rate = rate
        self.seed = seed
        self.calls = 0

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Return x with values dropped."""
        if not self.rate or self.seed is None:
            return x
        self.calls += 1
        kept = keep_mask(tf.shape(x), self.rate, self.seed(self.calls))
        return tf.where(kept, x / tf.cast(1.0 - self.rate, x.dtype), tf.zeros([], x.dtype))


def keep_mask(shape: tf.Tensor, rate: float, seed: tf.Tensor) -> tf.Tensor:
    """Return Booleans `[B, ...]`, each True with probability 1 − rate, to within 2^-32."""
    threshold = min(round(rate * 2**32), 2**32 - 1) - 2**31
    return random.words(shape, seed, axis=0) >= threshold
