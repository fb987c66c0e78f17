"""Missing values filled in: on linear-Gaussian models the exact answers are known."""

import types

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

import tfvae
from tfvae import evaluation, likelihoods, networks
from tfvae.distributions.protocol import draws_by_example
from tfvae.errors import InvalidArgument

pytestmark = pytest.mark.slow  # Compiles graphs of whole models.

K = 4000


@pytest.fixture(scope="module")
def incomplete(linear_gaussian):
    """A linear-Gaussian model, and examples of which about half of the values are missing."""
    rng = np.random.default_rng(5)
    size, latents = linear_gaussian.w.shape
    z, noise = rng.normal(size=(12, latents)), rng.normal(size=(12, size))
    x = z @ linear_gaussian.w.T + linear_gaussian.b + linear_gaussian.scale * noise
    missing = rng.uniform(size=x.shape) < 0.5
    missing[np.arange(12), np.arange(12) % size] = False
    return np.where(missing, np.nan, x).astype(np.float32)


def model_of(truth):
    """Return the model of the true parameters, whose q(z|x) is N(0, 1) whatever x is."""
    size, latents = truth.w.shape
    encoder = networks.dense_encoder((size,), 2 * latents, hidden=(), missing=True)
    decoder = networks.dense_decoder(latents, (size,), hidden=())
    encoder.set_weights([np.zeros(w.shape) for w in encoder.get_weights()])
    decoder.set_weights([truth.w.T, truth.b])
    return tfvae.VAE(
        encoder, decoder, likelihood=likelihoods.Observed(likelihoods.Normal(truth.scale))
    )


def conditional(truth, x):
    """Return log p(x_obs), E[x|x_obs] and Cov[x|x_obs] of one example, by NumPy."""
    covariance = truth.w @ truth.w.T + truth.scale**2 * np.eye(len(truth.b))
    o, m = ~np.isnan(x), np.isnan(x)
    log_p = scipy.stats.multivariate_normal(truth.b[o], covariance[np.ix_(o, o)]).logpdf(x[o])
    gain = covariance[np.ix_(m, o)] @ np.linalg.inv(covariance[np.ix_(o, o)])
    mean, spread = x.astype(np.float64), np.zeros_like(covariance)
    mean[m] = truth.b[m] + gain @ (x[o] - truth.b[o])
    spread[np.ix_(m, m)] = covariance[np.ix_(m, m)] - gain @ covariance[np.ix_(o, m)]
    return log_p, mean, spread


class TestLinearGaussian:
    def test_the_closed_form_takes_as_many_examples_as_memory_has_room_for(
        self, linear_gaussian, incomplete, monkeypatch
    ):
        model, (size, latents) = model_of(linear_gaussian), linear_gaussian.w.shape
        complete = np.nan_to_num(incomplete)
        expected = [tfvae.exact_log_likelihood(model, x) for x in (incomplete, complete)]
        shapes, cholesky = [], tf.linalg.cholesky
        monkeypatch.setattr(tf.linalg, "cholesky", lambda a: shapes.append(a.shape) or cholesky(a))
        monkeypatch.setattr(evaluation.enumeration, "CHUNK_SIZE", 4 * size * latents)
        for x, before, count in zip((incomplete, complete), expected, (4, 1), strict=True):
            measured = tfvae.exact_log_likelihood(model, x)
            assert shapes == [(count, latents, latents)] * 3
            shapes.clear()
            np.testing.assert_allclose(measured.per_example, before.per_example, rtol=1e-6)

    def test_memory_does_not_grow_with_the_number_of_draws(
        self, linear_gaussian, incomplete, monkeypatch
    ):
        sizes, seeds = [], []

        def chunk(model, x, condition, seed, size, draws):
            sizes.append((len(x), int(size)))
            seeds.append(tuple(seed.numpy()))
            return in_chunks(model, x, condition, seed, size, draws)

        in_chunks = evaluation.imputation._chunk
        monkeypatch.setattr(evaluation.imputation, "_chunk", chunk)
        monkeypatch.setattr(evaluation.imputation, "_CHUNK_SIZE", limit := 200)
        found = tfvae.impute(
            model_of(linear_gaussian), incomplete, num_samples=30, draws=8, progress=False
        )
        assert found.draws.shape == (8, *incomplete.shape)
        values = incomplete.shape[1]
        assert all(batch * size * values <= limit for batch, size in sizes)
        assert len(set(seeds)) == len(seeds) > 3, "and each chunk has noise of its own"

    def test_log_p_of_what_is_observed_is_the_closed_form(self, linear_gaussian, incomplete):
        model = model_of(linear_gaussian)
        expected = np.array([conditional(linear_gaussian, x)[0] for x in incomplete])
        exact = tfvae.exact_log_likelihood(model, incomplete)
        np.testing.assert_allclose(exact.per_example, expected, rtol=1e-5)
        assert exact.num_values == pytest.approx((~np.isnan(incomplete)).sum() / 12)
        sampled = tfvae.log_likelihood(model, incomplete, num_samples=K, progress=False)
        assert np.all(np.abs(sampled.per_example - expected) < 4 * sampled.sampling_error)
        annealed = tfvae.annealed_importance_sampling(
            model, incomplete, num_chains=32, num_temperatures=30, num_leapfrog=5, progress=False
        )
        assert np.all(np.abs(annealed.per_example - expected) < 4 * annealed.sampling_error + 1e-3)

    def test_the_imputed_values_are_the_conditional_means(self, linear_gaussian, incomplete):
        model = model_of(linear_gaussian)
        result = tfvae.impute(model, incomplete, num_samples=K, draws=200, progress=False)
        mean, spread = (
            np.array([conditional(linear_gaussian, x)[n] for x in incomplete]) for n in (1, 2)
        )
        missing = np.isnan(incomplete)
        off = np.abs(result.values - mean)
        assert np.all(off[missing] < 4 * result.standard_error[missing])
        assert np.all(result.standard_error[missing] < 0.1)
        np.testing.assert_array_equal(result.values[~missing], incomplete[~missing])
        assert np.all(result.standard_error[~missing] == 0.0)
        np.testing.assert_array_equal(result.values, result.mean)
        closed = tfvae.exact.linear_gaussian(model).mean_given(incomplete)
        np.testing.assert_allclose(closed, mean, rtol=1e-4, atol=1e-5)
        # The draws have the mean and the spread of p(x|x_obs), and differ from each other.
        assert result.draws.shape == (200, *incomplete.shape)
        np.testing.assert_array_equal(
            result.draws[:, ~missing], incomplete[~missing][None].repeat(200, 0)
        )
        deviation = np.sqrt(np.diagonal(spread, axis1=1, axis2=2)[missing])
        drawn = result.draws[:, missing]
        assert np.all(np.abs(drawn.mean(0) - mean[missing]) < 5 * deviation / np.sqrt(200))
        np.testing.assert_allclose(drawn.std(0), deviation, rtol=0.25)

    def test_chunks_of_samples_make_one_whole(self, linear_gaussian, incomplete, monkeypatch):
        """Also with a first chunk whose weights are far off those of the others."""
        model = model_of(linear_gaussian)
        whole = tfvae.impute(model, incomplete, num_samples=K, progress=False)
        monkeypatch.setattr("tfvae.evaluation.imputation._CHUNK_SIZE", 12 * 5 * 300)
        parts = tfvae.impute(model, incomplete, num_samples=K, draws=200, progress=False)
        off = np.abs(parts.mean - whole.mean)
        error = np.hypot(parts.standard_error, whole.standard_error)
        assert np.all(off <= 4 * error)
        ratio = parts.effective_sample_size / whole.effective_sample_size
        assert np.all((ratio > 0.7) & (ratio < 1.4))
        missing = np.isnan(incomplete)
        ratio = parts.standard_error[missing] / whole.standard_error[missing]
        assert np.all((ratio > 0.6) & (ratio < 1.6))
        spread = parts.draws[:, missing].std(0)
        off = np.abs(parts.draws[:, missing].mean(0) - whole.mean[missing])
        assert np.all(off < 5 * spread / np.sqrt(200))


def test_a_draw_is_of_a_chunk_with_the_share_of_its_weights():
    """Of weights 1, 3 and 4 the second chunk has 3/4 of the first two, the third half of all."""
    total = evaluation.imputation._Total()
    moments = [np.zeros([1, 2])] * 3
    for number, (weight, uniform) in enumerate([(1, 0.99), (3, 0.74), (4, 0.51)]):
        values = np.full([1, 2], float(number))
        drawn, uniforms = np.repeat(values[np.newaxis], 2, axis=0), np.array([[uniform], [0.76]])
        log_w = np.log([weight])
        total.add([log_w, 2 * log_w, values, values[np.newaxis], drawn, uniforms, *moments])
        expected = [[0, 0], [1, 0], [1, 0]][number]
        np.testing.assert_array_equal(total.drawn[:, 0, 0], expected)
    np.testing.assert_allclose(total.mean, np.full([1, 2], (3 * 1 + 4 * 2) / 8))
    total.add([log_w, 2 * log_w, values + 1, values[np.newaxis], drawn + 1, 0 * uniforms, *moments])
    np.testing.assert_array_equal(total.drawn[:, 0, 0], [3, 3])


def test_the_estimate_does_not_depend_on_how_many_are_drawn(linear_gaussian, monkeypatch):
    monkeypatch.setattr("tfvae.evaluation.imputation._CHUNK_SIZE", 5 * 40)
    x = np.where(np.arange(15).reshape(3, 5) % 4 == 0, np.nan, linear_gaussian.x[:3])
    model = model_of(linear_gaussian)
    runs = [
        tfvae.impute(model, x.astype("f4"), num_samples=70, draws=n, progress=False)
        for n in (0, 2, 9)
    ]
    for run in runs[1:]:
        for name in ("values", "mean", "standard_error", "effective_sample_size"):
            np.testing.assert_array_equal(getattr(run, name), getattr(runs[0], name))
    np.testing.assert_array_equal(runs[1].draws, runs[2].draws[:2])
    assert len(np.unique(runs[2].draws[:, np.isnan(x)])) == 9 * np.isnan(x).sum()


def test_categories_get_their_most_probable_level(rng):
    blocks = [("normal", 1), ("categorical", 1, {"num_levels": 3}), ("bernoulli", 1)]
    likelihood = likelihoods.Observed(likelihoods.Columns(blocks))
    decoder = networks.dense_decoder(1, (likelihood.params_size(3),), hidden=())
    kernel, bias = (np.zeros(w.shape) for w in decoder.get_weights())
    bias[:] = [0.5, 1.0, 0.0, 1.1, -2.0]  # levels 0 and 2 are likelier than the one between
    decoder.set_weights([kernel, bias])
    encoder = networks.dense_encoder((3,), 2, hidden=(), missing=True)
    model = tfvae.VAE(encoder, decoder, likelihood=likelihood)
    x = np.array([[0.0, np.nan, np.nan], [np.nan, 0.5, 1.0]], np.float32)
    result = tfvae.impute(model, x, num_samples=100, draws=400, progress=False)
    np.testing.assert_allclose(result.values, [[0.0, 1.0, 0.0], [0.5, 0.5, 1.0]])
    of_one = tfvae.impute(model, x, num_samples=1, progress=False).standard_error
    np.testing.assert_array_equal(of_one, np.where(np.isnan(x), np.nan, 0.0))
    p = np.exp(bias[1:4]) / np.exp(bias[1:4]).sum()
    np.testing.assert_allclose(result.mean[0, 1], p @ [0, 0.5, 1], rtol=1e-5)
    for level, expected in zip([0, 0.5, 1], p, strict=True):
        share = np.mean(result.draws[:, 0, 1] == level)
        assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / 400)


def test_a_model_without_missing_values_is_refused(make_vae):
    with pytest.raises(
        InvalidArgument, match=r"the likelihood Bernoulli; expected a VAE .*Observed"
    ):
        tfvae.impute(make_vae(), np.zeros((2, 4, 4, 1), np.float32))


@pytest.mark.nightly
def test_a_model_that_saw_half_of_the_values_comes_close_to_one_that_saw_all(linear_gaussian):
    """Of 2,000 examples, MIWAE loses less than 0.03 nats of held-out log p(x)."""
    truth, rng = linear_gaussian, np.random.default_rng(2)
    z = rng.normal(size=(2500, 2))
    x = z @ truth.w.T + truth.b + truth.scale * rng.normal(size=(2500, 5))
    x = x.astype(np.float32)
    train, test = x[:2000], x[2000:]
    missing = rng.uniform(size=train.shape) < 0.5
    missing[np.arange(2000), rng.integers(0, 5, 2000)] &= ~missing.all(1)
    means = []
    for data in (train, np.where(missing, np.nan, train)):
        model = tfvae.VAE(
            networks.dense_encoder((5,), 4, hidden=(32,), missing=True),
            networks.dense_decoder(2, (5,), hidden=()),
            likelihood=likelihoods.Observed(likelihoods.Normal("shared")),
        )
        model.compile(
            tfvae.optimizers.Adam(1e-2), objective="iwae", num_samples=20, steps_per_execution=20
        )
        model.fit(data, epochs=30, batch_size=100, verbose=0)
        means.append(tfvae.exact_log_likelihood(model, test).mean)
    ceiling = truth.log_p(test).mean()
    assert ceiling - means[0] < 0.02
    assert means[0] - means[1] < 0.03


class TestSelfMasking:
    """A linear-Gaussian model of one latent, whose first two values go missing when they are high.

    log p(x_obs, s) and E[x_mis|x_obs, s] are integrals over z and each missing value, which are
    independent given z: by quadrature they are known.
    """

    w, b, scale = np.array([1.2, -0.8, 1.0]), np.array([0.3, -0.2, 0.5]), 0.6
    slope, offset = np.array([3.0, 2.0, 0.0]), np.array([-1.0, 0.5, -4.0])

    def draw(self, n, seed=0):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(n, 1)) * self.w + self.b + self.scale * rng.normal(size=(n, 3))
        p = scipy.special.expit(self.slope * x + self.offset)
        missing = rng.uniform(size=x.shape) < p
        missing[:, 2] &= ~missing.all(1)
        return np.where(missing, np.nan, x).astype(np.float32), x

    def model(self, missingness=None):
        return tfvae.VAE(
            networks.dense_encoder((3,), 2, hidden=(16,), missing=True),
            networks.dense_decoder(1, (3,), hidden=()),
            likelihood=likelihoods.Observed(
                likelihoods.Normal(self.scale), missingness=missingness
            ),
        )

    def quadrature(self, x):
        """Return log p(x_obs, s) and E[x|x_obs, s] of one example."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(80)
        weights = weights / weights.sum()
        joint, means = weights.copy(), []
        for d in range(3):
            loc = self.w[d] * nodes + self.b[d]
            values = loc[:, np.newaxis] + self.scale * nodes if np.isnan(x[d]) else x[d]
            p_missing = scipy.special.expit(self.slope[d] * values + self.offset[d])
            if np.isnan(x[d]):
                joint *= p_missing @ weights
                means.append((p_missing * values) @ weights / (p_missing @ weights))
            else:
                joint *= scipy.stats.norm(loc, self.scale).pdf(x[d]) * (1 - p_missing)
                means.append(np.full(80, x[d]))
        return np.log(joint.sum()), np.array(means) @ joint / joint.sum()

    def test_the_bound_and_the_means_are_those_of_quadrature(self):
        model = self.model(likelihoods.SelfMasking())
        model.decoder.set_weights([self.w[np.newaxis], self.b])
        model.likelihood.missingness.set_weights([self.slope, self.offset])
        x, _ = self.draw(12)
        assert np.isnan(x).any(1).sum() > 5
        expected, means = zip(*map(self.quadrature, x), strict=True)
        measured = tfvae.log_likelihood(model, x, num_samples=20 * K, progress=False)
        off = np.abs(measured.per_example - expected)
        assert np.all(off < 4 * measured.sampling_error)
        result = tfvae.impute(model, x, num_samples=5 * K, draws=200, progress=False)
        off, missing = np.abs(result.values - means), np.isnan(x)
        assert np.all(off[missing] < 4 * result.standard_error[missing])
        drawn = result.draws[:, missing]
        off = np.abs(drawn.mean(0) - np.array(means)[missing])
        assert np.all(off < 5 * drawn.std(0) / np.sqrt(200))

    @pytest.mark.nightly
    def test_a_mean_that_miwae_underestimates_is_found(self):
        x, complete = self.draw(3000, seed=1)
        means = {}
        for missingness in (None, likelihoods.SelfMasking("high")):
            model = self.model(missingness)
            model.compile(
                tfvae.optimizers.Adam(1e-2),
                objective="iwae",
                num_samples=20,
                steps_per_execution=15,
            )
            model.fit(x, epochs=30, batch_size=200, verbose=0)
            means[missingness is None] = model.decoder.get_weights()[1]
        sample = complete.mean(0)[:2]
        assert np.all(means[True][:2] < sample - 0.2), means
        assert np.all(np.abs(means[False][:2] - sample) < 0.1), means

    @pytest.mark.parametrize(("sign", "factor"), [("high", 1.0), ("low", -1.0)])
    def test_a_known_sign_is_that_of_every_slope(self, sign, factor):
        missingness = likelihoods.SelfMasking(sign)
        missingness.build((3,))
        missingness.set_weights([self.slope, self.offset])
        x = np.array([[1.0, -2.0, 0.5]], np.float32)
        expected = factor * np.log1p(np.exp(self.slope)) * x + self.offset
        np.testing.assert_allclose(missingness.logits(x), expected, rtol=1e-5)

    def test_missing_values_have_other_noise_than_latents(self):
        likelihood = likelihoods.Observed("normal", missingness="self_masking")
        p_x, nothing = likelihood(tf.zeros([4, 5, 3]), 2), tf.fill([5, 3], np.nan)
        _, completed = likelihood.weigh(p_x, nothing, seed := tfvae.random.make_seed(3))
        q = tfvae.posteriors.DiagonalNormal()(tf.zeros([5, 6]))
        z, _ = tfvae.distributions.sample_and_log_prob(q, [4], seed)
        assert np.abs(completed - z).min() > 1e-6

    def test_it_is_trained_saved_and_the_same_for_a_seed(self, tmp_path, eagerly):
        x, _ = self.draw(8)
        model = self.model("linear_masking")
        model.compile("adam", objective="iwae", num_samples=3, run_eagerly=True)
        before = [weight.numpy() for weight in model.trainable_variables]
        model.fit(x, epochs=1, verbose=0)
        for weight, old in zip(model.trainable_variables, before, strict=True):
            assert np.any(weight.numpy() != old), weight.path
        assert model.evaluate(x, verbose=0) == model.evaluate(x, verbose=0)
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        a, b = (
            tfvae.log_likelihood(m, x, num_samples=20, progress=False).per_example
            for m in (model, loaded)
        )
        np.testing.assert_array_equal(a, b)
        assert len(model.likelihood.missingness.trainable_weights) == 2

    @pytest.mark.nightly
    def test_the_draws_of_a_step_are_the_same_under_xla_and_on_replicas(self):
        (x, _), losses = self.draw(32), []
        for jit_compile in (False, True):
            keras.utils.set_random_seed(0)
            model = self.model("self_masking")
            model.likelihood.missingness.set_weights([self.slope, self.offset])
            model.compile("sgd", objective="iwae", num_samples=3, jit_compile=jit_compile)
            losses.append(model.train_on_batch(x)[0])
        np.testing.assert_allclose(*losses, rtol=1e-4)
        assert draws_by_example(likelihoods.Normal()(np.zeros((1, 3), np.float32)))

    def test_measures_of_log_p_of_x_given_z_say_so(self):
        model, (x, _) = self.model("self_masking"), self.draw(4)
        with pytest.raises(InvalidArgument, match=r"Use tfvae\.log_likelihood"):
            tfvae.annealed_importance_sampling(
                model, x, num_chains=2, num_temperatures=2, progress=False
            )
        with pytest.raises(InvalidArgument, match="A score needs log p"):
            tfvae.score(model, x)
        with pytest.raises(InvalidArgument, match="has no closed form"):
            tfvae.exact_log_likelihood(model, x)

    def test_draws_without_a_gradient_are_refused(self):
        with pytest.raises(InvalidArgument, match="have no gradient"):
            tfvae.VAE(
                networks.dense_encoder((3,), 2, missing=True),
                networks.dense_decoder(1, (3,)),
                likelihood=likelihoods.Observed("poisson", missingness="self_masking"),
            )


def test_sums_over_chunks_are_those_over_all_samples(rng):
    """The mean, the variance of a ratio and the effective sample size, by their definitions."""
    log_w, values = 2 * rng.normal(size=(9, 2)), rng.normal(size=(9, 2, 3))
    total = evaluation.imputation._Total()
    for part in (slice(0, 4), slice(4, 5), slice(5, 9)):
        w, v = scipy.special.softmax(log_w[part], 0)[..., np.newaxis], values[part]
        mean = np.sum(w * v, 0)
        moments = [np.sum(w**2 * (v - mean) ** j, 0) for j in range(3)]
        sums = [scipy.special.logsumexp(n * log_w[part], 0) for n in (1, 2)]
        drawn = mean[np.newaxis]
        total.add([*sums, mean, drawn, drawn, np.zeros([1, 2]), *moments])
    w = scipy.special.softmax(log_w, 0)
    np.testing.assert_allclose(total.effective_sample_size, 1 / np.sum(w**2, 0))
    w = w[..., np.newaxis]
    mean = np.sum(w * values, 0)
    np.testing.assert_allclose(total.mean, mean)
    np.testing.assert_allclose(total.variance, np.sum(w**2 * (values - mean) ** 2, 0))


def test_every_sample_of_every_example_batch_and_chunk_has_noise_of_its_own(monkeypatch):
    """Five samples of equal weight, two at a time, of four examples that are alike, in two batches.

    The missing value is 1000 z with a noise of 1, which tells of each draw which z was chosen.
    """
    truth = types.SimpleNamespace(w=np.array([[0.0], [1000.0]]), b=np.zeros(2), scale=1.0)
    model = model_of(truth)
    size = evaluation.imputation.sample_size(model)
    monkeypatch.setattr("tfvae.evaluation.imputation._BATCH_SIZE", 2)
    monkeypatch.setattr("tfvae.evaluation.imputation._CHUNK_SIZE", 2 * 2 * size)
    x = np.array([[0.0, np.nan]] * 4, np.float32)
    found = tfvae.impute(model, x, num_samples=5, draws=500, seed=1, progress=False)
    np.testing.assert_allclose(found.effective_sample_size, 5, rtol=1e-5)
    assert np.abs(found.mean[:2, 1] - found.mean[2:, 1]).min() > 1
    chosen = []
    for drawn, mean, error in zip(
        found.draws[..., 1].T, found.mean[:, 1], found.standard_error[:, 1], strict=True
    ):
        assert len(set(drawn)) > 490, "but for what float32 makes one"
        ordered = np.sort(drawn)
        starts = ordered[np.flatnonzero(np.diff(ordered, prepend=-np.inf) > 10)]
        chosen.append(np.searchsorted(starts, drawn, side="right"))
        counts = np.bincount(chosen[-1])[1:]
        assert len(counts) == 5
        assert np.all(np.abs(counts - 100) < 4 * np.sqrt(500 * 0.2 * 0.8))
        values = np.bincount(chosen[-1], drawn)[1:] / counts
        assert abs(mean - values.mean()) < 0.5
        expected = np.sqrt(np.sum((values - values.mean()) ** 2)) / 5
        assert error == pytest.approx(expected, rel=0.01)
    assert len(set(zip(*chosen[:2], strict=True))) == 25, "each is chosen beside each other one"
