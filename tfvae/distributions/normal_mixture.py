"""Mixtures of independent normals over vectors, without a tensor of samples × components × D."""

import math

import tensorflow as tf
import tensorflow_probability as tfp

from tfvae import random

tfd = tfp.distributions


class NormalMixture(tfd.Distribution):
    """p(z) = Σ_c w_c Π_d N(z_d; μ_cd, σ_cd²).

    With the square expanded, log N(z; μ_c, σ_c²) for all z and c is two matrix products,

        −½ Σ_d z_d²/σ_cd² + Σ_d z_d μ_cd/σ_cd² − ½ Σ_d (μ_cd²/σ_cd² + log 2πσ_cd²),

    so the largest tensor is `[..., C]`. The terms cancel in part: in float32 the error is about
    1e-7 · max_d z_d²/σ_cd² nats, which is why scales should be kept away from 0.

    Args:
        logits: log w up to a constant, `[C]`.
        loc: μ, `[C, *event_shape]`.
        scale: σ, `[C, *event_shape]`.
    """

    def __init__(self, logits, loc, scale, name="NormalMixture"):
        self.logits, self.loc, self.scale = logits, loc, scale
        super().__init__(
            dtype=tf.float32,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            name=name,
        )

    def _batch_shape(self):
        return tf.TensorShape([])

    def _batch_shape_tensor(self):
        return tf.constant([], tf.int32)

    def _event_shape(self):
        return self.loc.shape[1:]

    def _event_shape_tensor(self):
        return tf.constant(self.loc.shape[1:].as_list(), tf.int32)

    def _log_prob(self, z):
        event = self.loc.shape[1:].as_list()
        size = math.prod(event)
        loc, scale = (tf.reshape(part, [-1, size]) for part in (self.loc, self.scale))  # [C, D]
        leading = tf.shape(z)[: len(z.shape) - len(event)]
        flat = tf.reshape(z, [-1, size])  # [N, D]
        precision = scale**-2
        square = tf.matmul(flat**2, precision, transpose_b=True)  # [N, C]
        linear = tf.matmul(flat, loc * precision, transpose_b=True)
        constant = tf.reduce_sum(loc**2 * precision + tf.math.log(2 * math.pi * scale**2), -1)
        log_w = tf.nn.log_softmax(self.logits)
        by_component = log_w - 0.5 * (square - 2.0 * linear + constant)
        return tf.reshape(tf.reduce_logsumexp(by_component, -1), leading)

    def component(self, index) -> tuple[tf.Tensor, tf.Tensor]:
        """Return μ and σ of the components `index` `[N]`, each `[N, *event_shape]`."""
        return tf.gather(self.loc, index), tf.gather(self.scale, index)

    def _sample_n(self, n, seed=None):
        seeds = tfp.random.split_seed(seed, n=2)
        index = tf.random.stateless_categorical(self.logits[tf.newaxis], n, seeds[0])[0]
        loc, scale = self.component(index)
        return loc + scale * tf.random.stateless_normal(tf.shape(loc), seeds[1])

    def draw(self, seed, index, temperature=1.0):
        """Return draws number `index` of the stream `seed`, `[N, *event_shape]`.

        A component is drawn by its weight, whatever the temperature T; then z = μ_c + T·σ_c·ε.
        """
        uniform = random.uniform(random.draw_seed(seed, 1), index, 1)  # [N, 1]
        ends = tf.cumsum(tf.nn.softmax(self.logits))[:-1]
        chosen = tf.reduce_sum(tf.cast(uniform >= ends, tf.int32), -1)
        loc, scale = self.component(chosen)
        event = loc.shape[1:].as_list()
        noise = random.normal(seed, index, math.prod(event))
        return loc + temperature * scale * tf.reshape(noise, [-1, *event])
