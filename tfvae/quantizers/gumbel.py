"""Codes drawn from a softmax of distances, with the gradient of a relaxed draw."""

import math

import keras
import tensorflow as tf

from tfvae import random
from tfvae._plain.checks import not_negative, positive
from tfvae.quantizers import gradients
from tfvae.quantizers.codebook import Codebook
from tfvae.quantizers.quantizer import REGISTRY, Quantized
from tfvae.quantizers.search import centred, nearest


@REGISTRY.register("gumbel")
class GumbelSoftmaxQuantizer(Codebook):
    """A code drawn from q(k|z) ∝ exp(−‖z − e_k‖²) in training, the nearest one otherwise.

    With Gumbel noise g, a training call takes the row of k = argmax_k (log q(k|z) + g_k), a draw of
    q(k|z), and gives it the gradient of the relaxed draw

        Σ_k y_k e_k,   y = softmax((log q(·|z) + g)/τ),

    in both z and the table. The loss is w · KL(q(k|z) ‖ uniform) = w (log K − H[q]), in nats; with
    w = 1 and a reconstruction loss −log p(x|vectors), the sum over all is minus an ELBO with a
    uniform prior over codes, up to the bias of the relaxed gradient. It takes `[N, K]` numbers.

    Source: Jang, Gu and Poole 2017, "Categorical reparameterization with Gumbel-softmax", sec. 2.2;
    Sønderby, Poole and Mnih 2017, "Continuous relaxation training of discrete latent variable image
    models", sec. 3 (distances as logits).

    Args:
        num_embeddings: K.
        embedding_dim: D.
        temperature: τ > 0; lower, the gradient is less biased and varies more.
        kl_weight: w.
        initializer: of the table; see `Codebook`.
        similarity: "euclidean" or "cosine"; see `Codebook`.
        seed: with the step, decides the noise.

    Raises:
        InvalidArgument: a value that cannot be used.
    """

    def __init__(
        self,
        num_embeddings: int = 512,
        embedding_dim: int = 64,
        *,
        temperature: float = 1.0,
        kl_weight: float = 1.0,
        initializer: str | keras.Initializer = "uniform",
        similarity: str = "euclidean",
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
        self.temperature = positive("temperature", temperature)
        self.kl_weight = not_negative("kl_weight", kl_weight)

    def quantize_flat(self, vectors, training):
        vectors = self.project(vectors)
        table = self.codebook()
        log_q = tf.nn.log_softmax(_negative_distances(vectors, table))
        loss = self.kl_weight * _kl_to_uniform(log_q)
        if not training:
            codes = nearest(vectors, table)
            return Quantized(tf.gather(table, codes), codes, loss)
        noise = random.gumbel(random.stateless_uniform(tf.shape(log_q), self.draw_seed(), 0))
        perturbed = log_q + noise
        codes = tf.argmax(perturbed, axis=-1, output_type=tf.int32)
        relaxed = tf.matmul(tf.nn.softmax(perturbed / self.temperature), table)
        return Quantized(gradients.straight_through(relaxed, tf.gather(table, codes)), codes, loss)

    def get_config(self):
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "kl_weight": self.kl_weight,
        }


def _negative_distances(vectors, table):
    """Return −‖z − e_k‖² + c(z), `[N, K]`: a softmax does not see c(z)."""
    vectors, table = centred(vectors, table)
    squares = tf.reduce_sum(table**2, axis=-1)
    return 2.0 * tf.matmul(vectors, table, transpose_b=True) - squares


def _kl_to_uniform(log_q):
    return math.log(log_q.shape[-1]) + tf.reduce_sum(tf.exp(log_q) * log_q, axis=-1)
