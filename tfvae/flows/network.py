"""The network inside a coupling: a multilayer perceptron whose last layer starts at zero."""

import keras
import tensorflow as tf
from keras import layers


class CouplingNetwork(keras.layers.Layer):
    """Vectors `[..., input_size]` → `[..., output_size]`, with any leading axes; 0 at the start.

    Args:
        input_size: numbers that it sees; of 0 it learns constants.
        output_size: parameters that it gives.
        hidden: widths of the hidden layers.
        activation: of the hidden layers.
        dtype: of its weights and arithmetic.
    """

    def __init__(self, input_size: int, output_size: int, hidden, activation: str, dtype: str):
        super().__init__(dtype=dtype)
        self._sees_nothing = input_size == 0
        sizes = [max(1, input_size), *hidden]
        self._dense = [layers.Dense(n, activation=activation, dtype=dtype) for n in hidden]
        self._dense.append(layers.Dense(output_size, kernel_initializer="zeros", dtype=dtype))
        for layer, size in zip(self._dense, sizes, strict=True):
            layer.build((None, size))
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return the parameters."""
        if self._sees_nothing:
            inputs = tf.zeros(tf.concat([tf.shape(inputs)[:-1], [1]], 0), self.compute_dtype)
        single = len(inputs.shape) == 1
        values = inputs[tf.newaxis] if single else inputs
        for layer in self._dense:
            values = layer(values)
        return values[0] if single else values
