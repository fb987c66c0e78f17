"""Enumeration of the states of small discrete latents."""

import math

import keras
import numpy as np
import tensorflow as tf

from tfvae.distributions import all_states, num_states
from tfvae.errors import InvalidArgument

MAX_STATES = 2**16


def states_by_layer(model: keras.Model) -> list[np.ndarray]:
    """Return every value of the model's latent, for each layer an array `[S, *layer_shape]`.

    Raises:
        InvalidArgument: a continuous latent, or more than `MAX_STATES` states.
    """
    check_num_states(num_latent_states(model), "the latent")
    kinds = [posterior.kind for posterior in model.posterior_of_layer]
    values = [all_states(*layer) for layer in zip(kinds, model.layer_shapes, strict=True)]
    index = np.indices([len(of_layer) for of_layer in values]).reshape(len(values), -1)
    return [of_layer[of_states] for of_layer, of_states in zip(values, index, strict=True)]


def latent_states(model: keras.Model) -> np.ndarray:
    """Return every value of the latent, `[S, *latent_shape]`; see `states_by_layer`."""
    return model.join(states_by_layer(model)).numpy()


def num_latent_states(model: keras.Model) -> int:
    """Return how many values the model's latent takes.

    Raises:
        InvalidArgument: a continuous latent.
    """
    if "continuous" in model.latent_kinds:
        raise InvalidArgument(
            "Enumeration needs discrete latents; these are continuous. Use "
            "tfvae.log_likelihood, or the objectives 'elbo' or 'iwae'."
        )
    layers = zip(model.latent_kinds, model.layer_shapes, strict=True)
    return math.prod(num_states(*layer) for layer in layers)


def check_num_states(count: int, what: str) -> None:
    """Refuse to enumerate too many states.

    Raises:
        InvalidArgument: with the number of states and the limit.
    """
    if count > MAX_STATES:
        size = f"{count:,}" if count < 10**9 else f"about 10^{math.log10(count):.0f}"
        raise InvalidArgument(
            f"Enumeration goes over all states of {what}: {size}, but the limit is "
            f"{MAX_STATES:,} (2^16). Use fewer latents or samples, or an estimator that samples."
        )


def log_joint(
    model: keras.Model,
    x: np.ndarray | tf.Tensor,
    states: np.ndarray,
    *,
    condition: np.ndarray | tf.Tensor | int | None = None,
) -> tf.Tensor:
    """Return log p(x, z) of every state `[S, *latent_shape]`, `[S, B]`.

    Each state is decoded once, for all examples; by a decoder that takes a condition y, `[B, ...]`
    or one for all, once for each example.
    """
    return model.log_joint(x, tf.convert_to_tensor(states)[:, tf.newaxis], condition=condition)
