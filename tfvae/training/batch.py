"""The parts of a batch, and the mean over its examples."""

from typing import Any

import keras
import tensorflow as tf

from tfvae import replicas
from tfvae.errors import InvalidData

NO_LABELS = "sample weights in place of labels"


def unpack(data: Any) -> tuple[Any, Any, tf.Tensor | None]:
    """Return the examples, their labels or None, and their weights `[B]` or None."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if isinstance(y, dict) and NO_LABELS in y:
        y, sample_weight = None, sample_weight[NO_LABELS]  # Keras gives them the labels' structure
    return x, y, _flat_weights(sample_weight, x)


def _flat_weights(sample_weight, x):
    """Return weights `[B]` of weights that Keras may have given a last axis of size 1.

    Raises:
        InvalidData: more or fewer than one weight for an example.
    """
    if sample_weight is None:
        return None
    shape, batch = tf.TensorShape(sample_weight.shape), tf.TensorShape(x.shape)[:1]
    one_each = batch.concatenate([1] * (shape.rank - 1)) if shape.rank else tf.TensorShape([None])
    if not shape.is_compatible_with(one_each):
        raise InvalidData(
            f"`sample_weight` has the shape {tuple(shape)}; expected [B], one weight for each "
            "example."
        )
    # Where sizes are known in the graph alone, this fails there on another number.
    return tf.reshape(sample_weight, [tf.shape(x)[0]])


def share_of_mean(values: tf.Tensor, sample_weight: tf.Tensor | None) -> tf.Tensor:
    """Return the sum over this replica's examples, divided by the number on all replicas.

    No other function averages over the batch. Gradients are summed over the replicas, so every
    example of a batch counts alike however the batch was split. A replica may get no examples of
    the last batch.
    """
    _, count = replicas.place(tf.size(values))
    count = tf.cast(count, values.dtype)
    if sample_weight is not None:
        values = values * tf.cast(sample_weight, values.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(values), count)
