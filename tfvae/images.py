"""Pictures of many small images, with NumPy and Pillow alone."""

import math
from pathlib import Path

import numpy as np

from tfvae._plain import memory
from tfvae._plain.files import atomic
from tfvae.errors import InvalidArgument, InvalidData

_FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".bmp": "bmp"}


def grid(images: np.ndarray, columns: int | None = None, gap: int = 1) -> np.ndarray:
    """Arrange `[N, H, W, C]` images in [0, 1] into one `[H', W', C]` uint8 picture.

    Args:
        images: N images with 1 or 3 channels; a missing value, NaN, is grey.
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
    cells[:count, :height, :width] = np.nan_to_num(np.clip(images, 0.0, 1.0), nan=0.5)
    cells = cells.reshape(rows, columns, height + gap, width + gap, channels)
    picture = cells.transpose(0, 2, 1, 3, 4).reshape(
        rows * (height + gap), columns * (width + gap), channels
    )
    return np.round(255 * picture[: -gap or None, : -gap or None]).astype(np.uint8)


def is_picture(shape: tuple[int, ...]) -> bool:
    """Whether an example of this shape can be drawn, in grey or in colour."""
    return len(shape) == 3 and shape[-1] in (1, 3)


def fit(pixels: np.ndarray, resize: tuple[int, ...] = (), crop: tuple[int, ...] = ()) -> np.ndarray:
    """Cut the middle out of one picture, and scale it; dtype and channels stay as they are.

    Args:
        pixels: `[H, W, C]`.
        resize: (height, width) of the result, or (). Proportions are kept: the picture is scaled
            until it covers this size, by averages over pixels, and cropped equally on both sides.
        crop: (height, width) of the middle that is cut out beforehand, or () for all of it.

    Raises:
        InvalidData: the picture is smaller than `crop`.
        InvalidArgument: the result does not fit into memory.
    """
    height, width, channels = pixels.shape
    if crop:
        top, left = (height - crop[0]) // 2, (width - crop[1]) // 2
        if top < 0 or left < 0:
            raise InvalidData(
                f"A picture has {height}×{width} pixels, which is less than the crop of "
                f"{crop[0]}×{crop[1]}. Crop less, or resize alone."
            )
        pixels = pixels[top : top + crop[0], left : left + crop[1]]
        height, width = crop
    if not resize or tuple(resize) == (height, width):
        return pixels
    from PIL import Image

    remedy = "Choose a smaller size (data.resize)."
    memory.check_request(1, 4 * resize[0] * resize[1] * channels, "picture", remedy)
    scale = max(resize[0] / height, resize[1] / width)
    rows, columns = resize[0] / scale, resize[1] / scale
    left, top = (width - columns) / 2, (height - rows) / 2
    # Pillow refuses a box that rounding has made an ulp larger than the picture.
    right, bottom = min(left + columns, width), min(top + rows, height)
    box = (max(left, 0.0), max(top, 0.0), right, bottom)
    scaled = np.stack(
        [
            Image.fromarray(pixels[..., channel].astype(np.float32)).resize(
                (resize[1], resize[0]), Image.Resampling.BILINEAR, box
            )
            for channel in range(channels)
        ],
        axis=-1,
    )
    return (np.rint(scaled) if pixels.dtype.kind in "ui" else scaled).astype(pixels.dtype)


def save_grid(images: np.ndarray, path: str | Path, columns: int | None = None) -> None:
    """Write `grid(images)` as a picture file; small images are enlarged by a whole factor.

    Raises:
        InvalidArgument: the ending is of no format that can be written.
        InvalidData: not images of 1 or 3 channels.
    """
    from PIL import Image

    check_ending(path, arrays=False)
    picture = grid(images, columns)
    factor = max(1, 64 // max(np.asarray(images).shape[1:3]))
    picture = picture.repeat(factor, axis=0).repeat(factor, axis=1)
    with atomic(path) as temporary:
        Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture).save(
            temporary, format=_FORMATS[Path(path).suffix.lower()]
        )


def check_ending(path: str | Path, arrays: bool = True) -> None:
    """Refuse a path whose ending is of no format that can be written, before the work.

    Raises:
        InvalidArgument: it is none, or that of an array where pictures are wanted.
    """
    ending = Path(path).suffix.lower()
    if ending not in _FORMATS and not (arrays and ending == ".npy"):
        raise InvalidArgument(f"Cannot write {path}; expected a name ending in .png or .npy.")
