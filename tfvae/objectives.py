"""Bounds on log p(x) as pure functions of log-weights, `[K, B] -> [B]`, in nats per example.

K importance samples lead, then the batch:  log w = log p(x|z) + log p(z) − log q(z|x),  z ~ q(z|x).
An objective is maximized. To add one, write and register the function here, and re-export it.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tfvae.registry import Registry

REGISTRY = Registry("objective")
get = REGISTRY.get


class LogWeightTerms(NamedTuple):
    """The two parts of a log-weight, in nats.

    Attributes:
        log_likelihood: log p(x|z), `[K, B]`.
        kl: log q(z|x) − log p(z), `[K, B]`, a one-sample estimate of KL(q‖p) in each entry; or
            `[1, B]`, the exact KL(q‖p), where it is known in closed form.
    """

    log_likelihood: tf.Tensor
    kl: tf.Tensor

    def log_weights(self, beta=1.0) -> tf.Tensor:
        """Return log p(x|z) + β (log p(z) − log q(z|x)), `[K, B]`."""
        return self.log_likelihood - beta * self.kl


@REGISTRY.register("elbo")
def elbo(log_weights: tf.Tensor) -> tf.Tensor:
    """The variational lower bound E_q[log w], by the mean over samples.

    The only objective here that is linear in the log-weights, so the only one in which the sampled
    log q(z|x) − log p(z) may be replaced by its expectation, the analytic KL.

    Source: Kingma and Welling 2014, "Auto-encoding variational Bayes", eq. 3.
    """
    return tf.reduce_mean(log_weights, axis=0)


elbo.is_linear = True


@REGISTRY.register("iwae")
def iwae(log_weights: tf.Tensor) -> tf.Tensor:
    """The importance-weighted bound log (1/K) Σ_k w_k; equal to the ELBO at K = 1.

    Source: Burda, Grosse and Salakhutdinov 2016, "Importance weighted autoencoders", eq. 8.
    """
    num_samples = tf.cast(tf.shape(log_weights)[0], log_weights.dtype)
    return tf.reduce_logsumexp(log_weights, axis=0) - tf.math.log(num_samples)


def is_linear(objective: Callable) -> bool:
    """Whether the objective is a mean of log-weights, so that the KL term may be exact."""
    return getattr(objective, "is_linear", False)
