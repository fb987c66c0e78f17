"""DisARM: antithetic pairs of bits, with the noise integrated out."""

import tensorflow as tf
import tensorflow_probability as tfp

from tfvae import objectives
from tfvae.distributions import as_chain
from tfvae.estimators.estimator import (
    REGISTRY,
    Estimate,
    Estimator,
    coefficients,
    draw_layers,
    of_each,
    replace_one,
    zero,
)
from tfvae.objectives import LogWeightTerms


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
    variables", eq. 4 and sec. 3.3; Yin, Ho and Zhou 2020, "Probabilistic best subset selection via
    gradient-based optimization" (U2G).
    """

    latents = ("bernoulli",)

    def estimate(self, objective, model, x, num_samples, beta, seed, training):  # noqa: D102
        encoder_objective = objectives.for_encoder(objective)
        chain = as_chain(model.q_z_given_x(x, training=training))
        seeds = tfp.random.split_seed(seed, n=2 * chain.num_layers)

        def weigh(z):
            log_q = chain.log_prob(z)
            terms = model.log_weight_terms(x, z, log_q, training)
            return terms, log_q, terms.log_weights(beta)

        layers, noises, values = draw_layers(chain, num_samples, seeds)
        terms, log_q, log_w = weigh(chain.join(values))

        encoder = 0.0
        for number, (layer, noise) in enumerate(zip(layers, noises, strict=True)):
            partner = layer.harden(layer.perturb(1.0 - noise))
            z = chain.complete([*values[:number], partner], seeds[chain.num_layers + number])
            other_terms, other_log_q, other_log_w = weigh(z)
            difference = encoder_objective(log_w) - of_each(
                encoder_objective, replace_one(log_w, other_log_w)
            )
            if number == 0:
                # Both halves are samples of q: the pairs serve twice, and so does the decoder.
                first = other_terms, other_log_q, other_log_w
                swapped = of_each(encoder_objective, replace_one(other_log_w, log_w))
                difference = 0.5 * (difference + swapped - encoder_objective(other_log_w))
            encoder += _inner_product(difference, layer, values[number], partner)

        halves = [_at_fixed_samples(objective, *half, beta) for half in ((log_q, log_w), first[1:])]
        both = LogWeightTerms(*(tf.concat(pair, 0) for pair in zip(terms, first[0], strict=True)))
        return Estimate(0.5 * (halves[0] + halves[1]) + zero(encoder), both)


def _inner_product(difference, layer, z, partner):
    """Return Σ_k Σ_d of the constant gradient times the logits, `[B]`."""
    sign = tf.where(partner > 0.5, -1.0, 1.0) * tf.cast(tf.not_equal(z, partner), tf.float32)
    gradient = 0.5 * sign * tf.sigmoid(tf.abs(layer.logits))
    axes = list(range(2, len(z.shape)))
    total = tf.reduce_sum(tf.stop_gradient(gradient) * layer.logits, axis=axes)
    return tf.reduce_sum(tf.stop_gradient(difference) * total, axis=0)


def _at_fixed_samples(objective, log_q, log_weights, beta):
    """Return the objective with its gradient at fixed z; see `score_function.with_score`."""
    value = objective(log_weights + beta * zero(log_q))
    if objectives.is_linear(objectives.for_encoder(objective)):
        return value
    return value - beta * zero(tf.reduce_sum(coefficients(objective, log_weights) * log_q, axis=0))
