"""Callbacks for the `fit` of any model of tfvae."""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfvae import distribute
from tfvae.checkpoints import Checkpoints, Position
from tfvae.data import Batches
from tfvae.errors import InvalidArgument, InvalidFile, TfvaeError
from tfvae.training import averaging

_SHARE = 0.005  # of the time, that checkpoints at the ends of short epochs may take
# What callbacks of Keras know that they could not know anew.
_KNOWLEDGE = {
    keras.callbacks.History: ("epoch", "history"),
    keras.callbacks.EarlyStopping: ("wait", "stopped_epoch", "best", "best_epoch", "best_weights"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    keras.callbacks.ModelCheckpoint: ("best", "_batches_seen_since_last_saving"),
    keras.callbacks.SwapEMAWeights: ("_ema_weights_in_model",),
}


class EarlyStopping(keras.callbacks.EarlyStopping):
    """`keras.callbacks.EarlyStopping` that restores averages of weights, too.

    An optimizer with `use_ema=True` puts the moving average in the place of the weights when `fit`
    ends. After Keras's own class that is the average of the last epoch, and the best weights are
    lost. This one restores the average of the best epoch, which is what
    `keras.callbacks.SwapEMAWeights()` validates. Its arguments are Keras's:

        EarlyStopping("val_loss", patience=10, restore_best_weights=True)
    """

    restores_averages = True

    def on_epoch_end(self, epoch, logs=None):
        """Compare the epoch with the best one, whose weights are kept."""
        with _averages_in_place(self.model):
            super().on_epoch_end(epoch, logs)

    def on_train_end(self, logs=None):
        """Restore the weights of the best epoch, if that was asked for."""
        super().on_train_end(logs)
        if self.restore_best_weights and self.best_weights is not None:
            for weight, average in _weights_and_averages(self.model):
                average.assign(weight)


@contextlib.contextmanager
def _averages_in_place(model):
    """A context in which the moving averages stand in the place of the weights they are of."""
    pairs = _weights_and_averages(model)
    before = [np.asarray(weight) for weight, _ in pairs]
    for weight, average in pairs:
        weight.assign(average)
    try:
        yield
    finally:
        for (weight, _), value in zip(pairs, before, strict=True):
            weight.assign(value)


def _weights_and_averages(model):
    """Return each weight with its moving average; nothing where the optimizer makes none."""
    optimizer = averaging(model.optimizer)
    if optimizer is None:
        return []
    averages = optimizer._model_variables_moving_average
    return list(zip(optimizer._trainable_variables, averages, strict=True))


class Resume(keras.callbacks.Callback):
    """Keeps checkpoints of a training, and continues it at the very batch where it stopped.

        batches = tfvae.data.load("digits").train.batches(100)
        model.fit(batches, epochs=20, callbacks=[tfvae.callbacks.Resume("checkpoints")])

    Run the same program again after a crash, and `fit` continues. It restores weights, optimizer,
    moving averages and counts, the averages of the epoch, the order of the data and all noise, and
    the state of these callbacks: `History` (the result of `fit`), `EarlyStopping`,
    `ReduceLROnPlateau`, `ModelCheckpoint`, `SwapEMAWeights`, and any that has the methods
    `get_state()`, which returns dictionaries and lists of numbers, texts and arrays, and
    `set_state(state)`. The weights at the end are those of an uninterrupted training, bit for bit,
    if the machine computes the same sums again. A training that had ended is not repeated; with
    more epochs it continues.

    A checkpoint is written every `minutes`, at the ends of epochs as long as that takes no more
    than 1% of the time, and after SIGINT (Ctrl-C) and SIGTERM, which end the training once its step
    is done: SIGINT by a `KeyboardInterrupt`, SIGTERM by an exit with status 0, as schedulers
    expect. A second Ctrl-C does not wait. The last two checkpoints are kept, each with a checksum;
    if the newest is damaged, the training continues from the one before, with a warning.

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
        self._data = self._found = self._left_out = None

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
            InvalidFile: another process is at it, or checkpoints of another model.
        """
        _check_data(data)
        _check_built(model)
        self._data, self._callbacks = data, callbacks[:-1]
        self._strategy = model.distribute_strategy
        with contextlib.ExitStack() as stack:
            if distribute.is_chief(self._strategy):
                stack.enter_context(self.checkpoints.in_use())
            # The chief may set a damaged checkpoint aside.
            found = distribute.chief_first(self._strategy, lambda: self.restore(model))
            epoch, batch = found or (0, 0)
            if not distribute.all_same(self._strategy, epoch * 2**32 + batch):
                raise InvalidArgument(
                    f"The workers do not find the same checkpoints in {self.checkpoints.path}. It "
                    "has to be a folder on a file system that all of them see."
                )
            before = model._initial_epoch
            self._signals = stack.enter_context(_Signals())
            try:
                yield
                self._stop_if(self._asked())
            finally:
                self._take_all()  # an error may have come before the first step
                model._initial_epoch, self._data = before, None

    def restore(self, model: keras.Model) -> Position | None:
        """Put a model that is being trained back to the newest checkpoint; return its position.

        None, and nothing is changed, where there is none.
        """
        self._found = self.checkpoints.load()
        if self._found is None:
            return None
        with self._blaming_checkpoint():
            self._restore_model(model)
        return self._found[0]

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
        with self._blaming_checkpoint():
            for name in ("saved", "seconds_saving", "seconds"):
                setattr(self, name, tree[name])
            _give_back(self._callbacks, tree["callbacks"])
            ended = tree["ended_early"]
        if distribute.is_chief(self._strategy):
            self._tell("on_checkpoint")
        # As Keras's own `BackupAndRestore` does. A training that stopped early does not go on.
        self.model._initial_epoch = self.params["epochs"] if ended else self._position.epoch

    def on_epoch_begin(self, epoch, logs=None):
        """Start the data where it stopped, in the first epoch; see `_leave_out` for the rest."""
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
        tree = self._found[1]
        _assign(_averages(self.model), tree["variables"]["averages"], self.checkpoints.path)
        self._data.start_at(*self._position)
        self._leave_out()

    def on_train_batch_end(self, batch, logs=None):
        """Count the batch, and save when it is time."""
        if self._left_out is not None:
            return
        done = self._position.batch + self.model.steps_per_execution
        self._position = Position(self._epoch, min(done, self._data.num_batches))
        self._save_if_due()

    def on_test_begin(self, logs=None):
        """Keep the averages of the epoch, which validation replaces by its own."""
        self._averages = [np.asarray(variable).copy() for variable in _averages(self.model)]

    def on_test_batch_end(self, batch, logs=None):
        """Save when it is time; an interrupted validation is repeated, but no training step is."""
        if self._averages is not None and self._position.batch == self._data.num_batches:
            self._save_if_due()

    def on_epoch_end(self, epoch, logs=None):
        """Save if that is cheap, or at the end of the training."""
        self._averages = None
        self._take_all()
        self._position = Position(epoch + 1, 0)
        last = self.model.stop_training or epoch + 1 == self.params["epochs"]
        cheap = time.monotonic() - self._last_save >= self._cost / _SHARE
        if last or cheap:
            self._save()
        self._save_if_due()

    def on_train_end(self, logs=None):
        """Undo `_leave_out`."""
        self._take_all()

    # How it is done.

    def _leave_out(self):
        """Make Keras's loop, which counts from 0, skip the batches that were already trained on."""
        steps, whole = self.model.steps_per_execution, self._data.num_batches
        calls = -(-whole // steps) - -(-(whole - self._position.batch) // steps)
        self._left_out, left = self.model.train_function, calls
        logs = {name: float(value) for name, value in self.model.get_metrics_result().items()}

        def pass_over(iterator):
            nonlocal left
            if left == 0:
                self._take_all()
                return self.model.train_function(iterator)
            left -= 1
            return logs

        self.model.train_function = pass_over

    def _take_all(self):
        if self._left_out is not None:
            self.model.train_function, self._left_out = self._left_out, None

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
        what = f"Stopped after {self._position}; {kept}. {self.how}"
        if received == signal.SIGINT:
            raise KeyboardInterrupt(what)
        print(what, file=sys.stderr, flush=True)
        raise SystemExit(0)

    def _save(self):
        if not distribute.is_chief(self._strategy):
            return
        start = time.monotonic()
        self.seconds, self._clock = self.seconds + start - self._clock, start
        self.checkpoints.save(self._position, self._tree())
        self._tell("on_checkpoint")
        self._last_save = time.monotonic()
        self._cost = self._last_save - start
        self.saved, self.seconds_saving = self.saved + 1, self.seconds_saving + self._cost

    def _tree(self):
        variables = {
            part: [np.asarray(variable) for variable in values]
            for part, values in _variables(self.model).items()
        }
        averages = self._averages
        if averages is None:
            averages = [np.asarray(variable) for variable in _averages(self.model)]
        return {
            "variables": {**variables, "averages": averages},
            "callbacks": _knowledge(self._callbacks),
            "layers_add_losses": self.model.layers_add_losses,
            "ended_early": bool(self.model.stop_training),
            "data": {"batches": self._data.num_batches, **self._data.identity},
            "saved": self.saved,
            "seconds_saving": self.seconds_saving,
            "seconds": self.seconds,
        }

    def _restore_model(self, model):
        tree = self._found[1]
        data = {"batches": self._data.num_batches, **self._data.identity}
        if tree["data"] != data:
            raise InvalidArgument(
                f"The training in {self.checkpoints.path} is one on data with "
                f"{_named(tree['data'])}; this data has {_named(data)}. Give the same data, or "
                "choose another folder."
            )
        model.layers_add_losses = tree["layers_add_losses"]
        for part, variables in _variables(model).items():
            _assign(variables, tree["variables"][part], self.checkpoints.path)

    @contextlib.contextmanager
    def _blaming_checkpoint(self):
        """Name the folder in the error for an undamaged checkpoint with another content."""
        try:
            yield
        except TfvaeError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidFile(
                f"The checkpoints in {self.checkpoints.path} hold something else than the state of "
                f"this training: {type(error).__name__}, {error}. Choose another folder."
            ) from error

    def _tell(self, method):
        for callback in self._callbacks:
            getattr(callback, method, lambda: None)()


class _Signals:
    """A context in which SIGINT and SIGTERM are recorded and do not end the process.

    Attributes:
        received: the signal, or None.
    """

    def __init__(self):
        self.received = None

    def __enter__(self):
        self._before = {}
        if threading.current_thread() is threading.main_thread():  # others get none
            for number in (signal.SIGINT, signal.SIGTERM):
                ignored = signal.getsignal(number) == signal.SIG_IGN  # of a job in the background
                if not ignored:
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _receive(self, number, frame):
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = self.received or number
        name, again = signal.Signals(number).name, ""
        if number == signal.SIGINT:
            again = " (Ctrl-C again does not wait)"
        print(f"{name}: finishing the step{again}.", file=sys.stderr, flush=True)


def _check_data(data):
    if isinstance(data, Batches):
        return
    raise InvalidArgument(
        f"`Resume` cannot go on within a {type(data).__name__}, whose order is kept nowhere. Fit "
        "to batches of tfvae.data, which can begin at any batch: images.batches(batch_size) of "
        "what tfvae.data.load gives, or tfvae.data.shuffled_batches(x, batch_size) of an array; "
        "tfvae.data.Batches makes them of a source of your own."
    )


def _check_built(model):
    """Refuse a model of which the first step would make weights: none of them could be restored."""
    unbuilt = [layer.name for layer in model._flatten_layers() if not layer.built]
    if unbuilt:
        raise InvalidArgument(
            f"The layer {unbuilt[0]!r} has no weights yet: the first step would make them, after "
            "those of a checkpoint are restored. Build it with the model, by its `build(shape)`."
        )


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


def _knowledge(callbacks):
    """Return the states of callbacks, each with the name of its class."""
    return [
        {"class": type(callback).__name__, "state": state}
        for callback in callbacks
        if (state := _state(callback)) is not None
    ]


def _give_back(callbacks, knowledge):
    """Restore the state of each callback from that of the same class and number."""
    waiting = list(knowledge)
    for callback in callbacks:
        name = type(callback).__name__
        found = next((entry for entry in waiting if entry["class"] == name), None)
        if found is None:
            continue
        waiting.remove(found)
        if hasattr(callback, "set_state"):
            callback.set_state(found["state"])
        else:
            vars(callback).update(found["state"])


def _state(callback):
    if hasattr(callback, "get_state"):
        return callback.get_state()
    for kind, names in _KNOWLEDGE.items():
        if isinstance(callback, kind):
            return {name: getattr(callback, name) for name in names if hasattr(callback, name)}
    return None


def _named(values):
    return ", ".join(f"{name} {value}" for name, value in values.items())
