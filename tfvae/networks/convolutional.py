"""Convolutional networks between images or series and latent vectors."""

import math
from collections.abc import Callable

import keras
import numpy as np
from keras import layers

from tfvae.networks.ends import (
    from_latents,
    in_order,
    initial_bias,
    of_examples,
    to_params,
    with_dropout,
)
from tfvae.networks.ranks import convolutions, crop


def conv_encoder(
    x_shape: tuple[int, ...],
    params_size: int | tuple[int, ...],
    filters: tuple[int, ...] = (32, 64),
    units: int = 256,
    *,
    activation: str | Callable = "relu",
    dropout: float = 0.0,
    condition_size: int = 0,
    missing: bool = False,
) -> keras.Model:
    """x `[B, H, W, C]` → stride-2 3×3 convolutions → dense → parameters `[B, params_size]`.

    A series `[B, T, C]` has convolutions over time, of width 3.
    `params_size` may be a shape; `condition_size` and `missing` are those of `dense_encoder`. The
    condition is an input of the dense layer. In training, `dropout` is the share of the channels
    that every convolution drops, and of the values that the dense layer drops.
    """
    kinds = convolutions(x_shape)
    halvings = [
        kinds.forward(n, 3, strides=2, padding="same", activation=activation) for n in filters
    ]
    features = [*of_examples(missing), *with_dropout(halvings, dropout, kinds.dropout)]
    before = [*features, layers.Flatten("channels_last")]
    dense = with_dropout([layers.Dense(units, activation=activation)], dropout)
    after = [*dense, *to_params(params_size)]
    inputs = keras.Input(x_shape)
    return in_order(inputs, before, after, condition_size, "encoder")


def conv_decoder(
    latent_size: int | tuple[int, ...],
    output_shape: tuple[int, ...],
    filters: tuple[int, ...] = (32, 64),
    units: int = 256,
    *,
    activation: str | Callable = "relu",
    dropout: float = 0.0,
    bias: np.ndarray | None = None,
    condition_size: int = 0,
) -> keras.Model:
    """The mirror of `conv_encoder`: z `[B, D]` → parameters `[B, H, W, C']`, or `[B, T, C']`.

    Heights, widths and lengths that the strides do not divide are grown beyond and cropped.

    Args:
        latent_size: D, or the shape of a latent, which is flattened first.
        output_shape: `(H, W, likelihood.params_size(channels))`, or `(T, ...)` of a series.
        filters: of the convolutions of the encoder, outermost first.
        units: width of the dense layer.
        activation: of all layers but the last.
        dropout: as in `conv_encoder`.
        bias: initial value of the outputs' bias, one number for each output channel, or None.
        condition_size: as in `conv_encoder`.
    """
    *sizes, channels = output_shape
    kinds = convolutions(output_shape)
    stride = 2 ** len(filters)
    grid = [math.ceil(size / stride) for size in sizes]
    inputs, flatten = from_latents(latent_size)
    dense = [layers.Dense(n, activation=activation) for n in (units, math.prod(grid) * filters[-1])]
    doublings = [
        kinds.transposed(n, 3, strides=2, padding="same", activation=activation)
        for n in reversed(filters)
    ]
    after = [
        *with_dropout(dense, dropout),
        layers.Reshape((*grid, filters[-1])),
        *with_dropout(doublings, dropout, kinds.dropout),
        *crop([size * stride for size in grid], sizes),
        kinds.forward(
            channels, 3, padding="same", bias_initializer=initial_bias(bias), name="params"
        ),
    ]
    return in_order(inputs, flatten, after, condition_size, "decoder")
