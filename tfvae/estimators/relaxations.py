"""Biased estimators that pretend discrete latents to be continuous: what others are compared with.

The value of the surrogate is the objective at hard samples; only its gradient is that of the
relaxation.
"""

import tensorflow as tf
import tensorflow_probability as tfp

from tfvae import objectives
from tfvae.checks import positive
from tfvae.distributions import as_chain
from tfvae.estimators.estimator import REGISTRY, Estimator, zero
from tfvae.estimators.pathwise import with_kl


class Relaxation(Estimator):
    """What these estimators share: one gradient, through z, for encoder and decoder alike."""

    latents = ("bernoulli", "categorical")
    is_unbiased = False
    takes_exact_kl = True

    @classmethod
    def misfit(cls, kinds, objective, num_samples):
        """Return why it does not fit the latents, objective or K; None if it does."""
        if objectives.for_encoder(objective) is not objective:
            return (
                "the objective gives the encoder a gradient of its own, and this estimator has one"
            )
        return super().misfit(kinds, objective, num_samples)


@REGISTRY.register("gumbel_softmax")
class GumbelSoftmax(Relaxation):
    """The pathwise gradient of the objective at relaxed samples, soften(ζ, τ).

    log q and log p are extended linearly to relaxed values; where the objective is linear, the
    KL is exact. Biased, less so for small τ, where the variance grows.

    Source: Jang, Gu and Poole 2017, "Categorical reparameterization with Gumbel-softmax"; Maddison,
    Mnih and Teh 2017, "The Concrete distribution".

    Args:
        temperature: τ > 0.
    """

    def __init__(self, temperature: float = 0.5, **kwargs):
        super().__init__(**kwargs)
        self.temperature = positive("temperature", temperature)

    def estimate(self, objective, model, x, num_samples, beta, seed, training):  # noqa: D102
        q = model.q_z_given_x(x, training=training)
        chain = as_chain(q)
        seeds = tfp.random.split_seed(seed, n=chain.num_layers)
        soft, hard = [], []
        for number in range(chain.num_layers):
            layer = chain.layer(number, soft)
            noise = layer.draw_noise(() if number else (num_samples,), seeds[number])
            soft.append(layer.soften(layer.perturb(noise), self.temperature))
            layer = chain.layer(number, hard)
            hard.append(layer.harden(layer.perturb(noise)))
        relaxed = with_kl(objective, model, x, chain.join(soft), q, beta, training)
        z = tf.stop_gradient(chain.join(hard))
        estimate = with_kl(objective, model, x, z, q, beta, training)
        value = tf.stop_gradient(estimate.surrogate)
        return estimate._replace(surrogate=value + zero(relaxed.surrogate))

    def get_config(self):  # noqa: D102
        return {**super().get_config(), "temperature": self.temperature}


@REGISTRY.register("straight_through")
class StraightThrough(Relaxation):
    """Hard samples, with the gradient of the mean: ∂z/∂logits is taken for ∂E[z]/∂logits. Biased.

    Source: Bengio, Léonard and Courville 2013, "Estimating or propagating gradients through
    stochastic neurons", sec. 4.
    """

    def estimate(self, objective, model, x, num_samples, beta, seed, training):  # noqa: D102
        q = model.q_z_given_x(x, training=training)
        chain = as_chain(q)
        seeds = tfp.random.split_seed(seed, n=chain.num_layers)
        values = []
        for number in range(chain.num_layers):
            layer = chain.layer(number, values)
            noise = layer.draw_noise(() if number else (num_samples,), seeds[number])
            values.append(layer.harden(layer.perturb(noise)) + zero(layer.mean()))
        return with_kl(objective, model, x, chain.join(values), q, beta, training)
