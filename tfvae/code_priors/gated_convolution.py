"""The two kinds of layers of a PixelCNN, on a whole grid or on one row or column of it.

Each layer applies its kernel without padding in the direction in which it looks back. A whole grid
is padded with zeros first. For one row or column at a time, a cache holds the rows or columns
before it, which are zeros at first, so that both ways compute the same numbers.
"""

import keras
import tensorflow as tf


class GatedLayer(keras.layers.Layer):
    """tanh(a) ⊙ σ(b), where a and b are the halves of a convolution plus a bias for the class.

    Source: van den Oord et al. 2016, "Conditional image generation with PixelCNN decoders", eq. 2
    and 4.

    Args:
        num_filters: F, features at a position.
        kernel_shape: rows and columns of the kernel.
        num_classes: 0 for no bias.
    """

    def __init__(self, num_filters: int, kernel_shape: tuple, num_classes: int, **kwargs):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.num_filters = num_filters
        self.convolution = keras.layers.Conv2D(
            2 * num_filters, kernel_shape, data_format="channels_last", dtype=policy
        )
        self.class_bias = (
            keras.layers.Embedding(num_classes, 2 * num_filters, dtype=policy)
            if num_classes
            else None
        )

    def build(self, input_shape):
        self.convolution.build(input_shape)
        if self.class_bias is not None:
            self.class_bias.build()

    def before_gate(self, x, classes):
        """Return a and b, joined along the last axis."""
        x = self.convolution(x)
        if self.class_bias is None:
            return x
        return x + self.class_bias(classes)[:, tf.newaxis, tf.newaxis]


class VerticalLayer(GatedLayer):
    """A layer that sees k // 2 rows above, and k // 2 columns on both sides.

    Args:
        num_filters: F.
        kernel_size: k, odd.
        num_classes: 0 for none.
    """

    def __init__(self, num_filters: int, kernel_size: int, num_classes: int, **kwargs):
        reach = kernel_size // 2
        super().__init__(num_filters, (reach + 1, kernel_size), num_classes, **kwargs)
        self.reach = reach
        self.across = keras.layers.Dense(2 * num_filters, dtype=self.dtype_policy)

    def build(self, input_shape):
        super().build(input_shape)
        self.across.build((*input_shape[:-1], 2 * self.num_filters))

    def call(self, x, classes, dropout):
        """Return the next features of this stack `[B, H, W, F]`, and those for the other stack."""
        above = [self.reach, 0]
        return self.rows(tf.pad(x, [[0, 0], above, [0, 0], [0, 0]]), classes, dropout)

    def rows(self, x, classes, dropout=tf.identity):
        """Return what `call` does for the last R rows of x `[B, k // 2 + R, W, F]`."""
        sides = [self.reach, self.reach]
        x = self.before_gate(tf.pad(x, [[0, 0], [0, 0], sides, [0, 0]]), classes)
        return dropout(gate(x)), self.across(x)


class HorizontalLayer(GatedLayer):
    """A layer that sees k // 2 columns to the left and the vertical stack, with a skip connection.

    Args:
        num_filters: F.
        kernel_size: k, odd.
        num_classes: 0 for none.
    """

    def __init__(self, num_filters: int, kernel_size: int, num_classes: int, **kwargs):
        reach = kernel_size // 2
        super().__init__(num_filters, (1, reach + 1), num_classes, **kwargs)
        self.reach = reach
        self.mix = keras.layers.Dense(num_filters, dtype=self.dtype_policy)

    def build(self, input_shape):
        super().build(input_shape)
        self.mix.build(input_shape)

    def call(self, x, from_vertical, classes, dropout):
        """Return the next features of this stack, `[B, H, W, F]`."""
        left = [self.reach, 0]
        x = tf.pad(x, [[0, 0], [0, 0], left, [0, 0]])
        return self.columns(x, from_vertical, classes, dropout)

    def columns(self, x, from_vertical, classes, dropout=tf.identity):
        """Return what `call` does for the last C columns of x `[B, R, k // 2 + C, F]`.

        Args:
            x: features of this stack.
            from_vertical: `[B, R, C, 2F]`.
            classes: `[B]`.
            dropout: see `CodePrior.network`.
        """
        gated = gate(self.before_gate(x, classes) + from_vertical)
        return x[:, :, self.reach :] + self.mix(dropout(gated))


def gate(x: tf.Tensor) -> tf.Tensor:
    """Return tanh(a) ⊙ σ(b) for the halves a and b of the last axis."""
    a, b = tf.split(x, 2, axis=-1)
    return tf.tanh(a) * tf.sigmoid(b)
