"""Every likelihood: it sums or integrates to one, is SciPy's, and samples what it says."""

import contextlib
import itertools

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from tiers import nightly_but

import tfvae
from tfvae import distributions, likelihoods, networks, random
from tfvae.distributions.normal_cdf import log_ndtr
from tfvae.errors import InvalidArgument, InvalidData, TfvaeWarning
from tfvae.ondevice import Decoder
from tfvae.random import make_seed

COUNTS = np.arange(400.0)
LEVELS = np.arange(5) / 4


def grid(low, high, n=20_001):
    """Return the middles of n bins, and their width."""
    width = (high - low) / n
    return low + width * (np.arange(n) + 0.5), width


# Each with the values that its density is summed over, and their width: 1 for discrete values.
CASES = {
    "bernoulli": ({}, np.array([0.0, 1.0]), 1),
    "beta": ({"precision": 6.0}, *grid(0, 1)),
    "categorical": ({"num_levels": 5}, LEVELS, 1),
    "continuous_bernoulli": ({}, *grid(0, 1)),
    "discretized_logistic_mixture": ({"num_levels": 5}, LEVELS, 1),
    "log_normal": ({}, *grid(0, 300, 200_001)),
    "negative_binomial": ({}, COUNTS, 1),
    "normal": ({}, *grid(-12, 12)),
    "ordinal": ({}, LEVELS, 1),
    "poisson": ({}, COUNTS, 1),
    "student_t": ({"df": 5.0}, *grid(-400, 400, 200_001)),
    "truncated_normal": ({"low": -1.0, "high": 2.0}, *grid(-1, 2)),
    "von_mises": ({}, *grid(-np.pi, np.pi)),
    "zero_inflated_negative_binomial": ({}, COUNTS, 1),
}
# Of two kinds of values, or of another likelihood: they have tests of their own.
OTHERS = {"censored_normal", "columns", "observed"}
# What is compared of a value `[..., 1]`, where that is not the value itself.
COMPARED = {
    "discretized_logistic_mixture": lambda x: np.isclose(x, LEVELS),
    "von_mises": lambda x: np.concatenate([np.cos(x), np.sin(x)], -1),
}
WRAPPERS = ("columns", "observed")
WITH_SCALE = {
    "beta": "precision",
    "censored_normal": "scale",
    "log_normal": "scale",
    "negative_binomial": "dispersion",
    "normal": "scale",
    "student_t": "scale",
    "truncated_normal": "scale",
    "zero_inflated_negative_binomial": "dispersion",
}
INSIDE = {"log_normal": 2.5, "beta": 0.3, "von_mises": -2.0, "normal": -1.3, "student_t": 6.0}


def make(name, **options):
    return likelihoods.get(name, **({**CASES[name][0], **options} if name in CASES else options))


def parameters(likelihood, rng, n=6, scale=0.7):
    """Return random parameters of n values of one channel, `[n, 1, P]`, with n batch axes."""
    return rng.normal(0, scale, (n, 1, likelihood.params_size(1))).astype(np.float32)


def test_every_likelihood_is_tested():
    assert set(CASES) | OTHERS == set(likelihoods.REGISTRY.names())


@pytest.mark.parametrize("name", list(CASES))
def test_it_sums_or_integrates_to_one(name, rng):
    _, values, width = CASES[name]
    likelihood = make(name)
    distribution = likelihood(parameters(likelihood, rng))
    x = values.astype(np.float32)[:, np.newaxis, np.newaxis, np.newaxis]
    total = width * np.exp(np.asarray(distribution.log_prob(x), np.float64)).sum(0)
    np.testing.assert_allclose(total, 1, rtol=1e-4)
    assert likelihood.is_density == (width != 1)
    assert likelihood.support.holds(values)


@pytest.mark.parametrize("name", list(CASES))
def test_the_mean_is_that_of_its_values_and_of_its_samples(name, rng, assert_mean):
    _, values, width = CASES[name]
    likelihood = make(name)
    distribution = likelihood(parameters(likelihood, rng, n=3))
    x = values.astype(np.float32)[:, np.newaxis, np.newaxis, np.newaxis]
    mass = width * np.exp(np.asarray(distribution.log_prob(x), np.float64))
    samples = np.asarray(distribution.sample(4000, seed=make_seed(1)), np.float64)
    assert likelihood.support.holds(samples)
    statistic = COMPARED.get(name, np.asarray)
    expected = (mass[..., np.newaxis, np.newaxis] * statistic(x)).sum(0)
    assert_mean(statistic(samples) - expected, 0)
    if name == "von_mises":
        expected = np.arctan2(expected[..., 1:], expected[..., :1])
    if name != "discretized_logistic_mixture":  # whose mean is before rounding to levels
        np.testing.assert_allclose(distribution.mean(), expected, rtol=5e-3, atol=1e-3)


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("value", [-60.0, 0.0, 60.0])
def test_extreme_parameters_have_finite_densities_and_gradients(name, value):
    likelihood = make(name)
    values = CASES[name][1]
    x = np.array([INSIDE.get(name, v) for v in (values[0], values[len(values) // 2])], np.float32)
    params = tf.fill([2, 1, likelihood.params_size(1)], value)
    with tf.GradientTape() as tape:
        tape.watch(params)
        log_p = likelihood(params).log_prob(x.reshape(2, 1, 1))
    assert np.all(np.isfinite(log_p)), log_p
    assert np.all(np.isfinite(tape.gradient(log_p, params)))


@pytest.fixture(params=likelihoods.REGISTRY.names())
def of_two_columns(request):
    """Every likelihood, for values of two columns that may depend on each other."""
    options = {
        "columns": {"blocks": [("normal", 1), ("categorical", 1, {"num_levels": 4})]},
        "poisson": {"size_factor": "total"},
    }
    return likelihoods.get(request.param, **options.get(request.param, {}))


class TestByValue:
    def test_log_p_of_a_value_sums_to_log_p(self, of_two_columns, rng):
        likelihood = of_two_columns
        params = tf.constant(rng.normal(size=(3, 4, 5, likelihood.params_size(2))), tf.float32)
        x = likelihood(params[0], 1).sample(seed=make_seed(0))  # [4, 5, 2] for [3, 4] of params

        with tf.GradientTape(persistent=True) as tape:
            tape.watch(params)
            distribution = likelihood(params, 2)
            by_value = distributions.log_prob_by_value(distribution, x)
            total, sums = distribution.log_prob(x), tf.reduce_sum(by_value, [-2, -1])
        assert by_value.shape == (3, 4, 5, 2)
        np.testing.assert_allclose(sums, total, rtol=1e-5, atol=1e-4)
        expected, actual = (tape.gradient(value, params) for value in (total, sums))
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)

    def test_a_value_does_not_depend_on_those_behind_it(self, of_two_columns, rng):
        likelihood = of_two_columns
        if getattr(likelihood, "size_factor", None):
            return  # each is given the total
        params = rng.normal(size=(2, likelihood.params_size(2))).astype(np.float32)
        x, other = (likelihood(params).sample(seed=make_seed(s)).numpy() for s in (0, 1))
        other[:, 0] = x[:, 0]
        a, b = (distributions.log_prob_by_value(likelihood(params), x)[:, 0] for x in (x, other))
        np.testing.assert_array_equal(a, b)

    @pytest.mark.parametrize("name", [n for n, case in CASES.items() if case[2] == 1])
    def test_log_p_of_all_levels_is_that_of_one_after_the_other(self, name, rng):
        likelihood, values = make(name), CASES[name][1][:5].astype(np.float32)
        params = rng.normal(size=(3, 4, likelihood.params_size(2))).astype(np.float32)
        distribution, x = likelihood(params), rng.choice(values, (3, 4, 2))
        by_level = distributions.log_prob_by_level(distribution, x, values)
        assert by_level.shape == (3, 4, 2, 5 if name != "bernoulli" else 2)
        for channel, (level, value) in itertools.product(range(2), enumerate(values)):
            given = np.where(np.arange(2) < channel, x, value)
            expected = distributions.log_prob_by_value(distribution, given)[..., channel]
            np.testing.assert_allclose(by_level[..., channel, level], expected, atol=1e-5)

    def test_a_distribution_that_knows_only_the_sum_is_refused(self):
        joint = tfp.distributions.MultivariateNormalDiag(tf.zeros([2]))
        with pytest.raises(InvalidArgument, match="not known for MultivariateNormalDiag"):
            distributions.log_prob_by_value(joint, tf.zeros([2]))


def softplus_of_raw(raw):
    return np.log1p(np.exp(raw + np.log(np.e - 1)))


def binomial(mu, r):
    return scipy.stats.nbinom(r, r / (r + mu))


class TestAgainstSciPy:
    """Log-densities at random parameters, in double precision."""

    def compare(self, likelihood, x, reference, rng, rtol=2e-4):
        params = parameters(likelihood, rng)
        expected = reference(x, *np.split(params[:, 0].astype(np.float64), params.shape[-1], -1))
        x = np.asarray(x, np.float32)[:, np.newaxis, np.newaxis, np.newaxis]
        actual = likelihood(params).log_prob(x)
        np.testing.assert_allclose(actual, expected.T, rtol=rtol, atol=2e-5)

    @pytest.mark.parametrize("r", [0.3, 1.0, 50.0, 1e4])
    def test_negative_binomial(self, rng, r):
        self.compare(
            likelihoods.NegativeBinomial(r),
            np.arange(60.0),
            lambda x, mu: binomial(np.exp(mu), r).logpmf(x),
            rng,
        )

    def test_negative_binomial_with_a_dispersion_of_z(self, rng):
        self.compare(
            likelihoods.NegativeBinomial("learned"),
            np.arange(60.0),
            lambda x, mu, raw: binomial(np.exp(mu), softplus_of_raw(raw)).logpmf(x),
            rng,
        )

    @pytest.mark.parametrize("r", [0.3, 5.0])
    def test_zero_inflated_negative_binomial(self, rng, r):
        def reference(x, mu, logit):
            share = scipy.special.expit(logit)
            counts = (1 - share) * binomial(np.exp(mu), r).pmf(x)
            return np.log(np.where(x == 0, share + counts, counts))

        self.compare(likelihoods.ZeroInflatedNegativeBinomial(r), np.arange(40.0), reference, rng)

    def test_poisson(self, rng):
        self.compare(
            likelihoods.Poisson(),
            np.arange(30.0),
            lambda x, mu: scipy.stats.poisson(np.exp(mu)).logpmf(x),
            rng,
        )

    def test_log_normal(self, rng):
        self.compare(
            likelihoods.LogNormal("learned"),
            np.array([0.01, 0.5, 3.0, 90.0]),
            lambda x, mu, raw: scipy.stats.lognorm(softplus_of_raw(raw), scale=np.exp(mu)).logpdf(
                x
            ),
            rng,
        )

    def test_student_t(self, rng):
        self.compare(
            likelihoods.StudentT(3.0, 0.4),
            np.array([-30.0, -1.0, 0.2, 8.0]),
            lambda x, mu: scipy.stats.t(3.0, mu, 0.4).logpdf(x),
            rng,
        )

    def test_beta(self, rng):
        def reference(x, logit, raw):
            mean, precision = scipy.special.expit(logit), softplus_of_raw(raw)
            return scipy.stats.beta(1e-3 + mean * precision, 1e-3 + (1 - mean) * precision).logpdf(
                x
            )

        self.compare(likelihoods.Beta(), np.array([0.01, 0.3, 0.99]), reference, rng)

    def test_continuous_bernoulli(self, rng):
        def reference(x, logit):
            log_constant = np.log(np.abs(2 * np.arctanh(np.tanh(logit / 2)) / np.tanh(logit / 2)))
            return x * logit - np.log1p(np.exp(logit)) + log_constant

        self.compare(likelihoods.ContinuousBernoulli(), np.array([0, 0.4, 1.0]), reference, rng)

    def test_von_mises(self, rng):
        def reference(x, a, b):
            return scipy.stats.vonmises(np.hypot(a, b), np.arctan2(b, a)).logpdf(x)

        self.compare(likelihoods.VonMises(), np.array([-3.0, 0.2, 3.1]), reference, rng)

    @pytest.mark.parametrize("loc", [-15.0, 0.3, 15.0])
    def test_truncated_normal(self, loc):
        likelihood = likelihoods.TruncatedNormal(-1.0, 2.0, 0.8)
        x = np.array([-1.0, 0.0, 2.0], np.float32)
        expected = scipy.stats.truncnorm((-1 - loc) / 0.8, (2 - loc) / 0.8, loc, 0.8).logpdf(x)
        actual = likelihood(np.full((1, 1, 1), loc, np.float32)).log_prob(x[:, None, None, None])
        np.testing.assert_allclose(actual[:, 0], expected, rtol=1e-3)

    def test_ordinal_is_the_difference_of_two_cumulative_probabilities(self, rng):
        likelihood = likelihoods.Ordinal(4)
        likelihood.build((3,))
        likelihood.set_weights([rng.normal(size=(3, 3)).astype(np.float32)])
        thresholds = likelihood.thresholds().numpy()
        assert np.all(np.diff(thresholds) > 0)
        eta = rng.normal(size=(2, 3)).astype(np.float32)
        cumulative = scipy.special.expit(thresholds - eta[..., np.newaxis])
        edges = np.concatenate([np.zeros((2, 3, 1)), cumulative, np.ones((2, 3, 1))], -1)
        for level in range(4):
            x = np.full((2, 3), level / 3, np.float32)
            expected = np.log(np.diff(edges)[..., level]).sum(-1)
            np.testing.assert_allclose(likelihood(eta).log_prob(x), expected, rtol=1e-4)


def test_an_ordinal_level_is_how_many_thresholds_the_score_exceeds():
    """The score is η + T·g for logistic noise g: at temperature 0 it is η itself."""
    likelihood = likelihoods.Ordinal(4)
    likelihood.build((3,))
    eta = np.array([[-3.0, 0.1, 0.9]], np.float32)
    thresholds = likelihood.thresholds().numpy()
    seed, index = make_seed(1), tf.range(50)
    u = random.uniform(seed, index, 3).numpy()
    for temperature in (0.0, 0.5, 1.0):
        score = eta + temperature * scipy.special.logit(u)
        expected = (score[..., np.newaxis] > thresholds).sum(-1) / 3
        found = distributions.draw(likelihood(eta), seed, index, temperature)
        np.testing.assert_allclose(np.broadcast_to(found, expected.shape), expected, rtol=1e-6)


def test_the_normal_distribution_function_holds_in_both_tails():
    x = np.linspace(-30, 6, 2001)
    expected = scipy.special.log_ndtr(x)
    actual = np.asarray(log_ndtr(tf.constant(x, tf.float64)))
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=3e-7)
    single = log_ndtr(tf.constant(x, tf.float32))
    np.testing.assert_allclose(single, expected, rtol=1e-5, atol=1e-6)


class TestCensored:
    def test_the_ends_have_the_probability_of_what_lies_beyond(self):
        likelihood = likelihoods.CensoredNormal(0.0, 2.0, 0.7)
        d = likelihood(np.array([[0.4]], np.float32))
        normal = scipy.stats.norm(0.4, 0.7)
        x = np.array([0.0, 0.5, 2.0], np.float32)[:, np.newaxis, np.newaxis]
        expected = [normal.logcdf(0), normal.logpdf(0.5), normal.logsf(2)]
        np.testing.assert_allclose(np.ravel(d.log_prob(x)), expected, rtol=1e-5)
        inner, width = grid(0, 2)
        inside = width * np.exp(d.log_prob(inner.astype("f4")[:, None, None])).sum()
        ends = np.exp(expected[0]) + np.exp(expected[2])
        np.testing.assert_allclose(inside + ends, 1, rtol=1e-5)

    @pytest.mark.parametrize("ends", [(0.0, 2.0), (None, 0.5), (0.2, None)], ids=str)
    def test_the_mean_is_that_of_clipped_draws(self, ends, assert_mean):
        d = likelihoods.CensoredNormal(*ends, 0.7)(np.array([[0.4], [-1.0]], np.float32))
        draws = scipy.stats.norm.rvs(size=(100_000, 1), random_state=1) * 0.7 + [0.4, -1.0]
        clipped = np.clip(draws, *ends)
        error = clipped.std(0) / np.sqrt(100_000)
        assert np.all(np.abs(clipped.mean(0) - d.mean()[:, 0]) < 4 * error)
        assert_mean(d.sample(4000, seed=make_seed(2))[:, :, 0] - d.mean()[:, 0], 0)


@pytest.mark.parametrize("name", ["poisson", "negative_binomial"])
def test_means_of_millions_of_counts_are_not_held_back(name):
    likelihood = likelihoods.get(name)
    likelihood.build((1,))
    mean = likelihood(np.array([[15.0]], np.float32)).mean()
    np.testing.assert_allclose(mean, [[np.exp(15)]], rtol=1e-4)


class TestSizeFactor:
    @pytest.mark.parametrize(
        "name", ["poisson", "negative_binomial", "zero_inflated_negative_binomial"]
    )
    def test_means_are_shares_of_the_total(self, name, rng):
        """Or, where there are zeros in excess, (1 − π) of such a share."""
        options = {} if name == "poisson" else {"dispersion": 2.0}
        likelihood = likelihoods.get(name, size_factor="total", target_sum=50.0, **options)
        params = rng.normal(size=(2, likelihood.params_size(4))).astype(np.float32)
        x = np.array([[0, 3, 1, 8], [5, 0, 2, 0]], np.float32)
        shares, kept = scipy.special.softmax(params[:, :4], -1), 1.0
        mu = shares * x.sum(-1, keepdims=True)
        if name.startswith("zero_inflated"):
            kept = scipy.special.expit(-params[:, 4:])
        p = kept * (scipy.stats.poisson(mu) if name == "poisson" else binomial(mu, 2.0)).pmf(x)
        d = likelihood(params)
        expected = np.log(p + (1 - kept) * (x == 0)).sum(-1)
        np.testing.assert_allclose(d.log_prob(x), expected, rtol=1e-4)
        np.testing.assert_allclose(d.mean(), kept * shares * 50, rtol=1e-5)
        assert d.sample(3, seed=make_seed(0)).shape == (3, 2, 4)

    def test_an_empty_example_has_a_likelihood(self):
        d = likelihoods.Poisson(size_factor="total")(np.zeros((1, 3), np.float32))
        assert np.isfinite(d.log_prob(np.zeros((1, 3), np.float32)))

    def test_a_total_without_a_size_factor_is_refused(self):
        with pytest.raises(
            InvalidArgument, match=r"`target_sum` is 5\.0 and `size_factor` is None"
        ):
            likelihoods.Poisson(target_sum=5.0)


class TestColumns:
    BLOCKS = [("normal", 2), ("bernoulli", 1), ("ordinal", 1, {"num_levels": 3}), ("poisson", 1)]

    @pytest.fixture
    def table(self, rng):
        n = 200
        return np.stack(
            [
                rng.normal(size=n),
                rng.normal(size=n),
                rng.integers(0, 2, n),
                rng.integers(0, 3, n) / 2,
                rng.poisson(3, n),
            ],
            -1,
        ).astype(np.float32)

    def test_it_is_the_product_of_its_blocks(self, table, rng):
        likelihood = likelihoods.Columns(self.BLOCKS)
        params = rng.normal(size=(200, likelihood.params_size(5))).astype(np.float32)
        parts = [likelihoods.get(name, *(), **(o[0] if o else {})) for name, _, *o in self.BLOCKS]
        ends = np.cumsum([0, 2, 1, 1, 1])
        expected = sum(
            part(params[:, a:b]).log_prob(table[:, a:b])
            for part, a, b in zip(parts, ends[:-1], ends[1:], strict=True)
        )
        d = likelihood(params)
        np.testing.assert_allclose(d.log_prob(table), expected, rtol=1e-5)
        assert d.mean().shape == (200, 5)
        assert d.sample(2, seed=make_seed(0)).shape == (2, 200, 5)

    def test_a_model_of_a_table_trains_saves_and_measures(self, table, eagerly, tmp_path):
        likelihood = likelihoods.Columns(self.BLOCKS)
        model = tfvae.VAE(
            networks.dense_encoder((5,), 4, hidden=(16,)),
            networks.dense_decoder(2, (likelihood.params_size(5),), hidden=(16,)),
            likelihood=likelihood,
        )
        model.compile(tfvae.optimizers.Adam(5e-2), run_eagerly=True)
        losses = model.fit(table, epochs=3, batch_size=200, verbose=0).history["loss"]
        assert losses[-1] < losses[0]
        model.save(tmp_path / "table.keras")
        loaded = keras.saving.load_model(tmp_path / "table.keras")
        a, b = (
            tfvae.log_likelihood(m, table, num_samples=10, progress=False).mean
            for m in (model, loaded)
        )
        assert a == b

    def test_a_value_that_does_not_fit_is_named_with_its_columns(self, table):
        table[3, 4] = 0.5
        with pytest.raises(InvalidData, match=r"`x, column 4` has values .*expects counts"):
            likelihoods.Columns(self.BLOCKS).check(table)

    @pytest.mark.parametrize(
        ("blocks", "message"),
        [
            ([], "`blocks` is empty"),
            ([("normal",)], "A block is"),
            ([("normal", 0)], "whole number of at least 1"),
            ([("gaussian", 1)], "normal"),
            (None, "`blocks` is empty"),
        ],
    )
    def test_blocks_of_another_form_are_refused(self, blocks, message):
        with pytest.raises(InvalidArgument, match=message):
            likelihoods.Columns(blocks)

    def test_another_number_of_columns_is_refused(self):
        with pytest.raises(InvalidArgument, match="have 5 columns, but the examples have 4"):
            likelihoods.Columns(self.BLOCKS).params_size(4)


@pytest.mark.slow
@pytest.mark.parametrize("names", nightly_but([["decode"], ["decode", "sample"]], ["decode"]))
def test_the_means_of_every_likelihood_are_made_of_operators_that_a_device_has(
    names, tmp_path, rng
):
    blocks = [(name, 1, CASES.get(name, ({},))[0]) for name in likelihoods.REGISTRY.names()]
    likelihood = likelihoods.Columns([block for block in blocks if block[0] not in WRAPPERS])
    count = len(likelihood.sizes)
    model = tfvae.VAE(
        networks.dense_encoder((count,), 4, hidden=(8,)),
        networks.dense_decoder(2, (likelihood.params_size(count),), hidden=(8,)),
        likelihood=likelihood,
    )
    weights = model.get_weights()
    model.set_weights([0.4 * rng.normal(size=w.shape) if w.shape else w for w in weights])
    # Of tables `sample` draws values, which a device cannot of every likelihood.
    warned = pytest.warns(TfvaeWarning, match="The export is without `sample`")
    with warned if "sample" in names else contextlib.nullcontext():
        tfvae.export.litert(model, tmp_path / "table.tflite", signatures=names)
    decoder = Decoder.from_file(tmp_path / "table.tflite")
    z = rng.normal(size=(3, 2)).astype(np.float32)
    np.testing.assert_allclose(decoder.decode(z), model.decode(z), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "x", "message"),
    [
        ("poisson", [0, -1], r"from -1 to 0; .*Poisson likelihood expects counts"),
        ("negative_binomial", [0.5, 1], "50% of them not whole"),
        ("log_normal", [0, 1], "expects values above 0. Shift"),
        ("beta", [0.5, 1], r"inside \(0, 1\). Move values"),
        ("continuous_bernoulli", [0, 255], r"in \[0, 1\]"),
        ("von_mises", [0, 180], "expects angles in radians"),
        ("truncated_normal", [-1, 0], r"in \[0, inf\]"),
        ("ordinal", [0, 3], r"pixels in \[0, 1\]"),
    ],
)
def test_what_lies_outside_the_support_is_refused_by_array_and_by_batch(name, x, message):
    likelihood = likelihoods.get(name)
    x = np.array([x], np.float32)
    with pytest.raises(InvalidData, match=message):
        likelihood.check(x)
    assert not likelihood.takes(tf.constant(x))
    inside = np.full((1, 2), INSIDE.get(name, 1.0), np.float32)
    likelihood.check(inside)
    assert likelihood.takes(tf.constant(inside))
    assert not likelihood.takes(tf.constant(inside * np.nan))


@pytest.mark.parametrize("scale", [np.float64(0.5), np.float32(0.5), np.int64(2), 2])
def test_a_scale_may_be_any_kind_of_number(scale):
    likelihood = tfvae.likelihoods.Normal(scale=scale)
    assert (type(likelihood.scale), likelihood.scale) == (float, scale)
    params, x = np.zeros((3, 2), "f4"), np.ones((3, 2), "f4")
    expected = scipy.stats.norm.logpdf(1, scale=float(scale)) * 2
    np.testing.assert_allclose(likelihood(params).log_prob(x), [expected] * 3, rtol=1e-5)


@pytest.mark.parametrize("scale", [np.inf, np.nan, True, "wide", None])
def test_a_scale_that_is_no_finite_number_is_refused(scale):
    with pytest.raises(InvalidArgument, match=r"`scale` is .*; expected a positive number"):
        tfvae.likelihoods.Normal(scale=scale)


@pytest.mark.parametrize("name", list(WITH_SCALE))
def test_a_scale_comes_from_where_it_was_said(name, rng):
    argument = WITH_SCALE[name]
    sizes = {}
    for source in (0.7, "shared", "by_value", "learned"):
        likelihood = likelihoods.get(name, **{argument: source})
        params = rng.normal(size=(2, likelihood.params_size(3))).astype(np.float32)
        x = np.full((2, 3), INSIDE.get(name, 1.0), np.float32)
        assert likelihood(params).log_prob(x).shape == (2,)
        sizes[source] = sum(w.shape.num_elements() for w in likelihood.trainable_weights)
        restored = type(likelihood).from_config(likelihood.get_config())
        assert restored.get_config() == likelihood.get_config()
    assert list(sizes.values()) == [0, 1, 3, 0]
    with pytest.raises(InvalidArgument, match=f"`{argument}` is -1; expected a positive number"):
        likelihoods.get(name, **{argument: -1})


@pytest.mark.parametrize("name", ["truncated_normal", "censored_normal"])
def test_an_interval_needs_an_end_and_an_order(name):
    with pytest.raises(InvalidArgument, match="expected at least one number"):
        likelihoods.get(name, low=None)
    with pytest.raises(InvalidArgument, match="low below high"):
        likelihoods.get(name, low=1.0, high=1.0)


def test_a_linear_model_with_a_scale_for_each_value_is_factor_analysis(rng):
    """log p(x) of factor analysis is that of a normal with covariance W Wᵀ + diag σ²."""
    decoder = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4)])
    model = tfvae.VAE(
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)]),
        decoder,
        likelihood=likelihoods.Normal("by_value"),
    )
    model.build((None, 4))
    raw = rng.normal(size=4).astype(np.float32)
    model.likelihood.set_weights([raw])
    x = rng.normal(size=(5, 4)).astype(np.float32)
    weights, bias = (np.asarray(w, np.float64) for w in decoder.weights)
    covariance = weights.T @ weights + np.diag(softplus_of_raw(raw.astype(float)) ** 2)
    expected = scipy.stats.multivariate_normal(bias, covariance).logpdf(x)
    actual = tfvae.exact_log_likelihood(model, x, progress=False).per_example
    np.testing.assert_allclose(actual, expected, rtol=1e-4)
