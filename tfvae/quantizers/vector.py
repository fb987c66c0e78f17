"""Vector quantization with a table that the gradient trains."""

import tensorflow as tf

from tfvae.quantizers.nearest import NearestCode, squared_distance
from tfvae.quantizers.quantizer import REGISTRY


@REGISTRY.register("vq")
class VectorQuantizer(NearestCode):
    """The nearest row e of a trained table, with the loss

        ‖sg[z] − e‖² + β ‖z − sg[e]‖².

    The first term moves the table, the second the encoder. The vectors give the table no gradient.

    Source: van den Oord, Vinyals and Kavukcuoglu 2017, "Neural discrete representation learning",
    eq. 3.

    Args:
        num_embeddings: K, how many rows.
        embedding_dim: D, the size of each.
        commitment_cost: β.
        initializer: of the table: "uniform", U(−√(3/D), √(3/D)), rows of expected squared length 1;
            "kmeans", the centres of the data given to `initialize`; or a Keras initializer.
        threshold_ema_dead_code: in vectors per batch. A code that a moving average of batches uses
            less often is dead, and starts anew at a random vector of the training batch. 0 for
            never. A tenth of the average use, N/(10 K) for batches of N vectors, is a good start.
            The optimizer's moments of its row stay.
        similarity: "euclidean" or "cosine", of vectors and rows scaled to length 1.
        gradient: "straight_through", or "rotation" (Fifty et al. 2024).
        seed: any integer.

    Raises:
        InvalidArgument: a value that cannot be used.
    """

    def loss(self, vectors, values):
        """Return ‖sg[z] − e‖² + β ‖z − sg[e]‖², `[N]`."""
        return super().loss(vectors, values) + squared_distance(tf.stop_gradient(vectors), values)
