"""What happens around the epochs of a run: progress, history, checkpoints, the stop at a NaN."""

import csv
import math
import time

import keras

from tfvae.errors import NonFiniteLoss
from tfvae.files import atomic
from tfvae.runs.directory import TrainingDirectory


class EpochCounter(keras.callbacks.Callback):
    """Tells the data pipeline which epoch it is (see `tfvae.data.Batches`)."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        """Set what decides order and noise."""
        self.batches.start_at(epoch)


class StopAtNonFinite(keras.callbacks.Callback):
    """Raises `NonFiniteLoss` as soon as a loss is not finite, before a checkpoint could keep it.

    Args:
        run: the run, to name its last good checkpoint.
    """

    def __init__(self, run: TrainingDirectory):
        super().__init__()
        self.run = run

    def on_train_batch_end(self, batch, logs=None):
        """Look at the averages of the epoch; one bad example makes them bad."""
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
        """Look at the validation, which sees what the last step of the epoch made of the model."""
        loss = float(logs.get("val_loss", 0.0))
        if not math.isfinite(loss):
            raise NonFiniteLoss(
                f"The loss on the validation images became {loss} in epoch {epoch + 1}. "
                f"{self._remedy()}"
            )

    def _remedy(self):
        files = sorted(self.run.checkpoints.glob("*.keras"))
        kept = f"The last good model is {files[-1]}." if files else "No epoch was complete."
        warmup = ""
        if hasattr(self.model, "kl_warmup_steps"):
            warmup = ", or use a KL warm-up (--set training.kl_warmup_steps=1000)"
        return f"{kept} Lower the learning rate{warmup}."


class History(keras.callbacks.Callback):
    """Keeps history.csv: one row an epoch, rewritten whole, so that it is never half there.

    Args:
        run: the run.
        epochs_done: rows to keep of a history that is there already.
    """

    def __init__(self, run: TrainingDirectory, epochs_done: int):
        super().__init__()
        self.run = run
        self.rows = read_history(run)[:epochs_done]

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock of the epoch."""
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Add the row of the epoch."""
        row = {
            "epoch": epoch + 1,
            "seconds": time.perf_counter() - self.start,
            "learning_rate": float(self.model.optimizer.learning_rate),
            **{name: float(value) for name, value in logs.items()},
        }
        self.rows.append(row)
        with (
            atomic(self.run.history_file) as temporary,
            temporary.open("w", newline="") as file,
        ):
            writer = csv.DictWriter(file, fieldnames=list(row))
            writer.writeheader()
            writer.writerows(self.rows)


class Checkpoints(keras.callbacks.Callback):
    """Saves the model after every epoch, once `History` has its row.

    Args:
        run: the run.
        best: name of a value of the history; the model of the epoch where it is lowest is kept.
    """

    def __init__(self, run: TrainingDirectory, best: str | None = None):
        super().__init__()
        self.run, self.best = run, best

    def on_epoch_end(self, epoch, logs=None):
        """Save."""
        best = None if self.best is None else best_epoch(read_history(self.run), self.best)
        self.run.save_checkpoint(self.model, epoch + 1, best)


class Progress(keras.callbacks.Callback):
    """A progress bar over epochs on standard error; lines now and then where it is no terminal.

    A context manager, so that the terminal is put right whatever ends the training.

    Args:
        first_epoch: epochs done before.
        epochs: epochs in all.
    """

    seconds_between_lines = 10.0

    def __init__(self, first_epoch: int, epochs: int):
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        self.first_epoch, self.epochs = first_epoch, epochs
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
        self.task = self.bar.add_task(waiting, total=self.epochs, completed=self.first_epoch)
        if not self.console.is_terminal:
            self.console.print(waiting)
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
