"""Examples of a split, in memory or read as they are needed, and the batches made of them."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from tfvae.data.batches import Batches, shuffled_batches
from tfvae.data.reading import PARALLEL_READS, reader
from tfvae.data.source import Source, in_parts, select, spread
from tfvae.kinds import plural
from tfvae.schema import Schema
from tfvae.standardization import Standardization


@dataclasses.dataclass(frozen=True)
class Examples:
    """Examples of one split.

    Attributes:
        values: `[N, *shape]`, of the dtype in which they are stored: an array, or a `Source`, which
            reads them as they are indexed.
        max_value: the stored value that stands for 1.
        resample: whether `batches` draws binary pixels anew in every epoch, with the intensities
            as probabilities.
        conditions: what is known of each example, its label `[N]` int32 or a vector `[N, C]`
            float32; None if nothing is.
        kind: what an example is: "image" (`[H, W, C]`), "vector" (numbers without an order),
            "series" (`[T, C]`, T steps of C values) or "tokens" (`[T]` whole numbers from 0 on, of
            which the largest, `max_value`, stands for 1).
        schema: what the values of a vector are, where these are the columns of a table: `x =
            schema.encode(table)` and `schema.decode(x)`; else None.
        standardization: what was done to the values of vectors and series, where they are
            standardized; else None.
    """

    values: np.ndarray | Source
    max_value: float = 1.0
    resample: bool = False
    conditions: np.ndarray | None = None
    kind: str = "image"
    schema: Schema | None = None
    standardization: Standardization | None = None

    def __len__(self):
        return len(self.values)

    def __repr__(self):
        stored = "in memory" if self.in_memory else "read as they are needed"
        beside = "" if self.conditions is None else ", with conditions"
        return (
            f"<Examples: {len(self):,} {plural(self.kind)} of shape {self.shape}, "
            f"{self.values.dtype}, {stored}{beside}>"
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example; of an image, (H, W, C)."""
        return self.values.shape[1:]

    @property
    def in_memory(self) -> bool:
        """Whether the examples are held in memory."""
        return isinstance(self.values, np.ndarray)

    def numpy(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return examples `start` to `stop` as float32; pixels and tokens in [0, 1]."""
        return self.scaled(self.values[start:stop])

    def first(self, count: int) -> "Examples":
        """Return the first examples alone, or all of them where there are no more."""
        index = np.arange(min(count, len(self)))
        y = None if self.conditions is None else self.conditions[index]
        return dataclasses.replace(self, values=select(self.values, index), conditions=y)

    def sample(self, count: int) -> np.ndarray:
        """Return at most `count` examples, evenly spaced over the split, as float32."""
        return self.scaled(self.values[spread(len(self), count)])

    def mean(self, count: int) -> np.ndarray:
        """Return the mean of at most `count` examples, evenly spaced, `shape` in float64.

        Missing values are left out; it is NaN where all are missing.
        """
        index = spread(len(self), count)
        total, number = np.zeros(self.shape), np.zeros(self.shape, int)
        for start in range(0, len(index), 500):
            part = self.scaled(self.values[index[start : start + 500]])
            observed = ~np.isnan(part)
            total += part.sum(0, np.float64, where=observed)
            number += observed.sum(0)
        return np.where(number, total / np.maximum(number, 1), np.nan)

    def conditions_of(
        self, model: keras.Model, start: int = 0, stop: int | None = None
    ) -> np.ndarray | None:
        """Return what a model with a condition is given beside examples `start` to `stop`.

        That is None for a model without one, and where nothing is known of the examples.
        """
        if self.conditions is None or model.condition is None:
            return None
        return self.conditions[start:stop]

    def dataset(self, batch_size: int) -> tf.data.Dataset:
        """Return the batches in order, the last one smaller if need be: to evaluate on.

        They are pairs of examples and conditions where there are conditions.
        """
        read, y = reader(self.values), self.conditions
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
        is left out, other examples each time. They are pairs as in `dataset`. Several workers get
        parts of the same batches; see `shuffled_batches`.

        Raises:
            InvalidData: there are fewer examples than a batch holds.
        """

        def prepare(values, uniforms):
            x = self._to_float(values)
            return tf.cast(uniforms() < x, tf.float32) if self.resample else x

        return shuffled_batches(
            self.values,
            batch_size,
            seed,
            prepare,
            self.conditions,
            worker,
            num_workers,
            self.schema,
            self.standardization,
        )

    def extent(self) -> tuple[float, float]:
        """Return the smallest and the largest stored value.

        All examples are looked at, a part at a time.
        """
        # Of what is not missing, NaN.
        ends = [
            [f.reduce(part, axis=None) for f in (np.fmin, np.fmax)]
            for part in in_parts(self.values)
        ]
        lows, highs = zip(*ends, strict=True)
        return float(min(lows)), float(max(highs))

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Return stored values as float32, `max_value` as 1."""
        return values.astype(np.float32) / np.float32(self.max_value)

    def _to_float(self, values):
        x = tf.cast(values, tf.float32)
        # The same to the last bit as `scaled`.
        return x if self.max_value == 1 else x / np.float32(self.max_value)


def stored_maximum(
    values: np.ndarray | Source, kind: str = "image", full_range: bool = False
) -> float:
    """Return the stored value that stands for 1.

    Floats are taken as they are, and so are vectors and series. Of integer pixels it is the largest
    of their type, unless all are 0 or 1 and `full_range` is false, and of tokens the largest that
    there is.
    """
    dtype = np.dtype(values.dtype)
    if kind in ("vector", "series") or dtype.kind not in "ui" or not len(values):
        return 1.0
    if kind == "tokens":
        return max(1.0, Examples(values).extent()[1])
    return float(np.iinfo(dtype).max) if full_range or is_above_1(values) else 1.0


def is_above_1(values: np.ndarray | Source) -> bool:
    """Whether a stored value is above 1; most often one of the first part is."""
    return any(part.max() > 1 for part in in_parts(values))


def in_float32(examples: Examples) -> Examples:
    """Return examples whose values in memory take no more than the float32 of a training."""
    if not examples.in_memory or examples.values.dtype != np.float64:
        return examples
    return dataclasses.replace(examples, values=examples.values.astype(np.float32))
