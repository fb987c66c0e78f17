"""The training loop of a run: history, checkpoints, resuming, and the check at the end."""

import contextlib
import math
import warnings
from typing import NamedTuple

import tensorflow as tf

from tfvae import distribute
from tfvae._plain.files import cannot_write, hindrance
from tfvae.callbacks import Resume
from tfvae.data import Batches
from tfvae.errors import DivergedLoss, InvalidArgument, InvalidFile, TfvaeError, TfvaeWarning
from tfvae.runs import callbacks
from tfvae.runs.directory import TrainingDirectory


class Fitted(NamedTuple):
    """The results of a training at its end.

    Attributes:
        start_loss: the validation loss before the first step, in nats per example; NaN where it was
            not measured.
        rows: the history; empty but for the chief of several workers.
        checkpoints: how many there were, and what they cost, for the report.
    """

    start_loss: float
    rows: list[dict]
    checkpoints: dict


def strategy(section: str, settings) -> tf.distribute.Strategy:
    """Return the strategy of settings with `distribute` and `batch_size`; see `tfvae.distribute`.

    Raises:
        InvalidArgument: there are no several devices, or their number does not divide the batch.
    """
    chosen = distribute.strategy(settings.distribute)
    count = chosen.num_replicas_in_sync
    if settings.batch_size % count:
        raise InvalidArgument(
            f"{section}.batch_size is {settings.batch_size}, which {count} devices cannot share "
            f"evenly. Choose a multiple of {count}."
        )
    return chosen


def fit(
    model,
    batches: Batches,
    epochs: int,
    files: TrainingDirectory,
    how: str,
    progress: bool,
    minutes: float,
    hooks=(),
    measure_start: bool = False,
    **options,
) -> Fitted:
    """Train, from the last checkpoint in `files` on where there is one.

    Args:
        model: compiled, as it is before the first step.
        batches: the data.
        epochs: how many there are in all.
        files: where history and checkpoints go.
        how: what to tell a user who stops the training about how to continue it.
        progress: whether to show a progress bar on standard error.
        minutes: between checkpoints.
        hooks: more callbacks.
        measure_start: whether to measure the loss on the validation data before the first step of
            the training; checkpoints keep it.
        options: of `keras.Model.fit`, such as `validation_data`.

    Raises:
        TfvaeError: it was interrupted, memory did not suffice, or a loss is not finite.
        SystemExit: with status 0, after SIGTERM.
    """
    resume = Resume(files.checkpoints.path, minutes, how)
    resume.checkpoints = files.checkpoints  # which may be in use by this training already
    history = callbacks.History(files)
    chief = distribute.is_chief(model.distribute_strategy)
    writes = [history] if chief else []
    hooks = [callbacks.StopAtNonFinite(files, resume), *writes, *hooks, resume]
    with contextlib.ExitStack() as stack:
        if progress and chief:
            bar = callbacks.Progress(files.checkpoints.last(), epochs)
            hooks.append(stack.enter_context(bar))
        try:
            stack.enter_context(distribute.watching_workers(model.distribute_strategy, how))
            if measure_start and distribute.any_worker(
                model.distribute_strategy, files.checkpoints.last() == (0, 0)
            ):  # of a training that goes on, the checkpoint has it
                history.start_loss = _loss(model, options["validation_data"])
            model.fit(batches, epochs=epochs, callbacks=hooks, verbose=0, **options)
        except KeyboardInterrupt as error:
            raise TfvaeError(str(error) or f"Interrupted. {how}") from None
        except InvalidFile as error:
            raise InvalidFile(f"{error} {kept(files)}") from None
        except tf.errors.ResourceExhaustedError as error:
            if hindrance(error):  # of TensorBoard, whose files are written from C++
                error = cannot_write(files.path, hindrance(error))
                raise InvalidFile(f"{error} {kept(files)}") from None
            samples = " or --num-samples" if hasattr(model, "num_samples") else ""
            raise TfvaeError(f"Out of memory. Use a smaller --batch-size{samples}.") from None
    return Fitted(history.start_loss, history.rows, _cost(resume))


def _cost(resume):
    """Return the cost of the checkpoints of a training, for all its processes together."""
    return {
        "saved": resume.saved,
        "seconds": round(resume.seconds_saving, 3),
        "percent_of_training": round(100 * resume.seconds_saving / max(resume.seconds, 1e-9), 2),
    }


def _loss(model, data):
    return float(model.evaluate(data, verbose=0, return_dict=True)["loss"])


def kept(files: TrainingDirectory) -> str:
    """Return a sentence for a message: what is kept of a training that cannot continue."""
    if files.checkpoints.last() == (0, 0):
        return "No checkpoint was complete."
    return "The last checkpoint is kept, and --resume continues from there."


def check_end(
    start: float,
    rows: list[dict],
    num_values: int,
    files: TrainingDirectory,
    learning_rate: float,
) -> None:
    """Warn or raise an error if a training ended with a loss above its first or far above its best.

    A last loss a little above the first one causes a warning. A last loss far above the first or
    the lowest one is an error: by more than that loss itself plus one nat for every value of an
    example, which never happens to a model that has learned anything.

    Args:
        start: the validation loss before the first step, in nats per example; nothing is judged
            where it is not finite.
        rows: the history.
        num_values: how many values an example has.
        files: of the training, for the message.
        learning_rate: the highest of the training, for the message.

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
    rate = f"the highest was {learning_rate:.3g}, and 1e-3 is usual"
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
