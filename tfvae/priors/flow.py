"""Flows as priors."""

import math

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfvae import flows
from tfvae.distributions.flow import FlowDistribution
from tfvae.errors import InvalidArgument
from tfvae.priors.prior import REGISTRY, Prior

tfd = tfp.distributions


@REGISTRY.register("flow")
class FlowPrior(Prior):
    """p(z): z = f(u), u ~ N(0, I), with a flow f that is trained with the model.

    It starts as the standard normal. While f has nothing to say yet, an encoder whose q shrinks is
    rewarded, and may collapse to points: raise β over the first epochs (`kl_warmup_steps`).

    Source: Xu et al. 2019, "On the necessity and effectiveness of learning the prior of variational
    auto-encoder"; Chen et al. 2017, "Variational lossy autoencoder", sec. 3.2.

    Args:
        flow: the family, one of `tfvae.flows.STACKED`, or a `tfvae.flows.Flow`.
        num_layers: of a family: how many.
        hidden: of a family: widths of the hidden layers.
        flow_options: further arguments of a family.
    """

    def __init__(
        self,
        flow="affine_coupling",
        num_layers: int = 6,
        hidden=(128, 128),
        flow_options: dict | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._settings = {"num_layers": num_layers, "hidden": list(hidden)}
        self._settings["flow_options"] = dict(flow_options or {})
        self._given = flow
        if isinstance(flow, str):
            self.flow = flows.stack(flow, num_layers, hidden, **self._settings["flow_options"])
        else:
            self.flow = flows.get(flow)
        if not self.flow.has_fast_inverse:
            raise InvalidArgument(
                f"The flow {flow!r} of a prior needs D passes for the density of every z. Use "
                "fast='inverse' (prior='autoregressive'), or a coupling."
            )

    def build(self, latent_shape):  # noqa: D102
        if not self.flow.built:
            self.flow.build(math.prod(latent_shape))
        super().build(latent_shape)

    def distribution(self):  # noqa: D102
        zeros, ones = tf.zeros(self.latent_shape), tf.ones(self.latent_shape)
        base = tfd.Independent(tfd.Normal(zeros, ones), len(self.latent_shape))
        return FlowDistribution(base, self.flow, name="FlowPrior")

    def get_config(self):  # noqa: D102
        return {**super().get_config(), "flow": self._given, **self._settings}

    @classmethod
    def from_config(cls, config):  # noqa: D102
        return cls(**{k: keras.saving.deserialize_keras_object(v) for k, v in config.items()})


@REGISTRY.register("autoregressive")
class AutoregressivePrior(FlowPrior):
    """p(z) = Π_d N(z_d; μ_d(z_<d), σ_d(z_<d)²), by a masked autoregressive flow.

    Its density takes one pass for each layer, a draw D of them, one after the other.

    Source: Chen et al. 2017, "Variational lossy autoencoder", sec. 3.2; Papamakarios, Pavlakou and
    Murray 2017, "Masked autoregressive flow for density estimation".

    Args:
        num_layers: how many, with the order reversed between; one has the formula above.
        hidden: widths of the hidden layers.
    """

    def __init__(self, num_layers: int = 2, hidden=(128, 128), **kwargs):
        super().__init__("masked_autoregressive", num_layers, hidden, **kwargs)

    def get_config(self):  # noqa: D102
        config = super().get_config()
        return {k: v for k, v in config.items() if k not in ("flow", "flow_options")}
