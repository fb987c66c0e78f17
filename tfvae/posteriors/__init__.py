"""Families of q(z|x), one to a file."""

from tfvae.posteriors.bernoulli import IndependentBernoulli
from tfvae.posteriors.categorical import IndependentCategorical
from tfvae.posteriors.diagonal_normal import DiagonalNormal
from tfvae.posteriors.flow import FlowPosterior, InverseAutoregressivePosterior
from tfvae.posteriors.full_normal import FullNormal
from tfvae.posteriors.posterior import REGISTRY, Posterior, get

__all__ = [
    "REGISTRY",
    "DiagonalNormal",
    "FlowPosterior",
    "FullNormal",
    "IndependentBernoulli",
    "IndependentCategorical",
    "InverseAutoregressivePosterior",
    "Posterior",
    "get",
]
