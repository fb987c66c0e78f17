"""Several quantizers side by side, each for its share of the axes of a vector."""

import numpy as np
import tensorflow as tf

from tfvae.checks import whole
from tfvae.errors import InvalidArgument
from tfvae.quantizers.composite import Composite
from tfvae.quantizers.quantizer import REGISTRY, Quantized, Quantizer


@REGISTRY.register("product")
class ProductQuantizer(Composite):
    """z = (z_1, …, z_H), each part of size d quantized by a codebook of its own; D = H d.

    H codes of K values each describe K^H vectors with a table of H K rows of size d. The loss is
    the sum of the heads'.

    Source: Jégou, Douze and Schmid 2011, "Product quantization for nearest neighbor search", sec.
    II-B; as heads of a VQ-VAE, Kaiser et al. 2018, "Fast decoding in sequence models using discrete
    latent variables", sec. 4.1 (sliced vector quantization).

    Args:
        quantizer: the one that every head is a copy of, of one code a vector and embedding_dim = d,
            or its name.
        num_heads: H.
        seed: any integer.

    Raises:
        InvalidArgument: a value that cannot be used.
    """

    def __init__(self, quantizer, num_heads: int, seed: int = 0, **kwargs):
        quantizer = REGISTRY.get(quantizer)
        super().__init__(quantizer, whole("num_heads", num_heads), seed=seed, **kwargs)
        self.num_heads = num_heads
        self.embedding_dim = num_heads * self.parts[0].embedding_dim
