"""Independent normals whose means and scales are functions of the condition."""

import math

import tensorflow as tf

from tfvae._plain.checks import whole
from tfvae.distributions import tfd
from tfvae.distributions.factory import softplus_scale
from tfvae.distributions.latents import NormalLatent
from tfvae.errors import InvalidArgument
from tfvae.flows.conditioner import Conditioner
from tfvae.priors.prior import REGISTRY, Prior


@REGISTRY.register("conditional_normal")
class ConditionalNormal(Prior):
    """p(z|y) = N(z; μ(y), diag σ(y)²), for a model with a condition; at the start N(0, I).

    KL(q‖p) with a normal q is known in closed form. Temperature scales the standard deviation.

    Source: Sohn, Lee and Yan 2015, "Learning structured output representation using deep
    conditional generative models", sec. 4.1 (the prior network).

    Args:
        hidden: widths of the hidden layers of the network from c(y) to μ and σ. Without any, the
            default, both are affine in c(y): of classes, a table.
    """

    takes_condition = True

    def __init__(self, hidden: tuple[int, ...] = (), **kwargs):
        super().__init__(**kwargs)
        self.hidden = tuple(whole("hidden", width) for width in hidden)

    def build(self, latent_shape, condition_size=0):
        """Build the network, for latents of a shape and vectors c(y) of this width.

        Raises:
            InvalidArgument: the model has no condition.
        """
        if not condition_size:
            raise InvalidArgument(
                "The prior 'conditional_normal' is made of a condition, and the model has none. "
                "Give the model `condition=`, or use prior='standard_normal'."
            )
        super().build(latent_shape)
        self.condition_size = condition_size
        self.network = Conditioner(self.hidden, "tanh", dtype="float32")
        self.network.build(condition_size, 2 * math.prod(self.latent_shape))

    def get_build_config(self):
        """Return what `build_from_config` needs."""
        return {"latent_shape": self.latent_shape, "condition_size": self.condition_size}

    def build_from_config(self, config):
        """Build as the prior that was saved."""
        self.build(tuple(config["latent_shape"]), config["condition_size"])

    def distribution(self, condition=None):
        """Return p(z|y) for c(y) `[..., C]`.

        Raises:
            InvalidArgument: without a condition.
        """
        if condition is None:
            raise InvalidArgument(
                "The prior 'conditional_normal' has no p(z): ask the model, with "
                "model.p_z(condition) or model.sample(n, condition=condition)."
            )
        loc, raw = tf.split(self.network(condition), 2, axis=-1)
        shape = tf.concat([tf.shape(condition)[:-1], self.latent_shape], 0)
        loc, scale = tf.reshape(loc, shape), softplus_scale(tf.reshape(raw, shape))
        normal = NormalLatent(loc, scale, len(condition.shape) - 1)
        return tfd.Independent(normal, len(self.latent_shape))

    def get_config(self):
        return {**super().get_config(), "hidden": list(self.hidden)}
