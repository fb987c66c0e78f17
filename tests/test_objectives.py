import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from tfvae import objectives
from tfvae.bound import LogWeightTerms
from tfvae.errors import InvalidArgument


@pytest.fixture
def log_weights(rng):
    """Five samples of three examples."""
    return rng.normal(-90, 3, (5, 3)).astype(np.float32)


# Over states rather than samples: tests/test_estimators.py.
NAMES = [name for name in objectives.REGISTRY.names() if name != "exact"]


@pytest.mark.parametrize("name", NAMES)
def test_an_objective_gives_one_number_for_each_example(name, log_weights):
    bound = objectives.get(name)(log_weights)
    assert bound.shape == (3,)
    first = objectives.get(name)(log_weights[:, :1])
    np.testing.assert_allclose(first, bound[:1], rtol=1e-6, err_msg="examples are mixed")


@pytest.mark.parametrize("name", NAMES)
def test_an_objective_of_equal_log_weights_is_that_log_weight(name):
    np.testing.assert_allclose(objectives.get(name)(np.full((10, 2), -700, "f4")), -700, rtol=1e-6)


def test_elbo_is_the_mean_of_log_weights(log_weights):
    np.testing.assert_allclose(objectives.elbo(log_weights), log_weights.mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize("shift", [0, 2000, -2000])
def test_iwae_is_the_log_of_the_mean_weight(log_weights, shift):
    expected = scipy.special.logsumexp(log_weights.astype(np.float64), axis=0) - np.log(5) + shift
    np.testing.assert_allclose(objectives.iwae(log_weights + shift), expected, rtol=1e-6)


def test_iwae_of_one_sample_is_the_elbo(log_weights):
    np.testing.assert_allclose(
        objectives.iwae(log_weights[:1]), objectives.elbo(log_weights[:1]), rtol=1e-6
    )


def test_iwae_is_above_the_elbo(log_weights):
    assert np.all(objectives.iwae(log_weights) > objectives.elbo(log_weights))


def test_only_the_elbo_is_linear():
    linear = [
        name for name in objectives.REGISTRY.names() if objectives.is_linear(objectives.get(name))
    ]
    assert linear == ["beta_tcvae", "elbo", "info_vae"]
    assert not objectives.is_linear(lambda log_weights: log_weights[0])


@pytest.mark.parametrize("kl_rows", [1, 5], ids=["exact", "sampled"])
def test_beta_weighs_the_kl_term_of_a_log_weight(rng, kl_rows):
    log_likelihood, kl = rng.normal(size=(5, 3)), rng.normal(size=(kl_rows, 3))
    terms = LogWeightTerms(log_likelihood, (kl, 2 * kl))
    np.testing.assert_allclose(terms.log_weights(), log_likelihood - 3 * kl)
    np.testing.assert_allclose(terms.log_weights(0.5), log_likelihood - 1.5 * kl)
    np.testing.assert_allclose(terms.log_weights([0.5, 2.0]), log_likelihood - 4.5 * kl)


OPTIONS = {"miwae": {"num_bounds": 2}, "piwae": {"num_bounds": 2}, "renyi": {"alpha": 0.3}}


def iwae_in_numpy(log_weights):
    return scipy.special.logsumexp(log_weights, axis=0) - np.log(len(log_weights))


@pytest.fixture
def six(rng):
    """Six samples of three examples."""
    return rng.normal(-90, 3, (6, 3)).astype(np.float32)


def test_miwae_is_the_mean_of_iwae_bounds(six):
    expected = np.mean([iwae_in_numpy(six[0::2]), iwae_in_numpy(six[1::2])], axis=0)
    np.testing.assert_allclose(objectives.MIWAE(2)(six), expected, rtol=1e-6)


def test_miwae_of_one_bound_is_iwae_and_of_single_samples_the_elbo(six):
    np.testing.assert_allclose(objectives.MIWAE(1)(six), objectives.iwae(six), rtol=1e-6)
    np.testing.assert_allclose(objectives.MIWAE(6)(six), objectives.elbo(six), rtol=1e-6)


def test_piwae_is_iwae_and_its_encoder_follows_miwae(six):
    objective = objectives.PIWAE(3)
    np.testing.assert_allclose(objective(six), objectives.iwae(six), rtol=1e-6)
    encoder = objectives.for_encoder(objective)
    np.testing.assert_allclose(encoder(six), objectives.MIWAE(3)(six), rtol=1e-6)
    assert objectives.for_encoder(objectives.iwae) is objectives.iwae


@pytest.mark.parametrize(("weight", "limit"), [(0.0, objectives.iwae), (1.0, objectives.elbo)])
def test_ciwae_runs_from_iwae_to_the_elbo(six, weight, limit):
    np.testing.assert_allclose(objectives.CIWAE(weight)(six), limit(six), rtol=1e-6)
    half = 0.5 * (objectives.iwae(six) + objectives.elbo(six))
    np.testing.assert_allclose(objectives.CIWAE(0.5)(six), half, rtol=1e-6)


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 0.3, 0.999, 0.99999, 1.00001, 1 - 1e-9, 2.0])
def test_renyi_is_its_formula(six, alpha):
    power = 1 - alpha
    exponents = power * (six.astype("f8") - six.mean(axis=0, dtype="f8"))
    mean = np.log1p(np.mean(np.expm1(exponents), axis=0))
    expected = six.mean(axis=0, dtype="f8") + mean / power
    np.testing.assert_allclose(objectives.Renyi(alpha)(six), expected, rtol=1e-5)


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 0.5, 2.0])
def test_renyi_counts_a_weight_of_zero(alpha):
    """For α > 1 the bound is −∞; else the other weights are left, and their gradient."""
    log_w = tf.constant([[-np.inf], [-1.0], [-2.0]])
    with tf.GradientTape() as tape:
        tape.watch(log_w)
        bound = objectives.Renyi(alpha)(log_w)
    powers = np.exp((1 - alpha) * np.array([-1.0, -2.0]))
    expected = np.log(powers.sum() / 3) / (1 - alpha) if alpha < 1 else -np.inf
    np.testing.assert_allclose(bound, [expected], rtol=1e-6)
    if alpha < 1:
        slopes = [0.0, *powers / powers.sum()]
        np.testing.assert_allclose(tape.gradient(bound, log_w)[:, 0], slopes, rtol=1e-5)


def test_renyi_falls_in_alpha_from_iwae_through_the_elbo(six):
    bounds = [objectives.Renyi(alpha)(six) for alpha in (-1.0, 0.0, 0.5, 0.999, 1.001, 2.0)]
    assert np.all(np.diff(bounds, axis=0) < 1e-3)
    np.testing.assert_allclose(bounds[1], objectives.iwae(six), rtol=1e-6)
    for near_one in bounds[3:5]:
        np.testing.assert_allclose(near_one, objectives.elbo(six), atol=0.02)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: objectives.Renyi(1), r"other than 1.*use objective='elbo'"),
        (lambda: objectives.Renyi(float("inf")), "finite"),
        (lambda: objectives.CIWAE(1.5), "between 0"),
        (lambda: objectives.MIWAE(0), "at least 1"),
        (lambda: objectives.MIWAE(2.5), "whole number"),
        (lambda: objectives.check(objectives.PIWAE(4), 6), "a multiple of 4"),
        (lambda: objectives.get("renyi", beta=1), "alpha"),
    ],
)
def test_what_is_undefined_is_refused(make, message):
    with pytest.raises(InvalidArgument, match=message):
        make()


@pytest.mark.parametrize("name", ["miwae", "piwae", "ciwae", "renyi"])
def test_an_objective_with_parameters_survives_serialization(name, six):
    objective = objectives.get(name, **OPTIONS.get(name, {}))
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(objective))
    assert type(restored) is type(objective)
    assert restored.get_config() == objective.get_config()
    np.testing.assert_array_equal(restored(six), objective(six))
