"""Bounds on log p(x) as pure functions of log-weights, `[K, B] -> [B]`, in nats per example.

K importance samples lead, then the batch:  log w = log p(x|z) + log p(z) − log q(z|x),  z ~ q(z|x).
"""

import math
import numbers

import tensorflow as tf

from tfvae._plain.checks import whole
from tfvae.errors import InvalidArgument
from tfvae.objectives.objective import REGISTRY, Objective


@REGISTRY.register("elbo")
def elbo(log_weights: tf.Tensor) -> tf.Tensor:
    """The variational lower bound E_q[log w], by the mean over samples.

    The only bound in this module that is linear in the log-weights (`BetaTCVAE` and `InfoVAE`
    contain it), so the only one in which the sampled log q(z|x) − log p(z) may be replaced by its
    expectation, the analytic KL.

    Source: Kingma and Welling 2014, "Auto-encoding variational Bayes", eq. 3.

    Args:
        log_weights: log w_k, `[K, B]`, in nats.

    Returns:
        The bound of each example, `[B]`, in nats.
    """
    return tf.reduce_mean(log_weights, axis=0)


elbo.is_linear = True


@REGISTRY.register("iwae")
def iwae(log_weights: tf.Tensor) -> tf.Tensor:
    """The importance-weighted bound log (1/K) Σ_k w_k; equal to the ELBO at K = 1.

    Source: Burda, Grosse and Salakhutdinov 2016, "Importance weighted autoencoders", eq. 8.

    Args:
        log_weights: log w_k, `[K, B]`, in nats.

    Returns:
        The bound of each example, `[B]`, in nats.
    """
    num_samples = tf.cast(tf.shape(log_weights)[0], log_weights.dtype)
    return tf.reduce_logsumexp(log_weights, axis=0) - tf.math.log(num_samples)


@REGISTRY.register("exact")
def exact(log_joint: tf.Tensor) -> tf.Tensor:
    """The log-likelihood itself, log Σ_z p(x, z).

    For latents that take few values; trained with the estimator "exact", which enumerates them.

    Args:
        log_joint: log p(x, z) of all S states of z, `[S, B]`, in nats.

    Returns:
        log p(x) of each example, `[B]`, in nats.
    """
    return tf.reduce_logsumexp(log_joint, axis=0)


exact.estimator = "exact"
exact.takes_log_joint = True


@REGISTRY.register("miwae")
class MIWAE(Objective):
    """The mean of m IWAE bounds of k = K/m samples each: (1/m) Σ_i log (1/k) Σ_j w_ij.

    MIWAE(1) is the IWAE bound of K samples and MIWAE(K) the ELBO. A larger m raises the
    signal-to-noise ratio of the encoder's gradient, which the IWAE bound loses as K grows.

    Source: Rainforth et al. 2018, "Tighter variational bounds are not necessarily better", sec. 5.

    Args:
        num_bounds: m; `num_samples` must be a multiple of it.
    """

    def __init__(self, num_bounds: int = 5):
        self.num_bounds = whole("num_bounds", num_bounds)

    def __call__(self, log_weights):
        shape = tf.shape(log_weights)
        groups = tf.reshape(log_weights, [-1, self.num_bounds * shape[1]])
        return tf.reduce_mean(tf.reshape(iwae(groups), [self.num_bounds, shape[1]]), axis=0)

    def check(self, num_samples: int) -> None:
        """Refuse a number of samples that the bounds cannot share equally."""
        if num_samples % self.num_bounds:
            raise InvalidArgument(
                f"{self!r} shares `num_samples` among {self.num_bounds} bounds, but got "
                f"num_samples={num_samples}; expected a multiple of {self.num_bounds}."
            )

    def get_config(self):
        return {"num_bounds": self.num_bounds}


@REGISTRY.register("piwae")
class PIWAE(MIWAE):
    """The IWAE bound of all K samples for decoder and prior, MIWAE(m) for the encoder.

    Its value is the IWAE bound; `num_bounds` shapes the encoder's gradient alone.

    Source: Rainforth et al. 2018, sec. 5 (PIWAE, "partially").

    Args:
        num_bounds: m; `num_samples` must be a multiple of it.
    """

    def __init__(self, num_bounds: int = 5):
        super().__init__(num_bounds)
        self.for_encoder = MIWAE(num_bounds)

    def __call__(self, log_weights):
        return iwae(log_weights)


@REGISTRY.register("ciwae")
class CIWAE(Objective):
    """A convex combination of the two bounds: β ELBO + (1 − β) IWAE_K.

    Source: Rainforth et al. 2018, sec. 5 (CIWAE, "combination").

    Args:
        elbo_weight: the paper's β, between 0 (IWAE) and 1 (ELBO).
    """

    def __init__(self, elbo_weight: float = 0.5):
        if not (isinstance(elbo_weight, numbers.Real) and 0 <= elbo_weight <= 1):
            raise InvalidArgument(
                f"`elbo_weight` is {elbo_weight!r}; expected a number between 0 (the IWAE bound) "
                "and 1 (the ELBO)."
            )
        self.elbo_weight = elbo_weight

    def __call__(self, log_weights):
        weight = self.elbo_weight
        return weight * elbo(log_weights) + (1.0 - weight) * iwae(log_weights)

    def get_config(self):
        return {"elbo_weight": self.elbo_weight}


@REGISTRY.register("renyi")
class Renyi(Objective):
    """The variational Rényi bound 1/(1 − α) · log (1/K) Σ_k w_k^(1−α).

    α = 0 is the IWAE bound and α → 1 the ELBO. For α > 1 the bound lies below the ELBO. For α < 0
    it exceeds log p(x) once K is large enough, so it is no lower bound.

    Source: Li and Turner 2016, "Rényi divergence variational inference", eq. 14.

    Args:
        alpha: α, any finite number but 1.
    """

    def __init__(self, alpha: float = 0.5):
        if not (isinstance(alpha, numbers.Real) and math.isfinite(alpha)) or alpha == 1:
            raise InvalidArgument(
                f"`alpha` is {alpha!r}; expected a finite number other than 1. "
                "The limit α → 1 is the ELBO: use objective='elbo'."
            )
        self.alpha = alpha

    def __call__(self, log_weights):
        # Around the mean, with log1p and expm1 where the exponents are small: near α = 1 the plain
        # formula would divide rounding errors by 1 − α. A weight of 0 has no such mean.
        power = 1.0 - self.alpha
        is_finite = tf.reduce_all(tf.math.is_finite(log_weights), axis=0)
        centre = tf.reduce_mean(tf.where(is_finite, log_weights, 0.0), axis=0)
        exponents = power * (log_weights - centre)
        is_small = is_finite & (tf.reduce_max(tf.abs(exponents), axis=0) < 1.0)
        near = tf.where(is_small, exponents, 0.0)
        small = tf.math.log1p(tf.reduce_mean(tf.math.expm1(near), axis=0))
        far = iwae(tf.where(is_small, 0.0, exponents))
        return centre + tf.where(is_small, small, far) / power

    def get_config(self):
        return {"alpha": self.alpha}
