"""The files of Keras's `CSVLogger`, which go on where the training does."""

import contextlib
import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

import keras

from tfvae._plain.files import atomic


@contextlib.contextmanager
def continued(
    callbacks: Iterable[keras.callbacks.Callback], epoch: int, writes: bool
) -> Iterator[list[keras.callbacks.CSVLogger]]:
    """A context in which the files of `CSVLogger`s go on after `epoch` epochs.

    Rows of later epochs, which the training repeats, are removed. Keras would begin the files anew.
    One with `append=True` may have rows of other trainings, and is left as it is.

    Args:
        callbacks: of a training that goes on.
        epoch: how many epochs the training has done.
        writes: whether this process writes them.

    Yields:
        Those whose files go on, for `join_columns` after their first epoch; none where this process
        does not write.
    """
    loggers = [c for c in callbacks if isinstance(c, keras.callbacks.CSVLogger) and not c.append]
    for logger in loggers:
        if writes and Path(logger.filename).is_file():
            _keep(Path(logger.filename), logger.sep, epoch)
        logger.append = True
    try:
        yield loggers if writes else []
    finally:
        for logger in loggers:
            logger.append, logger.append_header = False, True  # as Keras made it


def join_columns(loggers: Iterable[keras.callbacks.CSVLogger]) -> None:
    """Give files all the columns of before and of the epoch that was just written.

    These differ where a training goes on with other metrics or with validation. Cells without a
    number are "NA", as Keras writes them.
    """
    for logger in loggers:
        path, now = Path(logger.filename), ["epoch", *logger.keys]
        with path.open(newline="") as file:
            before, *rows, last = csv.reader(file, delimiter=logger.sep)
        if before == now:
            continue
        logger.keys = list(dict.fromkeys([*before[1:], *logger.keys]))
        logger.csv_file.close()
        rows = [dict(zip(before, row, strict=False)) for row in rows]
        with atomic(path) as temporary, temporary.open("w", newline="") as file:
            columns = ["epoch", *logger.keys]
            writer = csv.DictWriter(file, columns, restval="NA", delimiter=logger.sep)
            writer.writeheader()
            writer.writerows([*rows, dict(zip(now, last, strict=True))])
        # Keras writes on, with a writer of these columns.
        logger.csv_file, logger.writer = path.open("a", newline=""), None


def _keep(path, separator, epoch):
    """Keep the header and the rows of epochs below a number, which is their first column."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file, delimiter=separator))
    done = [row for row in rows[1:] if row and row[0].isdecimal() and int(row[0]) < epoch]
    with atomic(path) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file, delimiter=separator).writerows([*rows[:1], *done])
