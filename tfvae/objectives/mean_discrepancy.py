"""The InfoVAE objective: the ELBO less the maximum mean discrepancy between q(z) and p(z)."""

import math
from collections.abc import Callable

import tensorflow as tf

from tfvae import distributions, replicas
from tfvae._plain.checks import choice, positive
from tfvae.joint import StochasticLayer
from tfvae.objectives.bounds import elbo
from tfvae.objectives.objective import REGISTRY, Objective

_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def inverse_multiquadratic(squared_distance: tf.Tensor, size: int) -> tf.Tensor:
    """Return Σ_s C_s / (C_s + ‖z − z'‖²), C_s = 2Ds, over seven scales s from 0.1 to 10.

    Source: Tolstikhin et al. 2018, "Wasserstein auto-encoders", sec. 4; 2D is the mean of ‖z − z'‖²
    for two draws from a standard normal of D dimensions.
    """
    return tf.add_n([2.0 * size * s / (2.0 * size * s + squared_distance) for s in _SCALES])


def gaussian(squared_distance: tf.Tensor, size: int) -> tf.Tensor:
    """Return exp(−‖z − z'‖² / 2D)."""
    return tf.exp(-squared_distance / (2.0 * size))


KERNELS = {"inverse_multiquadratic": inverse_multiquadratic, "gaussian": gaussian}


@REGISTRY.register("info_vae")
class InfoVAE(Objective):
    """ELBO − weight · MMD²(q(z), p(z)), with the aggregate posterior q(z) = E_x[q(z|x)].

    With the `beta` of `compile` this is the InfoVAE family (eq. 6): β is the paper's 1 − α and
    `weight` its α + λ − 1. With `beta=0` only the aggregate q(z) is constrained: that is the
    MMD-VAE, and the WAE-MMD of Tolstikhin et al. 2018.

    MMD² and its gradient are estimated without bias from the batch and as many draws from the
    prior. The weights of a mixture have the gradient of the likelihood ratio. Replicas that share a
    batch share both sets.

    Source: Zhao, Song and Ermon 2019, "InfoVAE: balancing learning and inference in variational
    autoencoders", eq. 6 and sec. 3.2.

    Args:
        weight: nats for each unit of MMD².
        kernel: "inverse_multiquadratic" or "gaussian".
    """

    is_linear = True

    def __init__(self, weight: float = 100.0, kernel: str = "inverse_multiquadratic"):
        self.weight = positive("weight", weight)
        self.kernel = choice("kernel", kernel, KERNELS)

    def __call__(self, log_weights):
        return elbo(log_weights)

    def penalty(self, layer: StochasticLayer, seed: tf.Tensor) -> tf.Tensor:
        """Return the share of each example in weight · MMD², `[B]`."""
        num_samples, size = tf.unstack(tf.shape(layer.z)[:2])
        has_batch = len(layer.p.batch_shape) > 0  # of a condition
        shape = [num_samples] if has_batch else [num_samples, replicas.place(size)[1]]
        prior_z, log_v = distributions.differentiable_sample(layer.p, shape, seed)
        if not has_batch:
            prior_z = replicas.own(prior_z, size, axis=1)
            log_v = None if log_v is None else replicas.own(log_v, size, axis=1)
        return self.weight * squared_discrepancy(layer.z, prior_z, KERNELS[self.kernel], log_v)

    def get_config(self):
        return {"weight": self.weight, "kernel": self.kernel}


def squared_discrepancy(
    z: tf.Tensor, other: tf.Tensor, kernel: Callable, log_v: tf.Tensor | None = None
) -> tf.Tensor:
    """Return the share of each example in MMD² between two sets of draws, `[B]`.

    The mean over i of  mean_{j≠i} k(z_i, z_j) + mean_{j≠i} k(z'_i, z'_j) − 2 mean_j k(z_i, z'_j) is
    the unbiased estimate of MMD² (Gretton et al. 2012, "A kernel two-sample test", eq. 3), here
    averaged over the K samples. One example alone has no other to compare with: its share is 0.

    Args:
        z: draws from q(z|x_i), `[K, B, *event]`; of replicas that share a batch, this one's part.
        other: as many from p(z).
        kernel: function of (‖z − z'‖², D).
        log_v: 0 with a gradient, `[K, B]`, where draws from p(z) need one to have that of p; see
            `tfvae.distributions.differentiable_sample`.
    """
    shape = tf.shape(z)
    size = math.prod(z.shape[2:])
    flat = [tf.reshape(values, [shape[0], shape[1], size]) for values in (z, other)]
    everywhere = [replicas.gather(values, axis=1) for values in flat]
    first, whole = replicas.place(shape[1])
    count = tf.cast(whole, tf.float32)
    itself = tf.one_hot(first + tf.range(shape[1]), whole)  # [B, the whole batch]

    def similarity(a, b):  # [K, B, the whole batch]
        squares = [tf.reduce_sum(values**2, axis=-1) for values in (a, b)]
        products = tf.matmul(a, b, transpose_b=True)
        distance = squares[0][:, :, tf.newaxis] + squares[1][:, tf.newaxis] - 2.0 * products
        return kernel(tf.maximum(distance, 0.0), size)

    def mean_of_others(similarities):  # [K, B]
        total = tf.reduce_sum(similarities * (1.0 - itself), axis=-1)
        return tf.math.divide_no_nan(total, count - 1.0)

    of_z, of_other = (similarity(*both) for both in zip(flat, everywhere, strict=True))
    across = similarity(flat[0], everywhere[1])
    if log_v is not None:
        v = tf.exp(log_v)
        v_everywhere = replicas.gather(v, axis=1)[:, tf.newaxis]  # [K, 1, the whole batch]
        of_other *= v[:, :, tf.newaxis] * v_everywhere
        across *= v_everywhere
    share = mean_of_others(of_z) + mean_of_others(of_other) - 2.0 * tf.reduce_mean(across, axis=-1)
    several = tf.cast(whole > 1, tf.float32)
    return several * tf.reduce_mean(share, axis=0)
