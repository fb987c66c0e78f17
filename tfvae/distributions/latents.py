"""Distributions of latents, and chains of stochastic layers.

A discrete latent is made from uniform noise in two steps, noise → perturbed logits ζ → z, which is
what relaxations, control variates and antithetic pairs take hold of:

    z = harden(perturb(noise)),   soften(ζ, τ) → z as τ → 0,   perturb_given(z, noise) ~ ζ | z.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfvae import random

tfd = tfp.distributions


class NormalLatent(tfd.Normal):
    """Independent normals, whose draws are the same with and without XLA to within rounding."""

    def _sample_n(self, n, seed=None):
        shape = tf.concat([[n], self._batch_shape_tensor()], 0)
        noise = random.stateless_normal(shape, tfp.random.sanitize_seed(seed))
        return self.loc + self.scale * noise


class DiscreteLatent(tfd.Distribution):
    """Independent discrete variables with logits `[batch..., *event]`."""

    kind: str

    def __init__(self, logits, batch_ndims, name):
        self.logits = logits
        self._batch_ndims = batch_ndims
        super().__init__(
            dtype=tf.float32,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            name=name,
        )

    def _batch_shape(self):
        return self.logits.shape[: self._batch_ndims]

    def _batch_shape_tensor(self):
        return tf.shape(self.logits)[: self._batch_ndims]

    def _event_shape(self):
        return self.logits.shape[self._batch_ndims :]

    def _event_shape_tensor(self):
        return tf.constant(self.logits.shape[self._batch_ndims :].as_list(), tf.int32)

    def _sample_n(self, n, seed=None):
        return self.harden(self.perturb(self.draw_noise([n], seed)))

    def draw_noise(self, sample_shape, seed) -> tf.Tensor:
        """Return uniforms in (0, 1), `[*sample_shape, batch..., *event]`."""
        shape = tf.concat([tf.cast(sample_shape, tf.int32), tf.shape(self.logits)], 0)
        return random.stateless_uniform(shape, tfp.random.sanitize_seed(seed))

    def perturb(self, noise: tf.Tensor, temperature=1.0) -> tf.Tensor:
        """Return ζ, the logits perturbed by noise; differentiable in the logits.

        `temperature` scales the noise: at 0, harden(ζ) is the mode.
        """
        raise NotImplementedError

    def perturb_given(self, z: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """Return ζ̃ that has the law of ζ given harden(ζ) = z."""
        raise NotImplementedError

    def harden(self, perturbed: tf.Tensor) -> tf.Tensor:
        """Return the value z of perturbed logits."""
        raise NotImplementedError

    def soften(self, perturbed: tf.Tensor, temperature) -> tf.Tensor:
        """Return the continuous relaxation of z at a temperature above 0."""
        raise NotImplementedError

    def score(self, z: tf.Tensor) -> tf.Tensor:
        """Return ∂ log q(z) / ∂ logits."""
        return z - self._mean()

    def kl_by_unit(self, other: "DiscreteLatent") -> tf.Tensor:
        """Return KL(self‖other) of each variable, `[batch..., units...]`."""
        raise NotImplementedError


class BernoulliLatent(DiscreteLatent):
    """Independent bits, P(z_d = 1) = sigmoid(logits_d)."""

    kind = "bernoulli"

    def __init__(self, logits, batch_ndims=1, name="BernoulliLatent"):
        super().__init__(logits, batch_ndims, name)

    def _log_prob(self, z):
        terms = z * self.logits - tf.nn.softplus(self.logits)
        return _sum_last(terms, len(self.event_shape))

    def _mean(self):
        return tf.sigmoid(self.logits)

    def _variance(self):
        return tf.sigmoid(self.logits) * tf.sigmoid(-self.logits)

    def _mode(self):
        return self.harden(self.logits)

    def perturb(self, noise, temperature=1.0):  # noqa: D102
        return self.logits + temperature * _logit(noise)

    def perturb_given(self, z, noise):  # noqa: D102
        # Tucker et al. 2017, "REBAR", app. C, written with softplus.
        logit = _logit(noise)
        one = tf.nn.softplus(logit + tf.nn.softplus(self.logits))
        zero = -tf.nn.softplus(-logit + tf.nn.softplus(-self.logits))
        return tf.where(z > 0.5, one, zero)

    def harden(self, perturbed):  # noqa: D102
        return tf.cast(perturbed > 0.0, tf.float32)

    def soften(self, perturbed, temperature):  # noqa: D102
        return tf.sigmoid(perturbed / temperature)

    def kl_by_unit(self, other):  # noqa: D102
        difference = tf.sigmoid(self.logits) * (self.logits - other.logits)
        return difference - tf.nn.softplus(self.logits) + tf.nn.softplus(other.logits)


class CategoricalLatent(DiscreteLatent):
    """Independent one-hot vectors along the last axis, P(category c) = softmax(logits)_c."""

    kind = "categorical"

    def __init__(self, logits, batch_ndims=1, name="CategoricalLatent"):
        super().__init__(tf.nn.log_softmax(logits), batch_ndims, name)

    def _log_prob(self, z):
        return _sum_last(z * self.logits, len(self.event_shape))

    def _mean(self):
        return tf.exp(self.logits)

    def _variance(self):
        return self._mean() * (1.0 - self._mean())

    def _mode(self):
        return self.harden(self.logits)

    def perturb(self, noise, temperature=1.0):  # noqa: D102
        return self.logits + temperature * random.gumbel(noise)

    def perturb_given(self, z, noise):  # noqa: D102
        # Tucker et al. 2017, app. C; the largest of the perturbed logits is a standard Gumbel.
        log_exponential = tf.math.log(-tf.math.log(noise))
        log_largest = tf.reduce_sum(z * log_exponential, axis=-1, keepdims=True)
        # −log(E_i / p_i + E_k) with the larger term taken out of the sum, which may overflow.
        ratio = log_exponential - self.logits - log_largest
        below = -(log_largest + tf.nn.softplus(ratio))
        return tf.where(z > 0.5, -log_largest, below)

    def harden(self, perturbed):  # noqa: D102
        choice = tf.argmax(perturbed, axis=-1, output_type=tf.int32)
        return tf.one_hot(choice, self.logits.shape[-1])

    def soften(self, perturbed, temperature):  # noqa: D102
        return tf.nn.softmax(perturbed / temperature)

    def kl_by_unit(self, other):  # noqa: D102
        return tf.reduce_sum(self._mean() * (self.logits - other.logits), axis=-1)


@tfp.distributions.RegisterKL(BernoulliLatent, BernoulliLatent)
@tfp.distributions.RegisterKL(CategoricalLatent, CategoricalLatent)
def _kl_discrete(a, b, name=None):
    by_unit = a.kl_by_unit(b)
    return _sum_last(by_unit, len(by_unit.shape) - a._batch_ndims)


class Chain(tfd.Distribution):
    """Stochastic layers, each given the one before: d(z₁) d(z₂|z₁) … d(z_L|z_{L−1}).

    A value is the layers' values, flattened and joined on the last axis, so whatever handles one
    latent vector handles a chain. Layers are numbered in the order in which they are drawn; a value
    may hold them in the opposite order. So q(z₁|x) q(z₂|z₁) and p(z₂) p(z₁|z₂) are chains over the
    same values, [z₁, z₂].

    Args:
        first: the distribution of the layer that is drawn first.
        conditionals: functions from the value of the layer before, with any leading axes, to the
            distribution of the next, with those axes as its batch.
        event_shapes: the shapes of the layers.
        last_first: whether a value begins with the layer that is drawn last.
    """

    def __init__(
        self, first, conditionals: list[Callable], event_shapes, last_first=False, name="Chain"
    ):
        self._first = first
        self._conditionals = list(conditionals)
        self.event_shapes = [tuple(shape) for shape in event_shapes]
        self._sizes = [math.prod(shape) for shape in self.event_shapes]
        self._step = -1 if last_first else 1
        super().__init__(
            dtype=tf.float32,
            reparameterization_type=first.reparameterization_type,
            validate_args=False,
            allow_nan_stats=True,
            name=name,
        )

    @property
    def num_layers(self) -> int:
        """L."""
        return len(self.event_shapes)

    def layer(self, number: int, before: list):
        """Return the distribution of layer `number` (from 0), given the values of those before."""
        return self._conditionals[number - 1](before[-1]) if number else self._first

    def split(self, z: tf.Tensor) -> list[tf.Tensor]:
        """Return the values of the layers."""
        leading = tf.shape(z)[:-1]
        parts = tf.split(z, self._sizes[:: self._step], -1)[:: self._step]
        return [
            part if len(shape) == 1 else tf.reshape(part, tf.concat([leading, shape], 0))
            for part, shape in zip(parts, self.event_shapes, strict=True)
        ]

    def join(self, values: list[tf.Tensor]) -> tf.Tensor:
        """Return the value of the chain whose layers have these values."""
        flat = []
        for value, shape, size in zip(values, self.event_shapes, self._sizes, strict=True):
            leading = tf.shape(value)[: len(value.shape) - len(shape)]
            same = len(shape) == 1
            flat.append(value if same else tf.reshape(value, tf.concat([leading, [size]], 0)))
        return tf.concat(flat[:: self._step], -1)

    def complete(self, values: list, seed, sample_shape=()) -> tf.Tensor:
        """Return a value of the chain: the first layers as given, the others drawn."""
        values = list(values)
        seeds = tfp.random.split_seed(seed, n=self.num_layers)
        for number in range(len(values), self.num_layers):
            shape = () if number else sample_shape
            values.append(self.layer(number, values).sample(shape, seed=seeds[number]))
        return self.join(values)

    def _batch_shape(self):
        return self._first.batch_shape

    def _batch_shape_tensor(self):
        return self._first.batch_shape_tensor()

    def _event_shape(self):
        return tf.TensorShape([sum(self._sizes)])

    def _event_shape_tensor(self):
        return tf.constant([sum(self._sizes)], tf.int32)

    def _sample_n(self, n, seed=None):
        return self.complete([], seed, [n])

    def _log_prob(self, z):
        values = self.split(z)
        layers = [self.layer(number, values[:number]) for number in range(self.num_layers)]
        return sum(layer.log_prob(value) for layer, value in zip(layers, values, strict=True))

    def _through(self, statistic):
        values = []
        for number in range(self.num_layers):
            values.append(statistic(self.layer(number, values)))
        return self.join(values)

    def _mean(self):
        """Return the mean of each layer given the means of those before it."""
        return self._through(lambda layer: layer.mean())

    def _mode(self):
        """Return the mode of each layer given the modes of those before it."""
        return self._through(lambda layer: layer.mode())

    def _stddev(self):
        values, deviations = [], []
        for number in range(self.num_layers):
            layer = self.layer(number, values)
            values.append(layer.mean())
            deviations.append(layer.stddev())
        return self.join(deviations)


class SingleLayer:
    """One distribution with the interface of a `Chain` of one layer."""

    num_layers = 1

    def __init__(self, distribution):
        self._distribution = distribution

    def layer(self, number: int, before: list):  # noqa: D102
        return self._distribution

    def join(self, values):  # noqa: D102
        return values[0]

    def complete(self, values, seed, sample_shape=()):  # noqa: D102
        return values[0] if values else self._distribution.sample(sample_shape, seed=seed)

    def log_prob(self, z):  # noqa: D102
        return self._distribution.log_prob(z)


def as_chain(distribution) -> Chain | SingleLayer:
    """Return the distribution with the interface of a chain."""
    return distribution if isinstance(distribution, Chain) else SingleLayer(distribution)


def all_states(kind: str, event_shape) -> np.ndarray:
    """Return every value of a discrete latent, `[S, *event_shape]` float32.

    Args:
        kind: "bernoulli", with 2^D states, or "categorical", with C^D.
        event_shape: of one value; for "categorical" the last axis is the categories.
    """
    if kind == "bernoulli":
        digits, symbols = math.prod(event_shape), np.array([0.0, 1.0], np.float32)
    else:
        digits, symbols = math.prod(event_shape[:-1]), np.eye(event_shape[-1], dtype=np.float32)
    index = np.array(list(itertools.product(range(len(symbols)), repeat=digits)))
    return symbols[index].reshape(-1, *event_shape)


def num_states(kind: str, event_shape) -> int:
    """Return how many values a discrete latent takes."""
    if kind == "bernoulli":
        return 2 ** math.prod(event_shape)
    return event_shape[-1] ** math.prod(event_shape[:-1])


def _logit(noise):
    # 1 − noise is exact, noise being a multiple of 2^-24; and LiteRT has no log1p.
    return tf.math.log(noise) - tf.math.log(1.0 - noise)


def _sum_last(values, ndims):
    return tf.reduce_sum(values, axis=list(range(-ndims, 0)))
