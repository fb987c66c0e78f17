"""A mixture of diagonal normals over vectors or grids."""

import math

import tensorflow as tf

from tfvae import random
from tfvae.distributions import tfd
from tfvae.surrogates import gradient_only


class NormalMixture(tfd.Distribution):
    """p(z) = Σ_c w_c N(z; μ_c, diag(σ_c²)), for any number C of components.

    The density takes no memory of C·D for each z. With r_c = 1/σ_c² the squares are

        Σ_d (z_d − μ_cd)² r_cd = Σ_d z_d² r_cd − 2 Σ_d z_d μ_cd r_cd + Σ_d μ_cd² r_cd,

    two matrix products, with z and μ measured from the mean Σ_c w_c μ_c: the terms cancel, and what
    is lost is about 2^-24 of the largest. On GPUs that support TF32 it is about 2^-11, the rounding
    of the factors of a product, unless
    `tf.config.experimental.enable_tensor_float_32_execution(False)` is called.

    Args:
        logits: `[C]`, log w_c up to a constant.
        loc: `[C, *event_shape]`, μ.
        log_scale: `[C, *event_shape]`, log σ.
    """

    draws_by_example = True

    def __init__(self, logits, loc, log_scale, name="NormalMixture"):
        self.log_weights = tf.nn.log_softmax(logits)
        self.loc, self.log_scale = loc, log_scale
        super().__init__(
            dtype=loc.dtype,
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

    def log_components(self, z: tf.Tensor) -> tf.Tensor:
        """Return log w_c + log N(z; μ_c, σ_c²), `[..., C]`, for z `[..., *event_shape]`."""
        num_components, *event_shape = self.loc.shape.as_list()
        size = math.prod(event_shape)
        leading = tf.shape(z)[: len(z.shape) - len(event_shape)]
        loc, log_scale = (tf.reshape(p, [-1, size]) for p in (self.loc, self.log_scale))  # [C, D]
        centre = tf.linalg.matvec(loc, tf.stop_gradient(tf.exp(self.log_weights)), transpose_a=True)
        centre = tf.stop_gradient(centre)  # [D]
        z, loc, r = tf.reshape(z, [-1, size]) - centre, loc - centre, tf.exp(-2.0 * log_scale)
        squares = tf.matmul(tf.concat([z**2, z], 1), tf.concat([r, -2.0 * loc * r], 1), False, True)
        squares += tf.reduce_sum(loc**2 * r, 1)  # [N, C]
        log_normalizer = tf.reduce_sum(log_scale, 1) + 0.5 * size * math.log(2.0 * math.pi)
        log_components = self.log_weights - log_normalizer - 0.5 * squares
        return tf.reshape(log_components, tf.concat([leading, [num_components]], 0))

    def _log_prob(self, z):
        return tf.reduce_logsumexp(self.log_components(z), -1)

    def _mean(self):
        weights = tf.reshape(tf.exp(self.log_weights), [-1] + [1] * len(self.event_shape))
        return tf.reduce_sum(weights * self.loc, 0)

    def _sample_n(self, n, seed=None):
        return self._draw(n, seed)[0]

    def _draw(self, n, seed):
        """Return n draws, and the components that they are of."""
        seed = tfd.sanitize_seed(seed)
        component = self._component(random.stateless_uniform([n], random.fold_in(seed, 0)))
        noise = random.stateless_normal([n, *self.event_shape], random.fold_in(seed, 1))
        return self._of_component(component, noise), component

    def differentiable_sample(self, sample_shape, seed):
        """Return z, which has the gradient of μ and σ, and log v, which has that of the weights.

        See `tfvae.distributions.differentiable_sample`.
        """
        shape = tf.cast(sample_shape, tf.int32)
        z, component = self._draw(tf.reduce_prod(shape), seed)
        log_w = tf.reshape(tf.gather(self.log_weights, component), shape)
        z = tf.reshape(z, tf.concat([shape, self.event_shape_tensor()], 0))
        return z, gradient_only(log_w)

    def draw(self, seed: tf.Tensor, index: tf.Tensor, temperature=1.0) -> tf.Tensor:
        """Return draws number `index` of the stream `seed`, `[N, *event_shape]`.

        Made of operators that LiteRT has. A component is drawn with weights in proportion to
        w_c^(1/T), and then μ_c + T·σ_c·ε: temperature 0 gives the mean of the heaviest component.

        Args:
            seed: `[2]` int32.
            index: `[N]` int32.
            temperature: T.
        """
        shape = self.event_shape.as_list()
        size = math.prod(shape)
        noise = tf.reshape(random.normal(seed, index, size), [-1, *shape])
        # The generator makes numbers in pairs; the last of size + 2 is in one that no normal uses.
        uniform = random.uniform(seed, index, size + 2)[:, -1]
        return self._of_component(self._component(uniform, temperature), temperature * noise)

    def _component(self, uniform, temperature=1.0):
        """Return the numbers of components, `[N]`, by the inverse of their cumulative weights."""
        above_heaviest = self.log_weights - tf.reduce_max(self.log_weights)
        cold = tf.maximum(tf.cast(temperature, self.dtype), 1e-6)
        cumulative = tf.cumsum(tf.nn.softmax(above_heaviest / cold))[:-1]  # [C − 1]
        above = tf.cast(uniform[:, tf.newaxis] > cumulative, tf.int32)
        return tf.reduce_sum(above, 1)

    def _of_component(self, component, noise):
        loc, log_scale = (tf.gather(p, component) for p in (self.loc, self.log_scale))
        return loc + tf.exp(log_scale) * noise
