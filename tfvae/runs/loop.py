"""The loop over epochs of all that a run trains: with a history, checkpoints, and ways to go on."""

import contextlib
import math
import warnings

import tensorflow as tf

from tfvae.errors import DivergedLoss, InvalidFile, TfvaeError, TfvaeWarning
from tfvae.files import cannot_write, hindrance
from tfvae.runs import callbacks
from tfvae.runs.directory import TrainingDirectory


def fit(
    model,
    batches: tf.data.Dataset,
    epoch: tf.Variable,
    epochs: int,
    files: TrainingDirectory,
    interrupted: str,
    progress: bool,
    best: str | None = None,
    hooks=(),
    untrained=None,
    **options,
) -> float | None:
    """Train from the epoch where `epoch` stands.

    Args:
        model: compiled.
        batches: of one epoch, the one that `epoch` holds.
        epoch: a scalar int64, the epochs done; set at the start of each.
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
    epochs_done = int(epoch)
    hooks = [
        callbacks.EpochCounter(epoch),
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
        except InvalidFile as error:
            raise InvalidFile(f"{error} {kept(files)}") from None
        except tf.errors.ResourceExhaustedError as error:
            if hindrance(error):  # of TensorBoard, whose files are written from C++
                error = cannot_write(files.path, hindrance(error))
                raise InvalidFile(f"{error} {kept(files)}") from None
            samples = " or --num-samples" if hasattr(model, "num_samples") else ""
            raise TfvaeError(f"Out of memory. Use a smaller --batch-size{samples}.") from None
    return start


def _loss(model, data):
    return float(model.evaluate(data, verbose=0, return_dict=True)["loss"])


def kept(files: TrainingDirectory) -> str:
    """Return what there is of a training that cannot go on: a sentence for a message."""
    epoch = files.epochs_done()
    if not epoch:
        return "No epoch was complete."
    return f"The model of after {epoch} epochs is kept, and --resume continues from there."


def check_end(start: float, rows: list[dict], num_values: int, files: TrainingDirectory) -> None:
    """Say so if a training ended with a loss above the one it started with, or far above its best.

    A little above the start is a warning. Far above the start, or the lowest loss in between, is an
    error: by more than that loss itself and a nat for every value of an example, which no model
    loses that has learned anything.

    Args:
        start: the validation loss before the first step, in nats per example.
        rows: the history.
        num_values: how many values an example has.
        files: of the training, for the message.

    Raises:
        DivergedLoss: it ended far above.
    """
    end, lowest = rows[-1], min(rows, key=lambda row: row["val_loss"])
    if not math.isfinite(start):
        return
    least = min(start, lowest["val_loss"])
    diverged = end["val_loss"] - least > abs(least) + num_values
    if not diverged and end["val_loss"] - start <= 0.01 * (abs(start) + num_values):
        return
    what = (
        f"The validation loss was {start:,.6g} nats per example before the first step and is "
        f"{end['val_loss']:,.6g} after epoch {end['epoch']}"
    )
    if lowest["val_loss"] < start:
        what += f"; it was lowest, {lowest['val_loss']:,.6g}, after epoch {lowest['epoch']}"
    rate = f"the highest was {max(row['learning_rate'] for row in rows):.3g}, and 1e-3 is usual"
    remedy = f"Lower the learning rate (--learning-rate; {rate})"
    if diverged:
        epoch = f"that of epoch {lowest['epoch']}" if least < start else "an untrained one"
        raise DivergedLoss(
            f"The training diverged. {what}. {remedy}, or start from the settings of a recipe. "
            f"What was written is in {files.path}; its model is worse than {epoch}."
        )
    warnings.warn(
        f"The training ended where it started, or worse. {what}. {remedy}, or train for longer.",
        TfvaeWarning,
        stacklevel=3,
    )
