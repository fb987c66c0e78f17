"""Files of decoded examples: a picture, the rows of a table as CSV, or an array of all values."""

from pathlib import Path
from typing import Any

import numpy as np

from tfvae import images, tables
from tfvae._plain.files import atomic
from tfvae.errors import InvalidArgument
from tfvae.schema import Schema


def default_ending(schema: Schema | None, kind: str = "image") -> str:
    """Return the default ending of the file that examples are written to.

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


def in_units(x: np.ndarray, source: Any) -> np.ndarray:
    """Return the values of vectors and series, or the tokens, that x stands for; else x itself.

    Args:
        x: `[N, *shape]`, what a model is given or gives.
        source: what has a `standardization` and `num_tokens`, a model or a
            `tfvae.ondevice.Decoder`.
    """
    if source.num_tokens:
        return np.round(x * (source.num_tokens - 1)).astype(np.int32)
    return x if source.standardization is None else source.standardization.restored(x)


def save(
    x: np.ndarray,
    path: str | Path,
    source: Any,
    condition: Any = None,
    observed: np.ndarray | tables.Table | None = None,
) -> None:
    """Write examples in the units of the data: rows as CSV, or images as one picture.

    A path that ends in .npy gets all values, those of a table standardized.

    Args:
        x: `[N, *shape]`.
        path: of the file.
        source: the model or the `tfvae.ondevice.Decoder` that they come from, for its `schema` and
            its `standardization`.
        condition: y of the rows, for the column that is the condition.
        observed: what is written as it is but for what is missing: values of an array,
            `[N, *shape]`, or the table that has been filled in.

    Raises:
        InvalidArgument: the ending is of no format that can be written.
        InvalidData: what is neither rows nor images.
    """
    schema, values = source.schema, in_units(x, source)
    if isinstance(observed, np.ndarray):
        values = np.where(np.isnan(observed), values, observed)
    check_ending(path, schema)
    if Path(path).suffix.lower() == ".npy":
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.save(file, values)
    elif schema is not None:
        columns = schema.decode(values, condition)
        if observed is not None:
            columns = {name: _filled(cells, observed, name) for name, cells in columns.items()}
        tables.write_csv(columns, path)
    else:
        images.save_grid(values, path)


def _filled(cells, table, name):
    """Return the cells of a column of a table, and others where they are missing."""
    if name not in table.columns:
        return cells
    given = table.columns[name]
    gone = tables.is_missing(given)
    kept = given if given.dtype == object else [tables.plain(v) for v in np.where(gone, 0, given)]
    return tables.as_objects([c if n else k for n, c, k in zip(gone, cells, kept, strict=True)])
