"""The support of a likelihood: the values that it takes."""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf


class Support(NamedTuple):
    """An interval, or the whole numbers in it.

    Attributes:
        low: the smallest value.
        high: the largest value.
        whole: whether values are whole numbers.
        is_open: whether `low` and `high` themselves are left out.
        noun: what such values are called.
        remedy: what to do with other data.
    """

    low: float = -math.inf
    high: float = math.inf
    whole: bool = False
    is_open: bool = False
    noun: str = "finite values"
    remedy: str = "Clean the data first."

    def inside(self) -> float:
        """Return a value of the support: 0, if it contains 0."""
        if self.holds(np.zeros(1)):
            return 0.0
        if math.isfinite(self.low) and math.isfinite(self.high):
            return (self.low + self.high) / 2.0
        return self.low + 1.0 if math.isfinite(self.low) else self.high - 1.0

    def holds(self, x: np.ndarray) -> bool:
        """Whether all values of a finite array lie in the support."""
        if x.size == 0:
            return True
        low, high = x.min(), x.max()
        inside = (
            self.low < low and high < self.high
            if self.is_open
            else (self.low <= low and high <= self.high)
        )
        return bool(inside and not (self.whole and np.any(x != np.round(x))))

    def takes(self, x: tf.Tensor) -> tf.Tensor:
        """Whether all values of a float32 batch are finite and in the support, as a tensor."""
        # Reductions alone: comparing every value would take several times as long. Under XLA, a
        # minimum and a maximum pass over NaN; a sum does not.
        taken = tf.math.is_finite(tf.reduce_sum(x))
        above, below = (tf.greater, tf.less) if self.is_open else (tf.greater_equal, tf.less_equal)
        if math.isfinite(self.low):
            taken &= above(tf.reduce_min(x), self.low)
        if math.isfinite(self.high):
            taken &= below(tf.reduce_max(x), self.high)
        if self.whole:
            taken &= tf.reduce_max(tf.abs(x - tf.round(x))) <= 0.0
        return taken


REALS = Support()
COUNTS = Support(
    low=0.0,
    whole=True,
    noun="counts, whole numbers of at least 0,",
    remedy="Give raw counts, neither normalized nor logarithms of them.",
)


def interval(low: float, high: float, is_open: bool = False) -> Support:
    """Return the support of values between two numbers."""
    return Support(
        low,
        high,
        is_open=is_open,
        noun=f"values {'inside' if is_open else 'in'} {'(' if is_open else '['}{low:g}, {high:g}"
        f"{')' if is_open else ']'}",
        remedy="Rescale the data, or use another likelihood.",
    )
