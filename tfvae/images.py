"""Pictures of many small images, with NumPy and Pillow alone."""

import math
from pathlib import Path

import numpy as np

from tfvae.errors import InvalidArgument, InvalidData
from tfvae.files import atomic

_FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".bmp": "bmp"}


def grid(images: np.ndarray, columns: int | None = None, gap: int = 1) -> np.ndarray:
    """Arrange `[N, H, W, C]` images in [0, 1] into one `[H', W', C]` uint8 picture.

    Args:
        images: N images with 1 or 3 channels.
        columns: images in a row; about √N if None.
        gap: pixels between images.

    Raises:
        InvalidData: not images of 1 or 3 channels.
    """
    images = np.asarray(images, np.float32)
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or len(images) == 0:
        raise InvalidData(
            f"Values of shape {images.shape} are no picture; expected [N, H, W, 1 or 3]."
        )
    count, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    cells = np.full((rows * columns, height + gap, width + gap, channels), 0.5, np.float32)
    cells[:count, :height, :width] = np.clip(images, 0.0, 1.0)
    cells = cells.reshape(rows, columns, height + gap, width + gap, channels)
    picture = cells.transpose(0, 2, 1, 3, 4).reshape(
        rows * (height + gap), columns * (width + gap), channels
    )
    return np.round(255 * picture[: -gap or None, : -gap or None]).astype(np.uint8)


def save_grid(images: np.ndarray, path: str | Path, columns: int | None = None) -> None:
    """Write `grid(images)` as a picture file; small images are enlarged by a whole factor.

    Raises:
        InvalidArgument: the ending is of no format that can be written.
        InvalidData: not images of 1 or 3 channels.
    """
    from PIL import Image

    if Path(path).suffix.lower() not in _FORMATS:
        raise InvalidArgument(f"Cannot write {path}; expected a name ending in .png or .npy.")
    picture = grid(images, columns)
    factor = max(1, 64 // max(np.asarray(images).shape[1:3]))
    picture = picture.repeat(factor, axis=0).repeat(factor, axis=1)
    with atomic(path) as temporary:
        Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture).save(
            temporary, format=_FORMATS[Path(path).suffix.lower()]
        )


def save(images: np.ndarray, path: str | Path) -> None:
    """Write images as one picture, or all their values if `path` ends in .npy.

    Raises:
        InvalidArgument: the ending is of no format that can be written.
    """
    if Path(path).suffix.lower() != ".npy":
        save_grid(images, path)
        return
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.save(file, images)
