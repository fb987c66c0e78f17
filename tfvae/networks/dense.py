"""Networks of dense layers."""

import math

import keras
from keras import layers

from tfvae.networks.ends import from_latents, initial_bias, to_params


def dense_encoder(
    x_shape, params_size: int | tuple[int, ...], hidden=(200, 200), activation="tanh"
) -> keras.Model:
    """x `[B, *x_shape]` → hidden layers → parameters `[B, params_size]`.

    With the defaults and 50 latents, the one-layer network of Burda et al. 2016.

    Args:
        x_shape: shape of one input.
        params_size: how many parameters, or their shape: `(D, C)` for D categorical latents of C
            categories.
        hidden: widths of the hidden layers; none for an affine map.
        activation: of the hidden layers.
    """
    return keras.Sequential(
        [
            keras.Input(x_shape),
            layers.Flatten(),
            *(layers.Dense(units, activation=activation) for units in hidden),
            *to_params(params_size),
        ],
        name="encoder",
    )


def dense_decoder(
    latent_size: int | tuple[int, ...],
    output_shape,
    hidden=(200, 200),
    activation="tanh",
    bias=None,
) -> keras.Model:
    """z `[B, latent_size]` → hidden layers → parameters `[B, *output_shape]`.

    Args:
        latent_size: D, or the shape of a latent, which is flattened first.
        output_shape: `(*x_shape[:-1], likelihood.params_size(channels))`.
        hidden: widths of the hidden layers; none for an affine map.
        activation: of the hidden layers.
        bias: initial value of the outputs' bias, of shape `output_shape`; `logit_bias` of the
            training images is worth about a nat on binarized MNIST. None for zeros.
    """
    return keras.Sequential(
        [
            *from_latents(latent_size),
            *(layers.Dense(units, activation=activation) for units in hidden),
            layers.Dense(
                math.prod(output_shape), bias_initializer=initial_bias(bias), name="params"
            ),
            layers.Reshape(output_shape),
        ],
        name="decoder",
    )
