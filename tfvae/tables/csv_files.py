"""CSV files, read and written."""

import csv
import io
import itertools
import math
import re
from pathlib import Path

import numpy as np

from tfvae._plain import memory
from tfvae._plain.files import atomic
from tfvae.errors import InvalidData
from tfvae.tables.table import MISSING, Table, as_objects, checked_names, is_number

_DELIMITERS = ",;\t|"
_QUOTED = re.compile(r'(?:^|(?<=[,;\t|])) *"(?:[^"]|"")*"')  # a name that may hold delimiters
_LONGEST_HEADER = 1 << 20  # in which quotes are looked for
_BYTES_PER_BYTE = 12  # what a text file takes in memory, as strings
_ROWS_AT_ONCE = 10_000
_MANY = 6  # values of a row are in order by chance in one of 6!/2 = 360


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
        columns = _columns(path, _header(path, names), rows)
    except csv.Error as error:
        raise InvalidData(
            f"{path} cannot be read as CSV: {error} near line {rows.line_num}. Repair it."
        ) from None
    return Table(str(path), columns)


def write_csv(columns: dict[str, np.ndarray], path: str | Path) -> None:
    """Write columns as CSV, in UTF-8, missing values as empty cells.

    Raises:
        InvalidFile: it cannot be written.
    """
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*(map(_cell, column) for column in columns.values()), strict=True))


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


def _header(path, names):
    """Return the names in the first line, which are no values.

    Beside a text, some may be numbers in an order that values seldom have.
    """
    names = [name.strip() for name in names]
    found = [name for name in names if is_number(name) and math.isfinite(float(name))]
    if found and (len(found) == len(names) or not _are_names(found)):
        raise InvalidData(
            f"{path} has numbers in its first line, {', '.join(found[:4])}; expected the names of "
            "the columns. Add a first line with them, or put letters before names that are "
            "numbers: without, they are taken for values, unless they are whole and ascend, or "
            f"are three or more that are evenly spaced, or {_MANY} or more that ascend or descend, "
            "beside a text."
        )
    return checked_names(str(path), names)


def _are_names(numbers):
    """Whether numbers are ordered as those are that name columns: years, wavelengths, 0, 1, 2, …"""
    values = [float(number) for number in numbers]
    steps = [other - one for one, other in itertools.pairwise(values)]
    ascend, descend = all(step > 0 for step in steps), all(step < 0 for step in steps)
    if ascend and all(number.isdecimal() for number in numbers):
        return True
    even = len(steps) > 1 and all(math.isclose(step, steps[0], rel_tol=1e-6) for step in steps)
    return (ascend or descend) and (even or len(numbers) >= _MANY)


def _columns(path, names, rows):
    cells, known = [[] for _ in names], {}
    for row, line in enumerate(_lines(rows, len(names)), start=1):
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


def _lines(rows, width):
    """Yield the rows; a blank line is none, but in a single column it is an empty cell.

    Blank lines at the end are none in any case.
    """
    blank = 0
    for row in rows:
        if not row:
            blank += 1
            continue
        if width == 1:
            yield from [[""]] * blank
        blank = 0
        yield row


def _cell(value):
    if value is None or value != value:
        return ""
    if isinstance(value, (float, np.floating)):
        return repr(float(value))
    return str(value)
