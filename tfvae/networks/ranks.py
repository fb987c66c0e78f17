"""Convolutions over lines and over grids of sites: series `[T, C]`, and pictures `[H, W, C]`."""

from typing import NamedTuple

from keras import layers

from tfvae.errors import InvalidArgument


class Convolutions(NamedTuple):
    """The Keras layers for one number of axes."""

    forward: type
    transposed: type
    crop: type
    dropout: type  # of whole channels


_BY_NUMBER = {
    1: Convolutions(
        layers.Conv1D, layers.Conv1DTranspose, layers.Cropping1D, layers.SpatialDropout1D
    ),
    2: Convolutions(
        layers.Conv2D, layers.Conv2DTranspose, layers.Cropping2D, layers.SpatialDropout2D
    ),
}


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
