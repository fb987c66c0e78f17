"""The uniform prior over codes, which a VQ-VAE has until another one is fitted."""

import math

import tensorflow as tf

from tfvae.code_priors import sampling
from tfvae.code_priors.code_prior import REGISTRY, CodePrior
from tfvae.random import whole


@REGISTRY.register("uniform")
class UniformCodePrior(CodePrior):
    """p(codes) = K^−S: every code of every one of the S positions is as likely as any other.

    It has nothing to learn; a learned prior is compared with its log p(codes) = −S log K nats. That
    and draws take no memory for each of the K codes, only logits do.

    Args:
        codebook_size: K.
        num_classes: see `CodePrior`; classes change nothing.
        seed: see `CodePrior`.
    """

    def network(self, codes, classes, dropout):
        return tf.zeros([*tf.unstack(tf.shape(codes)), self.codebook_size])

    def log_prob(self, codes, condition=None, training=False):
        count = tf.shape(self._tensor(codes))[0]
        self._classes(condition, count)
        log_p = tf.fill([count], -self.num_positions * math.log(self.codebook_size))
        return self.possible(codes, log_p)

    def draw(
        self, seed, index, temperature=1.0, condition=None, top_k=None, top_p=None, cached=True
    ):
        self._check_built()
        sampling.check_options(temperature, top_k, top_p, self.codebook_size)
        self._classes(condition, tf.shape(index)[0])
        # Of codes that are equally probable, the first count as more probable.
        count = self.codebook_size if top_k is None else top_k
        if top_p is not None:
            count = math.ceil(top_p * count)
        codes = whole(seed, index, self.num_positions, count)
        codes = tf.where(tf.cast(temperature, tf.float32) > 0, codes, 0)
        return tf.reshape(codes, [-1, *self.code_shape])

    def first_state(self, classes):
        return classes

    def step(self, state, position, previous):
        return tf.zeros([tf.shape(state)[0], self.codebook_size]), state
