"""What says of a value that it was not observed: NaN in x, and nothing else."""

from collections.abc import Sequence

import numpy as np

from tfvae.errors import InvalidData


def masked(x: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return examples with NaN for what was not observed, float32.

    Args:
        x: an array of numbers.
        observed: True, or 1, where a value was observed: an array of the shape of x.

    Raises:
        InvalidData: a mask of another shape, or of other values.
    """
    x, observed = np.asarray(x, np.float32), np.asarray(observed)
    if observed.shape != x.shape:
        raise InvalidData(
            f"The mask has the shape {observed.shape}, and the examples {x.shape}; expected the "
            "same, True for each value that was observed."
        )
    if not np.all((observed == 0) | (observed == 1)):
        raise InvalidData(
            "The mask holds other values than 0 and 1; expected 1, or True, for each value that "
            "was observed, and 0, or False, for each that is missing."
        )
    return np.where(observed.astype(bool), x, np.nan).astype(np.float32)


def padded(series: Sequence, length: int | None = None) -> np.ndarray:
    """Return series of different lengths in one array `[N, T, C]`, with NaN behind each.

    Args:
        series: arrays `[T_n, C]`, or `[T_n]` of a single value a step.
        length: T; the longest of them by default.

    Raises:
        InvalidData: no series, series of different C, or one longer than `length`.
    """
    parts = [np.asarray(part, np.float32) for part in series]
    parts = [part[:, np.newaxis] if part.ndim == 1 else part for part in parts]
    widths = sorted({part.shape[1:] for part in parts})
    if len(widths) != 1 or len(widths[0]) != 1:
        shapes = ", ".join(str(part.shape) for part in parts[:3]) or "none"
        raise InvalidData(
            f"The series have the shapes {shapes}; expected one or more [T, C], all of the same C."
        )
    longest = max(map(len, parts))
    length = longest if length is None else length
    if longest > length:
        number = next(n for n, part in enumerate(parts) if len(part) > length)
        raise InvalidData(
            f"Series {number} has {len(parts[number])} steps; expected at most {length}. Give a "
            "larger `length`, or cut it."
        )
    x = np.full((len(parts), length, *widths[0]), np.nan, np.float32)
    for row, part in zip(x, parts, strict=True):
        row[: len(part)] = part
    return x
