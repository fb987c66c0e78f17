"""What all models share: checked data, a step counter, averages as metrics, saving and copying."""

import inspect

import keras
import numpy as np
import tensorflow as tf

from tfvae.errors import InvalidData
from tfvae.training import OwnLoss


class GenerativeModel(OwnLoss):
    """A model p(x) whose decoder gives a likelihood p(x|·), trained by its own `train_step`.

    Subclasses set `likelihood`, a `tfvae.likelihoods.Likelihood`, and `x_shape` once built, and
    implement `train_step`, `test_step` and `compile_arguments`.

    Args:
        averages: names of the per-example values that `metrics` averages, in nats.
        seed: with the step, decides all noise of training and evaluation.
    """

    def __init__(self, averages: tuple[str, ...], seed: int = 0, **kwargs):
        super().__init__(averages, "step", seed, **kwargs)
        self._attached = Attached()

    @property
    def step(self) -> keras.Variable:
        """How many training steps were made, int64."""
        return self._counter

    @classmethod
    def from_config(cls, config):
        """Return the model described by `get_config`."""
        return cls(**{k: keras.saving.deserialize_keras_object(v) for k, v in config.items()})

    def copy(self, config: dict | None = None) -> "GenerativeModel":
        """Return a model of the same weights, not compiled, that shares nothing with this one.

        Args:
            config: of the copy, where it is to differ from `get_config()`, in its precision say.
        """
        twin = type(self).from_config(self.get_config() if config is None else config)
        if not twin.built:
            twin.build((None, *self.x_shape))
        training_only = {id(variable) for variable in self.variables_of_training()}
        mine = [variable for variable in self.weights if id(variable) not in training_only]
        twin.set_weights([np.asarray(variable) for variable in mine])
        return twin

    def variables_of_training(self) -> list:
        """Return the variables that `compile` brought: a copy is without them."""
        return []

    def check_data(self, x: np.ndarray, name: str = "x") -> None:
        """Refuse an array that the model cannot be trained or measured on.

        Raises:
            InvalidData: no examples, another shape than the encoder's input, values that are not
                finite or that the likelihood gives no meaning to.
        """
        if len(x) == 0:
            raise InvalidData(f"`{name}` is empty; expected at least one example.")
        if not self.built:  # networks that wait for the shape of the data
            self.build((None, *x.shape[1:]))
        if self.built and tuple(x.shape[1:]) != self.x_shape:
            raise InvalidData(
                f"`{name}` holds examples of shape {tuple(x.shape[1:])}; the encoder takes "
                f"{self.x_shape}. Reshape the data, or build networks for its shape."
            )
        self.likelihood.check(x, name)

    def fit(self, x=None, y=None, *args, **kwargs):
        """Train; see `keras.Model.fit`. Labels, where the data has them, are not used.

        Raises:
            InvalidData: an array has another shape than the encoder's input, is not finite, or is
                outside the range that the likelihood gives a meaning to.
        """
        self._prepare(x, "x")
        options = fit_options(*args, **kwargs)
        validation = options.get("validation_data")
        if validation is not None:
            first = validation[0] if isinstance(validation, (tuple, list)) else validation
            self._prepare(first, "validation_data")
        return super().fit(x, _labels(y, options), **options)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """Average the metrics over data; see `keras.Model.evaluate`, and `tfvae.log_likelihood`."""
        self._prepare(x, "x")
        as_dict = kwargs.pop("return_dict", False)
        logs = super().evaluate(x, _labels(y, kwargs), *args, return_dict=True, **kwargs)
        return logs if as_dict else [logs[name] for name in self.get_metrics_result()]

    def _prepare(self, x, name):
        """Check arrays, and build networks that wait for the shape of the data."""
        if isinstance(x, np.ndarray):
            self.check_data(x, name)
        if not self.built:
            spec = x.element_spec if isinstance(x, tf.data.Dataset) else x
            spec = spec[0] if isinstance(spec, tuple) else spec
            self.build((None, *spec.shape[1:]))


class Attached(keras.layers.Layer):
    """Holds the layers that a model gets later: Keras lets one that is built take no more."""

    def hold(self, **layers):
        """Take layers in place of those before, whose weights Keras would go on tracking."""
        self._tracker.unlock()  # a model that was loaded has locked this layer too
        for layer in list(self._layers):
            self._tracker.untrack(layer)
        for name, layer in layers.items():
            setattr(self, name, layer)


def fit_options(*args, **kwargs) -> dict:
    """Return what stands behind x and y in a call of `fit`, by name, wherever it stood."""
    bound = inspect.signature(keras.Model.fit).bind(None, None, None, *args, **kwargs).arguments
    return {name: value for name, value in bound.items() if name not in ("self", "x", "y")}


def _labels(y, options):
    """Keras passes sample weights on only beside labels: let the weights themselves stand in."""
    return options.get("sample_weight") if y is None else y
