"""Data on this machine: array files and folders of images."""

from pathlib import Path

import numpy as np

from tfvae.data.images import Images, Splits, stored_maximum
from tfvae.errors import InvalidData
from tfvae.random import Stream

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


def split_by_shuffle(name: str, pixels: np.ndarray, max_value: float, seed: int) -> Splits:
    """Split into 80% training, 10% validation and 10% test images.

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
    return Splits(name, *(Images(pixels[np.sort(i)], max_value) for i in (train, validation, test)))


def load_arrays(path: Path, seed: int) -> Splits:
    """Read an `.npy` or `.npz` file.

    Raises:
        InvalidData: the file is missing or damaged, or holds something else than images.
    """
    return _join_splits(str(path), _read_arrays(path), seed)


def read_images(path: str | Path) -> Images:
    """Read all images of a folder, or of an `.npy` or `.npz` file of one array, without splitting.

    Those of a folder come in the order of their names.

    Raises:
        InvalidData: there is no such path, or it holds something else.
    """
    path = Path(path)
    if path.is_dir():
        pixels = _read_folder(path)
    else:
        arrays = _read_arrays(path)
        if len(arrays) != 1:
            names = ", ".join(sorted(arrays)) or "nothing"
            raise InvalidData(f"{path} holds {names}; expected one array of images.")
        (pixels,) = arrays.values()
    return Images(pixels, stored_maximum(pixels))


def _read_arrays(path):
    """Return the arrays in an `.npy` or `.npz` file by name, as images."""
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            is_array = isinstance(loaded, np.ndarray)
            arrays = {"x": loaded} if is_array else {key: loaded[key] for key in loaded.files}
    except FileNotFoundError:
        raise InvalidData(f"There is no file {path}.") from None
    except Exception as error:  # NumPy, zipfile and zlib raise many kinds on a damaged file
        raise InvalidData(f"{path} cannot be read as an array: {error}") from None
    return {key: _as_images(array, f"{path}[{key}]") for key, array in arrays.items()}


def _join_splits(name, arrays, seed):
    """Make `Splits` of {"train", "validation", "test"}, or of one array."""
    if set(arrays) == {"train", "validation", "test"}:
        parts = [arrays[key] for key in ("train", "validation", "test")]
        # Floats are in [0, 1] already; integer parts share the largest of their ranges.
        largest = max(stored_maximum(part) for part in parts)
        scales = [1.0 if part.dtype.kind == "f" else largest for part in parts]
        return Splits(name, *map(Images, parts, scales))
    if len(arrays) == 1:
        pixels = next(iter(arrays.values()))
        return split_by_shuffle(name, pixels, stored_maximum(pixels), seed)
    raise InvalidData(
        f"{name} holds {', '.join(sorted(arrays)) or 'nothing'}; expected 'train', 'validation' "
        "and 'test', or one set of images that is then split."
    )


def _as_images(array, name):
    if array.ndim == 3:
        array = array[..., np.newaxis]
    if array.ndim != 4 or array.dtype.kind not in "buif":
        raise InvalidData(
            f"{name} is an array of {array.dtype} of shape {array.shape}; expected numbers of "
            "shape [N, H, W] or [N, H, W, C]."
        )
    if array.dtype in (np.uint8, np.uint16):
        return array
    array = array.astype(np.float32)
    if not np.all(np.isfinite(array)):
        raise InvalidData(
            f"{name} holds {np.count_nonzero(~np.isfinite(array))} values that are infinite or not "
            "a number; expected finite pixels. Clean the data first."
        )
    return array


def load_folder(path: Path, seed: int) -> Splits:
    """Read a folder of image files, or its parts `train/`, `validation/` and `test/`.

    Raises:
        InvalidData: files that are not images, or images of different shapes.
    """
    parts = [p for p in ("train", "validation", "test") if (path / p).is_dir()]
    folders = {p: path / p for p in parts} or {"x": path}
    arrays = {key: _read_folder(folder) for key, folder in folders.items()}
    shapes = {array.shape[1:] for array in arrays.values()}
    if len(shapes) > 1:
        raise InvalidData(f"{path} holds images of shapes {sorted(shapes)}; expected one shape.")
    return _join_splits(str(path), arrays, seed)


def _read_folder(folder):
    """Return the images of a folder and those below it, in the order of their names."""
    from PIL import Image, UnidentifiedImageError

    files = sorted(f for f in folder.rglob("*") if f.is_file() and not f.name.startswith("."))
    images = []
    for file in files:
        try:
            with Image.open(file) as image:
                if not image.mode.startswith("I;16"):
                    image = image.convert("L" if image.mode in ("1", "L") else "RGB")
                images.append(np.asarray(image).copy())
        except (UnidentifiedImageError, OSError, ValueError):
            raise InvalidData(
                f"{file} cannot be read as an image; expected only images "
                f"({', '.join(IMAGE_SUFFIXES)}) in {folder}. Remove or repair it."
            ) from None
        if images[-1].shape != images[0].shape:
            raise InvalidData(
                f"{file} has shape {images[-1].shape}, {files[0]} has {images[0].shape}; expected "
                "images of one size and colour mode. Resize or convert them first."
            )
    if not images:
        raise InvalidData(f"{folder} holds no images; expected {', '.join(IMAGE_SUFFIXES)} files.")
    stacked = np.stack(images)
    return stacked if stacked.ndim == 4 else stacked[..., np.newaxis]
