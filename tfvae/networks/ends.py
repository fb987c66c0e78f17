"""The layers that networks share: from examples or latents, to parameters, and dropout."""

import math

import keras
import numpy as np
from keras import layers

from tfvae.errors import InvalidArgument
from tfvae.networks.missing import ZeroImputation


def to_params(size):
    """Return the last layers of an encoder, for so many parameters or for their shape."""
    if isinstance(size, int):
        return [layers.Dense(size, name="params")]
    return [layers.Dense(math.prod(size), name="params"), layers.Reshape(size)]


def of_examples(missing: bool) -> list:
    """Return the first layers of a network of x: what fills missing values, if there may be any."""
    return [ZeroImputation()] if missing else []


def with_dropout(hidden: list, rate: float, kind: type = layers.Dropout) -> list:
    """Return hidden layers, each with a layer of dropout behind it where the rate is not 0."""
    if not rate:
        return hidden
    return [each for layer in hidden for each in (layer, kind(rate))]


def from_latents(size):
    """Return the input of a decoder and what flattens it, for so many latents or their shape."""
    if isinstance(size, int):
        return keras.Input((size,)), []
    return keras.Input(size), [layers.Flatten("channels_last")]


def in_order(inputs, before, after, condition_size: int, name: str) -> keras.Model:
    """Return the network of layers in order; a condition is joined to what `before` gives.

    Args:
        inputs: the `keras.Input` of the value.
        before: layers that give vectors, `[B, n]`.
        after: the other layers.
        condition_size: C, the width of c(y), the second input; 0 for a network of one input.
        name: of the network.
    """
    if not condition_size:
        return keras.Sequential([inputs, *before, *after], name=name)
    condition = condition_input(condition_size)
    value = inputs
    for layer in before:
        value = layer(value)
    value = given_condition(value, condition)
    for layer in after:
        value = layer(value)
    return keras.Model([inputs, *condition], value, name=name)


def network_of(inputs: list, outputs, name: str) -> keras.Model:
    """Return the functional model of one input or several, of one output or several."""
    inputs, outputs = (
        part[0] if isinstance(part, list) and len(part) == 1 else part for part in (inputs, outputs)
    )
    return keras.Model(inputs, outputs, name=name)


def condition_input(condition_size: int) -> list:
    """Return the last inputs of a network: that of c(y) `[B, C]`, or none for a width of 0."""
    return [keras.Input((condition_size,), name="condition")] if condition_size else []


def given_condition(values, condition: list):
    """Return values with the condition in them, if there is one: `[B, n]`, or `[B, ..., channels]`.

    Vectors are joined with c(y); to a grid V c(y) is added at every site, with a learned V, as a
    convolution would do with c(y) in further channels.
    """
    if not condition:
        return values
    if len(values.shape) == 2:
        return layers.Concatenate()([values, *condition])
    channels = values.shape[-1]
    bias = layers.Dense(channels, use_bias=False)(*condition)
    return layers.Add()([values, layers.Reshape((*[1] * (len(values.shape) - 2), channels))(bias)])


def initial_bias(bias):
    """Return the initializer that starts a bias from given values; zeros for None."""
    if bias is None:
        return "zeros"
    flat = [float(value) for value in np.ravel(bias)]
    return _FixedBias(flat)


@keras.saving.register_keras_serializable("tfvae")
class _FixedBias(keras.initializers.Initializer):
    """Starts a bias from given numbers, which are saved with the weights and not in the config."""

    def __init__(self, values=None):
        self.values = values

    def __call__(self, shape, dtype=None):
        if self.values is None:  # a loaded layer: its weights replace these zeros
            return keras.ops.zeros(shape, dtype)
        if len(self.values) != math.prod(shape):
            raise InvalidArgument(
                f"`bias` has {len(self.values)} numbers; expected {math.prod(shape)}, one for each "
                "output of a dense network, as `tfvae.networks.logit_bias(x)` gives them, or for "
                "each channel of a convolution, as `logit_bias(x, per_channel=True)` does."
            )
        return keras.ops.convert_to_tensor(np.reshape(self.values, shape), dtype)

    def get_config(self):
        return {}


def logit_bias(x: np.ndarray, per_channel: bool = False) -> np.ndarray:
    """Return logit(mean of x over examples), clipped to [0.001, 0.999]: a decoder's initial bias.

    Source: Burda, Grosse and Salakhutdinov 2016, the authors' code.

    Args:
        x: training images `[N, H, W, C]` in [0, 1]; NaN is left out.
        per_channel: average over pixels too and return `[C]`, as a convolution's bias needs.
    """
    axes = tuple(range(x.ndim - 1)) if per_channel else 0
    observed = ~np.isnan(x)
    total = np.sum(x, axis=axes, dtype=np.float64, where=observed)
    count = np.sum(observed, axis=axes)
    # 1/2 for values that are never observed.
    mean = np.divide(total, count, out=np.full(total.shape, 0.5), where=count > 0)
    mean = np.clip(mean, 0.001, 0.999)
    return np.log(mean / (1.0 - mean)).astype(np.float32)


def log_bias(mean: np.ndarray) -> np.ndarray:
    """Return log(mean), of means of at least 0.001: a decoder's initial bias for counts.

    Args:
        mean: of the training examples, `x_shape`; where it is NaN nothing is known, and it is 1.
    """
    return np.log(np.maximum(np.nan_to_num(mean, nan=1.0), 1e-3)).astype(np.float32)
