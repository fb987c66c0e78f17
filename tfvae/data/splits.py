"""Training, validation and test examples, and how data without these parts is split."""

import dataclasses
import math

import numpy as np

from tfvae.data.examples import Examples, stored_maximum
from tfvae.data.source import Source, select
from tfvae.errors import InvalidData
from tfvae.kinds import plural
from tfvae.random import Stream
from tfvae.schema import Schema
from tfvae.standardization import Standardization

SPLITS = ("train", "validation", "test")
_MOST_HELD_OUT = 10_000


@dataclasses.dataclass(frozen=True)
class Splits:
    """The three splits of a dataset, and its name.

    Attributes:
        name: of the dataset.
        train: to train on.
        validation: to choose by.
        test: to measure.
        full_range: whether the pixels, as they are stored, are integers whose range is that of
            their type; see `load`.
    """

    name: str
    train: Examples
    validation: Examples
    test: Examples
    full_range: bool = False

    def __repr__(self):
        counts = ", ".join(f"{len(getattr(self, part)):,} {part}" for part in SPLITS)
        return f"<Splits of {self.name!r}: {plural(self.kind)} of shape {self.shape}; {counts}>"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example; of an image, (H, W, C)."""
        return self.train.shape

    @property
    def kind(self) -> str:
        """What an example is: "image", "vector", "series" or "tokens"."""
        return self.train.kind

    @property
    def has_missing(self) -> bool:
        """Whether values of a table are missing, NaN."""
        parts = (self.train, self.validation, self.test)
        return self.schema is not None and any(np.isnan(part.values).any() for part in parts)

    @property
    def schema(self) -> Schema | None:
        """The columns of a table, with the statistics of the training rows; else None."""
        return self.train.schema

    @property
    def standardization(self) -> Standardization | None:
        """The mean and scale of the training examples, where all are standardized; else None."""
        return self.train.standardization

    @property
    def condition(self) -> int | tuple[int] | None:
        """What the conditions are, as the models' `condition=` takes it; None if there are none."""
        parts = [part.conditions for part in (self.train, self.validation, self.test)]
        if parts[0] is None:
            return None
        if parts[0].ndim == 2:
            return parts[0].shape[1:]
        column = None if self.schema is None else self.schema.condition
        if column is not None:  # rows of some of its categories may be in no split
            return len(column.categories)
        return 1 + max(int(part.max()) for part in parts)

    @property
    def num_values(self) -> int:
        """How many values an example has, the number of dimensions in "bits per dimension"."""
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Part:
    """Examples as they are stored, their conditions or None, and their kind.

    That is a split, or what is to be split.
    """

    values: np.ndarray | Source
    conditions: np.ndarray | None = None
    kind: str = "image"

    def select(self, index: np.ndarray) -> "Part":
        """Return some of it, by ascending numbers."""
        y = None if self.conditions is None else self.conditions[index]
        return dataclasses.replace(self, values=select(self.values, index), conditions=y)

    def hold_out(self, count: int) -> tuple["Part", "Part"]:
        """Return all but the last examples, and these last ones."""
        index = np.arange(len(self.values))
        return self.select(index[:-count]), self.select(index[-count:])


def join(
    name: str, parts: dict[str, Part], seed: int, fill: bool = False, full_range: bool = False
) -> Splits:
    """Make `Splits` of parts that are named "train", "validation" and "test", or of one part.

    Args:
        name: of the dataset.
        parts: by name.
        seed: decides the splits of one part.
        fill: whether "train" gives up examples for what is missing beside it: its last tenth, at
            most 10,000, for "validation", and the last tenth for "test".
        full_range: whether integer pixels have the range of their type whatever they are.

    Raises:
        InvalidData: other parts, too few examples, or pixels of several types.
    """
    if fill and "train" in parts and set(parts) < set(SPLITS):
        parts = _filled(parts)
    if set(parts) == set(SPLITS):
        _check_pixels(name, parts)
        given = [parts[key] for key in SPLITS]
        largest = max(stored_maximum(part.values, part.kind, full_range) for part in given)
        return _splits(name, given, largest)
    if len(parts) == 1:
        (part,) = parts.values()
        return by_shuffle(name, part, stored_maximum(part.values, part.kind, full_range), seed)
    raise InvalidData(
        f"{name} holds {', '.join(sorted(parts)) or 'nothing'}; expected 'train', 'validation' "
        "and 'test', or one set of examples that is then split."
    )


def _check_pixels(name, parts):
    """Refuse pictures whose pixels have several types, each of which says what white is."""
    train = parts["train"]
    for key in SPLITS:
        part = parts[key]
        if part.kind == "image" and part.values.dtype != train.values.dtype:
            raise InvalidData(
                f"The {key} split of {name} has pixels of the type {part.values.dtype}, the "
                f"training split of {train.values.dtype}; expected one type, which says what value "
                "is white. Convert the pictures of one of them."
            )


def by_shuffle(name: str, part: Part, max_value: float, seed: int) -> Splits:
    """Split into 80% training, 10% validation and 10% test examples, and their conditions.

    Raises:
        InvalidData: there are too few examples to split.
    """
    count = len(part.values)
    if count < 10:
        raise InvalidData(
            f"{name!r} has {count} examples; at least 10 are needed to split them into training, "
            "validation and test. Give the splits yourself (train/, validation/, test/)."
        )
    order = np.random.default_rng([seed, int(Stream.SHUFFLE)]).permutation(count)
    held_out = max(1, round(count / 10))
    test, validation, train = np.split(order, [held_out, 2 * held_out])
    # Sorted, so that the content of a split is all that the shuffle decides.
    indices = (np.sort(index) for index in (train, validation, test))
    return _splits(name, [part.select(index) for index in indices], max_value)


def _filled(parts):
    train, found = parts["train"], dict(parts)
    sizes = {"validation": min(_MOST_HELD_OUT, len(train.values) // 10)}
    sizes["test"] = max(1, len(train.values) // 10)
    for key in ("validation", "test"):
        if key not in found:
            if not 0 < sizes[key] < len(train.values):
                raise InvalidData(
                    f"There are {len(train.values)} training examples and no {key} split; expected "
                    "at least 10, to hold a tenth of them out."
                )
            train, found[key] = train.hold_out(sizes[key])
    return {**found, "train": train}


def _splits(name, parts, max_value):
    examples = (Examples(p.values, max_value, conditions=p.conditions, kind=p.kind) for p in parts)
    dtype = parts[0].values.dtype
    full = parts[0].kind == "image" and dtype.kind in "ui" and max_value == np.iinfo(dtype).max
    return Splits(name, *examples, full_range=bool(full))
