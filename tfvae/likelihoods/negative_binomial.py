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
    distribution as r grows. For `size_factor` see `Counts`.

    Args:
        dispersion: r, the inverse dispersion: a number, "shared", "by_value" (one for each gene,
            the usual choice for single cells) or "learned", see `tfvae.likelihoods.scales`.
        size_factor: None, or "total" for means that are shares of each example's total.
        target_sum: the mean total of samples, with a size factor.
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
