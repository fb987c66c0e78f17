"""The contract of a normalizing flow."""

import math
from typing import Any

import keras
import tensorflow as tf

from tfvae.errors import InvalidArgument
from tfvae.registry import Registry

REGISTRY = Registry("flow")


class Flow(keras.layers.Layer):
    """An invertible map z = f(u; context) whose Jacobian determinant is cheap, as a Keras layer.

    With u ~ p(u), z has the density log p(z) = log p(u) − log|det ∂z/∂u|. Subclasses implement
    `build`, and `_forward` and `_inverse` on vectors `[..., D]` with D = prod(event_shape); an
    event of any shape is flattened for them.

    Weights are of the layer's `dtype`, float32 unless it says otherwise, whatever Keras's global
    policy, and so is what comes out.

    Source: Rezende and Mohamed 2015, "Variational inference with normalizing flows", eq. 5;
    Papamakarios et al. 2021, "Normalizing flows for probabilistic modeling and inference", sec. 2.

    Attributes:
        forward_is_parallel: whether `forward` is one pass through its networks; otherwise it is a
            loop of D passes.
        inverse_is_parallel: the same of `inverse`.
        order: the permutation that suits it between two of its kind, see `Permutation`.
    """

    forward_is_parallel = True
    inverse_is_parallel = True
    order = "reverse"

    def __init__(self, dtype: Any = "float32", **kwargs):
        super().__init__(dtype=dtype, autocast=False, **kwargs)

    def build(self, event_shape, context_size: int = 0):
        """Remember the shapes; subclasses add their weights here.

        Args:
            event_shape: of one u and one z, without leading axes.
            context_size: C, the width of the context; 0 for a flow without one.

        Raises:
            InvalidArgument: the shape is of no event.
        """
        self.event_shape = tuple(event_shape)
        self.size = math.prod(self.event_shape)
        self.context_size = context_size
        if not self.event_shape or self.size < 1:
            raise InvalidArgument(
                f"A {type(self).__name__} flow maps vectors or grids; got the event shape "
                f"{self.event_shape}. Expected at least one axis, none of length 0."
            )

    def forward(
        self, u: tf.Tensor, context: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return z = f(u; context) and log|det ∂z/∂u|.

        Args:
            u: `[..., *event_shape]`, with any leading axes, or none.
            context: `[..., C]`; its leading axes broadcast to those of u.

        Returns:
            `[..., *event_shape]` and `[...]`.

        Raises:
            InvalidArgument: a context that is missing, of another width, or not expected.
        """
        return self._on_vectors(self._forward, u, context)

    def inverse(
        self, z: tf.Tensor, context: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return u with f(u; context) = z, and log|det ∂u/∂z|; as `forward`."""
        return self._on_vectors(self._inverse, z, context)

    def _forward(self, u, context):
        raise NotImplementedError

    def _inverse(self, z, context):
        raise NotImplementedError

    def _on_vectors(self, transform, x, context):
        """Apply a map of vectors: of `[N, D]`, or of `[..., D]` beside a context."""
        x = tf.cast(x, self.compute_dtype)
        context = self._checked(context)
        leading = x.shape[: len(x.shape) - len(self.event_shape)]
        if len(leading) == 1 and len(self.event_shape) == 1:
            return transform(x, context)
        axes = tf.shape(x)[: len(leading)]
        if context is None or len(leading) == 0:
            vectors = tf.reshape(x, [-1, self.size])
        else:
            vectors = tf.reshape(x, tf.concat([axes, [self.size]], 0))
        y, log_det = transform(vectors, context)
        y = tf.reshape(y, tf.concat([axes, self.event_shape], 0))
        return tf.ensure_shape(y, x.shape), tf.ensure_shape(tf.reshape(log_det, axes), leading)

    def _checked(self, context):
        width = 0 if context is None else context.shape[-1]
        if width != self.context_size:
            raise InvalidArgument(
                f"The {type(self).__name__} flow was built for a context of width "
                f"{self.context_size} (0 is none), and got one of width {width}."
            )
        if context is None:
            return None
        context = tf.cast(context, self.compute_dtype)
        return context[tf.newaxis] if len(context.shape) == 1 else context

    def get_build_config(self):
        """Return the shapes that `build` was called with; None before."""
        if not self.built:
            return None
        return {"event_shape": self.event_shape, "context_size": self.context_size}

    def build_from_config(self, config):
        """Build for these shapes."""
        if not self.built:
            self.build(**config)


def build_flow(flow: Flow, event_shape: tuple[int, ...], context_size: int = 0) -> None:
    """Build a flow, or check that one that is built already is for these shapes.

    Raises:
        InvalidArgument: it is for others.
    """
    if not flow.built:
        flow.build(event_shape, context_size)
    wanted = {"event_shape": tuple(event_shape), "context_size": context_size}
    if flow.get_build_config() != wanted:
        raise InvalidArgument(
            f"The {type(flow).__name__} flow was built for {flow.get_build_config()}; expected "
            f"{wanted}. Give a flow that is not built yet."
        )


def zero_log_det(x: tf.Tensor) -> tf.Tensor:
    """Return zeros `[...]` for vectors `[..., D]`: log|det| of a map that keeps volume."""
    return tf.zeros(tf.shape(x)[:-1], x.dtype)
