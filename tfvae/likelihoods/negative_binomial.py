"""Negative binomial counts."""

import tensorflow as tf

from tfvae.distributions import tfd
from tfvae.likelihoods.counts import Counts
from tfvae.likelihoods.likelihood import REGISTRY
from tfvae.likelihoods.scales import WithScale


@REGISTRY.register("negative_binomial")
class NegativeBinomial(WithScale, Counts):
    """Counts with mean μ_d and variance μ_d + μ_d²/r, log μ_d the parameter.

    p(x) = Γ(x + r) / (Γ(r) x!) · (r / (r + μ))^r (μ / (r + μ))^x, which tends to the Poisson
    distribution as r grows.

    Args:
        dispersion: r, the inverse dispersion.

            - A number: fixed.
            - "shared": one trained number for all values and examples, from 1.
            - "by_value": a trained number for each value, such as a gene, from 1; the usual choice
              for single cells.
            - "learned": the network emits it, softplus(raw + log(e − 1)), behind the log-means on
              the last axis.
        size_factor: None; or "total" for μ_d = s(x) · softmax(parameters)_d, where s(x) is the
            total Σ_d x_d of the example: z explains its composition and not its size. As s(x) is
            taken as given, log p compares such models with each other alone.
        target_sum: s of samples and reconstructions, with a size factor.
    """

    unbounded_parameters = "log-means"

    def __init__(
        self,
        dispersion: float | str = "by_value",
        size_factor: str | None = None,
        target_sum: float = 1e4,
        **kwargs,
    ):
        super().__init__(
            dispersion, "dispersion", size_factor=size_factor, target_sum=target_sum, **kwargs
        )
        end = self.params_per_value / self.params_per_channel
        self.unbounded = {self.unbounded_parameters: (0, end)}

    def distribution(self, params, batch_ndims):
        (log_mean,), r = self.split(params)
        return self.of_means(log_mean, batch_ndims, lambda value: counts_about(value, r))


def counts_about(log_mean, r) -> tfd.NegativeBinomial:
    """Return the negative binomial with mean μ and inverse dispersion r."""
    return tfd.NegativeBinomial(
        total_count=r, logits=log_mean - tf.math.log(r), require_integer_total_count=False
    )
