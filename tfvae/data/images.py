"""Images of a split in memory, and the batches that training and evaluation draw from them."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from tfvae.data.batches import Batches, shuffled_batches
from tfvae.random import Stream, fold_in, make_seed


@dataclasses.dataclass(frozen=True)
class Images:
    """Images of one split.

    Attributes:
        pixels: `[N, H, W, C]`, of the dtype in which they are stored.
        max_value: the stored value that stands for 1.
        resample: whether `batches` draws binary pixels anew in every epoch, with the intensities
            as probabilities.
        conditions: what is known of each image, its label `[N]` int32 or a vector `[N, C]` float32;
            None if nothing is.
    """

    pixels: np.ndarray
    max_value: float = 1.0
    resample: bool = False
    conditions: np.ndarray | None = None

    def __len__(self):
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, (H, W, C)."""
        return self.pixels.shape[1:]

    def numpy(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return images `start` to `stop` as float32 in [0, 1]."""
        return self.pixels[start:stop].astype(np.float32) / np.float32(self.max_value)

    def conditions_of(self, model, start: int = 0, stop: int | None = None) -> np.ndarray | None:
        """Return what a model with a condition is given beside images `start` to `stop`.

        That is None for a model without one, and where nothing is known of the images.
        """
        if self.conditions is None or model.condition is None:
            return None
        return self.conditions[start:stop]

    def dataset(self, batch_size: int) -> tf.data.Dataset:
        """Return the batches in order, the last one smaller if need be: to evaluate on.

        They are pairs of images and conditions where there are conditions.
        """
        if self.conditions is None:
            pixels = tf.data.Dataset.from_tensor_slices(self.pixels)
            return pixels.batch(batch_size).map(self._to_float).prefetch(2)
        pairs = tf.data.Dataset.from_tensor_slices((self.pixels, self.conditions))
        return pairs.batch(batch_size).map(lambda x, y: (self._to_float(x), y)).prefetch(2)

    def batches(self, batch_size: int, seed: int = 0) -> Batches:
        """Return the shuffled batches of every epoch: to train on.

        Order and drawn pixels are functions of the seed and the epoch. What does not fill a batch
        is left out, other images each time. They are pairs as in `dataset`.

        Raises:
            InvalidData: there are fewer images than a batch holds.
        """
        pixel_seed = fold_in(make_seed(seed), int(Stream.BINARIZE))

        def prepare(pixels, epoch, number):
            x = self._to_float(pixels)
            if self.resample:
                noise_seed = fold_in(pixel_seed, epoch, number)
                noise = tf.random.stateless_uniform(tf.shape(x), noise_seed)
                x = tf.cast(noise < x, tf.float32)
            return x

        return shuffled_batches(self.pixels, batch_size, seed, prepare, self.conditions)

    def _to_float(self, pixels):
        x = tf.cast(pixels, tf.float32)
        return x if self.max_value == 1 else x * np.float32(1.0 / self.max_value)


def stored_maximum(pixels: np.ndarray) -> float:
    """Return the stored value that stands for 1.

    Floats are taken as they are; integers by the range of their type, unless all are 0 or 1.
    """
    if pixels.dtype.kind not in "ui" or pixels.max(initial=0) <= 1:
        return 1.0
    return float(np.iinfo(pixels.dtype).max)


@dataclasses.dataclass(frozen=True)
class Splits:
    """The three splits of a dataset, and its name."""

    name: str
    train: Images
    validation: Images
    test: Images

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, (H, W, C)."""
        return self.train.shape

    @property
    def condition(self) -> int | tuple[int] | None:
        """What the conditions are, as the models' `condition=` takes it; None if there are none."""
        parts = [part.conditions for part in (self.train, self.validation, self.test)]
        if parts[0] is None:
            return None
        if parts[0].ndim == 2:
            return parts[0].shape[1:]
        return 1 + max(int(part.max()) for part in parts)

    @property
    def num_values(self) -> int:
        """H·W·C, the number of dimensions in "bits per dimension"."""
        return math.prod(self.shape)
