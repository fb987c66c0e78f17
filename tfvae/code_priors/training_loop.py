"""The training loop of a prior: maximum likelihood, resumed exactly."""

import math

import keras
import numpy as np
import tensorflow as tf

from tfvae.code_priors import data
from tfvae.errors import InvalidArgument
from tfvae.training import Averages, flat_weights, weighted_mean

METRICS = ("loss", "bits_per_code")
_COMPILE_OPTIONS = ("jit_compile", "steps_per_execution", "run_eagerly", "auto_scale_loss")


class MaximumLikelihood(keras.Model):
    """A model trained on  loss = −mean over the batch of log p(codes), in nats per example.

    Subclasses implement `log_prob(codes, condition, training)` and `check_codes(codes, name)`, and
    have `num_classes` and `num_positions`.

    Args:
        seed: with the step, decides all noise of training.
    """

    def __init__(self, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed
        # A variable of the model, not the optimizer's counter: it survives a new `compile`, counts
        # every batch under gradient accumulation, and is saved and resumed with the weights.
        self.training_step = self.add_weight(
            shape=(),
            initializer="zeros",
            dtype="int64",
            trainable=False,
            name="training_step",
            aggregation="only_first_replica",
        )
        self._averages = Averages(METRICS)

    @property
    def metrics(self):
        """`loss`, −log p(codes) in nats per example, and `bits_per_code`, in bits per position."""
        return [self._averages]

    def compile(self, optimizer="adam", **kwargs):
        """Set the optimizer.

        Args:
            optimizer: any Keras optimizer, by name or as an object.
            kwargs: `jit_compile`, `steps_per_execution`, `run_eagerly`, `auto_scale_loss`, as in
                `keras.Model.compile`.

        Raises:
            InvalidArgument: `loss` or `metrics`, which a prior has by itself.
        """
        for name in ("loss", "metrics", "weighted_metrics", "loss_weights"):
            if kwargs.get(name) is not None:
                raise InvalidArgument(
                    f"`compile` got `{name}`, but {type(self).__name__} is trained on −log p "
                    f"and reports {', '.join(METRICS)} by itself. Leave it out."
                )
        super().compile(optimizer=optimizer, **kwargs)
        self._compile_options = {k: kwargs[k] for k in _COMPILE_OPTIONS if k in kwargs}

    def get_compile_config(self):
        """Return what `compile_from_config` needs to compile a loaded model in the same way."""
        if not self.compiled:
            return None
        config = {"optimizer": self.optimizer, **self._compile_options}
        return {k: keras.saving.serialize_keras_object(v) for k, v in config.items()}

    def compile_from_config(self, config):
        """Compile from the result of `get_compile_config`, the optimizer's variables included."""
        self.compile(**{k: keras.saving.deserialize_keras_object(v) for k, v in config.items()})
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def train_step(self, data):
        """Make one gradient step; nothing here waits for the host."""
        codes, condition, sample_weight = self._unpack(data)
        variables = self.trainable_variables
        with tf.GradientTape() as tape:
            nats = -self.log_prob(codes, condition, training=True)
            loss = weighted_mean(nats, sample_weight) + sum(self.losses)
            loss = loss / tf.distribute.get_strategy().num_replicas_in_sync
            scaled_loss = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled_loss, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        self.training_step.assign_add(1)
        return self._update_metrics(nats, sample_weight)

    def test_step(self, data):
        """Measure one batch, without dropout."""
        codes, condition, sample_weight = self._unpack(data)
        return self._update_metrics(-self.log_prob(codes, condition), sample_weight)

    def fit(self, x=None, y=None, *args, **kwargs):
        """Train on codes, and on labels where there are classes; see `keras.Model.fit`.

        Args:
            x: codes `[N, *code_shape]`, or a `tf.data.Dataset` of batches of codes or of pairs
                (codes, labels).
            y: labels `[N]`, with classes; else None.
            args: as in `keras.Model.fit`, and so are `kwargs`.

        Raises:
            InvalidData: codes of another shape, not integers, or out of range; so for labels.
                The values in a dataset are not looked at.
            InvalidArgument: labels are missing or not wanted.
        """
        self._prepare(x, y, "x")
        validation = kwargs.get("validation_data")
        if validation is not None:
            self._prepare(*_split(validation), "validation_data")
        return super().fit(x, self._labels(y, kwargs), *args, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """Average the metrics over data; see `keras.Model.evaluate`, and `fit` for the data."""
        self._prepare(x, y, "x")
        as_dict = kwargs.pop("return_dict", False)
        logs = super().evaluate(x, self._labels(y, kwargs), *args, return_dict=True, **kwargs)
        return logs if as_dict else [logs[name] for name in METRICS]

    def _update_metrics(self, nats, sample_weight):
        bits_per_code = nats / (self.num_positions * math.log(2.0))
        self._averages.update_state((nats, bits_per_code), sample_weight)
        return self.get_metrics_result()

    def _prepare(self, x, y, name):
        """Check arrays, and build the model if it waits for the shape of the data."""
        if isinstance(x, (np.ndarray, tf.Tensor)):
            self.check_codes(x, name)
            data.check_condition(y, self.num_classes, len(x))
            shape = x.shape
        elif isinstance(x, tf.data.Dataset):
            spec = x.element_spec
            shape = (spec[0] if isinstance(spec, tuple) else spec).shape
        else:
            return
        if not self.built:
            self.build((None, *shape[1:]))

    def _labels(self, y, options):
        """Keras passes sample weights on only beside labels: without, let weights stand in."""
        return options.get("sample_weight") if y is None and not self.num_classes else y

    def _unpack(self, batch):
        """Return codes, labels `[B]` or None, and weights `[B]` or None."""
        codes, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        if not self.num_classes and sample_weight is not None:
            labels = None  # what stood in for them
        return codes, flat_weights(labels, codes), flat_weights(sample_weight, codes)


def _split(validation):
    """Return the codes and the labels, or None, of validation data."""
    if not isinstance(validation, tuple):
        return validation, None
    return (*validation, None)[:2]
