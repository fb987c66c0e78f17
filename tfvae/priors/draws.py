"""Draws from a distribution with noise that is the same in Keras, in a SavedModel and on LiteRT."""

import math

import tensorflow as tf
import tensorflow_probability as tfp

from tfvae import random
from tfvae.distributions.latents import DiscreteLatent
from tfvae.errors import InvalidArgument

tfd = tfp.distributions


def draw(distribution, seed: tf.Tensor, index: tf.Tensor, temperature=1.0) -> tf.Tensor:
    """Return draws number `index` of the stream `seed`, `[N, *event_shape]`.

    - Normals: μ + T·σ·ε with ε ~ N(0, 1).
    - Discrete latents: harden(logits + T·g), with logistic or Gumbel noise g; T = 0 is the mode.

    Args:
        distribution: with batch shape `[]`, or `[N]`, a distribution for each draw.
        seed: `[2]` int32.
        index: `[N]` int32.
        temperature: T.

    Raises:
        InvalidArgument: a distribution of another kind.
    """
    shape = distribution.event_shape.as_list()
    size = math.prod(shape)
    if isinstance(distribution, DiscreteLatent):
        noise = tf.reshape(random.uniform(seed, index, size), [-1, *shape])
        return distribution.harden(distribution.perturb(noise, temperature))
    if isinstance(getattr(distribution, "distribution", None), tfd.Normal):
        noise = tf.reshape(random.normal(seed, index, size), [-1, *shape])
        return distribution.mean() + temperature * distribution.stddev() * noise
    raise InvalidArgument(
        f"No draws of {distribution.name} are known that a device can repeat; expected independent "
        "normals, bits or categories. Give the prior a `sample` of its own."
    )
