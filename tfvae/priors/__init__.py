"""Priors p(z), one to a file; contract: `Prior`."""

from tfvae.priors.autoregressive import AutoregressivePrior
from tfvae.priors.bernoulli import BernoulliPrior
from tfvae.priors.categorical import CategoricalPrior
from tfvae.priors.conditional_normal import ConditionalNormal
from tfvae.priors.flow import FlowPrior
from tfvae.priors.mixture import MixturePrior
from tfvae.priors.prior import REGISTRY, Prior, default, get
from tfvae.priors.standard_normal import StandardNormal
from tfvae.priors.vamp import VampPrior

__all__ = [
    "REGISTRY",
    "AutoregressivePrior",
    "BernoulliPrior",
    "CategoricalPrior",
    "ConditionalNormal",
    "FlowPrior",
    "MixturePrior",
    "Prior",
    "StandardNormal",
    "VampPrior",
    "default",
    "get",
]
