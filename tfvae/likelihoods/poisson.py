"""Poisson counts."""

from typing import ClassVar

from tfvae.distributions import tfd
from tfvae.likelihoods.counts import Counts
from tfvae.likelihoods.likelihood import REGISTRY


@REGISTRY.register("poisson")
class Poisson(Counts):
    """Counts x_d ~ Poisson(μ_d), log μ_d the parameter.

    Args:
        size_factor: None; or "total" for μ_d = s(x) · softmax(parameters)_d, where s(x) is the
            total Σ_d x_d of the example: z explains its composition and not its size. As s(x) is
            taken as given, log p compares such models with each other alone.
        target_sum: s of samples and reconstructions, with a size factor.
    """

    unbounded: ClassVar = {"log-means": (0, 1)}

    def distribution(self, params, batch_ndims):
        return self.of_means(params, batch_ndims, lambda log_mean: tfd.Poisson(log_rate=log_mean))
