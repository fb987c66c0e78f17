"""Images of a split in memory, and the batches that training and evaluation draw from them."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from tfvae.errors import InvalidData
from tfvae.random import Stream, fold_in, make_seed

_BATCHES_AT_ONCE = 20


@dataclasses.dataclass(frozen=True)
class Images:
    """Images of one split.

    Attributes:
        pixels: `[N, H, W, C]`, of the dtype in which they are stored.
        max_value: the stored value that stands for 1.
        resample: whether `batches` draws binary pixels anew in every epoch, with the intensities
            as probabilities.
    """

    pixels: np.ndarray
    max_value: float = 1.0
    resample: bool = False

    def __len__(self):
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, (H, W, C)."""
        return self.pixels.shape[1:]

    def numpy(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return images `start` to `stop` as float32 in [0, 1]."""
        return self.pixels[start:stop].astype(np.float32) / np.float32(self.max_value)

    def dataset(self, batch_size: int) -> tf.data.Dataset:
        """Return the batches in order, the last one smaller if need be: to evaluate on."""
        pixels = tf.data.Dataset.from_tensor_slices(self.pixels)
        return pixels.batch(batch_size).map(self._to_float).prefetch(2)

    def batches(self, batch_size: int, seed: int, epoch: tf.Variable) -> tf.data.Dataset:
        """Return the shuffled batches of one epoch: to train on.

        Iterating it anew gives the epoch that the variable `epoch` then holds. What does not fill a
        batch is left out, other images each time.

        Raises:
            InvalidData: there are fewer images than a batch holds.
        """
        count = len(self)
        if count < batch_size:
            raise InvalidData(
                f"The training split has {count} images, fewer than the batch size {batch_size}. "
                f"Choose a batch size of at most {count}."
            )
        pixels = tf.constant(self.pixels)
        order_seed = fold_in(make_seed(seed), int(Stream.SHUFFLE))
        pixel_seed = fold_in(make_seed(seed), int(Stream.BINARIZE))
        steps = count // batch_size

        def one_epoch(_):
            now = epoch.read_value()
            keys = tf.random.stateless_uniform([count], fold_in(order_seed, now), dtype=tf.float32)
            order = tf.argsort(keys, stable=True)[: steps * batch_size]
            # Several batches at a time: for small ones, calling the function is what costs.
            chunks = tf.data.Dataset.from_tensor_slices(order).batch(_BATCHES_AT_ONCE * batch_size)
            noise_seed = fold_in(pixel_seed, now)
            return chunks.enumerate().map(lambda n, index: make_batches(noise_seed, n, index))

        def make_batches(noise_seed, number, index):
            x = self._to_float(tf.gather(pixels, index))
            if self.resample:
                noise = tf.random.stateless_uniform(tf.shape(x), fold_in(noise_seed, number))
                x = tf.cast(noise < x, tf.float32)
            return tf.reshape(x, [-1, batch_size, *self.shape])

        dataset = tf.data.Dataset.from_tensors(0).flat_map(one_epoch).unbatch()
        return dataset.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(8)

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
    def num_values(self) -> int:
        """H·W·C, the number of dimensions in "bits per dimension"."""
        return math.prod(self.shape)
