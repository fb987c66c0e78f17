"""The files of Keras's CSVLogger, which go on where the training does."""

import keras
import pytest

from tfvae.callbacks import csv_logs


@pytest.fixture
def logger(tmp_path):
    return keras.callbacks.CSVLogger(tmp_path / "log.csv")


def log(logger, *rows, first=0):
    """Write rows as a training does."""
    logger.on_train_begin()
    for epoch, logs in enumerate(rows, first):
        logger.on_epoch_end(epoch, logs)
    logger.on_train_end()


def lines(logger):
    with open(logger.filename) as file:
        return file.read().splitlines()


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ({"loss": 2.0, "val_loss": 0.5}, ["epoch,loss,val_loss", "0,1.0,NA", "1,2.0,0.5"]),
        (
            {"kl": 3.0, "loss": 2.0, "val_loss": 0.5},
            ["epoch,loss,val_loss,kl", "0,1.0,NA,NA", "1,2.0,0.5,3.0"],
        ),
        (
            {"kl": 3.0, "val_kl": 4.0},
            ["epoch,loss,val_loss,kl,val_kl", "0,1.0,NA,NA,NA", "1,NA,NA,3.0,4.0"],
        ),
    ],
    ids=["the same", "more", "others"],
)
def test_columns_are_those_of_all_epochs(logger, now, expected):
    log(logger, {"loss": 1.0})
    with csv_logs.continued([logger], 1, True) as continued:
        logger.on_train_begin()
        logger.on_epoch_end(1, now)
        csv_logs.join_columns(continued)
        assert lines(logger) == expected
        logger.on_epoch_end(2, now)
        logger.on_train_end()
    assert lines(logger) == [*expected, expected[-1].replace("1", "2", 1)]


def test_a_later_training_begins_the_file_anew(logger):
    log(logger, {"loss": 1.0})
    with csv_logs.continued([logger], 1, True):
        log(logger, {"loss": 2.0}, first=1)
    log(logger, {"loss": 3.0})
    assert lines(logger) == ["epoch,loss,val_loss", "0,3.0,NA"]


def test_what_another_process_writes_is_left_alone(logger):
    log(logger, {"loss": 1.0}, {"loss": 2.0})
    with csv_logs.continued([logger], 1, False) as continued:
        assert continued == []
    assert len(lines(logger)) == 3
