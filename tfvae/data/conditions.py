"""What is known of images beside their pixels: labels, or vectors."""

import numpy as np

from tfvae.errors import InvalidData

_MOST_CLASSES = 10**6  # a model has weights for each


def as_conditions(values, count: int, name: str) -> np.ndarray:
    """Return labels `[N]` as int32 and vectors `[N, C]` as float32.

    Raises:
        InvalidData: another type or shape, labels that are negative or from a million on, or
            vectors that are not finite.
    """
    values = np.asarray(values)
    if values.ndim == 2 and values.shape[1] == 1 and values.dtype.kind in "ui":
        values = values[:, 0]
    labels = values.ndim == 1 and values.dtype.kind in "ui"
    vectors = values.ndim == 2 and values.dtype.kind in "buif"
    if len(values) != count or not (labels or vectors):
        raise InvalidData(
            f"{name} is an array of {values.dtype} of shape {values.shape}; expected {count} "
            f"labels, integers of shape ({count},), or vectors of shape ({count}, C)."
        )
    if labels and values.min(initial=0) < 0:
        raise InvalidData(
            f"{name} holds labels from {values.min()}; expected labels from 0 on. Leave images "
            "without a label out."
        )
    if labels and values.max(initial=0) >= _MOST_CLASSES:
        raise InvalidData(
            f"{name} holds the label {values.max()}; expected labels below {_MOST_CLASSES:,}. "
            "Number the classes 0, 1, 2, …: numpy.unique(labels, return_inverse=True)[1]."
        )
    if vectors and not np.all(np.isfinite(values)):
        raise InvalidData(f"{name} holds values that are infinite or not a number.")
    return values.astype(np.int32 if labels else np.float32)
