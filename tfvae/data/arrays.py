"""Array files: `.npy`, read as it is indexed, and `.npz`."""

import functools
import mmap
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tfvae import untrusted
from tfvae.data.source import Source, in_parts, stamp
from tfvae.errors import InvalidData, unknown_name

# How the axes of an array are read: N images, height H, width W, C channels.
LAYOUTS = ("auto", "NHW", "NHWC", "NCHW")


class ArraySource(Source):
    """The images in an array of any layout, which may be one of a file.

    8 and 16 bits stay as they are, all else becomes float32.

    Args:
        open_array: a function that returns the array, `[N, ...]`; it may open its file anew.
        name: what messages call it.
        layout: one of `LAYOUTS`; see `tfvae.data.load`.
        fit: what to do with each image; nothing if None.

    Raises:
        InvalidData: it does not hold images, or its axes may mean something else.
    """

    def __init__(
        self, open_array: Callable, name: str, layout: str = "auto", fit: Callable | None = None
    ):
        array = open_array()
        _check_axes(array, name, layout)
        self.open_array, self.name, self.layout, self.fit = open_array, name, layout, fit
        self.dtype = array.dtype if array.dtype in (np.uint8, np.uint16) else np.dtype(np.float32)
        sizes = array.shape[1:] if array.ndim == 4 else (*array.shape[1:], 1)
        if array.ndim == 4 and layout == "NCHW":
            sizes = (*sizes[1:], sizes[0])
        self.shape = (len(array), *sizes)
        if len(array) and fit is not None:
            self.shape = (len(array), *self.read(np.arange(1)).shape[1:])

    def read(self, index):  # noqa: D102
        array = self.open_array()
        images = array.take(index, axis=0)
        if isinstance(array, np.memmap):  # what was read need not count as memory of ours
            array.base.madvise(mmap.MADV_DONTNEED)
        if images.ndim == 3:
            images = images[..., np.newaxis]
        elif self.layout == "NCHW":
            images = np.moveaxis(images, 1, -1)
        images = np.ascontiguousarray(images, self.dtype)
        return images if self.fit is None else fit_all(images, self.fit)

    def check(self):
        """Refuse values that are not finite, in one pass over all images, a part at a time.

        Raises:
            InvalidData: with their number.
        """
        if self.dtype.kind != "f":
            return
        bad = sum(np.count_nonzero(~np.isfinite(part)) for part in in_parts(self))
        if bad:
            raise InvalidData(
                f"{self.name} holds {bad} values that are infinite or not a number; expected "
                "finite pixels. Clean the data first."
            )


def npy_source(path: Path, layout: str = "auto", fit: Callable | None = None) -> ArraySource:
    """Return the images of an `.npy` file.

    Raises:
        InvalidData: the file is missing or damaged, or holds something else than images.
    """
    return ArraySource(functools.partial(_npy, path, stamp(path)), f"{path}", layout, fit)


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


def check_layout(layout: str) -> None:
    """Refuse a layout that does not exist."""
    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS)


def fit_all(array: np.ndarray, fit: Callable | None) -> np.ndarray:
    """Return `fit` of every image."""
    return array if fit is None or not len(array) else np.stack([fit(image) for image in array])


def _check_axes(array, name, layout):
    expected = {"auto": (3, 4), "NHW": (3,), "NHWC": (4,), "NCHW": (4,)}[layout]
    if array.ndim not in expected or array.dtype.kind not in "buif":
        shapes = {3: "[N, H, W]", 4: "[N, C, H, W]" if layout == "NCHW" else "[N, H, W, C]"}
        raise InvalidData(
            f"{name} is an array of {array.dtype} of shape {array.shape}; expected numbers of "
            f"shape {' or '.join(shapes[n] for n in expected)}."
        )
    if layout == "auto":
        _check_clear(array, name)


def _check_clear(array, name):
    """Refuse an array whose axes may mean something else than they would be taken for."""
    count, *sizes = array.shape
    say = "Say so with layout={0!r} in Python, --set data.layout={0} on the command line"
    if array.ndim == 3 and not _is_grey(array):
        steps, values = sizes
        raise InvalidData(
            f"{name} is an array of {array.dtype} of shape {array.shape}. It may hold {count} grey "
            f"pictures of {steps}×{values} pixels, or {count} series of {steps} steps with "
            f"{values} values each, which are no pictures. Are they pictures? "
            f"{say.format('NHW')}, or give the array a last axis for the channel."
        )
    if array.ndim == 4 and sizes[0] in (1, 3) and sizes[2] > 4:
        raise InvalidData(
            f"{name} is an array of shape {array.shape}: by the usual order [N, H, W, C], pictures "
            f"of {sizes[0]}×{sizes[1]} pixels with {sizes[2]} channels. Do the channels come "
            f"first, [N, C, H, W]? {say.format('NCHW')}. If not, give 'NHWC'."
        )


def _is_grey(array):
    """Whether an array `[N, ·, ·]` is clearly one of grey pictures.

    That is what squares are, and the types in which pixels are stored, unless one side is more than
    four times the other.
    """
    short, long = sorted(array.shape[1:])
    stored_as_pixels = array.dtype in (np.uint8, np.uint16, np.bool_)
    return short == long or (stored_as_pixels and long <= 4 * short)
