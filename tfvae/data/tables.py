"""Tables as the parts of a dataset: files, folders of them, and frames."""

import dataclasses
from pathlib import Path

import numpy as np

from tfvae import tables
from tfvae.data.shards import by_split
from tfvae.data.splits import SPLITS, Part, Splits
from tfvae.errors import InvalidData
from tfvae.schema import Schema


def open_tables(
    found: dict[str, tables.Table], columns, condition: str
) -> tuple[dict[str, Part], Schema]:
    """Return the parts of a dataset, not standardized yet, and the schema of its columns.

    Args:
        found: the tables by split, or one.
        columns: a `Schema` to read them by; or what is to be other than inferred, see
            `Schema.inferred`.
        condition: the column that becomes the condition, "" for none.

    Raises:
        InvalidData: columns that are not clear, differ between the splits, or do not fit.
        InvalidArgument: a description of columns that cannot be used.
    """
    schema = columns
    if not isinstance(columns, Schema):
        whole = _joined(" and ".join(t.name for t in found.values()), list(found.values()))
        schema = Schema.inferred(whole, columns, condition)
    parts = {}
    for split, table in found.items():
        x = schema.measured(table)
        parts[split] = Part(x, schema.conditions(table), "vector")
    return parts, schema


def standardized(splits: Splits, schema: Schema, is_fitted: bool) -> Splits:
    """Return splits of x, by the statistics of the training rows if the schema has none yet."""
    if not is_fitted:
        schema = schema.fitted(splits.train.values)
    parts = {}
    for split in SPLITS:
        part = getattr(splits, split)
        x = schema.standardized(part.values)
        parts[split] = dataclasses.replace(part, values=x, schema=schema)
    return dataclasses.replace(splits, **parts)


def tables_in(folder: Path, paths: list[str]) -> dict[str, tables.Table]:
    """Return the tables of a folder by split, those of one split one after the other.

    Raises:
        InvalidData: they cannot be read, or differ in their columns.
    """
    found = {}
    for split, mine in by_split(folder, paths).items():
        read = [tables.read(folder / path) for path in mine]
        found[split] = _joined(f"{folder}", read)
    return found


def _joined(name, parts):
    first = parts[0]
    if len(parts) == 1:
        return first
    for part in parts:
        if set(part.columns) != set(first.columns):
            other = sorted(set(part.columns) ^ set(first.columns))
            raise InvalidData(
                f"{part.name} and {first.name} differ in the columns {', '.join(other[:6])}; "
                "expected the same ones."
            )
    columns = {}
    for key in first.columns:
        columns[key] = _column(name, key, [part.columns[key] for part in parts])
    types = {key: kind for part in reversed(parts) for key, kind in part.types.items()}
    return tables.Table(name, columns, first.orders, types)


def _column(name, key, parts):
    """Return the parts of a column as one; those without a value are of any type."""
    held = [part for part in parts if not tables.is_missing(part).all()] or parts[:1]
    dtype = held[0].dtype
    if any(part.dtype != dtype for part in held):
        raise InvalidData(
            f"The column {key!r} of {name} holds texts in one file and numbers in another; "
            "expected one type."
        )
    nothing = None if dtype.kind == "O" else np.nan
    return np.concatenate(
        [p if p.dtype == dtype else np.full(len(p), nothing, dtype) for p in parts]
    )
