"""Tables as columns by name: CSV and Parquet files, pandas and polars frames, dictionaries."""

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tfvae import cells
from tfvae._plain import memory
from tfvae._plain.files import atomic
from tfvae.errors import InvalidData, MissingDependency

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "?")  # cells of a text file
_NUMBER = re.compile(
    r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?)", re.IGNORECASE | re.ASCII
)
_DELIMITERS = ",;\t|"
_QUOTED = re.compile(r'(?:^|(?<=[,;\t|])) *"(?:[^"]|"")*"')  # a name that may hold delimiters
_LONGEST_HEADER = 1 << 20  # in which quotes are looked for
_BYTES_PER_BYTE = 12  # what a text file takes in memory, as strings
_ROWS_AT_ONCE = 10_000


class Table:
    """Columns of equal length, as they came.

    Args:
        name: what messages call it.
        columns: {name: array}, numbers (NaN where there is none), or texts (None where there is
            none), which may be texts of numbers.
        orders: {name: categories}, where the source says in which order they are.
        types: {name: type}, where the source says what a column is, see `tfvae.schema.Column`.

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
        self.name, self.columns, self.orders, self.types = name, columns, orders or {}, types or {}
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
        if not _NUMBER.fullmatch(cell):
            return found, row
        found[row] = float(cell)
    return found, None


def is_missing(values: np.ndarray) -> np.ndarray:
    """Return which cells of a column are missing, `[N]`."""
    if values.dtype != object:
        return np.isnan(values)
    return np.array([cell is None for cell in values], bool)


def read(path: Path) -> Table:
    """Return the table in a CSV, Parquet or AnnData file, by its ending.

    Raises:
        InvalidData: it cannot be read.
    """
    if path.suffix.lower() == cells.ENDING:
        columns, types = cells.read(path)
        return Table(str(path), columns, types=types)
    return (read_parquet if path.suffix.lower() == ".parquet" else read_csv)(path)


def read_csv(path: Path) -> Table:
    """Return the table in a CSV file: UTF-8, with the names of the columns in its first line.

    The delimiter is the comma, the semicolon, the tab or the bar, whichever comes most often in the
    first line outside of quotes. Cells that are empty or `NA`, `N/A`, `NaN`, `nan`, `null`, `NULL`
    or `?` are missing.

    Raises:
        InvalidData: the file cannot be read, has rows of different lengths, or no names.
        InvalidArgument: it does not fit into memory.
    """
    text = _text(path)
    first = _QUOTED.sub("", text.lstrip("\n")[:_LONGEST_HEADER]).partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first.count)
    rows = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        names = next((row for row in rows if row), [])
        columns = _columns(path, _checked_names(path, names), rows)
    except csv.Error as error:
        raise InvalidData(
            f"{path} cannot be read as CSV: {error} near line {rows.line_num}. Repair it."
        ) from None
    return Table(str(path), columns)


def _text(path):
    try:
        size = path.stat().st_size
        memory.check_request(
            size, _BYTES_PER_BYTE, f"bytes of {path}", "Read a part of it, or use Parquet."
        )
        content = path.read_bytes()
    except FileNotFoundError:
        raise InvalidData(f"There is no file {path}.") from None
    except OSError as error:
        raise InvalidData(f"{path} cannot be read: {error.strerror}.") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidData(
            f"{path} is not a text file in UTF-8: byte {error.start} is {content[error.start]:#x}. "
            "Save it as CSV in UTF-8."
        ) from None
    if "\0" in text:
        raise InvalidData(f"{path} holds a zero byte, which no text file has. Save it as CSV.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _checked_names(path, names):
    names = [name.strip() for name in names]
    if names and all(_NUMBER.fullmatch(name) for name in names):
        raise InvalidData(
            f"{path} has numbers in its first line, {', '.join(names[:4])}; expected the names of "
            "the columns. Add a first line with them."
        )
    return _named(path, names)


def _named(source, names):
    """Refuse columns without a name, but for a first one, and those of one name."""
    for place, name in enumerate(names[1:], start=2):
        if not name:
            raise InvalidData(f"{source} has no name for column {place}; expected one. Add it.")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidData(f"{source} has two columns {twice!r}; expected other names. Rename one.")
    return names


def _columns(path, names, rows):
    cells, known = [[] for _ in names], {}
    for row, line in enumerate((line for line in rows if line), start=1):
        if len(line) != len(names):
            raise InvalidData(
                f"{path} has {len(line)} cells in row {row} and {len(names)} columns; expected as "
                "many. Repair it."
            )
        for column, cell in zip(cells, line, strict=True):
            cell = cell.strip()
            # Repeated texts are held once.
            column.append(None if cell in MISSING else known.setdefault(cell, cell))
        if len(known) > _ROWS_AT_ONCE * len(names):
            known = {}
    return {name: as_objects(column) for name, column in zip(names, cells, strict=True)}


def as_objects(cells: list) -> np.ndarray:
    """Return an array of Python objects, none of them taken for an axis."""
    array = np.empty(len(cells), object)
    array[:] = cells
    return array


def is_table_of_values(path: Path) -> bool:
    """Whether a Parquet file holds numbers and texts alone, no pictures.

    Raises:
        InvalidData: it cannot be read.
    """
    pa = _pyarrow()
    types = pa.types
    plain = (
        *(types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_null),
        *(types.is_string, types.is_large_string, types.is_dictionary, types.is_temporal),
    )
    schema = open_parquet(path).schema_arrow
    return bool(schema.names) and all(any(is_(f.type) for is_ in plain) for f in schema)


def read_parquet(path: Path) -> Table:
    """Return the table in a Parquet file.

    Raises:
        InvalidData: the file is damaged, would take too much memory, or holds other values than
            numbers and texts.
    """
    pa, file, stored = _pyarrow(), open_parquet(path), path.stat().st_size
    names = _named(path, list(file.schema_arrow.names))
    memory.check_unpacked(
        str(path), 8 * file.metadata.num_rows * max(1, len(names)), stored, InvalidData
    )
    batches, unpacked = [], 0
    try:
        for batch in file.iter_batches(_ROWS_AT_ONCE):
            batches.append(batch)
            unpacked += batch.nbytes
            memory.check_unpacked(str(path), unpacked, stored, InvalidData)
        return of_arrow(pa.Table.from_batches(batches, file.schema_arrow), str(path))
    except InvalidData:
        raise
    except Exception as error:  # of many kinds
        raise InvalidData(
            f"{path} cannot be read: {error}. Write the file anew, or remove it."
        ) from None


def open_parquet(path: Path):
    """Return a Parquet file, a `pyarrow.parquet.ParquetFile`.

    Raises:
        InvalidData: it is missing, or no such file.
    """
    pa = _pyarrow()
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(path)
    except FileNotFoundError:
        raise InvalidData(f"There is no file {path}.") from None
    except (OSError, pa.ArrowException) as error:
        raise InvalidData(
            f"{path} cannot be read as a Parquet file: {error}. Write it anew, or remove it."
        ) from None


def _pyarrow():
    try:
        import pyarrow
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "Parquet files need the package 'pyarrow', which is not installed. Install tfvae with "
            "its training part: pip install 'tfvae[train]'."
        ) from error
    return pyarrow


def of_arrow(table, name: str) -> Table:
    """Return a `pyarrow.Table` as a table.

    Raises:
        InvalidData: a column of other values than numbers and texts.
    """
    pa, columns, orders = _pyarrow(), {}, {}
    for key in table.column_names:
        column = table.column(key)
        if pa.types.is_dictionary(column.type):
            if column.type.ordered and column.num_chunks:
                orders[key] = tuple(column.chunk(0).dictionary.to_pylist())
            column = column.cast(column.type.value_type)
        columns[key] = _plain(column.to_pylist(), key, name)
    return Table(name, columns, orders)


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
    for key, label in zip(_named(name, [str(key) for key in names]), names, strict=True):
        values = data[label]
        if _order(values):
            orders[key] = _order(values)
        columns[key] = _plain(values, key, name)
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


def write_csv(columns: dict[str, np.ndarray], path: str | Path) -> None:
    """Write columns as CSV, in UTF-8, missing values as empty cells.

    Raises:
        InvalidFile: it cannot be written.
    """
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*(map(_cell, column) for column in columns.values()), strict=True))


def _cell(value):
    if value is None or value != value:
        return ""
    if isinstance(value, (float, np.floating)):
        return repr(float(value))
    return str(value)
