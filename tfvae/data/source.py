"""Examples that are read as they are indexed: what an array of them offers, without holding it."""

import abc
import dataclasses
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tfvae.errors import InvalidData
from tfvae.kinds import plural

# A window of a block shuffle holds at least so many examples, unless they take more than the bytes.
_EXAMPLES_IN_WINDOW = 16_384
_BYTES_IN_WINDOW = 2**28
_BYTES_AT_ONCE = 2**25
_EXAMPLES_AT_ONCE = 1000


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Runs of examples that are read as a whole, so that one alone costs as much as all of its run.

    Attributes:
        starts: the first example of every block, `[M]`, ascending from 0.
        nbytes: what all of them take in memory once read.
    """

    starts: np.ndarray
    nbytes: int

    def in_window(self, count: int) -> int:
        """Return how many blocks a window of a shuffle has, for `count` examples in all."""
        number = len(self.starts)
        wanted = math.ceil(_EXAMPLES_IN_WINDOW * number / max(count, 1))
        most = math.floor(_BYTES_IN_WINDOW * number / max(self.nbytes, 1))
        return max(1, min(wanted, most, number))


class Source(abc.ABC):
    """Examples `[N, *shape]` that stay where they are until they are indexed.

    A subclass sets the attributes and implements `read`. It is indexed as an array is along its
    first axis: by a number, a slice, or an array of numbers; negative ones count from the end.

    Attributes:
        name: what messages call it, the path of a file for instance.
        shape: (N, *shape); of images, (N, H, W, C).
        dtype: of the values.
        kind: what an example is, see `Examples`.
        blocks: `Blocks`, or None where any example is read alone.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    kind: str = "image"
    blocks: Blocks | None = None

    @abc.abstractmethod
    def read(self, index: np.ndarray) -> np.ndarray:
        """Return the examples of these numbers, `[n]` integers in any order, as `[n, *shape]`.

        Several threads may call it at once.

        Raises:
            InvalidData: one cannot be read; it is named.
        """

    def check(self, missing: bool = False) -> None:  # noqa: B027
        """Refuse what can be seen to be no examples before they are read one by one.

        Args:
            missing: whether NaN is a missing value, and no error.

        Raises:
            InvalidData: with the name of what is wrong.
        """

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        count = len(self)
        if isinstance(index, slice):
            return self.read(np.arange(*index.indices(count)))
        index = np.asarray(index)
        if index.size and not -count <= index.min() <= index.max() < count:
            raise IndexError(
                f"{self.name} has {count} examples; the numbers go from {index.min()} to "
                f"{index.max()}."
            )
        if index.size and index.min() < 0:
            index = np.where(index < 0, index + count, index)
        return self.read(index) if index.ndim else self.read(index[np.newaxis])[0]

    @property
    def nbytes(self) -> int:
        """What all examples would take in memory."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class Subset(Source):
    """Some examples of a source, in ascending order.

    Args:
        source: all of them.
        index: which of them, `[n]`, ascending.
    """

    def __init__(self, source: Source, index: np.ndarray):
        small = len(source) <= np.iinfo(np.uint32).max
        self.source, self.index = source, index.astype(np.uint32 if small else np.int64)
        self.name, self.dtype, self.kind = source.name, source.dtype, source.kind
        self.shape = (len(index), *source.shape[1:])
        if source.blocks is not None and len(index):
            starts = np.unique(np.searchsorted(self.index, source.blocks.starts))
            starts = starts[starts < len(index)]
            # A block counts in full, however few of its images are among these.
            share = len(starts) / len(source.blocks.starts)
            self.blocks = Blocks(starts, int(source.blocks.nbytes * share))

    def read(self, index):
        return self.source.read(self.index[index])


class Chain(Source):
    """Sources one after the other, such as the files of a dataset.

    Raises:
        InvalidData: their examples differ in shape or type.
    """

    def __init__(self, name: str, parts: list[Source]):
        self.name, self.parts = name, parts
        first = parts[0]
        self.kind = first.kind
        for part in parts:
            if (part.shape[1:], part.dtype) != (first.shape[1:], first.dtype):
                resize = "Resize them as they are read (data.resize), or leave"
                raise InvalidData(
                    f"{first.name} holds {plural(first.kind)} of shape {first.shape[1:]} as "
                    f"{first.dtype}, {part.name} of shape {part.shape[1:]} as {part.dtype}; "
                    "expected one shape and type in all files. "
                    f"{resize if first.kind == 'image' else 'Leave'} one of the files out."
                )
        self.ends = np.cumsum([len(part) for part in parts])
        self.shape, self.dtype = (int(self.ends[-1]), *first.shape[1:]), first.dtype
        if all(part.blocks is not None for part in parts):
            begins = self.ends - [len(part) for part in parts]
            starts = [b + part.blocks.starts for b, part in zip(begins, parts, strict=True)]
            self.blocks = Blocks(np.concatenate(starts), sum(part.blocks.nbytes for part in parts))

    def check(self, missing=False):
        for part in self.parts:
            part.check(missing)

    def read(self, index):
        index = np.asarray(index, np.int64)
        which = np.searchsorted(self.ends, index, side="right")
        images = np.empty((len(index), *self.shape[1:]), self.dtype)
        for number in np.unique(which):
            here = np.flatnonzero(which == number)
            part = self.parts[number]
            images[here] = part.read(index[here] - (self.ends[number] - len(part)))
        return images


def chained(name: str, parts: list[Source]) -> Source:
    """Return the only source, or all of them in a chain; the empty ones are left out."""
    parts = [part for part in parts if len(part)] or parts[:1]
    return parts[0] if len(parts) == 1 else Chain(name, parts)


def select(values, index: np.ndarray):
    """Return some examples of an array or a source, by ascending numbers."""
    return values[index] if isinstance(values, np.ndarray) else Subset(values, index)


def in_parts(values) -> Iterator[np.ndarray]:
    """Yield all examples of an array or a source in order, a bounded number of bytes at a time."""
    nbytes = math.prod(values.shape[1:]) * np.dtype(values.dtype).itemsize
    at_once = max(1, _BYTES_AT_ONCE // max(nbytes, 1))
    for start in range(0, len(values), at_once):
        yield values[start : start + at_once]


def in_memory(values) -> np.ndarray:
    """Return all examples of an array or a source as an array, read by several threads."""
    if isinstance(values, np.ndarray):
        return values
    array = np.empty(values.shape, values.dtype)

    def fill(start):
        array[start : start + _EXAMPLES_AT_ONCE] = values[start : start + _EXAMPLES_AT_ONCE]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(fill, range(0, len(values), _EXAMPLES_AT_ONCE)):
            pass
    return array


def spread(count: int, wanted: int) -> np.ndarray:
    """Return at most `wanted` numbers below `count`, ascending and evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).astype(np.int64))


def stamp(path: Path) -> tuple[int, int]:
    """Return what changes when a file does: a part of the key where open files are kept.

    Raises:
        InvalidData: there is no file, or it cannot be opened.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise InvalidData(f"There is no file {path}.") from None
    except OSError as error:
        raise InvalidData(f"{path} cannot be read: {error.strerror}.") from None
    return status.st_mtime_ns, status.st_size
