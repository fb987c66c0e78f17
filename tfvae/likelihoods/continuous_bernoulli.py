"""Continuous Bernoulli densities."""

from typing import ClassVar

from tfvae.distributions import tfd
from tfvae.distributions.factory import independent
from tfvae.likelihoods.likelihood import REGISTRY, Likelihood
from tfvae.likelihoods.support import interval


@REGISTRY.register("continuous_bernoulli")
class ContinuousBernoulli(Likelihood):
    """p(x_d|z) ∝ λ^x (1 − λ)^(1−x) on [0, 1], λ = sigmoid(logit_d): a density of grey values.

    It is the Bernoulli likelihood of grey values divided by what that lacks to integrate to one.

    Source: Loaiza-Ganem and Cunningham 2019, "The continuous Bernoulli: fixing a pervasive error
    in variational autoencoders", eq. 4.
    """

    unbounded: ClassVar = {"logits": (0, 1)}

    @property
    def support(self):
        return interval(0.0, 1.0)

    def distribution(self, params, batch_ndims):
        return independent(tfd.ContinuousBernoulli(logits=params), batch_ndims)
