"""The β-TCVAE objective: the ELBO less a multiple of the total correlation of q(z)."""

import tensorflow as tf

from tfvae import distributions
from tfvae._plain.checks import positive
from tfvae.errors import InvalidArgument
from tfvae.joint import StochasticLayer
from tfvae.objectives.bounds import elbo
from tfvae.objectives.objective import REGISTRY, Objective


@REGISTRY.register("beta_tcvae")
class BetaTCVAE(Objective):
    """ELBO − (β − 1) TC(z), with the total correlation TC(z) = KL(q(z) ‖ Π_d q(z_d)).

    q(z) = E_x[q(z|x)] is the aggregate posterior. The mean of the KL term over the data is
    I(x; z) + TC(z) + Σ_d KL(q(z_d)‖p(z_d)); this objective weighs the second of the three, which is
    0 where the latents are independent, by β.

    q(z) is estimated by the mixture over the batch, (1/B) Σ_j q(z|x_j): the paper's minibatch
    weighted sampling (eq. 3) up to a constant that holds the number of examples in the data, which
    no gradient depends on. The estimate is biased: it is at most (D − 1) log B, and in a small
    batch of well-separated codes far above 0 even where the latents are independent. A step makes
    `[K, B, B, D]` log-densities. Replicas that share a batch share its mixture.

    Source: Chen, Li, Grosse and Duvenaud 2018, "Isolating sources of disentanglement in VAEs",
    eq. 4 with α = γ = 1.

    Args:
        tc_weight: the paper's β; at 1 the objective is the ELBO. The `beta` of `compile` weighs
            the whole KL term besides, and stays at 1 as a rule.
    """

    is_linear = True

    def __init__(self, tc_weight: float = 6.0):
        self.tc_weight = positive("tc_weight", tc_weight)

    def __call__(self, log_weights):
        return elbo(log_weights)

    def penalty(self, layer: StochasticLayer, seed: tf.Tensor) -> tf.Tensor:
        """Return (β − 1) (log q(z_i) − Σ_d log q(z_id)) of each example i, `[B]`."""
        return (self.tc_weight - 1.0) * total_correlation(layer.q, layer.z)

    def get_config(self):
        return {"tc_weight": self.tc_weight}


def total_correlation(q, z: tf.Tensor) -> tf.Tensor:
    """Return the share of each example in the total correlation of a batch's mixture, `[B]`.

    The mean over samples k of log q(z_ki) − Σ_d log q(z_kid), with q the mixture over j of
    q(z|x_j); the mean over i estimates TC(z) in nats.

    Args:
        q: q(z|x) of the batch, batch shape `[B]`, with independent units; of replicas that share a
            batch, this one's part.
        z: drawn from it, `[K, B, *event]`.

    Raises:
        InvalidArgument: a q whose units are not independent.
    """
    mixture = distributions.of_whole_batch(q)
    by_unit = distributions.log_prob_by_unit(mixture, z[:, :, tf.newaxis])  # [K, B_i, B_j, D]
    if by_unit is None:
        raise InvalidArgument(
            f"'beta_tcvae' needs q(z_d|x) of every single latent; of the posterior {q.name} they "
            "are not known. Use the posterior 'diagonal_normal'."
        )
    log_size = tf.math.log(tf.cast(tf.shape(by_unit)[2], tf.float32))
    jointly = tf.reduce_logsumexp(tf.reduce_sum(by_unit, -1), axis=2) - log_size  # [K, B]
    alone = tf.reduce_sum(tf.reduce_logsumexp(by_unit, axis=2) - log_size, axis=-1)  # [K, B]
    return tf.reduce_mean(jointly - alone, axis=0)
