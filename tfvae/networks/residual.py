"""Fully convolutional residual networks between images or series and grids of latent vectors.

Source: van den Oord et al. 2017, "Neural discrete representation learning", sec. 4.1.
"""

import keras
import numpy as np
from keras import layers

from tfvae.errors import InvalidArgument
from tfvae.networks.ends import (
    condition_input,
    given_condition,
    initial_bias,
    network_of,
    of_examples,
    with_dropout,
)
from tfvae.networks.ranks import convolutions


def residual_encoder(
    x_shape: tuple[int, ...],
    embedding_dim: int | None,
    filters: int = 128,
    num_downsamplings: int = 2,
    num_blocks: int = 2,
    block_filters: int = 32,
    *,
    dropout: float = 0.0,
    condition_size: int = 0,
    missing: bool = False,
    name: str = "encoder",
) -> keras.Model:
    """x `[B, H, W, C]` → stride-2 4×4 convolutions → residual blocks → `[B, h, w, embedding_dim]`.

    A series `[B, T, C]` becomes a line `[B, t, embedding_dim]`, by convolutions over time of the
    same widths. h = H / 2^num_downsamplings. Of several stride-2 convolutions the first has half
    the filters. The defaults are those of the authors' example for CIFAR-10 (Sonnet,
    `vqvae_example`); in the paper all layers have 256 filters.

    Args:
        x_shape: shape of one image, (H, W, C), or of one series, (T, C).
        embedding_dim: channels of the output, by a 1×1 convolution; None to end in `filters`
            features.
        filters: channels of the hidden layers.
        num_downsamplings: how often height and width are halved.
        num_blocks: residual blocks.
        block_filters: channels inside a residual block.
        dropout: share of the channels inside every residual block that are dropped in training.
        condition_size: C, the width of a second input for a condition, which every site of the
            hidden grid is given; 0 for none.
        missing: whether x may hold missing values, NaN: the first layer is then `ZeroImputation`.
        name: of the model.

    Raises:
        InvalidArgument: a height, width or length that cannot be halved so often.
    """
    convolution = convolutions(x_shape).forward
    factor, is_picture = 2**num_downsamplings, len(x_shape) == 3
    if any(size % factor for size in x_shape[:-1]):
        what = "Images" if is_picture else "Series"
        sizes = "height and width" if is_picture else "a length"
        raise InvalidArgument(
            f"{what} of {'×'.join(map(str, x_shape[:-1]))} cannot be halved {num_downsamplings} "
            f"times; expected {sizes} that {factor} divides. Use fewer downsamplings, or pad the "
            f"{what.lower()}."
        )
    x = inputs = keras.Input(x_shape)
    for layer in of_examples(missing):
        x = layer(x)
    for level in range(num_downsamplings):
        channels = filters // 2 if level == 0 and num_downsamplings > 1 else filters
        x = convolution(channels, 4, strides=2, padding="same", activation="relu")(x)
    x = convolution(filters, 3, padding="same", activation="relu")(x)
    condition = condition_input(condition_size)
    x = given_condition(x, condition)
    x = _residual_stack(x, filters, num_blocks, block_filters, dropout)
    if embedding_dim is not None:
        x = convolution(embedding_dim, 1, name="embedding")(x)
    return network_of([inputs, *condition], x, name)


def residual_decoder(
    latent_shape: tuple[int, ...],
    output_channels: int,
    filters: int = 128,
    num_upsamplings: int = 2,
    num_blocks: int = 2,
    block_filters: int = 32,
    *,
    dropout: float = 0.0,
    bias: np.ndarray | None = None,
    condition_size: int = 0,
    name: str = "decoder",
) -> keras.Model:
    """The mirror of `residual_encoder`: z `[B, h, w, D]` → `[B, H, W, output_channels]`.

    Args:
        latent_shape: (h, w, D), or (t, D).
        output_channels: `likelihood.params_size(C)` for images of C channels.
        filters: channels of the hidden layers.
        num_upsamplings: how often height and width are doubled, by transposed convolutions.
        num_blocks: residual blocks.
        block_filters: channels inside a residual block.
        dropout: as in `residual_encoder`.
        bias: initial value of the outputs' bias, one number for each output channel, or None.
        condition_size: as in `residual_encoder`.
        name: of the model.
    """
    convolution, transposed, *_ = convolutions(latent_shape)
    x = inputs = keras.Input(latent_shape)
    x = convolution(filters, 3, padding="same")(x)
    condition = condition_input(condition_size)
    x = given_condition(x, condition)
    x = _residual_stack(x, filters, num_blocks, block_filters, dropout)
    for level in range(num_upsamplings - 1, 0, -1):
        channels = filters // 2 if level == 1 else filters
        x = transposed(channels, 4, strides=2, padding="same", activation="relu")(x)
    last = {"padding": "same", "bias_initializer": initial_bias(bias), "name": "params"}
    if num_upsamplings:
        x = transposed(output_channels, 4, strides=2, **last)(x)
    else:
        x = convolution(output_channels, 3, **last)(x)
    return network_of([inputs, *condition], x, name)


def _residual_stack(x, filters, num_blocks, block_filters, dropout):
    kinds = convolutions(x.shape[1:])
    for _ in range(num_blocks):
        y = layers.Activation("relu")(x)
        inner = kinds.forward(block_filters, 3, padding="same", activation="relu")
        for layer in with_dropout([inner], dropout, kinds.dropout):
            y = layer(y)
        y = kinds.forward(filters, 1)(y)
        x = layers.Add()([x, y])
    return layers.Activation("relu")(x)
