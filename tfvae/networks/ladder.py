"""The networks of a ladder variational autoencoder, for vectors and for pictures."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import keras
import numpy as np
from keras import layers

from tfvae._plain.checks import choice
from tfvae.errors import InvalidArgument
from tfvae.networks.dense import hidden_layer
from tfvae.networks.ends import (
    condition_input,
    given_condition,
    initial_bias,
    network_of,
    of_examples,
    with_dropout,
)

FORMS = ("residual", "precision")


class LadderNetworks(NamedTuple):
    """What `tfvae.LadderVAE` is made of, in the order of its arguments: `LadderVAE(*networks)`."""

    encoder: keras.Model
    inference: list[keras.Model]
    generation: list[keras.Model]
    top_down: list[keras.Model]


def dense_ladder(
    x_shape: tuple[int, ...],
    output_shape: tuple[int, ...],
    latent_sizes: tuple[int, ...] = (32, 16),
    hidden: int = 200,
    *,
    activation: str | Callable = "tanh",
    form: str = "residual",
    dropout: float = 0.0,
    bias: np.ndarray | None = None,
    condition_size: int = 0,
    missing: bool = False,
) -> LadderNetworks:
    """Return the networks of a ladder of vectors z_1, …, z_L.

    Args:
        x_shape: shape of one example, which is flattened.
        output_shape: `(*x_shape[:-1], likelihood.params_size(channels))`.
        latent_sizes: D_1, …, D_L.
        hidden: width of every hidden layer, of h_l and of d_l.
        activation: of the hidden layers; "gated" for `GatedDense`.
        form: of q, as the model's.
        dropout: share of the values of every hidden layer that are dropped in training.
        bias: initial value of the outputs' bias, as in `dense_decoder`.
        condition_size: C, the width of one more input of every network, for a condition; 0 for
            none.
        missing: as in `dense_encoder`.

    Raises:
        InvalidArgument: a form that does not exist.
    """
    choice("form", form, FORMS)

    def hidden_of(values):
        for layer in with_dropout([hidden_layer(hidden, activation)], dropout):
            values = layer(values)
        return values

    count = len(latent_sizes)
    features, x = [], keras.Input(x_shape)
    condition = condition_input(condition_size)
    h = x
    for layer in [*of_examples(missing), layers.Flatten()]:
        h = layer(h)
    h = given_condition(h, condition)
    for _ in range(count):
        h = hidden_of(h)
        features.append(h)
    encoder = network_of([x, *condition], features, "encoder")

    def network(name, sizes, units, last=None):
        inputs, joined = _joined([(size,) for size in sizes], condition_size)
        return network_of(inputs, layers.Dense(units, **(last or {}))(hidden_of(joined)), name)

    inference, generation, top_down = [], [], []
    for number, size in enumerate(latent_sizes):
        top = number == count - 1
        seen = [hidden] if top or form == "precision" else [hidden, hidden]
        # A residual of zeros starts q_l at p_l.
        last = {"kernel_initializer": "zeros"} if len(seen) > 1 else {}
        inference.append(network(f"inference_{number + 1}", seen, 2 * size, last))
        if not top:
            generation.append(network(f"generation_{number + 1}", [hidden], 2 * size))
        seen = [size] if top else [size, hidden]
        if number:
            top_down.append(network(f"top_down_{number + 1}", seen, hidden))
    shapes = [(latent_sizes[0],), (hidden,)][: 1 + (count > 1)]
    inputs, values = _joined(shapes, condition_size)
    for _ in range(2):
        values = hidden_of(values)
    total = math.prod(output_shape)
    values = layers.Dense(total, bias_initializer=initial_bias(bias), name="params")(values)
    decoder = network_of(inputs, layers.Reshape(output_shape)(values), "decoder")
    top_down.insert(0, decoder)
    return LadderNetworks(encoder, inference, generation, top_down)


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
    if len(x_shape) != 3:
        raise InvalidArgument(
            f"`residual_ladder` got the shape {tuple(x_shape)}; expected (H, W, C) of a picture. "
            "Use `dense_ladder` for vectors and series."
        )
    count = len(latent_channels)
    if len(strides) != count:
        raise InvalidArgument(
            f"There are {len(strides)} strides for {count} layers of latents; expected one for "
            "each."
        )
    if isinstance(filters, int):
        filters = [filters] * (count + 1)
    if len(filters) != count + 1:
        raise InvalidArgument(
            f"`filters` is {list(filters)} with {count} layers of latents; expected one number, or "
            f"{count + 1}: one for the grid of x and one for each layer."
        )
    blocks = partial(_blocks, count=num_blocks, activation=activation, dropout=dropout)
    encoder = _way_up(x_shape, strides, filters, blocks, activation, condition_size, missing)
    states = [tuple(h.shape[1:]) for h in encoder.outputs]
    inference, generation, top_down = [], [], []
    for number, channels in enumerate(latent_channels):
        top, state = number == count - 1, states[number]
        seen = [state] if top or form == "precision" else [state, state]
        start = "zeros" if len(seen) > 1 else "glorot_uniform"
        name = f"{number + 1}"
        head = partial(
            _head, channels=2 * channels, activation=activation, condition=condition_size
        )
        inference.append(head(f"inference_{name}", seen, start=start))
        if not top:
            generation.append(head(f"generation_{name}", [state]))
        z = (*state[:-1], channels)
        top_down.append(
            _step_down(
                f"top_down_{name}",
                [z] if top else [z, state],
                filters[number + 1],
                filters[number],
                blocks,
                activation,
                strides[number],
                None if number else (output_channels, bias),
                condition_size,
            )
        )
    return LadderNetworks(encoder, inference, generation, top_down)


def _way_up(x_shape, strides, filters, blocks, activation, condition_size, missing):
    """Return the network from x to h_1, …, h_L."""
    height, width, _ = x_shape
    features, h = [], keras.Input(x_shape)
    inputs, condition = [h], condition_input(condition_size)
    for layer in of_examples(missing):
        h = layer(h)
    h = layers.Conv2D(filters[0], 3, padding="same", activation=activation)(h)
    h = given_condition(h, condition)
    for stride, channels in zip(strides, filters[1:], strict=True):
        if height % stride or width % stride:
            raise InvalidArgument(
                f"Features of {height}×{width} cannot be divided by the stride {stride} of "
                f"{tuple(strides)}. Pad the pictures, or use a stride of 1."
            )
        height, width = height // stride, width // stride
        size = 2 * stride - 1 + stride % 2
        h = layers.Conv2D(channels, size, strides=stride, padding="same")(h)
        h = blocks(h)
        features.append(h)
    return network_of([*inputs, *condition], features, "encoder")


def _blocks(x, count, activation, dropout):
    filters = x.shape[-1]
    for _ in range(count):
        y = layers.Activation(activation)(x)
        y = layers.Conv2D(filters, 3, padding="same", activation=activation)(y)
        if dropout:
            y = layers.SpatialDropout2D(dropout)(y)
        y = layers.Conv2D(filters, 3, padding="same", kernel_initializer="zeros")(y)
        x = layers.Add()([x, y])
    return x


def _joined(shapes, condition_size):
    """Return the inputs of a network, and the values among them joined, given the condition."""
    inputs, condition = [keras.Input(shape) for shape in shapes], condition_input(condition_size)
    joined = layers.Concatenate()(inputs) if len(inputs) > 1 else inputs[0]
    return [*inputs, *condition], given_condition(joined, condition)


def _head(name, shapes, channels, activation, condition, start="glorot_uniform"):
    """Return a network from features to parameters on the same grid."""
    inputs, x = _joined(shapes, condition)
    filters = shapes[0][-1]
    x = layers.Activation(activation)(x)
    x = layers.Conv2D(filters, 3, padding="same", activation=activation)(x)
    return network_of(inputs, layers.Conv2D(channels, 1, kernel_initializer=start)(x), name)


def _step_down(name, shapes, filters, next_filters, blocks, activation, stride, output, condition):
    """Return the network of a next state on the finer grid, or of the output."""
    inputs, x = _joined(shapes, condition)
    x = layers.Conv2D(filters, 1)(x)
    if len(shapes) > 1:
        x = layers.Add()([x, inputs[1]])
    x = blocks(x)
    if stride > 1:
        x = layers.Conv2DTranspose(next_filters, 2 * stride, strides=stride, padding="same")(x)
    elif next_filters != filters:
        x = layers.Conv2D(next_filters, 1)(x)
    if output is None:
        return network_of(inputs, x, name)
    channels, bias = output
    x = layers.Activation(activation)(blocks(x))
    last = {"bias_initializer": initial_bias(bias), "name": "params"}
    return network_of(inputs, layers.Conv2D(channels, 3, padding="same", **last)(x), "decoder")
