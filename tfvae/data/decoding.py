"""Encoded pictures, PNG and JPEG and the like, as arrays."""

import functools
import numbers
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from tfvae import images
from tfvae._plain import untrusted
from tfvae.errors import InvalidArgument, InvalidData

# What makes pixels upright, by the EXIF orientation of their picture.
_TURNS = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}
_SIDEWAYS = (5, 6, 7, 8)
_BEGINNINGS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF")


def looks_encoded(content: bytes) -> bool:
    """Whether bytes begin as those of a picture file do."""
    return content.startswith(_BEGINNINGS)


def decoded(file: Path | str | bytes, name: str, fit: Callable | None = None) -> np.ndarray:
    """Return a picture as `[H, W, 1]` or `[H, W, 3]`, of 8 bits, or 16 bits where it is grey.

    It is turned upright by its EXIF orientation. Transparency is left out: pixels have the colours
    that the file says beneath it.

    Args:
        file: its path, or its content.
        name: what messages call it.
        fit: what to do with it; nothing if None.

    Raises:
        InvalidData: it is no picture, is damaged, or is too small for `fit`.
    """
    pixels = _pixels(file, name)
    if fit is None:
        return pixels.copy()
    try:
        return fit(pixels)
    except InvalidData as error:
        raise InvalidData(f"{name} does not fit. {error}") from None


def _pixels(file, name):
    from PIL import UnidentifiedImageError

    try:
        with untrusted.open_picture(file, name) as image:
            turned_by = orientation(image)
            channels, dtype = pixel_format(image, name)
            if dtype == np.uint8:
                image = image.convert("L" if channels == 1 else "RGB")
            pixels = np.asarray(image).astype(dtype)
            return upright(pixels if pixels.ndim == 3 else pixels[..., np.newaxis], turned_by)
    except InvalidData:
        raise
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        raise InvalidData(f"{name} cannot be read as an image. Remove or repair it.") from None


def pixel_format(image, name: str) -> tuple[int, np.dtype]:
    """Return how many channels `decoded` gives of a picture that Pillow has opened, and their type.

    Raises:
        InvalidData: its values have no range that is known, being floats or of 32 bits.
    """
    # Of these formats, Pillow says 32 bits where there are 16.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return 1, np.dtype(np.uint16)
    if image.mode in ("I", "F"):
        what = "whole numbers of 32 bits" if image.mode == "I" else "floats"
        raise InvalidData(
            f"{name} has pixels that are {what} (the mode {image.mode!r} of Pillow), which do not "
            "say what value is white; expected 8 bits, or 16 bits of grey. Convert the pictures, "
            "or put them into an .npy file as floats in [0, 1]."
        )
    return (1 if image.mode in ("1", "L", "LA") else 3), np.dtype(np.uint8)


def upright_size(image) -> tuple[int, int]:
    """Return (H, W) of a picture that Pillow has opened, as `decoded` gives it."""
    width, height = image.size
    return (width, height) if orientation(image) in _SIDEWAYS else (height, width)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return `[H, W, C]` pixels as they are to be seen, of a picture with this orientation."""
    return _TURNS[orientation](pixels) if orientation in _TURNS else pixels


def orientation(image) -> int:
    """Return the EXIF orientation in the head of a picture that Pillow has opened, else 1.

    Pillow turns TIFF itself. An orientation behind the pixels of a PNG is left alone, since finding
    it would mean decoding them.
    """
    if "exif" not in image.info or image.format == "TIFF":
        return 1
    try:
        return image.getexif().get(0x0112, 1)
    except Exception:  # Pillow raises many kinds where EXIF is damaged
        return 1


def stacked(pictures: Iterable[np.ndarray], shape, dtype, name_of: Callable) -> np.ndarray:
    """Return pictures in one array `[n, H, W, C]`.

    Args:
        pictures: of n.
        shape: (n, H, W, C).
        dtype: of the pixels.
        name_of: the function that gives the name of a picture, by its place, for messages.

    Raises:
        InvalidData: one has another shape or type.
    """
    array = np.empty(shape, dtype)
    for place, picture in enumerate(pictures):
        if (picture.shape, picture.dtype) != (array.shape[1:], array.dtype):
            raise InvalidData(
                f"{name_of(place)} has the shape {picture.shape} as {picture.dtype}, the first "
                f"picture {array.shape[1:]} as {array.dtype}; expected one size and colour mode. "
                + resize_remedy([picture.shape[:2], array.shape[1:3]])
            )
        array[place] = picture
    return array


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


def resize_remedy(sizes: list[tuple[int, int]]) -> str:
    """Return what to do about images of these (height, width): a sentence for an error message."""
    smallest = min(min(size) for size in sizes)
    side = min(64, 1 << (smallest.bit_length() - 1))
    return (
        f"Resize them as they are read, to {side}×{side} for instance: resize=({side}, {side}) in "
        f"Python, --set data.resize=[{side},{side}] on the command line. Proportions are kept, and "
        "what overhangs is cut off."
    )
