"""Scores of the examples of a file under the model of a run, and the anomalies among them."""

import dataclasses
from pathlib import Path

import numpy as np

from tfvae import data, tables
from tfvae._plain.files import atomic
from tfvae.config import Config, DataConfig
from tfvae.data.binarized import binarized
from tfvae.data.folder import list_files
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.evaluation import Scores
from tfvae.evaluation.scores import gives_shares
from tfvae.models import GenerativeModel
from tfvae.runs.train import of_vocabulary

_OF_A_FILE = 3  # the number of a split, for noise other than that of training, validation and test


def read_as_run(
    path: Path, config: Config | None, model: GenerativeModel | None = None, missing: bool = False
) -> data.Examples:
    """Return the examples of a file or a folder, read as a run read its own.

    Args:
        path: a folder of images, a table, or an `.npy` or `.npz` file of one array.
        config: the run's; None for the defaults.
        model: of the run, by whose schema a table is read, and by whose statistics arrays are
            standardized; None for one without.
        missing: whether NaN is a missing value, and no error.

    Raises:
        InvalidArgument: an option of the run that its examples do not take.
        InvalidData: there is no such path, or it holds something else.
    """
    own = DataConfig() if config is None else config.data
    options = own.layout, own.resize, own.crop, own.memory_gb, own.kind
    schema, units = (None, None) if model is None else (model.schema, model.standardization)
    examples = data.read_examples(path, *options, schema, missing, units, full_range=own.full_range)
    examples = of_vocabulary(examples, model, path)
    if schema is not None and examples.schema is None:
        raise InvalidData(
            f"{path} is no table, and the model is one of a table with the columns "
            f"{', '.join(column.name for column in schema.in_x)}. Expected a CSV or Parquet file "
            "that has them."
        )
    if model is not None and schema is None and examples.schema is not None:
        raise InvalidData(
            f"{path} is a table, and the model is one of arrays of shape "
            f"{tuple(model.x_shape)}. Expected a folder of images, or an .npy or .npz file of one "
            "array."
        )
    if own.binarization == "none":
        return examples
    drawn = binarized(examples, config.training.seed, _OF_A_FILE)
    return dataclasses.replace(examples, values=drawn, max_value=1.0)


def names_of(path: Path | None, examples: data.Examples) -> list:
    """Return the names of the first examples of a file: of pictures in a folder, else numbers.

    Args:
        path: of the file or the folder, None for a split of a run.
        examples: from the first on.
    """
    if path is not None and path.is_dir() and examples.kind == "image":
        return list(list_files(path))[: len(examples)]
    return list(range(len(examples)))


def write_table(
    path: Path, scores: Scores, names: list, limit: float | None = None, schema=None
) -> None:
    """Write scores as a CSV: a row for each example, a column for each of `Scores.columns`.

    For vectors there is a further column for the share of each value in the reconstruction.

    Args:
        path: of the CSV.
        scores: of the examples.
        names: of the examples, the first column.
        limit: the score below which an example is an anomaly, for a last column of 0 and 1; None
            for no such column.
        schema: of the table that the examples are rows of, for the names of its columns.
    """
    columns = {"example": names, **scores.columns()}
    shares = scores.reconstruction_by_value
    if shares is not None and shares.ndim == 2:
        labels = range(len(shares.T)) if schema is None else [c.name for c in schema.in_x]
        columns |= {f"reconstruction_{x}": of for x, of in zip(labels, shares.T, strict=True)}
    if limit is not None:
        columns["anomaly"] = (scores.log_likelihood < limit).astype(int)
    tables.write_csv({name: _texts(values) for name, values in columns.items()}, path)


def check_shares(model: GenerativeModel, path: Path) -> None:
    """Refuse to write the shares of values to a path, if the scores under a model have none.

    Raises:
        InvalidArgument: with the reason.
    """
    if not gives_shares(model):
        raise InvalidArgument(
            f"Nothing is written to {path}: the likelihood of the model gives log p(x|z) of an "
            "example as a whole, without a share for each value. Leave out --by-value."
        )


def write_shares(path: Path, scores: Scores) -> None:
    """Write the share of each value in the reconstruction as an `.npy`, `[N, *x_shape]`."""
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.save(file, scores.reconstruction_by_value)


def _texts(values):
    """Return values as a CSV has them; floats with the digits that float32 has."""
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        return [f"{value:.9g}" for value in values]
    return values
