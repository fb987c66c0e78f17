"""The latents of several stochastic layers as one tensor, z_1 first; of one layer, its own."""

import math
from collections.abc import Sequence

import tensorflow as tf


def joined_shape(layer_shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the shape of all layers, flattened and joined; of one layer, its own."""
    if len(layer_shapes) == 1:
        return layer_shapes[0]
    return (sum(map(math.prod, layer_shapes)),)


def split(z: tf.Tensor, layer_shapes: Sequence[tuple[int, ...]]) -> list[tf.Tensor]:
    """Return the values of the layers of a latent, `[..., *joined_shape]`."""
    if len(layer_shapes) == 1:
        return [z]
    parts = tf.split(z, [math.prod(shape) for shape in layer_shapes], -1)
    leading = tf.shape(z)[:-1]
    return [
        part if len(shape) == 1 else tf.reshape(part, tf.concat([leading, shape], 0))
        for part, shape in zip(parts, layer_shapes, strict=True)
    ]


def join(values: Sequence, layer_shapes: Sequence[tuple[int, ...]]) -> tf.Tensor:
    """Return the latent whose layers have these values: the inverse of `split`."""
    values = [tf.convert_to_tensor(value) for value in values]
    if len(layer_shapes) == 1:
        return values[0]
    flat = [
        value
        if len(shape) == 1
        else tf.reshape(value, tf.concat([tf.shape(value)[: -len(shape)], [math.prod(shape)]], 0))
        for value, shape in zip(values, layer_shapes, strict=True)
    ]
    return tf.concat(flat, -1)
