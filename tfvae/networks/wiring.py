"""Connections of networks: shapes of neighbours, leading axes, and distributions."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfvae.conditions import Condition
from tfvae.distributions import Factory
from tfvae.errors import InvalidArgument
from tfvae.networks.endings import warn_if_bounded


def connect(
    network: keras.Model,
    input_shape: tuple[int, ...] | list[tuple[int, ...]],
    factory: Factory,
    role: str,
    advice: str = "",
) -> tuple[int, ...]:
    """Build a network for inputs of a shape, and return the shape of the values it describes.

    A network that ends in an activation that bounds such parameters causes a `TfvaeWarning`; see
    `Factory.unbounded`.

    Args:
        network: its output is the parameters of a distribution.
        input_shape: of one input; of a network of several inputs, a list.
        factory: the `tfvae.distributions.Factory` of that distribution.
        role: what the network is, for the message.
        advice: as in `connect_inputs`.

    Raises:
        InvalidArgument: the network takes another shape, or its output is not such parameters.
    """
    params_shape = connect_inputs(network, input_shape, role, advice)
    event_shape = factory.event_shape(params_shape)
    if not factory.built:
        factory.build(params_shape)
    warn_if_bounded(network, factory, role)
    return event_shape


def connect_inputs(
    network: keras.Model,
    input_shape: tuple[int, ...] | list[tuple[int, ...]],
    role: str,
    advice: str = "",
) -> tuple[int, ...]:
    """Build a network for inputs of a shape, or a list of these, and return that of its output.

    Args:
        network: as in `connect`.
        input_shape: as in `connect`.
        role: as in `connect`.
        advice: a sentence, after a space, that ends the message for another shape.

    Raises:
        InvalidArgument: the network takes another shape or another number of inputs.
    """
    if isinstance(input_shape, list):
        shape = _build_of_several(network, input_shape, role)
        return output_shape(network, shape, role)
    shape = (None, *input_shape)
    build(network, tuple(input_shape), role)
    wanted = getattr(network, "input_shape", None)
    if wanted is not None and example_shape(wanted, role) != shape[1:]:
        raise InvalidArgument(
            f"The {role} takes inputs of shape {example_shape(wanted, role)}, but is given "
            f"{shape[1:]}. Build the {role} for that shape, or change what comes before it.{advice}"
        )
    return output_shape(network, shape, role)


def _build_of_several(network, input_shapes, role):
    """Build a network of several inputs, and return their shapes with that of the batch."""
    shape = [(None, *s) for s in input_shapes]
    if not network.built:
        network.build(shape)
    wanted = getattr(network, "input_shape", None)
    if not isinstance(wanted, list) or [tuple(w) for w in wanted] != shape:
        raise InvalidArgument(
            f"The {role} has inputs of shape {wanted}; expected {len(shape)} inputs, of shapes "
            f"{shape}."
        )
    return shape


def output_shapes(
    network: keras.Model, input_shape: tuple[int, ...] | list[tuple[int, ...]], role: str
) -> list[tuple[int, ...]]:
    """Build a network for inputs of a shape, or a list of these; return the shapes of its outputs.

    Raises:
        InvalidArgument: the network takes another shape.
    """
    if isinstance(input_shape, list):
        _build_of_several(network, input_shape, role)
    elif not network.built:
        network.build((None, *input_shape))
    outputs = getattr(network, "outputs", None)
    if outputs is None or len(outputs) == 1:
        return [connect_inputs(network, input_shape, role)]
    return [tuple(output.shape[1:]) for output in outputs]


def connect_decoder(
    decoder: keras.Model,
    latent_shape: tuple[int, ...] | list[tuple[int, ...]],
    likelihood: Factory,
    x_shape: tuple[int, ...],
    role: str = "decoder",
    advice: str = "",
) -> None:
    """Build the decoder that gives x, and check that it describes values of x's shape.

    Args:
        decoder: its output is the parameters of p(x|z).
        latent_shape: of its input, or of its inputs.
        likelihood: what takes its output.
        x_shape: of one example.
        role: as in `connect`.
        advice: as in `connect_inputs`.

    Raises:
        InvalidArgument: it does not.
    """
    shape = connect(decoder, latent_shape, likelihood, role, advice)
    if shape != x_shape:
        raise InvalidArgument(
            f"The decoder's output describes values of shape {shape} under the "
            f"{type(likelihood).__name__} likelihood, but the encoder takes {x_shape}. Expected a "
            f"decoder output of shape {(*x_shape[:-1], likelihood.params_size(x_shape[-1]))}."
        )


def apply(
    network: keras.Model,
    values: tf.Tensor | list[tf.Tensor],
    shapes: tuple[int, ...] | list[tuple[int, ...]],
    training: bool = False,
) -> tf.Tensor:
    """Return a network's output for values with any leading axes, `[B]` or `[K, B]`.

    Args:
        network: of one input, or of several.
        values: `[..., *shape]`; or a list of these, one for each input, whose leading axes are
            broadcast against each other.
        shapes: of one value, or a list of these.
        training: whether the network runs in training mode.
    """
    if isinstance(values, list):
        return _apply_to_several(network, values, shapes, training)
    batch_ndims = len(values.shape) - len(shapes)
    if batch_ndims == 1:
        return network(values, training=training)
    batch_shape = tf.shape(values)[:batch_ndims]
    output = network(tf.reshape(values, [-1, *shapes]), training=training)
    return tf.reshape(output, tf.concat([batch_shape, output.shape[1:]], 0))


def _apply_to_several(network, values, shapes, training):
    batch_ndims = [len(v.shape) - len(s) for v, s in zip(values, shapes, strict=True)]
    most = max(batch_ndims)
    if most == min(batch_ndims) == 1:
        return network(values, training=training)
    batch_shape = functools.reduce(
        tf.broadcast_dynamic_shape,
        [tf.shape(v)[:ndims] for v, ndims in zip(values, batch_ndims, strict=True)],
    )
    flat = [
        tf.reshape(tf.broadcast_to(v, tf.concat([batch_shape, s], 0)), [-1, *s])
        for v, s in zip(values, shapes, strict=True)
    ]
    output = network(flat, training=training)
    return tf.reshape(output, tf.concat([batch_shape, output.shape[1:]], 0))


def takes_condition(network: keras.Model, num_values: int = 1) -> bool:
    """Return whether a network has one more input than its values: c(y) of a condition."""
    return len(getattr(network, "inputs", None) or ()) == num_values + 1


def beside_condition(
    network: keras.Model,
    input_shape: tuple[int, ...] | list[tuple[int, ...]],
    condition: Condition | None,
) -> tuple[int, ...] | list[tuple[int, ...]]:
    """Return what `connect` takes for a network of values, and of a condition if it has that.

    Args:
        network: as in `connect`.
        input_shape: of the value; of several values, a list.
        condition: a `tfvae.conditions.Condition`, or None.
    """
    shapes = input_shape if isinstance(input_shape, list) else [tuple(input_shape)]
    if condition is None or not takes_condition(network, len(shapes)):
        return input_shape if isinstance(input_shape, list) else tuple(input_shape)
    return [*shapes, (condition.size,)]


def shape_beside_condition(network: keras.Model, condition: Condition | None) -> tuple[int, ...]:
    """Return the shape of a batch of the values that a network takes, without the condition's."""
    if condition is None or not takes_condition(network):
        return network.input_shape
    return network.input_shape[0]


def apply_given(
    network: keras.Model,
    values: tf.Tensor | list[tf.Tensor],
    shapes: tuple[int, ...] | list[tuple[int, ...]],
    condition: tf.Tensor | None,
    training: bool = False,
) -> tf.Tensor:
    """Apply a network as `apply`, and to the condition c(y) `[B, C]` if it has an input for it."""
    several = isinstance(values, list)
    if condition is None or not takes_condition(network, len(values) if several else 1):
        return apply(network, values, shapes, training)
    if not several:
        values, shapes = [values], [shapes]
    return apply(network, [*values, condition], [*shapes, condition.shape[-1:]], training)


def conditional(
    network: keras.Model,
    factory: Factory,
    input_shape: tuple[int, ...] | list[tuple[int, ...]],
    training: bool = False,
    condition: tf.Tensor | None = None,
) -> Callable:
    """Return the function from a value to the distribution that a network makes of it.

    Leading axes of the value, `[B]` or `[K, B]`, are the batch axes of the distribution.

    Args:
        network: as in `connect`.
        factory: as in `connect`.
        input_shape: of one value.
        training: whether the network runs in training mode.
        condition: c(y), as in `apply_given`.
    """

    def given(value):
        params = apply_given(network, value, input_shape, condition, training)
        return factory(params, len(value.shape) - len(input_shape))

    return given


def build(
    network: keras.Model, input_shape: tuple[int, ...] | list[tuple[int, ...]], role: str
) -> None:
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


def example_shape(input_shape: Any, role: str) -> tuple[int, ...]:
    """Return the shape of one input of a network, given that of a batch.

    Raises:
        InvalidArgument: the network has several inputs.
    """
    if isinstance(input_shape, dict) or any(
        isinstance(size, (tuple, list)) for size in input_shape
    ):
        raise InvalidArgument(
            f"The {role} has {len(input_shape)} inputs, {input_shape}; expected one. Make it a "
            "network of one input that splits it, and join the data on the last axis; or, where "
            "the second input is for labels or vectors y, give the model `condition=`."
        )
    return tuple(input_shape[1:])


def output_shape(network: keras.Model, input_shape: tuple[int, ...], role: str) -> tuple[int, ...]:
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


def _trial(network, input_shape, role):
    """Return the output of a network for a batch of zeros."""
    shape = (1, *input_shape)
    try:
        return network(tf.zeros(shape))
    except Exception as error:
        raise InvalidArgument(
            f"The {role} failed on a batch of zeros of shape {shape}, which was to show the shape "
            f"of its output: {error} Mend `call` of {type(network).__name__}, or define "
            "`build(self, input_shape)` and `compute_output_shape(self, input_shape)` in it."
        ) from error
