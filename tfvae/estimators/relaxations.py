"""Biased estimators, which treat discrete latents as continuous.

The value of the surrogate is the objective at hard samples; only its gradient is that of the
relaxation.
"""

import keras
import tensorflow as tf

from tfvae import objectives
from tfvae._plain import float32
from tfvae._plain.checks import positive
from tfvae.bound import Bound
from tfvae.estimators.estimator import (
    REGISTRY,
    Estimate,
    Estimator,
    discrete_sampler,
)
from tfvae.joint import Joint
from tfvae.random import fold_in
from tfvae.surrogates import gradient_only


class Relaxation(Estimator):
    """The base of these estimators, with one gradient, through z, for encoder and decoder alike."""

    latents = ("bernoulli", "categorical")
    is_unbiased = False
    takes_exact_kl = True

    @classmethod
    def misfit(cls, posteriors, objective, num_samples):
        """Return why it does not fit the latents, objective or K; None if it does."""
        if objectives.for_encoder(objective) is not objective:
            return (
                "the objective gives the encoder a gradient of its own, and this estimator has one"
            )
        return super().misfit(posteriors, objective, num_samples)


@REGISTRY.register("gumbel_softmax")
class GumbelSoftmax(Relaxation):
    """The pathwise gradient of the objective at relaxed samples, soften(ζ, τ).

    log q and log p are extended linearly to relaxed values; where the objective is linear, the
    KL is exact. Biased, less so for small τ, where the variance grows.

    Source: Jang, Gu and Poole 2017, "Categorical reparameterization with Gumbel-softmax"; Maddison,
    Mnih and Teh 2017, "The Concrete distribution".

    Args:
        temperature: τ > 0 at the start. What is assigned to the attribute takes effect in the next
            step; files of weights and checkpoints keep it.
    """

    def __init__(self, temperature: float = 0.5, **kwargs):
        super().__init__(**kwargs)
        self._given = positive("temperature", temperature)
        # A weight, so that a callback may lower it while training, and files keep where it is.
        self._temperature = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(temperature),
            trainable=False,
            autocast=False,
            name="temperature",
            dtype="float32",
        )

    def load_own_variables(self, store):
        # A model that was compiled with another estimator has none: τ stays what was given.
        if len(store.keys()):
            super().load_own_variables(store)

    @property
    def temperature(self) -> float:
        """The temperature τ; what is assigned to it takes effect in the next step."""
        return float32.shortest(self._temperature.numpy())

    @temperature.setter
    def temperature(self, value):
        self._temperature.assign(positive("temperature", value))

    def estimate(self, bound, infer, context, seed, training):
        draw_hard, drawn = discrete_sampler(bound.num_samples, lambda n: fold_in(seed, n))
        hard = _estimate(bound, infer(draw_hard))

        def draw_soft(number, q):
            z = q.soften(q.perturb(drawn[number].noise), self._temperature.value)
            return z, q.log_prob(z)

        soft = _estimate(bound, infer(draw_soft))
        return hard._replace(
            surrogate=tf.stop_gradient(hard.surrogate) + gradient_only(soft.surrogate)
        )

    def get_config(self):
        return {**super().get_config(), "temperature": self._given}


@REGISTRY.register("straight_through")
class StraightThrough(Relaxation):
    """Hard samples, with the gradient of the mean: ∂z/∂logits is taken for ∂E[z]/∂logits. Biased.

    With f(z) = log p(x|z), the gradient in the mean p of a bit is p f′(1) + (1 − p) f′(0) where it
    should be f(1) − f(0); that of the KL is right in expectation. For an f that is affine in z the
    two agree. For a concave f with its maximum between 0 and 1, both slopes point to that
    maximum: f(1) may be above f(0), and the gradient may still lead away from z = 1.

    Source: Bengio, Léonard and Courville 2013, "Estimating or propagating gradients through
    stochastic neurons", sec. 4.
    """

    def estimate(self, bound, infer, context, seed, training):
        draw_hard, _ = discrete_sampler(bound.num_samples, lambda n: fold_in(seed, n))

        def draw(number, q):
            z = draw_hard(number, q)[0] + gradient_only(q.mean())
            return z, q.log_prob(z)

        return _estimate(bound, infer(draw))


def _estimate(bound: Bound, joint: Joint) -> Estimate:
    terms = bound.terms(joint)
    return Estimate(bound.objective(bound.log_weights(terms)), terms)
