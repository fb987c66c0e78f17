"""Discrete latents, against NumPy, SciPy and TFP's own distributions."""

import itertools

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from tfvae.distributions import (
    BernoulliLatent,
    CategoricalLatent,
    all_states,
    num_states,
)
from tfvae.random import make_seed

tfd = tfp.distributions

LATENTS = {"bernoulli": BernoulliLatent, "categorical": CategoricalLatent}
SHAPES = {"bernoulli": (3,), "categorical": (2, 3)}


@pytest.fixture(params=LATENTS)
def kind(request):
    return request.param


def make(kind, rng, batch=(4,)):
    logits = rng.normal(0, 1.5, (*batch, *SHAPES[kind])).astype("f4")
    return LATENTS[kind](logits, batch_ndims=len(batch)), logits


def reference(kind, logits):
    if kind == "bernoulli":
        return tfd.Independent(tfd.Bernoulli(logits, dtype=tf.float32), 1)
    return tfd.Independent(tfd.OneHotCategorical(logits, dtype=tf.float32), 1)


def test_log_prob_moments_and_kl_are_those_of_tfp(kind, rng):
    q, logits = make(kind, rng)
    p, other = make(kind, rng)
    z = reference(kind, logits).sample(7, seed=1)
    np.testing.assert_allclose(q.log_prob(z), reference(kind, logits).log_prob(z), rtol=1e-5)
    np.testing.assert_allclose(q.mean(), reference(kind, logits).mean(), rtol=1e-5)
    np.testing.assert_allclose(q.variance(), reference(kind, logits).variance(), atol=1e-6)
    np.testing.assert_array_equal(q.mode(), reference(kind, logits).mode())
    kl = tfd.kl_divergence(reference(kind, logits), reference(kind, other))
    np.testing.assert_allclose(q.kl_divergence(p), kl, rtol=1e-4, atol=1e-6)
    by_unit = q.kl_by_unit(p)
    assert by_unit.shape == (4, SHAPES[kind][0])
    np.testing.assert_allclose(np.sum(by_unit, axis=1), kl, rtol=1e-4, atol=1e-6)
    assert q.sample(5).shape == (5, 4, *SHAPES[kind])


def test_probabilities_of_all_states_sum_to_one(kind, rng):
    q, _ = make(kind, rng)
    states = all_states(kind, SHAPES[kind])
    assert len(states) == num_states(kind, SHAPES[kind]) == {"bernoulli": 8, "categorical": 9}[kind]
    assert len(np.unique(states.reshape(len(states), -1), axis=0)) == len(states)
    log_prob = q.log_prob(np.repeat(states[:, np.newaxis], 4, axis=1))
    np.testing.assert_allclose(scipy.special.logsumexp(log_prob, axis=0), np.zeros(4), atol=1e-6)


def test_samples_have_their_mean_and_depend_on_the_seed_alone(kind, rng, assert_mean):
    q, _ = make(kind, rng)
    z = q.sample(20_000, seed=make_seed(3))
    assert_mean(z, q.mean())
    np.testing.assert_array_equal(z, q.sample(20_000, seed=make_seed(3)))
    assert set(np.unique(z)) == {0.0, 1.0}


def test_the_score_is_the_derivative_of_log_prob(kind, rng):
    _, logits = make(kind, rng)
    logits = tf.constant(logits)
    z = LATENTS[kind](logits).sample(6, seed=make_seed(1))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        q = LATENTS[kind](logits)
        total = tf.reduce_sum(q.log_prob(z))
    expected = tape.gradient(total, logits)
    np.testing.assert_allclose(np.sum(q.score(z), axis=0), expected, atol=1e-5)


def test_soft_samples_become_hard_as_the_temperature_falls(kind, rng):
    q, _ = make(kind, rng)
    perturbed = q.perturb(q.draw_noise([200], make_seed(2)))
    hard = q.harden(perturbed)
    far = [np.abs(q.soften(perturbed, t) - hard).mean() for t in (1.0, 0.3, 0.1, 0.01)]
    assert np.all(np.diff(far) < 0)
    assert far[-1] < 0.01


def test_conditional_noise_gives_back_the_value_and_the_law_of_the_noise(kind, rng):
    """ζ̃ given z hardens to z, and over z ~ q it has the distribution of ζ."""
    q, _ = make(kind, rng, batch=(1,))
    free = q.perturb(q.draw_noise([20_000], make_seed(1)))
    z = q.sample(20_000, seed=make_seed(2))
    tied = q.perturb_given(z, q.draw_noise([20_000], make_seed(3)))
    np.testing.assert_array_equal(q.harden(tied), z)
    for index in itertools.product(*map(range, SHAPES[kind])):
        a, b = free.numpy()[:, 0][(..., *index)], tied.numpy()[:, 0][(..., *index)]
        assert scipy.stats.ks_2samp(a, b).pvalue > 1e-3
    # Within one value too: ζ of the draws that hardened to it.
    hard = q.harden(free).numpy()[:, 0].reshape(20_000, -1)[:, 0]
    given = z.numpy()[:, 0].reshape(20_000, -1)[:, 0]
    for value in (0.0, 1.0):
        a = free.numpy()[:, 0].reshape(20_000, -1)[hard == value, 0]
        b = tied.numpy()[:, 0].reshape(20_000, -1)[given == value, 0]
        assert scipy.stats.ks_2samp(a, b).pvalue > 1e-3


@pytest.mark.parametrize("logit", [-100.0, -30.0, 30.0, 100.0])
def test_extreme_logits_stay_finite(kind, logit):
    logits = np.zeros((1, *SHAPES[kind]), "f4")
    logits[..., 0] = logit
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        q = LATENTS[kind](logits)
        noise = q.draw_noise([500], make_seed(1))
        z = q.harden(q.perturb(noise))
        values = [q.log_prob(z), q.soften(q.perturb_given(z, noise), 0.1)]
        total = sum(tf.reduce_sum(value) for value in values)
    for value in (*values, tape.gradient(total, logits)):
        assert np.all(np.isfinite(value))
