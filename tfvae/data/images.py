"""Images of a split, in memory or read as they are needed, and the batches made of them."""

import dataclasses

import numpy as np
import tensorflow as tf

from tfvae.data.batches import Batches, shuffled_batches
from tfvae.data.reading import PARALLEL_READS, reader
from tfvae.data.source import Source, in_parts, select, spread


@dataclasses.dataclass(frozen=True)
class Images:
    """Images of one split.

    Attributes:
        pixels: `[N, H, W, C]`, of the dtype in which they are stored: an array, or a `Source`,
            which reads them as they are indexed.
        max_value: the stored value that stands for 1.
        resample: whether `batches` draws binary pixels anew in every epoch, with the intensities
            as probabilities.
        conditions: what is known of each image, its label `[N]` int32 or a vector `[N, C]` float32;
            None if nothing is.
    """

    pixels: np.ndarray | Source
    max_value: float = 1.0
    resample: bool = False
    conditions: np.ndarray | None = None

    def __len__(self):
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, (H, W, C)."""
        return self.pixels.shape[1:]

    @property
    def in_memory(self) -> bool:
        """Whether the images are held in memory."""
        return isinstance(self.pixels, np.ndarray)

    def numpy(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return images `start` to `stop` as float32 in [0, 1]."""
        return self.scaled(self.pixels[start:stop])

    def first(self, count: int) -> "Images":
        """Return the first images alone, or all of them where there are no more."""
        index = np.arange(min(count, len(self)))
        y = None if self.conditions is None else self.conditions[index]
        return dataclasses.replace(self, pixels=select(self.pixels, index), conditions=y)

    def sample(self, count: int) -> np.ndarray:
        """Return at most `count` images, evenly spaced over the split, as float32 in [0, 1]."""
        return self.scaled(self.pixels[spread(len(self), count)])

    def mean(self, count: int) -> np.ndarray:
        """Return the mean of at most `count` images, evenly spaced, `(H, W, C)` in float64."""
        index = spread(len(self), count)
        total = np.zeros(self.shape)
        for start in range(0, len(index), 500):
            total += self.scaled(self.pixels[index[start : start + 500]]).sum(0, np.float64)
        return total / max(1, len(index))

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
        read, y = reader(self.pixels), self.conditions
        y = None if y is None else tf.constant(y)

        def batch(index):
            x = self._to_float(read(index))
            return x if y is None else (x, tf.gather(y, index))

        parallel = None if self.in_memory else PARALLEL_READS
        index = tf.data.Dataset.range(len(self)).batch(batch_size)
        return index.map(batch, num_parallel_calls=parallel).prefetch(2)

    def batches(
        self, batch_size: int, seed: int = 0, worker: int = 0, num_workers: int = 1
    ) -> Batches:
        """Return the shuffled batches of every epoch: to train on.

        Order and drawn pixels are functions of the seed and the epoch. What does not fill a batch
        is left out, other images each time. They are pairs as in `dataset`. Several workers get
        parts of the same batches; see `shuffled_batches`.

        Raises:
            InvalidData: there are fewer images than a batch holds.
        """

        def prepare(pixels, uniforms):
            x = self._to_float(pixels)
            return tf.cast(uniforms() < x, tf.float32) if self.resample else x

        return shuffled_batches(
            self.pixels, batch_size, seed, prepare, self.conditions, worker, num_workers
        )

    def extent(self) -> tuple[float, float]:
        """Return the smallest and the largest stored value.

        All images are looked at, a part at a time; of integers that are not in memory, at most 1000
        images, evenly spaced.
        """
        parts = in_parts(self.pixels)
        if not self.in_memory and np.dtype(self.pixels.dtype).kind in "ui":
            parts = [self.pixels[spread(len(self), 1000)]]
        lows, highs = zip(*((part.min(), part.max()) for part in parts), strict=True)
        return float(min(lows)), float(max(highs))

    def scaled(self, pixels: np.ndarray) -> np.ndarray:
        """Return stored pixels as float32 in [0, 1]."""
        return pixels.astype(np.float32) / np.float32(self.max_value)

    def _to_float(self, pixels):
        x = tf.cast(pixels, tf.float32)
        # The same to the last bit as `scaled`.
        return x if self.max_value == 1 else x / np.float32(self.max_value)


def stored_maximum(pixels: np.ndarray | Source) -> float:
    """Return the stored value that stands for 1.

    Floats are taken as they are; integers by the range of their type, unless all are 0 or 1.
    """
    dtype = np.dtype(pixels.dtype)
    if dtype.kind not in "ui" or not len(pixels) or Images(pixels).extent()[1] <= 1:
        return 1.0
    return float(np.iinfo(dtype).max)
