"""The standard normal prior, N(0, I)."""

import tensorflow as tf

from tfvae.distributions import tfd
from tfvae.priors.prior import REGISTRY, Prior


@REGISTRY.register("standard_normal")
class StandardNormal(Prior):
    """p(z) = N(z; 0, I). Temperature scales the standard deviation of what is sampled."""

    def distribution(self):
        return tfd.Independent(
            tfd.Normal(tf.zeros(self.latent_shape), tf.ones(self.latent_shape)),
            len(self.latent_shape),
        )
