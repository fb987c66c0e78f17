"""DisARM: antithetic pairs of bits, with the noise integrated out."""

import tensorflow as tf

from tfvae.bound import Bound, LogWeightTerms
from tfvae.estimators.estimator import (
    REGISTRY,
    Drawn,
    Estimate,
    Estimator,
    discrete_sampler,
    objective_gradient,
    of_each,
    replace_one,
    sum_event,
)
from tfvae.joint import Joint, replay
from tfvae.random import fold_in
from tfvae.surrogates import gradient_only


@REGISTRY.register("disarm")
class DisARM(Estimator):
    """Antithetic pairs for Bernoulli latents: one uniform u gives z = 1[u > 1 − p], z̃ = 1[u < p].

    With logits α, the gradient of E[f] is the expectation of

        ½ (f(z) − f(z̃)) (−1)^z̃ 1[z ≠ z̃] sigmoid(|α|).

    K samples are K pairs, so the decoder runs 2K times; the value is the mean of the objective over
    the first and over the second halves of the pairs. Objectives other than a mean of log-weights
    use the multi-sample form, f(z_k) = L(…, w(z_k), …) with the other samples held fixed.
    Stochastic layers take their pairs one layer at a time.

    Source: Dong, Mnih and Tucker 2020, "DisARM: an antithetic gradient estimator for binary latent
    variables", eq. 4 and sec. 3.3; Yin, Ho, Yan, Qian and Zhou 2020, "Probabilistic
    best subset selection via gradient-based optimization" (U2G).
    """

    latents = ("bernoulli",)

    def estimate(self, bound, infer, context, seed, training):
        objective = bound.encoder_objective
        draw, drawn = discrete_sampler(bound.num_samples, lambda n: fold_in(seed, 0, n))
        joint = infer(draw)
        terms = bound.terms(joint)
        log_w = bound.log_weights(terms)

        encoder, above = 0.0, dict(drawn)
        for position, (number, layer) in enumerate(drawn.items()):
            # The layers drawn before keep their values, this one takes its partner, the others are
            # drawn again.
            del above[number]
            before = {n: drawn[n].z for n in drawn if n != number and n not in above}
            partner = layer.q.harden(layer.q.perturb(1.0 - layer.noise))
            other = infer(replay({**before, number: partner}, _anew(seed, position)))
            other_terms = bound.terms(other)
            other_log_w = bound.log_weights(other_terms)
            difference = objective(log_w) - of_each(objective, replace_one(log_w, other_log_w))
            if position == 0:
                # Both halves are samples of q: the pairs serve twice, and so does the decoder.
                first = other, other_terms, other_log_w
                swapped = of_each(objective, replace_one(other_log_w, log_w))
                difference = 0.5 * (difference + swapped - objective(other_log_w))
            encoder += _inner_product(difference, layer, partner)

        other, other_terms, other_log_w = first
        value = _at_fixed_samples(bound, joint, log_w)
        value += _at_fixed_samples(bound, other, other_log_w)
        return Estimate(0.5 * value + gradient_only(encoder), _both(terms, other_terms))


def _anew(seed, position):
    """Return the draw of layers whose z is not given, with a seed for each."""

    def draw(number, q):
        z = q.sample(seed=fold_in(seed, 1 + position, number))
        return z, q.log_prob(z)

    return draw


def _both(terms: LogWeightTerms, others: LogWeightTerms) -> LogWeightTerms:
    """Return the terms of both halves of the pairs, `[2K, B]`."""
    kls = zip(terms.kls, others.kls, strict=True)
    return LogWeightTerms(
        tf.concat([terms.log_likelihood, others.log_likelihood], 0),
        tuple(tf.concat(pair, 0) for pair in kls),
    )


def _inner_product(difference, layer: Drawn, partner):
    """Return Σ_k Σ_d of the constant gradient times the logits, `[B]` (Dong et al. 2020, eq. 4)."""
    sign = tf.where(partner > 0.5, -1.0, 1.0) * tf.cast(tf.not_equal(layer.z, partner), tf.float32)
    gradient = tf.stop_gradient(0.5 * sign * tf.sigmoid(tf.abs(layer.q.logits)))
    total = sum_event(gradient * layer.q.logits)  # [K, B]
    return tf.reduce_sum(tf.stop_gradient(difference) * total, axis=0)


def _at_fixed_samples(bound: Bound, joint: Joint, log_weights):
    """Return the objective with its gradient at fixed z; see `score_function.with_score`."""
    weighted_log_q = bound.weighted_log_q(joint)
    value = bound.objective(log_weights + gradient_only(weighted_log_q))
    if bound.is_linear:
        return value
    c = objective_gradient(bound.objective, log_weights)
    return value - gradient_only(tf.reduce_sum(c * weighted_log_q, axis=0))
