"""Log-normal densities."""

import math

from tfvae.distributions import tfd
from tfvae.distributions.factory import independent
from tfvae.likelihoods.likelihood import REGISTRY, Likelihood
from tfvae.likelihoods.scales import WithScale
from tfvae.likelihoods.support import Support


@REGISTRY.register("log_normal")
class LogNormal(WithScale, Likelihood):
    """log x_d ~ N(μ_d, σ²), for positive values over several orders of magnitude.

    Args:
        scale: σ.

            - A number: fixed.
            - "shared": one trained number for all values and examples, from 1.
            - "by_value": a trained number for each value (column, gene, pixel), from 1.
            - "learned": the network emits it, softplus(raw + log(e − 1)), behind the locations on
              the last axis.
    """

    def __init__(self, scale: float | str = "shared", **kwargs):
        super().__init__(scale, **kwargs)
        self.unbounded = {"location": (0, 1 / self.params_per_channel)}

    @property
    def support(self):
        return Support(
            0.0,
            math.inf,
            is_open=True,
            noun="values above 0",
            remedy="Shift the data, or use likelihood='normal'.",
        )

    def distribution(self, params, batch_ndims):
        (loc,), scale = self.split(params)
        return independent(tfd.LogNormal(loc, scale), batch_ndims)
