"""Penalties on the aggregate posterior, against quadrature, closed forms and NumPy."""

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
from tfvae import distributions, networks, objectives
from tfvae.bound import Bound
from tfvae.distributions.normal_mixture import NormalMixture
from tfvae.errors import InvalidArgument
from tfvae.joint import StochasticLayer
from tfvae.objectives import mean_discrepancy, total_correlation
from tfvae.random import make_seed

pytestmark = pytest.mark.slow  # Compiles graphs of whole models.

tfd = tfp.distributions
LOCS = np.array([[-1.0, -1.2], [0.3, 0.5], [1.1, 0.9], [0.2, -0.4]])
SCALES = np.array([[0.5, 0.7], [0.4, 0.6], [0.6, 0.5], [0.9, 0.4]])


PARAMS = np.concatenate([LOCS, 2 * np.log(SCALES)], -1)


def posterior(params=PARAMS):
    q = tfvae.posteriors.get("diagonal_normal", scale="exp_half")
    return q.distribution(tf.cast(params, tf.float32), 1)


def slopes(function, values, step=1e-5):
    """Return the derivatives of a number by those of an array, by central differences."""
    ends = np.eye(values.size).reshape(-1, *values.shape) * step
    differences = [function(values + end) - function(values - end) for end in ends]
    return np.reshape(differences, values.shape) / (2 * step)


def mixture_density(z, locs=LOCS, scales=SCALES):
    """Return q(z) and the product of its marginals, of the mixture over the four examples."""
    by_unit = scipy.stats.norm.logpdf(z[..., None, :], locs, scales)
    jointly = scipy.special.logsumexp(by_unit.sum(-1), -1) - np.log(4)
    alone = (scipy.special.logsumexp(by_unit, -2) - np.log(4)).sum(-1)
    return jointly, alone


def test_total_correlation_is_that_of_the_mixture_by_quadrature():
    grid = np.linspace(-6, 6, 401)
    z = np.stack(np.meshgrid(grid, grid), -1)
    jointly, alone = mixture_density(z)
    expected = (np.exp(jointly) * (jointly - alone)).sum() * (grid[1] - grid[0]) ** 2
    assert expected > 0.1

    q = posterior()
    draws = q.sample(20_000, seed=make_seed(1))
    by_example = total_correlation.total_correlation(q, draws[:2000])
    assert by_example.shape == (4,)
    values = np.array(
        [total_correlation.total_correlation(q, part) for part in np.split(draws, 20)]
    ).mean(1)
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert abs(values.mean() - expected) < 4 * error < 0.05 * expected


def test_total_correlation_of_each_example_is_numpys():
    q = posterior()
    z = q.sample(3, seed=make_seed(2))
    jointly, alone = mixture_density(np.asarray(z, np.float64))
    actual = total_correlation.total_correlation(q, z)
    np.testing.assert_allclose(actual, (jointly - alone).mean(0), rtol=1e-4, atol=1e-5)


def test_total_correlation_has_its_gradient_through_the_draws_and_the_mixture(rng):
    noise = rng.normal(size=(3, 4, 2))

    def in_numpy(params):
        locs, scales = params[:, :2], np.exp(params[:, 2:] / 2)
        jointly, alone = mixture_density(locs + scales * noise, locs, scales)
        return np.sum((jointly - alone).mean(0))

    params = tf.constant(PARAMS, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(params)
        q = posterior(params)
        z = q.mean() + q.stddev() * noise.astype("f4")
        total = tf.reduce_sum(total_correlation.total_correlation(q, z))
    expected = slopes(in_numpy, PARAMS)
    assert np.abs(expected).max() > 0.1, "nothing to compare"
    np.testing.assert_allclose(tape.gradient(total, params), expected, rtol=1e-3, atol=1e-4)


def test_the_penalty_is_beta_less_one_times_the_total_correlation():
    layer = layer_of(posterior(), 3)
    once = total_correlation.total_correlation(layer.q, layer.z)
    assert np.abs(once).min() > 0.01, "nothing to compare"
    penalty = objectives.BetaTCVAE(5.0).penalty(layer, make_seed(0))
    np.testing.assert_allclose(penalty, 4 * once, rtol=1e-6)
    np.testing.assert_array_equal(objectives.BetaTCVAE(1.0).penalty(layer, make_seed(0)), 0)


def test_total_correlation_needs_independent_units():
    q = tfvae.posteriors.get("full_normal")
    params = tf.zeros([4, q.params_size(2)])
    with pytest.raises(InvalidArgument, match=r"every single latent.*diagonal_normal"):
        total_correlation.total_correlation(q.distribution(params, 1), tf.zeros([1, 4, 2]))


def gaussian_kernel_mean(m, s, n, t):
    """E exp(−‖z − z'‖² / 2D) of z ~ N(m, s²), z' ~ N(n, t²), independent units."""
    width = len(m)
    total = width + s**2 + t**2
    return np.prod(np.sqrt(width / total) * np.exp(-((m - n) ** 2) / (2 * total)))


def test_squared_discrepancy_is_unbiased():
    zero, one = np.zeros(2), np.ones(2)
    pairs = itertools.permutations(range(4), 2)
    within = np.mean(
        [gaussian_kernel_mean(LOCS[i], SCALES[i], LOCS[j], SCALES[j]) for i, j in pairs]
    )
    across = np.mean([gaussian_kernel_mean(LOCS[i], SCALES[i], zero, one) for i in range(4)])
    expected = within + gaussian_kernel_mean(zero, one, zero, one) - 2 * across

    layer = layer_of(posterior(), 40_000)
    objective = objectives.InfoVAE(weight=3.0, kernel="gaussian")
    q, p = layer.z, layer.p.sample([40_000, 4], seed=make_seed(4))
    values = [
        np.mean(mean_discrepancy.squared_discrepancy(a, b, mean_discrepancy.gaussian))
        for a, b in zip(np.split(q, 20), np.split(p, 20), strict=True)
    ]
    error = np.std(values, ddof=1) / np.sqrt(20)
    assert abs(np.mean(values) - expected) < 4 * error
    assert error < 0.05 * abs(expected)
    penalty = objective.penalty(layer, make_seed(5))
    assert penalty.shape == (4,)
    assert abs(np.mean(penalty) / 3.0 - expected) < 4 * error * 2


def test_the_gradient_in_the_weights_of_a_mixture_is_unbiased():
    """The derivative of the closed form, by differences."""
    logits = np.array([0.4, -0.3, 0.0])
    locs = np.array([[-2.0, -1.0], [0.0, 0.5], [1.0, 2.0]])
    scales = np.array([[1.0, 0.5], [0.7, 1.0], [0.6, 0.8]])
    components = list(zip(locs, scales, strict=True))
    among = np.array([[gaussian_kernel_mean(*a, *b) for b in components] for a in components])
    examples = zip(LOCS, SCALES, strict=True)
    across = np.mean([[gaussian_kernel_mean(*a, *b) for b in components] for a in examples], 0)

    def discrepancy(logits):  # but for what does not depend on p
        w = scipy.special.softmax(logits)
        return w @ among @ w - 2 * across @ w

    steps = 1e-5 * np.eye(3)
    expected = [(discrepancy(logits + s) - discrepancy(logits - s)) / 2e-5 for s in steps]

    layer, objective = layer_of(posterior(), 2000), objectives.InfoVAE(1.0, kernel="gaussian")
    variable = tf.Variable(logits.astype("f4"))
    gradients = []
    for seed in range(20):
        with tf.GradientTape() as tape:
            p = NormalMixture(
                variable, *(tf.constant(v, tf.float32) for v in (locs, np.log(scales)))
            )
            penalty = objective.penalty(layer._replace(p=p), make_seed(seed))
            total = tf.reduce_mean(penalty)
        gradients.append(tape.gradient(total, variable))
    error = np.std(gradients, 0, ddof=1) / np.sqrt(20)
    assert np.all(np.abs(np.mean(gradients, 0) - expected) < 4 * error)
    assert np.max(error) < 0.1 * np.max(np.abs(expected))


def test_the_discrepancy_has_its_gradient_in_the_draws_of_q_and_of_the_prior():
    layer, objective = layer_of(posterior(), 3), objectives.InfoVAE(2.0, kernel="gaussian")
    shift = tf.zeros([2])
    with tf.GradientTape() as tape:
        tape.watch([layer.z, shift])
        prior = tfd.Independent(tfd.Normal(shift, tf.ones([2])), 1)
        penalty = objective.penalty(layer._replace(p=prior), make_seed(1))
    by_z, by_shift = tape.gradient(penalty, [layer.z, shift])
    z = np.asarray(layer.z, np.float64)
    drawn = distributions.sample_and_log_prob(prior, [3, 4], make_seed(1))[0]
    drawn = np.asarray(drawn, np.float64)

    def in_numpy(z, drawn):
        def similarity(a, b):
            squares = ((a[:, :, None] - b[:, None]) ** 2).sum(-1)
            return np.exp(-squares / 4)

        others = 1 - np.eye(4)
        within = sum((similarity(v, v) * others).sum() / 3 for v in (z, drawn))
        return 2.0 * (within - 2 * similarity(z, drawn).sum() / 4) / 3  # summed over the examples

    np.testing.assert_allclose(np.sum(penalty), in_numpy(z, drawn), rtol=1e-4)
    expected = slopes(lambda z: in_numpy(z, drawn), z)
    assert np.abs(expected).max() > 0.01, "nothing to compare"
    np.testing.assert_allclose(by_z, expected, rtol=1e-3, atol=1e-5)
    expected = slopes(lambda shift: in_numpy(z, drawn + shift), np.zeros(2))
    np.testing.assert_allclose(by_shift, expected, rtol=1e-3, atol=1e-5)


class Recorded(objectives.InfoVAE):
    """An objective that tells what its penalty was asked for."""

    def penalty(self, layer, seed):
        self.asked = layer, seed
        return super().penalty(layer, seed)


@pytest.mark.parametrize("objective", [objectives.BetaTCVAE(5.0), Recorded(20.0)], ids=repr)
def test_the_surrogate_has_the_gradient_of_the_penalty(objective, pixels):
    model = vae(objective)
    encoder, x = model.encoder.trainable_variables, tf.constant(pixels[:5])
    seed = make_seed(4)

    def gradient(objective, total):
        with tf.GradientTape() as tape:
            bound = Bound(objective, 3)
            estimate = model.estimator.estimate(bound, model.inference(x), x, seed, True)
            value = tf.reduce_sum(total(estimate))
        return tape.gradient(value, encoder)

    whole, subtracted = (
        gradient(objective, part) for part in (lambda e: e.surrogate, lambda e: e.penalty)
    )
    plain = gradient(objectives.elbo, lambda e: e.surrogate)
    for of_all, of_penalty, of_bound in zip(whole, subtracted, plain, strict=True):
        assert np.abs(of_penalty).max() > 1e-3, "nothing to compare"
        np.testing.assert_allclose(of_all, of_bound - of_penalty, rtol=1e-3, atol=1e-4)


def test_the_draws_of_the_prior_are_not_those_of_the_posterior(pixels):
    """With an encoder that gives the prior, equal noise would give equal draws."""
    objective = Recorded(20.0)
    model = vae(objective)
    model.encoder.set_weights([0 * weight for weight in model.encoder.get_weights()])
    x = tf.constant(pixels[:5])
    model.estimator.estimate(Bound(objective, 3), model.inference(x), x, make_seed(4), True)
    layer, seed = objective.asked
    drawn, _ = distributions.sample_and_log_prob(layer.p, [3, 5], seed)
    assert np.abs(layer.z - drawn).min() > 1e-4


@pytest.mark.parametrize(
    "prior", nightly_but(["standard_normal", "mixture", "flow"], "standard_normal")
)
def test_the_draws_of_the_prior_are_the_same_under_xla(prior):
    prior = tfvae.priors.get(prior)
    prior.build((2,))
    layer = layer_of(posterior(), 3)

    def penalty():
        return objectives.InfoVAE().penalty(layer._replace(p=prior.distribution()), make_seed(-5))

    compiled = tf.function(penalty, jit_compile=True)
    np.testing.assert_allclose(compiled(), penalty(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("prior", "gathered"), [("standard_normal", 2), ("mixture", 3)])
def test_replicas_share_only_what_has_a_gradient(monkeypatch, prior, gathered):
    """Draws z of q and p and, where draws of p are not reparameterized, their v."""
    shared, gather = [], mean_discrepancy.replicas.gather
    monkeypatch.setattr(
        mean_discrepancy.replicas, "gather", lambda v, axis: shared.append(v) or gather(v, axis)
    )
    prior = tfvae.priors.get(prior)
    prior.build((2,))
    layer = layer_of(posterior(), 3)._replace(p=prior.distribution())
    objectives.InfoVAE().penalty(layer, make_seed(0))
    assert len(shared) == gathered
    z, log_v = distributions.differentiable_sample(layer.p, [3, 4], make_seed(0))
    assert z.shape == (3, 4, 2)
    assert (log_v is None) == (gathered == 2)


def test_a_log_v_of_zero_leaves_the_discrepancy():
    z, other = tf.unstack(tf.random.stateless_normal([2, 3, 4, 2], [1, 2]))
    without, beside = (
        mean_discrepancy.squared_discrepancy(z, other, mean_discrepancy.gaussian, log_v)
        for log_v in (None, tf.zeros([3, 4]))
    )
    assert np.abs(without).min() > 1e-3, "nothing to compare"
    np.testing.assert_array_equal(without, beside)


def test_one_example_has_no_discrepancy():
    z = tf.random.stateless_normal([2, 3, 1, 5], [1, 2])
    alone = mean_discrepancy.squared_discrepancy(z[0], z[1], mean_discrepancy.gaussian)
    np.testing.assert_array_equal(alone, [0.0])


def layer_of(q, count):
    z, log_q = distributions.sample_and_log_prob(q, [count], make_seed(3))
    prior = tfvae.priors.get("standard_normal")
    prior.build((2,))
    return StochasticLayer(prior.distribution(), z, q, log_q)


def test_the_kernels_are_those_of_the_papers():
    a, b = np.array([0.3, -1.0, 2.0]), np.array([1.0, 0.0, 0.5])
    square = tf.constant(((a - b) ** 2).sum(), tf.float32)
    np.testing.assert_allclose(
        mean_discrepancy.gaussian(square, 3), np.exp(-((a - b) ** 2).sum() / 6), rtol=1e-6
    )
    expected = sum(6 * s / (6 * s + square) for s in (0.1, 0.2, 0.5, 1, 2, 5, 10))
    np.testing.assert_allclose(
        mean_discrepancy.inverse_multiquadratic(square, 3), expected, rtol=1e-6
    )


def vae(objective, posterior="diagonal_normal", **options):
    q = tfvae.posteriors.get(posterior)
    encoder = networks.dense_encoder((6,), q.params_size(2), hidden=[8])
    model = tfvae.VAE(
        encoder,
        networks.dense_decoder(2, (6,), hidden=[8]),
        posterior=q,
        seed=3,
    )
    model.compile("adam", objective=objective, **options)
    return model


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 2, (64, 6)).astype("f4")


@pytest.mark.parametrize(
    "objective", [objectives.BetaTCVAE(5.0), objectives.InfoVAE(20.0)], ids=repr
)
def test_the_loss_counts_the_penalty_and_the_logs_show_it(objective, pixels, tmp_path):
    model, x = vae(objective, run_eagerly=True), pixels[:8]
    logs = model.fit(x, batch_size=4, verbose=0).history
    total = np.add(logs["reconstruction"], np.add(logs["kl"], logs["penalty"]))
    np.testing.assert_allclose(logs["loss"], total, rtol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.objective.get_config() == objective.get_config()
    loaded.run_eagerly = True
    np.testing.assert_allclose(loaded.evaluate(x, verbose=0), model.evaluate(x, verbose=0))


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["beta_tcvae", "info_vae"])
def test_a_heavy_penalty_is_brought_down(name, rng):
    """Two pixels in six carry the same two bits, so that the latents of the ELBO are correlated."""
    x = np.repeat(rng.integers(0, 2, (256, 2)), 3, axis=1).astype("f4")
    results = []
    for weight in (1e-3, 200.0):
        objective = (
            objectives.InfoVAE(weight) if name == "info_vae" else objectives.BetaTCVAE(1.0 + weight)
        )
        model = vae(objective, beta=0.1)
        model.optimizer.learning_rate = 1e-2
        model.fit(x, batch_size=64, epochs=30, verbose=0)
        results.append(model.evaluate(x, verbose=0, return_dict=True)["penalty"] / weight)
    assert results[1] < 0.5 * results[0]


def test_what_a_penalty_does_not_fit_is_refused():
    with pytest.raises(InvalidArgument, match=r"penalty on the whole batch.*fit: pathwise"):
        vae("beta_tcvae", estimator="sticking_the_landing")
    with pytest.raises(InvalidArgument, match="every single latent"):
        vae("beta_tcvae", posterior="full_normal").build((None, 6))
    with pytest.raises(InvalidArgument, match="`tc_weight` is -1; expected a number above 0"):
        objectives.BetaTCVAE(-1)
    with pytest.raises(InvalidArgument, match="kernel"):
        objectives.InfoVAE(kernel="linear")
    encoders = [networks.dense_encoder((6,), 4), networks.dense_encoder((2,), 4)]
    decoders = [networks.dense_decoder(2, (6,)), networks.dense_decoder(2, (4,))]
    deep = tfvae.HierarchicalVAE(encoders, decoders)
    with pytest.raises(InvalidArgument, match="one stochastic layer, and the model has 2"):
        deep.compile("adam", objective="info_vae")


def test_a_prior_with_a_condition_is_sampled_for_every_example(pixels):
    labels = np.arange(8) % 3
    model = tfvae.VAE(
        networks.dense_encoder((6,), 4, hidden=[8]),
        networks.dense_decoder(2, (6,), hidden=[8]),
        prior="conditional_normal",
        condition=3,
    )
    model.compile("adam", objective="info_vae", run_eagerly=True)
    assert np.isfinite(model.fit(pixels[:8], labels, verbose=0).history["penalty"][0])
