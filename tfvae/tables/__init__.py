"""Tables as columns by name, from CSV, Parquet and AnnData files, frames and dictionaries."""

from pathlib import Path

from tfvae.tables.anndata_files import read_anndata
from tfvae.tables.csv_files import read_csv, write_csv
from tfvae.tables.frames import is_frame, of_arrow, of_data
from tfvae.tables.parquet_files import is_table_of_values, open_parquet, read_parquet
from tfvae.tables.table import Table, as_objects, is_missing, numbers, plain

__all__ = [
    "Table",
    "as_objects",
    "is_frame",
    "is_missing",
    "is_table_of_values",
    "numbers",
    "of_arrow",
    "of_data",
    "open_parquet",
    "plain",
    "read",
    "read_anndata",
    "read_csv",
    "read_parquet",
    "write_csv",
]
_READ = {".h5ad": read_anndata, ".parquet": read_parquet}


def read(path: Path) -> Table:
    """Return the table in a CSV, Parquet or AnnData file, by its ending.

    Raises:
        InvalidData: it cannot be read.
    """
    return _READ.get(path.suffix.lower(), read_csv)(path)
