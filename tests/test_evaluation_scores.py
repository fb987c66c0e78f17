"""`tfvae.score`: the scores of each example against answers that are known exactly."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfvae
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.evaluation import threshold

tfd = tfp.distributions


@tf.autograph.experimental.do_not_convert  # as in the graphs, also where there is none
def scores_of(model, x, num_samples=200, **options):
    return tfvae.score(model, x, num_samples=num_samples, progress=False, **options)


@pytest.fixture(scope="module")
def arbitrary(linear_gaussian):
    return linear_gaussian.vae("arbitrary")


@pytest.fixture(scope="module")
def x(linear_gaussian):
    return np.random.default_rng(0).normal(size=(30, len(linear_gaussian.b))).astype("f4")


@pytest.fixture(scope="module")
def sbn():
    """A VAE of binary latents, whose log p(x) is a sum over eight states."""
    encoder = tfvae.networks.dense_encoder((4, 4, 1), 3, hidden=(8,))
    decoder = tfvae.networks.dense_decoder(3, (4, 4, 1), hidden=(8,))
    return tfvae.VAE(encoder, decoder, posterior="bernoulli")


def test_log_p_and_its_parts_of_the_linear_gaussian_model(linear_gaussian, arbitrary, x):
    scores = scores_of(arbitrary, x, 5000)
    mean, sigma = linear_gaussian.q(arbitrary, x)
    error = scores.standard_error
    assert np.all(error < 0.1)
    assert np.all(np.abs(scores.log_likelihood - linear_gaussian.log_p(x)) < 4.5 * error)
    reconstruction = -linear_gaussian.expected_log_likelihood(mean, sigma, x)
    np.testing.assert_allclose(scores.reconstruction, reconstruction, rtol=0.03)
    np.testing.assert_allclose(scores.kl, linear_gaussian.kl(mean, sigma), atol=0.08)
    np.testing.assert_allclose(scores.elbo, -scores.reconstruction - scores.kl)
    assert np.all(scores.elbo < linear_gaussian.log_p(x))


def test_each_column_has_its_share_of_the_reconstruction(linear_gaussian, arbitrary, x):
    scores = scores_of(arbitrary, x, 20_000)
    mean, sigma = linear_gaussian.q(arbitrary, x)
    w, variance = linear_gaussian.w, linear_gaussian.scale**2
    squares = (x - linear_gaussian.b - mean @ w.T) ** 2 + sigma**2 @ (w**2).T
    shares = 0.5 * squares / variance + 0.5 * np.log(2 * np.pi * variance)
    np.testing.assert_allclose(scores.reconstruction_by_value, shares, rtol=0.03, atol=0.02)
    total = scores.reconstruction_by_value.sum(axis=-1)
    np.testing.assert_allclose(total, scores.reconstruction, rtol=1e-5)


@keras.saving.register_keras_serializable("tests")
class Whole(tfvae.likelihoods.Likelihood):
    """A likelihood of the user's own that gives log p(x|z) of an example as a whole."""

    def distribution(self, params, batch_ndims):
        return tfd.MultivariateNormalDiag(params)


@pytest.mark.usefixtures("eagerly")
def test_values_have_no_shares_where_their_likelihood_gives_none():
    encoder = tfvae.networks.dense_encoder((3,), 2, hidden=())
    decoder = tfvae.networks.dense_decoder(1, (3,), hidden=())
    model = tfvae.VAE(encoder, decoder, likelihood=Whole())
    x = np.ones((2, 3), np.float32)
    scores = scores_of(model, x)
    assert scores.reconstruction_by_value is None
    by_value = scores_of(tfvae.VAE(encoder, decoder, likelihood="normal"), x)
    np.testing.assert_allclose(scores.log_likelihood, by_value.log_likelihood, rtol=1e-5)


@pytest.mark.usefixtures("eagerly")
def test_with_the_true_posterior_every_weight_is_equal(linear_gaussian, x):
    x = x[:3]
    scores = scores_of(linear_gaussian.vae("posterior"), x, 10)
    np.testing.assert_allclose(scores.log_likelihood, linear_gaussian.log_p(x), atol=1e-4)
    np.testing.assert_allclose(scores.effective_sample_size, 10.0, rtol=1e-4)
    assert np.all(scores.standard_error < 1e-3)


@pytest.mark.usefixtures("eagerly")
def test_discrete_latents_against_enumeration(sbn, images):
    exact = tfvae.exact_log_likelihood(sbn, images[:3], progress=False).per_example
    scores = scores_of(sbn, images[:3], 2000)
    assert np.all(np.abs(scores.log_likelihood - exact) < 4.5 * scores.standard_error + 1e-4)


def test_the_scores_of_an_example_depend_on_nothing_beside_it(arbitrary, x, rng):
    scores = scores_of(arbitrary, x)
    order = rng.permutation(len(x))
    shuffled, few = scores_of(arbitrary, x[order]), scores_of(arbitrary, x[5:7])
    for name, values in scores.columns().items():
        np.testing.assert_array_equal(shuffled.columns()[name], values[order])
        np.testing.assert_array_equal(few.columns()[name], values[5:7])
    assert not np.array_equal(scores_of(arbitrary, x, seed=1).kl, scores.kl)


def test_chunks_of_samples_make_the_same_sums(arbitrary, x, linear_gaussian, monkeypatch):
    monkeypatch.setattr(tfvae.evaluation.scores, "_CHUNK_SIZE", 64 * len(linear_gaussian.b))
    scores = scores_of(arbitrary, x, 1000)
    error = 4.5 * scores.standard_error
    assert np.all(np.abs(scores.log_likelihood - linear_gaussian.log_p(x)) < error)
    assert np.all((scores.effective_sample_size > 1) & (scores.effective_sample_size <= 1000))


@pytest.mark.usefixtures("eagerly")
def test_a_chain_of_layers_has_scores(images):
    encoders = [
        tfvae.networks.dense_encoder((4, 4, 1), 6, hidden=(8,)),
        tfvae.networks.dense_encoder((3,), 4, hidden=(8,)),
    ]
    decoders = [
        tfvae.networks.dense_decoder(3, (4, 4, 1), hidden=(8,)),
        tfvae.networks.dense_decoder(2, (6,), hidden=(8,)),
    ]
    model = tfvae.HierarchicalVAE(encoders, decoders)
    scores = scores_of(model, images[:3], 2000)
    reference = tfvae.log_likelihood(model, images[:3], num_samples=2000, progress=False)
    error = np.hypot(scores.standard_error, reference.sampling_error)
    assert np.all(np.abs(scores.log_likelihood - reference.per_example) < 4.5 * error + 1e-4)


def test_each_example_is_scored_with_its_own_condition(images):
    encoder = tfvae.networks.dense_encoder((4, 4, 1), 4, hidden=(8,), condition_size=3)
    decoder = tfvae.networks.dense_decoder(2, (4, 4, 1), hidden=(8,), condition_size=3)
    model = tfvae.VAE(encoder, decoder, condition=3)
    labels = np.arange(12, dtype=np.int32) % 3
    scores = scores_of(model, images, condition=labels).log_likelihood
    for label in range(3):
        alone = scores_of(model, images, condition=label).log_likelihood
        np.testing.assert_array_equal(scores[labels == label], alone[labels == label])
    with pytest.raises(InvalidArgument, match="The model has a condition"):
        scores_of(model, images)


def test_codes_have_a_bound_and_no_samples(images):
    quantizer = tfvae.quantizers.VectorQuantizer(embedding_dim=2, num_embeddings=4)
    encoder = tfvae.networks.dense_encoder((4, 4, 1), (2, 2), hidden=(8,))
    decoder = tfvae.networks.dense_decoder((2, 2), (4, 4, 1), hidden=(8,))
    model = tfvae.VQVAE(encoder, quantizer, decoder, likelihood="bernoulli")
    scores = scores_of(model, images)
    bound = tfvae.log_likelihood(model, images, progress=False)
    np.testing.assert_allclose(scores.log_likelihood, bound.per_example, rtol=1e-6)
    np.testing.assert_allclose(scores.kl, 2 * np.log(4), rtol=1e-6)
    shares = scores.reconstruction_by_value
    np.testing.assert_allclose(shares.sum(axis=(1, 2, 3)), scores.reconstruction, rtol=1e-5)
    assert scores.standard_error is None
    assert list(scores.columns()) == ["log_likelihood", "elbo", "reconstruction", "kl"]


def test_data_and_counts_that_do_not_fit_are_refused(arbitrary, x):
    with pytest.raises(InvalidArgument, match="`num_samples` is 0"):
        scores_of(arbitrary, x, 0)
    with pytest.raises(InvalidData, match="examples of shape"):
        scores_of(arbitrary, x[:, :3])


@pytest.mark.parametrize(("count", "rate"), [(99, 0.01), (50, 0.1), (19, 0.05)])
def test_a_threshold_keeps_its_false_alarm_rate(count, rate, rng):
    """The chance that one more of n + 1 exchangeable values is below the threshold is exact."""
    values = rng.normal(size=(20_000, count + 1))
    alarms = np.mean([row[0] < threshold(row[1:], rate) for row in values])
    expected = np.floor(rate * (count + 1)) / (count + 1)
    assert expected <= rate
    assert alarms == pytest.approx(expected, abs=4 * np.sqrt(expected / len(values)))


def test_a_threshold_needs_examples_enough():
    with pytest.raises(InvalidData, match=r"takes at least 99 examples .* there are 98"):
        threshold(np.zeros(98), 0.01)
    with pytest.raises(InvalidData, match=r"takes at least 1 examples .* there are 0"):
        threshold([], 1.0)
    with pytest.raises(InvalidData, match="1 of 3 scores are NaN"):
        threshold([1.0, np.nan, 2.0], 0.5)
    with pytest.raises(InvalidArgument, match="from 0 to 1"):
        threshold(np.zeros(98), 1.5)
