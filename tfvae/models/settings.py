"""Settings of `compile` as attributes of a model, which may or may not be assigned."""

import numbers
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfvae._plain import float32
from tfvae.errors import InvalidArgument


class Setting:
    """A setting that is fixed in the compiled graph: it can be read but not assigned."""

    def __init__(self, name: str):
        self.name = name

    def __get__(self, model, owner=None):
        """Return the value that `compile` was given; None before."""
        return self if model is None else getattr(model.settings, self.name, None)

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


class ScheduledSetting(Setting):
    """A setting that is `Scheduled`: its numbers may be assigned while the model trains."""

    def __get__(self, model, owner=None):
        """Return the number, the list of numbers, or the schedule; None before `compile`."""
        scheduled = super().__get__(model, owner)
        return scheduled.value if isinstance(scheduled, Scheduled) else scheduled

    def __set__(self, model, value):
        """Assign a number, or a number for each layer.

        Raises:
            InvalidArgument: there is no number to assign to: the model is not compiled, follows a
                schedule, or counts no free bits at all.
        """
        if model.settings is None:
            raise not_assigned(self.name, value, "it is not compiled yet")
        model.settings.assign(self.name, value)


class Scheduled:
    """A number, one for each stochastic layer, or a function of the training step.

    Numbers live in a variable: what is assigned to it takes effect in the next step, without a new
    graph.

    Args:
        name: of the argument of `compile`.
        value: what it was given.
        num_layers: L.

    Attributes:
        given: the number or numbers that `compile` was given, whatever was assigned since; None for
            a schedule.
        variable: where the numbers live; None for a schedule.
        layers_that_use: for each stochastic layer, whether its value may be other than 0.

    Raises:
        InvalidArgument: a value that cannot be used.
    """

    def __init__(self, name: str, value: float | Sequence | Callable, num_layers: int):
        self.name, self._num_layers = name, num_layers
        self._schedule = value if callable(value) else None
        self.given = self.variable = None
        used = np.True_
        if self._schedule is None:
            start = self._numbers(value)
            self.variable = tf.Variable(start, trainable=False, name=name)
            self.given, used = self.value, start != 0
        self.layers_that_use = np.broadcast_to(used, num_layers).tolist()

    @property
    def value(self) -> float | list[float] | Callable:
        """The number or the list of numbers as they are now, or the schedule."""
        if self.variable is None:
            return self._schedule
        value = self.variable.numpy()
        return float32.shortest(value) if value.ndim == 0 else [*map(float32.shortest, value)]

    @property
    def is_used(self) -> bool:
        """Whether `compile` was given a schedule, or a number other than 0."""
        return any(self.layers_that_use)

    def checked(self, value: float | Sequence) -> np.ndarray:
        """Return what may be assigned: a float32 number `()`, or one for each layer, `(L,)`.

        Raises:
            InvalidArgument: a value that cannot be used, or there is no place for it: it follows a
                schedule, or has one number for all layers.
        """
        if self.variable is None:
            raise not_assigned(self.name, value, f"it follows {self._schedule!r}")
        number = self._numbers(value)
        if number.shape not in ((), tuple(self.variable.shape)):
            raise InvalidArgument(
                f"`{self.name}` is one number for all layers, and was assigned {value!r}. "
                f"Call model.compile(..., {self.name}=...) with a list."
            )
        return number

    def assign(self, value: float | Sequence) -> None:
        """Assign a number, or a number for each layer; see `checked`."""
        self.variable.assign(np.broadcast_to(self.checked(value), self.variable.shape))

    def at(self, step: tf.Tensor) -> tf.Tensor:
        """Return the value at the training step that follows `step` others."""
        value = self._schedule(step) if self.variable is None else self.variable
        return tf.cast(tf.convert_to_tensor(value), tf.float32)

    def final(self, step: tf.Tensor) -> tf.Tensor:
        """Return the value that validation uses: the final one of a schedule that names it."""
        final = getattr(self._schedule, "final", None)
        return self.at(step) if final is None else tf.constant(final, tf.float32)

    def _numbers(self, value):
        """Return a number or one for each layer as a float32 array of shape () or (L,)."""
        values = value if isinstance(value, (list, tuple)) else [value]
        real = all(isinstance(v, numbers.Real) and not isinstance(v, bool) for v in values)
        if not real or not all(0 <= v < np.inf for v in values):
            raise InvalidArgument(
                f"`{self.name}` is {value!r}; expected a number of at least 0, a list of one for "
                "each stochastic layer, or a function of the training step."
            )
        if values is not value:
            return np.float32(value)
        if len(values) != self._num_layers:
            raise InvalidArgument(
                f"`{self.name}` has {len(values)} numbers; expected one, or one for each of the "
                f"{self._num_layers} stochastic layers."
            )
        return np.asarray(values, np.float32)


def not_assigned(name, value, reason) -> InvalidArgument:
    """Return the error of a number that cannot be assigned to a setting."""
    return InvalidArgument(
        f"`{name}` of the model cannot be assigned {value!r}, since {reason}. "
        f"Call model.compile(..., {name}=...)."
    )
