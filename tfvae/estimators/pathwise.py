"""Estimators that differentiate through the sample, z = g(ε, x)."""

from collections.abc import Callable

import tensorflow as tf

from tfvae import objectives
from tfvae.bound import Bound
from tfvae.distributions import tfd
from tfvae.errors import InvalidArgument
from tfvae.estimators.estimator import (
    REGISTRY,
    Estimate,
    Estimator,
    objective_gradient,
    of_each,
    of_layer,
    sum_event,
)
from tfvae.joint import Infer, Joint, replay, sampler
from tfvae.random import Stream, fold_in
from tfvae.surrogates import gradient_only


@REGISTRY.register("pathwise")
class Pathwise(Estimator):
    """The reparameterization estimator: the objective is differentiated through z = g(ε, x).

    KL(q‖p) is in closed form where the objective is linear and the closed form is known.

    Source: Kingma and Welling 2014, "Auto-encoding variational Bayes", sec. 2.4.
    """

    latents = ("continuous",)
    takes_exact_kl = True
    needs_log_prob = False
    takes_penalty = True

    def estimate(self, bound, infer, context, seed, training):
        if bound.encoder_objective is not bound.objective:
            return two_gradients(bound, infer, seed, total_derivative)
        joint = infer(reparameterized(bound.num_samples, seed))
        terms = bound.terms(joint)
        value = bound.objective(bound.log_weights(terms))
        penalty = objectives.penalty(bound.objective)
        if penalty is None:
            return Estimate(value, terms)
        subtracted = penalty(joint.layers[0], fold_in(seed, int(Stream.PENALTY)))
        return Estimate(value - subtracted, terms, penalty=subtracted)


@REGISTRY.register("sticking_the_landing")
class StickingTheLanding(Estimator):
    """The pathwise estimator without the score term −∇ log q(z|x), z fixed.

    For a mean of log-weights that term has expectation 0, so the estimator is unbiased. Where q is
    the true posterior (and β = 1), its gradient is exactly 0, sample by sample. Inside a logarithm
    the term has another expectation, and leaving it out causes a bias: use "dreg" there.

    Source: Roeder, Wu and Duvenaud 2017, "Sticking the landing".
    """

    latents = ("continuous",)
    linear_only = True

    def estimate(self, bound, infer, context, seed, training):
        return two_gradients(bound, infer, seed, path_derivative)


@REGISTRY.register("dreg")
class DoublyReparameterized(Estimator):
    """The doubly reparameterized gradient: the score term is reparameterized once more.

    With c_k = ∂L/∂ log w_k, the encoder's gradient is Σ_k c̃_k ∂ log w_k/∂z_k ∇z_k, where
    c̃_k = c_k − β ∂c_k/∂ log w_k and β is the weight of the KL term. For the IWAE bound the c_k are
    the normalized weights, and c̃_k = c_k² at β = 1; for the ELBO c̃_k = c_k = 1/K, and this is
    "sticking_the_landing". Decoder and prior have the plain gradient.

    Source: Tucker et al. 2019, "Doubly reparameterized gradient estimators for Monte Carlo
    objectives", eq. 8 and sec. 6.
    """

    latents = ("continuous",)
    takes_betas = False

    def estimate(self, bound, infer, context, seed, training):
        return two_gradients(bound, infer, seed, doubly_reparameterized)


def reparameterized(num_samples: int, seed) -> Callable:
    """Return the draw of K samples, refusing a q whose samples are not differentiable.

    Raises:
        InvalidArgument: the posterior cannot be reparameterized.
    """
    draw_sample = sampler(num_samples, seed)

    def draw(number, q):
        if q.reparameterization_type != tfd.FULLY_REPARAMETERIZED:
            raise InvalidArgument(
                f"The pathwise estimators need a posterior that can be reparameterized; "
                f"{q.name} cannot. Use a Gaussian posterior, or declare its `kind` and use an "
                "estimator for discrete latents."
            )
        return draw_sample(number, q)

    return draw


def two_gradients(bound: Bound, infer: Infer, seed, for_encoder: Callable) -> Estimate:
    """Return the estimate whose encoder has a gradient of its own.

    Decoder and prior take the gradient of the objective at fixed z.

    Args:
        bound: what is estimated.
        infer: the pass.
        seed: of the samples.
        for_encoder: what makes the encoder's surrogate, `[B]`: `total_derivative`,
            `path_derivative` or `doubly_reparameterized`.
    """
    z = infer(reparameterized(bound.num_samples, seed)).z  # [K, B, *shape] of each layer
    fixed = [tf.stop_gradient(value) for value in z]
    with tf.GradientTape() as tape:
        tape.watch(fixed)
        joint = infer(replay(fixed))
        terms = bound.terms(joint)
        log_w = bound.log_weights(terms)  # [K, B]
    # log w_kb depends on z_kb alone, so this is ∂ log w_k/∂z_k.
    by_z = tape.gradient(log_w, fixed)
    encoder = for_encoder(bound, joint, log_w, by_z, z)
    # The gradient of q is in `encoder`, so q is held constant in the log-weights.
    at_fixed_q = bound.objective(log_w + gradient_only(bound.weighted_log_q(joint)))
    return Estimate(at_fixed_q + gradient_only(encoder), terms)


def total_derivative(bound: Bound, joint: Joint, log_w, by_z, z) -> tf.Tensor:
    """Return Σ_k c_k (∂ log w_k/∂z_k ∇z_k − β ∇ log q(z_k)), the plain pathwise gradient."""
    c = objective_gradient(bound.objective, log_w)
    return _through_z(c, by_z, z) - tf.reduce_sum(c * bound.weighted_log_q(joint), axis=0)


def path_derivative(bound: Bound, joint: Joint, log_w, by_z, z) -> tf.Tensor:
    """Return Σ_k c_k ∂ log w_k/∂z_k ∇z_k: the score term left out (Roeder et al. 2017)."""
    return _through_z(objective_gradient(bound.objective, log_w), by_z, z)


def doubly_reparameterized(bound: Bound, joint: Joint, log_w, by_z, z) -> tf.Tensor:
    """Return Σ_k c̃_k ∂ log w_k/∂z_k ∇z_k, c̃_k = c_k − β ∂c_k/∂ log w_k (Tucker et al. 2019, eq. 8).

    The derivative is the diagonal of a Jacobian: it is taken on K copies of the log-weights, the
    k-th of which gives its k-th entry.
    """
    num_samples = tf.shape(log_w)[0]
    copies = tf.tile(tf.stop_gradient(log_w)[:, tf.newaxis], [1, num_samples, 1])  # [K, K, B]
    own = tf.eye(num_samples)[:, :, tf.newaxis]
    with tf.GradientTape() as outer:
        outer.watch(copies)
        with tf.GradientTape() as inner:
            inner.watch(copies)
            total = tf.reduce_sum(of_each(bound.encoder_objective, copies))
        c = tf.reduce_sum(own * inner.gradient(total, copies), axis=1)  # [K, B]
        total = tf.reduce_sum(c)
    slope = outer.gradient(total, copies, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return _through_z(c - bound.beta * tf.reduce_sum(own * slope, axis=1), by_z, z)


def _through_z(coefficients, by_z, z):
    """Return Σ_k c_k ∂ log w_k/∂z_k · z_k with its gradient through z alone, `[B]`."""
    total = 0.0
    for slope, value in zip(by_z, z, strict=True):
        constant = tf.stop_gradient(of_layer(coefficients, value) * slope)
        total += tf.reduce_sum(sum_event(constant * value), axis=0)
    return total
