"""The noise of Keras's own random layers: a function of (seed, step, replica) in training."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiers import nightly_but

import tfvae

pytestmark = pytest.mark.slow  # Compiles graphs of whole models.

X = np.random.default_rng(0).integers(0, 2, (24, 6)).astype(np.float32)


@keras.saving.register_keras_serializable("test")
class OwnNoise(keras.layers.Layer):
    """A layer of a user's own, that draws with a generator."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator()

    def call(self, x, training=False):
        return x + keras.random.normal(tf.shape(x), seed=self.generator) if training else x


def make(noisy=True, seed=3, **compiled):
    """Return a VAE with three random layers; Keras's seed decides its initial weights."""
    layers = [keras.layers.Dropout(0.5), keras.layers.GaussianNoise(0.3), OwnNoise()]
    encoder = [*(layers if noisy else []), keras.layers.Dense(4)]
    model = tfvae.VAE(
        keras.Sequential([keras.Input((6,)), *encoder]),
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(6)]),
        seed=seed,
    )
    model.compile(keras.optimizers.SGD(0.1), **compiled)
    return model


def train(model, epochs=1):
    model.fit(X, batch_size=4, epochs=epochs, shuffle=False, verbose=0)
    return np.concatenate([np.ravel(weight) for weight in model.weights])


def states(model):
    """Return the states of all generators."""
    return [
        tuple(generator.state.numpy())
        for layer in model._flatten_layers()
        for generator in layer._seed_generators
    ]


@pytest.mark.parametrize(
    "compiled",
    nightly_but(
        [{}, {"steps_per_execution": 3}, {"run_eagerly": True}, {"jit_compile": True}],
        {"run_eagerly": True},
    ),
    ids=str,
)
def test_a_copy_and_a_loaded_model_go_on_with_the_same_masks(compiled, tmp_path):
    model = make(**compiled)
    train(model)
    model.save(tmp_path / "model.keras")
    twin = model.copy()
    twin.compile(keras.optimizers.SGD(0.1), **compiled)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.run_eagerly = model.run_eagerly  # a file does not keep it
    loaded.predict(X, verbose=0)
    expected = train(model)
    np.testing.assert_array_equal(train(twin), expected)
    np.testing.assert_array_equal(train(loaded), expected)


@pytest.mark.parametrize(
    "compiled", nightly_but([{}, {"steps_per_execution": 6}], {"steps_per_execution": 6}), ids=str
)
def test_the_masks_are_the_same_in_every_mode(compiled):
    keras.utils.set_random_seed(1)
    eager = make(run_eagerly=True)
    train(eager)
    keras.utils.set_random_seed(1)
    model = make(**compiled)
    train(model)
    for weight, expected in zip(model.weights, eager.weights, strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-4, atol=1e-5)


def test_every_layer_step_and_seed_has_a_mask_of_its_own():
    seen = []
    for seed in (3, 4):
        model = make(seed=seed, run_eagerly=True)
        for _ in range(2):
            model.train_on_batch(X[:4])
            seen += states(model)
    assert len(seen) == len(set(seen)) == 12


def test_nothing_is_added_to_the_graph_without_random_layers():
    for noisy in (False, True):
        model = make(noisy=noisy)
        graph = tf.function(model.seed_layers).get_concrete_function(model.seed).graph
        assert bool(graph.get_operations()) == noisy


def with_several_layers(kind):
    """Return a model of two stochastic layers, with dropout in all of its networks."""
    if kind == "ladder":
        networks = tfvae.networks.dense_ladder((6,), (6,), (3, 2), 8, dropout=0.5)
        return tfvae.LadderVAE(*networks)
    drop = keras.layers.Dropout(0.5)  # networks may share a generator

    def network(size, outputs):
        dense = [keras.layers.Dense(8, "tanh"), drop, keras.layers.Dense(outputs)]
        return keras.Sequential([keras.Input((size,)), *dense])

    return tfvae.HierarchicalVAE([network(6, 6), network(3, 4)], [network(3, 6), network(2, 6)])


@pytest.mark.parametrize("kind", ["ladder", "hierarchical"])
def test_layers_that_are_replayed_in_a_step_have_the_q_they_were_drawn_from(kind):
    model = with_several_layers(kind)
    model.seed_layers(5)
    infer = model.inference(X[:4], training=True)
    drawn = infer(tfvae.joint.sampler(3, tf.constant([1, 2])))
    again = infer(tfvae.joint.replay(drawn.z))
    np.testing.assert_allclose(again.log_q(), drawn.log_q(), rtol=1e-6)
    np.testing.assert_allclose(again.log_p(), drawn.log_p(), rtol=1e-6)
    np.testing.assert_allclose(again.log_likelihood, drawn.log_likelihood, rtol=1e-6)
    other = model.inference(X[:4], training=True)(tfvae.joint.replay(drawn.z))
    assert np.max(np.abs(other.log_q() - drawn.log_q())) > 1e-3


def test_a_prior_over_codes_has_them_too():
    class Noisy(tfvae.code_priors.CategoricalCodePrior):
        def build(self, input_shape):
            super().build(input_shape)
            self.drop = keras.layers.Dropout(0.5)

        def network(self, codes, classes, dropout):
            return self.drop(super().network(codes, classes, dropout), training=True)

    tables = []
    for _ in range(2):
        prior = Noisy(5)
        prior.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
        prior.fit(np.arange(10).reshape(5, 2) % 5, epochs=2, shuffle=False, verbose=0)
        tables.append(prior.table.numpy())
    assert np.any(tables[0])
    np.testing.assert_array_equal(*tables)
