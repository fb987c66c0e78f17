"""Priors p(codes) over the integer codes of a VQ-VAE, one to a file; contract: `CodePrior`."""

from tfvae.code_priors.categorical import CategoricalCodePrior
from tfvae.code_priors.code_prior import REGISTRY, CodePrior
from tfvae.code_priors.pixelcnn import PixelCNN
from tfvae.code_priors.transformer import TransformerCodePrior
from tfvae.code_priors.uniform import UniformCodePrior

get = REGISTRY.get

__all__ = [
    "REGISTRY",
    "CategoricalCodePrior",
    "CodePrior",
    "PixelCNN",
    "TransformerCodePrior",
    "UniformCodePrior",
    "get",
]
