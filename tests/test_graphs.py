"""Graphs of a model: measures are of the parts that it has now, and let go of it."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
import test_evaluation_conditions as measures

import tfvae
from tfvae import code_priors, likelihoods, networks, priors
from tfvae.errors import InvalidArgument
from tfvae.graphs import in_graph

X = np.float32([[1, 0, 1], [0, 0, 1]])


@in_graph
def doubled(model, x):
    traces.append(type(model))
    return 2.0 * model(x)


traces = []


@pytest.fixture
def dense():
    traces.clear()
    model = keras.Sequential([keras.layers.Dense(2, kernel_initializer="ones")])
    model.build((None, 3))
    return model


def test_a_graph_is_traced_once_for_all_values_of_the_weights(dense):
    np.testing.assert_array_equal(doubled(dense, X), [[4, 4], [2, 2]])
    dense.set_weights([3 * w for w in dense.get_weights()])
    np.testing.assert_array_equal(doubled(dense, X), [[12, 12], [6, 6]])
    assert len(traces) == 1


def test_a_graph_follows_the_weights_that_a_layer_gets_later(dense):
    doubled(dense, X)
    dense.layers[0].enable_lora(1)
    for weight in dense.trainable_variables[-2:]:
        weight.assign(tf.ones(weight.shape))
    np.testing.assert_array_equal(doubled(dense, X), [[8, 8], [4, 4]])  # a kernel of 1 + 1
    dense.layers[0].quantize("int8")
    assert len(traces) == 2
    np.testing.assert_allclose(doubled(dense, X), 2.0 * dense(X), rtol=1e-6)
    assert len(traces) == 3


def test_models_of_one_graph_are_kept_apart(dense):
    other = keras.Sequential([keras.layers.Dense(2, kernel_initializer="zeros")])
    other.build((None, 3))
    for _ in range(2):
        np.testing.assert_array_equal(doubled(dense, X), [[4, 4], [2, 2]])
        np.testing.assert_array_equal(doubled(other, X), np.zeros((2, 2)))
    assert len(traces) == 2


def vae(**options):
    encoder = networks.dense_encoder((3,), 4, hidden=())
    return tfvae.VAE(encoder, networks.dense_decoder(2, (3,), hidden=()), **options)


def log_p(model):
    return tfvae.log_likelihood(model, X, num_samples=7, progress=False).per_example


def test_a_measured_model_can_be_freed():
    model = vae()
    log_p(model)
    tfvae.score(model, X, num_samples=2, progress=False)
    alive = weakref.ref(model), weakref.ref(model.decoder)
    del model
    gc.collect()
    assert [part() for part in alive] == [None, None]


def of_same_parts(model):
    parts = {name: getattr(model, name) for name in ("prior", "posterior", "likelihood")}
    return tfvae.VAE(model.encoder, model.decoder, **parts)


def other_decoder():
    return networks.dense_decoder(2, (3,), hidden=(4,))


CHANGES = {
    "prior": lambda model: setattr(model, "prior", priors.get("mixture")),
    "prior made of the encoder": lambda model: setattr(model, "prior", priors.get("vamp")),
    "encoder": lambda model: setattr(
        model, "encoder", networks.dense_encoder((3,), 4, hidden=(2,))
    ),
    "decoder": lambda model: setattr(model, "decoder", other_decoder()),
    "likelihood": lambda model: setattr(model, "likelihood", likelihoods.Normal(0.3)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_with_another_part_is_measured_copied_and_given_back(change):
    model = vae()
    before, parts = log_p(model), {name: getattr(model, name) for name in ("prior", "decoder")}
    CHANGES[change](model)
    found = log_p(model)
    assert not np.allclose(found, before, atol=1e-3)
    np.testing.assert_allclose(found, log_p(of_same_parts(model)), rtol=1e-5)
    np.testing.assert_allclose(found, log_p(model.copy()), rtol=1e-5)
    assert len(model.weights) == len(of_same_parts(model).weights)
    if change in parts:
        setattr(model, change, parts[change])
        np.testing.assert_array_equal(log_p(model), before)


def test_keras_has_no_graph_of_a_part_that_was_replaced():
    model = vae()
    model.compile()
    model.evaluate(X, verbose=0)
    before = model.predict(X, verbose=0)
    model.decoder = other_decoder()
    assert not np.allclose(model.predict(X, verbose=0), before)
    np.testing.assert_allclose(model.predict(X, verbose=0), model(X), rtol=1e-5)


def test_a_part_that_does_not_fit_is_refused_and_the_one_before_stays():
    model = vae()
    before, decoder = log_p(model), model.decoder
    with pytest.raises(InvalidArgument, match=r"The decoder takes inputs of shape \(5,\)"):
        model.decoder = networks.dense_decoder(5, (3,))
    with pytest.raises(InvalidArgument, match="BernoulliPrior is over bernoulli ones"):
        model.prior = priors.get("bernoulli")
    assert model.decoder is decoder
    np.testing.assert_array_equal(log_p(model), before)
    np.testing.assert_allclose(log_p(model.copy()), before, rtol=1e-6)


def test_layers_of_a_chain_are_replaced_together():
    def chain(hidden):
        encoders = [networks.dense_encoder((n,), 2 * m, hidden=hidden) for n, m in ((3, 2), (2, 2))]
        decoders = [networks.dense_decoder(2, (m,), hidden=hidden) for m in (3, 4)]
        return encoders, decoders

    model = tfvae.HierarchicalVAE(*chain(()))
    before = log_p(model)
    with pytest.raises(TypeError):
        model.decoders[0] = chain(())[1][0]
    model.decoders = chain((3,))[1]
    assert not np.allclose(log_p(model), before, atol=1e-3)
    np.testing.assert_allclose(log_p(model), log_p(model.copy()), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), measures.CASES)
def test_all_measures_are_of_the_parts_that_the_model_has_now(name, kind):
    x = measures.incomplete(name, kind)
    model = measures.model_of(kind, *measures.dense_networks(kind))
    before = measures.measure(name, model, x, progress=False)
    rng = np.random.default_rng(5)
    others = measures.dense_networks(kind)
    for network in others:
        network.set_weights([rng.normal(size=w.shape) for w in network.get_weights()])
    model.encoder, model.decoder = others
    if kind == "normal":
        model.likelihood = likelihoods.Observed(likelihoods.Normal(0.8))
        parts = {"likelihood": model.likelihood, "posterior": "diagonal_normal"}
        fresh = tfvae.VAE(*others, **parts)
    elif kind == "bits":
        model.prior = priors.get("bernoulli")
        model.prior.set_weights([rng.normal(size=w.shape) for w in model.prior.get_weights()])
        fresh = measures.model_of(kind, *others)
        fresh.prior = model.prior
    else:
        model.prior = code_priors.CategoricalCodePrior(4)
        model.prior.set_weights([w + 1.0 * (w > -9) for w in model.prior.get_weights()])
        fresh = measures.model_of(kind, *others)
        fresh.quantizer.set_weights(model.quantizer.get_weights())
        fresh.prior = model.prior
    found = measures.measure(name, model, x, progress=False)
    measures.assert_same(found, measures.measure(name, fresh, x, progress=False))
    different = [not np.allclose(found[part], before[part]) for part in found]
    assert any(different) or name == "active_units"


def test_draws_of_a_prior_over_codes_follow_its_weights():
    prior = code_priors.get(
        "transformer", codebook_size=3, num_layers=1, num_heads=1, hidden_size=4
    )
    prior.build((None, 2))
    prior.sample(1)
    layers = prior._flatten_layers()
    dense = next(layer for layer in layers if isinstance(layer, keras.layers.Dense))
    dense.enable_lora(1)
    for weight in dense.trainable_variables:
        weight.assign(tf.fill(weight.shape, 5.0))
    expected = prior.draw(tf.constant([0, 7]), tf.range(20), 0.0)
    np.testing.assert_array_equal(prior.sample(20, seed=7, temperature=0.0), expected)
