"""What the networks of all ladder variational autoencoders share."""

from typing import NamedTuple

import keras
from keras import layers

from tfvae.networks.ends import condition_input, given_condition

FORMS = ("residual", "precision")


class LadderNetworks(NamedTuple):
    """What `tfvae.LadderVAE` is made of, in the order of its arguments: `LadderVAE(*networks)`."""

    encoder: keras.Model
    inference: list[keras.Model]
    generation: list[keras.Model]
    top_down: list[keras.Model]


def joined_inputs(
    shapes: list[tuple[int, ...]], condition_size: int
) -> tuple[list[keras.KerasTensor], keras.KerasTensor]:
    """Return the inputs of a network, and the values among them joined, given the condition."""
    inputs, condition = [keras.Input(shape) for shape in shapes], condition_input(condition_size)
    joined = layers.Concatenate()(inputs) if len(inputs) > 1 else inputs[0]
    return [*inputs, *condition], given_condition(joined, condition)
