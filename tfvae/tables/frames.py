"""Tables in memory: pandas and polars frames, tables of Arrow, and dictionaries."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tfvae.errors import InvalidData
from tfvae.tables.table import MISSING, Table, as_objects, checked_names


def of_data(data, name: str = "the table") -> Table:
    """Return a frame, or a dictionary of columns, as a table.

    Args:
        data: a `Table`, a pandas or polars frame, a `pyarrow.Table`, a NumPy array with named
            fields, or `{name: values}`.
        name: what messages call it.

    Raises:
        InvalidData: something else, or a column of other values than numbers and texts.
    """
    if isinstance(data, Table):
        return data
    if type(data).__module__.startswith("pyarrow") and hasattr(data, "column_names"):
        return of_arrow(data, name)
    fields = getattr(getattr(data, "dtype", None), "names", None)
    if isinstance(data, Mapping) or fields:
        names = list(data) if fields is None else list(fields)
    elif not hasattr(data, "columns") or isinstance(data, type):
        raise InvalidData(
            f"{name} is a {type(data).__name__}; expected a pandas or polars frame, or a "
            "dictionary {column: values}."
        )
    else:
        names = list(data.columns)
    columns, orders = {}, {}
    for key, label in zip(checked_names(name, [str(key) for key in names]), names, strict=True):
        values = data[label]
        if _order(values):
            orders[key] = _order(values)
        columns[key] = _plain(values, key, name)
    return Table(name, columns, orders)


def of_arrow(table, name: str) -> Table:
    """Return a `pyarrow.Table` as a table.

    Raises:
        InvalidData: a column of other values than numbers and texts.
    """
    import pyarrow as pa

    columns, orders = {}, {}
    for key in table.column_names:
        column = table.column(key)
        if pa.types.is_dictionary(column.type):
            if column.type.ordered and column.num_chunks:
                orders[key] = tuple(column.chunk(0).dictionary.to_pylist())
            column = column.cast(column.type.value_type)
        columns[key] = _plain(column.to_pylist(), key, name)
    return Table(name, columns, orders)


def is_frame(data) -> bool:
    """Whether data is a table in memory, and not the name of one."""
    return not isinstance(data, (str, Path))


def _order(values):
    """Return the categories of an ordered column of pandas, or of polars's `Enum`."""
    dtype = getattr(values, "dtype", None)
    categories = getattr(dtype, "categories", None)
    if categories is None or not getattr(dtype, "ordered", type(dtype).__name__ == "Enum"):
        return ()
    return tuple(cell.item() if hasattr(cell, "item") else cell for cell in categories)


def _plain(values, key, name):
    """Return a column as numbers, or as an array of texts and None."""
    array = values if isinstance(values, np.ndarray) else None
    if array is None and hasattr(values, "to_numpy"):
        array = np.asarray(values.to_numpy())
    if array is None or array.dtype == object or array.dtype.kind in "US":
        return _of_cells(list(values if array is None else array), key, name)
    if array.ndim != 1 or array.dtype.kind not in "buif":
        raise _no_values(array.dtype, key, name)
    if array.dtype.kind == "b":
        return as_objects([str(bool(cell)) for cell in array])
    return array.astype(np.float64)


def _of_cells(cells, key, name):
    kinds = {type(cell) for cell in cells if not _is_none(cell)}
    if kinds <= {bool, np.bool_} or any(issubclass(kind, str) for kind in kinds):
        other = next(
            (k for k in kinds if not issubclass(k, (str, bool, np.bool_, int, float))), None
        )
        if other is not None and not issubclass(other, np.number):
            raise _no_values(other.__name__, key, name)
        texts = [None if _is_none(cell) else str(cell).strip() for cell in cells]
        return as_objects([None if text in MISSING else text for text in texts])
    try:
        return np.array([np.nan if _is_none(cell) else float(cell) for cell in cells], np.float64)
    except (TypeError, ValueError):
        raise _no_values(next(iter(kinds)).__name__, key, name) from None


def _is_none(cell):
    return (
        cell is None
        or cell is np.nan
        or type(cell).__name__ in ("NAType", "NaTType")
        or (isinstance(cell, float) and cell != cell)
    )


def _no_values(kind, key, name):
    remedy = "Give numbers or texts, or leave the column out."
    if "date" in str(kind) or "time" in str(kind).lower():
        remedy = "Make times numbers, such as the days since a date, or leave the column out."
    return InvalidData(
        f"The column {key!r} of {name} holds values of type {kind}; expected numbers or texts. "
        + remedy
    )
