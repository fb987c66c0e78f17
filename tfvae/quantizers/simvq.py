"""Vector quantization with a fixed table under a trained linear map."""

import keras
import tensorflow as tf

from tfvae.errors import InvalidArgument
from tfvae.quantizers.quantizer import REGISTRY
from tfvae.quantizers.vector import VectorQuantizer


@REGISTRY.register("simvq")
class SimVQ(VectorQuantizer):
    """The nearest row of C W, where C `[K, D]` is random and fixed and W `[D, D]` is trained.

    The loss is ‖sg[z] − e‖² + β ‖z − sg[e]‖² with e a row of C W. Each step of W moves all rows,
    also those that no vector chose, so that codes do not die one by one, and none has to be
    replaced. W starts as the identity.

    Source: Zhu et al. 2024, "Addressing representation collapse in vector quantized models with one
    linear layer", sec. 4.

    Args:
        num_embeddings: K.
        embedding_dim: D.
        commitment_cost: β.
        initializer: of C; see `Codebook`.
        similarity: of vectors and rows of C W.
        gradient: "straight_through" or "rotation".
        seed: any integer.

    Raises:
        InvalidArgument: a value that cannot be used.
    """

    trains_table = False

    def __init__(
        self,
        num_embeddings: int = 512,
        embedding_dim: int = 64,
        *,
        commitment_cost: float = 0.25,
        initializer: str | keras.Initializer = "uniform",
        similarity: str = "euclidean",
        gradient: str = "straight_through",
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(
            num_embeddings,
            embedding_dim,
            commitment_cost=commitment_cost,
            initializer=initializer,
            similarity=similarity,
            gradient=gradient,
            seed=seed,
            **kwargs,
        )
        if self.tracks_usage:
            raise InvalidArgument(
                f"SimVQ got `threshold_ema_dead_code` {self.threshold_ema_dead_code}; it has no "
                "such argument, since a row of C W cannot be set alone, and every step of W moves "
                "all rows. Leave it out, or use 'vq' or 'ema'."
            )

    def build(self, input_shape):
        """Add the table and the map."""
        super().build(input_shape)
        shape = (self.embedding_dim, self.embedding_dim)
        self.map = self.add_state("map", shape, "identity", trainable=True)

    def codebook(self):
        """Return C W, or its rows at length 1, `[K, D]`."""
        self.ensure_built()
        return self.project(tf.matmul(self.table, self.map))

    def get_config(self):
        config = super().get_config()
        # A row of C W cannot be set alone.
        del config["threshold_ema_dead_code"]
        return config
