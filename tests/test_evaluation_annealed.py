"""Annealed importance sampling against the linear-Gaussian closed form."""

import json

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from test_evaluation_exact import binary_x, discrete_vae
from tiers import nightly_but

import tfvae
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.evaluation import annealed

pytestmark = pytest.mark.slow  # Compiles graphs of whole models.


def anneal(model, x, num_chains, num_temperatures, **options):
    options = {"num_leapfrog": 5, "progress": False, **options}
    return tfvae.annealed_importance_sampling(
        model, x, num_chains=num_chains, num_temperatures=num_temperatures, **options
    )


@pytest.fixture(scope="module")
def model(linear_gaussian):
    return linear_gaussian.vae()


@pytest.mark.parametrize(
    ("chains", "temperatures"),
    nightly_but([(4000, 1), (1000, 2), (64, 30), (16, 300)], (4000, 1), (64, 30)),
)
def test_log_p_of_the_linear_gaussian_model(linear_gaussian, model, chains, temperatures):
    x = linear_gaussian.x
    measured = anneal(model, x, chains, temperatures)
    error = measured.sampling_error
    assert np.all(error < 0.2)
    assert np.all(np.abs(measured.per_example - linear_gaussian.log_p(x)) <= 4 * error)


def test_the_mean_weight_is_p_of_x_without_bias(linear_gaussian, model, assert_mean):
    """Of one x, 2,000 independent estimates of p(x), with 4 temperatures and 2 chains each."""
    x = np.repeat(linear_gaussian.x[:1], 2000, axis=0)
    measured = anneal(model, x, 2, 4)
    expected = linear_gaussian.log_p(x[:1])
    assert_mean(np.exp(measured.per_example - expected)[:, np.newaxis], [1.0])


def test_one_example_has_its_log_p(linear_gaussian, model):
    x = linear_gaussian.x[:1]
    measured = anneal(model, x, 200, 30)
    assert measured.acceptance_rate.shape == (1,)
    assert measured.sampling_error[0] < 0.1
    error = measured.per_example - linear_gaussian.log_p(x)
    assert np.all(np.abs(error) <= 4 * measured.sampling_error)


def test_more_temperatures_bring_the_chains_together(linear_gaussian, model):
    few, many = (anneal(model, linear_gaussian.x, 16, t) for t in (5, 300))
    assert many.effective_sample_size.mean() > few.effective_sample_size.mean() + 2
    assert many.effective_sample_size.mean() > 12
    assert np.all((many.effective_sample_size >= 1) & (many.effective_sample_size <= 16 + 1e-3))


def test_step_sizes_follow_the_acceptance_of_each_example(linear_gaussian, model):
    measured = anneal(model, linear_gaussian.x, 16, 600)
    np.testing.assert_allclose(measured.acceptance_rate, 0.65, atol=0.08)


def test_a_transition_leaves_its_distribution_invariant(linear_gaussian, model):
    """Draws of p(z|x), moved 20 times with a step that refuses a third, are still draws of it."""
    x = linear_gaussian.x[:1]
    mean = (x - linear_gaussian.b) @ (linear_gaussian.w * linear_gaussian.variance / 0.7**2)
    deviation = np.sqrt(linear_gaussian.variance)
    rng = np.random.default_rng(0)
    z = tf.constant(mean + deviation * rng.normal(size=(4000, 1, 2)), tf.float32)
    move = tf.function(annealed._hmc, autograph=False)
    for step in range(20):
        seed = tf.constant([0, step])
        z, _, acceptance = move(model, x, None, z, 1.0, tf.constant([0.75]), tf.constant(2), seed)
    assert 0.3 < float(acceptance[0]) < 0.95
    standard = (z.numpy()[:, 0] - mean) / deviation
    for values in standard.T:
        assert scipy.stats.kstest(values, "norm").pvalue > 1e-3


def test_the_schedule_is_a_sigmoid_from_0_to_1():
    betas = annealed.sigmoid_schedule(10)
    assert betas[0] == 0
    assert betas[-1] == 1
    assert betas[5] == pytest.approx(0.5)
    sigmoid = scipy.special.expit(np.linspace(-4, 4, 11))
    slopes = np.diff(betas) / np.diff(sigmoid)
    np.testing.assert_allclose(slopes, slopes[0])
    np.testing.assert_array_equal(annealed.sigmoid_schedule(1), [0, 1])


def test_the_seed_decides(linear_gaussian, model):
    first, again, other = (
        anneal(model, linear_gaussian.x, 2, 3, seed=seed).per_example for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, again)
    assert np.all(first != other)


def test_batches_and_the_pilot_run_have_noise_of_their_own(linear_gaussian, model, monkeypatch):
    seeds = []
    for name in ("_tune", "_anneal"):
        function = getattr(annealed, name)
        monkeypatch.setattr(
            annealed,
            name,
            lambda *given, call=function: seeds.append(tuple(given[3].numpy())) or call(*given),
        )
    monkeypatch.setattr(annealed, "_BATCH_SIZE", 1)
    x = np.repeat(linear_gaussian.x[:1], 3, axis=0)
    assert len(np.unique(anneal(model, x, 2, 3).per_example)) == 3
    assert len(set(seeds)) == len(seeds) == 2 * 3


def test_images_in_small_batches_and_summary(make_vae, images, monkeypatch, eagerly):
    monkeypatch.setattr(annealed, "_CHUNK_SIZE", 2 * 5 * 16)
    model = make_vae()
    measured = anneal(model, images, 2, 3, num_leapfrog=1)
    assert measured.per_example.shape == measured.acceptance_rate.shape == (12,)
    assert len(np.unique(measured.per_example)) == 12
    summary = measured.summary()
    assert json.loads(json.dumps(summary)) == summary
    assert summary["num_chains"] == 2
    assert summary["bits_per_dim"] == pytest.approx(-summary["log_likelihood"] / np.log(2) / 16)
    assert "of 2 chains" in str(measured)
    assert anneal(model, images, 2, 1).summary()["acceptance_rate"] is None


def test_discrete_latents_are_refused():
    with pytest.raises(InvalidArgument, match=r"bernoulli latents.*tfvae\.exact_log_likelihood"):
        anneal(discrete_vae("bernoulli"), binary_x(2), 2, 2)


@pytest.mark.parametrize("name", ["num_chains", "num_temperatures", "num_leapfrog"])
def test_numbers_below_1_are_refused(linear_gaussian, model, name):
    with pytest.raises(InvalidArgument, match=f"`{name}` is 0; .*at least 1"):
        tfvae.annealed_importance_sampling(model, linear_gaussian.x, **{name: 0})


def test_data_that_does_not_fit_is_refused(model):
    with pytest.raises(InvalidData, match="empty"):
        anneal(model, np.zeros((0, 5), "f4"), 2, 2)
