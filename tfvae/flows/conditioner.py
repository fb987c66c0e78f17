"""The networks inside flows."""

import keras
import numpy as np
import tensorflow as tf


class Conditioner(keras.layers.Layer):
    """(x `[..., n]`, context `[..., C]`) → parameters `[..., output_size]`: a residual network.

        h₁ = W₁ x + V context + b₁,   h_l = W_l a(h_{l−1}) + b_l (+ h_{l−1} where the widths agree)

    The last layer starts at zero, and with it what the flow does with the parameters.

    Args:
        hidden: widths of the hidden layers; none for an affine map.
        activation: a, of the hidden layers.
    """

    def __init__(self, hidden, activation, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.hidden = tuple(hidden)
        self.activation = keras.activations.get(activation)

    def build(self, input_size: int, output_size: int, context_size: int = 0, degrees=None):
        """Add the layers.

        Args:
            input_size: n.
            output_size: how many parameters.
            context_size: C.
            degrees: of the inputs, of each hidden layer's units, and of the outputs, each an
                integer array. A unit sees those of the layer before whose degree is not above its
                own. None for layers without masks.
        """
        widths = [input_size, *self.hidden, output_size]
        if degrees is None:
            degrees = [np.zeros(width, np.int32) for width in widths]
        self.steps = []
        for number, units in enumerate(widths[1:], start=1):
            mask = degrees[number] >= degrees[number - 1][:, np.newaxis]
            step = MaskedDense(units, mask, dtype=self.dtype_policy, **self._start(number))
            step.build((None, widths[number - 1]))
            self.steps.append(step)
        self.from_context = None
        if context_size:
            self.from_context = keras.layers.Dense(
                widths[1], use_bias=False, dtype=self.dtype_policy, **self._start(1)
            )
            self.from_context.build((None, context_size))

    def _start(self, number):
        is_last = number == len(self.hidden) + 1
        return {"kernel_initializer": "zeros" if is_last else "glorot_uniform"}

    def call(self, x, context=None):
        """Return the parameters. The context's product is made once, not for each of K samples."""
        h = self.steps[0](x)
        if self.from_context is not None:
            h = h + self.from_context(context)
        for step in self.steps[1:]:
            change = step(self.activation(h))
            h = (
                h + change
                if h.shape[-1] == change.shape[-1] and step is not self.steps[-1]
                else change
            )
        return h


class MaskedDense(keras.layers.Dense):
    """A dense layer in which only the connections of a mask `[inputs, units]` exist."""

    def __init__(self, units, mask, **kwargs):
        super().__init__(units, **kwargs)
        self.connections = None if np.all(mask) else np.asarray(mask, np.float32)

    def call(self, x):
        """Return x (W ∘ mask) + b."""
        kernel = tf.convert_to_tensor(self.kernel)
        if self.connections is not None:
            kernel = kernel * tf.constant(self.connections, kernel.dtype)
        return tf.nn.bias_add(keras.ops.matmul(x, kernel), self.bias)
