"""The contract of a normalizing flow."""

import keras
import tensorflow as tf

from tfvae.registry import Registry

REGISTRY = Registry("flow")
get = REGISTRY.get


class Flow(keras.layers.Layer):
    """An invertible map z = f(u; h) of vectors, a Keras layer: its networks are trained and saved.

    With p(u) known, p(z) = p(u) |det ∂z/∂u|⁻¹ at u = f⁻¹(z; h). Vectors are `[..., D]` with any
    leading axes; a context h, `[..., C]`, is broadcast against them. All arithmetic is in float32,
    or the `dtype` of the layer, whatever the precision policy of a model.

    Subclasses implement `build`, `forward` and `inverse`, and start near the identity, so that a
    model starts as the one without a flow. Their arithmetic is made of operators that LiteRT has.

    Source: Rezende and Mohamed 2015, "Variational inference with normalizing flows"; Papamakarios
    et al. 2021, "Normalizing flows for probabilistic modeling and inference", sec. 2.

    Attributes:
        has_fast_forward: whether `forward` takes one pass through the networks, rather than D.
        has_fast_inverse: the same of `inverse`.
    """

    has_fast_forward = True
    has_fast_inverse = True

    def __init__(self, dtype="float32", **kwargs):
        super().__init__(dtype=dtype, **kwargs)

    def build(self, size: int, context_size: int = 0):
        """Add weights, for vectors of D = `size` numbers and a context of C = `context_size`."""
        self.size, self.context_size = size, context_size
        self.built = True

    def forward(self, u: tf.Tensor, context=None) -> tuple[tf.Tensor, tf.Tensor]:
        """Return z = f(u; h), `[..., D]`, and log |det ∂z/∂u|, `[...]`."""
        raise NotImplementedError

    def inverse(self, z: tf.Tensor, context=None) -> tuple[tf.Tensor, tf.Tensor]:
        """Return u = f⁻¹(z; h), `[..., D]`, and log |det ∂u/∂z|, `[...]`."""
        raise NotImplementedError


def join_context(values: tf.Tensor, context) -> tf.Tensor:
    """Return values `[..., D]` and a context `[..., C]` as one input, `[..., D + C]`."""
    if context is None:
        return values
    leading = tf.broadcast_dynamic_shape(tf.shape(values)[:-1], tf.shape(context)[:-1])
    context = tf.broadcast_to(context, tf.concat([leading, [context.shape[-1]]], 0))
    values = tf.broadcast_to(values, tf.concat([leading, [values.shape[-1]]], 0))
    return tf.concat([values, tf.cast(context, values.dtype)], -1)
