"""A standard normal, transformed by a learned normalizing flow."""

import keras
import tensorflow as tf

from tfvae import flows
from tfvae.distributions import tfd
from tfvae.distributions.flow import FlowDistribution
from tfvae.distributions.latents import NormalLatent
from tfvae.errors import InvalidArgument
from tfvae.priors.prior import REGISTRY, Prior


@REGISTRY.register("flow")
class FlowPrior(Prior):
    """p(z) = N(f⁻¹(z); 0, I) |det ∂f⁻¹/∂z|: the law of z = f(u), u ~ N(0, I).

    At the start z is standard normal. Temperature scales the standard deviation of u. In a model
    with a condition, f(u; c(y)) makes it p(z|y).

    Source: Chen et al. 2017, "Variational lossy autoencoder", sec. 3.2 (a flow as prior); Dinh et
    al. 2017, "Density estimation using Real NVP".

    Args:
        flow: the name of a flow, of which `tfvae.flows.stack` makes layers, or a
            `tfvae.flows.Flow`, used as it is.
        num_layers: as in `stack`; this and what follows is for a flow given by its name.
        hidden: widths of the hidden layers of the networks in it.
        mixing: as in `stack`: "rotate", "reverse", "random" or "linear".
        flow_options: other arguments of the flow, such as `{"num_bins": 16}`.

    Raises:
        InvalidArgument: the density is not one pass (an inverse autoregressive flow); options of a
            named flow beside a flow that is given as an object; no such flow or option.
    """

    takes_condition = True

    def __init__(
        self,
        flow: str | flows.Flow = "affine_coupling",
        num_layers: int | None = None,
        hidden: tuple[int, ...] | None = None,
        mixing: str | None = None,
        flow_options: dict | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        given = {"num_layers": num_layers, "hidden": hidden, "mixing": mixing}
        given = {name: value for name, value in given.items() if value is not None}
        if isinstance(flow, str):
            self._config = {"flow": flow, **given, "flow_options": dict(flow_options or {})}
            self.flow = flows.stack(flow, **given, **(flow_options or {}))
        elif given or flow_options:
            raise InvalidArgument(
                f"The flow of the prior is given as an object, {flow.name!r}, which has its own "
                f"{', '.join(given) or 'options'}. Leave them out, or name the flow instead."
            )
        else:
            self.flow, self._config = flows.get(flow), None
        if not self.flow.inverse_is_parallel:
            fitting = [
                n for n in flows.REGISTRY.names() if flows.REGISTRY.part(n).inverse_is_parallel
            ]
            raise InvalidArgument(
                "A prior needs the density of any z, which of this flow is a loop over its units. "
                f"Flows that fit: {', '.join(fitting)}."
            )

    def build(self, latent_shape, context_size=0):
        """Build the flow for latents of a shape, and for a condition of this width."""
        super().build(latent_shape)
        flows.build_flow(self.flow, self.latent_shape, context_size)

    def get_build_config(self):
        """Return what `build_from_config` needs; None before `build`."""
        if not self.built:
            return None
        return {"latent_shape": self.latent_shape, "context_size": self.flow.context_size}

    def build_from_config(self, config):
        """Build as the prior that was saved; files from before conditions name only a shape."""
        shape = config.get("latent_shape", config.get("input_shape"))
        self.build(tuple(shape), config.get("context_size", 0))

    def distribution(self, context=None):
        """Return p(z), or p(z|context), `[..., C]`, where the prior was built for one."""
        batch = [] if context is None else tf.unstack(tf.shape(context)[:-1])
        zeros = tf.zeros([*batch, *self.latent_shape])
        normal = NormalLatent(zeros, tf.ones_like(zeros), len(batch))
        base = tfd.Independent(normal, len(self.latent_shape))
        return FlowDistribution(base, self.flow, context)

    def get_config(self):
        config = self._config or {"flow": keras.saving.serialize_keras_object(self.flow)}
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config):
        return cls(**{k: keras.saving.deserialize_keras_object(v) for k, v in config.items()})
