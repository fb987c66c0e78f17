"""Convolutional networks of a ladder variational autoencoder, for pictures."""

from collections.abc import Callable
from functools import partial

import keras
import numpy as np
from keras import layers

from tfvae._plain.checks import choice
from tfvae.errors import InvalidArgument
from tfvae.networks.ends import (
    condition_input,
    given_condition,
    initial_bias,
    network_of,
    of_examples,
)
from tfvae.networks.ladder import FORMS, LadderNetworks, joined_inputs
from tfvae.networks.ranks import PICTURES


def residual_ladder(
    x_shape: tuple[int, ...],
    output_channels: int,
    latent_channels: tuple[int, ...] = (4, 8, 16),
    strides: tuple[int, ...] = (2, 2, 1),
    filters: int | tuple[int, ...] = 32,
    num_blocks: int = 1,
    *,
    activation: str | Callable = "silu",
    form: str = "residual",
    dropout: float = 0.0,
    bias: np.ndarray | None = None,
    condition_size: int = 0,
    missing: bool = False,
) -> LadderNetworks:
    """Return the networks of a ladder of grids z_1, …, z_L, with residual blocks between.

    z_l has the height and width of x divided by the product of the first l strides.

    Args:
        x_shape: shape of one picture, (H, W, C).
        output_channels: `likelihood.params_size(C)`.
        latent_channels: channels of z_1, …, z_L.
        strides: of the step from x to h_1, from h_1 to h_2, ….
        filters: channels of h_l and d_l; or f_0, f_1, …, f_L, those of the grid of x and of every
            layer. Fine grids take the most time, so fewer channels there buy more on coarse ones.
        num_blocks: residual blocks at every level, on the way up and down.
        activation: of the hidden layers.
        form: of q, as the model's.
        dropout: share of the channels that every residual block drops in training.
        bias: initial value of the outputs' bias, one number for each output channel, or None.
        condition_size: as in `dense_ladder`; every site of a grid is given the condition.
        missing: as in `dense_encoder`.

    Raises:
        InvalidArgument: strides that do not divide height and width, or are not one for each layer,
            filters that are not one more, a form that does not exist, or no picture.
    """
    choice("form", form, FORMS)
    count = len(latent_channels)
    filters = [filters] * (count + 1) if isinstance(filters, int) else filters
    _check_grids(x_shape, count, strides, filters)
    blocks = partial(_blocks, count=num_blocks, activation=activation, dropout=dropout)
    encoder = _way_up(x_shape, strides, filters, blocks, activation, condition_size, missing)
    states = [tuple(h.shape[1:]) for h in encoder.outputs]
    head = partial(_head, activation=activation, condition=condition_size)
    inference, generation, top_down = [], [], []
    for number, (state, channels) in enumerate(zip(states, latent_channels, strict=True), 1):
        top = number == count
        seen = [state] if top or form == "precision" else [state, state]
        # A residual of zeros starts q_l at p_l.
        start = "zeros" if len(seen) > 1 else "glorot_uniform"
        inference.append(head(f"inference_{number}", seen, 2 * channels, start=start))
        if not top:
            generation.append(head(f"generation_{number}", [state], 2 * channels))
        z = (*state[:-1], channels)
        top_down.append(
            _step_down(
                f"top_down_{number}",
                [z] if top else [z, state],
                filters[number],
                filters[number - 1],
                blocks,
                activation,
                strides[number - 1],
                (output_channels, bias) if number == 1 else None,
                condition_size,
            )
        )
    return LadderNetworks(encoder, inference, generation, top_down)


def _check_grids(x_shape, count, strides, filters):
    """Refuse what is no picture, and not as many strides and filters as `count` layers take."""
    if len(x_shape) != 3:
        raise InvalidArgument(
            f"`residual_ladder` got the shape {tuple(x_shape)}; expected (H, W, C) of a picture. "
            "Use `dense_ladder` for vectors and series."
        )
    if len(strides) != count:
        raise InvalidArgument(
            f"There are {len(strides)} strides for {count} layers of latents; expected one for "
            "each."
        )
    if len(filters) != count + 1:
        raise InvalidArgument(
            f"`filters` is {list(filters)} with {count} layers of latents; expected one number, or "
            f"{count + 1}: one for the grid of x and one for each layer."
        )


def _way_up(x_shape, strides, filters, blocks, activation, condition_size, missing):
    """Return the network from x to h_1, …, h_L."""
    height, width, _ = x_shape
    features, h = [], keras.Input(x_shape)
    inputs, condition = [h], condition_input(condition_size)
    for layer in of_examples(missing):
        h = layer(h)
    h = PICTURES.forward(filters[0], 3, padding="same", activation=activation)(h)
    h = given_condition(h, condition)
    for stride, channels in zip(strides, filters[1:], strict=True):
        if height % stride or width % stride:
            raise InvalidArgument(
                f"Features of {height}×{width} cannot be divided by the stride {stride} of "
                f"{tuple(strides)}. Pad the pictures, or use a stride of 1."
            )
        height, width = height // stride, width // stride
        size = 2 * stride - 1 + stride % 2
        h = PICTURES.forward(channels, size, strides=stride, padding="same")(h)
        h = blocks(h)
        features.append(h)
    return network_of([*inputs, *condition], features, "encoder")


def _blocks(x, count, activation, dropout):
    filters = x.shape[-1]
    for _ in range(count):
        y = layers.Activation(activation)(x)
        y = PICTURES.forward(filters, 3, padding="same", activation=activation)(y)
        if dropout:
            y = PICTURES.dropout(dropout)(y)
        y = PICTURES.forward(filters, 3, padding="same", kernel_initializer="zeros")(y)
        x = layers.Add()([x, y])
    return x


def _head(name, shapes, channels, activation, condition, start="glorot_uniform"):
    """Return a network from features to parameters on the same grid."""
    inputs, x = joined_inputs(shapes, condition)
    filters = shapes[0][-1]
    x = layers.Activation(activation)(x)
    x = PICTURES.forward(filters, 3, padding="same", activation=activation)(x)
    return network_of(inputs, PICTURES.forward(channels, 1, kernel_initializer=start)(x), name)


def _step_down(name, shapes, filters, next_filters, blocks, activation, stride, output, condition):
    """Return the network of a next state on the finer grid, or of the output."""
    inputs, x = joined_inputs(shapes, condition)
    x = PICTURES.forward(filters, 1)(x)
    if len(shapes) > 1:
        x = layers.Add()([x, inputs[1]])
    x = blocks(x)
    if stride > 1:
        x = PICTURES.transposed(next_filters, 2 * stride, strides=stride, padding="same")(x)
    elif next_filters != filters:
        x = PICTURES.forward(next_filters, 1)(x)
    if output is None:
        return network_of(inputs, x, name)
    channels, bias = output
    x = layers.Activation(activation)(blocks(x))
    last = {"bias_initializer": initial_bias(bias), "name": "params"}
    return network_of(inputs, PICTURES.forward(channels, 3, padding="same", **last)(x), "decoder")
