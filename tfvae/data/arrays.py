"""Array files: `.npy`, read as it is indexed, and `.npz`."""

import functools
import mmap
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tfvae import kinds
from tfvae._plain import untrusted
from tfvae.data.conditions import as_conditions
from tfvae.data.source import Source, in_parts, stamp
from tfvae.data.splits import SPLITS, Part
from tfvae.errors import InvalidData


class ArraySource(Source):
    """The examples in an array of any layout, which may be one of a file.

    8 and 16 bits stay as they are, tokens become int32, pixels of other types float32, and other
    values of vectors and series float32 or float64, which hold them.

    Args:
        open_array: a function that returns the array, `[N, ...]`; it may open its file anew.
        name: what messages call it.
        layout: one of `LAYOUTS`; see `tfvae.data.load`.
        fit: what to do with each image; nothing if None.
        kind: what an example is, one of `tfvae.kinds.KINDS`, or "auto".

    Raises:
        InvalidData: it does not hold such examples, or its axes may mean something else.
    """

    def __init__(
        self,
        open_array: Callable,
        name: str,
        layout: str = "auto",
        fit: Callable | None = None,
        kind: str = "auto",
    ):
        array = open_array()
        self.kind = kinds.kind_of(array, name, layout, kind)
        self.open_array, self.name, self.layout, self.fit = open_array, name, layout, fit
        self.dtype = _stored_type(array.dtype, self.kind)
        # Grey pictures may lack the axis of their channel, and series that of their values.
        self.without_channel = array.ndim == {"image": 3, "series": 2}.get(self.kind)
        sizes = array.shape[1:]
        if self.without_channel:
            sizes = (*sizes, 1)
        elif layout == "NCHW":
            sizes = (*sizes[1:], sizes[0])
        self.shape = (len(array), *sizes)
        if len(array) and fit is not None:
            self.shape = (len(array), *self.read(np.arange(1)).shape[1:])

    def read(self, index):
        array = self.open_array()
        values = array.take(index, axis=0)
        if isinstance(array, np.memmap):  # what was read need not count as memory of ours
            array.base.madvise(mmap.MADV_DONTNEED)
        if self.without_channel:
            values = values[..., np.newaxis]
        elif self.layout == "NCHW":
            values = np.moveaxis(values, 1, -1)
        if self.kind == "tokens":
            self._check_tokens(values)
        values = np.ascontiguousarray(values, self.dtype)
        return values if self.fit is None else fit_all(values, self.fit)

    def _check_tokens(self, values):
        limits = np.iinfo(self.dtype)
        if values.size and not limits.min <= values.min() <= values.max() <= limits.max:
            raise InvalidData(
                f"{self.name} holds tokens from {values.min()} to {values.max()}; expected whole "
                f"numbers from 0 to {limits.max}."
            )

    def check(self, missing=False):
        """Refuse values that are not finite, in one pass over all examples, a part at a time.

        Args:
            missing: whether NaN is a missing value, and no error.

        Raises:
            InvalidData: with their number, and the place of the first.
        """
        if self.kind == "tokens" and len(self):
            lowest = min(part.min() for part in in_parts(self))
            if lowest < 0:
                raise InvalidData(
                    f"{self.name} holds tokens from {lowest}; expected whole numbers from 0 on."
                )
        if self.dtype.kind != "f":
            return
        bad, first, start = 0, None, 0
        for part in in_parts(self):
            wrong = np.isinf(part) if missing else ~np.isfinite(part)
            if missing:
                self._check_observed(part, start)
            if first is None and wrong.any():
                first = np.unravel_index(np.argmax(wrong), part.shape)
                first = (int(first[0]) + start, *map(int, first[1:]))
            bad, start = bad + np.count_nonzero(wrong), start + len(part)
        if bad:
            what = "pixels" if self.kind == "image" else "values"
            raise InvalidData(
                f"{self.name} holds {bad} values that are infinite or not a number, the first at "
                f"{list(first)}; expected finite {what}. Clean the data first. If NaN stands for a "
                "missing value, set data.missing to true (docs/missing-values.md)."
            )

    def _check_observed(self, examples, start):
        empty = np.flatnonzero(np.isnan(examples).reshape(len(examples), -1).all(1))
        if len(empty):
            raise InvalidData(
                f"Example {start + empty[0]} of {self.name} has no value, but NaN alone; expected "
                "one value at least. Leave it out."
            )


def _stored_type(dtype, kind):
    if dtype in (np.uint8, np.uint16):
        return dtype
    if kind == "tokens":
        return np.dtype(np.int32)
    if kind == "image":
        return np.dtype(np.float32)
    # Standardized, values may differ that float32 does not tell apart.
    return min(np.result_type(dtype, np.float32), np.dtype(np.float64), key=lambda d: d.itemsize)


def npy_source(
    path: Path, layout: str = "auto", fit: Callable | None = None, kind: str = "auto"
) -> ArraySource:
    """Return the examples of an `.npy` file.

    Raises:
        InvalidData: the file is missing or damaged, or holds something else.
    """
    return ArraySource(functools.partial(_npy, path, stamp(path)), f"{path}", layout, fit, kind)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an `.npz` file by name.

    Raises:
        InvalidData: the file is missing or damaged.
    """
    with _readable(path), path.open("rb") as file:
        untrusted.check_arrays(file, str(path))
        file.seek(0)
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):  # named wrongly
            return {"x": loaded}
        arrays = {key: loaded[key] for key in loaded.files}
    foreign = [key for key, array in arrays.items() if not isinstance(array, np.ndarray)]
    if foreign:
        raise InvalidData(f"{path} holds {', '.join(foreign)}, which are no arrays.")
    return arrays


def open_arrays(
    path: Path, layout: str, fit: Callable | None, condition: str, kind: str
) -> dict[str, Part]:
    """Return the examples in an `.npy` or `.npz` file by name, with their conditions.

    Args:
        path: of the file.
        layout: as in `ArraySource`.
        fit: as in `ArraySource`.
        condition: the name of the array of conditions, behind that of a split and "_"; "" for none.
        kind: as in `ArraySource`.

    Raises:
        InvalidData: it holds no such examples, or no conditions of that name.
    """
    if path.suffix == ".npy":
        if condition:
            raise InvalidData(
                f"data.condition is {condition!r}, but {path} holds one array alone. Put examples "
                "and labels into an .npz file."
            )
        values = npy_source(path, layout, fit, kind)
        return {"x": Part(values, kind=values.kind)}
    arrays = read_npz(path)
    beside = {key: _name_of_conditions(key, condition) for key in arrays} if condition else {}
    found = {key: arrays[name] for key, name in beside.items() if name in arrays and name != key}
    if condition:
        arrays = {k: v for k, v in arrays.items() if k not in beside.values()}
        missing = sorted({beside[key] for key in arrays if key not in found})
        if missing or not arrays:
            raise InvalidData(
                f"{path} has no array {' and no '.join(missing) or 'of examples'}, which "
                f"data.condition={condition!r} names; it holds {', '.join(sorted(beside))}."
            )
    parts = {}
    for key, array in arrays.items():
        values = ArraySource(lambda array=array: array, f"{path}[{key}]", layout, fit, kind)
        y = None
        if key in found:
            y = as_conditions(found[key], len(values), f"{path}[{beside[key]}]")
        parts[key] = Part(values, y, values.kind)
    return parts


def _name_of_conditions(key, condition):
    return f"{key}_{condition}" if key in SPLITS else condition


class _Rows:
    """The rows of an `.npy` file in C order, read by number; it stands for an array of them.

    In a file of many small images, a read costs a third of what a page fault of a map does.

    Args:
        path: of the file.
        array: the map of it.
    """

    def __init__(self, path, array):
        self.path, self.begin, self.file = path, array.offset, path.open("rb", buffering=0)
        self.shape, self.ndim, self.dtype = array.shape, array.ndim, array.dtype
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)

    def __len__(self):
        return self.shape[0]

    def take(self, index, axis=0):
        """Return the rows of these numbers, what follows one on the other in a single read."""
        index = np.asarray(index, np.int64)
        rows = np.empty((len(index), *self.shape[1:]), self.dtype)
        if not rows.size:
            return rows
        content = memoryview(rows.reshape(-1).view(np.uint8))
        nbytes, file, preadv = len(content) // len(rows), self.file.fileno(), os.preadv
        first = np.flatnonzero(np.diff(index, prepend=index[0]) != 1)
        places, begins = self.begin + nbytes * index[first], nbytes * first
        ends = [*begins[1:].tolist(), len(content)]
        for place, begin, end in zip(places.tolist(), begins.tolist(), ends, strict=True):
            while begin < end:
                count = preadv(file, (content[begin:end],), place)
                if not count:
                    raise InvalidData(f"{self.path} was cut off after it was opened. Repair it.")
                begin, place = begin + count, place + count
        return rows


@functools.lru_cache(maxsize=64)
def _npy(path, stamp):
    """Return the array of a file; few of many shards are open at a time."""
    with _readable(path):
        untrusted.check_arrays(path, str(path))
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("it is an .npz file")
        if array.flags.c_contiguous and hasattr(os, "preadv"):
            return _Rows(path, array)
    return array


class _readable:
    """Gives the errors of a file that cannot be read as an array."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if isinstance(error, InvalidData):
            return
        if isinstance(error, FileNotFoundError):
            raise InvalidData(f"There is no file {self.path}.") from None
        if isinstance(error, Exception):  # NumPy, zipfile and zlib raise many kinds
            raise InvalidData(f"{self.path} cannot be read as an array: {error}") from None


def fit_all(array: np.ndarray, fit: Callable | None) -> np.ndarray:
    """Return `fit` of every image."""
    return array if fit is None or not len(array) else np.stack([fit(image) for image in array])
