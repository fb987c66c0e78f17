"""What every training loop here shares: its settings, running averages, the end of a loss."""

import keras
import tensorflow as tf

from tfvae.errors import InvalidArgument

_COMPILE_OPTIONS = ("jit_compile", "steps_per_execution", "run_eagerly", "auto_scale_loss")


class OwnLoss(keras.Model):
    """A Keras model that has a loss of its own, and comes back compiled when it is loaded.

    Subclasses implement `train_step` and `test_step`, and `compile_arguments` if their `compile`
    takes more than the optimizer and Keras's own options.

    Args:
        averages: names of the per-example values that `metrics` averages.
        counter: name of the variable that counts training steps.
        seed: with the step, decides all noise.
    """

    instead_of_loss = "Leave it out."

    def __init__(self, averages: tuple[str, ...], counter: str, seed: int, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed
        # A variable of the model, not the optimizer's counter: it survives a new `compile`, counts
        # every batch under gradient accumulation, and is saved and resumed with the weights.
        self._counter = self.add_weight(
            shape=(),
            initializer="zeros",
            dtype="int64",
            trainable=False,
            name=counter,
            aggregation="only_first_replica",
        )
        self._averages = Averages(averages)

    @property
    def metrics(self):
        """What `fit` and `evaluate` report, averaged over the examples."""
        return [self._averages]

    @property
    def steps_made(self) -> int:
        """How many training steps were made, on the host."""
        return int(self._counter)

    def compile_arguments(self) -> dict:
        """Return the arguments of `compile`, as objects, but for the optimizer and Keras's own."""
        return {}

    def compile(self, optimizer, **kwargs):
        """Hand the optimizer and Keras's own options on, and remember them for saving.

        Raises:
            InvalidArgument: `loss` or `metrics`, which these models have by themselves.
        """
        for name in ("loss", "metrics", "weighted_metrics", "loss_weights"):
            if kwargs.get(name) is not None:
                raise InvalidArgument(
                    f"`compile` got `{name}`, but {type(self).__name__} has a loss of its own and "
                    f"reports {', '.join(self._averages.names)} by itself. {self.instead_of_loss}"
                )
        super().compile(optimizer=optimizer, **kwargs)
        self._compile_options = {k: kwargs[k] for k in _COMPILE_OPTIONS if k in kwargs}

    def get_compile_config(self):
        """Return what `compile_from_config` needs to compile a loaded model in the same way."""
        if not self.compiled:
            return None
        config = {
            "optimizer": self.optimizer,
            **self.compile_arguments(),
            **self._compile_options,
        }
        return {k: keras.saving.serialize_keras_object(v) for k, v in config.items()}

    def compile_from_config(self, config):
        """Compile from the result of `get_compile_config`, the optimizer's variables included."""
        self.compile(**{k: keras.saving.deserialize_keras_object(v) for k, v in config.items()})
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def _scaled_loss(self, per_example, sample_weight):
        """Return the loss to differentiate, for `[B]` in nats: the last line of every loss."""
        # `losses` holds what layers add, weight decay by `kernel_regularizer` among it.
        loss = weighted_mean(per_example, sample_weight) + sum(self.losses)
        return self.optimizer.scale_loss(loss / tf.distribute.get_strategy().num_replicas_in_sync)

    def _minimize(self, tape, scaled_loss):
        """Make the gradient step of dense gradients, and count it.

        The gradient of a table is sparse, with an entry for each time a row was looked up, and
        Keras's optimizers square entries where they should square the sum of those of a row.
        """
        variables = self.trainable_variables
        gradients = [_dense(gradient) for gradient in tape.gradient(scaled_loss, variables)]
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        self._counter.assign_add(1)


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


def _dense(gradient):
    return tf.convert_to_tensor(gradient) if isinstance(gradient, tf.IndexedSlices) else gradient
