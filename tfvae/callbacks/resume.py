"""Checkpoints of a training, and its continuation at the very batch where it stopped."""

import contextlib
import signal
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from tfvae import distribute
from tfvae.callbacks import csv_logs, signals, training_state
from tfvae.callbacks.callback_states import restore_states, states_of
from tfvae.callbacks.skipped_batches import SkippedBatches
from tfvae.checkpoints import Checkpoints, Position
from tfvae.errors import InvalidArgument, TfvaeWarning
from tfvae.optimizers import learning_rate_of

_SHARE = 0.005  # of the time, that checkpoints at the ends of short epochs may take
_COSTS = "saved", "seconds_saving", "seconds"  # attributes that go on counting when it is resumed


class Resume(keras.callbacks.Callback):
    """Keeps checkpoints of a training, and continues it at the very batch where it stopped.

        batches = tfvae.data.load("digits").train.batches(100)
        model.fit(batches, epochs=20, callbacks=[tfvae.callbacks.Resume("checkpoints")])

    Run the same program again after a crash, and `fit` continues. It restores weights, optimizer,
    moving averages and counts, the averages of the epoch, the order of the data and all noise, and
    the state of these callbacks: `History` (the result of `fit`), `EarlyStopping`,
    `ReduceLROnPlateau`, `ModelCheckpoint`, `SwapEMAWeights`, the counts of `TensorBoard`, and any
    that has the methods `get_state()`, which returns dictionaries and lists of numbers, texts and
    arrays, and `set_state(state)`. The file of a `CSVLogger` goes on, each epoch once, with the
    columns of all. The weights at the end are those of an uninterrupted training, bit for bit, if
    the machine computes the same sums again. Weights that are not finite are not kept: after such a
    step the checkpoint before stays the last one, with a warning. A training that had ended is not
    repeated; with more epochs it continues.

    A checkpoint is written every `minutes`, at the end of an epoch if checkpoints then take at most
    half a percent of the time, and after SIGINT (Ctrl-C) and SIGTERM, which end the training once
    its step is done: SIGINT by a `KeyboardInterrupt`, SIGTERM by an exit with status 0, as
    schedulers expect. A second Ctrl-C does not wait. The last two checkpoints are kept, each with a
    checksum; if the newest is damaged, the training continues from the one before, with a warning.

    With several workers, number 0 writes. All of them read, so all must have access to the folder;
    a signal to one of them ends the training of all.

    Args:
        folder: of the checkpoints of this training and no other.
        minutes: between two checkpoints within an epoch.
        how: what to tell a user who stops it.

    Attributes:
        checkpoints: a `tfvae.checkpoints.Checkpoints`.
        saved: how many checkpoints were written, in all processes together.
        seconds_saving: how long that took.
        seconds: how long the training has taken so far, that included.
    """

    def __init__(
        self,
        folder: str | Path,
        minutes: float = 5.0,
        how: str = "Run the same program again to go on.",
    ):
        super().__init__()
        if not minutes > 0:
            raise InvalidArgument(f"`minutes` is {minutes!r}; expected a number above 0.")
        self.checkpoints, self.minutes, self.how = Checkpoints(folder), minutes, how
        self.saved, self.seconds_saving, self.seconds = 0, 0.0, 0.0
        self._data = self._found = None

    @contextlib.contextmanager
    def around_fit(
        self, model: keras.Model, data: Any, callbacks: list[keras.callbacks.Callback]
    ) -> Iterator[None]:
        """Do what comes before and after a training; called by the `fit` of a model of tfvae.

        Args:
            model: compiled and built.
            data: what it is fitted to.
            callbacks: all of them, this one last.

        Raises:
            InvalidArgument: data without batches to go on from, other data than before, or workers
                that do not see the same folder.
            InvalidFile: another training is under way there, or checkpoints of another model.

        Warns:
            TfvaeWarning: the training began with other settings of `compile`, the learning rate of
                its optimizer follows another schedule now, or it stopped early and is given more
                epochs.
        """
        training_state.check(model, data)
        # Read before the first step: a signal to end leaves no time for it.
        self._contents = data.contents
        self._data, self._callbacks = data, callbacks[:-1]
        self._strategy, self._logs = model.distribute_strategy, []
        with contextlib.ExitStack() as stack:
            if distribute.is_chief(self._strategy):
                stack.enter_context(self.checkpoints.in_use())
            compiled = training_state.settings_of(model)
            # The chief may set a damaged checkpoint aside.
            found = distribute.chief_first(self._strategy, lambda: self.restore(model))
            self._settings = compiled
            if self._found is not None:
                folder = self.checkpoints.path
                with training_state.restoring_from(folder):
                    self._settings = self._found[1].get("compiled", compiled)
                    training_state.warn_of_other_settings(self._settings, compiled, folder)
            epoch, batch = found or (0, 0)
            if not distribute.all_same(self._strategy, epoch * 2**32 + batch):
                raise InvalidArgument(
                    f"The workers do not find the same checkpoints in {self.checkpoints.path}. It "
                    "has to be a folder on a file system that all of them see."
                )
            if self._found is not None:
                chief = distribute.is_chief(self._strategy)
                logs = csv_logs.continued(self._callbacks, epoch, chief)
                self._logs = stack.enter_context(logs)
            before = model._initial_epoch
            self._signals = stack.enter_context(signals.Signals())
            self._skipped = SkippedBatches(model, self._callbacks)
            try:
                yield
                self._stop_if(self._asked())
            finally:
                self._skipped.end()
                model._initial_epoch, self._data = before, None

    def restore(self, model: keras.Model) -> Position | None:
        """Put a model that is being trained back to the newest checkpoint; return its position.

        None, and nothing is changed, where there is none.
        """
        self._found = self.checkpoints.load()
        if self._found is None:
            return None
        position, tree = self._found
        folder = self.checkpoints.path
        with training_state.restoring_from(folder):
            training_state.restore_model(model, self._data, tree, folder)
        return position

    # What Keras calls, after it has called all the other callbacks.

    def on_train_begin(self, logs=None):
        """Go to the epoch, and restore the state of the other callbacks."""
        if self._data is None:
            raise InvalidArgument(
                "`Resume` is for the `fit` of a model of tfvae, which is given it in a list of "
                "callbacks."
            )
        if self.params["steps"] != self._data.num_batches:
            raise InvalidArgument(
                f"`fit` got steps_per_epoch={self.params['steps']}, but an epoch of this data has "
                f"{self._data.num_batches} batches, and `Resume` goes on within whole epochs. "
                "Leave steps_per_epoch out."
            )
        self._position, self._averages = Position(0, 0), None
        self._clock = self._last_save = time.monotonic()
        self._cost, self._begun = 0.0, False
        if self._found is None:
            return
        self._position, tree = self._found
        with training_state.restoring_from(self.checkpoints.path):
            for name in _COSTS:
                setattr(self, name, tree[name])
            restore_states(self._callbacks, tree["callbacks"])
            ended = tree["ended_early"]
            if distribute.is_chief(self._strategy):
                self._tell_of_what_follows(tree)
        if distribute.is_chief(self._strategy):
            self._tell_of_checkpoint()
        # As Keras's own `BackupAndRestore` does. A training that stopped early does not go on.
        self.model._initial_epoch = self.params["epochs"] if ended else self._position.epoch

    def on_epoch_begin(self, epoch, logs=None):
        """Start the data where it stopped, in the first epoch; the loop skips what comes before."""
        self._epoch = epoch
        resumed, self._begun = not self._begun and self._found is not None, True
        if resumed and epoch != self._position.epoch:
            raise InvalidArgument(
                f"`fit` got initial_epoch={epoch}, but the training goes on after "
                f"{self._position}. Leave initial_epoch out."
            )
        if not resumed or self._position.batch == 0:
            self._position = Position(epoch, 0)
            return
        folder = self.checkpoints.path
        with training_state.restoring_from(folder):
            training_state.restore_averages(self.model, self._found[1], folder)
        self._data.start_at(*self._position)
        self._skipped.skip(self._position.batch, self._data.num_batches)

    def on_train_batch_end(self, batch, logs=None):
        """Count the batch, and save when it is time."""
        if self._skipped.skipping:
            return
        done = self._position.batch + self.model.steps_per_execution
        self._position = Position(self._epoch, min(done, self._data.num_batches))
        self._save_if_due()

    def on_test_begin(self, logs=None):
        """Keep the averages of the epoch, which validation replaces by its own."""
        self._averages = training_state.epoch_averages(self.model)

    def on_test_batch_end(self, batch, logs=None):
        """Save when it is time; an interrupted validation is repeated, but no training step is."""
        if self._averages is not None and self._position.batch == self._data.num_batches:
            self._save_if_due()

    def on_epoch_end(self, epoch, logs=None):
        """Save if that is cheap, or at the end of the training."""
        self._averages = None
        self._skipped.end()
        csv_logs.join_columns(self._logs)
        self._logs = []  # the columns stay those of the first epoch
        self._position = Position(epoch + 1, 0)
        last = self.model.stop_training or epoch + 1 == self.params["epochs"]
        cheap = time.monotonic() - self._last_save >= self._cost / _SHARE
        if last or cheap:
            self._save()
        self._save_if_due()

    # How it is done.

    def _save_if_due(self):
        due = time.monotonic() - self._last_save >= 60 * self.minutes
        asked = self._asked()
        if due or asked is not None:
            self._save()
        self._stop_if(asked)

    def _asked(self):
        """Return the signal that asks to stop, or None; after the same step in all workers."""
        received = self._signals.received
        asked = self.model.any_worker_asks(received is not None)
        return (received or signal.SIGTERM) if asked else None

    def _stop_if(self, received):
        if received is None:
            return
        kept = f"all is kept in {self.checkpoints.path}"
        signals.stop(received, f"Stopped after {self._position}; {kept}. {self.how}")

    def _save(self):
        if not distribute.is_chief(self._strategy):
            return
        start = time.monotonic()
        self.seconds, self._clock = self.seconds + start - self._clock, start
        if training_state.has_finite_weights(self.model):
            self.checkpoints.save(self._position, self._state())
            self._tell_of_checkpoint()
        else:
            warnings.warn(
                f"Weights of the model are not finite after {self._position}, so no checkpoint is "
                f"written; the last one in {self.checkpoints.path} is that of "
                f"{self.checkpoints.last()}.",
                TfvaeWarning,
                stacklevel=2,
            )
        self._last_save = time.monotonic()
        self._cost = self._last_save - start
        self.saved, self.seconds_saving = self.saved + 1, self.seconds_saving + self._cost

    def _state(self):
        return {
            **training_state.state_of(self.model, self._data, self._averages),
            "contents": self._contents,
            "compiled": self._settings,
            "epochs": self.params["epochs"],
            "callbacks": states_of(self._callbacks),
            **{name: getattr(self, name) for name in _COSTS},
        }

    def _tell_of_what_follows(self, tree):
        """Warn where the training does not go on as a user may expect of more epochs."""
        epochs, now = self.params["epochs"], learning_rate_of(self.model.optimizer)
        if not tree["ended_early"] and self._position.epoch < epochs:
            before = tree.get("learning_rate", now)
            training_state.warn_of_another_rate(before, now, self._position)
        if tree["ended_early"] and epochs > tree.get("epochs", epochs):
            warnings.warn(
                f"The training in {self.checkpoints.path} stopped early, after {self._position}, "
                "and more epochs do not continue it. To train on, begin a new training with these "
                "weights.",
                TfvaeWarning,
                stacklevel=2,
            )

    def _tell_of_checkpoint(self):
        for callback in self._callbacks:
            getattr(callback, "on_checkpoint", lambda: None)()
