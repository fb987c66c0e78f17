"""Suppression of what libraries write to the terminal from C++."""

import contextlib
import os
import sys
import tempfile

from tfvae.errors import TfvaeError


@contextlib.contextmanager
def quiet_stderr():
    """Hide what is written to file descriptor 2, but show it if an unexpected error occurs."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as hidden:
        os.dup2(hidden.fileno(), 2)
        try:
            yield
        except TfvaeError:
            raise  # says all there is to say
        except BaseException:
            hidden.seek(0)
            os.write(saved, hidden.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def import_tensorflow() -> None:
    """Import TensorFlow without the lines that it prints on the way."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet_stderr():
        import tensorflow as tf

        tf.config.list_physical_devices()
        tf.get_logger().setLevel("ERROR")
