"""Posteriors that are the image of independent normals under a flow."""

import keras
import tensorflow as tf

from tfvae import flows
from tfvae._plain.checks import whole
from tfvae.distributions.factory import independent, softplus_scale
from tfvae.distributions.flow import FlowDistribution
from tfvae.distributions.latents import NormalLatent
from tfvae.errors import InvalidArgument
from tfvae.posteriors.posterior import REGISTRY, Posterior


@REGISTRY.register("flow")
class FlowPosterior(Posterior):
    """q(z|x): z = f(u; h(x)), u ~ Π_d N(μ_d(x), σ_d(x)²). All examples share the flow's weights.

    The last axis of the parameters is μ, then raw as in `DiagonalNormal`, then the context h. It
    starts as the diagonal normal. The KL to the prior is sampled.

    Source: Rezende and Mohamed 2015, "Variational inference with normalizing flows".

    Args:
        flow: the family, of which `tfvae.flows.stack` makes layers, or a `tfvae.flows.Flow`.
        num_layers: of a family: how many.
        hidden: of a family: widths of the hidden layers.
        context_size: numbers of the encoder's output that the flow sees, beside its vector.
        flow_options: further arguments of a family.
    """

    def __init__(
        self,
        flow: str | flows.Flow = "affine_coupling",
        num_layers: int = 4,
        hidden: tuple[int, ...] = (64, 64),
        context_size: int = 0,
        flow_options: dict | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._settings = {"num_layers": num_layers, "hidden": list(hidden)}
        self._settings["flow_options"] = dict(flow_options or {})
        self._given = flow
        if isinstance(flow, str):
            options = self._settings["flow_options"]
            self.flow = flows.stack(flow, num_layers, hidden=tuple(hidden), **options)
        else:
            self.flow = flows.get(flow)
        if not self.flow.forward_is_parallel:
            raise InvalidArgument(
                f"The flow {flow!r} of a posterior draws one number after the other, in D passes "
                "for every training step. Use posterior='iaf', whose draws take one pass, or a "
                "coupling."
            )
        self.context_size = context_size and whole("context_size", context_size)

    @property
    def has_log_prob(self):
        """Whether the density of any z is one pass through the flow."""
        return self.flow.inverse_is_parallel

    def params_size(self, channels):
        return 2 * channels + self.context_size

    def build(self, params_shape):
        if len(params_shape) != 1:
            raise InvalidArgument(
                f"{type(self).__name__} moves vectors, but the encoder's output has shape "
                f"{tuple(params_shape)}. Let the encoder end in a flat vector, of "
                "posterior.params_size(D) numbers for D latents."
            )
        flows.build_flow(self.flow, self.event_shape(params_shape), self.context_size)
        super().build(params_shape)

    def distribution(self, params, batch_ndims):
        size = (params.shape[-1] - self.context_size) // 2
        loc, raw, context = tf.split(params, [size, size, self.context_size], -1)
        base = independent(NormalLatent(loc, softplus_scale(raw), batch_ndims), batch_ndims)
        return FlowDistribution(base, self.flow, context if self.context_size else None)

    def get_config(self):
        flow = keras.saving.serialize_keras_object(self._given)
        own = {"flow": flow, **self._settings, "context_size": self.context_size}
        return own | super().get_config()


@REGISTRY.register("iaf")
class InverseAutoregressivePosterior(FlowPosterior):
    """q(z|x) with an inverse autoregressive flow: a draw and its log-density take one pass.

    log q of another z would take a pass for every latent, so estimators that need it are refused;
    "pathwise" does not need it, except with "piwae".

    Source: Kingma et al. 2016, "Improved variational inference with inverse autoregressive flow",
    algorithm 1.

    Args:
        num_layers: how many, with the order reversed between.
        hidden: widths of the hidden layers.
        context_size: numbers of the encoder's output that the flow sees, beside its vector.
    """

    def __init__(
        self,
        num_layers: int = 2,
        hidden: tuple[int, ...] = (64, 64),
        context_size: int = 0,
        **kwargs,
    ):
        super().__init__("inverse_autoregressive", num_layers, hidden, context_size, **kwargs)

    def get_config(self):
        not_ours = "flow", "flow_options"
        return {k: v for k, v in super().get_config().items() if k not in not_ours}
