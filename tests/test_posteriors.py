"""Posteriors over vectors and priors of every kind: on a model whose log p(x) quadrature knows."""

import json

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from tiers import nightly_but

import tfvae
from tfvae import distributions, estimators, networks, objectives, posteriors, priors
from tfvae.bound import Bound
from tfvae.errors import InvalidArgument
from tfvae.evaluation.results import sampling_error
from tfvae.joint import sampler
from tfvae.random import make_seed

pytestmark = pytest.mark.slow  # Compiles graphs of whole models.

tfd = tfp.distributions
X_SHAPE = (3, 3, 1)
SMALL = {"hidden": (6,), "num_layers": 2}
POSTERIORS = {
    "diagonal_normal": {},
    "full_normal": {},
    "flow": {**SMALL, "context_size": 2},
    "iaf": {**SMALL, "context_size": 2},
}
PRIORS = {
    "standard_normal": {},
    "mixture": {"num_components": 3},
    "vamp": {"num_components": 4},
    "flow": SMALL,
    "autoregressive": SMALL,
}
AXIS = np.linspace(-9, 9, 181, dtype=np.float32)
GRID = np.stack(np.meshgrid(AXIS, AXIS), -1).reshape(-1, 1, 2)
LOG_CELL = 2 * np.log(AXIS[1] - AXIS[0])


def build(posterior="diagonal_normal", prior="standard_normal", spread=0.25, **options):
    """Return a model of two latents whose weights are far from their start."""
    keras.utils.set_random_seed(1)
    q = posteriors.get(posterior, **{**POSTERIORS.get(posterior, {}), **options})
    p = priors.get(prior, **PRIORS[prior])
    encoder = networks.dense_encoder(X_SHAPE, q.params_size(2), hidden=(6,))
    decoder = networks.dense_decoder(2, X_SHAPE, hidden=(6,))
    model = tfvae.VAE(encoder, decoder, prior=p, posterior=q)
    rng = np.random.default_rng(2)
    of_q = {id(weight) for weight in q.weights}
    for weight in model.trainable_variables:
        # A flow of large weights is no good proposal, and shows nothing that a milder one does not.
        scale = 0.5 * spread if id(weight) in of_q else spread
        weight.assign(rng.normal(0, scale, weight.shape))
    return model


def widened(model):
    """Return the model with a q(z|x) wider than p(z|x), so that its weights show their error."""
    bias = model.encoder.trainable_variables[-1]  # of two locations, two scales, and more
    bias.assign(bias + np.pad([1.2, 1.2], (2, bias.shape[0] - 4)))
    return model


def log_p(model, x):
    """Return log p(x) by quadrature over two latents, `[B]`."""
    return scipy.special.logsumexp(model.log_joint(x, GRID).numpy(), axis=0) + LOG_CELL


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).integers(0, 2, (5, *X_SHAPE)).astype("f4")


PAIRS = [(q, "standard_normal") for q in POSTERIORS]
PAIRS += [("diagonal_normal", p) for p in PRIORS if p != "standard_normal"]
PAIRS += [("flow", "flow"), ("iaf", "mixture")]


def test_no_prior_and_no_posterior_is_left_out():
    continuous = {n for n in posteriors.REGISTRY.names() if posteriors.get(n).kind == "continuous"}
    assert continuous == set(POSTERIORS)
    continuous = {n for n in priors.REGISTRY.names() if priors.get(n).kind == "continuous"}
    assert continuous - {"conditional_normal"} == set(PRIORS)  # which is in test_conditions


@pytest.mark.parametrize(
    ("posterior", "prior"),
    nightly_but(
        PAIRS,
        ("full_normal", "standard_normal"),
        ("diagonal_normal", "vamp"),
        ("flow", "flow"),
        ("iaf", "mixture"),
    ),
)
class TestBounds:
    def test_prior_and_posterior_integrate_to_one(self, posterior, prior, x):
        model = build(posterior, prior)
        densities = [model.p_z().log_prob(GRID[:, 0])]
        if model.posterior.has_log_prob:
            densities += tf.unstack(model.q_z_given_x(x).log_prob(GRID), axis=1)
        for log_density in densities:
            assert np.exp(log_density).sum() * np.exp(LOG_CELL) == pytest.approx(1, abs=2e-3)

    def test_elbo_is_below_iwae_and_iwae_below_log_p(self, posterior, prior, x):
        model = widened(build(posterior, prior))
        joint = model.inference(x)(sampler(20_000, make_seed(3)))
        log_w = Bound(objectives.elbo).terms(joint).log_weights().numpy().astype(np.float64)
        exact = log_p(model, x)
        previous, error = None, None
        for k in (1, 5, 50):
            groups = scipy.special.logsumexp(log_w.reshape(-1, k, len(x)), axis=1) - np.log(k)
            bound, own = groups.mean(0), groups.std(0) / np.sqrt(len(groups))
            assert np.all(bound <= exact + 4 * own)
            if previous is not None:
                assert np.all(bound >= previous - 4 * np.hypot(own, error))
            previous, error = bound, own
        importance = scipy.special.logsumexp(log_w, axis=0) - np.log(len(log_w))
        size = np.exp(2 * scipy.special.logsumexp(log_w, 0) - scipy.special.logsumexp(2 * log_w, 0))
        error = sampling_error(size, len(log_w))
        assert np.all(error < 0.02)
        assert np.all(np.abs(importance - exact) <= 4 * error)

    def test_it_trains_and_comes_back_from_a_file(self, posterior, prior, x, tmp_path):
        model = build(posterior, prior)
        model.compile("adam", num_samples=2, run_eagerly=True)  # quicker than to trace it
        before = [weight.numpy() for weight in model.trainable_variables]
        loss = model.fit(x, batch_size=5, verbose=0).history["loss"]
        assert np.all(np.isfinite(loss))
        for weight, old in zip(model.trainable_variables, before, strict=True):
            assert np.any(weight.numpy() != old), weight.path
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(again.sample(3, seed=2), model.sample(3, seed=2))
        np.testing.assert_array_equal(again.log_weights(x, 3), model.log_weights(x, 3))

    def test_draws_are_those_of_the_prior(self, posterior, prior, x, assert_mean):
        model = build(posterior, prior)
        weight = np.exp(model.p_z().log_prob(GRID[:, 0]).numpy().astype(np.float64))
        weight /= weight.sum()
        z = model.draw(make_seed(4), tf.range(20_000))[0].numpy()
        for power in (1, 2):
            assert_mean(z**power, weight @ GRID[:, 0].astype(np.float64) ** power)


EXPORTED = [
    ("full_normal", "standard_normal"),
    ("flow", "flow"),
    ("iaf", "mixture"),
    ("diagonal_normal", "vamp"),
    ("diagonal_normal", "autoregressive"),
]


@pytest.mark.parametrize(
    ("posterior", "prior"), nightly_but(EXPORTED, ("diagonal_normal", "vamp"), ("flow", "flow"))
)
def test_the_signatures_draw_and_encode_as_keras_does(posterior, prior, x):
    """They are what is exported: the graphs that the test below converts."""
    model = build(posterior, prior)
    signatures = tfvae.export.signatures.of(model, on_device=True, names=["encode", "sample"])
    sample, encode = (signatures.functions[name] for name in ("sample", "encode"))
    drawn = sample(seed=make_seed(3), index=tf.range(4), temperature=tf.constant(1.0))
    np.testing.assert_allclose(drawn["image"], model.sample(4, seed=3), atol=1e-5)
    np.testing.assert_allclose(encode(image=tf.constant(x))["mean"], model.encode(x), atol=1e-5)


@pytest.mark.nightly
@pytest.mark.parametrize(("posterior", "prior"), EXPORTED)
def test_an_export_draws_and_encodes_as_keras_does(posterior, prior, x, tmp_path):
    model = build(posterior, prior)
    # It is verified against Keras.
    tfvae.export.litert(model, tmp_path / "decoder.tflite", x=x, signatures=["encode", "sample"])
    decoder = tfvae.ondevice.Decoder.from_file(tmp_path / "decoder.tflite")
    np.testing.assert_allclose(decoder.sample(4, seed=3), model.sample(4, seed=3), atol=1e-5)


@pytest.mark.parametrize("posterior", nightly_but(["full_normal", "flow"], "flow"))
@pytest.mark.parametrize(
    ("objective", "names"),
    nightly_but(
        [("elbo", ("pathwise", "sticking_the_landing", "dreg")), ("iwae", ("pathwise", "dreg"))],
        ("iwae", ("pathwise", "dreg")),
    ),
)
def test_the_pathwise_estimators_agree(posterior, objective, names, x):
    """The mean gradients of a million draws lie within 4 standard errors of each other."""
    model = build(posterior)
    example = tf.constant(np.repeat(x[:1], 1000, axis=0))
    bound = Bound(objectives.get(objective), 10)
    weights = [*model.encoder.trainable_variables, *model.posterior.trainable_variables]

    def mean_and_error(name):
        estimator = estimators.get(name)

        @tf.function(autograph=False)
        def draw(seed):
            with tf.GradientTape() as tape:
                infer = model.inference(example)
                estimate = estimator.estimate(bound, infer, example, seed, False)
                total = tf.reduce_mean(estimate.surrogate)
            return tf.concat([tf.reshape(g, [-1]) for g in tape.gradient(total, weights)], 0)

        draws = np.stack([draw(make_seed(n)) for n in range(100)]).astype(np.float64)
        return draws.mean(0), draws.std(0, ddof=1) / np.sqrt(len(draws))

    first, first_error = mean_and_error(names[0])
    assert np.abs(first).max() > 0.05, "nothing to compare"
    for name in names[1:]:
        mean, error = mean_and_error(name)
        assert np.all(np.abs(mean - first) <= 4 * np.hypot(error, first_error) + 1e-5), name


@pytest.mark.parametrize("posterior", nightly_but(["diagonal_normal", "iaf"], "iaf"))
def test_annealed_importance_sampling_agrees_on_a_flow_prior(posterior, x):
    """It starts from the prior, so that it does not matter whether q(z|x) has a density."""
    model = build(posterior, "flow")
    measured = tfvae.annealed_importance_sampling(
        model, x, num_chains=16, num_temperatures=150, num_leapfrog=5, progress=False
    )
    off = np.abs(measured.per_example - log_p(model, x))
    assert np.all(off <= 5 * measured.sampling_error + 0.02)


def test_the_density_of_a_full_covariance_is_that_of_scipy(rng):
    params = rng.normal(size=(4, 3 + 3 + 3)).astype("f4")
    q = posteriors.FullNormal()(tf.constant(params))
    z = rng.normal(size=(5, 4, 3)).astype("f4")
    for n in range(4):
        lower = np.zeros((3, 3))
        lower[np.tril_indices(3, -1)] = params[n, 6:]
        lower += np.diag(np.log1p(np.exp(params[n, 3:6] + np.log(np.e - 1))))
        reference = scipy.stats.multivariate_normal(params[n, :3], lower @ lower.T)
        np.testing.assert_allclose(q.log_prob(z)[:, n], reference.logpdf(z[:, n]), rtol=1e-4)
        np.testing.assert_allclose(q.stddev()[n], np.sqrt(np.diag(lower @ lower.T)), rtol=1e-4)


def test_a_draw_of_a_full_covariance_has_the_density_of_its_noise(rng):
    q = posteriors.FullNormal()(tf.constant(rng.normal(size=(4, 9)), tf.float32))
    for shape in ([5], [], [2, 3]):
        z, log_q = tfvae.distributions.sample_and_log_prob(q, shape, make_seed(1))
        assert z.shape == (*shape, 4, 3)
        np.testing.assert_allclose(log_q, q.log_prob(z), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(z, q.sample([2, 3], seed=make_seed(1)))


def test_the_density_of_a_full_covariance_takes_no_copies_of_it(rng):
    q = posteriors.FullNormal()(tf.constant(rng.normal(size=(4, 9)), tf.float32))
    z = tf.constant(rng.normal(size=(50, 1, 3)), tf.float32)
    found = q.log_prob(z)
    np.testing.assert_allclose(found, q.log_prob(tf.tile(z, [1, 4, 1])), rtol=1e-6)
    graph = tf.function(q.log_prob).get_concrete_function(z).graph
    sizes = [v.shape.num_elements() or 0 for op in graph.get_operations() for v in op.outputs]
    assert max(sizes) == 50 * 4 * 3


def test_the_kl_of_a_full_covariance_is_the_mean_log_ratio(x):
    model = build("full_normal")
    joint = model.inference(x)(sampler(20_000, make_seed(0)))
    by_unit = joint.layers[0].kl_by_unit()
    assert by_unit.shape == (1, 5, 1)
    sampled = (joint.log_q() - joint.log_p()).numpy()
    error = sampled.std(0) / np.sqrt(len(sampled))
    assert np.all(np.abs(sampled.mean(0) - by_unit[0, :, 0]) <= 4 * error)


def test_the_kl_of_a_full_covariance_to_any_independent_normals_is_that_of_tfp(rng):
    q = posteriors.FullNormal()(tf.constant(rng.normal(size=(4, 9)), tf.float32))
    loc, scale = (v.astype("f4") for v in (rng.normal(size=(4, 3)), rng.uniform(0.3, 3, (4, 3))))
    found = distributions.kl_by_unit(q, tfd.Independent(tfd.Normal(loc, scale), 1))
    reference = tfd.MultivariateNormalTriL(q.loc, q.lower)
    expected = reference.kl_divergence(tfd.MultivariateNormalDiag(loc, scale))
    np.testing.assert_allclose(found, expected[:, np.newaxis], rtol=1e-4)


@pytest.mark.parametrize("name", ["full_normal", "flow", "iaf"])
def test_zero_parameters_start_at_the_standard_normal(name, rng):
    family = posteriors.get(name, **POSTERIORS[name])
    family.build((family.params_size(3),))
    q = family(tf.zeros([1, family.params_size(3)]))
    z, log_q = tfvae.distributions.sample_and_log_prob(q, [7], make_seed(1))
    expected = scipy.stats.norm.logpdf(z).sum(-1)
    np.testing.assert_allclose(log_q, expected, rtol=1e-5)
    np.testing.assert_allclose(tfvae.distributions.representative(q), 0, atol=1e-6)


def test_log_variances_are_understood(rng):
    params = rng.normal(size=(4, 6)).astype("f4")
    q = posteriors.DiagonalNormal(scale="exp_half")(tf.constant(params))
    np.testing.assert_allclose(q.stddev(), np.exp(params[:, 3:] / 2), rtol=1e-6)
    again = posteriors.DiagonalNormal.from_config(
        posteriors.DiagonalNormal("exp_half").get_config()
    )
    assert again.scale == "exp_half"


class TestVampPrior:
    def test_it_is_the_mixture_of_the_posteriors_of_its_pseudo_inputs(self, x):
        model = build(prior="vamp")
        z = np.random.default_rng(3).normal(size=(6, 2)).astype("f4")
        q = model.q_z_given_x(model.prior.pseudo_inputs.value)
        expected = scipy.special.logsumexp(q.log_prob(z[:, np.newaxis]), axis=1) - np.log(4)
        np.testing.assert_allclose(model.p_z().log_prob(z), expected, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("as_dataset", [False, True])
    def test_fit_starts_it_at_training_examples_within_bounds(self, x, as_dataset):
        model = tfvae.VAE.from_config(build(prior="vamp").get_config())
        model.compile(keras.optimizers.SGD(1e-9), run_eagerly=True)
        data = tf.data.Dataset.from_tensor_slices(x).batch(3) if as_dataset else x
        model.fit(data, verbose=0, shuffle=False)
        np.testing.assert_allclose(model.prior.pseudo_inputs, x[:4], atol=1e-4)
        model.compile(keras.optimizers.SGD(10.0), run_eagerly=True)
        model.fit(x, verbose=0)
        found = model.prior.pseudo_inputs.numpy()
        assert found.min() >= 0
        assert found.max() <= 1

    @pytest.mark.parametrize(
        ("likelihood", "options", "bounds"),
        [
            ("bernoulli", {}, (0, 1)),
            ("poisson", {}, (0, np.inf)),
            ("normal", {}, (-np.inf, np.inf)),
            ("normal", {"bounds": (-1, 2)}, (-1, 2)),
            ("bernoulli", {"bounds": None}, (-np.inf, np.inf)),
        ],
    )
    def test_it_keeps_to_the_values_of_the_likelihood(self, likelihood, options, bounds, tmp_path):
        encoder = networks.dense_encoder((3,), 4, hidden=())
        likelihood = tfvae.likelihoods.get(likelihood)
        decoder = networks.dense_decoder(2, (likelihood.params_size(3),), hidden=())
        prior = priors.VampPrior(2, **options)
        tfvae.VAE(encoder, decoder, prior=prior, likelihood=likelihood).save(tmp_path / "a.keras")
        for each in (prior, keras.saving.load_model(tmp_path / "a.keras").prior):
            clip = each.pseudo_inputs.constraint or (lambda values: values)
            far = np.float32([-9.0, 9.0])
            np.testing.assert_array_equal(clip(far), np.clip(far, *bounds))

    def test_its_density_holds_no_tensor_of_samples_by_components_by_latents(self):
        """500 components at 1,000 latents of 40 numbers: the largest tensor is [1000, 500]."""
        encoder = networks.dense_encoder((20,), 80, hidden=())
        decoder = networks.dense_decoder(40, (20,), hidden=())
        model = tfvae.VAE(encoder, decoder, prior="vamp")
        function = tf.function(
            lambda z: model.p_z().log_prob(z), autograph=False
        ).get_concrete_function(tf.TensorSpec([1000, 40]))
        sizes = [
            tensor.shape.num_elements() or 0
            for operation in function.graph.get_operations()
            for tensor in operation.outputs
            if tensor.shape.is_fully_defined()
        ]
        assert max(sizes) == 1000 * 500


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: build("iaf").compile(estimator="dreg"), "only of what it draws.*fit: pathwise"),
        (lambda: build("iaf").compile(objective="piwae", num_samples=5), "only of what it draws"),
        (lambda: build("iaf").compile(estimator="vimco", num_samples=2), "only of what it draws"),
        (lambda: build("flow", "vamp"), "mixture of normals.*posterior is FlowPosterior"),
        (lambda: build("flow", flow="masked_autoregressive"), "Use posterior='iaf'"),
        (lambda: priors.get("flow", flow="iaf"), "Unknown flow 'iaf'"),
        (lambda: priors.get("mixture", num_components=0), "`num_components` is 0"),
        (lambda: priors.get("vamp", num_components=-3), "`num_components` is -3"),
        (lambda: posteriors.get("flow", context_size=-1), "`context_size` is -1"),
        (lambda: posteriors.get("diagonal_normal", scale="exp"), "exp_half"),
        (lambda: posteriors.get(tfvae.likelihoods.Normal()), "does not say of what `kind`"),
        (
            lambda: tfvae.VAE(
                networks.dense_encoder(X_SHAPE, (2, 5)),
                networks.dense_decoder((2, 2), X_SHAPE),
                posterior="full_normal",
            ),
            r"over one vector, but the encoder's output has shape \(2, 5\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(make, message):
    with pytest.raises(InvalidArgument, match=f"(?s){message}"):
        make()


@pytest.mark.nightly
def test_annealed_importance_sampling_needs_no_density_of_q(x):
    """AIS starts from the prior, so an inverse autoregressive posterior does not matter to it."""
    model = build("iaf")
    measured = tfvae.annealed_importance_sampling(
        model, x[:2], num_chains=8, num_temperatures=60, num_leapfrog=5, progress=False
    )
    assert np.all(np.isfinite(measured.per_example))


def test_a_posterior_of_a_flow_has_it_in_its_configuration():
    flow = tfvae.flows.stack("affine_coupling", 2, hidden=(3,))
    family = posteriors.FlowPosterior(flow)
    again = posteriors.FlowPosterior.from_config(json.loads(json.dumps(family.get_config())))
    assert again.flow is not flow
    for each in (family, again):
        each.build((each.params_size(3),))
    again.set_weights(family.get_weights())
    params = np.random.default_rng(0).normal(size=(2, 6)).astype("f4")
    z = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(again(params).log_prob(z), family(params).log_prob(z))
