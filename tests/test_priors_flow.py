"""Priors whose distribution makes its own draws: flows and mixtures."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from ai_edge_litert.interpreter import Interpreter
from tiers import nightly_but

import tfvae
from tfvae import flows, priors
from tfvae._plain.quiet import quiet_stderr
from tfvae.distributions.flow import FlowDistribution
from tfvae.distributions.normal_mixture import NormalMixture
from tfvae.errors import InvalidArgument
from tfvae.ondevice import operators
from tfvae.random import make_seed

tfd = tfp.distributions
INDEPENDENT = ["bernoulli", "categorical", "standard_normal"]  # in test_priors
PRIORS = {
    "affine_coupling": lambda: priors.FlowPrior("affine_coupling", 2, hidden=(8,)),
    "spline_coupling": lambda: priors.FlowPrior(
        "spline_coupling", 2, (8,), "linear", {"num_bins": 4, "bound": 3.0}
    ),
    "autoregressive": lambda: priors.AutoregressivePrior(2, hidden=(8,)),
    "mixture": lambda: priors.MixturePrior(5, spread=1.5, max_scale=3.0),
}


def build(name, latent_shape, scale=0.4):
    """Return a prior whose weights are not where they start."""
    prior = PRIORS[name]()
    prior.build(latent_shape)
    rng = np.random.default_rng(2)
    prior.set_weights([scale * rng.normal(size=weight.shape) for weight in prior.weights])
    return prior


@pytest.fixture(params=PRIORS)
def name(request):
    return request.param


def test_every_prior_is_in_a_list():
    of_flows = {type(make()) for make in PRIORS.values()} | {
        priors.VampPrior,  # in test_posteriors
        priors.ConditionalNormal,  # in test_conditions
    }
    independent = {priors.REGISTRY.part(name) for name in INDEPENDENT}
    assert of_flows | independent == {priors.REGISTRY.part(n) for n in priors.REGISTRY.names()}


def grid(size, extent=14.0, steps=253):
    """Return points [N, size] that fill [−extent, extent]^size, and the volume of each.

    They are 1/9 apart, so that ±1/2 lie in the middle between two.
    """
    axis = np.linspace(-extent, extent, steps, dtype=np.float32)
    points = np.stack(np.meshgrid(*[axis] * size), axis=-1).reshape(-1, size)
    return points, (axis[1] - axis[0]) ** size


@pytest.mark.slow
class TestEveryPrior:
    @pytest.mark.parametrize("size", [1, 2])
    def test_density_integrates_to_one(self, name, size):
        points, cell = grid(size, steps=533)  # a spline is not smooth at its knots
        density = np.exp(np.asarray(build(name, (size,)).log_prob(points), np.float64))
        np.testing.assert_allclose(density.sum() * cell, 1, rtol=0, atol=1e-3)

    def test_draws_have_the_law_of_the_density(self, name, assert_mean):
        prior = build(name, (2,))
        points, cell = grid(2)
        weight = np.exp(np.asarray(prior.log_prob(points), np.float64)) * cell
        z = prior.draw(make_seed(3), tf.range(20_000)).numpy()
        other = prior.distribution().sample(20_000, seed=make_seed(4)).numpy()
        for statistic in (
            lambda z: z,
            lambda z: z**2,
            lambda z: z[:, :1] * z[:, 1:],
            lambda z: np.abs(z) < 0.5,
            lambda z: np.tanh(3 * z),
        ):
            expected = np.sum(weight[:, np.newaxis] * statistic(points), axis=0)
            assert_mean(statistic(z), expected)
            assert_mean(statistic(other), expected)

    @pytest.mark.parametrize("latent_shape", [(3,), (2, 1, 3)])
    def test_shapes(self, name, latent_shape):
        prior = build(name, latent_shape)
        z = prior.draw(make_seed(0), tf.range(5))
        assert z.shape == (5, *latent_shape)
        assert prior.log_prob(z).shape == (5,)
        assert prior.log_prob(tf.stack([z, z])).shape == (2, 5)
        assert prior.distribution().sample(4, seed=make_seed(1)).shape == (4, *latent_shape)

    def test_a_draw_depends_on_the_seed_and_its_index_only(self, name):
        prior = build(name, (3,))
        z = prior.draw(make_seed(5), tf.range(10)).numpy()
        alone = prior.draw(make_seed(5), tf.constant([7]))
        np.testing.assert_allclose(alone[0], z[7], rtol=0, atol=1e-5)
        other = prior.draw(make_seed(6), tf.range(10)).numpy()
        assert len(np.unique(np.concatenate([z, other]), axis=0)) == 20

    def test_temperature_zero_leaves_no_spread(self, name):
        prior = build(name, (3,))
        spread = [
            prior.draw(make_seed(5), tf.range(500), t).numpy().std(axis=0).mean()
            for t in (0.0, 0.5, 1.0)
        ]
        assert spread[0] < 1e-5
        assert spread[1] < spread[2]

    @pytest.mark.parametrize("name", nightly_but(PRIORS, "affine_coupling", "mixture"))
    def test_it_trains_and_is_saved_with_a_model(self, name, images, tmp_path):
        encoder = tfvae.networks.dense_encoder((4, 4, 1), 2 * 3, hidden=(8,))
        decoder = tfvae.networks.dense_decoder(3, (4, 4, 1), hidden=(8,))
        model = tfvae.VAE(encoder, decoder, prior=PRIORS[name]())
        model.compile("adam", run_eagerly=True)  # quicker than to trace it
        before = model.prior.get_weights()
        for _ in range(2):
            assert np.isfinite(model.train_on_batch(images[:6])[0])
        after = model.prior.get_weights()
        assert sum(np.any(b != a) for b, a in zip(before, after, strict=True)) >= 2
        model.save(tmp_path / "model.keras")
        restored = keras.saving.load_model(tmp_path / "model.keras")
        z = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
        np.testing.assert_array_equal(restored.prior.log_prob(z), model.prior.log_prob(z))
        np.testing.assert_allclose(restored.sample(3, seed=1), model.sample(3, seed=1), rtol=1e-6)


# Of all the operators: those of a spline, and of a choice.
@pytest.mark.slow
@pytest.mark.parametrize("name", nightly_but(PRIORS, "spline_coupling", "mixture"))
def test_litert_draws_the_same_with_its_own_operators(name, tmp_path):
    prior = build(name, (2,))
    specs = [
        tf.TensorSpec((2,), tf.int32, "seed"),
        tf.TensorSpec((None,), tf.int32, "index"),
        tf.TensorSpec((), tf.float32, "temperature"),
    ]

    def draw(seed, index, temperature):
        return {"z": prior.draw(seed, index, temperature)}

    module, function = tf.Module(), tf.function(draw, specs, autograph=False)
    module.draw = function.get_concrete_function()
    module.weights = list(module.draw.variables)
    with quiet_stderr():
        tf.saved_model.save(module, str(tmp_path), signatures={"draw": module.draw})
        converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path), signature_keys=["draw"])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        content = converter.convert()
    assert not [name for name in operators(content) if "Flex" in name]
    run = Interpreter(model_content=content).get_signature_runner()
    seed, index = make_seed(11).numpy(), np.arange(64, dtype=np.int32)
    for temperature in (1.0, 0.6):
        z = run(seed=seed, index=index, temperature=np.float32(temperature))["z"]
        expected = prior.draw(seed, index, temperature)
        np.testing.assert_allclose(z, expected, rtol=0, atol=1e-4)  # measured 2e-5


class TestFlowDistribution:
    @pytest.fixture(params=["affine_coupling", "inverse_autoregressive"])
    def q(self, request, rng):
        """Return q(z|x) of a batch of 4, over an input-dependent normal and a context."""
        flow = flows.stack(request.param, 2, hidden=(8,))
        flow.build((3,), 2)
        flow.set_weights([0.4 * rng.normal(size=weight.shape) for weight in flow.weights])
        loc, context = (tf.constant(rng.normal(size=(4, n)), tf.float32) for n in (3, 2))
        return FlowDistribution(tfd.Independent(tfd.Normal(loc, 0.5), 1), flow, context)

    def test_shapes(self, q):
        assert q.batch_shape == (4,)
        assert q.event_shape == (3,)
        z, log_q = q.experimental_sample_and_log_prob([5, 6], seed=make_seed(0))
        assert z.shape == (5, 6, 4, 3)
        assert log_q.shape == (5, 6, 4)
        assert q.sample(seed=make_seed(0)).shape == (4, 3)
        assert q.representative().shape == (4, 3)
        assert q.draw(make_seed(0), tf.range(4)).shape == (4, 3)

    def test_the_density_of_a_draw_is_the_one_that_the_inverse_gives(self, q):
        z, log_q = q.experimental_sample_and_log_prob(50, seed=make_seed(0))
        np.testing.assert_array_equal(z, q.sample(50, seed=make_seed(0)))
        np.testing.assert_allclose(log_q, q.log_prob(z), rtol=0, atol=1e-4)

    def test_log_q_of_a_draw_inverts_nothing(self, q, monkeypatch):
        monkeypatch.setattr(type(q.flow), "inverse", None)
        q.experimental_sample_and_log_prob(5, seed=make_seed(0))

    def test_draws_are_differentiable(self, q):
        assert q.reparameterization_type == tfd.FULLY_REPARAMETERIZED
        with tf.GradientTape() as tape:
            z, log_q = q.experimental_sample_and_log_prob(5, seed=make_seed(0))
            total = tf.reduce_sum(z**2) + tf.reduce_sum(log_q)
        assert all(np.any(g) for g in tape.gradient(total, q.flow.trainable_weights))

    def test_what_it_says_of_its_density(self, q):
        is_iaf = isinstance(q.flow.flows[0], flows.InverseAutoregressive)
        assert q.has_parallel_log_prob == (not is_iaf)

    def test_temperature_zero_is_the_representative(self, q):
        z = q.draw(make_seed(0), tf.range(4), 0.0)
        np.testing.assert_allclose(z, q.representative(), rtol=1e-6)

    def test_a_base_without_a_batch_is_drawn_for_each_context(self, q):
        base = tfd.Independent(tfd.Normal(tf.zeros(3), 1.0), 1)
        p = FlowDistribution(base, q.flow, q.context)
        z, log_p = p.experimental_sample_and_log_prob(5, seed=make_seed(0))
        assert z.shape == (5, 4, 3)
        assert len(np.unique(z)) == 60
        np.testing.assert_allclose(log_p, p.log_prob(z), rtol=0, atol=1e-4)
        assert p.representative().shape == (4, 3)

    def test_each_context_has_a_density_that_integrates_to_one(self, rng):
        prior = priors.FlowPrior("spline_coupling", 2, (8,))
        prior.build((1,), context_size=2)
        prior.set_weights([0.3 * rng.normal(size=weight.shape) for weight in prior.weights])
        points, cell = grid(1, steps=7001)
        context = rng.normal(size=(3, 2)).astype(np.float32)
        log_p = prior.distribution(context).log_prob(points[:, np.newaxis])
        assert log_p.shape == (len(points), 3)
        np.testing.assert_allclose(np.exp(log_p).sum(0) * cell, 1, rtol=0, atol=1e-3)
        assert prior.distribution(context).draw(make_seed(0), tf.range(3)).shape == (3, 1)

    def test_a_flow_in_float64_gives_what_a_model_computes_in(self):
        prior = priors.FlowPrior("affine_coupling", 2, (8,), flow_options={"dtype": "float64"})
        prior.build((3,))
        q = prior.distribution()
        z, log_q = q.experimental_sample_and_log_prob(5, seed=make_seed(0))
        assert z.dtype == log_q.dtype == q.log_prob(z).dtype == tf.float32
        drawn = q.draw(make_seed(0), tf.range(4))
        assert drawn.dtype == q.representative().dtype == tf.float32
        np.testing.assert_allclose(log_q, q.log_prob(z), rtol=1e-5)

    def test_draws_need_a_base_of_normals(self, q):
        base = tfd.Independent(tfd.Laplace(tf.zeros(3), 1.0), 1)
        with pytest.raises(InvalidArgument, match="independent normals"):
            FlowDistribution(base, q.flow, q.context).draw(make_seed(0), tf.range(4))

    def test_a_dropped_log_det_does_not_integrate_to_one(self, rng, monkeypatch):
        prior = build("affine_coupling", (2,))
        inverse = flows.AffineCoupling._inverse

        def without_log_det(self, z, context):
            return inverse(self, z, context)[0], tf.zeros(tf.shape(z)[:-1])

        monkeypatch.setattr(flows.AffineCoupling, "_inverse", without_log_det)
        points, cell = grid(2)
        assert abs(np.exp(prior.log_prob(points)).sum() * cell - 1) > 0.05


class TestFlowPrior:
    @pytest.mark.parametrize("mixing", [None, "linear"])
    @pytest.mark.parametrize("flow", ["affine_coupling", "spline_coupling"])
    def test_it_starts_at_the_standard_normal(self, flow, mixing, rng):
        prior = priors.FlowPrior(flow, 3, mixing=mixing)
        prior.build((5,))
        z = rng.normal(size=(50, 5)).astype(np.float32)
        expected = scipy.stats.norm.logpdf(z).sum(1)
        np.testing.assert_allclose(prior.log_prob(z), expected, rtol=1e-5)

    def test_one_autoregressive_layer_has_normal_conditionals(self, rng):
        prior = priors.AutoregressivePrior(1, hidden=(8,))
        prior.build((1,))
        prior.set_weights([rng.normal(size=weight.shape) for weight in prior.weights])
        z = prior.draw(make_seed(0), tf.range(2000)).numpy()
        loc, sigma = z.mean(), z.std()
        points, _ = grid(1)
        log_p = prior.log_prob(points).numpy()
        curvature = np.diff(log_p, 2)
        np.testing.assert_allclose(curvature, curvature.mean(), rtol=0.05)
        assert abs(points[log_p.argmax(), 0] - loc) < 4 * sigma / np.sqrt(2000) + 0.05

    def test_a_flow_given_as_an_object_is_used_as_it_is(self, tmp_path):
        chain = flows.FlowChain([flows.Linear(), flows.AffineCoupling(hidden=(8,))])
        prior = priors.FlowPrior(chain)
        assert prior.flow is chain
        config = keras.saving.serialize_keras_object(prior)
        restored = keras.saving.deserialize_keras_object(config)
        restored.build((3,))
        assert [type(flow) for flow in restored.flow.flows] == [flows.Linear, flows.AffineCoupling]
        assert restored.flow.flows[1].hidden == (8,)

    def test_what_does_not_fit_is_refused(self):
        with pytest.raises(InvalidArgument, match=r"density of any z.*affine_coupling"):
            priors.FlowPrior("inverse_autoregressive")
        with pytest.raises(InvalidArgument, match="num_layers"):
            priors.FlowPrior(flows.Linear(), num_layers=3)
        with pytest.raises(InvalidArgument, match="Unknown option of the flow"):
            priors.FlowPrior(flow_options={"num_bin": 3})
        with pytest.raises(InvalidArgument, match="num_layers"):
            priors.FlowPrior(num_layers=0)
        built = flows.Linear()
        built.build((3,))
        with pytest.raises(InvalidArgument, match="was built for"):
            priors.FlowPrior(built).build((5,))

    def test_it_is_known_by_its_name_and_options(self):
        prior = priors.get("flow", flow="spline_coupling", num_layers=2, hidden=(4,))
        assert isinstance(prior.flow.flows[0], flows.SplineCoupling)
        assert isinstance(priors.get("autoregressive", num_layers=1), priors.AutoregressivePrior)
        assert priors.get("mixture", num_components=3).num_components == 3


class TestMixture:
    def reference(self, logits, loc, log_scale, z):
        log_weights = logits - scipy.special.logsumexp(logits)
        components = scipy.stats.norm.logpdf(z[:, np.newaxis], loc, np.exp(log_scale)).sum(-1)
        return scipy.special.logsumexp(log_weights + components, axis=1)

    # Measured: 6e-14 and 5e-5, of densities down to −177 nats and components down to −452.
    @pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 5e-4)])
    def test_log_prob_is_the_closed_form(self, rng, dtype, tolerance):
        logits, offset = rng.normal(size=20), 5.0
        loc = (rng.normal(size=(20, 40)) + offset).astype(dtype)
        log_scale = rng.uniform(-1, 1, size=(20, 40)).astype(dtype)
        z = (2 * rng.normal(size=(30, 40)) + offset).astype(dtype)
        mixture = NormalMixture(*(tf.constant(p, dtype) for p in (logits, loc, log_scale)))
        exact = [np.float64(value) for value in (loc, log_scale, z)]
        expected = self.reference(logits.astype(dtype).astype(np.float64), *exact)
        np.testing.assert_allclose(mixture.log_prob(z), expected, rtol=0, atol=tolerance)

    def test_its_density_takes_no_memory_of_components_times_units(self):
        prior = priors.MixturePrior(500)
        prior.build((40,))

        @tf.function(input_signature=[tf.TensorSpec((1000, 40))], autograph=False)
        def gradient(z):
            with tf.GradientTape() as tape:
                log_p = prior.log_prob(z)
            return tape.gradient(log_p, prior.trainable_weights)

        operations = gradient.get_concrete_function().graph.get_operations()
        sizes = [output.shape.num_elements() or 0 for op in operations for output in op.outputs]
        assert max(sizes) == 1000 * 500

    def test_its_components_differ_at_the_start(self):
        first, second = (priors.MixturePrior(4, spread=2.0, seed=s) for s in (1, 2))
        for prior in (first, second):
            prior.build((300,))
        assert len(np.unique(first.loc)) == 4 * 300
        assert abs(np.std(first.loc) - 2.0) < 4 * 2.0 / np.sqrt(2 * 1200)
        assert not np.any(first.loc == second.loc)

    def test_no_raw_value_takes_a_scale_beyond_its_bound(self):
        prior = priors.MixturePrior(1, max_scale=3.0)
        prior.build((4,))
        raw = np.array([[-100.0, -0.5, 0.5, 100.0]])
        prior.raw_scale.assign(raw)
        scale = np.exp(np.log(3.0) * np.tanh(raw / np.log(3.0)))
        np.testing.assert_allclose(scale[0, [0, 3]], [1 / 3, 3])
        z = np.array([0.5, -0.2, 1.5, 4.0], np.float32)
        expected = scipy.stats.norm.logpdf(z, prior.loc, scale).sum()
        np.testing.assert_allclose(prior.log_prob(z), expected, rtol=1e-5)

    def test_temperature_chooses_among_components_by_their_weights(self, assert_mean):
        weights = np.array([0.5, 0.3, 0.2])
        loc = tf.constant([[0.0], [10.0], [20.0]])
        mixture = NormalMixture(tf.constant(np.log(weights), tf.float32), loc, tf.zeros([3, 1]) - 3)
        for temperature in (1.0, 0.5):
            z = mixture.draw(make_seed(1), tf.range(20_000), temperature).numpy()
            expected = weights ** (1 / temperature)
            assert_mean(np.round(z / 10) == [0, 1, 2], expected / expected.sum())

    @pytest.mark.parametrize(
        "options", [{"num_components": 0}, {"spread": 0}, {"max_scale": -1}, {"max_scale": 1}]
    )
    def test_what_makes_no_sense_is_refused(self, options):
        with pytest.raises(InvalidArgument, match=next(iter(options))):
            priors.MixturePrior(**options)

    @pytest.mark.parametrize("num_components", [1, 2])
    def test_few_components_will_do(self, num_components):
        prior = priors.MixturePrior(num_components)
        prior.build((2,))
        z = prior.draw(make_seed(0), tf.range(4))
        assert np.all(np.isfinite(prior.log_prob(z)))
