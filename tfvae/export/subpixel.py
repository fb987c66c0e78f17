"""Strided transposed convolutions, computed faster as convolutions and depth-to-space.

LiteRT runs a transposed convolution of any batch size outside its fast kernels (the shape of the
output is computed), and one of a fixed size on a single thread. The operators used here in its
place run entirely in the fast kernels.
"""

import itertools
import math

import keras
import numpy as np
import tensorflow as tf

# From so many output channels on, a residue fills the vectors of a processor by itself.
_WIDE = 16
# LiteRT computes these within the convolution. They act on each number by itself, wherever it lies.
_FUSED = (keras.activations.linear, keras.activations.relu, keras.activations.relu6)


@keras.saving.register_keras_serializable("tfvae")
class SubpixelConv2D(keras.layers.Conv2DTranspose):
    """`Conv2DTranspose` of equal strides s, for export: its kernel becomes constants of the graph.

    With o the place of an output, p what the padding cuts off at the start, and o + p = s·q + r,

        y[o] = Σ_j w[s·j + r] x[q − j],   j = 0, …, ⌈(kernel_size − r) / s⌉ − 1,

    so the outputs of each of the s² residues r are a convolution of x. Depth-to-space lays them
    side by side. Many channels take a convolution for each residue, which costs as much as the
    transposed one; few channels take one convolution for all residues.

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
            and config["data_format"] == "channels_last"
        )

    @classmethod
    def address(cls) -> dict:
        """Return how a Keras config names this class."""
        return {
            "module": None,
            "class_name": cls.__name__,
            "registered_name": keras.saving.get_registered_name(cls),
        }

    def call(self, inputs):
        sizes = inputs.shape[1:3]
        if None in sizes:
            return super().call(inputs)
        stride = self.strides[0]
        axes = [_Axis(*a, stride, self.padding) for a in zip(sizes, self.kernel_size, strict=True)]
        with tf.init_scope():
            kernel = np.asarray(self.kernel)
        if self.filters >= _WIDE and min(self.kernel_size) >= stride:  # else a residue has no taps
            y, starts = self._by_residue(inputs, kernel, axes), (0, 0)
        else:
            y, starts = self._at_once(inputs, kernel, axes), [axis.start for axis in axes]
        if stride > 1:
            y = tf.nn.depth_to_space(y, stride)
        (top, left), (height, width) = starts, (axis.length for axis in axes)
        if y.shape[1:3] != (height, width):
            y = y[:, top : top + height, left : left + width, :]
        return y if self.activation in _FUSED else self.activation(y)

    def _by_residue(self, x, kernel, axes):
        """Return the outputs of all residues, `[B, T, T', s²·out]`, a convolution for each."""
        stride = self.strides[0]
        parts = []
        for phases in itertools.product(range(stride), repeat=2):
            cuts = [axis.phase(phase) for axis, phase in zip(axes, phases, strict=True)]
            taps = kernel[cuts[0].residue :: stride, cuts[1].residue :: stride][::-1, ::-1]
            parts.append(
                self._convolution(x, taps.transpose(0, 1, 3, 2), [c.padding for c in cuts])
            )
        return parts[0] if stride == 1 else tf.concat(parts, axis=-1)

    def _at_once(self, x, kernel, axes):
        """Return the same of all q that one of the residues needs: a little more on each side."""
        return self._convolution(x, together(kernel, self.strides[0]), [a.padding for a in axes])

    def _convolution(self, x, kernel, paddings):
        paddings = [[0, 0], *paddings, [0, 0]]
        y = tf.nn.conv2d(x, tf.constant(np.ascontiguousarray(kernel)), 1, paddings)
        if self.use_bias:
            copies = kernel.shape[-1] // self.filters
            y = tf.nn.bias_add(y, tf.tile(tf.convert_to_tensor(self.bias), [copies]))
        # Another activation, such as a softmax, waits until the pixels are in their places.
        return self.activation(y) if self.activation in _FUSED else y


class _Axis:
    """The geometry of one axis."""

    def __init__(self, size, kernel_size, stride, padding):
        overlap = max(kernel_size - stride, 0)
        self.size, self.kernel_size, self.stride = size, kernel_size, stride
        self.cut = overlap // 2 if padding == "same" else 0  # p
        self.length = size * stride + (0 if padding == "same" else overlap)
        # All residues together: the values of q, and where the outputs begin among theirs.
        first, last = self.cut // stride, (self.cut + self.length - 1) // stride
        self.padding = [math.ceil(kernel_size / stride) - 1 - first, last - (size - 1)]
        self.start = self.cut - first * stride

    def phase(self, number):
        """Return the geometry of the outputs o = s·t + number."""
        shift, residue = divmod(number + self.cut, self.stride)
        taps = math.ceil((self.kernel_size - residue) / self.stride)
        last = math.ceil(self.length / self.stride) - 1 + shift
        return _Phase(residue, [taps - 1 - shift, last - (self.size - 1)])


class _Phase:
    """Which taps the outputs of one residue take, and how the input is padded for them."""

    def __init__(self, residue, padding):
        self.residue, self.padding = residue, padding


def together(kernel: np.ndarray, stride: int) -> np.ndarray:
    """Return `[m, m, in, s²·out]` for the kernel `[k, k, out, in]` of a transposed convolution."""
    taps = [math.ceil(size / stride) for size in kernel.shape[:2]]
    missing = [(0, m * stride - size) for m, size in zip(taps, kernel.shape[:2], strict=True)]
    padded = np.pad(kernel, [*missing, (0, 0), (0, 0)])
    split = padded.reshape(taps[0], stride, taps[1], stride, *kernel.shape[2:])
    by_tap = split[::-1, :, ::-1].transpose(0, 2, 5, 1, 3, 4)
    return by_tap.reshape(*taps, kernel.shape[3], -1)


def _pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)
