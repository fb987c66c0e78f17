"""The signs of a vector as its code, without a table."""

import tensorflow as tf

from tfvae import replicas
from tfvae._plain.checks import not_negative, positive, whole
from tfvae.errors import InvalidArgument
from tfvae.quantizers import gradients, radix
from tfvae.quantizers.nearest import squared_distance
from tfvae.quantizers.quantizer import REGISTRY, Quantized, Quantizer

# The joint entropy of this many bits is a sum over 2^18 codes, the largest codebook of the paper.
EXACT_BITS = 18


@REGISTRY.register("lfq")
class LookupFreeQuantizer(Quantizer):
    """q = sign(z), one bit an axis; K = 2^D codes, bit i being worth 2^i, and sign(0) = −1.

    The gradient is straight-through. The loss of vector n is

        β ‖z_n − sg[q_n]‖² + w (H[p(c|z_n)] − γ H[p̄(c)]),   p̄ = mean over n of p(c|z_n),

    in nats, where p(c|z) ∝ exp(−‖z − c‖²/T) over all c in {−1, 1}^D. The first entropy makes the
    code of each vector certain, the second makes the batch use all codes. p(c|z) is a product of
    independent bits with log-odds 4 z_i/T, so that the first entropy is exactly the sum of the
    bits'. The second is exact for D up to 18; for larger D it is the sum of the entropies of the
    mean bits, an upper bound that ignores their dependence.

    The last term is the only one that depends on the other vectors of the batch, on all replicas,
    and is the same for each: the mean over vectors of the loss is that of the paper.

    Source: Yu et al. 2023, "Language model beats diffusion: tokenizer is key to visual generation"
    (MAGVIT-v2), sec. 3.1.

    Args:
        embedding_dim: D, the number of bits, at most 30; at most 24 in a VQVAE, which counts how
            often each code is used.
        commitment_cost: β.
        entropy_weight: w, of both entropies.
        diversity_gamma: γ.
        inverse_temperature: 1/T. At 10, a bit has a probability of 98 % from |z_i| = 0.1 on, and
            the entropies have a gradient below that; at 1, from |z_i| = 1 on, where codes are.

    Raises:
        InvalidArgument: a value that cannot be used.
    """

    gradient = "straight_through"

    def __init__(
        self,
        embedding_dim: int = 10,
        *,
        commitment_cost: float = 0.25,
        entropy_weight: float = 0.1,
        diversity_gamma: float = 1.0,
        inverse_temperature: float = 10.0,
        **kwargs,
    ):
        if whole("embedding_dim", embedding_dim) > 30:
            raise InvalidArgument(
                f"`embedding_dim` is {embedding_dim}; expected at most 30, since codes are 32-bit "
                "integers. Split the vectors with ProductQuantizer."
            )
        super().__init__(embedding_dim, 2**embedding_dim, **kwargs)
        self.commitment_cost = not_negative("commitment_cost", commitment_cost)
        self.entropy_weight = not_negative("entropy_weight", entropy_weight)
        self.diversity_gamma = not_negative("diversity_gamma", diversity_gamma)
        self.inverse_temperature = positive("inverse_temperature", inverse_temperature)

    def quantize_flat(self, vectors, training):
        bits = tf.cast(vectors > 0, tf.int32)
        values = _signs(bits)
        loss = self.commitment_cost * squared_distance(vectors, values)
        if self.entropy_weight:
            each, batch = self.entropies(vectors)
            loss += self.entropy_weight * (each - self.diversity_gamma * batch)
        passed = gradients.straight_through(vectors, values)
        return Quantized(passed, radix.join(bits, self._bases), loss)

    def lookup(self, codes):
        """Return the signs, `[..., D]`, each −1 or 1."""
        return _signs(radix.split(codes, self._bases))

    def entropies(self, vectors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return H[p(c|z_n)] of each vector, `[N]`, and H[p̄(c)], a scalar; in nats."""
        log_odds = 4.0 * self.inverse_temperature * vectors
        each = tf.reduce_sum(_bit_entropy(log_odds), axis=-1)
        on, off = tf.sigmoid(log_odds), tf.sigmoid(-log_odds)
        if self.embedding_dim <= EXACT_BITS:
            return each, _entropy(_mean_joint(on, off))
        return each, _entropy(_mean(on, tf.reduce_sum(tf.stack([on, off]), axis=1)))

    @property
    def _bases(self):
        return [2] * self.embedding_dim

    def get_config(self):
        own = {
            "embedding_dim": self.embedding_dim,
            "commitment_cost": self.commitment_cost,
            "entropy_weight": self.entropy_weight,
            "diversity_gamma": self.diversity_gamma,
            "inverse_temperature": self.inverse_temperature,
        }
        return {**super().get_config(), **own}


def _signs(bits):
    return tf.cast(2 * bits - 1, tf.float32)


def _bit_entropy(log_odds):
    """Return the entropy of a bit, softplus(a) − a σ(a), which is even in a."""
    size = tf.abs(log_odds)
    return tf.math.softplus(-size) + size * tf.sigmoid(-size)


def _entropy(probabilities):
    return -tf.reduce_sum(tf.math.xlogy(probabilities, probabilities))


def _mean(values, total):
    """Return the mean over the vectors of all replicas, given this one's values and their sum."""
    total, count = replicas.sums([total, tf.cast(tf.shape(values)[0], tf.float32)])
    return total / tf.maximum(count, 1.0)


def _mean_joint(on, off):
    """Return the mean over n of the joint probabilities of all bits, 2^D numbers.

    p(c|z_n) is the outer product of the probabilities of two halves of the bits, so that the mean
    is a matrix product, and no `[N, 2^D]` tensor is made.
    """
    half = on.shape[-1] // 2
    first = _joint(on[:, :half], off[:, :half])
    second = _joint(on[:, half:], off[:, half:])
    return _mean(on, tf.matmul(first, second, transpose_a=True))


def _joint(on, off):
    """Return the probabilities of all states of independent bits, `[N, 2^bits]`."""
    joint = tf.ones([tf.shape(on)[0], 1])
    for bit in range(on.shape[-1]):
        pair = tf.stack([off[:, bit], on[:, bit]], axis=-1)
        joint = tf.reshape(pair[:, :, tf.newaxis] * joint[:, tf.newaxis, :], [-1, 2 ** (bit + 1)])
    return joint
