"""Distributions of latents.

A discrete latent is made from uniform noise in two steps, noise → perturbed logits ζ → z, which
relaxations, control variates and antithetic pairs use separately:

    z = harden(perturb(noise)),   soften(ζ, τ) → z as τ → 0,   perturb_given(z, noise) ~ ζ | z.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfvae import random
from tfvae.distributions import tfd


class NormalLatent(tfd.Normal):
    """Independent normals, whose draws are the same with and without XLA to within rounding.

    Args:
        loc: μ, `[batch..., *event]`.
        scale: σ, of the same shape.
        batch_ndims: how many axes are the batch, of which the last is the examples; 0 for none.
    """

    draws_by_example = True

    def __init__(self, loc, scale, batch_ndims: int = 1, name="Normal", **kwargs):
        parameters = dict(loc=loc, scale=scale, batch_ndims=batch_ndims, name=name, **kwargs)
        super().__init__(loc, scale, name=name, **kwargs)
        self._parameters, self._batch_ndims = parameters, batch_ndims

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return super()._parameter_properties(dtype, num_classes)

    def _sample_n(self, n, seed=None):
        shape = tf.concat([[n], self._batch_shape_tensor()], 0)
        examples = self._batch_ndims or None  # behind the axis of the draws
        noise = random.stateless_normal(shape, tfd.sanitize_seed(seed), examples)
        return self.loc + self.scale * noise


class DiscreteLatent(tfd.Distribution):
    """Independent discrete variables with logits `[batch..., *event]`."""

    kind: str
    draws_by_example = True

    def __init__(self, logits: tf.Tensor, batch_ndims: int, name: str):
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

    def draw_noise(
        self, sample_shape: Sequence[int] | tf.Tensor, seed: int | tf.Tensor
    ) -> tf.Tensor:
        """Return uniforms in (0, 1), `[*sample_shape, batch..., *event]`."""
        shape = tf.concat([tf.cast(sample_shape, tf.int32), tf.shape(self.logits)], 0)
        examples = len(sample_shape) + self._batch_ndims - 1 if self._batch_ndims else None
        return random.stateless_uniform(shape, tfd.sanitize_seed(seed), examples)

    def perturb(self, noise: tf.Tensor, temperature: float | tf.Tensor = 1.0) -> tf.Tensor:
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

    def soften(self, perturbed: tf.Tensor, temperature: float | tf.Tensor) -> tf.Tensor:
        """Return the continuous relaxation of z at a temperature above 0."""
        raise NotImplementedError

    def score(self, z: tf.Tensor) -> tf.Tensor:
        """Return ∂ log q(z) / ∂ logits."""
        return z - self._mean()

    def kl_by_unit(self, other: "DiscreteLatent") -> tf.Tensor:
        """Return KL(self‖other) of each variable, `[batch..., units...]`; None of another kind."""
        raise NotImplementedError


class BernoulliLatent(DiscreteLatent):
    """Independent bits, P(z_d = 1) = sigmoid(logits_d)."""

    kind = "bernoulli"

    def __init__(self, logits: tf.Tensor, batch_ndims: int = 1, name: str = "BernoulliLatent"):
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

    def perturb(self, noise, temperature=1.0):
        return self.logits + temperature * _logit(noise)

    def perturb_given(self, z, noise):
        # Tucker et al. 2017, "REBAR", app. C, written with softplus.
        logit = _logit(noise)
        one = tf.nn.softplus(logit + tf.nn.softplus(self.logits))
        zero = -tf.nn.softplus(-logit + tf.nn.softplus(-self.logits))
        return tf.where(z > 0.5, one, zero)

    def harden(self, perturbed):
        return tf.cast(perturbed > 0.0, tf.float32)

    def soften(self, perturbed, temperature):
        return tf.sigmoid(perturbed / temperature)

    def kl_by_unit(self, other):
        if not isinstance(other, BernoulliLatent):
            return None
        difference = tf.sigmoid(self.logits) * (self.logits - other.logits)
        return difference - tf.nn.softplus(self.logits) + tf.nn.softplus(other.logits)


class CategoricalLatent(DiscreteLatent):
    """Independent one-hot vectors along the last axis, P(category c) = softmax(logits)_c."""

    kind = "categorical"

    def __init__(self, logits: tf.Tensor, batch_ndims: int = 1, name: str = "CategoricalLatent"):
        super().__init__(tf.nn.log_softmax(logits), batch_ndims, name)

    def _log_prob(self, z):
        return _sum_last(z * self.logits, len(self.event_shape))

    def _mean(self):
        return tf.exp(self.logits)

    def _variance(self):
        return self._mean() * (1.0 - self._mean())

    def _mode(self):
        return self.harden(self.logits)

    def perturb(self, noise, temperature=1.0):
        return self.logits + temperature * random.gumbel(noise)

    def perturb_given(self, z, noise):
        # Tucker et al. 2017, app. C; the largest of the perturbed logits is a standard Gumbel.
        log_exponential = tf.math.log(-tf.math.log(noise))
        log_largest = tf.reduce_sum(z * log_exponential, axis=-1, keepdims=True)
        # −log(E_i / p_i + E_k) with the larger term taken out of the sum, which may overflow.
        ratio = log_exponential - self.logits - log_largest
        below = -(log_largest + tf.nn.softplus(ratio))
        return tf.where(z > 0.5, -log_largest, below)

    def harden(self, perturbed):
        choice = tf.argmax(perturbed, axis=-1, output_type=tf.int32)
        return tf.one_hot(choice, self.logits.shape[-1])

    def soften(self, perturbed, temperature):
        return tf.nn.softmax(perturbed / temperature)

    def kl_by_unit(self, other):
        if not isinstance(other, CategoricalLatent):
            return None
        return tf.reduce_sum(self._mean() * (self.logits - other.logits), axis=-1)


@tfd.RegisterKL(BernoulliLatent, BernoulliLatent)
@tfd.RegisterKL(CategoricalLatent, CategoricalLatent)
def _kl_discrete(a, b, name=None):
    by_unit = a.kl_by_unit(b)
    return _sum_last(by_unit, len(by_unit.shape) - a._batch_ndims)


def all_states(kind: str, event_shape: tuple[int, ...]) -> np.ndarray:
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


def num_states(kind: str, event_shape: tuple[int, ...]) -> int:
    """Return how many values a discrete latent takes."""
    if kind == "bernoulli":
        return 2 ** math.prod(event_shape)
    return event_shape[-1] ** math.prod(event_shape[:-1])


def _logit(noise):
    # 1 − noise is exact, noise being a multiple of 2^-24; and LiteRT has no log1p.
    return tf.math.log(noise) - tf.math.log(1.0 - noise)


def _sum_last(values, ndims):
    return tf.reduce_sum(values, axis=list(range(-ndims, 0)))
