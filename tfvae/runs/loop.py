"""The loop over epochs of all that a run trains: with a history, checkpoints, and ways to go on."""

import contextlib

import tensorflow as tf

from tfvae.errors import TfvaeError
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
    **options,
) -> None:
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
        options: of `keras.Model.fit`, such as `validation_data`.

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
