"""Losses that layers add on latents, which q(z|x) has to be able to learn from."""

from collections.abc import Callable

import tensorflow as tf

from tfvae import estimators
from tfvae.errors import InvalidArgument
from tfvae.joint import StochasticLayer


def infer_with_losses(
    model, h, draw: Callable, given: dict
) -> tuple[tuple[StochasticLayer, ...], tf.Tensor]:
    """Return the layers and the parameters of p(x|z), as `model.infer` does in training.

    Args:
        model: a `LatentVariableModel`.
        h: what the encoder found in x.
        draw: of a layer, as `infer` takes it.
        given: the condition, as a keyword argument.

    Raises:
        InvalidArgument: layers add losses that depend on latents which are drawn without a
            gradient: q could not learn its part of them.
    """
    before = model.added_losses
    features = [part for part in tf.nest.flatten(h) if part.dtype.is_floating]
    drawn = []

    def watched(number, q):
        z, log_q = draw(number, q)
        tape.watch(z)
        drawn.append(z)
        return z, log_q

    def depends(loss, tensors):
        return any(slope is not None for slope in tape.gradient(loss, tensors))

    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(features)
        layers, x_params = model.infer(h, watched, True, **given)
        added = [loss for loss in model.added_losses if not any(loss is b for b in before)]
    if any(depends(loss, drawn) and not depends(loss, features) for loss in added):
        name = estimators.registered_name(type(model.estimator))
        raise InvalidArgument(
            "Layers that are called on z add losses (`add_loss`, `activity_regularizer`), and "
            f"the estimator {name!r} draws z without a gradient, so that q(z|x) would not "
            "learn its part of them. Use 'pathwise' or 'straight_through', layers without "
            "these, or a regularizer of weights."
        )
    return layers, x_params
