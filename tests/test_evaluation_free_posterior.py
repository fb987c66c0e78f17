"""Free posteriors and the inference gaps against closed forms and enumeration."""

import json

import keras
import numpy as np
import pytest
import scipy.optimize
import scipy.special
import tensorflow as tf
from test_evaluation_exact import SHAPES, binary_x, discrete_vae, numpy_log_joint

import tfvae
from tfvae import evaluation, random
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.evaluation import free_posterior

pytestmark = pytest.mark.slow  # Compiles graphs of whole models.


def fit(model, x, **options):
    options = {"num_steps": 400, "num_fresh_samples": 1000, "progress": False, **options}
    return tfvae.fit_posterior(model, x, **options)


def numpy_bound(states, log_joint, logits):
    """Return the ELBO of a Bernoulli posterior with these logits, for one example."""
    log_q = states @ logits - np.sum(np.log1p(np.exp(logits)))
    return np.sum(np.exp(log_q) * (log_joint - log_q))


def best_bounds(model, x):
    """Return max over Bernoulli posteriors of the ELBO of each example, by SciPy."""
    states, log_joint = numpy_log_joint(model, x)
    rng = np.random.default_rng(0)
    return np.array(
        [
            max(
                -scipy.optimize.minimize(
                    lambda v, column=column: -numpy_bound(states, column, v), start
                ).fun
                for start in rng.normal(size=(4, states.shape[1]))
            )
            for column in log_joint.T
        ]
    )


@pytest.fixture(scope="module")
def vae(linear_gaussian):
    """A VAE with an arbitrary encoder, whose graphs are traced once for all tests."""
    return linear_gaussian.vae()


@pytest.fixture(scope="module")
def true_vae(linear_gaussian):
    """The VAE whose encoder is the true posterior."""
    return linear_gaussian.vae("posterior")


@pytest.mark.parametrize("init", ["encoder", "prior"])
def test_the_family_that_has_the_true_posterior_reaches_log_p(vae, true_vae, linear_gaussian, init):
    model, x = vae, linear_gaussian.x
    fitted = fit(model, x, init=init)
    np.testing.assert_allclose(fitted.per_example, linear_gaussian.log_p(x), atol=2e-3)
    np.testing.assert_allclose(fitted.log_likelihood, linear_gaussian.log_p(x), atol=2e-3)
    mean, deviation = linear_gaussian.q(true_vae, x)
    q = fitted.distribution()
    np.testing.assert_allclose(q.mean(), mean, atol=0.02)
    np.testing.assert_allclose(q.stddev(), deviation, rtol=0.02, atol=0)
    np.testing.assert_array_equal(fitted.distribution([2, 0]).mean(), q.mean().numpy()[[2, 0]])


def test_the_bound_of_the_encoder_is_the_closed_form(vae, linear_gaussian, assert_mean):
    model, x = vae, linear_gaussian.x
    mean, deviation = linear_gaussian.q(model, x)
    expected = linear_gaussian.expected_log_likelihood(mean, deviation, x)
    expected = expected - linear_gaussian.kl(mean, deviation)
    assert_mean([fit(model, x, num_steps=1, seed=n).encoder_bound for n in range(20)], expected)


def test_discrete_posteriors_reach_the_best_bound_of_their_family():
    model, x = discrete_vae("bernoulli"), binary_x(6)
    fitted = fit(model, x, num_steps=1500)
    assert fitted.is_enumerated
    states, log_joint = numpy_log_joint(model, x)
    logits = np.asarray(model.encoder(x), np.float64)
    expected = [numpy_bound(states, *pair) for pair in zip(log_joint.T, logits, strict=True)]
    np.testing.assert_allclose(fitted.encoder_bound, expected, atol=1e-5)
    np.testing.assert_allclose(
        fitted.log_likelihood, scipy.special.logsumexp(log_joint, axis=0), atol=1e-5
    )
    best = best_bounds(model, x)
    assert np.all(fitted.per_example <= best + 1e-4)
    # A local optimum may differ from the best one for an example, not for most.
    assert np.median(best - fitted.per_example) < 1e-3


@pytest.mark.parametrize("kind", SHAPES)
def test_the_likelihood_ratio_finds_what_enumeration_finds(kind, monkeypatch):
    model, x = discrete_vae(kind), binary_x(6)
    exact = fit(model, x)
    monkeypatch.setattr(free_posterior, "_MAX_STATES", 1)
    sampled = fit(model, x, num_samples=20, num_fresh_samples=20000)
    assert not sampled.is_enumerated
    assert np.mean(exact.per_example - exact.encoder_bound) > 0.05
    np.testing.assert_allclose(sampled.per_example, exact.per_example, atol=0.03)
    np.testing.assert_allclose(sampled.encoder_bound, exact.encoder_bound, atol=0.08)


def test_where_the_fit_got_worse_the_start_is_kept(true_vae, linear_gaussian):
    model, x = true_vae, linear_gaussian.x
    fitted = fit(model, x, learning_rate=3.0, num_steps=2)
    np.testing.assert_array_equal(fitted.parameters, model.encoder(x))
    np.testing.assert_array_equal(fitted.per_example, fitted.encoder_bound)


def test_the_learning_rate_falls_linearly():
    """Where all gradients are equal, each step of Adam is as long as its rate."""
    found = free_posterior._ascend(
        lambda step, parameters: tf.constant([3.0, -0.5]), tf.zeros([2]), tf.constant(10), 0.1
    )
    np.testing.assert_allclose(found, [0.55, -0.55], rtol=1e-4)


def test_the_choice_and_the_bounds_are_measured_with_draws_of_their_own(
    vae, linear_gaussian, monkeypatch
):
    """Of each batch; those that are compared have the same noise."""
    measured, seeds = free_posterior.log_weight_sums, []

    def recorded(model, x, seed, *rest, **options):
        seeds.append(tuple(seed.numpy()))
        return measured(model, x, seed, *rest, **options)

    monkeypatch.setattr(free_posterior, "log_weight_sums", recorded)
    monkeypatch.setattr(free_posterior, "_BATCH_SIZE", 2)
    fit(vae, linear_gaussian.x, num_steps=1)
    assert seeds[::2] == seeds[1::2]
    assert len(set(seeds)) == 4


def test_every_step_has_noise_of_its_own(vae, linear_gaussian):
    """Of two equal gradients Adam would make steps of the whole rate, which falls by half."""
    model, x = vae, tf.constant(linear_gaussian.x)
    start = model.bottom_up(x)
    fitted = free_posterior._fit_sampled(
        *(model, x, None, start, tf.constant(2), tf.constant(1e-4)),
        *(random.make_seed(0), tf.constant(1), True),
    )
    moved = np.abs(fitted - start)
    assert np.mean(moved < 1.45e-4) > 0.3


def test_no_steps_leave_the_start(vae, linear_gaussian):
    fitted = fit(vae, linear_gaussian.x, num_steps=0, init="prior")
    np.testing.assert_array_equal(fitted.parameters, np.zeros((4, 4)))


def test_the_model_is_left_as_it_was(vae, linear_gaussian):
    model = vae
    before = [np.array(w) for w in model.get_weights()]
    fit(model, linear_gaussian.x, num_steps=5)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_seed_decides_and_batches_do_not_share_posteriors(vae, linear_gaussian, monkeypatch):
    monkeypatch.setattr(free_posterior, "_BATCH_SIZE", 3)
    model = vae
    first, again, other = (
        fit(model, linear_gaussian.x, num_steps=5, seed=s).per_example for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.all(first != other)
    assert fit(model, linear_gaussian.x).mean == pytest.approx(
        linear_gaussian.log_p(linear_gaussian.x).mean(), abs=2e-3
    )


def test_the_true_posterior_has_no_gaps(true_vae, linear_gaussian):
    gap = tfvae.amortization_gap(true_vae, linear_gaussian.x, num_samples=500, progress=False)
    assert gap.is_exact
    for name in ("approximation_gap", "amortization_gap", "inference_gap"):
        np.testing.assert_allclose(getattr(gap, name), 0, atol=1e-4)


def test_a_wrong_encoder_in_the_right_family_is_all_amortization(vae, linear_gaussian):
    model, x = vae, linear_gaussian.x
    gap = tfvae.amortization_gap(model, x, num_samples=20000, progress=False)
    mean, deviation = linear_gaussian.q(model, x)
    bound = linear_gaussian.expected_log_likelihood(mean, deviation, x)
    expected = linear_gaussian.log_p(x) - (bound - linear_gaussian.kl(mean, deviation))
    np.testing.assert_allclose(gap.approximation_gap, 0, atol=1e-3)
    np.testing.assert_allclose(gap.amortization_gap, expected, atol=0.06)
    np.testing.assert_allclose(
        gap.inference_gap, gap.approximation_gap + gap.amortization_gap, atol=1e-5
    )


def test_discrete_gaps_are_exact():
    model, x = discrete_vae("bernoulli"), binary_x(5)
    gap = tfvae.amortization_gap(model, x, progress=False)
    _, log_joint = numpy_log_joint(model, x)
    log_p = scipy.special.logsumexp(log_joint, axis=0)
    assert gap.is_exact
    np.testing.assert_allclose(gap.log_likelihood, log_p, atol=1e-5)
    assert np.all(gap.approximation_gap >= log_p - best_bounds(model, x) - 1e-4)
    assert np.all(gap.approximation_gap > 0)
    assert np.all(gap.amortization_gap >= 0)


def test_without_a_closed_form_log_p_is_sampled_from_the_free_posterior(make_vae, images):
    model = make_vae()
    fitted = fit(model, images, num_fresh_samples=5000)
    gap = tfvae.amortization_gap(model, images, posterior=fitted, progress=False)
    assert not gap.is_exact
    assert gap.num_samples == 5000
    np.testing.assert_array_equal(gap.log_likelihood, fitted.log_likelihood)
    axis = np.linspace(-7, 7, 141)
    z = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 1, 2).astype("f4")
    log_joint = model.log_joint(images, z).numpy()
    expected = scipy.special.logsumexp(log_joint, axis=0) + 2 * np.log(axis[1] - axis[0])
    np.testing.assert_allclose(gap.log_likelihood, expected, atol=0.05)
    assert np.all(gap.approximation_gap > 0)


def test_summaries_have_means_and_errors():
    log_p, free, encoder = np.random.default_rng(0).normal(size=(3, 9))
    gap = evaluation.AmortizationGap(log_p, free, encoder, False, 10)
    summary = gap.summary()
    assert json.loads(json.dumps(summary)) == summary
    assert summary["approximation_gap"] == pytest.approx(np.mean(log_p - free))
    assert summary["amortization_gap"] == pytest.approx(np.mean(free - encoder))
    assert summary["inference_gap"] == pytest.approx(np.mean(log_p - encoder))
    assert summary["amortization_gap_error"] == pytest.approx(np.std(free - encoder, ddof=1) / 3)
    assert f"amortization gap {np.mean(free - encoder):.3f} ±" in str(gap)


def test_the_summary_of_a_fit(vae, linear_gaussian):
    fitted = fit(vae, linear_gaussian.x, num_steps=2)
    summary = fitted.summary()
    assert json.loads(json.dumps(summary)) == summary
    assert summary["free_bound"] == fitted.mean
    assert summary["standard_error"] == fitted.standard_error
    assert f"{fitted.mean:.3f}" in str(fitted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": -1}, "`num_steps` is -1; .*at least 0"),
        ({"num_samples": 0}, "`num_samples` is 0; .*at least 1"),
        ({"num_fresh_samples": 0}, "`num_fresh_samples` is 0; .*at least 1"),
        ({"learning_rate": 0.0}, "`learning_rate` is 0.0; expected a positive number"),
        ({"init": "zeros"}, "`init` is 'zeros'; expected one of encoder, prior"),
    ],
)
def test_values_that_cannot_be_used_are_refused(vae, linear_gaussian, options, message):
    with pytest.raises(InvalidArgument, match=message):
        fit(vae, linear_gaussian.x, **options)


def test_the_likelihood_ratio_needs_two_samples(monkeypatch):
    monkeypatch.setattr(free_posterior, "_MAX_STATES", 1)
    with pytest.raises(InvalidArgument, match=r"bernoulli latents.*at least 2"):
        fit(discrete_vae("bernoulli"), binary_x(2), num_samples=1)


def test_a_model_without_one_posterior_family_is_refused(linear_gaussian):
    model = tfvae.models.LatentVariableModel()
    assert isinstance(model, keras.Model)
    with pytest.raises(InvalidArgument, match=r"no single posterior family.*VAE"):
        fit(model, linear_gaussian.x)


def test_posteriors_of_other_examples_are_refused(vae, linear_gaussian):
    model = vae
    fitted = fit(model, linear_gaussian.x[:2], num_steps=1)
    with pytest.raises(InvalidArgument, match="2 posteriors, but there are 4 examples"):
        tfvae.amortization_gap(model, linear_gaussian.x, posterior=fitted, progress=False)
    with pytest.raises(InvalidArgument, match="`num_samples` is given beside `posterior`"):
        tfvae.amortization_gap(
            model, linear_gaussian.x, num_samples=100, posterior=fitted, progress=False
        )


def test_data_that_does_not_fit_is_refused(vae):
    with pytest.raises(InvalidData, match="empty"):
        fit(vae, np.zeros((0, 5), "f4"))
