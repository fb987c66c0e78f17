"""Suppression of what libraries write to the terminal."""

import contextlib
import logging
import os
import sys
import tempfile
import warnings

from tfvae._plain.threads import shared
from tfvae.errors import TfvaeError


@contextlib.contextmanager
def quiet_stderr():
    """Hide what is written to file descriptor 2, but show it if an unexpected error occurs.

    The descriptor is that of the whole process, so what other threads write meanwhile is hidden
    too.
    """
    with _hidden_stderr() as (terminal, hidden):
        begin = os.fstat(hidden).st_size
        try:
            yield
        except TfvaeError:
            raise  # says all there is to say
        except BaseException:
            os.lseek(hidden, begin, os.SEEK_SET)
            os.write(terminal, os.read(hidden, os.fstat(hidden).st_size - begin))
            raise


@contextlib.contextmanager
def quiet():
    """Hide what `quiet_stderr` hides, what is printed, warnings, and messages of `logging`."""
    with _hidden_in_python(), quiet_stderr():
        yield


@shared
@contextlib.contextmanager
def _hidden_stderr():
    """Give the descriptor of the terminal, and that of the file that takes its place."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as hidden:
        os.dup2(hidden.fileno(), 2)
        try:
            yield saved, hidden.fileno()
        finally:
            os.dup2(saved, 2)
            os.close(saved)


@shared
@contextlib.contextmanager
def _hidden_in_python():
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(None), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def import_tensorflow() -> None:
    """Import TensorFlow without the lines that it prints on the way."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet_stderr():
        import tensorflow as tf

        tf.config.list_physical_devices()
        tf.get_logger().setLevel("ERROR")
