"""Strided transposed convolutions as a convolution and depth-to-space: the same numbers, faster.

LiteRT runs a transposed convolution of any batch size outside its fast kernels (the shape of the
output is computed), and a fixed one on a single thread. What stands here in its place is delegated
whole.
"""

import math

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable("tfvae")
class SubpixelConv2D(keras.layers.Conv2DTranspose):
    """`Conv2DTranspose` of equal strides s, for export: its kernel becomes a constant of the graph.

    With o the place of an output, p what the padding cuts off at the start, and o + p = s·q + r,

        y[o] = Σ_j w[s·j + r] x[q − j],   j = 0, …, m − 1,   m = ⌈kernel_size / s⌉,

    so each of the s² residues r is a convolution of x with m² taps: one convolution to s² times the
    channels, whose outputs are laid side by side by depth-to-space.

    Source: Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?".
    """

    @staticmethod
    def replaces(config: dict) -> bool:
        """Whether a `Conv2DTranspose` of this config can be written so."""
        strides, dilation = (_pair(config[name]) for name in ("strides", "dilation_rate"))
        return (
            strides[0] == strides[1]
            and dilation == (1, 1)
            and config.get("output_padding") is None
            and config.get("data_format") in (None, "channels_last")
            and keras.config.image_data_format() == "channels_last"
        )

    @classmethod
    def address(cls) -> dict:
        """Return how a Keras config names this class."""
        return {
            "module": None,
            "class_name": cls.__name__,
            "registered_name": keras.saving.get_registered_name(cls),
        }

    def call(self, inputs):  # noqa: D102
        stride = self.strides[0]
        sizes = inputs.shape[1:3]
        if None in sizes:
            return super().call(inputs)
        axes = [_Axis(*a, stride, self.padding) for a in zip(sizes, self.kernel_size, strict=True)]
        with tf.init_scope():
            kernel = rearranged(np.asarray(self.kernel), stride)
        paddings = [[0, 0], *(axis.padding for axis in axes), [0, 0]]
        y = tf.nn.conv2d(inputs, tf.constant(kernel), strides=1, padding=paddings)
        if self.use_bias:
            y = tf.nn.bias_add(y, tf.tile(tf.convert_to_tensor(self.bias), [stride**2]))
        y = self.activation(y)  # before the pixels move, so that LiteRT fuses it
        if stride > 1:
            y = tf.nn.depth_to_space(y, stride)
        (top, height), (left, width) = (axis.crop for axis in axes)
        return y[:, top : top + height, left : left + width, :]


class _Axis:
    """How one axis is padded before the convolution and cropped after depth-to-space."""

    def __init__(self, size, kernel_size, stride, padding):
        overlap = max(kernel_size - stride, 0)
        cut = overlap // 2 if padding == "same" else 0
        length = size * stride + (0 if padding == "same" else overlap)
        taps = math.ceil(kernel_size / stride)
        first, last = cut // stride, (cut + length - 1) // stride  # the values of q
        self.padding = [taps - 1 - first, last - (size - 1)]
        self.crop = (cut - first * stride, length)


def rearranged(kernel: np.ndarray, stride: int) -> np.ndarray:
    """Return `[m, m, in, s²·out]` for the kernel `[k, k, out, in]` of a transposed convolution."""
    taps = [math.ceil(size / stride) for size in kernel.shape[:2]]
    missing = [(0, m * stride - size) for m, size in zip(taps, kernel.shape[:2], strict=True)]
    padded = np.pad(kernel, [*missing, (0, 0), (0, 0)])
    split = padded.reshape(taps[0], stride, taps[1], stride, *kernel.shape[2:])
    by_tap = split[::-1, :, ::-1].transpose(0, 2, 5, 1, 3, 4)
    return np.ascontiguousarray(by_tap.reshape(*taps, kernel.shape[3], -1))


def _pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)
