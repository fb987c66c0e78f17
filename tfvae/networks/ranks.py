"""Convolutions over lines and over grids of sites: series `[T, C]`, and pictures `[H, W, C]`."""

import functools
from collections.abc import Callable
from typing import NamedTuple

from keras import layers

from tfvae.errors import InvalidArgument


class Convolutions(NamedTuple):
    """The Keras layers for one number of axes, with channels last whatever Keras's default is."""

    forward: Callable
    transposed: Callable
    crop: Callable
    pad: Callable
    dropout: Callable  # of whole channels


def _channels_last(layer):
    return functools.partial(layer, data_format="channels_last")


SERIES = Convolutions(
    _channels_last(layers.Conv1D),
    _channels_last(layers.Conv1DTranspose),
    layers.Cropping1D,
    _channels_last(layers.ZeroPadding1D),
    layers.SpatialDropout1D,
)
PICTURES = Convolutions(
    _channels_last(layers.Conv2D),
    _channels_last(layers.Conv2DTranspose),
    _channels_last(layers.Cropping2D),
    _channels_last(layers.ZeroPadding2D),
    _channels_last(layers.SpatialDropout2D),
)
_BY_NUMBER = {1: SERIES, 2: PICTURES}


def convolutions(shape) -> Convolutions:
    """Return the layers for values of a shape, whose last axis are channels.

    Raises:
        InvalidArgument: a shape of neither series nor pictures.
    """
    if len(shape) - 1 not in _BY_NUMBER:
        raise InvalidArgument(
            f"A convolutional network got the shape {tuple(shape)}; expected (T, C) of a series or "
            "(H, W, C) of a picture. Use a dense network for vectors."
        )
    return _BY_NUMBER[len(shape) - 1]


def crop(shape, wanted) -> list:
    """Return the layer that cuts the middle out, to sites of a wanted shape; none for all."""
    extra = [size - part for size, part in zip(shape, wanted, strict=True)]
    ends = [(each // 2, each - each // 2) for each in extra]
    if not any(extra):
        return []
    layer = _BY_NUMBER[len(ends)].crop
    return [layer(ends[0] if len(ends) == 1 else ends)]
