"""The base of every training loop: its settings, and Keras's methods over data that is checked."""

import contextlib
import warnings
from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf

from tfvae import distribute, inputs
from tfvae.errors import InvalidArgument, TfvaeWarning
from tfvae.optimizers import Adam, learning_rate_of
from tfvae.training.batch import unpack
from tfvae.training.callbacks import arranged, check_averages, give_directions
from tfvae.training.data import arguments, labels, share_out, without_validation
from tfvae.training.steps import Steps
from tfvae.training.worker_logs import WorkerLogs

COMPILE_OPTIONS = ("jit_compile", "steps_per_execution", "run_eagerly", "auto_scale_loss")
_OF_LOSSES = ("loss", "metrics", "weighted_metrics", "loss_weights")


class OwnLoss(WorkerLogs, Steps):
    """A Keras model that has a loss of its own, and is compiled again when it is loaded.

    Subclasses implement `train_step` and `test_step`, `check_batch` and `takes` for the data, and
    `compile_arguments` if their `compile` takes more than the optimizer and Keras's own options.
    `Steps` has the arguments, and what the steps are made of.

    Attributes:
        better: of each metric by name, whether "max" or "min" is better, or None if neither is.
            Callbacks that monitor one of them in mode "auto" use this.
        trains_on_condition: whether the data has y, and the call of the model needs it.
        never_called: for each method, the methods that one might expect it to call but that it
            does not, each with the advice what to override instead.
    """

    instead_of_loss = "Leave it out."
    trains_on_condition = False
    never_called: ClassVar = {
        "train_step": {
            "compute_loss": "Override `additional_loss(self, x, y, training)` to add a term to "
            "the loss of each example, or `train_step` and `test_step` for another loss.",
            "compute_metrics": "Override the property `metrics` and `update_averages`, or "
            "`train_step` and `test_step`, to report more.",
        }
    }
    better = {"loss": "min", "regularization": "min", "additional_loss": "min"}

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

    def check_trainable(self, variables: list | None = None) -> None:
        """Refuse to train a model without weights that a step could train.

        Args:
            variables: those that are to be trained; by default all that are not frozen.

        Raises:
            InvalidArgument: it has none, or all of them are frozen.
        """
        variables = self.trainable_variables if variables is None else variables
        if variables or self.trains_without_gradients:
            return
        if all(layer.built for layer in self._flatten_layers()):
            raise InvalidArgument(
                f"{type(self).__name__} has nothing to learn: it has no weights, or all of them "
                "are frozen. Use it as it is, or set `trainable = True` on a part."
            )

    def check_batch(self, x, y, name: str) -> None:
        """Refuse examples `x` and labels `y`, arrays, that the model cannot be trained on."""
        raise NotImplementedError

    def compile_arguments(self) -> dict:
        """Return the arguments of `compile`, as objects, but for the optimizer and Keras's own."""
        return {}

    def compile(self, optimizer, **kwargs):
        """Pass the optimizer and Keras's own options on, and remember them for saving.

        What is refused leaves the model as it was; see `check_compile`.
        """
        optimizer = self.check_compile(optimizer, **kwargs)
        self._compile_options = {k: kwargs[k] for k in COMPILE_OPTIONS if k in kwargs}
        if distribute.is_multi_worker(self.distribute_strategy):
            # Keras's loop of several steps does not run where it holds sums over workers.
            kwargs["steps_per_execution"] = 1
        super().compile(optimizer=optimizer, **kwargs)
        self.compiled_learning_rate = learning_rate_of(self.optimizer)

    def check_compile(
        self, optimizer: str | dict | keras.optimizers.Optimizer, **kwargs
    ) -> keras.optimizers.Optimizer:
        """Check the arguments of `compile` without a change to the model; return the optimizer.

        By the name "adam" it is `tfvae.optimizers.Adam`.

        Raises:
            InvalidArgument: `loss` or `metrics`, which these models have by themselves, a
                subclass whose `compute_loss` or `compute_metrics` would never be called, or an
                option that Keras does not have.
        """
        for name in _OF_LOSSES:
            if kwargs.get(name) is not None:
                raise InvalidArgument(
                    f"`compile` got `{name}`, but {type(self).__name__} has a loss of its own and "
                    f"reports {', '.join(self._averages.names)} by itself. {self.instead_of_loss}"
                )
        unknown = sorted({*kwargs} - {*_OF_LOSSES, *COMPILE_OPTIONS})
        if unknown:
            raise InvalidArgument(
                f"`compile` of {type(self).__name__} got `{unknown[0]}`, which it does not take. "
                f"Keras's options are {', '.join(COMPILE_OPTIONS)}."
            )
        self._refuse_unused_overrides()
        count = self.distribute_strategy.num_replicas_in_sync
        if count > 1 and kwargs.get("jit_compile") is True:
            raise InvalidArgument(
                f"`jit_compile` is True under a strategy of {count} replicas, and XLA compiles no "
                "step that sums over devices. Leave it out."
            )
        if isinstance(optimizer, str) and optimizer.lower() == "adam":
            optimizer = Adam()
        return keras.optimizers.get(optimizer)

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

    def save(self, filepath, *args, **kwargs):
        """Write the model as a `.keras` file; see `keras.Model.save`.

        Raises:
            InvalidArgument: the ending of HDF5, from which Keras could not load it again.
        """
        if str(filepath).endswith((".h5", ".hdf5")):
            raise InvalidArgument(
                f"{filepath} would be in Keras's former format, from which {type(self).__name__} "
                "cannot be loaded. Save it as a .keras file, or its weights alone by "
                "`save_weights` as a .weights.h5."
            )
        super().save(filepath, *args, **kwargs)

    @inputs.own_errors()
    def fit(self, x=None, y=None, *args, **kwargs):
        """Train; see `keras.Model.fit`.

        Arrays and tensors are checked as a whole before the first step, and so is the first batch
        of any other data. Every later batch is checked in its step; if one is out of range, its
        epoch ends with an error.

        Raises:
            InvalidData: data of another shape than the model takes, not finite, or out of range;
                weights of examples that are not finite.
            InvalidArgument: a model without weights to train, data that is neither an array nor
                holds batches of one, a callback that monitors a metric of which neither more nor
                less is better, one whose best weights the optimizer's average would replace, a
                step that would take more than memory, or an objective that gives no number for
                each example.

        Warns:
            TfvaeWarning: y that nothing uses and that is not x.
        """
        self._assert_compile_called("fit")
        options = arguments("fit", *args, **kwargs)
        give_directions(options.get("callbacks"), self.better)
        check_averages(options.get("callbacks"), self.optimizer)
        x = self._look(x, y, options, "x", to_train=True)
        if y is not None and not self._uses_labels(options) and not inputs.is_equal(x, y):
            warnings.warn(
                f"`fit` got y, which nothing uses: this {type(self).__name__} has no condition and "
                "no `additional_loss`, and learns p(x) of the x that it is given. Leave y out, "
                "make the model with `condition=`, or override `additional_loss`.",
                TfvaeWarning,
                stacklevel=3,
            )
        self.check_trainable()
        self._build_optimizer()
        if options.get("validation_data") is not None:
            batch_size = options.get("validation_batch_size") or options.get("batch_size")
            options["validation_data"] = self._validation(options["validation_data"], batch_size)
        if hasattr(x, "start_at"):
            options.setdefault("shuffle", False)  # it is, and Keras would warn that it cannot
        with contextlib.ExitStack() as stack:
            options["callbacks"] = arranged(options.get("callbacks"), self, x, stack)
            if not self.steps_made:
                self.start_from_data(*without_validation(x, y, options))
            x, y = share_out(self.distribute_strategy, x, y, options, options.get("shuffle", True))
            return super().fit(x, labels(y, options), **options)

    @inputs.own_errors()
    def evaluate(self, x=None, y=None, *args, **kwargs):
        """Average the metrics over data; see `keras.Model.evaluate`, and `fit` for the data."""
        options = arguments("evaluate", *args, **kwargs)
        if not options.get("_use_cached_eval_dataset"):  # else `fit` has looked at it
            x, y = share_out(self.distribute_strategy, self._look(x, y, options, "x"), y, options)
        as_dict = options.pop("return_dict", False)
        logs = super().evaluate(x, labels(y, options), return_dict=True, **options)
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
        return super().predict(self._look(x, None, {}, "x"), *args, **kwargs)

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
        return super().predict_on_batch(self._look(x, None, {}, "x"))

    def consider(self, x: np.ndarray) -> None:
        """Warn of examples that are valid but probably not what the user meant to give."""

    def check_step(self, batch_size: int) -> None:
        """Refuse a step of training that would take more than memory, or has no loss of each x.

        Raises:
            InvalidArgument: with what would fit.
        """

    def _uses_labels(self, options):
        """Whether a step, or the weights of classes, may depend on y."""
        known = self.trains_on_condition or self.has_additional_loss or options.get("class_weight")
        return bool(known) or not _is_ours(type(self).train_step)

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

    def _look(self, x, y, options, name, to_train=False):
        """Check data and build what waits for its shape; return the data to train on."""
        first, first_y, first_weights, x = inputs.look(x, name)
        for weights in (options.get("sample_weight"), first_weights):
            inputs.check_weights(weights)
        if first is not None:
            y = first_y if y is None else y
            if options.get("class_weight") is not None and y is None:
                raise InvalidArgument("`class_weight` needs the label of each example, as `y`.")
            with self.distribute_strategy.scope():
                self.check_batch(first, y, name)
                if not self.built:
                    self.build((None, *first.shape[1:]))
            if to_train:
                self.consider(first)
                size = (options.get("batch_size") or 32) if inputs.is_array(x) else len(first)
                self.check_step(min(size, len(first)))
        return x

    def _validation(self, data, batch_size):
        if not isinstance(data, (tuple, list)):
            x, y, sample_weight = data, None, None
        else:
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        options = {"sample_weight": sample_weight, "batch_size": batch_size}
        x = self._look(x, y, options, "validation_data")
        x, y = share_out(self.distribute_strategy, x, y, options)
        if not isinstance(data, (tuple, list)) or not inputs.is_array(x):
            return x
        return x, labels(y, options), sample_weight

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Build the optimizer, as Keras does for a model under a strategy.

        Keras would also build the model from the mean of the parts of a batch, which are of
        different sizes where the first batch cannot be shared evenly.
        """
        if self._distribute_strategy is None or not self.built:
            super()._maybe_symbolic_build(iterator, data_batch)
        else:
            self._build_optimizer()

    def _on_batch(self, method, x, y, name, *args, **kwargs):
        options = arguments(name, *args, **kwargs)
        as_dict = options.pop("return_dict", False)
        x = self._look(x, y, options, "x")
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


def _is_ours(method) -> bool:
    """Whether a method is Keras's or tfvae's, not that of a subclass, or there is none."""
    home = getattr(method, "__module__", None) or ""  # a property has none
    return method is None or home.split(".")[0] in ("keras", "tfvae")
