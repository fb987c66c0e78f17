import json
import math

import numpy as np
import pytest
import scipy.special
import tensorflow as tf
import tensorflow_probability as tfp
from eager import without_graphs

import tfvae
from tfvae import evaluation
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.evaluation import LogLikelihood
from tfvae.evaluation.results import sampling_error

tfd = tfp.distributions
X_SIZE = 5  # of the linear-Gaussian model


def measure(model, x, num_samples, **options):
    return tfvae.log_likelihood(model, x, num_samples=num_samples, progress=False, **options)


def draw_x(linear_gaussian, count, seed=0):
    """Return examples that the model itself might have made."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(count, linear_gaussian.w.shape[1]))
    noise = rng.normal(size=(count, X_SIZE))
    return (z @ linear_gaussian.w.T + linear_gaussian.b + linear_gaussian.scale * noise).astype(
        "f4"
    )


def numpy_log_weights(linear_gaussian, model, x, num_samples, rng):
    """Return log p(x|z) and log q(z|x) − log p(z) for z ~ q, each `[K, B]`, by NumPy."""
    mean, sigma = linear_gaussian.q(model, x)
    noise = rng.normal(size=(num_samples, *mean.shape))
    z = mean + sigma * noise
    residual = (x - linear_gaussian.b - z @ linear_gaussian.w.T) / linear_gaussian.scale
    log_scale = np.log(linear_gaussian.scale) + 0.5 * np.log(2 * np.pi)
    log_likelihood = -0.5 * np.sum(residual**2, -1) - X_SIZE * log_scale
    kl = np.sum(0.5 * z**2 - 0.5 * noise**2 - np.log(sigma), -1)
    return log_likelihood, kl


def set_chunk(monkeypatch, batch, chunk):
    """Make `log_likelihood` work on `batch` examples and `chunk` samples at a time."""
    monkeypatch.setattr(evaluation.importance, "_BATCH_SIZE", batch)
    monkeypatch.setattr(evaluation.importance, "_CHUNK_SIZE", batch * chunk * X_SIZE)


@pytest.fixture(scope="module")
def arbitrary(linear_gaussian):
    return linear_gaussian.vae("arbitrary")


@pytest.fixture(scope="module")
def posterior(linear_gaussian):
    return linear_gaussian.vae("posterior")


def test_5000_samples_give_log_p_of_the_linear_gaussian_model(linear_gaussian, arbitrary):
    x = draw_x(linear_gaussian, 10)
    exact = linear_gaussian.log_p(x)
    runs = [measure(arbitrary, x, 5000, seed=seed) for seed in range(12)]
    estimates = np.array([run.per_example for run in runs])
    error = estimates.std(axis=0, ddof=1)  # of one estimate, of one example
    assert np.all(error < 0.2)
    assert np.all(np.abs(estimates[0] - exact) <= 4 * error)
    assert np.all(np.abs(estimates.mean(axis=0) - exact) <= 4 * error / np.sqrt(len(runs)))


def test_the_bounds_are_in_order(linear_gaussian, arbitrary):
    x = draw_x(linear_gaussian, 30)
    elbo, few, many = (measure(arbitrary, x, k).mean for k in (1, 10, 1000))
    exact = linear_gaussian.log_p(x).mean()
    assert elbo < few < many < exact + 0.05
    assert measure(arbitrary, x, 1000).elbo < exact


def test_reconstruction_and_kl_have_their_closed_forms(linear_gaussian, arbitrary, assert_mean):
    x = linear_gaussian.x
    runs = [measure(arbitrary, x, 500, seed=seed) for seed in range(30)]
    mean, sigma = linear_gaussian.q(arbitrary, x)
    expected = -linear_gaussian.expected_log_likelihood(mean, sigma, x)
    assert_mean([run.reconstruction for run in runs], expected)
    assert_mean([run.kl for run in runs], linear_gaussian.kl(mean, sigma))
    assert_mean([run.elbo for run in runs], -np.mean(expected + linear_gaussian.kl(mean, sigma)))


@pytest.mark.parametrize(
    ("num_examples", "batch", "num_samples", "chunk"),
    [(1, 20, 1, 50), (4, 2, 6, 3), (23, 20, 13, 5), (7, 3, 1, 4), (3, 1, 5, 1)],
)
def test_with_the_true_posterior_every_example_is_exact(
    linear_gaussian, posterior, monkeypatch, num_examples, batch, num_samples, chunk
):
    set_chunk(monkeypatch, batch, chunk)
    x = draw_x(linear_gaussian, num_examples)
    measured = measure(posterior, x, num_samples)
    np.testing.assert_allclose(measured.per_example, linear_gaussian.log_p(x), atol=1e-3)
    np.testing.assert_allclose(measured.effective_sample_size, num_samples, rtol=1e-4)
    assert measured.num_samples == num_samples


def true_posterior(linear_gaussian):
    """Return the function from x to p(z|x)."""
    to_mean = linear_gaussian.w * linear_gaussian.variance / linear_gaussian.scale**2
    deviation = tf.constant(np.sqrt(linear_gaussian.variance), tf.float32)

    def proposal(x):
        mean = tf.matmul(x - linear_gaussian.b.astype("f4"), to_mean.astype("f4"))
        return tfd.Independent(tfd.Normal(mean, tf.broadcast_to(deviation, tf.shape(mean))), 1)

    return proposal


def test_the_true_posterior_as_proposal_makes_any_encoder_exact(linear_gaussian, arbitrary):
    x = draw_x(linear_gaussian, 23)
    measured = measure(arbitrary, x, 30, proposal=true_posterior(linear_gaussian))
    np.testing.assert_allclose(measured.per_example, linear_gaussian.log_p(x), atol=1e-3)
    np.testing.assert_allclose(measured.effective_sample_size, 30, rtol=1e-4)
    np.testing.assert_allclose(measured.sampling_error, 0, atol=2e-3)
    assert measured.elbo == pytest.approx(measured.mean, abs=1e-3)
    assert np.all(measure(arbitrary, x, 30).effective_sample_size < 29)


def test_the_encoder_as_proposal_changes_nothing(linear_gaussian, arbitrary):
    x = draw_x(linear_gaussian, 23)
    np.testing.assert_array_equal(
        measure(arbitrary, x, 30, proposal=arbitrary.q_z_given_x).per_example,
        measure(arbitrary, x, 30).per_example,
    )


def test_a_proposal_may_have_dependent_units(linear_gaussian, arbitrary):
    x = draw_x(linear_gaussian, 10)

    def proposal(x):
        mean = arbitrary.encoder(x)[:, :2]
        return tfd.MultivariateNormalTriL(mean, [[0.9, 0.0], [0.1, 0.9]])

    measured = measure(arbitrary, x, 5000, proposal=proposal)
    error = measured.sampling_error
    assert np.all(error < 0.1)
    assert np.all(np.abs(measured.per_example - linear_gaussian.log_p(x)) <= 4 * error)


BAD_PROPOSALS = {
    "not independent": (lambda x: tfd.Normal(x[:, :2], 1.0), r"\(4, 2\) and event shape \(\)"),
    "one for all": (
        lambda x: tfd.MultivariateNormalDiag(tf.zeros(2), tf.ones(2)),
        r"batch shape \(\) and event shape \(2,\); expected \(4,\) and \(2,\)",
    ),
    "too many dimensions": (
        lambda x: tfd.Independent(tfd.Normal(x, 1.0), 1),
        r"event shape \(5,\); expected \(4,\) and \(2,\)",
    ),
    "a tensor": (lambda x: x[:, :2], r"returned EagerTensor; expected a tfd\.Distribution"),
}


@pytest.mark.parametrize("problem", BAD_PROPOSALS)
def test_proposals_that_do_not_fit_are_refused(linear_gaussian, arbitrary, problem):
    proposal, message = BAD_PROPOSALS[problem]
    with pytest.raises(InvalidArgument, match=message):
        measure(arbitrary, linear_gaussian.x, 3, proposal=proposal)


@pytest.mark.parametrize("weights", [[0.3, 1.1], [0.1, 2.0, 0.7, 0.2, 1.3]], ids=len)
def test_the_sampling_error_is_that_of_a_mean_weight_relative_to_it(weights):
    size = np.sum(weights) ** 2 / np.sum(np.square(weights))
    expected = np.std(weights, ddof=1) / np.sqrt(len(weights)) / np.mean(weights)
    np.testing.assert_allclose(sampling_error(np.array([size]), len(weights)), expected, rtol=1e-6)


def test_the_sampling_error_is_the_deviation_over_seeds(linear_gaussian, arbitrary):
    runs = [measure(arbitrary, linear_gaussian.x, 200, seed=seed) for seed in range(60)]
    deviation = np.std([run.per_example for run in runs], axis=0, ddof=1)
    predicted = np.mean([run.sampling_error for run in runs], axis=0)
    # 60 deviations from the mean know the deviation to 9 %.
    np.testing.assert_allclose(predicted, deviation, rtol=4 * 0.09)
    assert np.all(np.isnan(measure(arbitrary, linear_gaussian.x, 1).sampling_error))


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_streaming_has_the_distribution_of_all_samples_at_once(
    linear_gaussian, arbitrary, monkeypatch, rng, chunk
):
    """Of one x, 3,000 independent estimates with 7 samples each, against NumPy's."""
    set_chunk(monkeypatch, 100, chunk)
    x = np.repeat(linear_gaussian.x[:1], 3000, axis=0)
    measured = measure(arbitrary, x, 7)
    log_likelihood, kl = numpy_log_weights(linear_gaussian, arbitrary, x, 7, rng)
    log_w = log_likelihood - kl
    log_sum = scipy.special.logsumexp(log_w, axis=0)
    expected = {
        "per_example": log_sum - np.log(7),
        "effective_sample_size": np.exp(2 * log_sum - scipy.special.logsumexp(2 * log_w, axis=0)),
        "reconstruction": -log_likelihood.mean(axis=0),
        "kl": kl.mean(axis=0),
    }
    for name, values in expected.items():
        got = getattr(measured, name).astype(np.float64)
        for function in (np.asarray, np.square):
            a, b = function(got), function(values)
            error = math.sqrt((a.var() + b.var()) / 3000)
            assert abs(a.mean() - b.mean()) <= 4 * error, name


@pytest.mark.parametrize("num_samples", [1, 40, 41, 200])
def test_memory_does_not_grow_with_the_number_of_samples(linear_gaussian, monkeypatch, num_samples):
    set_chunk(monkeypatch, batch=2, chunk=40)
    model = linear_gaussian.vae()
    seen = []
    infer = model.infer

    def watched(h, draw, *arguments):
        layers, x_params = infer(h, draw, *arguments)
        seen.append(layers[0].z.shape[0])
        return layers, x_params

    monkeypatch.setattr(model, "infer", watched)
    with without_graphs():
        measure(model, linear_gaussian.x[:2], num_samples)
    assert sum(seen) == num_samples
    assert max(seen) <= 40


@pytest.mark.parametrize("batch_size", [7, 23])
def test_a_dataset_gives_what_its_array_gives(linear_gaussian, arbitrary, batch_size):
    x = draw_x(linear_gaussian, 23)
    expected = measure(arbitrary, x, 10)
    for data in (x, (x,), (x, np.arange(23))):
        dataset = tf.data.Dataset.from_tensor_slices(data).batch(batch_size)
        measured = measure(arbitrary, dataset, 10)
        np.testing.assert_array_equal(measured.per_example, expected.per_example)
        assert tfvae.active_units(arbitrary, dataset) == tfvae.active_units(arbitrary, x)


@pytest.mark.parametrize("dtype", [np.float64, np.uint8])
def test_numbers_of_any_type_are_measured_as_float32(arbitrary, rng, dtype):
    x = rng.integers(0, 3, (4, X_SIZE)).astype(dtype)
    np.testing.assert_array_equal(
        measure(arbitrary, x, 5).per_example, measure(arbitrary, x.astype("f4"), 5).per_example
    )


def test_the_seed_decides(linear_gaussian, arbitrary):
    first, again, other = (
        measure(arbitrary, linear_gaussian.x, 20, seed=seed).per_example for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, again)
    assert np.all(first != other)


def test_equal_examples_get_samples_of_their_own(linear_gaussian, arbitrary, monkeypatch):
    set_chunk(monkeypatch, batch=3, chunk=2)
    x = np.repeat(linear_gaussian.x[:1], 9, axis=0)
    assert len(np.unique(measure(arbitrary, x, 4).per_example)) == 9


def hand_made(num_examples):
    rng = np.random.default_rng(0)
    values = rng.normal(-80, 5, (4, num_examples))
    return LogLikelihood(*values, num_samples=10, num_values=64)


def test_the_summary_has_the_means_and_their_formulas():
    measured = hand_made(9)
    summary = measured.summary()
    assert summary == {
        "log_likelihood": pytest.approx(np.mean(measured.per_example)),
        "standard_error": pytest.approx(np.std(measured.per_example, ddof=1) / 3),
        "bits_per_dim": pytest.approx(-np.mean(measured.per_example) / np.log(2) / 64),
        "elbo": pytest.approx(-np.mean(measured.reconstruction) - np.mean(measured.kl)),
        "reconstruction": pytest.approx(np.mean(measured.reconstruction)),
        "kl": pytest.approx(np.mean(measured.kl)),
        "effective_sample_size": pytest.approx(np.mean(measured.effective_sample_size)),
        "num_samples": 10,
        "num_examples": 9,
    }
    assert json.loads(json.dumps(summary)) == summary


def test_one_example_has_no_standard_error():
    assert math.isnan(hand_made(1).standard_error)


def test_text_names_the_measures():
    text = str(hand_made(9))
    assert f"{hand_made(9).mean:.3f} ± {hand_made(9).standard_error:.3f} nats" in text
    assert "9 examples" in text


def test_the_number_of_values_is_that_of_the_images(make_vae, images):
    measured = measure(make_vae(), images, 2)
    assert measured.num_values == 16
    assert measured.per_example.shape == (len(images),)


def test_progress_does_not_reach_standard_output(linear_gaussian, arbitrary, capsys):
    tfvae.log_likelihood(arbitrary, linear_gaussian.x, num_samples=2)
    assert capsys.readouterr().out == ""


def test_active_units_are_those_whose_means_vary(linear_gaussian, arbitrary):
    x = draw_x(linear_gaussian, 700)
    variances = linear_gaussian.q(arbitrary, x)[0].var(axis=0)
    low, high = np.sort(variances)
    assert 1.05 * low < high
    for threshold, expected in ((0.99 * low, 2), (1.01 * low, 1), (1.01 * high, 0)):
        assert tfvae.active_units(arbitrary, x, threshold=threshold) == expected


def test_posterior_means_are_those_of_numpy(linear_gaussian, arbitrary):
    x = draw_x(linear_gaussian, 12)
    expected = linear_gaussian.q(arbitrary, x)[0]
    for batch_size in (5, 12, 100):
        means = evaluation.posterior_means(arbitrary, x, batch_size=batch_size)
        np.testing.assert_allclose(means, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("num_samples", [0, -1])
def test_no_samples_are_refused(linear_gaussian, arbitrary, num_samples):
    with pytest.raises(InvalidArgument, match=f"`num_samples` is {num_samples}; .*at least 1"):
        measure(arbitrary, linear_gaussian.x, num_samples)


MEASURES = {
    "log_likelihood": lambda model, x: measure(model, x, 3),
    "active_units": tfvae.active_units,
}
BAD_X = {
    "empty": (np.zeros((0, X_SIZE), "f4"), "at least one example|no examples"),
    "too wide": (np.zeros((3, X_SIZE + 1), "f4"), r"\(6,\).*\(5,\)"),
    "an axis too many": (np.zeros((3, X_SIZE, 1), "f4"), r"\(5, 1\).*\(5,\)"),
    "not finite": (np.full((3, X_SIZE), np.nan, "f4"), "not a number"),
}


@pytest.mark.parametrize("as_dataset", [False, True], ids=["array", "dataset"])
@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("problem", BAD_X)
def test_data_that_does_not_fit_is_refused(arbitrary, problem, name, as_dataset):
    x, message = BAD_X[problem]
    if as_dataset:
        x = tf.data.Dataset.from_tensor_slices(x).batch(2)
    with pytest.raises(InvalidData, match=message):
        MEASURES[name](arbitrary, x)


def test_memory_goes_by_the_widest_tensor_of_a_sample(make_vae):
    """Images of 16 pixels; hidden layers of 8 do not count, one of 16 · 50 does."""
    assert evaluation.batches.sample_size(make_vae()) == 16
    encoder = tfvae.networks.dense_encoder((5,), 4, hidden=(99,))
    decoder = tfvae.networks.dense_decoder(2, (5,), hidden=(800,))
    assert evaluation.batches.sample_size(tfvae.VAE(encoder, decoder)) == 50
