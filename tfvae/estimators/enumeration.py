"""The exact gradient, by enumeration of all states of a discrete latent."""

import itertools

import numpy as np
import tensorflow as tf

from tfvae import exact, objectives
from tfvae.estimators.estimator import REGISTRY, Estimate, Estimator, zero
from tfvae.objectives import LogWeightTerms


@REGISTRY.register("exact")
class Enumeration(Estimator):
    """The expectation of the objective over q(z|x), without sampling, and its gradient.

    - A mean of log-weights: Σ_z q(z|x) log w(z), over all S states, whatever K.
    - Another objective of K samples: Σ over the S^K tuples.
    - The objective "exact": log Σ_z p(x, z); q, which it does not contain, follows
      Σ_z p(z|x) log q(z|x), so that it learns the true posterior.

    S, or S^K, may not exceed `exact.MAX_STATES`. There is no noise.
    """

    latents = ("bernoulli", "categorical")

    def prepare(self, model):
        """Refuse a model with too many states.

        Raises:
            InvalidArgument: with their number and the limit.
        """
        count, what = exact.num_latent_states(model), "the latent"
        if not (objectives.is_linear(model.objective) or model.objective is objectives.exact):
            count, what = count**model.num_samples, f"{model.num_samples} samples of the latent"
        exact.check_num_states(count, what)
        super().prepare(model)

    def estimate(self, objective, model, x, num_samples, beta, seed, training):  # noqa: D102
        states = exact.latent_states(model)
        q = model.q_z_given_x(x, training=training)
        log_q = exact.log_prob_of_states(q, states, tf.shape(x)[0])
        log_prior = model.p_z().log_prob(states)[:, tf.newaxis]
        log_likelihood = exact.log_likelihood_of_states(model, x, states, training)
        terms = LogWeightTerms(log_likelihood, log_q - log_prior)
        if objective is objectives.exact:
            surrogate = objective(log_likelihood + log_prior)
            posterior = tf.stop_gradient(tf.nn.softmax(log_likelihood + log_prior, axis=0))
            surrogate += zero(tf.reduce_sum(posterior * log_q, axis=0))
        elif objectives.for_encoder(objective) is objective:
            surrogate = _expectation(objective, terms.log_weights(beta), log_q, num_samples)
        else:
            surrogate = _of_two(objective, terms, log_q, beta, num_samples)
        means = [tf.reduce_sum(tf.exp(log_q) * part, axis=0, keepdims=True) for part in terms]
        return Estimate(surrogate, LogWeightTerms(*means))


def _expectation(objective, log_weights, log_q, num_samples):
    """Return E[objective] over K independent samples of q, `[B]`, from `[S, B]`."""
    if objectives.is_linear(objective):
        return tf.reduce_sum(tf.exp(log_q) * log_weights, axis=0)
    num_states = log_q.shape[0]
    tuples = np.array(list(itertools.product(range(num_states), repeat=num_samples))).T
    batch_size = tf.shape(log_weights)[1]
    of_tuples = tf.reshape(tf.gather(log_weights, tuples), [num_samples, -1])
    bounds = tf.reshape(objective(of_tuples), [-1, batch_size])
    probability = tf.exp(tf.reduce_sum(tf.gather(log_q, tuples), axis=0))
    return tf.reduce_sum(probability * bounds, axis=0)


def _of_two(objective, terms, log_q, beta, num_samples):
    """Return the value of the objective, its gradient for p, and its encoder objective's for q."""
    fixed_q = tf.stop_gradient(log_q)
    for_p = terms.log_weights(beta) + beta * zero(log_q)
    for_q = tf.stop_gradient(terms.log_weights(beta)) - beta * zero(log_q)
    value = _expectation(objective, for_p, fixed_q, num_samples)
    return value + zero(_expectation(objective.for_encoder, for_q, log_q, num_samples))
