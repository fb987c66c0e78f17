"""The functions by which tfvae uses a distribution beyond `sample` and `log_prob`.

Every function handles TFP's independent normals and the discrete latents of this package; if a
distribution has a method of the function's name, that method is called.
"""

import math
from collections.abc import Sequence

import tensorflow as tf

from tfvae import random, replicas
from tfvae.distributions import tfd
from tfvae.distributions.draws import of_values
from tfvae.distributions.latents import DiscreteLatent
from tfvae.errors import InvalidArgument
from tfvae.surrogates import gradient_only


def sample_and_log_prob(
    distribution: tfd.Distribution, sample_shape: Sequence[int], seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return draws `[*sample_shape, batch..., *event]` and their log-density, from the same call.

    A flow knows the density of its own draw; for a given z it would have to be inverted.

    An example of a batch that replicas share gets the noise that it would get on a single device,
    where the distribution's attribute `draws_by_example` says so, as those of this package do.
    Others get another seed on every replica.
    """
    if not draws_by_example(distribution):
        seed = random.seed_of_replica(seed)
    if hasattr(distribution, "sample_and_log_prob"):
        return distribution.sample_and_log_prob(sample_shape, seed=seed)
    z = distribution.sample(sample_shape, seed=seed)
    return z, distribution.log_prob(z)


def differentiable_sample(
    distribution: tfd.Distribution, sample_shape: Sequence[int], seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Return draws z and log v = 0, by which every mean of a function has its gradient.

    With v = 1 in value, ∂/∂θ E[f(z)] = E[∂/∂θ v f(z)], for the parameters θ of the distribution:
    through z where it can be reparameterized, through v = p_θ(z) / p(z) at fixed z elsewhere. Of
    several draws, v is the product of theirs.

    Source: Foerster et al. 2018, "DiCE: the infinitely differentiable Monte Carlo estimator".

    Returns:
        `[*sample_shape, batch..., *event]` and `[*sample_shape, batch...]`, or None for log v where
        z has the whole gradient.
    """
    if hasattr(distribution, "differentiable_sample"):
        return distribution.differentiable_sample(sample_shape, seed)
    z, _ = sample_and_log_prob(distribution, sample_shape, seed)
    if distribution.reparameterization_type == tfd.FULLY_REPARAMETERIZED:
        return z, None
    log_p = distribution.log_prob(tf.stop_gradient(z))
    return tf.stop_gradient(z), gradient_only(log_p)


def draws_by_example(distribution) -> bool:
    """Whether draws are made of `tfvae.random` along the axis of the examples."""
    while not hasattr(distribution, "draws_by_example"):
        # Of independent values, or of a flow.
        inner = getattr(distribution, "distribution", getattr(distribution, "base", None))
        if inner is None:
            return False
        distribution = inner
    return distribution.draws_by_example


def representative(distribution: tfd.Distribution) -> tf.Tensor:
    """Return the value that represents the distribution: its mean, if it has one.

    A flow, whose mean has no closed form, returns the image of the mean of its base.
    """
    if hasattr(distribution, "representative"):
        return distribution.representative()
    return distribution.mean()


def kl_by_unit(q: tfd.Distribution, p: tfd.Distribution) -> tf.Tensor | None:
    """Return KL(q‖p) in nats, `[batch..., U]`: of each unit where they are independent, else U = 1.

    Returns:
        None where no closed form is known.
    """
    batch_ndims = max(len(q.batch_shape), len(p.batch_shape))
    if isinstance(q, tfd.Independent) and isinstance(p, tfd.Independent):
        q, p = q.distribution, p.distribution
    if hasattr(q, "kl_by_unit"):
        by_unit = q.kl_by_unit(p)
        if by_unit is None:
            return None
    else:
        try:
            by_unit = q.kl_divergence(p)
        except NotImplementedError:
            return None
    return tf.reshape(by_unit, tf.concat([tf.shape(by_unit)[:batch_ndims], [-1]], 0))


def log_prob_by_unit(distribution: tfd.Distribution, z: tf.Tensor) -> tf.Tensor | None:
    """Return log q(z_u) of each unit, `[..., U]`; None where the units are not independent normals.

    Args:
        distribution: of independent normals.
        z: `[..., *event]`, whose leading axes are broadcast against the batch.
    """
    if not isinstance(getattr(distribution, "distribution", None), tfd.Normal):
        return None
    by_unit = distribution.distribution.log_prob(z)
    leading = tf.shape(by_unit)[: len(by_unit.shape) - len(distribution.event_shape)]
    return tf.reshape(by_unit, tf.concat([leading, [distribution.event_shape.num_elements()]], 0))


def log_prob_by_value(distribution: tfd.Distribution, x: tf.Tensor) -> tf.Tensor:
    """Return log p of each value of x (pixel, column, token), `[..., *event]`; log p(x) is its sum.

    Where the values on the last axis depend on each other, as the channels of a pixel under a
    mixture of logistics do, each is given those before it: log p(x_c | x_1, …, x_(c−1)). Any other
    values are independent.

    Args:
        distribution: independent values, or one with a method `log_prob_by_value`.
        x: `[..., *event]`, whose leading axes are broadcast against the batch.

    Raises:
        InvalidArgument: a distribution of another kind.
    """
    if hasattr(distribution, "log_prob_by_value"):
        by_value = distribution.log_prob_by_value(tf.convert_to_tensor(x, tf.float32))
        event = distribution.event_shape.as_list()
        by_value.set_shape([*[None] * (by_value.shape.rank - len(event)), *event])
        return by_value
    # Not an instance of tfd.Independent where what it holds is of a class of our own.
    is_independent = hasattr(distribution, "reinterpreted_batch_ndims")
    if is_independent and distribution.distribution.event_shape.rank == 0:
        return distribution.distribution.log_prob(x)
    raise InvalidArgument(
        f"The log-density of each value is not known for {distribution.name}, only their sum; "
        "expected a tfd.Independent of single values, or a distribution with a method "
        "`log_prob_by_value(x)` that gives it, of the shape of x."
    )


def log_prob_by_level(
    distribution: tfd.Distribution, x: tf.Tensor, values: Sequence[float]
) -> tf.Tensor:
    """Return log p of every value that each place of x may have, `[..., *event, L]`.

    Where the values on the last axis depend on each other, each is given those before it in x; see
    `log_prob_by_value`.

    Args:
        distribution: of discrete values, with a method `log_prob_by_level`, or of values that are
            independent.
        x: `[..., *event]`.
        values: the L values, `[L]`: levels from 0 to 1, or counts.

    Raises:
        InvalidArgument: a distribution whose log p of each value is not known.
    """
    if hasattr(distribution, "log_prob_by_level"):
        return distribution.log_prob_by_level(x, values)
    event = distribution.event_shape.as_list()
    shape = [len(values), *[1] * len(distribution.batch_shape)]
    each = tf.reshape(tf.constant(values, tf.float32), shape + [1] * len(event))
    by_level = log_prob_by_value(distribution, tf.broadcast_to(each, shape + event))
    return tf.transpose(by_level, [*range(1, len(by_level.shape)), 0])


def of_whole_batch(distribution: tfd.Distribution) -> tfd.Distribution:
    """Return independent normals for the examples of all replicas, given those of this replica.

    Args:
        distribution: of independent normals, with batch shape `[B]`; any other distribution is
            returned unchanged.
    """
    normal = getattr(distribution, "distribution", None)
    if not replicas.are_several() or not isinstance(normal, tfd.Normal):
        return distribution
    loc, scale = map(replicas.gather, (normal.loc, normal.scale))
    return tfd.Independent(tfd.Normal(loc, scale), len(distribution.event_shape))


def draw(
    distribution: tfd.Distribution,
    seed: tf.Tensor,
    index: tf.Tensor,
    temperature: float | tf.Tensor = 1.0,
) -> tf.Tensor:
    """Return draws number `index` of the stream `seed`, `[N, *event_shape]`.

    A function of its arguments alone, made of operators that LiteRT has: the same draws come out in
    Keras, in a SavedModel and on a device.

    - Normals: μ + T·σ·ε with ε ~ N(0, 1).
    - Discrete latents: harden(logits + T·g), with logistic or Gumbel noise g; T = 0 is the mode.
    - Independent values of the likelihoods of this package, such as counts, and of distributions
      with a method `draw_values(seed, index, shape, temperature)`, which gives `[N, *shape]`.

    Args:
        distribution: with batch shape `[]`, or `[N]`, a distribution for each draw.
        seed: `[2]` int32.
        index: `[N]` int32.
        temperature: T; 1 draws from the distribution, below 1 closer to its centre.

    Raises:
        InvalidArgument: a distribution of another kind.
    """
    if hasattr(distribution, "draw"):
        return distribution.draw(seed, index, temperature)
    shape = distribution.event_shape.as_list()
    size = math.prod(shape)
    if isinstance(distribution, DiscreteLatent):
        noise = tf.reshape(random.uniform(seed, index, size), [-1, *shape])
        return distribution.harden(distribution.perturb(noise, temperature))
    values = getattr(distribution, "distribution", None)
    drawn = of_values(values, seed, index, shape, temperature)
    if drawn is not None:
        return drawn
    raise InvalidArgument(
        f"No draws of {distribution.name} are known that a device can repeat; expected independent "
        "normals, bits or categories, or a distribution with a method `draw(seed, index, "
        "temperature)`."
    )
