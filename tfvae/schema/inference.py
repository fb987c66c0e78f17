"""What the columns of a table are, as far as a user does not say it."""

from collections.abc import Mapping

import numpy as np

from tfvae import tables
from tfvae.errors import InvalidArgument, InvalidData, unknown_name
from tfvae.schema.column import STANDARDIZED, TYPES, WITH_CATEGORIES, Column
from tfvae.schema.measurement import as_texts, check_finite, leave_out

_FEW = 10  # so many whole numbers are levels, not measurements
_MOST_CATEGORIES = 50
_MOST_DECIMALS = 9  # that are inferred
_LARGEST_INFERRED = 500  # up to which whole numbers are counts unless a user says otherwise


def description(name: str, value: str | Mapping) -> dict:
    """Return what a user says of a column as a dictionary."""
    value = {"type": value} if isinstance(value, str) else value
    if not isinstance(value, Mapping) or not set(value) <= {"type", "categories"}:
        raise InvalidArgument(
            f"The column {name!r} is described by {value!r}; expected a type, such as 'ordinal', "
            "or {type = 'ordinal', categories = ['low', 'high']}."
        )
    if not isinstance(value.get("categories", []), (list, tuple)):
        raise InvalidArgument(
            f"The categories of the column {name!r} are {value['categories']!r}; expected a list."
        )
    kind = value.get("type", "categorical" if "categories" in value else None)
    if kind is not None and kind not in TYPES:
        raise unknown_name(f"type of the column {name!r}", kind, TYPES)
    return {"type": kind, "categories": tuple(value.get("categories", ()))}


def inferred(table: tables.Table, name: str, values: np.ndarray, given: Mapping) -> Column:
    """Return one column as it is, or as it is given."""
    kind, categories = given.get("type"), given.get("categories", ())
    if kind == "ignored":
        return Column(name, "ignored")
    gone = tables.is_missing(values)
    if gone.all():
        raise InvalidData(
            f"The column {name!r} of {table.name} is empty; expected a value in one row at least. "
            f"{leave_out(name)}"
        )
    found, text_at = tables.numbers(values)
    categories = categories or table.orders.get(name, ())
    if text_at is not None or (categories and isinstance(categories[0], str)):
        return _of_texts(table, name, values, gone, kind, categories)
    check_finite(name, found, table.name)
    levels = np.unique(found[~gone])
    is_whole = bool(np.all(levels == np.round(levels)))
    kind = kind or ("ordinal" if categories else _type_of_numbers(levels, is_whole))
    if kind == "constant":
        return _constant(table, name, [tables.plain(level) for level in levels])
    if kind in WITH_CATEGORIES:
        levels = tuple(tables.plain(level) for level in levels)
        return Column(name, kind, _checked_categories(table, name, categories or levels))
    return Column(name, kind, decimals=_decimals(found[~gone]) if kind in STANDARDIZED else None)


def _of_texts(table, name, values, gone, kind, categories):
    values = as_texts(name, values, table.name)
    levels = sorted(set(values[~gone]))
    kind = kind or ("constant" if len(levels) == 1 else None)
    if kind == "constant":
        return _constant(table, name, levels)
    if kind not in (None, *WITH_CATEGORIES):
        _, row = tables.numbers(values)
        raise InvalidData(
            f"Row {row + 1} of the column {name!r} of {table.name} holds {values[row]!r}; expected "
            f"numbers in a column that is {kind}."
        )
    if kind is None and not categories:
        most = min(_MOST_CATEGORIES, len(values) / 2)
        if len(levels) > max(2, most):
            raise InvalidData(
                f"The column {name!r} of {table.name} holds {len(levels)} different texts in "
                f"{len(values)} rows, such as {levels[0]!r}: neither numbers nor few categories. "
                f"{leave_out(name)}, or call it categorical."
            )
    order = table.orders.get(name)
    kind = kind or ("ordinal" if order else "categorical")
    return Column(name, kind, _checked_categories(table, name, categories or tuple(levels)))


def _constant(table, name, levels):
    if len(levels) > 1:
        raise InvalidData(
            f"The column {name!r} of {table.name} is called constant and holds {levels[0]!r} and "
            f"{levels[1]!r}; expected one value."
        )
    return Column(name, "constant", tuple(levels))


def _checked_categories(table, name, categories):
    if len(categories) < 2:
        raise InvalidData(
            f"The column {name!r} of {table.name} has {len(categories)} category; expected two at "
            "least."
        )
    if len(set(map(type, categories)) - {int, float}) > 1:
        raise InvalidArgument(
            f"The categories of the column {name!r} are {list(categories)}; expected all texts, or "
            "all numbers."
        )
    return tuple(categories)


def _type_of_numbers(levels, is_whole):
    if len(levels) == 1:
        return "constant"
    if not is_whole:
        return "numeric"
    if len(levels) <= _FEW:
        return "categorical" if list(levels) == [0, 1] else "ordinal"
    return "count" if levels[0] == 0 and levels[-1] <= _LARGEST_INFERRED else "numeric"


def _decimals(values):
    """Return how many decimals hold all values exactly; None if it takes too many."""
    for decimals in range(_MOST_DECIMALS + 1):
        if np.array_equal(np.round(values, decimals), values):
            return decimals
    return None
