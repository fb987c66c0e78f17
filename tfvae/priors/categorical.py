"""Independent categorical variables with learned probabilities."""

import tensorflow as tf

from tfvae.distributions import CategoricalLatent
from tfvae.priors.prior import REGISTRY, Prior


@REGISTRY.register("categorical")
class CategoricalPrior(Prior):
    """p(z) = Π_d Categorical(z_d; softmax(logits_d)), z_d one-hot, with learned logits, from 0.

    A draw is the argmax over the last axis of logits + T·g for Gumbel noise g: temperature 0 is the
    mode.
    """

    kind = "categorical"

    def build(self, latent_shape):
        super().build(latent_shape)
        self.logits = self.add_weight(
            shape=self.latent_shape, initializer="zeros", name="logits", dtype="float32"
        )

    def distribution(self):
        return CategoricalLatent(tf.convert_to_tensor(self.logits), batch_ndims=0)
