"""Checks of the arrays that a decoder is given."""

import numpy as np

from tfvae.errors import InvalidData


def checked(
    values: np.ndarray, shape: tuple[int, ...], what: str, missing: bool = False
) -> np.ndarray:
    """Return latents or examples `[N, *shape]` as float32; NaN is as good as a number if `missing`.

    Raises:
        InvalidData: an array of another shape or type, empty, or with values that are not finite.
    """
    values = np.asarray(values)
    if values.dtype.kind not in "buif" or values.shape[1:] != shape or len(values) == 0:
        raise InvalidData(
            f"The {what} are an array of {values.dtype} of shape {values.shape}; this decoder "
            f"expects numbers of shape {('N', *shape)}.".replace("'", "")
        )
    values = values.astype(np.float32)
    if not np.all(np.isfinite(values) | (missing & np.isnan(values))):
        raise InvalidData(f"The {what} hold values that are infinite or not a number.")
    return values


def checked_codes(codes: np.ndarray, shape: tuple[int, ...], codebook_size: int) -> np.ndarray:
    """Return codes `[N, *shape]` as int32.

    Raises:
        InvalidData: no integers, of another shape, empty, or not from 0 to K − 1.
    """
    codes = np.asarray(codes)
    if codes.dtype.kind not in "ui" or codes.shape[1:] != shape or len(codes) == 0:
        raise InvalidData(
            f"The codes are an array of {codes.dtype} of shape {codes.shape}; this decoder "
            f"expects integers of shape {('N', *shape)}.".replace("'", "")
        )
    _check_range(codes, codebook_size, "codes")
    return codes.astype(np.int32)


def checked_labels(labels: np.ndarray | int, num_classes: int, count: int) -> np.ndarray:
    """Return the label of each example, `[count]` int32, of labels or of one for all.

    Raises:
        InvalidData: no integers, not as many, or not from 0 to C − 1.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "ui" or labels.shape not in ((), (count,)):
        raise InvalidData(
            f"The labels are an array of {labels.dtype} of shape {labels.shape}; expected one "
            f"integer, or {count}, one for each image."
        )
    _check_range(labels, num_classes, "labels")
    return np.broadcast_to(labels, (count,)).astype(np.int32)


def checked_vectors(vectors: np.ndarray, size: int, count: int) -> np.ndarray:
    """Return the vector of each example, `[count, size]` float32, of vectors or of one for all.

    Raises:
        InvalidData: no numbers, of another shape, or not finite.
    """
    vectors = np.asarray(vectors)
    if vectors.dtype.kind not in "buif" or vectors.shape not in ((size,), (count, size)):
        raise InvalidData(
            f"The conditions are an array of {vectors.dtype} of shape {vectors.shape}; expected "
            f"{size} numbers, or an array of shape {(count, size)}, a row for each image."
        )
    vectors = np.broadcast_to(vectors, (count, size)).astype(np.float32)
    if not np.all(np.isfinite(vectors)):
        raise InvalidData("The conditions hold values that are infinite or not a number.")
    return vectors


def _check_range(values, size, what):
    # LiteRT reads no table outside its bounds, but its message would not name the range.
    if values.min() < 0 or values.max() >= size:
        raise InvalidData(
            f"The {what} are from {values.min()} to {values.max()}; expected 0 to {size - 1}. They "
            "belong to another model."
        )
