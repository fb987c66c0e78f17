"""The law of a vector that a flow has moved."""

import math

import tensorflow as tf
import tensorflow_probability as tfp

from tfvae.distributions import protocol

tfd = tfp.distributions


class FlowDistribution(tfd.Distribution):
    """z = f(u; h) with u ~ base: log p(z) = log p(u) − log |det ∂z/∂u|.

    Source: Rezende and Mohamed 2015, "Variational inference with normalizing flows", eq. 5.

    Args:
        base: independent values with `event_shape`; the flow moves them as one vector.
        flow: a built `tfvae.flows.Flow`.
        context: h, `[..., C]`, with the batch axes of `base`.
    """

    def __init__(self, base: tfd.Distribution, flow, context=None, name="FlowDistribution"):
        self.base, self.flow, self.context = base, flow, context
        self._event = tuple(base.event_shape.as_list())
        super().__init__(
            dtype=tf.float32,
            reparameterization_type=base.reparameterization_type,
            validate_args=False,
            allow_nan_stats=True,
            name=name,
        )

    def _batch_shape(self):
        return self.base.batch_shape

    def _batch_shape_tensor(self):
        return self.base.batch_shape_tensor()

    def _event_shape(self):
        return tf.TensorShape(self._event)

    def _event_shape_tensor(self):
        return tf.constant(self._event, tf.int32)

    def _flat(self, values):
        if len(self._event) == 1:
            return values
        leading = tf.shape(values)[: -len(self._event)]
        return tf.reshape(values, tf.concat([leading, [math.prod(self._event)]], 0))

    def _shaped(self, values):
        if len(self._event) == 1:
            return values
        return tf.reshape(values, tf.concat([tf.shape(values)[:-1], self._event], 0))

    def sample_and_log_prob(self, sample_shape, seed=None):
        """Return draws and their log-density, in one pass through the flow."""
        u = self.base.sample(sample_shape, seed=seed)
        z, log_det = self.flow.forward(self._flat(u), self.context)
        return self._shaped(z), self.base.log_prob(u) - log_det

    def _sample_n(self, n, seed=None):
        return self.sample_and_log_prob([n], seed)[0]

    def _log_prob(self, z):
        u, log_det = self.flow.inverse(self._flat(z), self.context)
        return self.base.log_prob(self._shaped(u)) + log_det

    def draw(self, seed, index, temperature=1.0):
        """Return draws number `index` of the stream `seed`; T scales the spread of the base."""
        u = protocol.draw(self.base, seed, index, temperature)
        return self._shaped(self.flow.forward(self._flat(u), self.context)[0])

    def representative(self):
        """Return the image of the mean of the base."""
        z, _ = self.flow.forward(self._flat(protocol.representative(self.base)), self.context)
        return self._shaped(z)
