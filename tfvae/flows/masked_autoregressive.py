"""Masked autoregressive flows: each number of a vector is moved given those before it."""

import keras
import numpy as np
import tensorflow as tf

from tfvae.checks import choice, positive
from tfvae.errors import InvalidArgument
from tfvae.flows.flow import REGISTRY, Flow, join_context

DIRECTIONS = ("inverse", "forward")


@REGISTRY.register("masked_autoregressive")
class MaskedAutoregressive(Flow):
    """Number d is scaled and shifted by a network that sees the numbers before d, and the context.

    - fast="inverse", MAF: z_d = u_d exp(α_d(z_<d; h)) + μ_d(z_<d; h). The density of any z takes
      one pass, a draw takes D.
    - fast="forward", IAF: z_d = u_d exp(α_d(u_<d; h)) + μ_d(u_<d; h). A draw and its own density
      take one pass, the density of another z takes D.

    log |det ∂z/∂u| = Σ_d α_d, α = c tanh(r/c). All numbers come from one network whose kernels are
    masked (MADE).

    Source: Papamakarios, Pavlakou and Murray 2017, "Masked autoregressive flow"; Kingma et al.
    2016, "Improved variational inference with inverse autoregressive flow"; Germain et al. 2015,
    "MADE".

    Args:
        fast: "inverse" or "forward".
        hidden: widths of the hidden layers.
        activation: of the hidden layers.
        max_log_scale: c.
    """

    def __init__(
        self,
        fast: str = "inverse",
        hidden=(128, 128),
        activation="relu",
        max_log_scale: float = 2.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.fast = choice("fast", fast, DIRECTIONS)
        self.hidden, self.activation = tuple(hidden), activation
        if not self.hidden:
            raise InvalidArgument("`hidden` is empty; expected the width of at least one layer.")
        self.max_log_scale = positive("max_log_scale", max_log_scale)

    @property
    def has_fast_forward(self):
        """Whether this is an IAF."""
        return self.fast == "forward"

    @property
    def has_fast_inverse(self):
        """Whether this is a MAF."""
        return self.fast == "inverse"

    def build(self, size, context_size=0):  # noqa: D102
        self._layers_of_made, masks = [], made_masks(size, context_size, self.hidden)
        for number, mask in enumerate(masks):
            last = number == len(masks) - 1
            layer = MaskedDense(mask, None if last else self.activation, last, self.variable_dtype)
            layer.build((None, mask.shape[0]))
            self._layers_of_made.append(layer)
        super().build(size, context_size)

    def forward(self, u, context=None):  # noqa: D102
        if self.fast == "forward":
            return self._move(u, context)
        return self._undo_one_by_one(u, context, lambda u, mu, alpha: u * tf.exp(alpha) + mu, 1.0)

    def inverse(self, z, context=None):  # noqa: D102
        if self.fast == "inverse":
            mu, alpha = self._made(z, context)
            return (z - mu) * tf.exp(-alpha), -tf.reduce_sum(alpha, -1)
        return self._undo_one_by_one(
            z, context, lambda z, mu, alpha: (z - mu) * tf.exp(-alpha), -1.0
        )

    def _move(self, u, context):
        mu, alpha = self._made(u, context)
        return u * tf.exp(alpha) + mu, tf.reduce_sum(alpha, -1)

    def _undo_one_by_one(self, known, context, step, sign):
        """Return the vector whose network sees itself, one number a turn, and its log-det."""
        leading = tf.shape(known)[:-1]
        if context is not None:
            leading = tf.broadcast_dynamic_shape(leading, tf.shape(context)[:-1])
        known = tf.broadcast_to(known, tf.concat([leading, [self.size]], 0))
        places = tf.range(self.size)

        def turn(d, found):
            mu, alpha = self._made(found, context)
            return d + 1, tf.where(places == d, step(known, mu, alpha), found)

        _, found = tf.while_loop(
            lambda d, _: d < self.size,
            turn,
            (0, tf.zeros_like(known)),
            parallel_iterations=1,
            maximum_iterations=self.size,
        )
        return found, sign * tf.reduce_sum(self._made(found, context)[1], -1)

    def _made(self, values, context):
        """Return μ and α, each `[..., D]`."""
        hidden = join_context(values, context)
        for layer in self._layers_of_made:
            hidden = layer(hidden)
        mu, raw = tf.split(hidden, 2, -1)
        return mu, self.max_log_scale * tf.tanh(raw / self.max_log_scale)

    def get_config(self):  # noqa: D102
        own = {"fast": self.fast, "hidden": list(self.hidden), "activation": self.activation}
        return {**super().get_config(), **own, "max_log_scale": self.max_log_scale}


class MaskedDense(keras.layers.Layer):
    """A dense layer some of whose weights are held at 0.

    Args:
        mask: 1 where there is a weight, `[inputs, units]`.
        activation: as in `keras.layers.Dense`.
        starts_at_zero: whether the layer gives 0 at the start.
        dtype: of its weights and arithmetic.
    """

    def __init__(self, mask, activation, starts_at_zero: bool, dtype: str):
        super().__init__(dtype=dtype)
        self.mask, self.starts_at_zero = mask, starts_at_zero
        self.activation = keras.activations.get(activation)

    def build(self, input_shape):
        """Add kernel and bias."""
        start = "zeros" if self.starts_at_zero else "glorot_uniform"
        self.kernel = self.add_weight(shape=self.mask.shape, initializer=start, name="kernel")
        self.bias = self.add_weight(shape=self.mask.shape[1:], initializer="zeros", name="bias")
        self.built = True

    def call(self, inputs):
        """Return activation(inputs · (mask ⊙ kernel) + bias)."""
        kernel = self.kernel * tf.cast(self.mask, self.kernel.dtype)
        return self.activation(tf.tensordot(inputs, kernel, 1) + self.bias)


def made_masks(size: int, context_size: int, hidden) -> list[np.ndarray]:
    """Return the masks of MADE, `[inputs, units]` for each layer; its output is μ, then α.

    Inputs d = 1, …, D have degree d and the context degree 0; hidden units have degrees from 0 to
    D − 1 in turn, and output d sees hidden units of degree below d.

    Source: Germain et al. 2015, "MADE: masked autoencoder for distribution estimation", eq. 12, 13.
    """
    degrees = np.concatenate([np.arange(1, size + 1), np.zeros(context_size, int)])
    masks = []
    for units in hidden:
        # Units of degree 0 see the context alone; where there is none they are constants.
        least = 0 if context_size or size == 1 else 1
        of_units = least + np.arange(units) % max(1, size - least)
        masks.append(degrees[:, np.newaxis] <= of_units[np.newaxis])
        degrees = of_units
    outputs = np.tile(np.arange(1, size + 1), 2)
    masks.append(degrees[:, np.newaxis] < outputs[np.newaxis])
    return [mask.astype(np.float32) for mask in masks]
