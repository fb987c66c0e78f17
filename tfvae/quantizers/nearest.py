"""The base of quantizers that take the nearest row of a table."""

import tensorflow as tf

from tfvae import replicas
from tfvae._plain.checks import choice, not_negative
from tfvae.quantizers import gradients, usage
from tfvae.quantizers.codebook import Codebook
from tfvae.quantizers.quantizer import Quantized
from tfvae.quantizers.search import nearest


class NearestCode(Codebook):
    """Replaces z by the nearest row e of its table. Subclasses say how the table learns.

    Args:
        num_embeddings: K, how many rows.
        embedding_dim: D, the size of each.
        commitment_cost: β, weight of ‖z − sg[e]‖² in the loss.
        initializer: of the table; see `Codebook`.
        threshold_ema_dead_code: in vectors per batch. A code that a moving average of batches uses
            less often is dead, and starts anew at a random vector of the training batch. 0 for
            never. A tenth of the average use, N/(10 K) for batches of N vectors, is a good start.
            The optimizer's moments of a table that gradients train are not started anew.
        similarity: "euclidean" or "cosine"; see `Codebook`.
        gradient: "straight_through" or "rotation"; see `gradients`.
        seed: any integer.

    Attributes:
        decay: of the moving averages.

    Raises:
        InvalidArgument: a value that cannot be used.
    """

    decay = 0.99

    def __init__(
        self,
        num_embeddings: int = 512,
        embedding_dim: int = 64,
        *,
        commitment_cost: float = 0.25,
        initializer="uniform",
        threshold_ema_dead_code: float = 0.0,
        similarity: str = "euclidean",
        gradient: str = "straight_through",
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(
            num_embeddings,
            embedding_dim,
            initializer=initializer,
            similarity=similarity,
            seed=seed,
            **kwargs,
        )
        self.commitment_cost = not_negative("commitment_cost", commitment_cost)
        self.threshold_ema_dead_code = not_negative(
            "threshold_ema_dead_code", threshold_ema_dead_code
        )
        self.gradient = choice("gradient", gradient, gradients.GRADIENTS)

    def build(self, input_shape):
        """Add the table, and the moving average of the counts where it is used."""
        super().build(input_shape)
        if self.tracks_usage:
            self.counts = self.add_state("counts", (self.num_embeddings,), "zeros")

    @property
    def tracks_usage(self) -> bool:
        """Whether a moving average of the counts is kept."""
        return self.threshold_ema_dead_code > 0

    def quantize_flat(self, vectors, training):
        vectors = self.project(vectors)
        table = self.codebook()
        codes = nearest(vectors, table)
        values = tf.gather(table, codes)
        passed = gradients.GRADIENTS[self.gradient](vectors, values)
        return Quantized(passed, codes, self.loss(vectors, values))

    def loss(self, vectors: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """Return the loss `[N]` of vectors `[N, D]` and the rows nearest to them `[N, D]`."""
        return self.commitment_cost * squared_distance(vectors, tf.stop_gradient(values))

    def update(self, vectors, codes, active=True):
        """Move the averages, and start dead codes anew; see `Quantizer.update`."""
        if not self.trainable:
            return
        if self.tracks_usage:
            vectors = tf.stop_gradient(self.project(vectors))
            state = self.moved(vectors, codes)
            if self.threshold_ema_dead_code:
                threshold = self.threshold_ema_dead_code
                state = usage.revive(state, vectors, threshold, self.draw_seed())
            self._assign(state, active)
        super().update(vectors, codes, active)

    def moved(self, vectors: tf.Tensor, codes: tf.Tensor) -> usage.CodeState:
        """Return the state of the codes after a batch."""
        (counts,) = replicas.sums([usage.count(codes, self.num_embeddings)])
        counts = self.counts + usage.rate(self.decay, self.step) * (counts - self.counts)
        return usage.CodeState(tf.convert_to_tensor(self.table), counts)

    def _assign(self, state, active):
        for name, value in state._asdict().items():
            if value is not None:
                variable = getattr(self, name)
                variable.assign(tf.where(active, value, variable))

    def get_config(self):
        own = {
            "commitment_cost": self.commitment_cost,
            "threshold_ema_dead_code": self.threshold_ema_dead_code,
            "gradient": self.gradient,
        }
        return {**super().get_config(), **own}


def squared_distance(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Return ‖a − b‖² over the last axis."""
    return tf.reduce_sum(tf.math.squared_difference(a, b), axis=-1)
