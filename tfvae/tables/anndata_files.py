"""AnnData files, `.h5ad`: the counts of genes in cells, read with h5py, which Keras brings."""

from pathlib import Path

import numpy as np

from tfvae._plain import memory, untrusted
from tfvae.errors import InvalidData, MissingDependency, TfvaeError
from tfvae.tables.table import Table, as_objects

_SPARSE = ("csr_matrix", "csc_matrix")


def read_anndata(path: Path) -> Table:
    """Return the table in an AnnData file, whose X is dense, or sparse by rows or columns.

    Its columns are the variables of X, and the observations, texts or numbers. Where X holds whole
    numbers from 0 on, the type of all variables is "count"; that of observations is "ignored".

    Raises:
        InvalidData: it is no such file, is damaged, or takes more memory than a file of its size
            may; or X is missing or of another form.
        InvalidArgument: X does not fit into memory.
        MissingDependency: h5py is not installed.
    """
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "AnnData files need the package 'h5py', which is not installed. Install tfvae with its "
            "training part: pip install 'tfvae[train]'."
        ) from error
    if not path.is_file():
        raise InvalidData(f"There is no file {path}.")
    try:
        with h5py.File(path, "r") as file:
            contents = _contents(file, path)
    except TfvaeError:
        raise
    except MemoryError:
        raise InvalidData(f"{path} takes more memory than there is. Keep fewer cells.") from None
    except Exception as error:  # h5py raises many kinds
        raise InvalidData(
            f"{path} cannot be read as an AnnData file: {error}. Write it anew with anndata 0.8 or "
            "later (write_h5ad)."
        ) from None
    return _table(path, *contents)


def _contents(file, path):
    """Return the names of the variables, X `[N, D]`, and `{name: values}` of the observations."""
    var, obs = file["var"], file["obs"]
    named = {name: obs[name] for name in _observed(obs)}
    parts = [file["X"], var[var.attrs["_index"]], *named.values()]
    untrusted.check_datasets(parts, path)
    texts = _Texts(path)
    variables = texts.read(var[var.attrs["_index"]])
    x = _matrix(file["X"], len(variables))
    return variables, x, {name: _column(stored, name, texts) for name, stored in named.items()}


def _table(path, variables, x, observed):
    """Return the variables and what was observed as a table; variables go before, by name."""
    for name, values in observed.items():
        if len(values) != len(x):
            raise InvalidData(
                f"{path} is damaged: X has {len(x)} rows, and the observation {name!r} has "
                f"{len(values)}."
            )
    columns = dict(zip(variables, x.T, strict=True))
    if len(columns) < len(variables):
        raise InvalidData(
            f"{path} has variables of one name; expected other names. Call var_names_make_unique()."
        )
    others = {name: values for name, values in observed.items() if name not in columns}
    types = dict.fromkeys(others, "ignored")
    if np.all(x >= 0) and np.array_equal(x, np.round(x)):
        types |= dict.fromkeys(variables, "count")
    return Table(str(path), columns | others, types=types)


def _matrix(stored, num_variables):
    """Return X, `[N, D]` float64."""
    kind = stored.attrs.get("encoding-type", "array")
    shape = stored.shape if kind == "array" else tuple(map(int, stored.attrs["shape"]))
    if len(shape) != 2 or min(shape) < 0:
        raise ValueError(f"X has the shape {shape}")
    if shape[1] != num_variables:
        raise ValueError(f"X has {shape[1]} columns and {num_variables} names")
    memory.check_request(
        shape[0], 24 * shape[1], "cells", "Keep at most {most}, or fewer variables."
    )
    if kind == "array":
        return _numbers(stored, "X")
    if kind not in _SPARSE:
        raise ValueError(f"X is stored as {kind!r}")
    data = _numbers(stored["data"], "X")
    places, ends = (_whole(stored[name], "X") for name in ("indices", "indptr"))
    across, along = shape if kind == "csr_matrix" else shape[::-1]
    counts = np.diff(ends)
    if not (len(ends) == across + 1 and ends[0] == 0 and np.all(counts >= 0)):
        raise ValueError("its sparse X does not fit together")
    if not ends[-1] == len(data) == len(places):
        raise ValueError("its sparse X does not fit together")
    if len(places) and not 0 <= places.min() <= places.max() < along:
        raise ValueError("its sparse X has entries outside of it")
    x = np.zeros((across, along))
    # Entries of one place add up, as in SciPy.
    np.add.at(x.reshape(-1), np.repeat(np.arange(across), counts) * along + places, data)
    return x if kind == "csr_matrix" else np.ascontiguousarray(x.T)


def _observed(frame):
    """Return the names of the observations that are columns, without that of the rows."""
    return [name for name in map(str, frame.attrs.get("column-order", ())) if name in frame]


def _column(stored, name, texts):
    """Return an observation as texts, with None where there is none, or as numbers."""
    if not hasattr(stored, "keys"):
        is_text = stored.dtype.kind in "OS"
        return as_objects(texts.read(stored)) if is_text else _numbers(stored, name)
    if {"values", "mask"} <= set(stored):  # "nullable-integer" and the like
        values = _column(stored["values"], name, texts)
        gone = np.asarray(stored["mask"][()], bool)
        if gone.shape != values.shape:
            raise ValueError(f"the observation {name!r} has a mask of another length")
        values[gone] = None if values.dtype == object else np.nan
        return values
    if not {"categories", "codes"} <= set(stored):
        kind = stored.attrs.get("encoding-type", "a group")
        raise ValueError(f"the observation {name!r} is stored as {kind!r}")
    categories = _column(stored["categories"], name, texts)
    codes = _whole(stored["codes"], name)
    if len(codes) and not -1 <= codes.min() <= codes.max() < len(categories):
        raise ValueError(f"the observation {name!r} has codes that are none of its categories")
    return as_objects([None if code < 0 else str(categories[code]) for code in codes])


def _numbers(stored, name):
    if stored.dtype.kind not in "buif":
        raise ValueError(f"{name!r} holds values of type {stored.dtype}")
    return np.asarray(stored[()], np.float64)


def _whole(stored, name):
    if stored.dtype.kind not in "ui" or len(stored.shape) != 1:
        raise ValueError(f"{name!r} has numbers of type {stored.dtype} for places")
    return stored[()].astype(np.int64)


class _Texts:
    """The texts of a file, which may take as much memory together as a file of its size may.

    Many of them may be one text in the file, so that their lengths are known only once they are
    read.

    Args:
        path: of the file.
    """

    def __init__(self, path):
        self.path, self.stored, self.unpacked = path, path.stat().st_size, 0

    def read(self, stored) -> list[str]:
        """Return the texts of a dataset, read a part at a time."""
        if len(stored.shape) != 1:
            raise ValueError(f"texts have the shape {stored.shape}")
        found, reader = [], stored.asstr()
        at_once = max(1, memory.unpacked_limit(self.stored) // self.stored)  # each is shorter
        for start in range(0, len(stored), at_once):
            found += map(str, reader[start : start + at_once])
            self.unpacked += sum(map(len, found[start:]))
            memory.check_unpacked(str(self.path), self.unpacked, self.stored, InvalidData)
        return found
