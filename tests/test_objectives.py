import numpy as np
import pytest
import scipy.special

from tfvae import objectives


@pytest.fixture
def log_weights(rng):
    """Five samples of three examples."""
    return rng.normal(-90, 3, (5, 3)).astype(np.float32)


@pytest.mark.parametrize("name", objectives.REGISTRY.names())
def test_an_objective_gives_one_number_for_each_example(name, log_weights):
    bound = objectives.get(name)(log_weights)
    assert bound.shape == (3,)
    first = objectives.get(name)(log_weights[:, :1])
    np.testing.assert_allclose(first, bound[:1], rtol=1e-6, err_msg="examples are mixed")


@pytest.mark.parametrize("name", objectives.REGISTRY.names())
def test_an_objective_of_equal_log_weights_is_that_log_weight(name):
    np.testing.assert_allclose(objectives.get(name)(np.full((6, 2), -700, "f4")), -700, rtol=1e-6)


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
    assert linear == ["elbo"]
    assert not objectives.is_linear(lambda log_weights: log_weights[0])


@pytest.mark.parametrize("kl_rows", [1, 5], ids=["exact", "sampled"])
def test_beta_weighs_the_kl_term_of_a_log_weight(rng, kl_rows):
    log_likelihood, kl = rng.normal(size=(5, 3)), rng.normal(size=(kl_rows, 3))
    terms = objectives.LogWeightTerms(log_likelihood, kl)
    np.testing.assert_allclose(terms.log_weights(), log_likelihood - kl)
    np.testing.assert_allclose(terms.log_weights(0.5), log_likelihood - 0.5 * kl)
