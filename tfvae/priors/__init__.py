"""Priors p(z): one a file, one contract (`Prior`)."""

from tfvae.priors.bernoulli import BernoulliPrior
from tfvae.priors.categorical import CategoricalPrior
from tfvae.priors.prior import REGISTRY, Prior, default, get
from tfvae.priors.standard_normal import StandardNormal

__all__ = [
    "REGISTRY",
    "BernoulliPrior",
    "CategoricalPrior",
    "Prior",
    "StandardNormal",
    "default",
    "get",
]
