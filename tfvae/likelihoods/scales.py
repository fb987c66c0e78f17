"""The spread of a likelihood: a fixed number, a trained one, or a function of z."""

import math
import numbers

import tensorflow as tf

from tfvae.distributions.factory import Factory, softplus_scale
from tfvae.errors import InvalidArgument

SOURCES = ("learned", "shared", "by_value")


def check_source(name: str, value):
    """Return an argument that is a finite number above 0, as a float, or one of `SOURCES`.

    Raises:
        InvalidArgument: it is neither.
    """
    if isinstance(value, str) and value in SOURCES:
        return value
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not 0 < value < math.inf:
        raise InvalidArgument(
            f"`{name}` is {value!r}; expected a positive number, "
            f"{', '.join(map(repr, SOURCES[:-1]))} or {SOURCES[-1]!r}."
        )
    return float(value)


class WithScale(Factory):
    """A family with one positive parameter for each value beside those of `params_per_value`.

    Args:
        scale: the positive parameter.

            - A number: fixed.
            - "shared": one trained number for all values and examples, from 1.
            - "by_value": a trained number for each value (column, gene, pixel), from 1.
            - "learned": the network emits it, raw, behind the other parameters on the last axis.

            All but the first are softplus(raw + log(e − 1)).
    """

    params_per_value = 1

    def __init__(self, scale, name_of_scale: str = "scale", **kwargs):
        super().__init__(**kwargs)
        self._scale = check_source(name_of_scale, scale)
        self.params_per_channel = self.params_per_value + (scale == "learned")
        self._name_of_scale = name_of_scale
        setattr(self, name_of_scale, self._scale)

    def build(self, params_shape):
        """Add the trained number or numbers, where there are any."""
        if self._scale in ("shared", "by_value"):
            shape = () if self._scale == "shared" else self.event_shape(params_shape)
            self.raw_scale = self.add_weight(
                shape=shape, initializer="zeros", name="raw_scale", autocast=False
            )
        super().build(params_shape)

    def split(self, params: tf.Tensor) -> tuple[list[tf.Tensor], float | tf.Tensor]:
        """Return the parameters, each with the shape of the values, and the positive one."""
        parts = tf.split(params, self.params_per_channel, axis=-1)
        if self._scale == "learned":
            return parts[:-1], softplus_scale(parts[-1])
        return parts, self.current_scale()

    def current_scale(self) -> float | tf.Tensor:
        """Return the positive parameter where it does not come from the network.

        As it was given, or as it is now if it is trained.
        """
        if self._scale in ("shared", "by_value"):
            return softplus_scale(tf.convert_to_tensor(self.raw_scale))
        return self._scale

    def get_config(self):
        """Return the constructor arguments."""
        return {self._name_of_scale: self._scale, **super().get_config()}
