"""Data on this machine: array files and folders of images."""

import functools
import numbers
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tfvae import images, untrusted
from tfvae.data.conditions import as_conditions
from tfvae.data.images import Images, Splits, stored_maximum
from tfvae.errors import InvalidArgument, InvalidData, unknown_name
from tfvae.random import Stream

# How the axes of an array are read: N images, height H, width W, C channels.
LAYOUTS = ("auto", "NHW", "NHWC", "NCHW")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


def split_by_shuffle(
    name: str, pixels: np.ndarray, max_value: float, seed: int, conditions=None
) -> Splits:
    """Split into 80% training, 10% validation and 10% test images, and their conditions.

    Raises:
        InvalidData: there are too few images to split.
    """
    count = len(pixels)
    if count < 10:
        raise InvalidData(
            f"{name!r} has {count} images; at least 10 are needed to split them into training, "
            "validation and test. Give the splits yourself (train/, validation/, test/)."
        )
    order = np.random.default_rng([seed, int(Stream.SHUFFLE)]).permutation(count)
    held_out = max(1, round(count / 10))
    test, validation, train = np.split(order, [held_out, 2 * held_out])
    # Sorted, so that the content of a split is all that the shuffle decides.
    parts = (np.sort(part) for part in (train, validation, test))
    return Splits(name, *(_part(pixels, max_value, conditions, part) for part in parts))


def _part(pixels, max_value, conditions, index):
    return Images(
        pixels[index], max_value, conditions=None if conditions is None else conditions[index]
    )


def load_arrays(
    path: Path, seed: int, layout: str = "auto", fit: Callable | None = None, condition: str = ""
) -> Splits:
    """Read an `.npy` or `.npz` file.

    Args:
        path: of the file.
        seed: decides the splits of one array.
        layout: one of `LAYOUTS`; see `tfvae.data.load`.
        fit: what to do with each image; nothing if None.
        condition: the array of conditions, or, beside train, validation and test, what their names
            end in: `train_label` for "label". "" for none.

    Raises:
        InvalidData: the file is missing or damaged, or holds something else than images.
    """
    images, conditions = _read_arrays(path, layout, fit, condition)
    return _join_splits(str(path), images, seed, conditions)


def read_images(path: str | Path, layout: str = "auto", resize=(), crop=()) -> Images:
    """Read all images of a folder, or of an `.npy` or `.npz` file of one array, without splitting.

    Those of a folder come in the order of their names. The options are those of `load`.

    Raises:
        InvalidArgument: an option that does not exist.
        InvalidData: there is no such path, or it holds something else.
    """
    path = Path(path)
    check_layout(layout)
    fit = fitting(resize, crop)
    if path.is_dir():
        pixels = _read_folder(path, fit)
    else:
        arrays, _ = _read_arrays(path, layout, fit)
        if len(arrays) != 1:
            names = ", ".join(sorted(arrays)) or "nothing"
            raise InvalidData(f"{path} holds {names}; expected one array of images.")
        (pixels,) = arrays.values()
    return Images(pixels, stored_maximum(pixels))


def check_layout(layout: str) -> None:
    """Refuse a layout that does not exist."""
    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS)


def fitting(resize=(), crop=()) -> Callable | None:
    """Return the function that `tfvae.images.fit` is with these sizes; None if there are none.

    Raises:
        InvalidArgument: a size that is none.
    """
    sizes = {"resize": tuple(resize or ()), "crop": tuple(crop or ())}
    for name, size in sizes.items():
        if len(size) not in (0, 2) or not all(
            isinstance(n, numbers.Integral) and n > 0 for n in size
        ):
            raise InvalidArgument(
                f"`{name}` is {list(size)}; expected a height and a width, such as [64, 64]."
            )
    return functools.partial(images.fit, **sizes) if any(sizes.values()) else None


def fit_all(array: np.ndarray, fit: Callable | None) -> np.ndarray:
    """Return `fit` of every image."""
    return array if fit is None or not len(array) else np.stack([fit(image) for image in array])


def _read_arrays(path, layout, fit, condition=""):
    """Return the images in an `.npy` or `.npz` file by name, and their conditions likewise."""
    try:
        untrusted.check_arrays(path, str(path))
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            is_array = isinstance(loaded, np.ndarray)
            arrays = {"x": loaded} if is_array else {key: loaded[key] for key in loaded.files}
    except FileNotFoundError:
        raise InvalidData(f"There is no file {path}.") from None
    except InvalidData:
        raise
    except Exception as error:  # NumPy, zipfile and zlib raise many kinds on a damaged file
        raise InvalidData(f"{path} cannot be read as an array: {error}") from None
    foreign = [key for key, array in arrays.items() if not isinstance(array, np.ndarray)]
    if foreign:
        raise InvalidData(
            f"{path} holds {', '.join(foreign)}, which are no arrays; expected images."
        )
    beside = {key: _name_of_conditions(key, condition) for key in arrays} if condition else {}
    found = {key: arrays[name] for key, name in beside.items() if name in arrays and name != key}
    if condition:
        arrays = {k: v for k, v in arrays.items() if k not in beside.values()}
        missing = sorted({beside[key] for key in arrays if key not in found})
        if missing or not arrays:
            raise InvalidData(
                f"{path} has no array {' and no '.join(missing) or 'of images'}, which "
                f"data.condition={condition!r} names; it holds {', '.join(sorted(beside))}."
            )
    pictures = {
        key: fit_all(_as_images(array, f"{path}[{key}]", layout), fit)
        for key, array in arrays.items()
    }
    conditions = {
        key: as_conditions(found[key], len(array), f"{path}[{beside[key]}]")
        for key, array in pictures.items()
        if key in found
    }
    return pictures, conditions


def _name_of_conditions(key, condition):
    return f"{key}_{condition}" if key in ("train", "validation", "test") else condition


def _join_splits(name, arrays, seed, conditions=None):
    """Make `Splits` of {"train", "validation", "test"}, or of one array."""
    conditions = conditions or {}
    if set(arrays) == {"train", "validation", "test"}:
        parts = [arrays[key] for key in ("train", "validation", "test")]
        # Floats are in [0, 1] already; integer parts share the largest of their ranges.
        largest = max(stored_maximum(part) for part in parts)
        scales = [1.0 if part.dtype.kind == "f" else largest for part in parts]
        given = [conditions.get(key) for key in ("train", "validation", "test")]
        return Splits(name, *map(_images, parts, scales, given))
    if len(arrays) == 1:
        ((key, pixels),) = arrays.items()
        return split_by_shuffle(name, pixels, stored_maximum(pixels), seed, conditions.get(key))
    raise InvalidData(
        f"{name} holds {', '.join(sorted(arrays)) or 'nothing'}; expected 'train', 'validation' "
        "and 'test', or one set of images that is then split."
    )


def _images(pixels, max_value, conditions):
    return Images(pixels, max_value, conditions=conditions)


def _as_images(array, name, layout):
    """Return an array as `[N, H, W, C]`, finite."""
    expected = {"auto": (3, 4), "NHW": (3,), "NHWC": (4,), "NCHW": (4,)}[layout]
    if array.ndim not in expected or array.dtype.kind not in "buif":
        shapes = {3: "[N, H, W]", 4: "[N, C, H, W]" if layout == "NCHW" else "[N, H, W, C]"}
        raise InvalidData(
            f"{name} is an array of {array.dtype} of shape {array.shape}; expected numbers of "
            f"shape {' or '.join(shapes[n] for n in expected)}."
        )
    if layout == "auto":
        _check_clear(array, name)
    if array.ndim == 3:
        array = array[..., np.newaxis]
    elif layout == "NCHW":
        array = np.ascontiguousarray(np.moveaxis(array, 1, -1))
    if array.dtype in (np.uint8, np.uint16):
        return array
    array = array.astype(np.float32)
    if not np.all(np.isfinite(array)):
        raise InvalidData(
            f"{name} holds {np.count_nonzero(~np.isfinite(array))} values that are infinite or not "
            "a number; expected finite pixels. Clean the data first."
        )
    return array


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


def load_folder(path: Path, seed: int, fit: Callable | None = None) -> Splits:
    """Read a folder of image files, or its parts `train/`, `validation/` and `test/`.

    Args:
        path: of the folder.
        seed: decides the splits where there are no parts.
        fit: what to do with each image; nothing if None.

    Raises:
        InvalidData: files that are not images, or images of different shapes.
    """
    parts = [p for p in ("train", "validation", "test") if (path / p).is_dir()]
    folders = {p: path / p for p in parts} or {"x": path}
    arrays = {key: _read_folder(folder, fit) for key, folder in folders.items()}
    shapes = {array.shape[1:] for array in arrays.values()}
    if len(shapes) > 1:
        raise InvalidData(
            f"{path} holds images of shapes {sorted(shapes)}; expected one shape. "
            + resize_remedy([shape[:2] for shape in shapes])
        )
    return _join_splits(str(path), arrays, seed)


def _read_folder(folder, fit):
    """Return the images of a folder and those below it, in the order of their names."""
    from PIL import UnidentifiedImageError

    try:
        files = sorted(f for f in folder.rglob("*") if f.is_file() and not f.name.startswith("."))
    except OSError as error:
        raise InvalidData(f"Cannot read {folder}: {error.strerror}, {error.filename}.") from None
    read = []
    for file in files:
        try:
            with untrusted.open_picture(file) as image:
                if not image.mode.startswith("I;16"):
                    image = image.convert("L" if image.mode in ("1", "L") else "RGB")
                pixels = np.asarray(image)
                pixels = pixels if pixels.ndim == 3 else pixels[..., np.newaxis]
                read.append(pixels.copy() if fit is None else fit(pixels))
        except InvalidData as error:
            raise InvalidData(f"{file} does not fit. {error}") from None
        except (UnidentifiedImageError, OSError, ValueError):
            raise InvalidData(
                f"{file} cannot be read as an image; expected only images "
                f"({', '.join(IMAGE_SUFFIXES)}) in {folder}. Remove or repair it."
            ) from None
        if read[-1].shape != read[0].shape:
            raise _differ(folder, files, files[0], file)
    if not read:
        raise InvalidData(f"{folder} holds no images; expected {', '.join(IMAGE_SUFFIXES)} files.")
    return np.stack(read)


def _differ(folder, files, one, other):
    """Return the error for pictures that have not all the same shape, with the sizes there are."""
    sizes = Counter()
    for file in files:
        try:
            with untrusted.open_picture(file) as image:
                sizes[image.size[::-1]] += 1
        except (OSError, InvalidData):  # its own error comes once the sizes are settled
            continue
    if len(sizes) == 1:
        return InvalidData(
            f"{folder} holds pictures in grey and in colour, such as {one} and {other}; expected "
            "images of one size and colour mode. Convert them first."
        )
    most = [f"{height}×{width} ({n})" for (height, width), n in sizes.most_common(5)]
    more = f" and {len(sizes) - 5} more sizes" if len(sizes) > 5 else ""
    return InvalidData(
        f"{folder} holds pictures of different sizes, height×width: {', '.join(most)}{more}; "
        f"expected images of one size and colour mode. {resize_remedy(list(sizes))}"
    )


def resize_remedy(sizes: list[tuple[int, int]]) -> str:
    """Return what to do about images of these (height, width): a sentence for an error message."""
    smallest = min(min(size) for size in sizes)
    side = min(64, 1 << (smallest.bit_length() - 1))
    return (
        f"Resize them as they are read, to {side}×{side} for instance: resize=({side}, {side}) in "
        f"Python, --set data.resize=[{side},{side}] on the command line. Proportions are kept, and "
        "what overhangs is cut off."
    )
