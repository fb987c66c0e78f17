"""Pixels that are drawn 0 or 1, with their intensities as probabilities."""

import dataclasses

import numpy as np

from tfvae.data.examples import Examples
from tfvae.data.source import Source, in_memory
from tfvae.data.splits import Splits
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.kinds import plural
from tfvae.random import Stream

BINARIZATIONS = ("none", "static", "dynamic")


class Binarized(Source):
    """Images with every pixel drawn 0 or 1, the same ones whenever an image is read.

    The noise of the images is one stream of PCG64, one number of 32 bits for each pixel in the
    order of the images, of which any part is drawn by itself.

    Args:
        images: the `Examples` whose intensities are drawn with.
        seed: decides the noise, together with `split`.
        split: the number of the split.
    """

    def __init__(self, images: Examples, seed: int, split: int):
        self.images, self.key = images, [seed, int(Stream.BINARIZE), split]
        self.name = getattr(images.values, "name", "the images")
        self.shape, self.dtype = images.values.shape, np.dtype(np.uint8)
        self.blocks = getattr(images.values, "blocks", None)

    def read(self, index):
        intensities = self.images.scaled(self.images.values[index])
        drawn = np.empty(intensities.shape, np.uint8)
        size = intensities[0].size if len(index) else 0
        generator = np.random.PCG64(self.key)
        start = generator.state
        for place, number in enumerate(index):
            if place == 0 or number != index[place - 1] + 1:
                # A step gives two numbers of 32 bits, of which the lower one comes first.
                words = int(number) * size
                generator.state = start
                generator.advance(words // 2)
                rng = np.random.Generator(generator)
                if words % 2:
                    rng.random(dtype=np.float32)
            noise = rng.random(intensities.shape[1:], np.float32)
            drawn[place] = noise < intensities[place]
        return drawn


def binarized(images: Examples, seed: int, split: int) -> np.ndarray | Source:
    """Return the drawn pixels of `Examples`, in memory where they are."""
    drawn = Binarized(images, seed, split)
    return in_memory(drawn) if images.in_memory else drawn


def binarized_splits(splits: Splits, binarization: str, seed: int) -> Splits:
    """Return splits of 0 and 1, drawn with the intensities of the given ones.

    Args:
        splits: of intensities in [0, 1].
        binarization: "static", all drawn once; or "dynamic", those to train on drawn anew in every
            epoch.
        seed: decides what is drawn once.

    Raises:
        InvalidArgument: series or tokens.
        InvalidData: values outside of [0, 1].
    """

    def draw(images, split):
        drawn = binarized(images, seed, split)
        return Examples(drawn, conditions=images.conditions, kind=images.kind)

    if splits.kind not in ("image", "vector"):
        raise InvalidArgument(
            f"{splits.name!r} holds {plural(splits.kind)}, and binarization is for intensities in "
            "[0, 1]. Use binarization 'none'."
        )
    _check_unit_range(splits)
    dynamic = dataclasses.replace(splits.train, resample=True)
    train = dynamic if binarization == "dynamic" else draw(splits.train, 0)
    others = {"validation": draw(splits.validation, 1), "test": draw(splits.test, 2)}
    return dataclasses.replace(splits, train=train, **others)


def _check_unit_range(splits):
    if splits.full_range:
        return
    for images in (splits.train, splits.validation, splits.test):
        low, high = images.extent()
        if not (low >= 0 and high <= images.max_value):
            raise InvalidData(
                f"{splits.name!r} has values from {low:g} to {high:g}; binarization expects "
                "intensities in [0, 1]. Rescale the data, or use binarization 'none'."
            )
