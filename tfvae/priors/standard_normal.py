"""The standard normal prior, N(0, I)."""

import tensorflow as tf

from tfvae.distributions import tfd
from tfvae.distributions.latents import NormalLatent
from tfvae.priors.prior import REGISTRY, Prior


@REGISTRY.register("standard_normal")
class StandardNormal(Prior):
    """p(z) = N(z; 0, I). Temperature scales the standard deviation of what is sampled."""

    def distribution(self):
        zeros = tf.zeros(self.latent_shape)
        normal = NormalLatent(zeros, tf.ones_like(zeros), batch_ndims=0)
        return tfd.Independent(normal, len(self.latent_shape))
