"""Draws that a device repeats follow the distributions that they are of."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from tfvae import distributions, likelihoods, random
from tfvae.random import make_seed

tfd = tfp.distributions
COUNT = 4000
CASES = {
    "normal": (tfd.Normal(1.0, 2.0), scipy.stats.norm(1, 2)),
    "log-normal": (tfd.LogNormal(0.5, 0.7), scipy.stats.lognorm(0.7, scale=np.exp(0.5))),
    "student t": (tfd.StudentT(3.0, 1.0, 2.0), scipy.stats.t(3, 1, 2)),
    "poisson": (tfd.Poisson(3.0), scipy.stats.poisson(3)),
    "poisson, large": (tfd.Poisson(300.0), scipy.stats.poisson(300)),
    "negative binomial": (
        tfd.NegativeBinomial(0.7, probs=0.8, require_integer_total_count=False),
        scipy.stats.nbinom(0.7, 0.2),
    ),
    "negative binomial, thousands": (
        tfd.NegativeBinomial(2.5, probs=0.9996, require_integer_total_count=False),
        scipy.stats.nbinom(2.5, 0.0004),
    ),
    "beta": (tfd.Beta(0.4, 2.0), scipy.stats.beta(0.4, 2)),
    "von mises": (tfd.VonMises(0.5, 2.0), scipy.stats.vonmises(2, loc=0.5)),
    "von mises, narrow": (tfd.VonMises(0.5, 5000.0), scipy.stats.vonmises(5000, loc=0.5)),
}
OF_LIKELIHOODS = {
    "truncated_normal": (
        {"low": 0.0, "high": 2.0, "scale": 1.5},
        [1.0],
        scipy.stats.truncnorm(-1 / 1.5, 1 / 1.5, loc=1, scale=1.5),
    ),
    "truncated_normal, tail": (
        {"low": 3.0, "scale": 0.5},
        [-1.0],
        scipy.stats.truncnorm(8, np.inf, loc=-1, scale=0.5),
    ),
    "censored_normal": (
        {"low": 0.0, "high": 1.0, "scale": 1.0},
        [0.3],
        lambda x: np.where(x < 1, scipy.stats.norm(0.3, 1).cdf(x), 1.0) * (x >= 0),
    ),
    "zero_inflated_negative_binomial": (
        {"dispersion": 2.0},
        [np.log(6.0), -0.5],
        lambda x: (
            (p := scipy.special.expit(-0.5))
            + (1 - p) * scipy.stats.nbinom(2, 2 / 8).cdf(np.floor(x))
        ),
    ),
    "continuous_bernoulli": (
        {},
        [1.5],
        lambda x: np.expm1(1.5 * np.clip(x, 0, 1)) / np.expm1(1.5),
    ),
}


def drawn(distribution, count=COUNT, temperature=1.0):
    index = tf.range(count)
    return distributions.draw(distribution, make_seed(3), index, temperature).numpy()


@pytest.mark.parametrize("case", CASES)
def test_independent_values_have_their_distribution_function(case):
    """At nine quantiles, the share of 8000 draws below is within 4 standard errors."""
    of_one, expected = CASES[case]
    values = drawn(_two(of_one))
    assert values.shape == (COUNT, 2)
    for level in np.linspace(0.1, 0.9, 9):
        value = expected.ppf(level)
        share, exact = np.mean(values <= value + 1e-6), expected.cdf(value)
        assert abs(share - exact) < 4 * np.sqrt(exact * (1 - exact) / values.size), level


@pytest.mark.parametrize("temperature", [0.0, 0.3])
@pytest.mark.parametrize("case", CASES)
def test_a_temperature_brings_values_closer_to_their_centre(case, temperature):
    """The centre is the mean, of Student's t and of angles the location; counts have none."""
    of_one, _ = CASES[case]
    if isinstance(of_one, (tfd.Poisson, tfd.NegativeBinomial)):
        expected = drawn(_two(of_one), 200)
    elif isinstance(of_one, tfd.LogNormal):
        expected = np.exp(0.5 + temperature * (np.log(drawn(_two(of_one), 200)) - 0.5))
    else:
        is_located = isinstance(of_one, (tfd.StudentT, tfd.VonMises))
        centre = of_one.loc if is_located else of_one.mean()
        off = drawn(_two(of_one), 200) - centre
        if isinstance(of_one, tfd.VonMises):
            off -= 2 * np.pi * np.round(off / (2 * np.pi))
        expected = centre + temperature * off
    found = drawn(_two(of_one), 200, temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", ["truncated_normal", "censored_normal", "continuous_bernoulli"])
def test_a_temperature_keeps_values_of_columns_within_their_ends(case):
    """m + T·(x − m) of the mean m; of a censored value it is that of the normal, clipped."""
    options, params, _ = OF_LIKELIHOODS[case]
    distribution = likelihoods.get(case, **options)(tf.constant([params * 2], tf.float32))
    warm, cool = (drawn(distribution, 200, temperature) for temperature in (1.0, 0.3))
    if case == "censored_normal":
        inside = (warm > 0) & (warm < 1)
        expected = 0.3 + 0.3 * (warm - 0.3)
        np.testing.assert_allclose(cool[inside], expected[inside], rtol=1e-5)
        assert cool.std() < warm.std()
        return
    mean = distribution.mean().numpy()
    np.testing.assert_allclose(cool, mean + 0.3 * (warm - mean), rtol=1e-4, atol=1e-5)


def _two(distribution):
    """Return two independent values of a distribution."""
    names = {
        tfd.Normal: ("loc", "scale"),
        tfd.LogNormal: ("loc", "scale"),
        tfd.StudentT: ("df", "loc", "scale"),
        tfd.Poisson: ("rate",),
        tfd.NegativeBinomial: ("total_count", "probs"),
        tfd.Beta: ("concentration1", "concentration0"),
        tfd.VonMises: ("loc", "concentration"),
    }[type(distribution)]
    given = {name: np.full(2, getattr(distribution, name), np.float32) for name in names}
    if isinstance(distribution, tfd.NegativeBinomial):
        given["logits"] = np.log(given["probs"] / (1 - given.pop("probs")))
        given["require_integer_total_count"] = False
    return tfd.Independent(type(distribution)(**given), 1)


@pytest.mark.parametrize("case", OF_LIKELIHOODS)
def test_columns_draw_every_likelihood(case):
    """At nine points, the share of 8000 draws below is within 4 standard errors."""
    options, params, expected = OF_LIKELIHOODS[case]
    cdf = getattr(expected, "cdf", expected)
    table = likelihoods.Columns([(case.partition(",")[0], 2, options)])
    each = tf.constant(np.repeat(params, 2)[np.newaxis], tf.float32)
    values = drawn(table(each))
    assert values.shape == (COUNT, 2)
    for value in np.quantile(values, np.linspace(0.05, 0.95, 9)):
        share, exact = np.mean(values <= value), float(cdf(np.float64(value) + 1e-6))
        assert abs(share - exact) < 4 * np.sqrt(exact * (1 - exact) / values.size) + 1e-9, value


def test_counts_with_a_size_factor_have_the_total_that_they_are_to_have():
    table = likelihoods.Columns([("poisson", 2, {"size_factor": "total", "target_sum": 3000.0})])
    values = drawn(table(tf.constant([[0.0, np.log(2.0)]])))
    np.testing.assert_allclose(values.mean(axis=0), [1000, 2000], rtol=0.01)
    np.testing.assert_allclose(values.var(axis=0), [1000, 2000], rtol=0.15)


@pytest.mark.parametrize("name", ["bernoulli", "categorical", "ordinal"])
def test_levels_have_their_masses(name, rng):
    options = {} if name == "bernoulli" else {"num_levels": 4}
    likelihood = likelihoods.get(name, **options)
    params = rng.normal(size=(1, likelihood.params_size(3))).astype(np.float32)
    distribution = likelihood(tf.repeat(tf.constant(params), COUNT, axis=0))
    levels = np.linspace(0, 1, likelihood.num_levels, dtype=np.float32)
    each = np.repeat(levels[:, np.newaxis], 3, axis=1)
    one = likelihood(tf.constant(params))
    masses = np.exp(distributions.log_prob_by_value(one, each))  # [L, 3]
    np.testing.assert_allclose(masses.sum(0), 1, rtol=1e-5)
    values = drawn(distribution)
    shares = np.stack([np.mean(np.isclose(values, level), axis=0) for level in levels])
    assert np.all(np.abs(shares - masses) < 4.5 * np.sqrt(masses * (1 - masses) / COUNT) + 1e-3)
    if name != "ordinal":  # whose score, without noise, gives the median
        np.testing.assert_allclose(drawn(distribution, temperature=0.0), distribution.mode())
    best = levels[np.argmax(masses, axis=0)]
    np.testing.assert_allclose(distribution.mode()[0], best)


def test_columns_draw_each_block_from_a_stream_of_its_own():
    table = likelihoods.Columns([("normal", 1), ("normal", 1), ("bernoulli", 1)])
    values = drawn(table(tf.zeros([500, 3])), 500)
    assert values.shape == (500, 3)
    assert abs(np.corrcoef(values.T)[0, 1]) < 0.2
    assert set(values[:, 2]) == {0.0, 1.0}
    sampled = table(tf.zeros([500, 3])).sample(seed=make_seed(3)).numpy()
    assert abs(np.corrcoef(sampled.T)[0, 1]) < 0.2
    again = distributions.draw(table(tf.zeros([1, 3])), make_seed(3), tf.constant([7]))
    np.testing.assert_allclose(again[0], values[7], rtol=1e-6)


def test_the_representative_of_columns_is_a_level_or_a_mean():
    table = likelihoods.Columns([("normal", 1), ("categorical", 1, {"num_levels": 3})])
    params = tf.constant([[0.3, 1.0, 0.0, 0.9]])
    np.testing.assert_allclose(distributions.representative(table(params)), [[0.3, 0.0]])
    assert 0.3 < table(params).mean()[0, 1] < 0.7, "the mean of categories is none"


@pytest.mark.parametrize("df", [1e5, 1e7, 1e12])
def test_a_student_t_of_many_degrees_of_freedom_is_normal(df):
    """√(ν (u^(−2/ν) − 1)) is √(−2 log u) up to a share of −log u/(2ν)."""
    distribution = tfd.StudentT(df, [1.0], [2.0])
    arguments = make_seed(3), tf.range(COUNT), (1,), 1.0
    found = distributions.draws.of_values(distribution, *arguments)
    u, v = np.split(random.uniform(make_seed(3), tf.range(COUNT), 2).numpy().astype("f8"), 2, -1)
    expected = 1.0 + 2.0 * np.sqrt(-2.0 * np.log(u)) * np.cos(2 * np.pi * v)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)
