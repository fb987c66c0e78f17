"""Distributions that are the image of another one under an invertible map."""

import math

import tensorflow as tf

from tfvae import random
from tfvae.distributions import tfd
from tfvae.distributions.protocol import draws_by_example
from tfvae.errors import InvalidArgument


class FlowDistribution(tfd.Distribution):
    """The law of z = f(u; context), u ~ base:  log p(z) = log p(u) − log|det ∂z/∂u|.

    `log_prob` inverts the flow. `experimental_sample_and_log_prob` computes log p(z) from the u
    that z was made of, so it inverts nothing, and its gradient is that of both.

    Source: Rezende and Mohamed 2015, "Variational inference with normalizing flows", eq. 5.

    Args:
        base: a distribution over events of the flow's shape, with the batch shape of this one, or
            `[]`. `draw` and `representative` need independent normals.
        flow: a built `tfvae.flows.Flow`; of whatever type it computes in, what comes out is of that
            of the base.
        context: `[*batch, C]` where the flow was built for one.
    """

    def __init__(self, base, flow, context=None, name="FlowDistribution"):
        self.base, self.flow, self.context = base, flow, context
        super().__init__(
            dtype=base.dtype,
            reparameterization_type=base.reparameterization_type,
            validate_args=False,
            allow_nan_stats=True,
            name=name,
        )

    @property
    def has_parallel_log_prob(self) -> bool:
        """Whether the density of any z is one pass; otherwise it is a loop over its units."""
        return self.flow.inverse_is_parallel

    @property
    def draws_by_example(self) -> bool:
        """Whether the base draws by example; one without a batch knows none of the context's."""
        own = len(self.base.batch_shape) == len(self.batch_shape)
        return own and draws_by_example(self.base)

    def _batch_shape(self):
        of_context = () if self.context is None else self.context.shape[:-1]
        return tf.broadcast_static_shape(self.base.batch_shape, tf.TensorShape(of_context))

    def _batch_shape_tensor(self):
        of_base = self.base.batch_shape_tensor()
        if self.context is None:
            return of_base
        return tf.broadcast_dynamic_shape(of_base, tf.shape(self.context)[:-1])

    def _event_shape(self):
        return tf.TensorShape(self.flow.event_shape)

    def _event_shape_tensor(self):
        return tf.constant(self.flow.event_shape, tf.int32)

    def sample_and_log_prob(self, sample_shape, seed=None):
        """Return draws and their log-density, from the very u that they were made of."""
        return self.experimental_sample_and_log_prob(sample_shape, seed)

    def _sample_n(self, n, seed=None):
        return self._forward(self.base.sample(self._base_shape(n), seed))[0]

    def _sample_and_log_prob(self, sample_shape, seed, **kwargs):
        shape = self._base_shape(sample_shape)
        u, log_p = self.base.experimental_sample_and_log_prob(shape, seed)
        z, log_det = self._forward(u)
        return z, log_p - log_det

    def _forward(self, u):
        return self._in_own_type(self.flow.forward(u, self.context))

    def _in_own_type(self, tensors):
        return [tf.cast(tensor, self.dtype) for tensor in tensors]

    def _base_shape(self, sample_shape):
        """Return how many u to draw: one for each z, even if only the context has a batch."""
        shape = tf.reshape(tf.cast(sample_shape, tf.int32), [-1])
        if len(self.base.batch_shape) < len(self.batch_shape):
            shape = tf.concat([shape, self.batch_shape_tensor()], 0)
        return shape

    def _log_prob(self, z):
        if self.context is not None:  # the flow maps one z for each context
            shape = tf.concat([self.batch_shape_tensor(), self.event_shape_tensor()], 0)
            z = tf.broadcast_to(z, tf.broadcast_dynamic_shape(tf.shape(z), shape))
        u, log_det = self._in_own_type(self.flow.inverse(z, self.context))
        return self.base.log_prob(u) + log_det

    def draw(self, seed: tf.Tensor, index: tf.Tensor, temperature=1.0) -> tf.Tensor:
        """Return draws number `index` of the stream `seed`, f(μ + T·σ·ε), `[N, *event_shape]`.

        Made of operators that LiteRT has: the same in Keras, in a SavedModel and on a device.

        Args:
            seed: `[2]` int32.
            index: `[N]` int32.
            temperature: T, of the base.

        Raises:
            InvalidArgument: the base is not made of independent normals.
        """
        if not isinstance(getattr(self.base, "distribution", None), tfd.Normal):
            raise InvalidArgument(
                f"No draws of a flow over {self.base.name} are known that a device can repeat; "
                "expected a base of independent normals."
            )
        shape = self.flow.event_shape
        noise = tf.reshape(random.normal(seed, index, math.prod(shape)), [-1, *shape])
        u = self.base.mean() + temperature * self.base.stddev() * noise
        return self._forward(u)[0]

    def representative(self) -> tf.Tensor:
        """Return f(mean of the base), `[*batch, *event_shape]`: not the mean or mode of z."""
        u = self.base.mean()
        shape = tf.concat([self.batch_shape_tensor(), self.event_shape_tensor()], 0)
        return self._forward(tf.broadcast_to(u, shape))[0]
