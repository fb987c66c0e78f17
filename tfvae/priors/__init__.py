"""Priors p(z): one a file, one contract (`Prior`)."""

from tfvae.priors.autoregressive import AutoregressivePrior
from tfvae.priors.bernoulli import BernoulliPrior
from tfvae.priors.categorical import CategoricalPrior
from tfvae.priors.flow import FlowPrior
from tfvae.priors.hierarchical import HierarchicalPrior
from tfvae.priors.mixture import MixturePrior
from tfvae.priors.prior import PRIORS, Prior, default
from tfvae.priors.standard_normal import StandardNormal

get = PRIORS.get

__all__ = [
    "PRIORS",
    "AutoregressivePrior",
    "BernoulliPrior",
    "CategoricalPrior",
    "FlowPrior",
    "HierarchicalPrior",
    "MixturePrior",
    "Prior",
    "StandardNormal",
    "default",
    "get",
]
