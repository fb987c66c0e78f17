"""Quantizers, one to a file; contract: `Quantizer`."""

from tfvae.quantizers.codebook import Codebook
from tfvae.quantizers.ema import EMAVectorQuantizer
from tfvae.quantizers.finite_scalar import FiniteScalarQuantizer
from tfvae.quantizers.gradients import rotation, straight_through
from tfvae.quantizers.gumbel import GumbelSoftmaxQuantizer
from tfvae.quantizers.lookup_free import LookupFreeQuantizer
from tfvae.quantizers.product import ProductQuantizer
from tfvae.quantizers.quantizer import REGISTRY, Quantized, Quantizer, get
from tfvae.quantizers.residual import ResidualQuantizer
from tfvae.quantizers.search import nearest
from tfvae.quantizers.simvq import SimVQ
from tfvae.quantizers.vector import VectorQuantizer

__all__ = [
    "REGISTRY",
    "Codebook",
    "EMAVectorQuantizer",
    "FiniteScalarQuantizer",
    "GumbelSoftmaxQuantizer",
    "LookupFreeQuantizer",
    "ProductQuantizer",
    "Quantized",
    "Quantizer",
    "ResidualQuantizer",
    "SimVQ",
    "VectorQuantizer",
    "get",
    "nearest",
    "rotation",
    "straight_through",
]
