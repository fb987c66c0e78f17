"""The measures of a run on its test split."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tfvae.config import Config
from tfvae.data import SPLITS, Examples, Splits
from tfvae.errors import InvalidData, TfvaeError, TfvaeWarning
from tfvae.evaluation import active_units, code_measures, in_units, log_likelihood
from tfvae.models import CodeModel, GenerativeModel
from tfvae.paths import config_of
from tfvae.runs.directory import open_model
from tfvae.runs.train import load_data


def evaluate(
    model: GenerativeModel,
    splits: Splits,
    num_samples: int,
    num_examples: int = 0,
    seed: int = 0,
    progress: bool = True,
) -> dict:
    """Return the measures of a model on the test split, as plain numbers for JSON.

    Args:
        model: the trained model.
        splits: its data.
        num_samples: importance samples for each image.
        num_examples: how many test images, from the first; 0 for all.
        seed: of the samples.
        progress: whether to show a progress bar on standard error.

    Returns:
        What `LogLikelihood.summary` has, of the data in its own units, and `active_units`, which
        counts over the whole split; of a model of codes, what `code_measures` and
        `CodeLogLikelihood.summary` have, the latter unless the likelihood is a density.
    """
    test = splits.test
    some = test.first(num_examples or len(test))
    if isinstance(model, CodeModel):
        values = code_measures(model, some, progress=progress)
        if not model.likelihood.is_density:
            values |= log_likelihood(model, some, progress=progress).summary()
    else:
        found = log_likelihood(model, some, num_samples=num_samples, seed=seed, progress=progress)
        values = of_data(found, model, some).summary()
        values["active_units"] = active_units(model, test, progress=progress)
    return values


def of_data(found: Any, model: GenerativeModel, examples: Examples) -> Any:
    """Convert measures of x into measures of the data in its own units.

    Args:
        found: what `tfvae.log_likelihood` or `tfvae.score` gave.
        model: the model, whose schema or standardization says what x stands for.
        examples: `tfvae.data.Examples`, what was measured.
    """
    if model.schema is None and model.standardization is None:
        return found
    return in_units(found, model.log_jacobian(examples.numpy()))


def load_run(path: str | Path, assignments: dict) -> tuple[GenerativeModel, Config | None, Splits]:
    """Return (model, configuration, data) of a run directory, or of a `.keras` file.

    A file alone does not say how its training read the data: the settings are the defaults, and the
    seed, which decides how data without splits is split, is that of the model.

    Args:
        path: the run, or the file.
        assignments: settings to replace, `{"data.name": ...}`; a file needs at least that one.

    Raises:
        InvalidFile: there is no finished run or no model.
        InvalidArgument: a `.keras` file without a dataset.
        InvalidData: data that does not fit the model.

    Warns:
        TfvaeWarning: a `.keras` file, for which the data is split anew.
    """
    config = config_of(path, assignments)
    model, _ = open_model(path)
    if not Path(path).is_dir():
        config = config.override({"training.seed": model.seed % 2**32})
        warnings.warn(
            f"{path} is a model without a run, so {config.data.name} is read with default settings "
            f"and, unless it has splits of its own, split anew by the seed of the model, "
            f"{config.training.seed}. If it was trained on this data with another seed, test "
            "examples may be ones that it was trained on. Name its run instead where there is one.",
            TfvaeWarning,
            stacklevel=2,
        )
    splits = load_data(config, model)
    if splits.has_missing and model.likelihood.complete() is model.likelihood:
        parts = (getattr(splits, part).values for part in SPLITS)
        gone = sum(np.isnan(values).sum(axis=0) for values in parts)
        column = splits.schema.in_x[int(np.argmax(gone))].name
        raise InvalidData(
            f"{splits.name} has empty cells, {gone.max()} in the column {column!r} "
            "for instance, and the model was trained on a table without. Fill them in, leave these "
            "rows out, or train on a table that has some."
        )
    model.check_data(splits.test.numpy(0, 1), "test")
    return model, config, splits


def export_examples(
    config: Config | None, num_test: int, num_training: int, model: GenerativeModel
) -> list[tuple[np.ndarray | None, np.ndarray | None]]:
    """Return test examples to verify an export with, and training examples to calibrate it with.

    Each are (x, y), where y is None for a model without a condition. All are None if the data
    cannot be loaded.
    """
    if config is None:
        return [(None, None)] * 2
    try:
        splits = load_data(config, model)
    except TfvaeError as error:
        warnings.warn(
            f"The run's data cannot be loaded, so the export is verified on samples: {error}",
            TfvaeWarning,
            stacklevel=2,
        )
        return [(None, None)] * 2
    return [
        (split.numpy(0, count), split.conditions_of(model, 0, count))
        for split, count in ((splits.test, num_test), (splits.train, num_training))
    ]
