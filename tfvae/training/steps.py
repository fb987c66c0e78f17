"""What a training or a test step is made of: its loss, its gradient step and its averages."""

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfvae import random, replicas
from tfvae.averages import Averages, Refused
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.training.batch import share_of_mean, unpack


class Loss(NamedTuple):
    """What one step minimizes.

    Attributes:
        per_example: `[B]` in nats, `additional` included.
        additional: the result of `Steps.additional_loss`, `[B]`, or None.
        regularization: the sum of the losses that layers add, a scalar; None if there are none.
    """

    per_example: tf.Tensor
    additional: tf.Tensor | None
    regularization: tf.Tensor | None

    @property
    def total(self) -> tf.Tensor:
        """The loss of each example, with the whole regularization in each: `[B]`."""
        if self.regularization is None:
            return self.per_example
        return self.per_example + self.regularization


class Steps(keras.Model):
    """A Keras model with what `train_step` and `test_step` are made of.

    Both steps begin with `begin_step`; the loss is `total_loss`, which a training step scales by
    `scaled_loss` and passes to `minimize`, and `update_averages` counts it.

    Args:
        averages: names of the per-example values that `metrics` averages, the loss first.
        counter: name of the variable that counts training steps.
        seed: with the step, decides all noise of training, that of layers such as Dropout too.

    Attributes:
        layers_add_losses: whether any layer adds a loss, known once a step has been traced.
        batches_have_weights: whether any batch has weights of its examples, known likewise.
    """

    def __init__(self, averages: tuple[str, ...], counter: str, seed: int, **kwargs):
        # Networks cast by themselves: half precision holds neither counts nor the levels of many
        # categories.
        super().__init__(autocast=False, **kwargs)
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
        self._additional = Averages(("additional_loss",), name="additional_loss")
        self._regularization = Averages(("regularization",), name="regularization")
        self.layers_add_losses = False
        self.batches_have_weights = False
        self._refused = Refused()

    @property
    def metrics(self):
        """What `fit` and `evaluate` report, averaged over the examples."""
        metrics = [self._averages]
        if self.has_additional_loss:
            metrics.append(self._additional)
        if self.layers_add_losses or any(v.regularizer for v in self.trainable_weights):
            metrics.append(self._regularization)
        return metrics

    @property
    def metrics_names(self) -> list[str]:
        """The names of the values that `evaluate` and `train_on_batch` return, in their order."""
        return [name for m in self.metrics for name in getattr(m, "names", [m.name])]

    @property
    def steps_made(self) -> int:
        """How many training steps were made, on the host."""
        return int(np.asarray(self._counter))  # under a strategy it is one of each replica

    @property
    def epoch_metrics(self) -> list[keras.metrics.Metric]:
        """All metrics that count over an epoch, whether or not they are reported."""
        return [self._averages, self._additional, self._regularization, self._refused]

    def additional_loss(self, x: tf.Tensor, y, training: bool) -> tf.Tensor | None:
        """Return what is added to the loss of each example, `[B]` in nats; None for nothing.

        Override this method to add a term of your own. `sample_weight` weighs the term as it does
        the rest of the loss, and the logs show its mean as `additional_loss`.

        Args:
            x: examples, `[B, ...]`, as the data has them.
            y: labels, or None if the data has none.
            training: whether this is a training step.
        """
        return None

    @property
    def trains_without_gradients(self) -> bool:
        """Whether a step trains weights of its own beside those that the gradient trains."""
        return False

    @property
    def has_additional_loss(self) -> bool:
        """Whether the class adds a term to the loss, by `additional_loss`."""
        return type(self).additional_loss is not Steps.additional_loss

    def as_examples(self, x: tf.Tensor) -> tf.Tensor:
        """Return a batch whose shape the graph knows: a dataset may not know all its sizes.

        Raises:
            InvalidData: examples of another shape than the model takes.
        """
        return x

    def takes(self, x: tf.Tensor, y) -> tf.Tensor:
        """Return whether the model takes the values of a batch, a scalar, in the graph."""
        raise NotImplementedError

    def refusal(self) -> str:
        """Return the message for a batch that `takes` refuses."""
        raise NotImplementedError

    def reset_metrics(self):
        """Reset the averages."""
        super().reset_metrics()
        self._refused.reset_state()

    def get_metrics_result(self):
        """Return the averages so far, by name.

        Raises:
            InvalidData: on the host, if one of the batches had values out of range.
        """
        if tf.executing_eagerly() and (count := int(self._refused.result())):
            self._refused.reset_state()
            weights = "held weights that are not finite, or " * self.batches_have_weights
            raise InvalidData(
                f"{count} of the batches since the averages began {weights}{self.refusal()} A "
                "model that was trained on them is of no use: mend the data, and start again."
            )
        return super().get_metrics_result()

    def begin_step(self, data, training=False):
        """Return x, y or None, and weights `[B]` or None; forget losses of steps before."""
        x, y, sample_weight = unpack(data)
        x = self.as_examples(x)
        replicas.begin_step(tf.shape(x)[0])
        if training:
            self.seed_layers(self.seed)
        taken = self.takes(x, y)
        if sample_weight is not None:
            self.batches_have_weights = True
            taken &= tf.reduce_all(tf.math.is_finite(tf.cast(sample_weight, tf.float32)))
        self._refused.update_state(taken)
        self.forget_losses()
        return x, y, sample_weight

    def forget_losses(self) -> None:
        """Forget the losses that layers added, in another step or when another graph was traced."""
        self._clear_losses()

    def seed_layers(self, seed: int) -> None:
        """Make the noise of Keras's own layers, such as Dropout, one of seed, step and replica.

        These layers draw with generators whose state neither a file nor a copy has. With layers
        that have none, nothing is added to the graph.
        """
        generators = self._generators()
        if not generators:
            return
        of_step = random.stream_seed(seed, random.Stream.LAYERS, self._counter)
        words = random.words([len(generators), 2], random.seed_of_replica(of_step))
        for generator, state in zip(generators, tf.unstack(words), strict=True):
            generator.state.assign(tf.cast(state, generator.state.dtype))

    def repeatable_noise(self) -> Callable[[], None]:
        """Return a function that puts the noise of Keras's own layers back to where it is now.

        Every call of such a layer moves its generator on. A step that passes twice through the
        layers, with the same latents, has to find the same masks in both.
        """
        states = [(each.state, tf.convert_to_tensor(each.state)) for each in self._generators()]

        def put_back():
            for variable, state in states:
                variable.assign(state)

        return put_back

    @property
    def added_losses(self) -> list[tf.Tensor]:
        """The losses that layers have added since the step began, those of weights left out."""
        return [loss for layer in self._flatten_layers() for loss in layer._losses]

    def repeatable_losses(self) -> Callable[[], None]:
        """Return a function that puts the losses that layers have added back to those of now.

        Keras keeps those of the last call of a layer. A step that passes several times through the
        layers counts those of one pass, whichever is the last.
        """
        added = [(layer, list(layer._losses)) for layer in self._flatten_layers()]

        def put_back():
            for layer, losses in added:
                layer._losses[:] = losses

        return put_back

    def _generators(self):
        """Return the generators of Keras's own layers, each once: layers may share one."""
        found = [each for layer in self._flatten_layers() for each in layer._seed_generators]
        return list(dict.fromkeys(found))

    def total_loss(self, per_example, x, y, training) -> Loss:
        """Return what is minimized, for the model's own loss `[B]`."""
        additional = self.additional_loss(x, y, training) if self.has_additional_loss else None
        if additional is not None:
            if additional.shape.rank != 1:
                raise InvalidArgument(
                    f"`additional_loss` of {type(self).__name__} returned the shape "
                    f"{tuple(additional.shape)}; expected [B], one value for each example. Sum "
                    "over the other axes; add what belongs to no example by `self.add_loss`."
                )
            additional = tf.cast(additional, tf.float32)
            per_example = per_example + additional
        # The losses that layers add, such as weight decay by `kernel_regularizer`.
        terms = [tf.reduce_sum(tf.cast(term, tf.float32)) for term in self.losses]
        self.layers_add_losses = self.layers_add_losses or bool(terms)
        return Loss(per_example, additional, tf.add_n(terms) if terms else None)

    def scaled_loss(self, loss: Loss, sample_weight):
        """Return the loss to differentiate: the last line of every loss."""
        mean = share_of_mean(loss.per_example, sample_weight)
        if loss.regularization is not None:
            mean += loss.regularization / tf.distribute.get_strategy().num_replicas_in_sync
        return self.optimizer.scale_loss(mean)

    def minimize(self, tape, scaled_loss, variables=None):
        """Make the gradient step of dense gradients, and count it.

        The gradient of a table is sparse, with an entry for each time a row was looked up, and
        Keras's optimizers square entries where they should square the sum of those of a row.

        Args:
            tape: of the loss.
            scaled_loss: of `scaled_loss`.
            variables: what is trained, among the trainable variables; by default all of them.
        """
        self._refuse_hidden_variables(tape)
        variables = self.trainable_variables if variables is None else variables
        gradients = [_dense(gradient) for gradient in tape.gradient(scaled_loss, variables)]
        # Where the data ends, a graph has run ahead into one more step, as far as it could come
        # without a batch; the optimizer counts steps too.
        with tf.control_dependencies([scaled_loss]):
            if variables:
                self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
            self._counter.assign_add(1)

    def _refuse_hidden_variables(self, tape):
        """Refuse variables that the loss depends on and that Keras does not know of.

        The tape of the step has watched every trainable variable that was read, wherever it is.
        The check runs while the graph is traced and adds nothing to the graph.
        """
        known = set()
        for weight in self.variables:
            # Under a strategy a weight has a variable on each replica, which the tape names.
            variables = (weight.value, *getattr(weight.value, "values", ()))
            known.update(id(variable) for variable in variables)
        hidden = [v for v in tape.watched_variables() if id(v) not in known]
        if hidden:
            names = ", ".join(f"{v.name.split(':')[0]!r} of shape {tuple(v.shape)}" for v in hidden)
            raise InvalidArgument(
                "The loss depends on variables that Keras does not find in the model, so that they "
                f"would be neither trained nor saved: {names}. Let the part that has them be a "
                "Keras 3 layer that adds them with `self.add_weight` (a Likelihood, a Posterior "
                "and a Prior are layers), or make them with trainable=False if they are to stay "
                "as they are."
            )

    def update_averages(self, loss: Loss, others, sample_weight):
        """Add a batch to the metrics: the loss, and the other values `[B]` that are averaged."""
        self._averages.update_state((loss.total, *others), sample_weight)
        if loss.additional is not None:
            self._additional.update_state([loss.additional], sample_weight)
        if loss.regularization is not None:
            everywhere = tf.broadcast_to(loss.regularization, tf.shape(loss.per_example))
            self._regularization.update_state([everywhere], sample_weight)


def _dense(gradient):
    return tf.convert_to_tensor(gradient) if isinstance(gradient, tf.IndexedSlices) else gradient
