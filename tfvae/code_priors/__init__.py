"""Priors p(codes) over the integer codes of a VQ-VAE: one a file, one contract (`CodePrior`)."""

from tfvae.code_priors.categorical import CategoricalCodePrior
from tfvae.code_priors.code_prior import REGISTRY, CodePrior
from tfvae.code_priors.uniform import UniformCodePrior
from tfvae.code_priors.transformer import TransformerCodePrior

get = REGISTRY.get

__all__ = [
    "REGISTRY",
    "CategoricalCodePrior",
    "CodePrior",
    "UniformCodePrior",
    "TransformerCodePrior",
    "get",
]
