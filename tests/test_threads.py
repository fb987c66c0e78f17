"""Changes of the whole process: they are undone in whatever order threads leave."""

import contextlib
import logging
import os
import sys
import threading
import warnings

import keras
import pytest

from tfvae._plain import quiet
from tfvae._plain.threads import shared
from tfvae.errors import InvalidFile
from tfvae.runs.weights import bounded_weights


class Inside:
    """A thread that enters a context, and leaves it when it is told to."""

    def __init__(self, context):
        self.entered, self.told = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.run, args=(context,))
        self.thread.start()
        assert self.entered.wait(10)

    def run(self, context):
        with context:
            self.entered.set()
            self.told.wait(10)

    def leave(self):
        self.told.set()
        self.thread.join()


def test_the_first_makes_a_change_and_the_last_undoes_it():
    done = []

    @shared
    @contextlib.contextmanager
    def change():
        done.append("made")
        yield len(done)
        done.append("undone")

    for number in (1, 3):
        first, second = Inside(change()), Inside(change())
        with change() as value:
            assert value == number
        first.leave()
        assert done == ["made", "undone"] * (number // 2) + ["made"]
        second.leave()
        assert done == ["made", "undone"] * (number // 2 + 1)


def test_an_error_undoes_it_too():
    done = []

    @shared
    @contextlib.contextmanager
    def change():
        yield
        done.append("undone")

    with pytest.raises(KeyError), change():
        raise KeyError
    assert done == ["undone"]


def state():
    """Return what quiet contexts change."""
    file = os.fstat(2)
    disabled = logging.root.manager.disable
    return file.st_dev, file.st_ino, sys.stdout, disabled, list(warnings.filters)


@pytest.mark.parametrize("context", [quiet.quiet_stderr, quiet.quiet])
def test_two_threads_leave_the_terminal_as_it_was(context):
    before = state()
    first, second = Inside(context()), Inside(context())
    assert state() != before
    first.leave()
    assert state() != before
    second.leave()
    assert state() == before


def test_an_unexpected_error_shows_what_was_hidden_since_its_thread_entered(capfd):
    def fail():
        os.write(2, b"why\n")
        raise ZeroDivisionError

    with quiet.quiet_stderr():
        os.write(2, b"before\n")
        with pytest.raises(ZeroDivisionError), quiet.quiet_stderr():
            fail()
        os.write(2, b"after\n")
    assert capfd.readouterr().err == "why\n"


def test_a_limit_on_weights_holds_in_its_thread_alone():
    add_weight = keras.layers.Layer.add_weight
    first = Inside(bounded_weights(100, InvalidFile, "{size} of {most}"))
    keras.layers.Dense(1000).build((None, 1))
    second = Inside(bounded_weights(100, InvalidFile, "{size} of {most}"))
    first.leave()
    second.leave()
    assert keras.layers.Layer.add_weight is add_weight


def test_a_limit_on_weights_counts_them_all():
    with bounded_weights(4 * 20, InvalidFile, "{size} of {most}"):
        keras.layers.Dense(10).build((None, 1))
        with pytest.raises(InvalidFile, match="88 bytes of 80 bytes"):
            keras.layers.Dense(2).build((None, 1))
    keras.layers.Dense(100).build((None, 1))
