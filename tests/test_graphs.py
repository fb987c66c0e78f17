"""Graphs of a model: measures are of the parts that it has now, and let go of it."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
import test_evaluation_conditions as measures
from tiers import nightly_but

import tfvae
from tfvae import code_priors, networks
from tfvae.errors import InvalidArgument
from tfvae.graphs import in_graph

X = np.float32([[1, 0, 1], [0, 0, 1]])
# Measures of each kind of latent and of each way to compute one: sums, samples, gradients.
QUICK = (
    ("active_units", "normal"),
    ("code_log_likelihood", "codes"),
    ("code_measures", "codes"),
    ("exact_log_likelihood", "bits"),
    ("fit_posterior", "bits"),
    ("log_likelihood", "normal"),
    ("posterior_means", "normal"),
)


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


@pytest.fixture(scope="module")
def measured():
    model = vae()
    return model, log_p(model)


@pytest.mark.parametrize("name", ["encoder", "decoder", "prior", "posterior", "likelihood"])
def test_a_part_of_a_model_that_is_built_is_not_replaced(measured, name):
    (model, before), other = measured, vae()
    part = getattr(model, name)
    with pytest.raises(InvalidArgument, match=f"`{name}` cannot be replaced.*another model"):
        setattr(model, name, getattr(other, name))
    assert getattr(model, name) is part
    setattr(model, name, part)
    np.testing.assert_array_equal(log_p(model), before)


def test_layers_of_a_chain_are_not_replaced():
    encoders = [networks.dense_encoder((n,), 2 * m, hidden=()) for n, m in ((3, 2), (2, 2))]
    decoders = [networks.dense_decoder(2, (m,), hidden=()) for m in (3, 4)]
    model = tfvae.HierarchicalVAE(encoders, decoders)
    with pytest.raises(TypeError):
        model.decoders[0] = decoders[0]
    with pytest.raises(InvalidArgument, match="`decoders` cannot be replaced"):
        model.decoders = decoders


def test_a_subclass_may_have_layers_of_its_own_which_it_sets_when_it_likes():
    class Own(tfvae.VAE):
        def build(self, input_shape):
            self.extra = keras.layers.Dense(2)
            self.extra.build((None, 3))
            super().build(input_shape)

    encoder = networks.dense_encoder((3,), 4, hidden=())
    model = Own(encoder, networks.dense_decoder(2, (3,), hidden=()))
    extra = model.extra
    assert len(model.weights) == len(vae().weights) + 2
    log_p(model)
    assert model.extra is extra


def test_what_is_frozen_of_a_subclass_with_few_arguments_stays_so(tmp_path):
    @keras.saving.register_keras_serializable("test")
    class Few(tfvae.VAE):
        def __init__(self, encoder, decoder, name=None):
            super().__init__(encoder, decoder, name=name)

        def get_config(self):
            kept = ("encoder", "decoder", "name", "trainable")
            return {k: v for k, v in super().get_config().items() if k in kept}

    encoder = networks.dense_encoder((3,), 4, hidden=())
    model = Few(encoder, networks.dense_decoder(2, (3,), hidden=()))
    model.trainable = False
    model.save(tmp_path / "few.keras")
    again = keras.saving.load_model(tmp_path / "few.keras")
    assert again.trainable_variables == []
    np.testing.assert_array_equal(log_p(again), log_p(model))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), nightly_but(measures.CASES, *QUICK))
def test_all_measures_are_of_the_weights_that_the_model_has_now(name, kind):
    """A kernel with LoRA is K + A B, and a model with that kernel has the same measures."""
    x = measures.incomplete(name, kind)
    networks_of = measures.dense_networks(kind)
    model = measures.model_of(kind, *networks_of)
    before = measures.measure(name, model, x, progress=False)
    rng = np.random.default_rng(5)
    others = measures.dense_networks(kind)
    for network, other in zip(networks_of, others, strict=True):
        other.set_weights(network.get_weights())
        for layer, twin in zip(network.layers, other.layers, strict=True):
            if isinstance(layer, keras.layers.Dense):
                layer.enable_lora(1)
                for weight in (layer.lora_kernel_a, layer.lora_kernel_b):
                    weight.assign(rng.normal(size=weight.shape))
                twin.kernel.assign(layer.kernel)
    fresh = measures.model_of(kind, *others)
    if kind == "codes":
        fresh.quantizer.set_weights(model.quantizer.get_weights())
        fresh.prior = model.prior
    else:
        for part in ("prior", "posterior", "likelihood"):
            getattr(fresh, part).set_weights(getattr(model, part).get_weights())
    found = measures.measure(name, model, x, progress=False)
    measures.assert_same(found, measures.measure(name, fresh, x, progress=False))
    different = [not np.allclose(found[part], before[part]) for part in found]
    assert any(different) or name == "active_units"


def test_measures_are_of_the_prior_over_codes_that_the_model_has_now():
    model = measures.model_of("codes", *measures.dense_networks("codes"))
    x = measures.examples("codes")
    before = tfvae.log_likelihood(model, x, progress=False).per_example
    model.prior = code_priors.CategoricalCodePrior(4)
    model.prior.set_weights(
        [w + np.arange(w.size).reshape(w.shape) for w in model.prior.get_weights()]
    )
    found = tfvae.log_likelihood(model, x, progress=False).per_example
    assert not np.allclose(found, before)
    twin = model.copy()
    np.testing.assert_allclose(found, tfvae.log_likelihood(twin, x, progress=False).per_example)


def test_draws_of_a_prior_over_codes_follow_its_weights():
    prior = code_priors.get(
        "transformer", codebook_size=3, num_layers=1, num_heads=1, hidden_size=4
    )
    prior.build((None, 1))
    prior.sample(1)
    layers = prior._flatten_layers()
    dense = next(layer for layer in layers if isinstance(layer, keras.layers.Dense))
    dense.enable_lora(1)
    for weight in dense.trainable_variables:
        weight.assign(tf.fill(weight.shape, 5.0))
    expected = prior.draw(tf.constant([0, 7]), tf.range(20), 0.0)
    np.testing.assert_array_equal(prior.sample(20, seed=7, temperature=0.0), expected)
