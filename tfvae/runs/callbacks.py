"""Callbacks of a run: the progress bar, the history, and the stop at a loss of NaN."""

import csv
import math
import time

import keras

from tfvae import distribute
from tfvae._plain.files import atomic, clear_strays
from tfvae.callbacks import Resume
from tfvae.checkpoints import Position
from tfvae.errors import NonFiniteLoss
from tfvae.optimizers import learning_rate_of
from tfvae.runs.directory import TrainingDirectory


class StopAtNonFinite(keras.callbacks.Callback):
    """Raises `NonFiniteLoss` as soon as a loss is not finite, before a checkpoint could keep it.

    Args:
        run: the run; its last good model is kept there.
        resume: where that model comes from.
    """

    def __init__(self, run: TrainingDirectory, resume: Resume):
        super().__init__()
        self.run, self.resume = run, resume

    def on_train_batch_end(self, batch, logs=None):
        """Check the averages of the epoch, which a single bad example makes not finite."""
        if math.isfinite(float(logs["loss"])):
            return
        terms = ("reconstruction", "kl", "quantization")
        bad = [name for name in terms if not math.isfinite(float(logs.get(name, 0.0)))]
        last = self.model.steps_made
        first = last - self.model.steps_per_execution
        raise NonFiniteLoss(
            f"The loss became {float(logs['loss'])} between steps {first} and "
            f"{last}; the term that is not finite: {' and '.join(bad) or 'loss'}. "
            f"{self._remedy()}"
        )

    def on_epoch_end(self, epoch, logs=None):
        """Check the validation loss, which shows the effect of the epoch's last step."""
        loss = float(logs.get("val_loss", 0.0))
        if not math.isfinite(loss):
            raise NonFiniteLoss(
                f"The loss on the validation data became {loss} in epoch {epoch + 1}. "
                f"{self._remedy()}"
            )

    def _remedy(self):
        if not distribute.is_chief(self.model.distribute_strategy):
            return "Worker 0 says what is kept."
        kept, position = "There is no checkpoint yet.", self.resume.restore(self.model)
        if position is not None:
            with atomic(self.run.last_good_file) as temporary:
                self.model.save(temporary)
            kept = f"The last good model, of {position}, is {self.run.last_good_file}."
        warmup = ""
        if hasattr(self.model, "kl_warmup_steps"):
            warmup = ", or use a KL warm-up (--set training.kl_warmup_steps=1000)"
        return f"{kept} Lower the learning rate{warmup}."


class History(keras.callbacks.Callback):
    """Keeps history.csv: one row an epoch.

    The rows are kept in the checkpoint of their epoch, and the file is written from those: an epoch
    has either both or none.

    Args:
        run: the run.

    Attributes:
        rows: one for each epoch.
        start_loss: the validation loss before the first step of the training, in nats per example;
            NaN where it was not measured.
        seconds: how long the epoch took in processes before this one.
    """

    def __init__(self, run: TrainingDirectory):
        super().__init__()
        self.run, self.rows, self.start_loss = run, [], math.nan
        self.seconds, self.start = 0.0, None  # and the clock of this process

    def get_state(self) -> dict:
        """Return the rows, the loss before them, and how long the epoch has taken so far."""
        return {"rows": self.rows, "start_loss": self.start_loss, "seconds": self._seconds()}

    def set_state(self, state: dict) -> None:
        """Go on from what `get_state` returned."""
        self.rows, self.start_loss = state["rows"], state["start_loss"]
        self.seconds = state["seconds"]

    def on_train_begin(self, logs=None):
        """Remove what a killed process left unfinished."""
        clear_strays(self.run.path)

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock of the epoch."""
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Add the row of the epoch."""
        row = {
            "epoch": epoch + 1,
            "seconds": self._seconds(),
            "learning_rate": learning_rate_of(self.model.optimizer),
            **{name: float(value) for name, value in logs.items()},
        }
        self.rows.append(row)
        self.seconds, self.start = 0.0, None

    def on_checkpoint(self):
        """Write the rows that the checkpoint has."""
        if not self.rows:
            return
        with (
            atomic(self.run.history_file) as temporary,
            temporary.open("w", newline="") as file,
        ):
            writer = csv.DictWriter(file, fieldnames=list(self.rows[-1]))
            writer.writeheader()
            writer.writerows(self.rows)

    def _seconds(self):
        return self.seconds + (0.0 if self.start is None else time.perf_counter() - self.start)


class Progress(keras.callbacks.Callback):
    """A progress bar over epochs on standard error; lines now and then where it is no terminal.

    A context manager, so that the terminal is restored however the training ends.

    Args:
        done: how far the training came before.
        epochs: epochs in all.
    """

    seconds_between_lines = 10.0

    def __init__(self, done: Position, epochs: int):
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        self.done, self.epochs = done, epochs
        self.console = Console(stderr=True)
        self.bar = Progress(
            "epoch",
            MofNCompleteColumn(),
            BarColumn(),
            "{task.description}",
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.last_line, self.stepped = -math.inf, False

    def __enter__(self):
        self.bar.start()
        waiting = "compiling the graph of a step, which the first one waits for"
        self.task = self.bar.add_task(waiting, total=self.epochs, completed=self.done.epoch)
        if not self.console.is_terminal:
            self.console.print(waiting)
        if self.done > (0, 0):
            self.console.print(f"going on after {self.done}", highlight=False)
        return self

    def __exit__(self, *_):
        self.bar.stop()

    def on_train_batch_end(self, batch, logs=None):
        """Take the wait for the first step off the bar."""
        if not self.stepped:
            self.stepped = True
            self.bar.update(self.task, description="")

    def on_epoch_end(self, epoch, logs=None):
        """Move the bar, or print a line."""
        shown = [
            f"{n} {logs[n]:.2f}" for n in ("loss", "kl", "val_elbo", "perplexity") if n in logs
        ]
        self.bar.update(self.task, completed=epoch + 1, description="  ".join(shown))
        now = time.monotonic()
        due = now - self.last_line > self.seconds_between_lines or epoch + 1 == self.epochs
        if due and not self.console.is_terminal:
            self.last_line = now
            self.console.print(f"epoch {epoch + 1}/{self.epochs}  {'  '.join(shown)}")


def read_history(run: TrainingDirectory) -> list[dict]:
    """Return the rows of history.csv as numbers; an empty list if there is none."""
    if not run.history_file.is_file():
        return []
    with run.history_file.open(newline="") as file:
        return [
            {name: int(v) if name == "epoch" else float(v) for name, v in row.items()}
            for row in csv.DictReader(file)
        ]


def best_epoch(rows: list[dict], name: str) -> int:
    """Return the epoch, from 1 on, where a value of the history is lowest; the first of several."""
    return min(rows, key=lambda row: row[name])["epoch"]
