"""The coder of examples and latents: bits-back coding with asymmetric numeral systems (BB-ANS).

The file is a stack of bits, of which an entropy coder can pop symbols of any distribution. To write
an example x,

    pop z under q(z|x),    push x under p(x|z),    push z under p(z).

The stack grows by log q(z|x) − log p(x|z) − log p(z). Bits that look random, popped under q, give a
draw z ~ q(z|x), so that on average it grows by −ELBO(x) nats: by what the model was trained to make
small. To read x, pop z and then x, and push z under q(z|x), which now can be computed; this gives
back the bits that chose z, in which the examples before are written.

The bits for the first z come from a seeded generator. They are a cost of the whole file and not of
an example, so that many examples belong in one file. Batches start at one example and grow, see
`growing_batches`: a batch pops all of its z from what the batches before it have pushed.

A continuous latent is one of 2^precision buckets of equal mass under its prior, and stands for the
median of its bucket. Then log q − log p is that of the buckets, which for buckets much narrower
than q(z|x) is that of the densities: the bits that finer buckets cost under p(z) are regained when
z is popped under q(z|x), except those that the first examples pop from the seeded bits. Under a
mixture prior the buckets are those of the normal with the mixture's mean and variance, and the
component is one more latent, whose posterior p(component|z) is known. Discrete latents are coded
as they are.

Reading repeats the arithmetic of the networks and must arrive at the same bits. Writer and reader
run them in batches of one size, filled up with zeros, in graphs that are traced for that size
alone; see `range_coder`. Another machine may still round differently, which the checksum shows.

Sources: Townsend, Bird and Barber 2019, "Practical lossless compression with latent variables using
bits back coding"; Duda 2009, "Asymmetric numeral systems"; the coder is `constriction`.
"""

import math
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tfvae import distributions
from tfvae.codec.bit_stack import Continuous, Discrete, Stack, Table
from tfvae.distributions import BernoulliLatent, CategoricalLatent, tfd
from tfvae.distributions.normal_mixture import NormalMixture
from tfvae.errors import InvalidArgument
from tfvae.models import VAE

_EARLIER = 8  # a batch has at most one example for so many examples before it


def growing_batches(count: int, most: int) -> Iterator[slice]:
    """Yield the rows of each batch: one example, and more as the stack grows, up to `most`."""
    start = 0
    while start < count:
        size = min(most, max(1, start // _EARLIER), count - start)
        yield slice(start, start + size)
        start += size


class Coder:
    """Pushes the levels of batches of examples on a stack, and pops them.

    Args:
        model: a VAE.
        values: of the levels, `[L]`.
        batch_size: rows of every tensor that networks are given, the last ones zeros.
        precision: of continuous latents.
    """

    def __init__(self, model: VAE, values: np.ndarray, batch_size: int, precision: int):
        self._model, self._values = model, values
        self._batch_size, self._precision = batch_size, precision
        self._one_hot = model.posterior.kind == "categorical"
        self._num_latents = math.prod(model.latent_shape[: -1 if self._one_hot else None])
        # Where the channels of a site depend on each other, one is coded after the other.
        alone = model.likelihood.missing_unit == "site"
        channels = range(model.x_shape[-1])
        self._parts = [slice(c, c + 1) for c in channels] if alone else [slice(0, None)]
        # Graphs of this object: a shared one may have been traced for tensors of any size.
        graphs = (self._p_z, self._q_z, self._x_parameters, self._p_x)
        self._p_z, self._q_z, self._x_parameters, self._p_x = (
            tf.function(graph, autograph=False) for graph in graphs
        )
        self._p_z_of_all = None if model.prior.takes_condition else _arrays(self._p_z(None))

    def push(self, stack: Stack, levels: np.ndarray, y: np.ndarray | None) -> None:
        """Push examples `[rows, *x_shape]`: z is popped, and x and z are pushed."""
        y = self._filled(y)
        rows, latents = len(levels), self._latents(len(levels), y)
        stack.reserve(rows * (2 * self._num_latents + 1))
        z = self._posterior(latents, levels, y).pop(stack).reshape(rows, -1)
        params = self._x_parameters(self._filled(latents.values(z)), y)
        for part in self._parts[::-1]:
            self._likelihood(params, levels, part).push(stack, levels[..., part].ravel())
        latents.push(stack, z)

    def pop(self, stack: Stack, rows: int, y: np.ndarray | None) -> np.ndarray:
        """Pop examples: z and x are popped, and z is pushed; the inverse of `push`."""
        y = self._filled(y)
        latents, levels = self._latents(rows, y), np.zeros([rows, *self._model.x_shape], np.int32)
        z = latents.pop(stack, (rows, self._num_latents))
        params = self._x_parameters(self._filled(latents.values(z)), y)
        for part in self._parts:
            here = self._likelihood(params, levels, part).pop(stack)
            levels[..., part] = here.reshape(levels[..., part].shape)
        stack.check()
        self._posterior(latents, levels, y).push(stack, z.ravel())
        return levels

    def _latents(self, rows, y):
        """Return the latents of so many examples, given p(z)."""
        numbers = self._p_z_of_all
        if numbers is None:
            numbers = [part[:rows] for part in _arrays(self._p_z(y))]
        if len(numbers) == 1:
            return Discrete(*numbers, self._one_hot)
        return Continuous(numbers, self._precision)

    def _posterior(self, latents, levels, y):
        """Return the code of z under q(z|x)."""
        numbers = _arrays(self._q_z(self._filled(self._values[levels]), y))
        return latents.posterior(*(part[: len(levels)] for part in numbers))

    def _likelihood(self, params, levels, part):
        """Return the code of channels of x under p(x|z) and the channels before them."""
        before = levels.copy()
        before[..., part.start :] = 0  # as they are for a reader
        alone = part.start if len(self._parts) > 1 else None
        log_p = self._p_x(params, self._filled(self._values[before]), alone).numpy()
        return Table(log_p[: len(levels)].reshape(-1, log_p.shape[-1]))

    def _filled(self, rows):
        """Return rows and zeros as a tensor of `batch_size` rows; None for None."""
        if rows is None:
            return None
        zeros = np.zeros([self._batch_size - len(rows), *rows.shape[1:]], rows.dtype)
        return tf.constant(np.concatenate([rows, zeros]))

    # Graphs.

    def _p_z(self, y):
        return _numbers(self._model.p_z(y), self._model.prior)

    def _q_z(self, x, y):
        return _numbers(self._model.q_z_given_x(x, condition=y), self._model.posterior)

    def _x_parameters(self, z, y):
        z = tf.reshape(z, [self._batch_size, *self._model.latent_shape])
        return self._model.x_parameters(z, condition=y)

    def _p_x(self, params, x, channel):
        p_x = self._model.likelihood(params)
        by_level = distributions.log_prob_by_level(p_x, x, self._values)  # [B, ..., C, L]
        if channel is None:
            return by_level
        # The graph then computes this channel alone, where an ellipsis would keep the others.
        return by_level[(*[slice(None)] * (len(by_level.shape) - 2), channel)]


def _arrays(numbers):
    return [part.numpy().astype(np.float64) for part in numbers]


def _numbers(distribution, part) -> tuple[tf.Tensor, ...]:
    """Return the numbers by which `Continuous` and `Discrete` take a distribution.

    Raises:
        InvalidArgument: it is of another kind, with the class of the part that it comes from.
    """
    if isinstance(distribution, CategoricalLatent):
        num_categories = distribution.event_shape[-1]
        units = math.prod(distribution.event_shape[:-1])
        return (tf.reshape(distribution.logits, [-1, units, num_categories]),)
    if isinstance(distribution, BernoulliLatent):
        logits = tf.reshape(distribution.logits, [-1, distribution.event_shape.num_elements()])
        return (tf.stack([tf.math.log_sigmoid(-logits), tf.math.log_sigmoid(logits)], -1),)
    size = distribution.event_shape.num_elements()
    if isinstance(distribution, NormalMixture):
        parts = distribution.loc, distribution.log_scale
        return distribution.log_weights, *(tf.reshape(part, [-1, size]) for part in parts)
    # Not an instance of tfd.Independent where what it holds is of a class of our own.
    is_independent = hasattr(distribution, "reinterpreted_batch_ndims")
    if is_independent and isinstance(distribution.distribution, tfd.Normal):
        normal = distribution.distribution
        return tuple(tf.reshape(part, [-1, size]) for part in (normal.loc, normal.scale))
    raise InvalidArgument(
        f"Bits-back coding cannot draw from {type(part).__name__}, whose units are not independent "
        "given what is known; expected the posterior 'diagonal_normal', 'bernoulli' or "
        "'categorical', and a prior 'standard_normal', 'conditional_normal', 'mixture', 'vamp', "
        "'bernoulli' or 'categorical'."
    )
