"""Rounding of each axis to a few levels, without a table."""

import math

import numpy as np
import tensorflow as tf

from tfvae.errors import InvalidArgument
from tfvae.quantizers import gradients, radix
from tfvae.quantizers.quantizer import REGISTRY, Quantized, Quantizer


@REGISTRY.register("fsq")
class FiniteScalarQuantizer(Quantizer):
    """Axis i of tanh(z), rounded to the nearest of L_i evenly spaced levels from −1 to 1.

    The digit of axis i is round((tanh z_i + 1)(L_i − 1)/2), its value 2 digit/(L_i − 1) − 1, and
    the code is the number these digits write in mixed radix, the first counting least: K = Π L_i
    codes, D = len(levels). Rounding passes the gradient straight through, so that ∂value/∂z_i =
    1 − tanh² z_i. There is nothing to learn, and the loss is 0.

    Unlike the paper's, the levels are symmetric about 0 also where L_i is even: the paper moves
    those by half a step, so that 0 is a level.

    Source: Mentzer et al. 2023, "Finite scalar quantization: VQ-VAE made simple", sec. 3.1.

    Args:
        levels: L_i, each at least 2.

    Raises:
        InvalidArgument: no levels, a level below 2, or 2^31 codes and more.
    """

    def __init__(self, levels=(8, 5, 5, 5), **kwargs):
        self_levels = _checked(levels)
        super().__init__(len(self_levels), math.prod(self_levels), **kwargs)
        self.levels = self_levels
