"""How images come into a graph: gathered from an array, or read by a source."""

import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfvae.data.source import Source

PARALLEL_READS = min(4, os.cpu_count() or 1)


def reader(values: np.ndarray | Source) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the function of numbers `[n]` that gives these of the values, `[n, ...]`, in a graph.

    Where a source fails, the error of TensorFlow holds the message of its own; see
    `tfvae.inputs.own_errors`.
    """
    if not isinstance(values, Source):
        held = tf.constant(values)
        return lambda index: tf.gather(held, index)

    def read(index):
        images = tf.numpy_function(values.read, [index], values.dtype, stateful=False)
        return tf.ensure_shape(images, [None, *values.shape[1:]])

    return read
