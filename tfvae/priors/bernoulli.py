"""Independent bits with learned probabilities."""

import tensorflow as tf

from tfvae.distributions import BernoulliLatent
from tfvae.priors.prior import REGISTRY, Prior


@REGISTRY.register("bernoulli")
class BernoulliPrior(Prior):
    """p(z) = Π_d Bernoulli(z_d; sigmoid(logit_d)) with learned logits, from 0.

    A draw is z_d = 1 where logit_d + T·ε_d > 0 for logistic noise ε: temperature 0 is the mode.
    """

    kind = "bernoulli"

    def build(self, latent_shape):
        super().build(latent_shape)
        self.logits = self.add_weight(
            shape=self.latent_shape, initializer="zeros", name="logits", dtype="float32"
        )

    def distribution(self):
        return BernoulliLatent(tf.convert_to_tensor(self.logits), batch_ndims=0)
