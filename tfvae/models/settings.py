"""Settings of `compile` as attributes of a model, which may or may not be assigned."""

import numbers

import keras
import numpy as np
import tensorflow as tf

from tfvae.errors import InvalidArgument


class Setting:
    """A setting that is fixed in the compiled graph: it can be read but not assigned."""

    def __init__(self, name: str):
        self.name = name

    def __get__(self, model, owner=None):
        """Return the value that `compile` was given; None before."""
        return self if model is None else model.__dict__.get(f"_{self.name}")

    def __set__(self, model, value):
        """Refuse.

        Raises:
            InvalidArgument: always.
        """
        if isinstance(value, keras.layers.Layer):
            model._tracker.untrack(value)  # Keras tracks what is assigned before it comes here
        raise InvalidArgument(
            f"`{self.name}` was assigned {value!r}, but the graph of a training step is made for "
            f"the value that `compile` was given. Call model.compile(..., {self.name}=...) instead."
        )

    @staticmethod
    def set(model, **values):
        """Set values, from within `compile`."""
        model.__dict__.update({f"_{name}": value for name, value in values.items()})


class AttachedSetting(Setting):
    """A setting that is a layer, which the model holds and saves."""

    def __get__(self, model, owner=None):
        """Return the layer that `compile` was given; None before."""
        return self if model is None else getattr(model._attached, self.name, None)


class Scheduled:
    """A number, one for each stochastic layer, or a function of the training step.

    Numbers live in a variable: what is assigned to the attribute takes effect in the next step,
    without a new graph.
    """

    def __init__(self, name: str):
        self.name = name

    def __get__(self, model, owner=None):
        """Return the number, the list of numbers, or the schedule; None before `compile`."""
        if model is None:
            return self
        value = model.__dict__.get(f"_{self.name}")
        return _read(value) if isinstance(value, tf.Variable) else value

    def __set__(self, model, value):
        """Assign a number, or a number for each layer.

        Raises:
            InvalidArgument: there is no number to assign to: the model is not compiled, follows a
                schedule, or counts no free bits at all.
        """
        variable = model.__dict__.get(f"_{self.name}")
        if not isinstance(variable, tf.Variable):
            what = "it is not compiled yet" if variable is None else f"it follows {variable!r}"
            raise InvalidArgument(
                f"`{self.name}` of the model cannot be assigned {value!r}, since {what}. "
                f"Call model.compile(..., {self.name}=...)."
            )
        number = _numbers(self.name, value, len(model.layer_shapes))
        model.check_assigned(self.name, value)
        if number.shape not in ((), tuple(variable.shape)):
            raise InvalidArgument(
                f"`{self.name}` is one number for all layers, and was assigned {value!r}. "
                f"Call model.compile(..., {self.name}=...) with a list."
            )
        used = model.__dict__[f"_uses_{self.name}"]
        if self.name == "free_bits" and np.any((number != 0) & ~used):
            where = "in a layer " if np.any(used) else ""
            raise InvalidArgument(
                f"`free_bits` was 0 {where}when the model was compiled, so its graph does not "
                f"count them there. Call model.compile(..., free_bits={value!r})."
            )
        variable.assign(np.broadcast_to(number, variable.shape))

    @staticmethod
    def set(model, name, value):
        """Set the value, from within `compile`."""
        if not callable(value):
            num_layers = len(model.posterior_of_layer)
            value = tf.Variable(_numbers(name, value, num_layers), trainable=False, name=name)
        is_number = isinstance(value, tf.Variable)
        used = value.numpy() != 0 if is_number else np.True_
        given = _read(value) if is_number else None
        model.__dict__.update({f"_{name}": value, f"_uses_{name}": used, f"_given_{name}": given})

    @staticmethod
    def variables(model) -> list[tf.Variable]:
        """Return the variables in which the numbers of a compiled model live."""
        values = [model.__dict__.get(f"_{name}") for name in ("beta", "free_bits")]
        return [value for value in values if isinstance(value, tf.Variable)]

    @staticmethod
    def given(model) -> dict:
        """Return the numbers that `compile` was given, by name, whatever was assigned since."""
        values = {name: model.__dict__.get(f"_given_{name}") for name in ("beta", "free_bits")}
        return {name: value for name, value in values.items() if value is not None}

    @staticmethod
    def is_used(model, name) -> bool:
        """Whether `compile` was given a schedule, or a number other than 0."""
        return bool(np.any(model.__dict__[f"_uses_{name}"]))

    @staticmethod
    def layers_that_use(model, name) -> list[bool]:
        """Return for each stochastic layer whether its value may be other than 0."""
        layers = len(model.posterior_of_layer)
        return np.broadcast_to(model.__dict__[f"_uses_{name}"], layers).tolist()

    @staticmethod
    def at(model, name, step):
        """Return the value at the training step that follows `step` others, as a tensor."""
        value = model.__dict__[f"_{name}"]
        value = value if isinstance(value, tf.Variable) else value(step)
        return tf.cast(tf.convert_to_tensor(value), tf.float32)

    @staticmethod
    def final(model, name, step):
        """Return the value that validation uses: the final one of a schedule that names it."""
        value = model.__dict__[f"_{name}"]
        final = getattr(value, "final", None)
        return Scheduled.at(model, name, step) if final is None else tf.constant(final, tf.float32)


def _read(variable):
    """Return a number or a list of numbers, with the digits that float32 has."""
    value = variable.numpy()
    return float(str(value)) if value.ndim == 0 else [float(str(v)) for v in value]


def _numbers(name, value, num_layers):
    """Return a number or one for each layer as a float32 array of shape () or (L,)."""
    values = value if isinstance(value, (list, tuple)) else [value]
    real = all(isinstance(v, numbers.Real) and not isinstance(v, bool) for v in values)
    if not real or not all(0 <= v < np.inf for v in values):
        raise InvalidArgument(
            f"`{name}` is {value!r}; expected a number of at least 0, a list of one for each "
            "stochastic layer, or a function of the training step."
        )
    if values is not value:
        return np.float32(value)
    if len(values) != num_layers:
        raise InvalidArgument(
            f"`{name}` has {len(values)} numbers; expected one, or one for each of the "
            f"{num_layers} stochastic layers."
        )
    return np.asarray(values, np.float32)
