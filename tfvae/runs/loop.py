"""The loop over epochs of all that a run trains: with a history, checkpoints, and ways to go on."""

import contextlib
import math
import warnings

import tensorflow as tf

from tfvae.data import Batches
from tfvae.errors import DivergedLoss, TfvaeError, TfvaeWarning
from tfvae.runs import callbacks
from tfvae.runs.directory import TrainingDirectory


def fit(
    model,
    batches: Batches,
    epochs_done: int,
    epochs: int,
    files: TrainingDirectory,
    interrupted: str,
    progress: bool,
    best: str | None = None,
    hooks=(),
    untrained=None,
    **options,
) -> float | None:
    """Train for the epochs that are left.

    Args:
        model: compiled.
        batches: the data.
        epochs_done: how many epochs were made before.
        epochs: how many there are in all.
        files: where history and checkpoints go.
        interrupted: what to tell a user who stops it.
        progress: whether to show a progress bar on standard error.
        best: as in `callbacks.Checkpoints`.
        hooks: more callbacks.
        untrained: the model as it was before all epochs, this one itself where it is new; its loss
            on the validation data is measured first. Nothing is if None.
        options: of `keras.Model.fit`, such as `validation_data`.

    Returns:
        The loss of `untrained`, or None.

    Raises:
        TfvaeError: it was interrupted, memory did not suffice, or a loss is not finite.
    """
    hooks = [
        callbacks.EpochCounter(batches),
        callbacks.StopAtNonFinite(files),
        callbacks.History(files, epochs_done),
        callbacks.Checkpoints(files, best),
        *hooks,
    ]
    with contextlib.ExitStack() as stack:
        if progress:
            hooks.append(stack.enter_context(callbacks.Progress(epochs_done, epochs)))
        try:
            start = None if untrained is None else _loss(untrained, options["validation_data"])
            model.fit(
                batches,
                initial_epoch=epochs_done,
                epochs=epochs,
                callbacks=hooks,
                verbose=0,
                shuffle=False,
                **options,
            )
        except KeyboardInterrupt:
            raise TfvaeError(interrupted) from None
        except tf.errors.ResourceExhaustedError:
            samples = " or --num-samples" if hasattr(model, "num_samples") else ""
            raise TfvaeError(f"Out of memory. Use a smaller --batch-size{samples}.") from None
    return start


def _loss(model, data):
    return float(model.evaluate(data, verbose=0, return_dict=True)["loss"])


def check_end(start: float, rows: list[dict], num_values: int, files: TrainingDirectory) -> None:
    """Say so if a training ended with a loss above the one it started with.

    A little above is a warning. Far above is an error: by more than that loss itself and a nat for
    every value of an example, which no model loses that has learned anything.

    Args:
        start: the validation loss before the first step, in nats per example.
        rows: the history.
        num_values: how many values an example has.
        files: of the training, for the message.

    Raises:
        DivergedLoss: it ended far above.
    """
    end, lowest = rows[-1], min(rows, key=lambda row: row["val_loss"])
    risen, room = end["val_loss"] - start, abs(start) + num_values
    if not math.isfinite(start) or risen <= 0.01 * room:
        return
    what = (
        f"The validation loss was {start:,.6g} nats per example before the first step and is "
        f"{end['val_loss']:,.6g} after epoch {end['epoch']}"
    )
    if lowest["val_loss"] < start:
        what += f"; it was lowest, {lowest['val_loss']:,.6g}, after epoch {lowest['epoch']}"
    rate = f"the highest was {max(row['learning_rate'] for row in rows):.3g}, and 1e-3 is usual"
    remedy = f"Lower the learning rate (--learning-rate; {rate})"
    if risen > room:
        raise DivergedLoss(
            f"The training diverged. {what}. {remedy}, or start from the settings of a recipe. "
            f"What was written is in {files.path}; its model is worse than an untrained one."
        )
    warnings.warn(
        f"The training ended where it started, or worse. {what}. {remedy}, or train for longer.",
        TfvaeWarning,
        stacklevel=3,
    )
