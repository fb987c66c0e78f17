import functools
import itertools

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from tiers import nightly_but

from tfvae import distributions, likelihoods, posteriors
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.likelihoods import Bernoulli, Categorical, DiscretizedLogisticMixture, Normal
from tfvae.posteriors import DiagonalNormal
from tfvae.random import make_seed

tfd = tfp.distributions

# Of one vector, not of sites; see test_posteriors.py and test_likelihoods.py.
VECTORS = ("columns", "flow", "full_normal", "iaf")
ALL = {
    f"{registry.kind} {name}": (registry, name)
    for registry in (likelihoods.REGISTRY, posteriors.REGISTRY)
    for name in registry.names()
    if name not in VECTORS
}
# XLA takes a second or more for each. These are a density with a gradient of its own, a softmax,
# and draws that have a gradient.
COMPILED = nightly_but(
    ALL,
    "likelihood bernoulli",
    "likelihood categorical",
    "posterior diagonal_normal",
)
NO_XLA_SAMPLES = (likelihoods.NegativeBinomial, likelihoods.ZeroInflatedNegativeBinomial)
# A number for each value belongs to one shape of values, and these tests use several.
OPTIONS = {
    "negative_binomial": {"dispersion": "shared"},
    "zero_inflated_negative_binomial": {"dispersion": "shared"},
}

# Factories over levels, each with a shape whose images can all be listed.
ENUMERABLE = {
    "bernoulli": (Bernoulli(), (2, 2, 1)),
    "bernoulli, flat": (Bernoulli(), (3,)),
    "categorical": (Categorical(3), (2, 1, 2)),
    "categorical, 256 levels": (Categorical(256), (1, 1, 1)),
    "mixture, 256 levels": (DiscretizedLogisticMixture(2, 256), (1, 1, 1)),
    "mixture, 2 levels": (DiscretizedLogisticMixture(2, 2), (2, 2, 1)),
    "mixture, 2 pixels": (DiscretizedLogisticMixture(2, 4), (2, 1, 1)),
    "mixture, 2 channels": (DiscretizedLogisticMixture(2, 4), (1, 1, 2)),
    "mixture, 3 channels": (DiscretizedLogisticMixture(3, 4), (1, 1, 3)),
    "mixture, no sites": (DiscretizedLogisticMixture(2, 4), (2,)),
}


def every_image(num_levels, shape):
    """Return all images over the levels, `[num_levels^D, *shape]`."""
    levels = np.arange(num_levels) / (num_levels - 1)
    every = itertools.product(levels, repeat=np.prod(shape))
    return np.array(list(every), np.float32).reshape(-1, *shape)


def random_params(rng, factory, shape, batch=(3,), scale=1.0):
    size = factory.params_size(shape[-1])
    return rng.normal(0, scale, (*batch, *shape[:-1], size)).astype(np.float32)


@pytest.fixture(params=ENUMERABLE.values(), ids=ENUMERABLE)
def enumerable(request):
    """A factory, the shape of its values, and all of them, with an axis for a batch."""
    factory, shape = request.param
    return factory, shape, every_image(factory.num_levels, shape)[:, np.newaxis]


def made(kind):
    """Return a factory of ALL, with its defaults."""
    registry, name = ALL[kind]
    return registry.get(name, **OPTIONS.get(name, {}))


@pytest.fixture(params=ALL)
def factory(request):
    """Every registered factory, with its defaults."""
    return made(request.param)


@functools.cache
def drawn(kind):
    """Return values that a factory can draw, of three examples of 2×3 sites and two channels."""
    factory = made(kind)
    params = random_params(np.random.default_rng(2), factory, (2, 3, 2))
    return factory(params).sample(seed=make_seed(1))


@pytest.fixture
def values(request):
    """Values of the factory, drawn once for all tests: it takes half a second for some of them."""
    return drawn(request.node.callspec.params["factory"])


class TestEveryFactory:
    @pytest.mark.parametrize("channels", [1, 2, 3, 5])
    def test_event_shape_undoes_params_size(self, factory, channels):
        size = factory.params_size(channels)
        assert factory.event_shape((4, 6, size)) == (4, 6, channels)
        assert factory.event_shape((size,)) == (channels,)

    def test_shapes_of_batch_and_event(self, factory, rng):
        params = random_params(rng, factory, (4, 6, 2), batch=(3, 5))
        d = factory(params, batch_ndims=2)
        assert d.batch_shape == (3, 5)
        assert d.event_shape == (4, 6, 2)
        x = d.sample(7, seed=make_seed(1))
        assert x.shape == (7, 3, 5, 4, 6, 2)
        assert d.log_prob(x).shape == (7, 3, 5)
        assert d.log_prob(x[0, 0]).shape == (3, 5)
        assert d.mean().shape == (3, 5, 4, 6, 2)

    def test_examples_and_sites_do_not_mix(self, factory, values, rng):
        """log p of an image is the sum over its pixels, each with its own parameters."""
        params = random_params(rng, factory, (2, 3, 2))
        pixel_params, pixels = params.reshape(3, 6, -1), tf.reshape(values, (3, 6, 2))
        by_pixel = factory(pixel_params, batch_ndims=2).log_prob(pixels)
        np.testing.assert_allclose(
            factory(params).log_prob(values), tf.reduce_sum(by_pixel, axis=1), rtol=1e-5, atol=1e-4
        )

    def test_half_precision_parameters_are_computed_with_in_float32(self, factory, rng):
        params = tf.cast(random_params(rng, factory, (4, 1)), tf.bfloat16)
        half, full = factory(params), factory(tf.cast(params, tf.float32))
        x = half.sample(seed=make_seed(1))
        assert x.dtype == half.log_prob(x).dtype == half.mean().dtype == tf.float32
        np.testing.assert_array_equal(half.log_prob(x), full.log_prob(x))

    @pytest.mark.slow
    @pytest.mark.parametrize("factory", COMPILED, indirect=True)
    def test_xla_agrees_with_eager_execution(self, factory, rng):
        params = tf.constant(random_params(rng, factory, (2, 2, 3)))
        x = factory(params).sample(seed=make_seed(1))

        def log_prob_and_gradient(params):
            with tf.GradientTape() as tape:
                tape.watch(params)
                log_prob = factory(params).log_prob(x)
            return log_prob, tape.gradient(log_prob, params)

        compiled = tf.function(log_prob_and_gradient, jit_compile=True, autograph=False)(params)
        for a, b in zip(compiled, log_prob_and_gradient(params), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "factory",
        # To draw from a mixture takes XLA as long as all others here. Posteriors are drawn from in
        # `test_latents_are_drawn_alike_in_every_mode`.
        nightly_but(ALL, "likelihood bernoulli", "likelihood categorical"),
        indirect=True,
    )
    def test_xla_samples_are_values_of_the_distribution(self, factory, rng):
        params = random_params(rng, factory, (2, 2, 3))
        sample = tf.function(
            lambda p: factory(p).sample(4, seed=make_seed(1)), jit_compile=True, autograph=False
        )
        if isinstance(factory, NO_XLA_SAMPLES):
            pytest.skip("XLA does not know TFP's sampler of gamma variates")
        x = sample(params).numpy()
        assert x.std() > 0
        if isinstance(factory, likelihoods.Likelihood):
            factory.check(x)
            assert factory.off_levels(x) == 0

    def test_equal_seeds_give_equal_samples(self, factory, rng):
        d = factory(random_params(rng, factory, (4, 4, 2)))
        first, again, other = (d.sample(2, seed=make_seed(n)).numpy() for n in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)
        assert not np.array_equal(first[0], first[1])

    def test_the_gradient_of_log_prob_is_its_slope(self, factory, values, rng):
        """Along a random direction, against a central difference."""
        params = tf.constant(random_params(rng, factory, (2, 2)))
        direction = rng.normal(size=params.shape).astype(np.float32)
        x = values[:, 0, :2]
        with tf.GradientTape() as tape:
            tape.watch(params)
            log_prob = factory(params).log_prob(x)
        slope = tf.reduce_sum(tape.gradient(log_prob, params) * direction, axis=[1, 2])
        step = 1e-2
        ahead, behind = (factory(params + s * direction).log_prob(x) for s in (step, -step))
        np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    "factory",
    [
        *(registry.get(name, **OPTIONS.get(name, {})) for registry, name in ALL.values()),
        Categorical(num_levels=7),
        Normal(scale=0.25),
        Normal(scale="learned"),
        DiscretizedLogisticMixture(num_components=3, num_levels=16),
    ],
    ids=repr,
)
def test_config_round_trip_through_keras(factory):
    config = keras.saving.serialize_keras_object(factory)
    restored = keras.saving.deserialize_keras_object(config)
    assert type(restored) is type(factory)
    assert repr(restored) == repr(factory)
    assert restored.params_size(3) == factory.params_size(3)


@pytest.mark.parametrize(
    ("factory", "size", "expected"),
    [
        (DiagonalNormal(), 5, "2 for 1 channel, 4 for 2, 6 for 3"),
        (Normal("learned"), 1, "2 for 1 channel"),
        (Categorical(4), 6, "4 for 1 channel, 8 for 2, 12 for 3"),
        (DiscretizedLogisticMixture(1), 5, "3 for 1 channel, 6 for 2, 10 for 3"),
    ],
    ids=repr,
)
def test_an_axis_that_holds_no_whole_number_of_channels_is_refused(factory, size, expected):
    with pytest.raises(InvalidArgument, match=f"axis of size {size}; expected .*{expected}"):
        factory.event_shape((2, 2, size))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Normal(scale=0), "a positive number, 'learned', 'shared' or"),
        (lambda: Normal(scale=-1.0), "a positive number, 'learned', 'shared' or"),
        (lambda: Normal(scale=float("nan")), "a positive number, 'learned', 'shared' or"),
        (lambda: Normal(scale="learnt"), "a positive number, 'learned', 'shared' or"),
        (lambda: Categorical(num_levels=1), "`num_levels` is 1; expected at least 2"),
        (lambda: DiscretizedLogisticMixture(num_levels=0), "`num_levels` is 0"),
        (lambda: DiscretizedLogisticMixture(num_components=0), "`num_components` is 0"),
    ],
)
def test_constructor_arguments_that_make_no_distribution_are_refused(build, message):
    with pytest.raises(InvalidArgument, match=message):
        build()


class TestDiscreteLikelihoods:
    @pytest.mark.parametrize("scale", [1.0, 5.0])
    def test_probabilities_of_all_images_sum_to_one(self, enumerable, rng, scale):
        factory, shape, every = enumerable
        log_prob = factory(random_params(rng, factory, shape, scale=scale)).log_prob(every)
        assert log_prob.shape == (len(every), 3)
        np.testing.assert_allclose(np.exp(log_prob).sum(axis=0), 1, rtol=1e-5)

    def test_samples_are_as_frequent_as_they_are_probable(self, enumerable, rng):
        factory, shape, every = enumerable
        d = factory(random_params(rng, factory, shape, batch=(1,)))
        n = 20_000
        x = d.sample(n, seed=make_seed(3)).numpy().reshape(n, -1)
        assert factory.off_levels(x) == 0
        top = factory.num_levels - 1
        place = factory.num_levels ** np.arange(x.shape[1])[::-1]
        counts = np.bincount(np.round(x * top).astype(int) @ place, minlength=len(every))
        p = np.exp(d.log_prob(every)[:, 0])
        # The standard error of a frequency; of images met less than ten times, that of ten.
        error = np.sqrt(np.maximum(p * (1 - p), 10 / n) / n)
        assert np.max(np.abs(counts / n - p) / error) < 4

    @pytest.mark.parametrize("name", [name for name in ENUMERABLE if "mixture" not in name])
    def test_mean_is_the_sum_over_all_images(self, name, rng):
        factory, shape = ENUMERABLE[name]
        every = every_image(factory.num_levels, shape)
        d = factory(random_params(rng, factory, shape))
        p = np.exp(d.log_prob(every[:, np.newaxis]))
        np.testing.assert_allclose(d.mean(), np.tensordot(p, every, (0, 0)), atol=1e-5)


class TestBernoulli:
    @pytest.mark.parametrize("magnitude", [1, 50])
    @pytest.mark.parametrize("shape", [(1, 1, 1), (1, 67, 1), (8, 16, 1), (5, 7, 3)])
    @pytest.mark.parametrize(
        ("x_batch", "batch"),
        [((3,), (3,)), ((3,), (4, 3)), ((4, 3), (3,)), ((4, 1), (4, 3))],
        ids=str,
    )
    def test_log_prob_and_gradients_are_those_of_tfp(self, rng, magnitude, shape, x_batch, batch):
        logits = tf.constant(rng.uniform(-magnitude, magnitude, (*batch, *shape)), tf.float32)
        x = tf.constant(rng.integers(0, 2, (*x_batch, *shape)), tf.float32)
        upstream = tf.constant(rng.normal(size=(4, 3) if 4 in x_batch + batch else 3), tf.float32)

        def results(distribution, dtype):
            values, parameters = tf.cast(x, dtype), tf.cast(logits, dtype)
            with tf.GradientTape() as tape:
                tape.watch([values, parameters])
                log_prob = distribution(parameters).log_prob(values)
                total = tf.reduce_sum(log_prob * tf.cast(upstream, dtype))
            return log_prob, *tape.gradient(total, [values, parameters])

        def reference(parameters):
            return tfd.Independent(tfd.Bernoulli(logits=parameters, dtype=tf.float64), len(shape))

        ours = results(lambda parameters: Bernoulli()(parameters, len(batch)), tf.float32)
        for a, b in zip(ours, results(reference, tf.float64), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)

    def test_certain_pixels_cost_nothing_and_impossible_ones_their_logit(self):
        d = Bernoulli()(np.full((1, 67), 1000, np.float32))
        np.testing.assert_array_equal(d.log_prob(np.ones((1, 67), np.float32)), [0])
        np.testing.assert_array_equal(d.log_prob(np.zeros((1, 67), np.float32)), [-67_000])


class TestLogisticMixture:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_log_prob_and_its_gradient_are_finite(self, channels):
        factory = DiscretizedLogisticMixture(2, 256)
        log_scales, locs = [-1000, -50, -7, 0, 7, 30, 100], [-1e4, -1, 0, 1, 1e4]
        pairs = np.array(list(itertools.product(locs, log_scales)), np.float32)
        params = np.zeros((len(pairs), factory.params_size(channels)), np.float32)
        params[:, 2 : 2 + 2 * channels] = pairs[:, :1]
        params[:, 2 + 2 * channels : 2 + 4 * channels] = pairs[:, 1:]
        params = tf.constant(params)
        x = np.array([0, 1 / 255, 128 / 255, 1], np.float32)[:, np.newaxis, np.newaxis]
        x = np.tile(x, [1, len(pairs), channels])
        with tf.GradientTape() as tape:
            tape.watch(params)
            log_prob = factory(params).log_prob(x)
        assert np.all(np.isfinite(log_prob)), log_prob.numpy()
        assert np.all(log_prob <= 1e-6)
        assert np.all(np.isfinite(tape.gradient(log_prob, params)))

    @pytest.mark.parametrize("log_scale", [-1000, -7, 3])
    @pytest.mark.parametrize("loc", [-3, -1, 0.001, 1, 3])
    def test_probabilities_sum_to_one_at_the_extremes(self, log_scale, loc):
        d = DiscretizedLogisticMixture(1, 256)(np.array([[0, loc, log_scale]], np.float32))
        total = np.exp(d.log_prob(every_image(256, (1,)))).sum()
        np.testing.assert_allclose(total, 1, rtol=1e-4)

    @pytest.mark.parametrize(("log_scale", "tolerance"), [(-1000, 5e-5), (-4, 1e-6)])
    def test_probabilities_sum_to_one_for_locations_near_the_edges_of_bins(
        self, rng, log_scale, tolerance
    ):
        loc = (2 * rng.integers(0, 255, 200) + 1) / 255 - 1 + rng.normal(0, 1e-4, 200)
        params = np.stack([0 * loc, loc, 0 * loc + log_scale], axis=1).astype(np.float32)
        log_prob = DiscretizedLogisticMixture(1, 256)(params[:, np.newaxis], 2).log_prob(
            every_image(256, (1,))
        )
        np.testing.assert_allclose(np.exp(log_prob.numpy().astype("f8")).sum(-1), 1, atol=tolerance)

    @pytest.mark.parametrize("levels", [2, 16, 256])
    def test_a_certain_value_costs_next_to_nothing(self, levels):
        """With log-scales down to −7 alone, as in PixelCNN++, 0.039 bits at 256 levels."""
        level = levels // 2 - (levels == 2)
        params = np.array([[0, 2 * level / (levels - 1) - 1, -1000]], np.float32)
        x = np.array([[level / (levels - 1)]], np.float32)
        bits = -DiscretizedLogisticMixture(1, levels)(params).log_prob(x).numpy() / np.log(2)
        assert 0 <= bits < 2e-5

    def test_one_component_is_a_difference_of_logistic_distributions(self, rng):
        loc, log_scale = rng.normal(0, 0.5, 20), rng.uniform(-4, 0, 20)
        level = rng.integers(0, 256, 20)
        edges = 2 * (level[:, np.newaxis] + [-0.5, 0.5]) / 255 - 1
        edges[level == 0, 0], edges[level == 255, 1] = -np.inf, np.inf
        logistic = scipy.stats.logistic(loc[:, np.newaxis], np.exp(log_scale)[:, np.newaxis])
        expected = np.diff(logistic.cdf(edges), axis=1)[:, 0]
        params = np.stack([np.zeros(20), loc, log_scale], axis=1).astype(np.float32)
        d = DiscretizedLogisticMixture(1, 256)(params)
        log_prob = d.log_prob((level / 255).astype(np.float32)[:, np.newaxis])
        np.testing.assert_allclose(np.exp(log_prob), expected, rtol=1e-3)

    def test_channels_are_coupled_as_in_the_paper(self):
        """The locations of green and blue move with red, and red and green, by tanh(a)."""
        narrow = -6.0
        raw = np.arctanh([0.5, -0.25, 0.75])
        params = np.array([[0, 0.5, 0.1, -0.2, narrow, narrow, narrow, *raw]], np.float32)
        red = 0.5
        green = 0.1 + 0.5 * red
        blue = -0.2 - 0.25 * red + 0.75 * green
        x = DiscretizedLogisticMixture(1, 256)(params).sample(100, seed=make_seed(1)).numpy()
        np.testing.assert_allclose(2 * np.median(x, axis=0)[0] - 1, [red, green, blue], atol=0.01)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_mean_is_that_of_samples_away_from_the_edges(self, rng, assert_mean, channels):
        factory = DiscretizedLogisticMixture(2, 256)
        params = random_params(rng, factory, (channels,), batch=(1,), scale=0.2)
        params[:, 2 + 2 * channels : 2 + 4 * channels] = -4
        d = factory(params)
        assert_mean(d.sample(20_000, seed=make_seed(1)), d.mean())


@pytest.mark.parametrize("posterior", ["diagonal_normal", "bernoulli", "categorical"])
def test_latents_are_drawn_alike_in_every_mode(posterior, rng, mode):
    factory = posteriors.get(posterior)
    params = tf.constant(rng.normal(size=(5, factory.params_size(3))).astype(np.float32))
    # A word of the seed is negative.
    seed = tf.constant([-3, 4])
    draws = mode(lambda p: factory(p).sample(10, seed=seed))(params)
    np.testing.assert_allclose(draws, factory(params).sample(10, seed=seed), rtol=0, atol=1e-5)


class TestNormals:
    @pytest.mark.parametrize(
        "factory", [Normal(0.3), Normal("learned"), DiagonalNormal()], ids=repr
    )
    def test_log_prob_and_moments_are_those_of_the_density(self, factory, rng, assert_mean):
        params = random_params(rng, factory, (2, 3))
        if isinstance(factory, Normal) and factory.scale != "learned":
            loc, scale = params, 0.3
        else:
            loc, raw = np.split(params, 2, axis=-1)
            scale = np.log1p(np.exp(raw + np.log(np.e - 1)))
        d = factory(params)
        x = rng.normal(size=(5, 3, 2, 3)).astype(np.float32)
        expected = scipy.stats.norm.logpdf(x, loc, scale).sum(axis=(-1, -2))
        np.testing.assert_allclose(d.log_prob(x), expected, rtol=1e-4)
        np.testing.assert_array_equal(d.mean(), loc)
        noise = (d.sample(5000, seed=make_seed(1)) - loc) / scale
        assert_mean(noise, 0)
        assert_mean(noise**2, 1)

    def test_density_integrates_to_one(self):
        d = Normal("learned")(np.array([[0.3, -1.0]], np.float32))
        grid = np.linspace(-8, 8, 4001, dtype=np.float32)[:, np.newaxis, np.newaxis]
        density = np.exp(d.log_prob(grid)).sum() * (16 / 4000)
        np.testing.assert_allclose(density, 1, rtol=1e-5)

    @pytest.mark.parametrize("factory", [Normal("learned"), DiagonalNormal()], ids=repr)
    def test_a_raw_scale_of_zero_is_a_standard_deviation_of_one(self, factory):
        np.testing.assert_allclose(factory(np.zeros((1, 2))).stddev(), [[1]], rtol=1e-5)

    def test_a_very_negative_raw_scale_leaves_a_positive_standard_deviation(self):
        assert DiagonalNormal()(np.array([[0, -1e4]])).stddev().numpy() > 0


class TestCheck:
    @pytest.mark.parametrize("name", [n for r, n in ALL.values() if r is likelihoods.REGISTRY])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_values_that_are_not_finite_are_refused(self, name, value):
        if name == "observed" and np.isnan(value):
            pytest.skip("NaN is a missing value there; see test_observed.py")
        x = np.array([[0.0, value, 1.0, value]])
        with pytest.raises(InvalidData, match=r"`images` holds 2 values .* expected finite"):
            likelihoods.REGISTRY.get(name).check(x, "images")

    @pytest.mark.parametrize("name", [n for r, n in ALL.values() if r is likelihoods.REGISTRY])
    @pytest.mark.parametrize("x", [[0, 255], [-1, 1]], ids=str)
    def test_likelihoods_over_levels_refuse_what_is_outside_0_and_1(self, name, x):
        likelihood = likelihoods.REGISTRY.get(name)
        if likelihood.num_levels is not None:
            with pytest.raises(InvalidData, match=rf"from {x[0]} to {x[1]}; .*\[0, 1\]. Divide"):
                likelihood.check(np.array(x))

    @pytest.mark.parametrize("dtype", [np.float32, np.uint8, bool])
    def test_binary_pixels_are_accepted_in_any_dtype(self, dtype):
        Bernoulli().check(np.array([0, 1], dtype))

    @pytest.mark.parametrize(
        ("likelihood", "x", "expected"),
        [
            (Bernoulli(), [0, 1, 0.5, 1], 0.25),
            (Categorical(256), np.arange(256) / 255, 0),
            (Categorical(256), (np.arange(255) + 0.5) / 255, 1),
            (DiscretizedLogisticMixture(num_levels=4), [0, 1 / 3, 0.5, 0.6], 0.5),
            (Normal(), [0.1, 7], 0),
        ],
        ids=["bernoulli", "on levels", "between levels", "mixture", "normal"],
    )
    def test_off_levels_is_the_fraction_between_levels(self, likelihood, x, expected):
        assert likelihood.off_levels(np.array(x)) == expected


def test_the_second_derivative_of_the_bernoulli_log_likelihood_is_the_analytic_one(rng):
    """The value and first derivative are hand-written; REBAR differentiates them once more."""
    logits = tf.constant(rng.normal(0, 2, (3, 2, 5)).astype("f4"))
    x = tf.constant(rng.integers(0, 2, (2, 5)).astype("f4"))
    weight = tf.constant(rng.normal(size=(3, 2)).astype("f4"))
    with tf.GradientTape() as outer:
        outer.watch(logits)
        with tf.GradientTape() as inner:
            inner.watch(logits)
            log_prob = likelihoods.Bernoulli()(logits, batch_ndims=2).log_prob(x)
            total = tf.reduce_sum(weight * log_prob)
        squares = tf.reduce_sum(inner.gradient(total, logits) ** 2)
    s = tf.sigmoid(logits)
    weight = weight[..., tf.newaxis]
    expected = -2.0 * weight**2 * (x - s) * s * (1.0 - s)
    np.testing.assert_allclose(outer.gradient(squares, logits), expected, rtol=1e-4, atol=1e-6)


def test_the_bernoulli_log_likelihood_of_all_pairs_is_that_of_each(rng):
    logits = rng.normal(0, 3, (4, 1, 2, 3, 1)).astype("f4")
    x = rng.integers(0, 2, (5, 2, 3, 1)).astype("f4")
    pairs = likelihoods.Bernoulli()(logits, batch_ndims=2).log_prob(x)
    each = likelihoods.Bernoulli()(np.repeat(logits, 5, axis=1), batch_ndims=2).log_prob(x)
    assert pairs.shape == (4, 5)
    np.testing.assert_allclose(pairs, each, rtol=1e-5, atol=1e-5)


def test_draws_that_cannot_be_reparameterized_carry_the_likelihood_ratio():
    """v = 1 has the gradient of log p at the draws: that of the mean of v f(z) is then unbiased."""
    logits = tf.constant([0.4, -1.2, 0.1])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        p = tfd.Independent(tfd.Bernoulli(logits, dtype=tf.float32), 1)
        z, log_v = distributions.differentiable_sample(p, [5], make_seed(1))
        total = tf.reduce_sum(tf.exp(log_v) * tf.constant([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert set(np.unique(z)) == {0.0, 1.0}
    np.testing.assert_array_equal(log_v, np.zeros(5))
    expected = np.arange(1.0, 6.0) @ (z.numpy() - scipy.special.expit(logits))
    np.testing.assert_allclose(tape.gradient(total, logits), expected, rtol=1e-5)
