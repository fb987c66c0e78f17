"""Priors p(z): one a file, one contract (`Prior`)."""

from tfvae.priors.bernoulli import BernoulliPrior
from tfvae.priors.categorical import CategoricalPrior
from tfvae.priors.hierarchical import HierarchicalPrior
from tfvae.priors.prior import PRIORS, Prior, default
from tfvae.priors.standard_normal import StandardNormal

get = PRIORS.get

__all__ = [
    "PRIORS",
    "BernoulliPrior",
    "CategoricalPrior",
    "HierarchicalPrior",
    "Prior",
    "StandardNormal",
    "default",
    "get",
]
