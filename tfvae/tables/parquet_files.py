"""Parquet files, read with pyarrow."""

from pathlib import Path

from tfvae._plain import memory
from tfvae.errors import InvalidData, MissingDependency
from tfvae.tables.frames import of_arrow
from tfvae.tables.table import Table, checked_names

_ROWS_AT_ONCE = 10_000


def read_parquet(path: Path) -> Table:
    """Return the table in a Parquet file.

    Raises:
        InvalidData: the file is damaged, would take too much memory, or holds other values than
            numbers and texts.
    """
    pa, file, stored = _pyarrow(), open_parquet(path), path.stat().st_size
    names = checked_names(str(path), list(file.schema_arrow.names))
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
