"""Families of q(z|x). One family a file."""

from tfvae.posteriors.bernoulli import IndependentBernoulli
from tfvae.posteriors.categorical import IndependentCategorical
from tfvae.posteriors.diagonal_normal import DiagonalNormal
from tfvae.posteriors.posterior import REGISTRY, Posterior, get

__all__ = [
    "REGISTRY",
    "IndependentBernoulli",
    "IndependentCategorical",
    "DiagonalNormal",
    "Posterior",
    "get",
]
