"""Independent bits with learned probabilities."""

import math

import tensorflow as tf

from tfvae import random
from tfvae.distributions import BernoulliLatent
from tfvae.priors.prior import PRIORS, Prior


@PRIORS.register("bernoulli")
class BernoulliPrior(Prior):
    """p(z) = Π_d Bernoulli(z_d; sigmoid(logit_d)) with learned logits, from 0.

    A draw is z_d = 1 where logit_d + T·ε_d > 0 for logistic noise ε: temperature 0 is the mode.
    """

    kind = "bernoulli"

    def build(self, latent_shape):  # noqa: D102
        super().build(latent_shape)
        self.logits = self.add_weight(
            shape=self.latent_shape, initializer="zeros", name="logits", dtype="float32"
        )

    def distribution(self):  # noqa: D102
        return BernoulliLatent(tf.convert_to_tensor(self.logits), batch_ndims=0)

    def sample(self, seed, index, temperature=1.0):  # noqa: D102
        noise = random.uniform(seed, index, math.prod(self.latent_shape))
        noise = tf.reshape(noise, [-1, *self.latent_shape])
        logistic = tf.math.log(noise) - tf.math.log(1.0 - noise)
        return tf.cast(self.logits + temperature * logistic > 0.0, tf.float32)
