"""The values of one column as numbers, and numbers as its values."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfvae import tables
from tfvae.errors import InvalidData
from tfvae.schema.column import Column
from tfvae.standardization import scale_of

_LARGEST_COUNT = 2**24  # up to which float32 holds every whole number


def measured(column: Column, values: np.ndarray, source: str) -> np.ndarray:
    """Return the numbers of one column before they are standardized, `[N]` float64."""
    gone = tables.is_missing(values)
    if column.holds_text:
        texts = as_texts(column.name, values, source)
        places = {text: place for place, text in enumerate(column.categories)}
        found = np.array([np.nan if t is None else places.get(t, -1) for t in texts], np.float64)
    else:
        found, row = tables.numbers(values)
        if row is not None:
            raise _unfit(column, row, values[row], source, "a number")
        check_finite(column.name, found, source)
    if column.categories and not column.holds_text:
        found = _places(column, found, gone)
    if column.categories:
        check_all(column, found < 0, values, source, one_of(column.categories))
        return found / max(1, len(column.categories) - 1)
    if column.type == "positive":
        check_all(column, found <= 0, values, source, "a number above 0")
        return np.log(found)
    if column.type == "count":
        check_all(column, found < 0, values, source, "a count, at least 0")
        check_all(column, found > _LARGEST_COUNT, values, source, "a count of at most 2^24")
        check_all(column, (found != np.round(found)) & ~gone, values, source, "a whole number")
    return found


def _places(column, found, gone):
    levels = np.array(column.categories, np.float64)
    order = np.argsort(levels)
    place = np.clip(np.searchsorted(levels[order], found), 0, len(levels) - 1)
    places = np.where(levels[order][place] == found, order[place], -1).astype(np.float64)
    places[gone] = np.nan
    return places


def one_of(categories: Sequence) -> str:
    """Return what is expected of a value with categories, for a message."""
    shown = ", ".join(repr(c) for c in categories[:6])
    more = f", … ({len(categories)})" if len(categories) > 6 else ""
    return f"{'one of ' if len(categories) > 1 else ''}{shown}{more}"


def check_finite(name: str, values: np.ndarray, source: str) -> None:
    """Refuse infinite numbers, with the row."""
    bad = np.isinf(values)
    if bad.any():
        row = int(np.argmax(bad))
        raise InvalidData(
            f"Row {row + 1} of the column {name!r} of {source} holds {values[row]}; expected "
            "finite numbers. Leave the cell empty if the value is not known."
        )


def leave_out(name: str) -> str:
    """Return how a column is left out, a sentence for a message without its point."""
    return (
        f"Leave it out with --set data.columns.{name}=ignored, columns={{{name!r}: 'ignored'}} in "
        "Python"
    )


def check_all(
    column: Column, bad: np.ndarray, values: np.ndarray, source: str, expected: str
) -> None:
    """Refuse values of which some are bad, with the row of the first one."""
    if bad.any():
        row = int(np.argmax(bad))
        raise _unfit(column, row, values[row], source, expected)


def _unfit(column, row, value, source, expected):
    is_number = not isinstance(value, str) and value is not None and value == value
    value = tables.plain(value) if is_number else value
    return InvalidData(
        f"Row {row + 1} of the column {column.name!r} of {source} holds {value!r}; expected "
        f"{expected}, since the column is {_a_type(column.type)}."
    )


def _a_type(name):
    return {"count": "a count", "condition": "the condition"}.get(name, name)


def fitted(column: Column, values: np.ndarray) -> Column:
    """Return a column with the statistics of the measured values of training rows, `[N]`."""
    values = values[~np.isnan(values)]
    mean, scale = float(np.mean(values)), float(np.std(values))
    scale = float(scale_of(mean, scale))
    return dataclasses.replace(column, mean=mean, scale=scale)


def decoded(column: Column, measured: np.ndarray) -> np.ndarray:
    """Return the values of one column, `[N]`, of numbers before they were standardized."""
    if column.categories:
        levels = len(column.categories) - 1
        gone = np.isnan(measured)
        place = np.clip(np.round(np.where(gone, 0.0, measured) * levels), 0, levels).astype(int)
        cells = [None if n else column.categories[p] for n, p in zip(gone, place, strict=True)]
        return tables.as_objects(cells)
    if column.type == "count":
        return _whole(np.maximum(np.round(measured), 0.0))
    values = np.exp(measured) if column.type == "positive" else measured
    if column.decimals is None:
        return values
    rounded = np.round(values, column.decimals) + 0.0  # no negative zeros
    return _whole(rounded) if column.decimals == 0 else rounded


def _whole(values):
    """Return integers where int64 holds all values, which are whole or NaN."""
    return values.astype(np.int64) if (np.abs(values) < 2.0**63).all() else values


def checked_labels(column: Column, condition: Any, count: int) -> np.ndarray:
    """Return y of each row, `[N]`, as it stands for a category of the column."""
    labels, last = np.asarray(condition), len(column.categories) - 1
    if labels.dtype.kind not in "ui" or labels.shape not in ((), (count,)):
        raise InvalidData(
            f"The conditions are an array of {labels.dtype} of shape {labels.shape}; expected one "
            f"whole number, or {count}, one for each row."
        )
    if labels.size and not 0 <= labels.min() <= labels.max() <= last:
        raise InvalidData(
            f"The conditions are from {labels.min()} to {labels.max()}; expected 0 to {last}, a "
            f"category of the column {column.name!r} each."
        )
    return np.broadcast_to(labels, (count,))


def as_texts(name: str, values: np.ndarray, source: str) -> np.ndarray:
    """Return the column of this name as texts and None.

    Raises:
        InvalidData: it holds infinite numbers.
    """
    if values.dtype == object:
        return values
    check_finite(name, values, source)
    return tables.as_objects([None if v != v else str(tables.plain(v)) for v in values])
