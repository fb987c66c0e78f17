"""What every training loop here shares: running averages, and the mean at the end of a loss."""

import keras
import tensorflow as tf


class Averages(keras.metrics.Metric):
    """Weighted means of named values `[B]`; `result()` is a dictionary of scalars.

    One metric for all of them: a `keras.metrics.Mean` for each would cost a small model a tenth of
    its training step.

    Args:
        names: what the values are called in the logs.
    """

    def __init__(self, names: tuple[str, ...], **kwargs):
        super().__init__(name="averages", **kwargs)
        self.names = tuple(names)
        self.sums = self.add_variable((len(names),), "zeros", name="sums")
        self.weight = self.add_variable((), "zeros", name="weight")
        self.batches = self.add_variable((), "zeros", name="batches")

    def update_state(self, values, sample_weight=None):
        """Add a batch: one tensor `[B]` for each name, weighted by `sample_weight` `[B]`."""
        values = tf.cast(tf.stack(values), tf.float32)
        if sample_weight is None:
            weight = tf.cast(tf.shape(values)[1], tf.float32)
        else:
            sample_weight = tf.cast(sample_weight, tf.float32)
            values, weight = values * sample_weight, tf.reduce_sum(sample_weight)
        self.sums.assign_add(tf.reduce_sum(values, axis=1))
        self.weight.assign_add(weight)
        self.batches.assign_add(1.0)

    def result(self):
        """Return the mean of each value so far; 0 before the first."""
        means = tf.math.divide_no_nan(self.sums.value, self.weight.value)
        return dict(zip(self.names, tf.unstack(means), strict=True))


def unpack(data):
    """Return the examples and their weights `[B]`, or None; labels are not used."""
    x, _, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    return x, flat_weights(sample_weight, x)


def flat_weights(sample_weight, x):
    """Return weights `[B]` of weights that Keras may have given a last axis of size 1."""
    if sample_weight is not None and len(sample_weight.shape) > 1:
        sample_weight = tf.reshape(sample_weight, tf.shape(x)[:1])
    return sample_weight


def weighted_mean(values, sample_weight):
    """The mean over the batch; the only place where a loss is averaged."""
    if sample_weight is not None:
        values = values * tf.cast(sample_weight, values.dtype)
    # A replica may get no examples of the last batch.
    return tf.math.divide_no_nan(tf.reduce_sum(values), tf.cast(tf.size(values), values.dtype))
