"""Families of p(x|z). One family a file."""

from tfvae.likelihoods.bernoulli import Bernoulli
from tfvae.likelihoods.categorical import Categorical
from tfvae.likelihoods.likelihood import REGISTRY, Likelihood, get
from tfvae.likelihoods.logistic_mixture import DiscretizedLogisticMixture
from tfvae.likelihoods.normal import Normal

__all__ = [
    "REGISTRY",
    "Bernoulli",
    "Categorical",
    "DiscretizedLogisticMixture",
    "Likelihood",
    "Normal",
    "get",
]
