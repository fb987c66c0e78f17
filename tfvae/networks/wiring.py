"""What models and priors do with a network, whichever it is: fit it in, and make distributions."""

from collections.abc import Callable

import keras
import tensorflow as tf

from tfvae.errors import InvalidArgument


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
    build(network, input_shape, role)
    wanted = getattr(network, "input_shape", None)
    if wanted is not None and example_shape(wanted, role) != input_shape:
        raise InvalidArgument(
            f"The {role} takes latents of shape {example_shape(wanted, role)}, but the encoder "
            f"before it gives latents of shape {input_shape}. For D latents the last axis of an "
            "encoder's output must be posterior.params_size(D)."
        )
    return factory.event_shape(output_shape(network, (None, *input_shape), role))


def connect_decoder(decoder, latent_shape, likelihood, x_shape) -> None:
    """Build the decoder that gives x, and check that it describes values of x's shape.

    Raises:
        InvalidArgument: it does not.
    """
    shape = connect(decoder, latent_shape, likelihood, "decoder")
    if shape != x_shape:
        raise InvalidArgument(
            f"The decoder's output describes values of shape {shape} under the "
            f"{type(likelihood).__name__} likelihood, but the encoder takes {x_shape}. Expected a "
            f"decoder output of shape {(*x_shape[:-1], likelihood.params_size(x_shape[-1]))}."
        )


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


def build(network: keras.Model, input_shape, role: str) -> None:
    """Build a network, unless it is built, for inputs of a shape (without the batch axis).

    A network without a `build` of its own is called on a batch of zeros, which builds it.

    Raises:
        InvalidArgument: that fails.
    """
    if network.built:
        return
    if type(network).build in (keras.Model.build, keras.layers.Layer.build):
        _trial(network, input_shape, role)
    else:
        network.build((None, *input_shape))


def example_shape(input_shape, role: str) -> tuple[int, ...]:
    """Return the shape of one input of a network, given that of a batch.

    Raises:
        InvalidArgument: the network has several inputs.
    """
    if isinstance(input_shape, dict) or any(
        isinstance(size, (tuple, list)) for size in input_shape
    ):
        raise InvalidArgument(
            f"The {role} has {len(input_shape)} inputs, {input_shape}; expected one. Make it a "
            "network of one input that splits it, and join the data on the last axis."
        )
    return tuple(input_shape[1:])


def output_shape(network: keras.Model, input_shape, role: str) -> tuple[int, ...]:
    """Return the shape of a network's output, without the batch axis.

    Raises:
        InvalidArgument: it is not one tensor of known size.
    """
    try:
        shape = network.compute_output_shape(input_shape)
    except NotImplementedError:
        output = _trial(network, input_shape[1:], role)
        shape = keras.tree.map_structure(lambda tensor: (None, *tensor.shape[1:]), output)
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


def _trial(network, input_shape, role):
    """Return what a network gives for a batch of zeros."""
    shape = (1, *input_shape)
    try:
        return network(tf.zeros(shape))
    except Exception as error:
        raise InvalidArgument(
            f"The {role} failed on a batch of zeros of shape {shape}, which was to show the shape "
            f"of its output: {error} Mend `call` of {type(network).__name__}, or define "
            "`build(self, input_shape)` and `compute_output_shape(self, input_shape)` in it."
        ) from error
