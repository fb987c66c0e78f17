"""The base of all models: checks of data and conditions, the step counter, saving, copying."""

import contextlib
import math
import warnings
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfvae import conditions
from tfvae._plain import memory
from tfvae.distributions.factory import Factory, from_arguments, frozen
from tfvae.errors import InvalidArgument, InvalidData, InvalidFile, TfvaeError, TfvaeWarning
from tfvae.flows.flow import Flow
from tfvae.likelihoods.categorical import Categorical
from tfvae.likelihoods.likelihood import MISSING
from tfvae.priors.prior import Prior
from tfvae.quantizers.quantizer import Quantizer
from tfvae.schema import Schema
from tfvae.standardization import Standardization
from tfvae.training import OwnLoss

_PARTS = (Factory, Flow, Prior, Quantizer)  # what a model has besides the user's networks
# The attributes of models that hold what they are made of, which stays once they are built.
_MADE_OF = frozenset(
    [
        "encoder",
        "encoders",
        "inference_networks",
        "generation_networks",
        "top_down_networks",
        "decoder",
        "decoders",
        "prior",
        "posterior",
        "posteriors",
        "likelihood",
        "codebooks",
        "projections",
    ]
)
_LOOKED_AT = 1000  # examples whose pixels are compared with the levels of the likelihood


class GenerativeModel(conditions.Conditional, OwnLoss):
    """A model p(x) or p(x|y) whose decoder gives a likelihood, trained by its own `train_step`.

    Subclasses set `likelihood`, a `tfvae.likelihoods.Likelihood`, and `x_shape` once built, and
    implement `train_step`, `test_step` and `compile_arguments`; with a condition y, also
    `parts_given_condition`.

    Args:
        averages: names of the per-example values that `metrics` averages, in nats.
        seed: with the step, decides all noise of training and evaluation.
        condition: what y is: a number of classes, the shape `(C,)` of vectors, or None.
        schema: the `tfvae.data.Schema` of the table that x comes from, or None. It is saved with
            the model, and goes into the description of an exported file.
        standardization: the `tfvae.data.Standardization` of the vectors or series that x comes
            from, or None; kept as the schema is.

    Attributes:
        loaded_from: the file that `tfvae.runs.load_model` read it from, or None.
    """

    loaded_from: Path | None = None

    def __init__(
        self,
        averages: tuple[str, ...],
        *,
        seed: int = 0,
        condition: int | tuple[int, ...] | conditions.Condition | None = None,
        schema: Schema | dict | None = None,
        standardization: Standardization | dict | None = None,
        **kwargs,
    ):
        super().__init__(averages, "step", seed, **kwargs)
        self._attached = Attached()
        self._condition = conditions.get(condition)
        self._schema = None if schema is None else Schema.of(schema)
        self._standardization = None
        if standardization is not None:
            self._standardization = Standardization.of(standardization)

    @property
    def condition(self) -> conditions.Condition | None:
        """What y is, or None."""
        return self._condition

    @property
    def schema(self) -> Schema | None:
        """The columns of the table that x comes from, or None."""
        return self._schema

    @property
    def standardization(self) -> Standardization | None:
        """What makes x of the values of vectors or series, or None."""
        return self._standardization

    @property
    def num_tokens(self) -> int:
        """How many tokens there are, where x is lines of them as levels k / (L − 1); 0 if not."""
        blocks = getattr(self.likelihood.complete(), "likelihoods", [])
        is_line = len(self.x_shape) == 1 and self.schema is None and len(blocks) == 1
        return blocks[0].num_levels if is_line and isinstance(blocks[0], Categorical) else 0

    def log_jacobian(self, x: np.ndarray) -> np.ndarray | None:
        """Return log |dx/dv| of each value, `[N, *x_shape]`, where x stands for values v.

        Their sum, added to log p(x), is log p of the data in its own units. None where x is the
        data itself.
        """
        units = self.schema or self.standardization
        return None if units is None else units.log_jacobian(x)

    def parts_given_condition(self) -> dict[str, bool]:
        """Return for "encode", "decode" and "sample" whether a part of it takes the condition."""
        return {}

    @property
    def uses_of_condition(self) -> frozenset[str]:
        """Which of "encode", "decode" and "sample" depend on y."""
        if self.condition is None:
            return frozenset()
        return frozenset(use for use, depends in self.parts_given_condition().items() if depends)

    def check_condition_is_used(self) -> None:
        """Refuse a condition that no part takes.

        Raises:
            InvalidArgument: with what takes one.
        """
        if self._condition is not None and not self.uses_of_condition:
            raise InvalidArgument(
                f"`condition` is {self._condition}, but no part of the model takes it. Give the "
                "encoder and the decoder one more input each, with "
                f"`condition_size={self._condition.size}` in `tfvae.networks`, or give the model "
                f"{self.takes_condition_instead}."
            )

    def check_units_fit(self) -> None:
        """Refuse a schema or a standardization of another number of values than x has.

        Raises:
            InvalidArgument: with both numbers.
        """
        shape = tuple(self.x_shape)
        if self.schema is not None and shape != (self.schema.size,):
            raise InvalidArgument(
                f"`schema` has {self.schema.size} columns, and x has the shape {shape}; expected "
                f"{(self.schema.size,)}."
            )
        if self.standardization is not None and shape[-1:] != self.standardization.mean.shape:
            raise InvalidArgument(
                f"`standardization` is of {len(self.standardization.mean)} values, and x has the "
                f"shape {shape}; expected as many on its last axis."
            )

    takes_condition_instead = "a prior that takes it"

    def __setattr__(self, name, value):
        """Set an attribute; a model that is built keeps the parts that it is made of.

        Raises:
            InvalidArgument: another part in the place of one of a built model.
        """
        own = vars(self)
        if name in _MADE_OF and own.get("built") and own.get(name) is not value:
            raise InvalidArgument(
                f"`{name}` cannot be replaced, since this {type(self).__name__} is built: its "
                "graphs, its optimizer and its files are of the parts that it has. Make another "
                "model, of the parts that it is to have; those of this one, with their weights, "
                "may be among them."
            )
        super().__setattr__(name, value)

    def _post_build(self):
        """Freeze what a frozen part has made while it was built: Keras leaves it trainable.

        Networks stay as they are: a user may have unfrozen the last layers of a frozen one.
        """
        super()._post_build()
        for layer in self._flatten_layers():
            if isinstance(layer, _PARTS) and not layer.trainable:
                for inner in layer._flatten_layers(include_self=False):
                    inner.trainable = False

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """The parts of the model, those that it got after it was built at the end."""
        parts = super().layers
        later = [part for part in parts if isinstance(part, Attached)]
        own = [part for part in parts if not isinstance(part, Attached)]
        return own + [layer for attached in later for layer in attached.held()]

    @property
    def step(self) -> keras.Variable:
        """How many training steps were made, int64."""
        return self._counter

    def get_config(self):
        """Return the constructor arguments that all models have, serialized."""
        config = {"name": self.name, "seed": self.seed, **frozen(self)}
        if self._condition is not None:
            config["condition"] = self._condition.config()
        if self.schema is not None:
            config["schema"] = self.schema.get_config()
        if self.standardization is not None:
            config["standardization"] = self.standardization.get_config()
        return config

    @classmethod
    def from_config(cls, config):
        """Return the model described by `get_config`."""
        plain = {name: config[name] for name in ("schema", "standardization") if name in config}
        parts = {k: v for k, v in config.items() if k not in plain}
        made_of = {k: keras.saving.deserialize_keras_object(v) for k, v in parts.items()}
        return from_arguments(cls, made_of | plain)

    def copy(self, config: dict | None = None) -> "GenerativeModel":
        """Return a model of the same weights, not compiled, that shares nothing with this one.

        Args:
            config: of the copy, where it is to differ from `get_config()`, in its precision say.
        """
        twin = type(self).from_config(self.get_config() if config is None else config)
        if not twin.built:
            twin.build((None, *self.x_shape))
        twin.set_weights([np.asarray(variable) for variable in self.weights_to_copy()])
        return twin

    def weights_to_copy(self) -> list:
        """Return the weights without those that `compile` brought, in the order of `weights`."""
        training_only = {id(variable) for variable in self.variables_of_training()}
        return [variable for variable in self.weights if id(variable) not in training_only]

    def variables_of_training(self) -> list:
        """Return the variables that `compile` brought: a copy is without them."""
        return []

    def check_data(self, x: np.ndarray, name: str = "x") -> None:
        """Refuse an array that the model cannot be trained or measured on.

        Raises:
            InvalidData: no examples, another shape than the encoder's input, values that are not
                finite or outside of the likelihood's support.
        """
        if np.ndim(x) == 0 or len(x) == 0:
            raise InvalidData(f"`{name}` is empty; expected at least one example.")
        if not self.built:  # networks that wait for the shape of the data
            self.build((None, *x.shape[1:]))
        if self.built and tuple(x.shape[1:]) != self.x_shape:
            raise InvalidData(_other_shape(f"`{name}`", x.shape, self.x_shape))
        self.likelihood.check(x, name)

    def check_count(self, n: int, latent_bytes: int = 0) -> None:
        """Refuse to draw more images at once than memory holds.

        What an image takes is its pixels three times, as the decoder gives them, as an array and as
        a picture, and the two widest of the decoder's layers; what a row takes is also what its
        draw takes.

        Args:
            n: how many.
            latent_bytes: memory that is needed to draw the latents of one, at the same time.

        Raises:
            InvalidArgument: with how many it holds.
        """
        widest = sorted(width for network in self._networks() for width in memory.widths(network))
        numbers = 3 * math.prod(self.x_shape) + sum(widest[-2:])
        if self.likelihood.draws_values:
            numbers += self.likelihood.draw_width(self.x_shape[-1])
        each = 4 * numbers + latent_bytes
        memory.check_request(n, each, "examples", "Draw at most {most} at once (-n).")

    @contextlib.contextmanager
    def blaming_file(self) -> Iterator[None]:
        """Turn an error of Keras or TensorFlow into one of the file that the model came from.

        A file may describe parts that load and do not fit together. Errors of tfvae, and of memory,
        stay what they are, and so do all errors of a model that was not loaded.

        Raises:
            InvalidFile: it does.
        """
        try:
            yield
        except (TfvaeError, MemoryError, tf.errors.ResourceExhaustedError):
            raise
        except Exception as error:
            if self.loaded_from is None:
                raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            raise InvalidFile(
                f"{self.loaded_from} holds a model whose parts do not work together: {reason}"
            ) from error

    def _networks(self):
        """Yield the networks that x comes from."""
        for part in self._flatten_layers(include_self=False, recursive=False):
            if isinstance(part, keras.Model):
                yield part

    def _lock_state(self):
        """Stay open: our constructor builds, and that of a subclass may go on to make layers."""

    def check_batch(self, x, y, name):
        self.check_data(x, name)
        if self.trains_on_condition:
            self.condition.check(y, len(x), name, one_for_all=False)

    def as_examples(self, x):
        if not tf.TensorShape(x.shape)[1:].is_compatible_with(self.x_shape):
            raise InvalidData(_other_shape("A batch", x.shape, self.x_shape))
        return tf.ensure_shape(x, [None, *self.x_shape])

    def takes(self, x, y):
        taken = self.likelihood.takes(tf.cast(x, tf.float32))
        if not self.trains_on_condition:
            return taken
        return taken & self.condition.takes(self.condition.check(y, None, "x", one_for_all=False))

    def refusal(self):
        values = f"values outside of the likelihood's support: {self.likelihood.expected()}"
        if self.likelihood.complete() is self.likelihood:
            values += f" For missing values, NaN, {MISSING}."
        if not self.trains_on_condition:
            return f"held {values}"
        return f"held a condition other than {self.condition}, or held {values}"

    @property
    def _default_save_signature(self):
        """What Keras writes into a SavedModel: the call on x alone, where x alone will do."""
        return None if self.trains_on_condition else super()._default_save_signature

    def consider(self, x):
        """Warn of pixels that lie between the levels of the likelihood."""
        off_levels = self.likelihood.off_levels(x[:_LOOKED_AT])
        if off_levels > 0:
            warnings.warn(
                f"{off_levels:.0%} of the pixels are not among the {self.likelihood.num_levels} "
                f"levels of the {type(self.likelihood).__name__} likelihood, so log p(x) is not a "
                "log-probability of this data. Binarize it, with "
                "tfvae.data.load(..., binarization='dynamic') or --set "
                "data.binarization=dynamic, or use a likelihood for grey levels.",
                TfvaeWarning,
                stacklevel=4,
            )


class Attached(keras.layers.Layer):
    """Holds the layers that a model gets later: Keras lets one that is built take no more."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        # There is nothing to build; else Keras calls the model once more, in every `fit` under a
        # strategy, and `summary` calls this layer unbuilt.
        self.built = True

    def held(self) -> list[keras.layers.Layer]:
        """Return the layers that it holds."""
        return list(self._flatten_layers(include_self=False, recursive=False))

    def hold(self, **layers):
        """Take layers in place of those before, whose weights Keras would go on tracking."""
        self._tracker.unlock()  # a model that was loaded has locked this layer too
        for layer in list(self._layers):
            self._tracker.untrack(layer)
        for name, layer in layers.items():
            setattr(self, name, layer)


def _other_shape(name, shape, expected):
    remedy = "Reshape the data, or build networks for its shape."
    if tuple(shape) == tuple(expected):
        remedy = "It is a single example: make batches, `dataset.batch(32)` of a dataset."
    return (
        f"{name} holds examples of shape {tuple(shape[1:])}; the encoder takes {expected}. {remedy}"
    )
