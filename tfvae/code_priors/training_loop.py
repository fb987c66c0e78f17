"""The training loop of a prior: maximum likelihood, resumed exactly."""

import math

import keras
import numpy as np
import tensorflow as tf

from tfvae.code_priors.data import check_condition
from tfvae.errors import InvalidArgument
from tfvae.training import OwnLoss, flat_weights

METRICS = ("loss", "bits_per_code")


class MaximumLikelihood(OwnLoss):
    """A model trained on  loss = −mean over the batch of log p(codes), in nats per example.

    Subclasses implement `log_prob(codes, condition, training)` and `check_codes(codes, name)`, and
    have `num_classes` and `num_positions`.

    Args:
        seed: with the step, decides all noise of training.
    """

    def __init__(self, seed: int = 0, **kwargs):
        super().__init__(METRICS, "training_step", seed, **kwargs)

    @property
    def training_step(self) -> keras.Variable:
        """How many training steps were made, int64."""
        return self._counter

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
        super().compile(optimizer, **kwargs)

    def train_step(self, batch):
        """Make one gradient step; nothing here waits for the host."""
        codes, condition, sample_weight = self._unpack(batch)
        with tf.GradientTape() as tape:
            nats = -self.log_prob(codes, condition, training=True)
            scaled_loss = self._scaled_loss(nats, sample_weight)
        self._minimize(tape, scaled_loss)
        return self._update_metrics(nats, sample_weight)

    def test_step(self, batch):
        """Measure one batch, without dropout."""
        codes, condition, sample_weight = self._unpack(batch)
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
            InvalidArgument: labels are missing or not wanted, or there is nothing to learn.
        """
        self._prepare(x, y, "x")
        if self.built:
            self.check_trainable()
        validation = kwargs.get("validation_data")
        if validation is not None:
            self._prepare(*_split(validation), "validation_data")
        return super().fit(x, self._labels(y, kwargs), *args, **kwargs)

    def check_trainable(self) -> None:
        """Refuse to fit a prior without variables.

        Raises:
            InvalidArgument: it has none.
        """
        if not self.trainable_variables:
            raise InvalidArgument(
                f"{type(self).__name__} has nothing to learn. Use it as it is, or another prior."
            )

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
            check_condition(y, self.num_classes, len(x))
            shape = x.shape
        elif isinstance(x, tf.data.Dataset):
            spec = x.element_spec
            shape = (spec[0] if isinstance(spec, tuple) else spec).shape
        else:
            return
        if not self.built:
            with self.distribute_strategy.scope():
                self.build((None, *shape[1:]))

    def _labels(self, y, options):
        """Keras passes sample weights on only beside labels: without, let weights stand in."""
        return options.get("sample_weight") if y is None and not self.num_classes else y

    def _unpack(self, batch):
        """Return codes, labels `[B]` or None, and weights `[B]` or None."""
        codes, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        if not self.num_classes and sample_weight is not None:
            labels = None  # the weights that stood in for them
        # Labels get a last axis of size 1 where weights do.
        return codes, flat_weights(labels, codes), flat_weights(sample_weight, codes)


def _split(validation):
    """Return the codes and the labels, or None, of validation data."""
    if not isinstance(validation, (tuple, list)):
        return validation, None
    return (*validation, None)[:2]
