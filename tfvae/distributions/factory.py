"""The contract of posteriors and likelihoods: a distribution made from parameters."""

import math
from typing import ClassVar

import keras
import tensorflow as tf

from tfvae.distributions import tfd
from tfvae.errors import InvalidArgument


class Factory(keras.layers.Layer):
    """A family of distributions, as a Keras layer, so that its weights are trained and saved.

    Networks emit tensors and models build distributions from them, so a distribution never crosses
    a Keras layer boundary, and networks save and export unchanged. The last axis of the parameters
    holds `params_size(channels)` numbers for each site. All arithmetic is in float32, whatever the
    precision policy of the networks.

    Subclasses set `params_per_channel` (or override `params_size`) and implement `distribution`.
    Weights are added in `build` with `autocast=False`.

    Attributes:
        unbounded: the parameters that may be any real number, by name, each with its beginning and
            end on the last axis, as fractions from 0 to 1. Models warn of a network that bounds
            such parameters by a sigmoid, a softplus or another activation at its end.
    """

    params_per_channel = 1
    unbounded: ClassVar[dict[str, tuple[float, float]]] = {}

    def __init__(self, **kwargs):
        super().__init__(dtype="float32", **kwargs)

    def build(self, params_shape):
        """Add weights, for parameters of a shape without batch axes; here there are none."""
        self.built = True

    def params_size(self, channels: int) -> int:
        """Return how many parameters a site with this many channels needs."""
        return channels * self.params_per_channel

    def event_shape(self, params_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of one value, given that of its parameters (both without batch axes).

        Raises:
            InvalidArgument: the last axis does not hold parameters for a whole number of channels.
        """
        *sites, size = params_shape
        for channels in range(1, size + 1):
            if self.params_size(channels) >= size:
                break
        if self.params_size(channels) != size:
            raise InvalidArgument(
                f"A network that feeds {type(self).__name__} ends in an axis of size {size}; "
                f"expected params_size(channels): {self.params_size(1)} for 1 channel, "
                f"{self.params_size(2)} for 2, {self.params_size(3)} for 3."
            )
        return (*sites, channels)

    def distribution(self, params: tf.Tensor, batch_ndims: int) -> tfd.Distribution:
        """Return the distribution of values, for float32 parameters."""
        raise NotImplementedError

    def __call__(self, params: tf.Tensor, batch_ndims: int = 1) -> tfd.Distribution:
        """Return the distribution whose parameters are `params`, with `batch_ndims` batch axes."""
        if not self.built:
            self.build(tuple(params.shape[batch_ndims:]))
            self.built = True
        return self.distribution(tf.cast(params, tf.float32), batch_ndims)

    def get_config(self) -> dict:
        """Return the constructor arguments, and `trainable=False` where the weights are frozen."""
        return frozen(self)

    @classmethod
    def from_config(cls, config: dict):
        """Return the factory with these constructor arguments."""
        arguments = {k: keras.saving.deserialize_keras_object(v) for k, v in config.items()}
        return from_arguments(cls, arguments)

    def __repr__(self):
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


def frozen(layer: keras.layers.Layer) -> dict:
    """Return what the configuration of a layer says of whether its weights are trained.

    Nothing where they are, so that the representation of a part holds what a user gave it.
    """
    return {} if layer.trainable else {"trainable": False}


def from_arguments(cls: type, arguments: dict) -> keras.layers.Layer:
    """Return the layer of a configuration with `frozen`, which its constructor need not take."""
    made = cls(**{name: value for name, value in arguments.items() if name != "trainable"})
    if not arguments.get("trainable", True):
        made.trainable = False
    return made


def independent(distribution, batch_ndims: int) -> tfd.Independent:
    """Return independent values as one distribution with `batch_ndims` batch axes."""
    return tfd.Independent(distribution, len(distribution.batch_shape) - batch_ndims)


def softplus_scale(raw: tf.Tensor) -> tf.Tensor:
    """Return σ = softplus(raw + log(e − 1)), so that raw = 0 gives σ = 1."""
    return tf.nn.softplus(raw + math.log(math.e - 1.0)) + 1e-6
