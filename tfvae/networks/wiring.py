"""What models and priors do with a network, whichever it is: fit it in, and make distributions."""

from collections.abc import Callable

import keras
import tensorflow as tf

from tfvae.errors import InvalidArgument
from tfvae.networks.endings import warn_if_bounded


def connect(network: keras.Model, input_shape, factory, role: str) -> tuple[int, ...]:
    """Build a network for inputs of a shape, and return the shape of the values it describes.

    A network that ends in an activation from which such parameters cannot come gets a
    `TfvaeWarning`; see `Factory.unbounded`.

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
    shape = factory.event_shape(output_shape(network, (None, *input_shape), role))
    warn_if_bounded(network, factory, role)
    return shape


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


def output_shape(network: keras.Model, input_shape, role: str) -> tuple[int, ...]:
    """Return the shape of a network's output, without the batch axis.

    Raises:
        InvalidArgument: it is not one tensor of known size.
    """
    try:
        shape = network.compute_output_shape(input_shape)
    except NotImplementedError:
        raise InvalidArgument(
            f"The output shape of the {role} is not known before it is called. Define "
            f"`compute_output_shape(self, input_shape)` in {type(network).__name__}."
        ) from None
    if not isinstance(shape, tuple) or (shape and isinstance(shape[0], (tuple, list))):
        name = role if role.isidentifier() else "network"
        raise InvalidArgument(
            f"The {role} has several outputs, {shape}; expected one tensor, whose last axis holds "
            "all parameters. Of a mean and a raw scale this line makes one: "
            f"{name} = keras.Model({name}.inputs, "
            f"keras.layers.Concatenate()({name}.outputs[:2])). Where the second is a log-variance, "
            'take posterior=DiagonalNormal(scale="exp_half").'
        )
    if len(shape) < 2 or None in shape[1:]:
        raise InvalidArgument(
            f"The {role}'s output has shape {shape}; expected a batch axis and at least one "
            "more, all of known size but the batch."
        )
    return tuple(shape[1:])
