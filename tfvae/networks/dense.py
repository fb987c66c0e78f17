"""Networks of dense layers."""

import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import layers

from tfvae.networks.columns import ColumnFeatures
from tfvae.networks.ends import (
    from_latents,
    in_order,
    initial_bias,
    of_examples,
    to_params,
    with_dropout,
)

GATED = "gated"


@keras.saving.register_keras_serializable("tfvae")
class GatedDense(layers.Layer):
    """(x W + b) ⊙ sigmoid(x V + c), `[..., units]`.

    Source: Tomczak and Welling 2018, "VAE with a VampPrior", sec. 5.1, after Dauphin et al. 2017,
    "Language modeling with gated convolutional networks".

    Args:
        units: width of the layer.
    """

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        # One product for values and gates.
        self._both = layers.Dense(2 * units, dtype=self.dtype_policy, name="values_and_gates")

    def build(self, input_shape):
        """Build the product."""
        self._both.build(input_shape)
        self.built = True

    def call(self, inputs):
        """Return the gated values."""
        values, gates = keras.ops.split(self._both(inputs), 2, axis=-1)
        return values * keras.ops.sigmoid(gates)

    def compute_output_shape(self, input_shape):
        """Return the shape of the output."""
        return (*input_shape[:-1], self.units)

    def get_config(self):
        """Return the constructor arguments."""
        return {**super().get_config(), "units": self.units}


def hidden_layer(units: int, activation) -> layers.Layer:
    """Return a dense layer with an activation, or a gated one."""
    return GatedDense(units) if activation == GATED else layers.Dense(units, activation=activation)


def dense_encoder(
    x_shape: tuple[int, ...],
    params_size: int | tuple[int, ...],
    hidden: tuple[int, ...] = (200, 200),
    *,
    activation: str | Callable = "tanh",
    dropout: float = 0.0,
    condition_size: int = 0,
    missing: bool = False,
    features: Sequence | None = None,
) -> keras.Model:
    """x `[B, *x_shape]` → hidden layers → parameters `[B, params_size]`.

    With the defaults and 50 latents, the one-layer network of Burda et al. 2016.

    Args:
        x_shape: shape of one input.
        params_size: how many parameters, or their shape: `(D, C)` for D categorical latents of C
            categories.
        hidden: widths of the hidden layers; none for an affine map.
        activation: of the hidden layers; "gated" for `GatedDense`.
        dropout: share of the values of every hidden layer that are dropped in training.
        condition_size: C, the width of a second input for a condition; 0 for none. A label of one
            of C classes comes as a one-hot row.
        missing: whether x may hold missing values, NaN: the first layer is then `ZeroImputation`.
        features: the features of the columns of a table, `schema.features()`, which also handle
            missing values; see `ColumnFeatures`. None for x itself.

    Returns:
        A `keras.Model` named "encoder".
    """
    first = [ColumnFeatures(features, missing)] if features else of_examples(missing)
    before = [*first, layers.Flatten("channels_last")]
    between = [hidden_layer(units, activation) for units in hidden]
    after = [*with_dropout(between, dropout), *to_params(params_size)]
    return in_order(keras.Input(x_shape), before, after, condition_size, "encoder")


def dense_decoder(
    latent_size: int | tuple[int, ...],
    output_shape: tuple[int, ...],
    hidden: tuple[int, ...] = (200, 200),
    *,
    activation: str | Callable = "tanh",
    dropout: float = 0.0,
    bias: np.ndarray | None = None,
    condition_size: int = 0,
) -> keras.Model:
    """z `[B, latent_size]` → hidden layers → parameters `[B, *output_shape]`.

    Args:
        latent_size: D, or the shape of a latent, which is flattened first.
        output_shape: `(*x_shape[:-1], likelihood.params_size(channels))`.
        hidden: widths of the hidden layers; none for an affine map.
        activation: of the hidden layers; "gated" for `GatedDense`.
        dropout: as in `dense_encoder`.
        bias: initial value of the outputs' bias, of shape `output_shape`; `logit_bias` of the
            training images is worth about two nats on binarized MNIST in a short training. None for
            zeros.
        condition_size: as in `dense_encoder`.

    Returns:
        A `keras.Model` named "decoder".

    Raises:
        InvalidArgument: a `bias` of another size.
    """
    inputs, flatten = from_latents(latent_size)
    between = [hidden_layer(units, activation) for units in hidden]
    after = [
        *with_dropout(between, dropout),
        layers.Dense(math.prod(output_shape), bias_initializer=initial_bias(bias), name="params"),
        layers.Reshape(output_shape),
    ]
    return in_order(inputs, flatten, after, condition_size, "decoder")
