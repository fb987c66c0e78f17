"""Dense networks of a ladder variational autoencoder, for vectors."""

import math
from collections.abc import Callable

import keras
import numpy as np
from keras import layers

from tfvae._plain.checks import choice
from tfvae.networks.dense import hidden_layer
from tfvae.networks.ends import (
    condition_input,
    given_condition,
    initial_bias,
    network_of,
    of_examples,
    with_dropout,
)
from tfvae.networks.ladder import FORMS, LadderNetworks, joined_inputs


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
    encoder = _way_up(x_shape, count, hidden_of, condition_size, missing)
    inference, generation, top_down = [], [], []
    for number, size in enumerate(latent_sizes):
        top = number == count - 1
        seen = [hidden] if top or form == "precision" else [hidden, hidden]
        # A residual of zeros starts q_l at p_l.
        start = "zeros" if len(seen) > 1 else "glorot_uniform"
        of_layer = [f"{part}_{number + 1}" for part in ("inference", "generation", "top_down")]
        inference.append(_layer(of_layer[0], seen, 2 * size, hidden_of, condition_size, start))
        if not top:
            generation.append(_layer(of_layer[1], [hidden], 2 * size, hidden_of, condition_size))
        if number:
            seen = [size] if top else [size, hidden]
            top_down.append(_layer(of_layer[2], seen, hidden, hidden_of, condition_size))
    seen = [latent_sizes[0]] if count == 1 else [latent_sizes[0], hidden]
    decoder = _decoder(seen, output_shape, hidden_of, condition_size, bias)
    return LadderNetworks(encoder, inference, generation, [decoder, *top_down])


def _way_up(x_shape, count, hidden_of, condition_size, missing):
    """Return the network from x to h_1, …, h_L."""
    features, x, condition = [], keras.Input(x_shape), condition_input(condition_size)
    h = x
    for layer in [*of_examples(missing), layers.Flatten("channels_last")]:
        h = layer(h)
    h = given_condition(h, condition)
    for _ in range(count):
        h = hidden_of(h)
        features.append(h)
    return network_of([x, *condition], features, "encoder")


def _layer(name, sizes, units, hidden_of, condition_size, start="glorot_uniform"):
    """Return a network of one hidden layer from vectors of these sizes."""
    inputs, joined = joined_inputs([(size,) for size in sizes], condition_size)
    output = layers.Dense(units, kernel_initializer=start)(hidden_of(joined))
    return network_of(inputs, output, name)


def _decoder(sizes, output_shape, hidden_of, condition_size, bias):
    """Return the network from z_1 and, of several layers, d_1 to the parameters of p(x|z)."""
    inputs, values = joined_inputs([(size,) for size in sizes], condition_size)
    for _ in range(2):
        values = hidden_of(values)
    total = math.prod(output_shape)
    values = layers.Dense(total, bias_initializer=initial_bias(bias), name="params")(values)
    return network_of(inputs, layers.Reshape(output_shape)(values), "decoder")
