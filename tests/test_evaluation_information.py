"""Mutual information against quadrature and enumeration in NumPy."""

import itertools
import json

import numpy as np
import pytest
import scipy.special
import tensorflow as tf
import test_hierarchical
from test_evaluation_exact import binary_x, discrete_vae

import tfvae
from tfvae import evaluation, random
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.joint import StochasticLayer

pytestmark = pytest.mark.slow  # Compiles graphs of whole models.


def inform(model, x, num_samples=10, **options):
    return tfvae.mutual_information(model, x, num_samples=num_samples, progress=False, **options)


@pytest.fixture(scope="module")
def vae(linear_gaussian):
    """A VAE with an arbitrary encoder, whose graphs are traced once for all tests."""
    return linear_gaussian.vae()


def draw_x(linear_gaussian, count):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(count, 2))
    noise = linear_gaussian.scale * rng.normal(size=(count, 5))
    return (z @ linear_gaussian.w.T + linear_gaussian.b + noise).astype("f4")


def numpy_terms(linear_gaussian, model, x):
    """Return KL(q(z|x_n)‖q(z)) and KL(q(z|x_n)‖p(z)), `[N]`, by Gauss-Hermite quadrature."""
    mean, deviation = linear_gaussian.q(model, x)
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    noise = np.array(list(itertools.product(nodes, nodes)))
    weights = np.outer(weights, weights).ravel() / np.sum(weights) ** 2
    z = mean + deviation * noise[:, np.newaxis]
    standard = (z[:, :, np.newaxis] - mean) / deviation
    log_q = -0.5 * np.sum(standard**2, -1) - np.sum(np.log(deviation), -1) - np.log(2 * np.pi)
    own = np.einsum("snn->sn", log_q)
    aggregate = scipy.special.logsumexp(log_q, axis=-1) - np.log(len(x))
    return weights @ (own - aggregate), linear_gaussian.kl(mean, deviation)


def test_information_of_normal_posteriors_is_that_of_quadrature(linear_gaussian, vae, assert_mean):
    model, x = vae, draw_x(linear_gaussian, 12)
    information, rate = numpy_terms(linear_gaussian, model, x)
    runs = [inform(model, x, 10, seed=seed) for seed in range(20)]
    assert_mean([run.per_example for run in runs], information)
    assert_mean([[run.mean] for run in runs], [information.mean()])
    np.testing.assert_allclose(runs[0].rate, rate, rtol=1e-4)
    assert_mean([[run.marginal_kl] for run in runs], [rate.mean() - information.mean()])


@pytest.mark.parametrize("batch", [1, 4, 500])
@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_batches_and_chunks_change_only_the_draws(linear_gaussian, vae, monkeypatch, batch, rows):
    model, x = vae, draw_x(linear_gaussian, 9)
    monkeypatch.setattr(evaluation.information, "_BATCH_SIZE", batch)
    monkeypatch.setattr(evaluation.information, "_CHUNK_SIZE", rows * batch * 2)
    z = np.random.default_rng(0).normal(size=(9, 2)).astype("f4")
    mean, deviation = linear_gaussian.q(model, x)
    standard = (z[:, np.newaxis] - mean) / deviation
    log_q = -0.5 * np.sum(standard**2, -1) - np.sum(np.log(deviation), -1) - np.log(2 * np.pi)
    np.testing.assert_allclose(
        evaluation.information._log_aggregate(model, (x, None), z),
        scipy.special.logsumexp(log_q, axis=-1) - np.log(9),
        atol=1e-4,
    )


def test_equal_examples_have_draws_of_their_own_in_every_batch(linear_gaussian, vae, monkeypatch):
    monkeypatch.setattr(evaluation.information, "_BATCH_SIZE", 2)
    model, x = vae, np.repeat(linear_gaussian.x[:1], 5, axis=0)
    z, *_ = evaluation.information._draw(model, (x, None), random.make_seed(0))
    assert len(np.unique(z, axis=0)) == 5


def test_information_of_bits_is_that_of_enumeration(assert_mean):
    model, x = discrete_vae("bernoulli"), binary_x(7)
    logits = np.asarray(model.encoder(x), np.float64)
    states = np.array(list(itertools.product([0, 1], repeat=3)))
    log_q = states @ logits.T - np.sum(np.log1p(np.exp(logits)), -1)
    aggregate = scipy.special.logsumexp(log_q, axis=-1, keepdims=True) - np.log(7)
    expected = np.sum(np.exp(log_q) * (log_q - aggregate), axis=0)
    assert_mean([inform(model, x, 5, seed=s).per_example for s in range(20)], expected)


def test_information_of_two_layers_of_bits_is_that_of_enumeration(assert_mean):
    model = test_hierarchical.build()
    x = np.random.default_rng(0).integers(0, 2, (7, *model.x_shape)).astype("f4")
    states = test_hierarchical.BITS[:, np.newaxis]
    log_q = test_hierarchical.NumPy(model).log_q(states, x)  # [16, N]
    aggregate = scipy.special.logsumexp(log_q, axis=-1, keepdims=True) - np.log(7)
    found = evaluation.information._log_aggregate(model, (x, None), test_hierarchical.BITS)
    np.testing.assert_allclose(found, aggregate[:, 0], atol=1e-5)
    expected = np.sum(np.exp(log_q) * (log_q - aggregate), axis=0)
    assert_mean([inform(model, x, 5, seed=s).per_example for s in range(10)], expected)


def given_labels():
    """Return a model of three bits whose encoder alone takes labels, its weights, x and labels."""
    encoder = tfvae.networks.dense_encoder((3,), 3, hidden=(), condition_size=2)
    kernel, bias = np.random.default_rng(0).normal(size=(5, 3)), np.zeros(3)
    encoder.set_weights([kernel, bias])
    model = tfvae.VAE(
        encoder, tfvae.networks.dense_decoder(3, (3,)), posterior="bernoulli", condition=2
    )
    x = np.random.default_rng(1).integers(0, 2, (8, 3)).astype("f4")
    return model, kernel, x, np.array([0, 1, 1, 0, 1, 1, 1, 0])


def test_information_given_a_condition_is_that_of_the_examples_that_have_it(
    assert_mean, monkeypatch
):
    """I(x; z|y) = mean of KL(q(z|x_n, y_n) ‖ q(z|y_n)), by enumeration of three bits."""
    monkeypatch.setattr(evaluation.information, "_BATCH_SIZE", 2)
    model, kernel, x, y = given_labels()
    logits = x @ kernel[:3] + kernel[3 + y]
    states = np.array(list(itertools.product([0, 1], repeat=3)))
    log_q = states @ logits.T - np.sum(np.log1p(np.exp(logits)), -1)
    expected = np.zeros(8)
    for label in range(2):
        own = log_q[:, y == label]
        aggregate = scipy.special.logsumexp(own, axis=-1, keepdims=True) - np.log(own.shape[1])
        expected[y == label] = np.sum(np.exp(own) * (own - aggregate), axis=0)
    runs = [inform(model, x, 5, condition=y, seed=seed) for seed in range(10)]
    assert_mean([run.per_example for run in runs], expected)
    assert runs[0].limit == pytest.approx((3 * np.log(3) + 5 * np.log(5)) / 8)
    np.testing.assert_array_equal(runs[0].num_alike, np.where(y, 5, 3))


def test_an_example_alone_with_its_condition_is_told_by_nothing(monkeypatch):
    model, _, x, y = given_labels()
    whole, groups = evaluation.information._log_aggregate, []
    monkeypatch.setattr(
        evaluation.information,
        "_log_aggregate",
        lambda model, data, z: groups.append(len(z)) or whole(model, data, z),
    )
    measured = inform(model, x[:3], 1, condition=y[:3])
    assert groups == [2]
    assert measured.per_example[0] == 0
    np.testing.assert_array_equal(measured.num_alike, [1, 2, 2])
    assert measured.marginal_kl == pytest.approx(measured.rate.mean() - measured.mean)


def test_equal_posteriors_hold_no_information(linear_gaussian, vae):
    x = np.repeat(linear_gaussian.x[:1], 6, axis=0)
    measured = inform(vae, x)
    np.testing.assert_allclose(measured.per_example, 0, atol=1e-5)
    assert measured.marginal_kl == pytest.approx(measured.rate.mean(), abs=1e-5)


def test_posteriors_far_apart_hold_log_n(linear_gaussian):
    model = linear_gaussian.vae("posterior")  # its deviations do not grow with x
    x = 100 * draw_x(linear_gaussian, 8)
    measured = inform(model, x)
    np.testing.assert_allclose(measured.per_example, np.log(8), atol=1e-4)
    assert measured.limit == pytest.approx(np.log(8))


def test_without_a_closed_form_the_rate_is_sampled(linear_gaussian, vae, monkeypatch):
    x = draw_x(linear_gaussian, 50)
    exact = inform(vae, x, 1)
    monkeypatch.setattr(StochasticLayer, "kl_by_unit", lambda self: None)
    sampled = inform(linear_gaussian.vae(), x, 200)
    assert np.all(sampled.rate != exact.rate)
    np.testing.assert_allclose(sampled.rate, exact.rate, atol=0.4)
    assert sampled.rate.mean() == pytest.approx(exact.rate.mean(), abs=0.05)


def test_a_dataset_gives_what_its_array_gives_and_the_seed_decides(linear_gaussian, vae):
    model, x = vae, draw_x(linear_gaussian, 9)
    dataset = tf.data.Dataset.from_tensor_slices((x, np.arange(9))).batch(4)
    runs = ((x, 1), (dataset, 1), (x, 2))
    first, again, other = (inform(model, data, 2, seed=seed) for data, seed in runs)
    np.testing.assert_array_equal(first.per_example, again.per_example)
    assert np.all(first.per_example != other.per_example)


def test_the_summary_and_the_text():
    information, rate = np.random.default_rng(0).normal(size=(2, 9))
    measured = evaluation.MutualInformation(information, rate, 10, np.full(9, 9), False)
    summary = measured.summary()
    assert json.loads(json.dumps(summary)) == summary
    assert summary == {
        "mutual_information": pytest.approx(np.mean(information)),
        "standard_error": pytest.approx(np.std(information, ddof=1) / 3),
        "rate": pytest.approx(np.mean(rate)),
        "marginal_kl": pytest.approx(np.mean(rate) - np.mean(information)),
        "limit": pytest.approx(np.log(9)),
        "num_samples": 10,
        "num_examples": 9,
        "is_conditional": False,
    }
    assert f"I(x; z) = {np.mean(information):.3f} ±" in str(measured)
    assert "KL(q(z)‖p(z))" in str(measured)


def test_the_summary_and_the_text_say_that_there_is_a_condition():
    model, _, x, y = given_labels()
    for condition, limit in ((y, (3 * np.log(3) + 5 * np.log(5)) / 8), (1, np.log(8))):
        measured = inform(model, x, 1, condition=condition)
        summary = json.loads(json.dumps(measured.summary()))
        assert summary["is_conditional"] is True
        assert summary["limit"] == pytest.approx(limit)
        assert str(measured).startswith("I(x; z|y) = ")
        assert "KL(q(z|y)‖p(z|y))" in str(measured)


def test_what_cannot_be_measured_is_refused(linear_gaussian, vae):
    model = vae
    with pytest.raises(InvalidArgument, match=r"`num_samples` is 0; .*at least 1"):
        inform(model, linear_gaussian.x, 0)
    with pytest.raises(InvalidData, match="empty"):
        inform(model, np.zeros((0, 5), "f4"))


def test_a_model_of_the_mask_makes_no_difference(rng):
    """I(x; z) is of q(z|x) alone."""
    x = np.where(rng.random((6, 3)) < 0.3, np.nan, rng.normal(size=(6, 3))).astype("f4")
    encoder = tfvae.networks.dense_encoder((3,), 4, hidden=(), missing=True)
    decoder = tfvae.networks.dense_decoder(2, (3,), hidden=())
    found = []
    for missingness in (None, "self_masking"):
        likelihood = tfvae.likelihoods.Observed("normal", missingness=missingness)
        found.append(inform(tfvae.VAE(encoder, decoder, likelihood=likelihood), x, 1))
    np.testing.assert_array_equal(found[0].per_example, found[1].per_example)
    np.testing.assert_array_equal(found[0].rate, found[1].rate)
