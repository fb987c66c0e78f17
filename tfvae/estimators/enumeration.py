"""The exact gradient, by enumeration of all states of a discrete latent."""

import itertools

import numpy as np
import tensorflow as tf

from tfvae import exact, objectives
from tfvae.bound import Bound, LogWeightTerms
from tfvae.estimators.estimator import REGISTRY, Estimate, Estimator
from tfvae.joint import Joint, replay
from tfvae.surrogates import gradient_only


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

    def prepare(self, model, bound):
        """Refuse a model with too many states, for the number of samples of the bound.

        Raises:
            InvalidArgument: with their number and the limit.
        """
        count, what = exact.num_latent_states(model), "the latent"
        if not (
            objectives.is_linear(bound.objective) or objectives.takes_log_joint(bound.objective)
        ):
            count, what = count**bound.num_samples, f"{bound.num_samples} samples of the latent"
        exact.check_num_states(count, what)
        self._states = [z[:, np.newaxis] for z in exact.states_by_layer(model)]  # [S, 1, *shape]
        super().prepare(model, bound)

    def estimate(self, bound, infer, context, seed, training):
        joint = infer(replay([tf.constant(z) for z in self._states]))
        terms = bound._replace(kl="monte_carlo").terms(joint)  # of every state, [S, B]
        log_q = joint.log_q()
        if objectives.takes_log_joint(bound.objective):
            surrogate = _log_likelihood(bound, joint, log_q)
        elif bound.encoder_objective is bound.objective:
            log_w = bound.log_weights(terms)
            surrogate = _expectation(bound.objective, log_w, log_q, bound.num_samples)
        else:
            surrogate = _of_two(bound, joint, terms, log_q)
        means = [
            tf.reduce_sum(tf.exp(log_q) * part, axis=0, keepdims=True)
            for part in (terms.log_likelihood, *terms.kls)
        ]
        return Estimate(surrogate, LogWeightTerms(means[0], tuple(means[1:])))


def _log_likelihood(bound: Bound, joint: Joint, log_q):
    """Return log Σ_z p(x, z), with a gradient by which q learns p(z|x)."""
    log_joint = joint.log_likelihood + joint.log_p()
    posterior = tf.stop_gradient(tf.nn.softmax(log_joint, axis=0))  # p(z|x), [S, B]
    return bound.objective(log_joint) + gradient_only(tf.reduce_sum(posterior * log_q, axis=0))


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


def _of_two(bound: Bound, joint: Joint, terms: LogWeightTerms, log_q):
    """Return the value of the objective, its gradient for p, and its encoder objective's for q."""
    log_w, of_q = bound.log_weights(terms), gradient_only(bound.weighted_log_q(joint))
    for_p = log_w + of_q
    for_q = tf.stop_gradient(log_w) - of_q
    value = _expectation(bound.objective, for_p, tf.stop_gradient(log_q), bound.num_samples)
    return value + gradient_only(
        _expectation(bound.encoder_objective, for_q, log_q, bound.num_samples)
    )
