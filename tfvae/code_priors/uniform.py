"""The uniform prior over codes, which a VQ-VAE has until another one is fitted."""

import tensorflow as tf

from tfvae.code_priors.code_prior import REGISTRY, CodePrior


@REGISTRY.register("uniform")
class UniformCodePrior(CodePrior):
    """p(codes) = K^−S: every code of every one of the S positions is as likely as any other.

    It has nothing to learn; a learned prior is compared with its log p(codes) = −S log K nats.

    Args:
        codebook_size: K.
        num_classes: see `CodePrior`; classes change nothing.
        seed: see `CodePrior`.
    """

    def network(self, codes, classes, dropout):
        return tf.zeros([*tf.unstack(tf.shape(codes)), self.codebook_size])

    def first_state(self, classes):
        return classes

    def step(self, state, position, previous):
        return tf.zeros([tf.shape(state)[0], self.codebook_size]), state
