"""A product quantizer: several quantizers, each for its part of the axes of a vector."""

import numpy as np
import tensorflow as tf

from tfvae._plain.checks import whole
from tfvae.quantizers.composite import Composite
from tfvae.quantizers.quantizer import REGISTRY, Quantized, Quantizer


@REGISTRY.register("product")
class ProductQuantizer(Composite):
    """z = (z_1, …, z_H), each part of size d quantized by a codebook of its own; D = H d.

    H codes of K values each describe K^H vectors with H K rows of size d. The loss is the sum of
    the heads'.

    Source: Jégou, Douze and Schmid 2011, "Product quantization for nearest neighbor search", sec.
    II-B; in a VQ-VAE, Kaiser et al. 2018, "Fast decoding in sequence models using discrete latent
    variables", sec. 4.1 (sliced vector quantization).

    Args:
        quantizer: the one that every head is a copy of, of one code a vector and embedding_dim = d,
            or its name.
        num_heads: H.
        seed: any integer.

    Raises:
        InvalidArgument: a value that cannot be used.
    """

    def __init__(
        self,
        quantizer: str | Quantizer,
        num_heads: int,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(quantizer, whole("num_heads", num_heads), seed, **kwargs)
        self.num_heads = len(self.parts)
        self.embedding_dim = self.num_heads * self.parts[0].embedding_dim

    def quantize_flat(self, vectors, training):
        pieces = tf.split(vectors, self.num_heads, axis=-1)
        heads = [
            part.quantize_flat(piece, training)
            for part, piece in zip(self.parts, pieces, strict=True)
        ]
        return Quantized(
            tf.concat([head.vectors for head in heads], axis=-1),
            tf.stack([head.codes for head in heads], axis=-1),
            tf.add_n([head.loss for head in heads]),
        )

    def update(self, vectors, codes, active=True):
        """Update every head; see `Quantizer.update`."""
        pieces = tf.split(vectors, self.num_heads, axis=-1)
        for part, piece, own in zip(self.parts, pieces, tf.unstack(codes, axis=-1), strict=True):
            part.update(piece, own, active)
        super().update(vectors, codes, active)

    def lookup(self, codes):
        """Return the vectors of the heads, joined."""
        own = tf.unstack(codes, num=self.num_heads, axis=-1)
        pairs = zip(self.parts, own, strict=True)
        return tf.concat([part.lookup(code) for part, code in pairs], axis=-1)

    def initialize(self, vectors):
        """Start every head from its share of the data."""
        if not self.needs_data:
            return
        self._check_size(np.shape(vectors))
        pieces = np.split(np.asarray(vectors, np.float32), self.num_heads, axis=-1)
        for part, piece in zip(self.parts, pieces, strict=True):
            part.initialize(piece)

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads}
