"""The base of every training loop: its settings, its steps, and checks of its data."""

import contextlib
import inspect
import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfvae import distribute, inputs, random, replicas
from tfvae.averages import Averages, Refused
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.optimizers import Adam
from tfvae.training.batch import NO_LABELS, share_of_mean, unpack
from tfvae.training.directions import check_averages, give_directions, learning_rate_of

COMPILE_OPTIONS = ("jit_compile", "steps_per_execution", "run_eagerly", "auto_scale_loss")


class Loss(NamedTuple):
    """What one step minimizes.

    Attributes:
        per_example: `[B]` in nats, `additional` included.
        additional: the result of `OwnLoss.additional_loss`, `[B]`, or None.
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


class OwnLoss(keras.Model):
    """A Keras model that has a loss of its own, and is compiled again when it is loaded.

    Subclasses implement `train_step` and `test_step`, `check_batch` and `takes` for the data, and
    `compile_arguments` if their `compile` takes more than the optimizer and Keras's own options.
    Both steps begin with `_begin_step`, and average by `_update_averages`.

    Args:
        averages: names of the per-example values that `metrics` averages, the loss first.
        counter: name of the variable that counts training steps.
        seed: with the step, decides all noise of training, that of layers such as Dropout too.

    Attributes:
        better: of each metric by name, whether "max" or "min" is better, or None if neither is.
            Callbacks that monitor one of them in mode "auto" use this.
        trains_on_condition: whether the data has y, and the call of the model needs it.
        layers_add_losses: whether any layer adds a loss, known once a step has been traced.
        never_called: for each method, the methods that one might expect it to call but that it
            does not, each with the advice what to override instead.
    """

    instead_of_loss = "Leave it out."
    trains_on_condition = False
    never_called: ClassVar = {
        "train_step": {
            "compute_loss": "Override `additional_loss(self, x, y, training)` to add a term to "
            "the loss of each example, or `train_step` and `test_step` for another loss.",
            "compute_metrics": "Override the property `metrics` and `_update_averages`, or "
            "`train_step` and `test_step`, to report more.",
        }
    }
    better = {"loss": "min", "regularization": "min", "additional_loss": "min"}

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
        self._asks, self._asked = None, 0.0
        self._refused = Refused()

    def _post_build(self):
        """Freeze what a frozen part has made while it was built: Keras leaves it trainable."""
        super()._post_build()
        for layer in self._flatten_layers():  # from the outer to the inner
            if not layer.trainable:
                for inner in layer._layers:
                    inner.trainable = False

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

    def assigned_settings(self) -> list[tf.Variable]:
        """Return the variables of settings that a callback may assign while the model trains."""
        return []

    @property
    def compiled_numbers(self) -> dict[str, float | list[float]]:
        """What `compile` was given of the numbers that a callback may assign, by name."""
        return {}

    def start_from_data(self, x, y) -> None:
        """Initialize the parts that start from data; called before the first step, with its data.

        `fit` gives it all its examples, `train_on_batch` its batch.
        """

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

    def check_trainable(self) -> None:
        """Refuse to train a model without variables that a step could change.

        Raises:
            InvalidArgument: it has none, or all of them are frozen.
        """
        if not self.trainable_variables and all(layer.built for layer in self._flatten_layers()):
            raise InvalidArgument(
                f"{type(self).__name__} has nothing to learn: it has no weights, or all of them "
                "are frozen. Use it as it is, or set `trainable = True` on a part."
            )

    def check_batch(self, x, y, name: str) -> None:
        """Refuse examples `x` and labels `y`, arrays, that the model cannot be trained on."""
        raise NotImplementedError

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

    def compile_arguments(self) -> dict:
        """Return the arguments of `compile`, as objects, but for the optimizer and Keras's own."""
        return {}

    def compile(self, optimizer, **kwargs):
        """Pass the optimizer and Keras's own options on, and remember them for saving.

        By the name "adam" it is `tfvae.optimizers.Adam`.

        Raises:
            InvalidArgument: `loss` or `metrics`, which these models have by themselves, or a
                subclass whose `compute_loss` or `compute_metrics` would never be called.
        """
        for name in ("loss", "metrics", "weighted_metrics", "loss_weights"):
            if kwargs.get(name) is not None:
                raise InvalidArgument(
                    f"`compile` got `{name}`, but {type(self).__name__} has a loss of its own and "
                    f"reports {', '.join(self._averages.names)} by itself. {self.instead_of_loss}"
                )
        self._refuse_unused_overrides()
        count = self.distribute_strategy.num_replicas_in_sync
        if count > 1 and kwargs.get("jit_compile") is True:
            raise InvalidArgument(
                f"`jit_compile` is True under a strategy of {count} replicas, and XLA compiles no "
                "step that sums over devices. Leave it out."
            )
        self._compile_options = {k: kwargs[k] for k in COMPILE_OPTIONS if k in kwargs}
        if distribute.is_multi_worker(self.distribute_strategy):
            # Keras's loop of several steps does not run where it holds sums over workers.
            kwargs["steps_per_execution"] = 1
        if isinstance(optimizer, str) and optimizer.lower() == "adam":
            optimizer = Adam()
        super().compile(optimizer=optimizer, **kwargs)
        self.compiled_learning_rate = learning_rate_of(self.optimizer)

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
        self._build_optimizer()

    @inputs.own_errors()
    def fit(self, x=None, y=None, *args, **kwargs):
        """Train; see `keras.Model.fit`.

        Arrays and tensors are checked as a whole before the first step, and so is the first batch
        of any other data. Every later batch is checked in its step; if one is out of range, its
        epoch ends with an error.

        Raises:
            InvalidData: data of another shape than the model takes, not finite, or out of range.
            InvalidArgument: a model without weights to train, data that is neither an array nor
                holds batches of one, a callback that monitors a metric of which neither more nor
                less is better, or one whose best weights the optimizer's average would replace.
        """
        self._assert_compile_called("fit")
        options = bound("fit", *args, **kwargs)
        give_directions(options.get("callbacks"), self.better)
        check_averages(options.get("callbacks"), self.optimizer)
        x = self._look(x, y, "x", self.consider)
        self.check_trainable()
        self._build_optimizer()
        if options.get("class_weight") is not None and y is None and inputs.is_array(x):
            raise InvalidArgument("`class_weight` needs the label of each example, as `y`.")
        if options.get("validation_data") is not None:
            batch_size = options.get("validation_batch_size") or options.get("batch_size")
            options["validation_data"] = self._validation(options["validation_data"], batch_size)
        if hasattr(x, "start_at"):
            options.setdefault("shuffle", False)  # it is, and Keras would warn that it cannot
        with contextlib.ExitStack() as stack:
            options["callbacks"] = self._arrange(options.get("callbacks"), x, stack)
            if not self.steps_made:
                self.start_from_data(*_without_validation(x, y, options))
            x, y = self._share_out(x, y, options, options.get("shuffle", True))
            return super().fit(x, self._labels(y, options), **options)

    @inputs.own_errors()
    def evaluate(self, x=None, y=None, *args, **kwargs):
        """Average the metrics over data; see `keras.Model.evaluate`, and `fit` for the data."""
        options = bound("evaluate", *args, **kwargs)
        if not options.get("_use_cached_eval_dataset"):  # else `fit` has looked at it
            x, y = self._share_out(self._look(x, y, "x"), y, options)
        as_dict = options.pop("return_dict", False)
        logs = super().evaluate(x, self._labels(y, options), return_dict=True, **options)
        return logs if as_dict else self._in_order(logs)

    @inputs.own_errors()
    def predict(self, x, *args, **kwargs):
        """Call the model on data, a batch at a time; see `keras.Model.predict`.

        Raises:
            InvalidArgument: there are several workers, all of which would have to take part.
        """
        if distribute.is_multi_worker(self.distribute_strategy):
            raise InvalidArgument(
                "`predict` would have all workers take part. Call the model itself on x, a batch "
                "at a time, or `predict` of `model.copy()`, which one worker can do alone."
            )
        return super().predict(self._look(x, None, "x"), *args, **kwargs)

    def predict_step(self, data):
        """Call the model on a batch, and on the condition beside it where the model needs it."""
        x, y, _ = unpack(data)
        x = self.as_examples(x)
        beside = {"condition": y} if self.trains_on_condition else {}
        return self(x, training=False, **beside)

    def train_on_batch(self, x, y=None, *args, **kwargs):
        """Make one step; see `keras.Model.train_on_batch`."""
        return self._on_batch(super().train_on_batch, x, y, "train_on_batch", *args, **kwargs)

    def test_on_batch(self, x, y=None, *args, **kwargs):
        """Measure one batch; see `keras.Model.test_on_batch`."""
        return self._on_batch(super().test_on_batch, x, y, "test_on_batch", *args, **kwargs)

    def predict_on_batch(self, x):
        """Call the model on one batch; see `keras.Model.predict_on_batch`."""
        return super().predict_on_batch(self._look(x, None, "x"))

    def consider(self, x: np.ndarray) -> None:
        """Warn of examples that are valid but probably not what the user meant to give."""

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
            raise InvalidData(
                f"{count} of the batches since the averages began {self.refusal()} A model that "
                "was trained on them is of no use: mend the data, and start again."
            )
        return super().get_metrics_result()

    def _begin_step(self, data, training=False):
        """Return x, y or None, and weights `[B]` or None; forget losses of steps before."""
        x, y, sample_weight = unpack(data)
        x = self.as_examples(x)
        replicas.begin_step(tf.shape(x)[0])
        if training:
            self.seed_layers(self.seed)
        self._refused.update_state(self.takes(x, y))
        # Losses that layers added when another graph was traced cannot be used in this one.
        self._clear_losses()
        return x, y, sample_weight

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

    def _generators(self):
        """Return the generators of Keras's own layers, each once: layers may share one."""
        found = [each for layer in self._flatten_layers() for each in layer._seed_generators]
        return list(dict.fromkeys(found))

    def _total_loss(self, per_example, x, y, training) -> Loss:
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

    def _scaled_loss(self, loss: Loss, sample_weight):
        """Return the loss to differentiate: the last line of every loss."""
        mean = share_of_mean(loss.per_example, sample_weight)
        if loss.regularization is not None:
            mean += loss.regularization / tf.distribute.get_strategy().num_replicas_in_sync
        return self.optimizer.scale_loss(mean)

    def _minimize(self, tape, scaled_loss):
        """Make the gradient step of dense gradients, and count it.

        The gradient of a table is sparse, with an entry for each time a row was looked up, and
        Keras's optimizers square entries where they should square the sum of those of a row.
        """
        self._refuse_hidden_variables(tape)
        variables = self.trainable_variables
        gradients = [_dense(gradient) for gradient in tape.gradient(scaled_loss, variables)]
        # Where the data ends, a graph has run ahead into one more step, as far as it could come
        # without a batch; the optimizer counts steps too.
        with tf.control_dependencies([scaled_loss]):
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

    def _update_averages(self, loss: Loss, others, sample_weight):
        """Add a batch to the metrics: the loss, and the other values `[B]` that are averaged."""
        self._averages.update_state((loss.total, *others), sample_weight)
        if loss.additional is not None:
            self._additional.update_state([loss.additional], sample_weight)
        if loss.regularization is not None:
            everywhere = tf.broadcast_to(loss.regularization, tf.shape(loss.per_example))
            self._regularization.update_state([everywhere], sample_weight)

    @property
    def has_additional_loss(self) -> bool:
        """Whether the class adds a term to the loss, by `additional_loss`."""
        return type(self).additional_loss is not OwnLoss.additional_loss

    def _refuse_unused_overrides(self):
        for own, remedies in self.never_called.items():
            if not _is_ours(getattr(type(self), own)):
                continue
            for name, remedy in remedies.items():
                if not _is_ours(getattr(type(self), name, None)):
                    raise InvalidArgument(
                        f"{type(self).__name__} overrides `{name}`, which tfvae's `{own}` never "
                        f"calls. {remedy}"
                    )

    def _look(self, x, y, name, consider=None):
        """Check data and build what waits for its shape; return the data to train on."""
        first, first_y, x = inputs.look(x, name)
        if first is not None:
            with self.distribute_strategy.scope():
                self.check_batch(first, first_y if y is None else y, name)
                if not self.built:
                    self.build((None, *first.shape[1:]))
            if consider is not None:
                consider(first)
        return x

    def _validation(self, data, batch_size):
        if not isinstance(data, (tuple, list)):
            x, y, sample_weight = data, None, None
        else:
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        options = {"sample_weight": sample_weight, "batch_size": batch_size}
        x, y = self._share_out(self._look(x, y, "validation_data"), y, options)
        if not isinstance(data, (tuple, list)) or not inputs.is_array(x):
            return x
        return x, self._labels(y, options), sample_weight

    def _arrange(self, callbacks, x, stack):
        """Return the callbacks and those that the data needs, in the order of Keras's calls.

        A callback with the method `around_fit`, a context manager, is entered here and comes last,
        because it saves the state of the others.
        """
        starts = [inputs.EpochStarts(x)] if hasattr(x, "start_at") else []
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks.callbacks[:0] = starts
            return callbacks
        callbacks = [*starts, *keras.tree.flatten(callbacks or [])]
        around = [callback for callback in callbacks if hasattr(callback, "around_fit")]
        if around:
            if not any(isinstance(each, keras.callbacks.History) for each in callbacks):
                callbacks.append(keras.callbacks.History())
            callbacks = [*(each for each in callbacks if each not in around), *around]
            for callback in around:
                stack.enter_context(callback.around_fit(self, x, callbacks))
        return callbacks

    def _share_out(self, x, y, options, shuffle=False):
        """Return data of which every replica takes its part, and the labels that belong to it.

        Keras shares out arrays by itself, but each worker would shuffle them in another way.
        """
        strategy = self.distribute_strategy
        if distribute.is_multi_worker(strategy) and inputs.is_array(x) and not shuffle:
            weights = options.pop("sample_weight", None)
            parts = (x,) if y is None and weights is None else (x, y)
            if weights is not None:
                y = self._labels(y, {"sample_weight": weights})
                parts = (x, y, tf.nest.map_structure(lambda _: weights, y))
            x = tf.data.Dataset.from_tensor_slices(parts).batch(
                options.pop("batch_size", None) or 32
            )
            y = None
        if strategy.num_replicas_in_sync > 1 and isinstance(x, tf.data.Dataset):
            if hasattr(x, "start_at"):
                _check_divisible(x, strategy)
            return inputs.share_out(x, strategy), y
        if not distribute.is_multi_worker(strategy) or inputs.is_shared_out(x):
            return x, y
        raise InvalidArgument(
            f"Several workers got {_a(x)}, which each worker would order in another way. Give them "
            "batches in an order that is the same for all: tfvae.data.shuffled_batches(x, "
            "batch_size), or another tf.data.Dataset."
        )

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Build the optimizer, as Keras does for a model under a strategy.

        Keras would also build the model from the mean of the parts of a batch, which are of
        different sizes where the first batch cannot be shared evenly.
        """
        if self._distribute_strategy is None or not self.built:
            super()._maybe_symbolic_build(iterator, data_batch)
        else:
            self._build_optimizer()

    def _build_optimizer(self):
        """Make the optimizer's variables: made in the graph of a step, it would be traced twice.

        Where a layer has no weights yet, such as one that `additional_loss` calls first, the first
        step makes them, and the optimizer's after them.
        """
        if not (self.built and self.compiled) or self.optimizer.built:
            return
        if all(layer.built for layer in self._flatten_layers()):
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)

    def _make_function(self, step_function):
        """Return Keras's loop over steps, with logs that several workers can average.

        Among workers Keras averages each log along its first axis, which a scalar does not have.
        One vector for all logs needs only one exchange, and also carries the requests to stop.
        """
        if not distribute.is_multi_worker(self.distribute_strategy):
            return super()._make_function(step_function)
        names = []
        if self._asks is None:
            self._asks = tf.Variable(0.0, trainable=False)  # of this process alone

        def step(data):
            logs = {**step_function(data), "": self._asks}
            names[:] = logs
            return tf.stack([tf.cast(value, tf.float32) for value in logs.values()])[tf.newaxis]

        function = super()._make_function(step)

        def with_names(iterator):
            logs = dict(zip(names, tf.unstack(function(iterator)), strict=True))
            self._asked = logs.pop("")
            return logs

        return with_names

    def any_worker_asks(self, asks: bool) -> bool:
        """Return whether this process asks for something, or any worker if there are several.

        All workers learn of a request at the same time, after the next step.
        """
        if not distribute.is_multi_worker(self.distribute_strategy):
            return asks
        if self._asks is not None:
            self._asks.assign(float(asks))
        return bool(self._asked > 0)

    def _labels(self, y, options):
        """Return y; without y, a stand-in, since Keras passes weights on only beside labels."""
        weights = options.get("sample_weight")
        return y if y is not None or weights is None else {NO_LABELS: weights}

    def _on_batch(self, method, x, y, name, *args, **kwargs):
        options = bound(name, *args, **kwargs)
        as_dict = options.pop("return_dict", False)
        x = self._look(x, y, "x")
        if name == "train_on_batch":
            self.check_trainable()
            if not self.steps_made:
                self.start_from_data(x, y)
            self._build_optimizer()
        logs = method(x, y, return_dict=True, **options)
        return logs if as_dict else self._in_order(logs)

    def _in_order(self, logs):
        names = [name for name in self.metrics_names if name in logs]
        return [logs[name] for name in (*names, *(set(logs) - set(names)))]


def bound(method: str, *args, **kwargs) -> dict:
    """Return the arguments after x and y in a call of one of Keras's methods, by name.

    Raises:
        TypeError: an argument that the method does not have.
    """
    signature = inspect.signature(getattr(keras.Model, method))
    arguments = signature.bind(None, None, None, *args, **kwargs).arguments
    rest = arguments.pop("kwargs", {})
    return {k: v for k, v in arguments.items() if k not in ("self", "x", "y")} | rest


def _without_validation(x, y, options):
    """Return the part of arrays that `validation_split` leaves for training, as Keras cuts them."""
    share = options.get("validation_split")
    if not share or not inputs.is_array(x):
        return x, y
    count = math.floor(len(x) * (1.0 - share))
    return x[:count], None if y is None else y[:count]


def _check_divisible(batches, strategy):
    """Refuse batches of which replicas would get parts of different sizes in training."""
    size = tf.nest.flatten(batches.element_spec)[0].shape[0]
    count = strategy.num_replicas_in_sync
    if size is not None and size % count:
        raise InvalidArgument(
            f"The batch size {size} is not divisible by the {count} replicas that train together. "
            f"Choose a multiple of {count}, such as {max(1, round(size / count)) * count}."
        )


def _a(x):
    return "an array that `fit` is to shuffle" if inputs.is_array(x) else f"a {type(x).__name__}"


def _is_ours(method) -> bool:
    """Whether a method is Keras's or tfvae's, not that of a subclass, or there is none."""
    home = getattr(method, "__module__", None) or ""  # a property has none
    return method is None or home.split(".")[0] in ("keras", "tfvae")


def _dense(gradient):
    return tf.convert_to_tensor(gradient) if isinstance(gradient, tf.IndexedSlices) else gradient
