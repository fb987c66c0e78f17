"""Negative binomial counts with zeros in excess."""

import math

import tensorflow as tf

from tfvae import random
from tfvae.distributions import tfd
from tfvae.distributions.draws import of_values
from tfvae.likelihoods.likelihood import REGISTRY
from tfvae.likelihoods.negative_binomial import NegativeBinomial, counts_about

_STREAM_OF_ZEROS = 1 << 17  # beyond those of layers and of blocks of columns


@REGISTRY.register("zero_inflated_negative_binomial")
class ZeroInflatedNegativeBinomial(NegativeBinomial):
    """A count is 0 with probability π_d, and negative binomial otherwise.

    p(0) = π + (1 − π) NB(0), p(x) = (1 − π) NB(x) for x > 0, so the mean is (1 − π) μ. Parameters:
    log μ, then logit π, on the last axis.

    Args:
        dispersion: r, the inverse dispersion.

            - A number: fixed.
            - "shared": one trained number for all values and examples, from 1.
            - "by_value": a trained number for each value, such as a gene, from 1; the usual choice
              for single cells.
            - "learned": the network emits it, softplus(raw + log(e − 1)), behind log μ and logit π
              on the last axis.
        size_factor: None; or "total" for μ_d = s(x) · softmax(parameters)_d, where s(x) is the
            total Σ_d x_d of the example: z explains its composition and not its size. As s(x) is
            taken as given, log p compares such models with each other alone.
        target_sum: s of samples and reconstructions before the zeros, with a size factor.
    """

    params_per_value = 2
    unbounded_parameters = "log-means and logits"

    def distribution(self, params, batch_ndims):
        (log_mean, logit), r = self.split(params)
        return self.of_means(
            log_mean, batch_ndims, lambda value: _ZeroInflated(counts_about(value, r), logit)
        )


class _ZeroInflated(tfd.Distribution):
    """`counts`, but 0 with probability sigmoid(logit)."""

    def __init__(self, counts, logit):
        self._counts, self._logit = counts, logit
        super().__init__(
            dtype=tf.float32,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            name="ZeroInflated",
        )

    def _batch_shape(self):
        return tf.broadcast_static_shape(self._counts.batch_shape, self._logit.shape)

    def _batch_shape_tensor(self):
        return tf.broadcast_dynamic_shape(self._counts.batch_shape_tensor(), tf.shape(self._logit))

    def _event_shape(self):
        return tf.TensorShape([])

    def _event_shape_tensor(self):
        return tf.constant([], tf.int32)

    def _log_prob(self, x):
        log_count = tf.math.log_sigmoid(-self._logit) + self._counts.log_prob(x)
        at_zero = tf.reduce_logsumexp(
            tf.stack([tf.math.log_sigmoid(self._logit) + tf.zeros_like(log_count), log_count]), 0
        )
        return tf.where(x > 0.0, log_count, at_zero)

    def _sample_n(self, n, seed=None):
        kept = tfd.split_seed(seed, n=2)
        counts = self._counts.sample(n, seed=kept[0])
        is_zero = tfd.Bernoulli(logits=self._logit, dtype=tf.float32).sample(n, seed=kept[1])
        return counts * (1.0 - is_zero)

    def draw_values(self, seed, index, shape, temperature):
        """Return draws that a device repeats."""
        counts = of_values(self._counts, seed, index, shape, temperature)
        u = random.uniform(random.draw_seed(seed, _STREAM_OF_ZEROS), index, math.prod(shape))
        is_zero = tf.reshape(u, [-1, *shape]) < tf.sigmoid(self._logit)
        return tf.where(is_zero, 0.0, counts)

    def _mean(self):
        return tf.sigmoid(-self._logit) * self._counts.mean()
