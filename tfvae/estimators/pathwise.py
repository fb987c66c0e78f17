"""Estimators that differentiate through the sample, z = g(ε, x)."""

import tensorflow as tf
import tensorflow_probability as tfp

from tfvae import objectives
from tfvae.errors import InvalidArgument
from tfvae.estimators.estimator import (
    REGISTRY,
    Estimate,
    Estimator,
    coefficients,
    of_each,
    zero,
)
from tfvae.objectives import LogWeightTerms


@REGISTRY.register("pathwise")
class Pathwise(Estimator):
    """The reparameterization estimator: the objective is differentiated through z = g(ε, x).

    With KL(q‖p) in closed form where the objective is linear and it is known.

    Source: Kingma and Welling 2014, "Auto-encoding variational Bayes", sec. 2.4.
    """

    latents = ("continuous",)
    takes_exact_kl = True

    def estimate(self, objective, model, x, num_samples, beta, seed, training):  # noqa: D102
        if objectives.for_encoder(objective) is not objective:
            return _two_gradients(objective, model, x, num_samples, beta, seed, training)
        q = reparameterized(model, x, training)
        z = q.sample(num_samples, seed=seed)
        return with_kl(objective, model, x, z, q, beta, training)


@REGISTRY.register("sticking_the_landing")
class StickingTheLanding(Estimator):
    """The pathwise estimator without the score term −∇ log q(z|x), z fixed.

    For a mean of log-weights that term has expectation 0, so the estimator is unbiased, and its
    gradient is exactly 0, sample by sample, where q is the true posterior. Inside a logarithm the
    term counts and leaving it out is a bias: use "dreg" there.

    Source: Roeder, Wu and Duvenaud 2017, "Sticking the landing", eq. 7.
    """

    latents = ("continuous",)
    linear_only = True

    def estimate(self, objective, model, x, num_samples, beta, seed, training):  # noqa: D102
        return _two_gradients(
            objective, model, x, num_samples, beta, seed, training, through_z=_coefficients
        )


@REGISTRY.register("dreg")
class DoublyReparameterized(Estimator):
    """The doubly reparameterized gradient: the score term is reparameterized once more.

    With c_k = ∂L/∂ log w_k, the encoder's gradient is Σ_k c̃_k ∂ log w_k/∂z_k ∇z_k, where
    c̃_k = c_k − β ∂c_k/∂ log w_k. For the IWAE bound the c_k are the normalized weights and
    c̃_k = c_k²; for the ELBO c̃_k = c_k = 1/K, and this is "sticking_the_landing". Decoder and
    prior have the plain gradient.

    Source: Tucker et al. 2019, "Doubly reparameterized gradient estimators for Monte Carlo
    objectives", eq. 8 and sec. 6.
    """

    latents = ("continuous",)

    def estimate(self, objective, model, x, num_samples, beta, seed, training):  # noqa: D102
        return _two_gradients(
            objective,
            model,
            x,
            num_samples,
            beta,
            seed,
            training,
            through_z=_reparameterized_score,
        )


def reparameterized(model, x, training):
    """Return q(z|x), refusing one whose samples are not differentiable.

    Raises:
        InvalidArgument: the posterior cannot be reparameterized.
    """
    q = model.q_z_given_x(x, training=training)
    if q.reparameterization_type != tfp.distributions.FULLY_REPARAMETERIZED:
        raise InvalidArgument(
            f"The pathwise estimators need a posterior that can be reparameterized; "
            f"{q.name} cannot. Use a Gaussian posterior, or declare its `kind` and use an "
            "estimator for discrete latents."
        )
    return q


def with_kl(objective, model, x, z, q, beta, training) -> Estimate:
    """Return the objective of samples z of q, the KL term exact where `compile` asks for it."""
    if not model.uses_exact_kl:
        terms = model.log_weight_terms(x, z, q.log_prob(z), training)
        return Estimate(objective(terms.log_weights(beta)), terms)
    log_likelihood = model.p_x_given_z(z, training).log_prob(x)
    kl = model.exact_kl(q)
    terms = LogWeightTerms(log_likelihood, tf.reduce_sum(kl, axis=-1)[tf.newaxis])
    if not model.free_bits:
        return Estimate(objective(terms.log_weights(beta)), terms)
    counted = tf.reduce_sum(tf.maximum(kl, model.free_bits), axis=-1)
    return Estimate(objective(log_likelihood) - beta * counted, terms)


def _two_gradients(objective, model, x, num_samples, beta, seed, training, through_z=None):
    """Return the estimate whose encoder follows coefficients of its own.

    Decoder and prior take the gradient of `objective` at fixed z. The encoder takes
    Σ_k c̃_k ∂ log w_k/∂z_k ∇z_k, where `through_z` makes c̃ `[K, B]` from the objective, the
    log-weights and β; None takes c̃ = c, and the score term −β Σ_k c_k ∇ log q(z_k) with it.
    """
    q = reparameterized(model, x, training)
    z = q.sample(num_samples, seed=seed)
    fixed = tf.stop_gradient(z)
    with tf.GradientTape() as tape:
        tape.watch(fixed)
        log_q = q.log_prob(fixed)
        terms = model.log_weight_terms(x, fixed, log_q, training)
        log_w = terms.log_weights(beta)
    by_z = tape.gradient(log_w, fixed)  # log w_kb depends on z_kb alone
    c = coefficients(objective, log_w)
    through = c if through_z is None else through_z(objective, log_w, beta)
    through = tf.reshape(through, tf.concat([tf.shape(c), tf.ones(len(z.shape) - 2, tf.int32)], 0))
    encoder = tf.reduce_sum(tf.stop_gradient(through * by_z) * z, axis=[0, *range(2, len(z.shape))])
    if through_z is None:
        encoder -= beta * tf.reduce_sum(c * log_q, axis=0)
    # The score of q is in `encoder` or left out, so it is taken out of the log-weights.
    return Estimate(objective(log_w + beta * zero(log_q)) + zero(encoder), terms)


def _coefficients(objective, log_weights, beta):
    return coefficients(objective, log_weights)


def _reparameterized_score(objective, log_weights, beta):
    """Return c_k − β ∂c_k/∂ log w_k, `[K, B]`.

    The derivative is the diagonal of a Jacobian: it is taken on K copies of the log-weights, the
    k-th of which gives its k-th entry.
    """
    num_samples = tf.shape(log_weights)[0]
    copies = tf.tile(tf.stop_gradient(log_weights)[:, tf.newaxis], [1, num_samples, 1])
    own = tf.eye(num_samples)[:, :, tf.newaxis]
    with tf.GradientTape() as outer:
        outer.watch(copies)
        with tf.GradientTape() as inner:
            inner.watch(copies)
            total = tf.reduce_sum(of_each(objectives.for_encoder(objective), copies))
        c = tf.reduce_sum(own * inner.gradient(total, copies), axis=1)
        total = tf.reduce_sum(c)
    slope = outer.gradient(total, copies, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return c - beta * tf.reduce_sum(own * slope, axis=1)
