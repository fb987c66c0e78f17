"""Independent categorical variables with learned probabilities."""

import math

import tensorflow as tf

from tfvae import random
from tfvae.distributions import CategoricalLatent
from tfvae.priors.prior import PRIORS, Prior


@PRIORS.register("categorical")
class CategoricalPrior(Prior):
    """p(z) = Π_d Categorical(z_d; softmax(logits_d)), z_d one-hot, with learned logits, from 0.

    A draw is the argmax over the last axis of logits + T·g for Gumbel noise g: temperature 0 is the
    mode.
    """

    kind = "categorical"

    def build(self, latent_shape):  # noqa: D102
        super().build(latent_shape)
        self.logits = self.add_weight(
            shape=self.latent_shape, initializer="zeros", name="logits", dtype="float32"
        )

    def distribution(self):  # noqa: D102
        return CategoricalLatent(tf.convert_to_tensor(self.logits), batch_ndims=0)

    def sample(self, seed, index, temperature=1.0):  # noqa: D102
        noise = random.uniform(seed, index, math.prod(self.latent_shape))
        noise = tf.reshape(noise, [-1, *self.latent_shape])
        gumbel = -tf.math.log(-tf.math.log(noise))
        choice = tf.argmax(self.logits + temperature * gumbel, axis=-1, output_type=tf.int32)
        return tf.one_hot(choice, self.latent_shape[-1])
