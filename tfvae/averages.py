"""Metrics of a training loop: averages over examples, and the count of refused batches."""

import keras
import tensorflow as tf

from tfvae import replicas


class Refused(keras.metrics.Metric):
    """The number of batches with values that the model does not take.

    It is a metric, so it is not saved with the model. A batch counts once, whatever the number of
    replicas that share it.
    """

    def __init__(self, **kwargs):
        super().__init__(name="refused", **kwargs)
        self.count = self.add_variable((), "zeros", aggregation="only_first_replica", name="count")

    def update_state(self, taken, sample_weight=None):
        """Add a batch, by a scalar Boolean: whether the model takes this replica's part of it."""
        (refused,) = replicas.sums([1.0 - tf.cast(taken, tf.float32)])
        self.count.assign_add(tf.minimum(refused, 1.0))

    def result(self):
        """Return the number of batches."""
        return tf.convert_to_tensor(self.count.value)


class Averages(keras.metrics.Metric):
    """Weighted means of named values `[B]`; `result()` is a dictionary of scalars.

    One metric for all of them: a `keras.metrics.Mean` for each would cost a small model a tenth of
    its training step.

    The sums of all replicas are added up with each batch, so every replica holds the averages over
    all and can read them at any time without the others.

    Args:
        names: what the values are called in the logs.
        name: of the metric.
    """

    def __init__(self, names: tuple[str, ...], name: str = "averages", **kwargs):
        super().__init__(name=name, **kwargs)

        def variable(shape, name):
            return self.add_variable(shape, "zeros", aggregation="only_first_replica", name=name)

        self.names = tuple(names)
        self.sums = variable((len(names),), "sums")
        self.weight, self.batches = variable((), "weight"), variable((), "batches")

    def update_state(self, values, sample_weight=None):
        """Add a batch: one tensor `[B]` for each name, weighted by `sample_weight` `[B]`."""
        values = tf.cast(tf.stack(values), tf.float32)
        if sample_weight is None:
            weight = tf.cast(tf.shape(values)[1], tf.float32)
        else:
            sample_weight = tf.cast(sample_weight, tf.float32)
            values, weight = values * sample_weight, tf.reduce_sum(sample_weight)
        total, weight = replicas.sums([tf.reduce_sum(values, axis=1), weight])
        self.sums.assign_add(total)
        self.weight.assign_add(weight)
        self.batches.assign_add(1.0)

    def result(self):
        """Return the mean of each value so far; 0 before the first."""
        means = tf.math.divide_no_nan(self.sums.value, self.weight.value)
        return dict(zip(self.names, tf.unstack(means), strict=True))
