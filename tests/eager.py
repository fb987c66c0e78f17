"""What runs without graphs: to trace one takes longer than a few steps of a tiny model do.

`tf.map_fn` and long loops are the exception: without a graph they take many times as long.
"""

import contextlib

import keras
import pytest
import tensorflow as tf


@contextlib.contextmanager
def without_graphs():
    """Run every `tf.function` as it is written."""
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


@contextlib.contextmanager
def steps_without_graphs():
    """Run the steps of `fit` and `evaluate` as they are written; what else has a graph keeps it."""
    always = property(lambda model: True, lambda model, value: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "run_eagerly", always)
        yield
