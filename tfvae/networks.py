"""Plain Keras encoders and decoders: tensors in, parameters of a distribution out.

Any Keras model can take their place; these are the usual ones, of the sizes that the papers use.
`connect` and `conditional` are what models and priors do with a network, whichever it is.
"""

import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tfvae.errors import InvalidArgument


def dense_encoder(
    x_shape, params_size: int | tuple[int, ...], hidden=(200, 200), activation="tanh"
) -> keras.Model:
    """x `[B, *x_shape]` → hidden layers → parameters `[B, params_size]`.

    With the defaults and 50 latents, the one-layer network of Burda et al. 2016.

    Args:
        x_shape: shape of one input.
        params_size: how many parameters, or their shape: `(D, C)` for D categorical latents of C
            categories.
        hidden: widths of the hidden layers; none for an affine map.
        activation: of the hidden layers.
    """
    return keras.Sequential(
        [
            keras.Input(x_shape),
            layers.Flatten(),
            *(layers.Dense(units, activation=activation) for units in hidden),
            *_to_params(params_size),
        ],
        name="encoder",
    )


def dense_decoder(
    latent_size: int | tuple[int, ...],
    output_shape,
    hidden=(200, 200),
    activation="tanh",
    bias=None,
) -> keras.Model:
    """z `[B, latent_size]` → hidden layers → parameters `[B, *output_shape]`.

    Args:
        latent_size: D, or the shape of a latent, which is flattened first.
        output_shape: `(*x_shape[:-1], likelihood.params_size(channels))`.
        hidden: widths of the hidden layers; none for an affine map.
        activation: of the hidden layers.
        bias: initial value of the outputs' bias, of shape `output_shape`; `logit_bias` of the
            training images is worth about a nat on binarized MNIST. None for zeros.
    """
    return keras.Sequential(
        [
            *_from_latents(latent_size),
            *(layers.Dense(units, activation=activation) for units in hidden),
            layers.Dense(math.prod(output_shape), bias_initializer=_initial(bias), name="params"),
            layers.Reshape(output_shape),
        ],
        name="decoder",
    )


def conv_encoder(
    x_shape, params_size: int | tuple[int, ...], filters=(32, 64), units=256, activation="relu"
) -> keras.Model:
    """x `[B, H, W, C]` → stride-2 3×3 convolutions → dense → parameters `[B, params_size]`.

    `params_size` may be a shape, as in `dense_encoder`.
    """
    return keras.Sequential(
        [
            keras.Input(x_shape),
            *(
                layers.Conv2D(n, 3, strides=2, padding="same", activation=activation)
                for n in filters
            ),
            layers.Flatten(),
            layers.Dense(units, activation=activation),
            *_to_params(params_size),
        ],
        name="encoder",
    )


def conv_decoder(
    latent_size: int | tuple[int, ...],
    output_shape,
    filters=(32, 64),
    units=256,
    activation="relu",
    bias=None,
) -> keras.Model:
    """The mirror of `conv_encoder`: z `[B, D]` → parameters `[B, H, W, C']`.

    Heights and widths that the strides do not divide are grown beyond and cropped.

    Args:
        latent_size: D, or the shape of a latent, which is flattened first.
        output_shape: `(H, W, likelihood.params_size(channels))`.
        filters: of the convolutions of the encoder, outermost first.
        units: width of the dense layer.
        activation: of all layers but the last.
        bias: initial value of the outputs' bias, one number for each output channel, or None.
    """
    height, width, channels = output_shape
    stride = 2 ** len(filters)
    rows, columns = math.ceil(height / stride), math.ceil(width / stride)
    extra = rows * stride - height, columns * stride - width
    crop = [(e // 2, e - e // 2) for e in extra]
    return keras.Sequential(
        [
            *_from_latents(latent_size),
            layers.Dense(units, activation=activation),
            layers.Dense(rows * columns * filters[-1], activation=activation),
            layers.Reshape((rows, columns, filters[-1])),
            *(
                layers.Conv2DTranspose(n, 3, strides=2, padding="same", activation=activation)
                for n in reversed(filters)
            ),
            *([layers.Cropping2D(crop)] if any(extra) else []),
            layers.Conv2D(
                channels, 3, padding="same", bias_initializer=_initial(bias), name="params"
            ),
        ],
        name="decoder",
    )


def logit_bias(x: np.ndarray, per_channel: bool = False) -> np.ndarray:
    """Return logit(mean of x over examples), clipped to [0.001, 0.999]: a decoder's initial bias.

    Source: Burda, Grosse and Salakhutdinov 2016, the authors' code.

    Args:
        x: training images `[N, H, W, C]` in [0, 1].
        per_channel: average over pixels too and return `[C]`, as a convolution's bias needs.
    """
    axes = tuple(range(x.ndim - 1)) if per_channel else 0
    mean = np.clip(np.mean(x, axis=axes, dtype=np.float64), 0.001, 0.999)
    return np.log(mean / (1.0 - mean)).astype(np.float32)


def connect(network: keras.Model, input_shape, factory, role: str) -> tuple[int, ...]:
    """Build a network for inputs of a shape, and return the shape of the values it describes.

    Args:
        network: its output is the parameters of a distribution.
        input_shape: of one input.
        factory: the `tfvae.distributions.Factory` of that distribution.
        role: what the network is, for the message.

    Raises:
        InvalidArgument: the network takes another shape, or its output is not such parameters.
    """
    input_shape = tuple(input_shape)
    if not network.built:
        network.build((None, *input_shape))
    wanted = getattr(network, "input_shape", None)
    if wanted is not None and tuple(wanted[1:]) != input_shape:
        raise InvalidArgument(
            f"The {role} takes latents of shape {tuple(wanted[1:])}, but the encoder before it "
            f"gives latents of shape {input_shape}. For D latents the last axis of an encoder's "
            "output must be posterior.params_size(D)."
        )
    return factory.event_shape(_params_shape(network, (None, *input_shape), role))


def conditional(network: keras.Model, factory, input_shape, training: bool = False) -> Callable:
    """Return the function from a value to the distribution that a network makes of it.

    Leading axes of the value, `[B]` or `[K, B]`, are the batch axes of the distribution.

    Args:
        network: as in `connect`.
        factory: as in `connect`.
        input_shape: of one value.
        training: whether the network runs in training mode.
    """

    def given(value):
        batch_ndims = len(value.shape) - len(input_shape)
        if batch_ndims == 1:
            return factory(network(value, training=training))
        batch_shape = tf.shape(value)[:batch_ndims]
        params = network(tf.reshape(value, [-1, *input_shape]), training=training)
        params = tf.reshape(params, tf.concat([batch_shape, params.shape[1:]], 0))
        return factory(params, batch_ndims)

    return given


def _to_params(size):
    """Return the last layers of an encoder, for so many parameters or for their shape."""
    if isinstance(size, int):
        return [layers.Dense(size, name="params")]
    return [layers.Dense(math.prod(size), name="params"), layers.Reshape(size)]


def _from_latents(size):
    """Return the first layers of a decoder, for so many latents or for their shape."""
    if isinstance(size, int):
        return [keras.Input((size,))]
    return [keras.Input(size), layers.Flatten()]


def _params_shape(network, input_shape, role):
    try:
        shape = network.compute_output_shape(input_shape)
    except NotImplementedError:
        raise InvalidArgument(
            f"The output shape of the {role} is not known before it is called. Define "
            f"`compute_output_shape(self, input_shape)` in {type(network).__name__}."
        ) from None
    if not isinstance(shape, tuple) or (shape and isinstance(shape[0], (tuple, list))):
        raise InvalidArgument(
            f"The {role} has several outputs, {shape}; expected one tensor. Join them on the "
            "last axis with keras.layers.Concatenate()."
        )
    if len(shape) < 2 or None in shape[1:]:
        raise InvalidArgument(
            f"The {role}'s output has shape {shape}; expected a batch axis and at least one "
            "more, all of known size but the batch."
        )
    return tuple(shape[1:])


def _initial(bias):
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
        return keras.ops.convert_to_tensor(np.reshape(self.values, shape), dtype)

    def get_config(self):
        return {}
