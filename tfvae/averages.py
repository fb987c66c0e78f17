"""The metrics of every training loop here: averages over examples, and batches refused."""

import keras
import tensorflow as tf


class Refused(keras.metrics.Metric):
    """How many batches held values that the model does not take.

    A metric, so that replicas are summed and nothing of it is saved with the model.
    """

    def __init__(self, **kwargs):
        super().__init__(name="refused", **kwargs)
        self.count = self.add_variable((), "zeros", name="count")

    def update_state(self, taken, sample_weight=None):
        """Add a batch, a scalar Boolean."""
        self.count.assign_add(1.0 - tf.cast(taken, tf.float32))

    def result(self):
        """Return the number of batches."""
        return tf.convert_to_tensor(self.count.value)


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
