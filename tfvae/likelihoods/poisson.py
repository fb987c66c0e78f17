"""Poisson counts."""

from typing import ClassVar

from tfvae.distributions import tfd
from tfvae.likelihoods.counts import Counts
from tfvae.likelihoods.likelihood import REGISTRY


@REGISTRY.register("poisson")
class Poisson(Counts):
    """Counts x_d ~ Poisson(μ_d), log μ_d the parameter; for `size_factor` see `Counts`.

    Args:
        size_factor: None, or "total" for means that are shares of each example's total.
        target_sum: the mean total of samples, with a size factor.
    """

    unbounded: ClassVar = {"log-means": (0, 1)}

    def distribution(self, params, batch_ndims):
        return self.of_means(params, batch_ndims, lambda log_mean: tfd.Poisson(log_rate=log_mean))
