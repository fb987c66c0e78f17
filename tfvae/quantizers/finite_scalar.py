"""Rounding of each axis to a few levels, without a table."""

import math
import numbers
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfvae.errors import InvalidArgument
from tfvae.quantizers import gradients, radix
from tfvae.quantizers.quantizer import REGISTRY, Quantized, Quantizer


@REGISTRY.register("fsq")
class FiniteScalarQuantizer(Quantizer):
    """Axis i of tanh z, rounded to the nearest of L_i evenly spaced levels from −1 to 1.

    With the digit of axis i

        digit_i = round((tanh z_i + 1)(L_i − 1)/2),

    its value is 2 digit_i/(L_i − 1) − 1, and the code is the number that the digits write in mixed
    radix, the first counting least: D = len(levels), K = Π L_i. Rounding passes the gradient
    straight through: ∂value_i/∂z_i is taken to be 1 − tanh² z_i. Nothing is learned and the loss
    is 0.

    The levels are symmetric about 0. The paper shifts those of an even L_i by half a step, so that
    0 is one of them.

    Source: Mentzer et al. 2023, "Finite scalar quantization: VQ-VAE made simple", sec. 3.1.

    Args:
        levels: L_i, each at least 2; (8, 5, 5, 5) has 1000 codes.

    Raises:
        InvalidArgument: no levels, a level below 2, or 2^31 codes or more.
    """

    def __init__(self, levels: Sequence[int] = (8, 5, 5, 5), **kwargs):
        levels = _checked(levels)
        super().__init__(len(levels), math.prod(levels), **kwargs)
        self.levels = levels

    def quantize_flat(self, vectors, training):
        bounded = tf.tanh(vectors)
        digits = tf.cast(tf.round((bounded + 1.0) * (0.5 * self._intervals())), tf.int32)
        values = gradients.straight_through(bounded, self._values(digits))
        return Quantized(values, radix.join(digits, self.levels), tf.zeros_like(vectors[:, 0]))

    def lookup(self, codes):
        """Return the values of the digits, `[..., D]`, each from −1 to 1."""
        return self._values(radix.split(codes, self.levels))

    def _values(self, digits):
        # One product of exact numbers rounds in the same way everywhere; XLA rewrites a quotient.
        steps = tf.cast(2 * digits, tf.float32) - self._intervals()
        return steps * (1.0 / self._intervals())

    def _intervals(self):
        return np.asarray(self.levels, np.float32) - 1.0

    def get_config(self):
        return {**super().get_config(), "levels": list(self.levels)}


def _checked(levels):
    levels = tuple(levels) if isinstance(levels, (tuple, list)) else (levels,)
    for level in levels:
        if isinstance(level, bool) or not isinstance(level, numbers.Integral) or level < 2:
            raise InvalidArgument(
                f"`levels` has {level!r}; expected whole numbers of at least 2, one for each axis "
                "of the vectors: an axis of one level carries no information. Leave it out."
            )
    if not levels or math.prod(levels) >= 2**31:
        raise InvalidArgument(
            f"`levels` are {levels}, which makes {math.prod(levels)} codes; expected at least one "
            "axis and fewer than 2^31 codes. Use fewer axes or levels."
        )
    return tuple(int(level) for level in levels)
