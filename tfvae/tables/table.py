"""What all tables are: columns by name, of numbers or of texts."""

import re

import numpy as np

from tfvae.errors import InvalidData

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "?")  # texts in place of a value
_NUMBER = re.compile(
    r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?)", re.IGNORECASE | re.ASCII
)


class Table:
    """Columns of equal length, as they came.

    Args:
        name: what messages call it.
        columns: {name: array}, numbers (NaN where there is none), or texts (None where there is
            none), which may be texts of numbers.
        orders: {name: categories}, where the source says in which order they are.
        types: {name: type}, where the source says what a column is, see `tfvae.data.Column`. A
            column without a name is "ignored" where it numbers the rows, as pandas writes it:
            whole numbers that all differ.

    Raises:
        InvalidData: no columns, no rows, or columns of different lengths.
    """

    def __init__(
        self,
        name: str,
        columns: dict[str, np.ndarray],
        orders: dict | None = None,
        types: dict | None = None,
    ):
        index = {"": "ignored"} if "" in columns and _is_index(columns[""]) else {}
        self.name, self.columns = name, columns
        self.orders, self.types = orders or {}, index | (types or {})
        lengths = {key: len(values) for key, values in columns.items()}
        if not lengths or not max(lengths.values()):
            what = "no rows" if lengths else "no columns"
            raise InvalidData(f"{name} has {what}; expected a table with a row for each example.")
        if len(set(lengths.values())) > 1:
            one, other = (lambda i: (i[0], i[-1]))(sorted(lengths, key=lengths.get))
            raise InvalidData(
                f"{name} has {lengths[one]} rows in column {one!r} and {lengths[other]} in "
                f"{other!r}; expected as many in each."
            )

    def __len__(self):
        return len(next(iter(self.columns.values())))


def is_number(text: str) -> bool:
    """Whether a text is a number, finite or not, and not NaN."""
    return _NUMBER.fullmatch(text) is not None


def numbers(values: np.ndarray) -> tuple[np.ndarray, int | None]:
    """Return the numbers in a column, and the row of the first cell that is none, from 0 on.

    Missing ones are NaN.
    """
    if values.dtype != object:
        return values.astype(np.float64), None
    found = np.full(len(values), np.nan)
    for row, cell in enumerate(values):
        if cell is None:
            continue
        if not is_number(cell):
            return found, row
        found[row] = float(cell)
    return found, None


def plain(number: float) -> int | float:
    """Return a finite number as Python has it, whole where it is."""
    return int(number) if number == int(number) else float(number)


def is_missing(values: np.ndarray) -> np.ndarray:
    """Return which cells of a column are missing, `[N]`."""
    if values.dtype != object:
        return np.isnan(values)
    return np.array([cell is None for cell in values], bool)


def as_objects(cells: list) -> np.ndarray:
    """Return an array of Python objects, none of them taken for an axis."""
    array = np.empty(len(cells), object)
    array[:] = cells
    return array


def _is_index(values):
    """Whether a column holds whole numbers that all differ."""
    found, text_at = numbers(values)
    whole = text_at is None and bool(np.all(np.isfinite(found) & (found == np.round(found))))
    return whole and len(np.unique(found)) == len(found)


def checked_names(source: str, names: list[str]) -> list[str]:
    """Return the names of the columns of a table.

    Raises:
        InvalidData: a column without a name, but for the first one, or two of one name.
    """
    for place, name in enumerate(names[1:], start=2):
        if not name:
            raise InvalidData(f"{source} has no name for column {place}; expected one. Add it.")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidData(f"{source} has two columns {twice!r}; expected other names. Rename one.")
    return names
