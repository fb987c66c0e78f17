"""The state of a model in training, as a checkpoint keeps it: variables, and what the data is."""

import contextlib
import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfvae.checkpoints import Position
from tfvae.data import Batches
from tfvae.data.contents import alike
from tfvae.errors import InvalidArgument, InvalidFile, TfvaeError, TfvaeWarning
from tfvae.optimizers import learning_rate_of
from tfvae.training import COMPILE_OPTIONS


def check(model: keras.Model, data: Any) -> None:
    """Refuse a model or data whose state could not be restored.

    Raises:
        InvalidArgument: data that keeps no order, or a layer whose weights the first step makes.
    """
    if not isinstance(data, Batches):
        raise InvalidArgument(
            f"`Resume` cannot go on within a {type(data).__name__}, whose order is kept nowhere. "
            "Fit to batches of tfvae.data, which can begin at any batch: images.batches("
            "batch_size) of what tfvae.data.load gives, or tfvae.data.shuffled_batches(x, "
            "batch_size) of an array; tfvae.data.Batches makes them of a source of your own."
        )
    unbuilt = [layer.name for layer in model._flatten_layers() if not layer.built]
    if unbuilt:
        raise InvalidArgument(
            f"The layer {unbuilt[0]!r} has no weights yet: the first step would make them, after "
            "those of a checkpoint are restored. Build it with the model, by its `build(shape)`."
        )


def state_of(model: keras.Model, data: Batches, averages: list[np.ndarray] | None = None) -> dict:
    """Return the state of a model, its optimizer and its data as a tree for a checkpoint.

    Args:
        model: the one that is being trained.
        data: what it is fitted to.
        averages: those of the epoch, where a validation has replaced them by its own.
    """
    variables = {
        part: [np.asarray(variable) for variable in values]
        for part, values in _variables(model).items()
    }
    averages = epoch_averages(model) if averages is None else averages
    return {
        "variables": {**variables, "averages": averages},
        "learning_rate": learning_rate_of(model.optimizer),
        "layers_add_losses": model.layers_add_losses,
        "ended_early": bool(model.stop_training),
        "data": _identity(data),
    }


def settings_of(model: keras.Model) -> dict[str, str]:
    """Return what a model was compiled with, as a text for each setting, to be compared.

    It does not count what callbacks have assigned to the learning rate, β or free bits since.
    Without Keras's own options, such as `jit_compile`, which change how fast a step is, and without
    a learning rate that follows a schedule, which is no variable and so not put back.
    """
    config = _compared(model.get_compile_config())
    parts = {name: value for name, value in config.items() if name not in COMPILE_OPTIONS}
    parts |= model.compiled_numbers
    optimizer = parts.pop("optimizer")
    scaled = optimizer["config"].get("inner_optimizer", optimizer)  # within a loss scale
    if "learning_rate" in scaled["config"]:  # a callback may have lowered it since
        scaled["config"]["learning_rate"] = model.compiled_learning_rate
    parts |= {f"optimizer.{name}": value for name, value in optimizer["config"].items()}
    parts["optimizer"] = optimizer["class_name"]
    return {name: json.dumps(value) for name, value in parts.items()}


def _compared(value):
    """Return a configuration without names that Keras numbers, what follows, and schedules."""
    if not isinstance(value, dict):
        return value
    dropped = {"name", "build_config", "shared_object_id"}
    if isinstance(value.get("learning_rate"), dict):  # a schedule, also within a loss scale
        dropped.add("learning_rate")
    return {k: _compared(v) for k, v in sorted(value.items()) if k not in dropped}


def warn_of_other_settings(before: dict, now: dict, folder: Path) -> None:
    """Warn where a training that goes on was begun with a model that was compiled otherwise.

    Args:
        before: the result of `settings_of` at its start.
        now: that of the model with which it goes on.
        folder: of its checkpoints.

    Warns:
        TfvaeWarning: with the names of the settings.
    """
    both = before.keys() | now.keys()
    names = sorted(name for name in both if before.get(name) != now.get(name))
    if names:
        warnings.warn(
            f"The training in {folder} began with other settings than those of `compile` now: "
            f"{', '.join(names)}. The optimizer goes on as it was, with its learning rate. To "
            "begin with the new settings, choose another folder.",
            TfvaeWarning,
            stacklevel=2,
        )


def warn_of_another_rate(before: float, now: float, position: Position) -> None:
    """Warn where a training goes on with another learning rate than it would have had.

    A schedule of the optimizer that ends with the last epoch is another one where there are more
    epochs: its rate is higher, even where it had fallen to 0. What a callback will assign is not
    known here.

    Args:
        before: what `learning_rate_of` gave at this position.
        now: what it gives there, with the schedule with which the training goes on.
        position: where it goes on.

    Warns:
        TfvaeWarning: with both.
    """
    if not math.isclose(before, now, rel_tol=1e-3, abs_tol=1e-12):
        warnings.warn(
            f"The learning rate was {before:.5g} after {position} and goes on with {now:.5g}: it "
            "follows another schedule now, as one that ends with the last epoch does with another "
            "number of epochs. To train on at a rate of your choice, begin a new training with "
            "these weights instead.",
            TfvaeWarning,
            stacklevel=2,
        )


def has_finite_weights(model: keras.Model) -> bool:
    """Whether no weight that is trained is infinite or NaN."""
    return all(np.all(np.isfinite(np.asarray(v))) for v in model.trainable_variables)


def restore_model(model: keras.Model, data: Batches, tree: dict, folder: Path) -> None:
    """Put a model and its optimizer back to what `state_of` returned, but for `averages`.

    Raises:
        InvalidArgument: this is other data.
        InvalidFile: the checkpoints in this folder are of another model.
    """
    if tree["data"] != _identity(data):
        raise InvalidArgument(
            f"The training in {folder} is one on data with {_named(tree['data'])}; this data has "
            f"{_named(_identity(data))}. Give the same data, or choose another folder."
        )
    if not alike(tree["contents"], data.contents):
        raise InvalidArgument(
            f"The training in {folder} is one on other data than this, which has as many examples, "
            "and other values, columns or labels. Give the same data, or choose another folder."
        )
    model.layers_add_losses = tree["layers_add_losses"]
    for part, variables in _variables(model).items():
        _assign(variables, tree["variables"][part], folder)


def epoch_averages(model: keras.Model) -> list[np.ndarray]:
    """Return copies of the averages of the epoch so far."""
    return [np.asarray(variable).copy() for variable in _averages(model)]


def restore_averages(model: keras.Model, tree: dict, folder: Path) -> None:
    """Put the averages of the epoch back to what `state_of` returned.

    Raises:
        InvalidFile: the checkpoints in this folder are of another model.
    """
    _assign(_averages(model), tree["variables"]["averages"], folder)


@contextlib.contextmanager
def restoring_from(folder: Path) -> Iterator[None]:
    """A context that names the folder in the error for a whole checkpoint of something else.

    Raises:
        InvalidFile: what was restored is not the state of this training.
    """
    try:
        yield
    except TfvaeError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidFile(
            f"The checkpoints in {folder} hold something else than the state of this training: "
            f"{type(error).__name__}, {error}. Choose another folder."
        ) from error


def _variables(model):
    """Return the variables that a training changes, by what they belong to."""
    return {
        "model": model.variables,
        "optimizer": model.optimizer.variables,
        "settings": model.assigned_settings(),
    }


def _averages(model):
    """Return the variables of the averages of the epoch."""
    return [variable for metric in model.epoch_metrics for variable in metric.variables]


def _assign(variables, values, folder):
    shapes = [tuple(variable.shape) for variable in variables]
    if shapes != [value.shape for value in values]:
        raise InvalidFile(
            f"The checkpoints in {folder} are of another model, or one that was compiled with "
            "another optimizer. Make the same model, or choose another folder."
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _identity(data):
    return {"batches": data.num_batches, **data.identity}


def _named(values):
    return ", ".join(f"{name} {value}" for name, value in values.items())
