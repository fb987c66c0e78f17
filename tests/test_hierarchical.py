import itertools
import warnings

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from test_estimators import moved_from_zero
from tiers import nightly_but

import tfvae
from tfvae import estimators, exact, networks, objectives
from tfvae.bound import Bound
from tfvae.errors import InvalidArgument
from tfvae.estimators import control_variates
from tfvae.estimators.estimator import Drawn
from tfvae.joint import ancestral, replay, sampler, values_of
from tfvae.random import make_seed

X_SHAPE = (2, 3, 1)
PIWAE_OF_ONE = objectives.PIWAE(1)
BITS = np.array(list(itertools.product([0.0, 1.0], repeat=4)), np.float32)


def build(kind="bernoulli", sizes=(2, 2), **options):
    """Return a model with linear networks, one dense layer each."""
    params = [distribution_params(kind, size) for size in sizes]
    latents = [shape(kind, size) for size in sizes]
    keras.utils.set_random_seed(1)
    below = [X_SHAPE, *latents[:-1]]
    encoders = [networks.dense_encoder(b, p, hidden=()) for b, p in zip(below, params, strict=True)]
    outputs = [X_SHAPE, *params[:-1]]
    decoders = [
        networks.dense_decoder(z, p, hidden=()) for z, p in zip(latents, outputs, strict=True)
    ]
    model = tfvae.HierarchicalVAE(encoders, decoders, posteriors=kind, **options)
    rng = np.random.default_rng(2)
    scale = 0.2 if kind == "diagonal_normal" else 1.0  # or standard deviations get tiny
    for weight in model.trainable_variables:
        weight.assign(scale * rng.normal(size=weight.shape))
    return model


def shape(kind, size):
    return (size, 3) if kind == "categorical" else (size,)


def distribution_params(kind, size):
    return (2 * size,) if kind == "diagonal_normal" else shape(kind, size)


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).integers(0, 2, (5, *X_SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def belief_network():
    return build()


def log_p(model, z):
    """Return log p(z) of latents `[..., *latent_shape]`."""
    layers, _ = model.generate(values_of(model.split(tf.constant(z))))
    return sum(layer.log_p() for layer in layers)


def log_q_of(model, x, z):
    """Return log q(z|x) of latents `[K, B or 1, *latent_shape]`, `[K, B]`."""
    return model.inference(x)(replay(model.split(tf.constant(z)))).log_q()


class NumPy:
    """The two-layer sigmoid belief network of 2 + 2 bits, by its weights."""

    def __init__(self, model):
        def affine(network):
            kernel, bias = (np.asarray(w, np.float64) for w in network.get_weights())
            return lambda v: np.reshape(v, (*np.shape(v)[:-1], len(kernel))) @ kernel + bias

        self.encoders = [affine(network) for network in model.encoders]
        self.p_x, self.p_z1 = affine(model.decoders[0]), affine(model.decoders[1])
        self.top = np.asarray(model.prior.logits, np.float64)

    @staticmethod
    def log_prob(values, logits):
        return np.sum(values * logits - np.logaddexp(0, logits), axis=-1)

    def log_prior(self, z):
        lower, upper = z[..., :2], z[..., 2:]
        return self.log_prob(upper, self.top) + self.log_prob(lower, self.p_z1(upper))

    def log_q(self, z, x):
        lower, upper = z[..., :2], z[..., 2:]
        to_lower = self.encoders[0](x.reshape(len(x), -1))
        return self.log_prob(lower, to_lower) + self.log_prob(upper, self.encoders[1](lower))

    def log_likelihood(self, z, x):
        return self.log_prob(x.reshape(len(x), -1), self.p_x(z[..., :2]))

    def log_joint(self, x):
        """Return log p(x, z) of the 16 states, `[16, B]`."""
        return self.log_likelihood(BITS[:, np.newaxis], x) + self.log_prior(BITS)[:, np.newaxis]

    def log_p(self, x):
        return np.logaddexp.reduce(self.log_joint(x), axis=0)


class TestTwoLayersOfBits:
    def test_the_states_are_all_states(self, belief_network):
        states = exact.latent_states(belief_network)
        np.testing.assert_array_equal(states, BITS)

    def test_prior_and_posterior_are_the_products_of_their_layers(self, belief_network, x):
        reference = NumPy(belief_network)
        log_prior = log_p(belief_network, BITS)
        np.testing.assert_allclose(log_prior, reference.log_prior(BITS), rtol=1e-5)
        assert np.exp(log_prior).sum() == pytest.approx(1, abs=1e-5)
        log_q = log_q_of(belief_network, x, BITS[:, np.newaxis])
        np.testing.assert_allclose(log_q, reference.log_q(BITS[:, np.newaxis], x), rtol=1e-4)
        np.testing.assert_allclose(np.exp(log_q).sum(axis=0), 1, atol=1e-5)

    def test_the_layers_of_the_prior_are_not_those_of_q(self, belief_network):
        """p draws z2 first: with the layers confused the two would agree."""
        confused = NumPy(belief_network).log_prior(BITS[:, [2, 3, 0, 1]])
        assert np.abs(log_p(belief_network, BITS) - confused).max() > 0.1

    def test_log_weights_are_those_of_numpy(self, belief_network, x):
        joint = belief_network.inference(x)(sampler(7, make_seed(3)))
        z = belief_network.join(joint.z).numpy()
        assert z.shape == (7, 5, 4)
        log_w = joint.log_likelihood + joint.log_p() - joint.log_q()
        reference = NumPy(belief_network)
        expected = reference.log_likelihood(z, x) + reference.log_prior(z) - reference.log_q(z, x)
        np.testing.assert_allclose(log_w, expected, rtol=1e-4, atol=1e-4)
        assert belief_network.log_weights(x, 3).shape == (3, 5)

    def test_the_objective_exact_is_the_enumeration(self, belief_network, x):
        belief_network.compile(objective="exact")
        loss = belief_network.evaluate(x, batch_size=5, verbose=0)[0]
        assert loss == pytest.approx(-NumPy(belief_network).log_p(x).mean(), rel=1e-5)

    def test_many_samples_estimate_log_p(self, belief_network, x):
        measured = tfvae.log_likelihood(belief_network, x, num_samples=4000, progress=False)
        off = np.abs(measured.per_example - NumPy(belief_network).log_p(x))
        assert np.all(off <= 4 * measured.sampling_error)
        assert measured.sampling_error.max() < 0.1

    def test_samples_of_the_prior_are_ancestral(self, belief_network, assert_mean):
        z = belief_network.draw(make_seed(4), tf.range(20_000))[0].numpy()
        state = (z @ [8, 4, 2, 1]).astype(int)
        expected = np.exp(NumPy(belief_network).log_prior(BITS))
        assert_mean(np.eye(16)[state], expected)
        layers, _ = belief_network.generate(ancestral(20_000, make_seed(5)))
        z = belief_network.join([layer.z for layer in layers]).numpy()
        assert_mean(np.eye(16)[(z @ [8, 4, 2, 1]).astype(int)], expected)

    def test_samples_of_q_have_its_probabilities(self, belief_network, x, assert_mean):
        joint = belief_network.inference(x[:1])(sampler(20_000, make_seed(5)))
        z = belief_network.join(joint.z).numpy()[:, 0]
        expected = np.exp(NumPy(belief_network).log_q(BITS[:, np.newaxis], x[:1]))[:, 0]
        assert_mean(np.eye(16)[(z @ [8, 4, 2, 1]).astype(int)], expected)

    def test_layers_are_drawn_from_streams_of_their_own(self):
        """With equal logits everywhere, equal noise would make the layers equal."""
        model = build(sizes=(40, 40))
        for weight in model.prior.weights + model.decoders[1].weights:
            weight.assign(np.zeros(weight.shape))
        z = model.draw(make_seed(4), tf.range(50))[0].numpy()
        assert 0.45 < np.mean(z[:, :40] == z[:, 40:]) < 0.55

    def test_a_mean_is_taken_layer_by_layer(self, belief_network, x):
        reference = NumPy(belief_network)
        lower = 1 / (1 + np.exp(-reference.encoders[0](x.reshape(5, -1))))
        upper = 1 / (1 + np.exp(-reference.encoders[1](lower)))
        np.testing.assert_allclose(
            belief_network.encode(x), np.concatenate([lower, upper], axis=1), atol=1e-5
        )


KINDS = ["bernoulli", "categorical", "diagonal_normal"]


@pytest.mark.parametrize("kind", KINDS)
class TestEveryKind:
    def test_shapes(self, kind, x):
        model = build(kind, (3, 2))
        size = sum(np.prod(s) for s in model.layer_shapes)
        assert model.latent_shape == (size,)
        assert model.layer_shapes == (shape(kind, 3), shape(kind, 2))
        assert model.latent_kinds == (model.prior.kind,) * 2
        assert model.encode(x).shape == (5, size)
        assert model.decode(model.encode(x)).shape == model.sample(5).shape == (5, *X_SHAPE)
        joint = model.inference(x)(sampler(4, make_seed(0)))
        assert joint.log_p().shape == joint.log_q().shape == (4, 5)
        np.testing.assert_allclose(
            joint.log_q(), log_q_of(model, x, model.join(joint.z)), rtol=1e-5, atol=1e-5
        )
        np.testing.assert_allclose(
            joint.log_p(), log_p(model, model.join(joint.z)), rtol=1e-5, atol=1e-5
        )
        np.testing.assert_allclose(model(x), model.decode(model.encode(x)), rtol=1e-6)

    def test_temperature_zero_is_the_mode_of_every_layer(self, kind):
        model = build(kind, (3, 2))
        z = model.draw(make_seed(1), tf.range(2), 0.0)[0]
        top = model.prior.distribution().mode()
        layers, _ = model.generate(lambda number, p: top[tf.newaxis] if number else p.mode())
        np.testing.assert_allclose(z[:1], model.join([layer.z for layer in layers]), atol=1e-6)
        np.testing.assert_array_equal(z[0], z[1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", nightly_but(KINDS, "categorical"))
def test_a_saved_model_is_the_same(kind, x, tmp_path):
    model = build(kind, (3, 2), seed=7)
    model.compile(estimator="nvil", num_samples=3, beta=0.5, run_eagerly=True)
    model.fit(x, batch_size=5, verbose=0)
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    assert restored.seed == 7
    assert restored.beta == 0.5
    np.testing.assert_array_equal(restored.log_weights(x, 3), model.log_weights(x, 3))
    np.testing.assert_array_equal(restored.sample(3), model.sample(3))
    for one, other in ((model, restored), (model.optimizer, restored.optimizer)):
        for left, right in zip(one.variables, other.variables, strict=True):
            np.testing.assert_array_equal(left, right)


def fits(estimator, kind):
    latents = "continuous" if kind == "diagonal_normal" else kind
    return latents in estimators.REGISTRY.part(estimator).latents


PAIRS = list(itertools.product(estimators.REGISTRY.names(), KINDS))
FITTING = [pair for pair in PAIRS if fits(*pair)]
# Those that differ most: a sum over all states, paths, relaxed bits, a baseline with weights, and a
# control variate with weights.
DIFFERENT = {
    "exact": "categorical",
    "dreg": "diagonal_normal",
    "gumbel_softmax": "categorical",
    "nvil": "bernoulli",
    "rebar": "bernoulli",
}


@pytest.mark.slow
@pytest.mark.parametrize(("estimator", "kind"), nightly_but(FITTING, *DIFFERENT.items()))
def test_every_estimator_trains_every_kind_that_it_fits(estimator, kind, x):
    model = build(kind)
    sgd = keras.optimizers.SGD(1e-3)
    model.compile(sgd, "elbo", estimator, num_samples=2, run_eagerly=True)
    before = [weight.numpy() for weight in model.trainable_variables]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a variable without a gradient is one
        history = model.fit(x, batch_size=5, epochs=2, verbose=0).history
    assert np.all(np.isfinite(history["loss"]))
    for weight, old in zip(model.trainable_variables, before, strict=True):
        assert np.any(weight.numpy() != old), weight.path


UNBIASED = estimators.names(lambda cls: cls.is_unbiased and cls is not estimators.Enumeration)


ENUMERATED = [(e, k) for e, k in FITTING if e in UNBIASED and k != "diagonal_normal"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "kind"),
    # Those that differ most: a baseline of other samples, antithetic draws, and a control variate.
    nightly_but(ENUMERATED, *((name, "bernoulli") for name in ("rloo", "disarm", "rebar"))),
)
def test_the_expected_gradient_is_the_enumerated_one(estimator, kind, x, assert_mean):
    """With respect to every weight of the model, of one example."""
    model = build(kind, (2, 1) if kind == "bernoulli" else (1, 1))
    options = {"normalize": False} if estimator == "nvil" else {}
    model.compile("sgd", "elbo", estimators.get(estimator, **options), num_samples=2)
    moved_from_zero(model.estimator)
    weights = model.encoders[0].weights + model.encoders[1].weights
    weights += model.decoders[0].weights + model.decoders[1].weights + model.prior.weights

    def gradient(method, example, seed):
        with tf.GradientTape() as tape:
            bound, infer = Bound(objectives.elbo, 2, 0.7), model.inference(example)
            total = tf.reduce_mean(method.estimate(bound, infer, example, seed, False).surrogate)
        return tf.concat([tf.reshape(g, [-1]) for g in tape.gradient(total, weights)], 0)

    enumeration = estimators.get("exact")
    enumeration.prepare(model, Bound(objectives.elbo))
    # A thousand copies of the example are a thousand independent draws.
    copies = tf.constant(np.repeat(x[:1], 1000, axis=0))
    sampled = tf.function(lambda seed: gradient(model.estimator, copies, seed), autograph=False)
    draws = np.stack([sampled(make_seed(seed)) for seed in range(40)])
    assert_mean(draws, gradient(enumeration, tf.constant(x[:1]), make_seed(0)))


def test_both_ways_to_the_pathwise_gradient_agree_layer_by_layer(x):
    """PIWAE of one bound is IWAE, with an encoder's gradient of its own: draw by draw the same."""
    model, gradients = build("diagonal_normal", (3, 2)), []
    bounds = [Bound(objective, 4, [0.5, 2.0]) for objective in (objectives.iwae, PIWAE_OF_ONE)]
    for bound in bounds:
        with tf.GradientTape() as tape:
            infer, estimator = model.inference(x), estimators.Pathwise()
            surrogate = estimator.estimate(bound, infer, x, make_seed(3), True).surrogate
            total = tf.reduce_sum(surrogate)
        gradients.append(tape.gradient(total, model.trainable_variables))
    for one, other in zip(*gradients, strict=True):
        assert np.abs(one).max() > 0.01, "nothing to compare"
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_rebar_counts_the_layers_of_a_pass_each_by_its_beta(x, belief_network):
    """Of IWAE: the signal L of every layer, less β_l w̃_k, the derivative through its log q."""
    bound = Bound(objectives.iwae, 3, [0.5, 2.0])
    joint = belief_network.inference(x)(sampler(3, make_seed(0)))
    log_w = bound.log_weights(bound.terms(joint))
    weights = scipy.special.softmax(log_w, axis=0)
    signals = control_variates._signals(bound, log_w, 2)
    for beta, signal in zip([0.5, 2.0], signals, strict=True):
        expected = objectives.iwae(log_w) - beta * weights
        np.testing.assert_allclose(signal, expected, rtol=1e-5)


@pytest.mark.parametrize("objective", [objectives.elbo, objectives.iwae])
def test_rebar_sums_the_gradients_of_samples_where_they_share_their_logits(objective, rng):
    """Which the first layer's do; in a mean of log-weights, what is left out has no effect."""
    gradient = rng.normal(size=(3, 5, 2)).astype("f4")
    for sample_shape in ((3,), ()):
        layer = Drawn(None, None, None, sample_shape)
        shared = sample_shape and objective is objectives.iwae
        expected = np.sum((gradient.sum(0) if shared else gradient) ** 2)
        found = control_variates._squared_norm(Bound(objective, 3), layer, tf.constant(gradient))
        assert float(found) == pytest.approx(expected, rel=1e-5)


def test_three_layers_of_different_kinds(x):
    model = tfvae.HierarchicalVAE(
        [
            networks.dense_encoder(X_SHAPE, 4, hidden=()),
            networks.dense_encoder((4,), (2, 3), hidden=()),
            networks.dense_encoder((2, 3), 4, hidden=(5,)),
        ],
        [
            networks.dense_decoder(4, X_SHAPE, hidden=()),
            networks.dense_decoder((2, 3), (4,), hidden=()),
            networks.dense_decoder(2, (2, 3), hidden=()),
        ],
        posteriors=["bernoulli", "categorical", "diagonal_normal"],
    )
    assert model.latent_kinds == ("bernoulli", "categorical", "continuous")
    assert model.latent_shape == (4 + 6 + 2,)
    z = model.draw(make_seed(0), tf.range(6))[0].numpy()
    assert set(np.unique(z[:, :4])) <= {0, 1}
    np.testing.assert_array_equal(z[:, 4:10].reshape(6, 2, 3).sum(axis=-1), 1)
    model.compile(estimator="rloo", num_samples=3, run_eagerly=True)
    assert np.isfinite(model.fit(x, batch_size=5, verbose=0).history["loss"][0])
    with pytest.raises(InvalidArgument, match="does not give the gradient of bernoulli"):
        model.compile(estimator="pathwise")


def test_one_layer_is_a_vae(x):
    """Its bound is the VAE's with the KL sampled."""
    keras.utils.set_random_seed(3)
    encoder = networks.dense_encoder(X_SHAPE, 4, hidden=())
    decoder = networks.dense_decoder(2, X_SHAPE, hidden=())
    one = tfvae.HierarchicalVAE([encoder], [decoder])
    vae = tfvae.VAE(encoder, decoder)
    z = vae.q_z_given_x(x).sample(3, seed=make_seed(1))
    np.testing.assert_allclose(one.log_joint(x, z), vae.log_joint(x, z), rtol=1e-6)
    np.testing.assert_allclose(log_q_of(one, x, z), log_q_of(vae, x, z), rtol=1e-6)
    np.testing.assert_allclose(one.sample(4, seed=2), vae.sample(4, seed=2), rtol=1e-5)


def test_the_kl_is_exact_of_the_layer_that_is_drawn_last(x):
    """The lower layer's prior is given the upper one, which is drawn later: its KL is sampled."""
    model = build("diagonal_normal", (3, 2))
    joint = model.inference(x)(sampler(4000, make_seed(0)))
    auto = Bound(objectives.elbo, kl="auto").terms(joint)
    sampled = Bound(objectives.elbo).terms(joint)
    assert [kl.shape for kl in auto.kls] == [(4000, 5), (4000, 5)]
    np.testing.assert_array_equal(auto.kls[0], sampled.kls[0])
    difference = (auto.kls[1] - sampled.kls[1]).numpy()
    error = difference.std(axis=0) / np.sqrt(len(difference))
    assert np.all(np.abs(difference.mean(axis=0)) < 4 * error)
    assert auto.kls[1].numpy().std(axis=0).max() < sampled.kls[1].numpy().std(axis=0).min()
    with pytest.raises(InvalidArgument, match="not known for z1, whose p is given a layer"):
        model.compile(kl="exact")


def test_the_kl_of_every_layer_is_a_metric_and_they_add_up(x):
    model = build("diagonal_normal", (3, 2))
    model.compile("adam", num_samples=3, run_eagerly=True)
    logs = model.fit(x, batch_size=5, verbose=0).history
    assert logs["kl"][0] == pytest.approx(logs["kl_1"][0] + logs["kl_2"][0], rel=1e-5)


def test_a_beta_for_each_layer_weighs_its_kl(x):
    model = build("diagonal_normal", (3, 2))
    joint = model.inference(x)(sampler(3, make_seed(0)))
    terms = Bound(objectives.elbo, beta=[0.5, 2.0]).terms(joint)
    expected = terms.log_likelihood - 0.5 * terms.kls[0] - 2.0 * terms.kls[1]
    np.testing.assert_allclose(terms.log_weights([0.5, 2.0]), expected, rtol=1e-6)
    weighted = Bound(objectives.elbo, beta=[0.5, 2.0]).weighted_log_q(joint)
    expected = 0.5 * joint.layers[0].log_q + 2.0 * joint.layers[1].log_q
    np.testing.assert_allclose(weighted, expected, rtol=1e-6)
    model.compile("adam", beta=[0.5, 2.0])
    assert model.beta == [0.5, 2.0]
    with pytest.raises(InvalidArgument, match="has 3 numbers; expected one, or one for each"):
        model.compile("adam", beta=[0.5, 2.0, 1.0])
    with pytest.raises(InvalidArgument, match="'dreg' takes one β"):
        model.compile("adam", estimator="dreg", beta=[0.5, 2.0])


def test_free_bits_need_the_kl_of_the_layers_that_have_them(x):
    """Only that of z2 is known, given z1; the KL of z1 is sampled."""
    model = two_normal_layers()
    keras.utils.set_random_seed(1)
    plain = two_normal_layers()
    plain.set_weights(model.get_weights())
    plain.compile("sgd", run_eagerly=True)
    model.compile("sgd", free_bits=[0.0, 50.0], run_eagerly=True)
    logs, expected = (m.evaluate(x, verbose=0, return_dict=True) for m in (model, plain))
    for name in ("kl_1", "kl_2", "reconstruction"):
        np.testing.assert_allclose(logs[name], expected[name], rtol=1e-6)
    counted = logs["loss"] - logs["reconstruction"] - logs["kl_1"]
    np.testing.assert_allclose(counted, 2 * 50.0, rtol=1e-5)
    model.free_bits = [0.0, 60.0]
    for value in (0.5, [0.5, 0.0]):
        with pytest.raises(InvalidArgument, match=r"`free_bits` was 0 .*when the model was comp"):
            model.free_bits = value
    for value in (0.5, [0.5, 0.0]):
        with pytest.raises(InvalidArgument, match="not known for z1"):
            model.compile("sgd", free_bits=value)


def two_normal_layers():
    return tfvae.HierarchicalVAE(
        [networks.dense_encoder(X_SHAPE, 6, (4,)), networks.dense_encoder((3,), 4, (4,))],
        [networks.dense_decoder(3, X_SHAPE, (4,)), networks.dense_decoder(2, (6,), (4,))],
        posteriors="diagonal_normal",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoders": 1}, "There are 2 encoders, 1 decoders and 2 posteriors"),
        ({"posteriors": ["bernoulli"]}, "2 decoders and 1 posteriors"),
        (
            {"prior": "standard_normal"},
            "bernoulli latents.*prior StandardNormal is over continuous",
        ),
        ({"upper": 5}, r"encoder of z2 takes inputs of shape \(5,\).*given \(3,\)"),
        ({"lower": 4}, r"decoder of z2 describes a z1 of shape \(4,\).*\(3,\).*shape \(3,\)"),
        ({"top": 4}, r"decoder of z2 takes inputs of shape \(4,\).*given \(2,\)\..*z2 for that"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(change, message):
    encoders = [
        networks.dense_encoder(X_SHAPE, 3, hidden=()),
        networks.dense_encoder((change.get("upper", 3),), 2, hidden=()),
    ]
    decoders = [
        networks.dense_decoder(3, X_SHAPE, hidden=()),
        networks.dense_decoder(change.get("top", 2), (change.get("lower", 3),), hidden=()),
    ]
    with pytest.raises(InvalidArgument, match=message):
        tfvae.HierarchicalVAE(
            encoders,
            decoders[: change.get("decoders", 2)],
            prior=change.get("prior"),
            posteriors=change.get("posteriors", "bernoulli"),
        )
