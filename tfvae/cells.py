"""AnnData files, `.h5ad`: the counts of genes in cells, read with h5py, which Keras brings."""

from pathlib import Path

import numpy as np

from tfvae._plain import memory
from tfvae.errors import InvalidData, MissingDependency

ENDING = ".h5ad"
_SPARSE = ("csr_matrix", "csc_matrix")


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return what an AnnData file says of its cells.

    Args:
        path: of the file, whose X is dense, or sparse by rows or columns.

    Returns:
        `{name: values}` of the variables of X, `[N]` float64 each, and of the observations, texts
        or numbers; and of what type they are where that is not to be inferred: "count" for all
        variables where X holds whole numbers from 0 on, "ignored" for observations.

    Raises:
        InvalidData: it is no such file, or X is missing or of another form.
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
            x = _matrix(file["X"])
            variables = _names(file["var"])
            others = {name: _column(file["obs"][name]) for name in _observed(file["obs"])}
    except (KeyError, OSError, ValueError, TypeError, AttributeError) as error:
        raise InvalidData(
            f"{path} cannot be read as an AnnData file: {error}. Write it anew with anndata 0.8 or "
            "later (write_h5ad)."
        ) from None
    if x.shape[1] != len(variables):
        raise InvalidData(
            f"{path} is damaged: X has {x.shape[1]} columns and {len(variables)} names."
        )
    twice = set(variables) & set(others)
    others = {name: values for name, values in others.items() if name not in twice}
    others = {name: values for name, values in others.items() if len(values) == len(x)}
    columns = dict(zip(variables, x.T, strict=True))
    if len(columns) < len(variables):
        raise InvalidData(
            f"{path} has variables of one name; expected other names. Call var_names_make_unique()."
        )
    types = dict.fromkeys(others, "ignored")
    if np.all(x >= 0) and np.array_equal(x, np.round(x)):
        types |= dict.fromkeys(variables, "count")
    return columns | others, types


def _matrix(stored):
    """Return X, `[N, D]` float64."""
    kind = stored.attrs.get("encoding-type", "array")
    shape = stored.shape if kind == "array" else tuple(map(int, stored.attrs["shape"]))
    if len(shape) != 2:
        raise ValueError(f"X has the shape {shape}")
    memory.check_request(
        shape[0], 24 * shape[1], "cells", "Keep at most {most}, or fewer variables."
    )
    if kind == "array":
        return np.asarray(stored[()], np.float64)
    if kind not in _SPARSE:
        raise ValueError(f"X is stored as {kind!r}")
    data, places, ends = (np.asarray(stored[name]) for name in ("data", "indices", "indptr"))
    by_row = kind == "csr_matrix"
    lines = np.repeat(np.arange(shape[0] if by_row else shape[1]), np.diff(ends))
    if len(lines) != len(data) or len(places) != len(data):
        raise ValueError("its sparse X does not fit together")
    x = np.zeros(shape)
    try:
        x[(lines, places) if by_row else (places, lines)] = data
    except IndexError:
        raise ValueError("its sparse X has entries outside of it") from None
    return x


def _names(frame):
    return [str(name) for name in frame[frame.attrs["_index"]].asstr()[()]]


def _observed(frame):
    """Return the names of the observations that are columns, without that of the rows."""
    return [name for name in map(str, frame.attrs.get("column-order", ())) if name in frame]


def _column(stored):
    """Return an observation as texts, with None where there is none, or as numbers."""
    if hasattr(stored, "keys"):  # categories; or values beside a mask
        if "categories" not in stored:
            return np.zeros(0)
        categories = _column(stored["categories"])
        codes = np.asarray(stored["codes"])
        chosen = np.empty(len(codes), object)
        chosen[:] = [None if code < 0 else str(categories[code]) for code in codes]
        return chosen
    if stored.dtype.kind in "OS":
        texts = np.empty(len(stored), object)
        texts[:] = [str(text) for text in stored.asstr()[()]]
        return texts
    return np.asarray(stored[()], np.float64)
