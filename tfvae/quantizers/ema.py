"""Vector quantization with a table of moving averages."""

import keras
import tensorflow as tf

from tfvae import replicas
from tfvae._plain.checks import below_one, not_negative
from tfvae.quantizers import usage
from tfvae.quantizers.nearest import NearestCode
from tfvae.quantizers.quantizer import REGISTRY


@REGISTRY.register("ema")
class EMAVectorQuantizer(NearestCode):
    """The nearest row of a table that follows the mean of the vectors that choose each row.

    With n_k the vectors of a batch that choose k and s_k their sum, over all replicas, N̄_k and S̄_k
    are their debiased moving averages (see `usage.rate`), and after each training call

        e_k = S̄_k / ñ_k,   ñ_k = (N̄_k + ε)/(N̄ + K ε) · N̄,   N̄ = Σ_k N̄_k.

    ñ_k is Laplace smoothing, which draws codes that are hardly used towards 0. A code that was
    never used keeps its vector. The loss is β ‖z − sg[e]‖² alone; no gradient reaches the table.

    Source: van den Oord, Vinyals and Kavukcuoglu 2017, "Neural discrete representation learning",
    app. A.1; Razavi, van den Oord and Vinyals 2019, "Generating diverse high-fidelity images with
    VQ-VAE-2", sec. 2.1.

    Args:
        num_embeddings: K.
        embedding_dim: D.
        commitment_cost: β.
        decay: of the moving averages, from 0 to below 1.
        epsilon: ε of the smoothing, at least 0.
        initializer: of the table: "uniform", U(−√(3/D), √(3/D)), rows of expected squared length 1;
            "kmeans", the centres of the data given to `initialize`; or a Keras initializer.
        threshold_ema_dead_code: in vectors per batch. A code that a moving average of batches uses
            less often is dead, and starts anew at a random vector of the training batch. 0 for
            never. A tenth of the average use, N/(10 K) for batches of N vectors, is a good start.
            The counts are the N̄_k.
        similarity: "euclidean" or "cosine", of vectors and rows scaled to length 1; the sums then
            are of those.
        gradient: "straight_through", or "rotation" (Fifty et al. 2024).
        seed: any integer.

    Raises:
        InvalidArgument: a value that cannot be used.
    """

    trains_table = False
    tracks_usage = True

    def __init__(
        self,
        num_embeddings: int = 512,
        embedding_dim: int = 64,
        *,
        commitment_cost: float = 0.25,
        decay: float = 0.99,
        epsilon: float = 1e-5,
        initializer: str | keras.Initializer = "uniform",
        threshold_ema_dead_code: float = 0.0,
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
            threshold_ema_dead_code=threshold_ema_dead_code,
            similarity=similarity,
            gradient=gradient,
            seed=seed,
            **kwargs,
        )
        self.decay = below_one("decay", decay)
        self.epsilon = not_negative("epsilon", epsilon)

    def build(self, input_shape):
        """Add the table and the moving averages."""
        super().build(input_shape)
        shape = (self.num_embeddings, self.embedding_dim)
        self.sums = self.add_state("sums", shape, "zeros")

    def moved(self, vectors, codes):
        """Return the state of the codes after a batch, each vector the mean of its cell."""
        counts, sums = replicas.sums(
            [
                usage.count(codes, self.num_embeddings),
                tf.math.unsorted_segment_sum(vectors, codes, self.num_embeddings),
            ]
        )
        rate = usage.rate(self.decay, self.step)
        counts = self.counts + rate * (counts - self.counts)
        sums = self.sums + rate * (sums - self.sums)
        means = tf.math.divide_no_nan(sums, self._smoothed(counts)[:, tf.newaxis])
        table = tf.where(counts[:, tf.newaxis] > 0, means, self.table)
        return usage.CodeState(table, counts, sums)

    def _smoothed(self, counts):
        total = tf.reduce_sum(counts)
        return (counts + self.epsilon) / (total + self.num_embeddings * self.epsilon) * total

    def get_config(self):
        return {**super().get_config(), "decay": self.decay, "epsilon": self.epsilon}
