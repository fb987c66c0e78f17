"""Files of decoded examples: a picture, the rows of a table as CSV, or an array of all values."""

from pathlib import Path

import numpy as np

from tfvae import images, tables
from tfvae.errors import InvalidArgument
from tfvae.files import atomic
from tfvae.schema import Schema


def default_ending(schema: Schema | None, kind: str = "image") -> str:
    """Return the ending of the file that examples go into where no other is named.

    Args:
        schema: of the table that they are rows of, or None.
        kind: what they are otherwise, one of `tfvae.kinds.KINDS`.
    """
    if schema is not None:
        return ".csv"
    return ".png" if kind == "image" else ".npy"


def noun(schema: Schema | None, shape: tuple[int, ...]) -> str:
    """Return what several decoded examples are called."""
    if schema is not None:
        return "rows"
    return "images" if len(shape) == 3 else "examples"


def check_ending(path: str | Path, schema: Schema | None) -> None:
    """Refuse a path whose ending is of no format that can be written, before the work.

    Raises:
        InvalidArgument: with those that can.
    """
    if schema is None:
        images.check_ending(path)
    elif Path(path).suffix.lower() not in (".csv", ".npy"):
        raise InvalidArgument(
            f"Cannot write {path}; the rows of a table go into a name ending in .csv, or in .npy "
            "for the standardized numbers."
        )


def save(
    values: np.ndarray, path: str | Path, schema: Schema | None = None, condition=None
) -> None:
    """Write examples: rows as CSV where there is a schema, else images as one picture.

    A path that ends in .npy gets all values as they are.

    Args:
        values: `[N, *shape]`.
        path: of the file.
        schema: of the table that they are rows of, or None.
        condition: y of the rows, for the column that is the condition.

    Raises:
        InvalidArgument: the ending is of no format that can be written.
        InvalidData: what is neither rows nor images.
    """
    check_ending(path, schema)
    if Path(path).suffix.lower() == ".npy":
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.save(file, values)
    elif schema is not None:
        tables.write_csv(schema.decode(values, condition), path)
    else:
        images.save_grid(values, path)
