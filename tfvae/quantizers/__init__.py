"""Quantizers: one a file, one contract (`Quantizer`)."""

from tfvae.quantizers.ema import EMAVectorQuantizer
from tfvae.quantizers.quantizer import REGISTRY, Quantized, Quantizer, get
from tfvae.quantizers.vector import VectorQuantizer

__all__ = [
    "REGISTRY",
    "EMAVectorQuantizer",
    "Quantized",
    "Quantizer",
    "VectorQuantizer",
    "get",
]
