"""Normal densities."""

from tfvae.distributions.factory import independent
from tfvae.distributions.latents import NormalLatent
from tfvae.likelihoods.likelihood import REGISTRY, Likelihood
from tfvae.likelihoods.scales import WithScale


@REGISTRY.register("normal")
class Normal(WithScale, Likelihood):
    """x_d ~ N(μ_d, σ²): a density, so log p(x) in nats is not comparable with discrete likelihoods.

    Args:
        scale: σ.

            - A number: fixed.
            - "shared": one trained number for all values and examples, from 1.
            - "by_value": a trained number for each value (column, gene, pixel), from 1.
            - "learned": the network emits it, softplus(raw + log(e − 1)), behind the locations on
              the last axis.

            One shared σ is at its optimum where σ² is the mean squared error (Rybkin, Daniilidis
            and Levine 2021, "Simple and effective VAE training with calibrated decoders",
            sec. 3.2).
    """

    def __init__(self, scale: float | str = 1.0, **kwargs):
        super().__init__(scale, **kwargs)
        self.unbounded = {"raw scale": (1 / 2, 1)} if scale == "learned" else {}

    def distribution(self, params, batch_ndims):
        (loc,), scale = self.split(params)
        return independent(NormalLatent(loc, scale, batch_ndims), batch_ndims)
