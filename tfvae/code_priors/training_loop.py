"""The training loop of a prior over codes: maximum likelihood, with exact resuming."""

import math

import keras
import tensorflow as tf

from tfvae.training import OwnLoss

METRICS = ("loss", "bits_per_code")


class MaximumLikelihood(OwnLoss):
    """A model trained on  loss = −mean over the batch of log p(codes), in nats per example.

    Subclasses implement `log_prob(codes, condition, training)` and `check_codes(codes, name)`, are
    `tfvae.conditions.Conditional`, and have `num_positions`.

    Args:
        seed: with the step, decides all noise of training.
    """

    better = OwnLoss.better | {"bits_per_code": "min"}

    def __init__(self, seed: int = 0, **kwargs):
        super().__init__(METRICS, "training_step", seed, **kwargs)

    @property
    def training_step(self) -> keras.Variable:
        """How many training steps were made, int64."""
        return self._counter

    @property
    def metrics(self):
        """`loss`, −log p(codes) in nats per example, and `bits_per_code`, in bits per position."""
        return super().metrics

    def compile(self, optimizer="adam", **kwargs):
        """Set the optimizer.

        Args:
            optimizer: any Keras optimizer, by name or as an object; by the name "adam", the one of
                `tfvae.optimizers`, which makes the same steps in less time.
            kwargs: `jit_compile`, `steps_per_execution`, `run_eagerly`, `auto_scale_loss`, as in
                `keras.Model.compile`.

        Raises:
            InvalidArgument: `loss` or `metrics`, which a prior has by itself.
        """
        super().compile(optimizer, **kwargs)

    def train_step(self, batch):
        """Make one gradient step; nothing here waits for the host."""
        codes, condition, sample_weight = self.begin_step(batch, training=True)
        with tf.GradientTape() as tape:
            nats = -self.log_prob(codes, condition, training=True)
            loss = self.total_loss(nats, codes, condition, training=True)
            scaled_loss = self.scaled_loss(loss, sample_weight)
        self.minimize(tape, scaled_loss)
        return self._update_metrics(loss, nats, sample_weight)

    def test_step(self, batch):
        """Measure one batch, without dropout."""
        codes, condition, sample_weight = self.begin_step(batch)
        nats = -self.log_prob(codes, condition)
        loss = self.total_loss(nats, codes, condition, training=False)
        return self._update_metrics(loss, nats, sample_weight)

    def fit(self, x=None, y=None, *args, **kwargs):
        """Train on codes, and on labels where there are classes; see `keras.Model.fit`.

        Args:
            x: codes `[N, *code_shape]`, or a `tf.data.Dataset` of batches of codes or of pairs
                (codes, labels).
            y: labels `[N]`, with classes; else None.
            args: as in `keras.Model.fit`, and so are `kwargs`.

        Raises:
            InvalidData: codes of another shape, not integers, or out of range; so for labels. Of a
                dataset, the first batch is looked at before the first step, and the others in
                theirs.
            InvalidArgument: labels are missing or not wanted, or there is nothing to learn.
        """
        return super().fit(x, y, *args, **kwargs)

    def check_batch(self, x, y, name):
        self.check_codes(x, name)
        self.check_condition(y, len(x), name=name, one_for_all=False)

    def takes(self, x, y):
        codes = tf.cast(x, tf.int64)  # the type of x may be too narrow for the size of the codebook
        in_range = tf.reduce_all((codes >= 0) & (codes < self.codebook_size))
        y = self.check_condition(y, name="x", one_for_all=False)
        return in_range if y is None else in_range & self.condition.takes(y)

    def refusal(self):
        labels = "" if self.condition is None else f", each with {self.condition}"
        return (
            f"held values out of range; expected codes from 0 to {self.codebook_size - 1}{labels}."
        )

    def _update_metrics(self, loss, nats, sample_weight):
        bits_per_code = nats / (self.num_positions * math.log(2.0))
        self.update_averages(loss, (bits_per_code,), sample_weight)
        return self.get_metrics_result()
