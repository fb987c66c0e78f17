import keras
import numpy as np
import pytest
import tensorflow as tf

import tfvae

OPTIONS = {
    "defaults": {},
    "betas and epsilon": {"beta_1": 0.5, "beta_2": np.float64(0.9), "epsilon": 1},
    "weight decay": {"weight_decay": 0.1},
    "clipping": {"clipnorm": 0.1},
    "moving average": {"use_ema": True, "ema_overwrite_frequency": 7},
    "accumulation": {"gradient_accumulation_steps": 3},
    "loss scale": {"loss_scale_factor": 8.0},
    "amsgrad": {"amsgrad": True},
    "schedule": {"learning_rate": keras.optimizers.schedules.CosineDecay(1e-3, 20)},
}


def minimize(optimizer, compiled, dtype="float32", steps=20):
    """Return the variables, and the optimizer's, after steps on a stretched quadratic."""
    start = np.random.default_rng(0).normal(size=(4, 3))
    matrix = keras.Variable(start, dtype=dtype, name="matrix")
    vector = keras.Variable(start[0], dtype=dtype, name="vector")
    optimizer.build([matrix, vector])
    stretch = tf.constant(np.logspace(-3, 1, 3), dtype)

    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(stretch * (matrix.value - 1) ** 2 + stretch * vector.value**2)
            loss = optimizer.scale_loss(loss)
        gradients = tape.gradient(loss, [matrix.value, vector.value])
        optimizer.apply_gradients(zip(gradients, [matrix, vector], strict=True))

    if compiled:
        step = tf.function(step, jit_compile=compiled == "xla")
    for _ in range(steps):
        step()
    return [np.asarray(v) for v in [matrix, vector, *optimizer.variables]]


def assert_equal_updates(ours, theirs):
    """Keras computes 1 − β₂ in double precision, the kernel in single: 5e-5 of the velocities."""
    for a, b in zip(ours[:2], theirs[:2], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    for a, b in zip(ours[2:], theirs[2:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_adam_makes_the_updates_of_keras_in_a_graph(options):
    ours, theirs = (
        minimize(adam(**{"learning_rate": 1e-3, **options}), "graph")
        for adam in (tfvae.optimizers.Adam, keras.optimizers.Adam)
    )
    assert_equal_updates(ours, theirs)


def test_a_subclass_may_choose_the_rate_of_a_variable():
    def of_layers(adam):
        class LayerWise(adam):
            def update_step(self, gradient, variable, learning_rate):
                scale = 0.1 if variable.name.startswith("vector") else 1.0
                return super().update_step(gradient, variable, scale * learning_rate)

        return LayerWise(1e-3)

    ours, theirs = (
        minimize(of_layers(adam), "graph")
        for adam in (tfvae.optimizers.Adam, keras.optimizers.Adam)
    )
    assert_equal_updates(ours, theirs)
    assert np.any(ours[1] != minimize(tfvae.optimizers.Adam(1e-3), "graph")[1])


@pytest.mark.parametrize("compiled", [None, "xla"], ids=["eager", "xla"])
def test_adam_makes_the_updates_of_keras_in_other_modes(compiled):
    ours = minimize(tfvae.optimizers.Adam(1e-3), compiled)
    assert_equal_updates(ours, minimize(keras.optimizers.Adam(1e-3), "graph"))


def test_adam_takes_variables_that_are_not_float32():
    ours, theirs = (
        minimize(adam(0.05), "graph", "float64")
        for adam in (tfvae.optimizers.Adam, keras.optimizers.Adam)
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_adam_takes_the_sparse_gradients_of_an_embedding():
    def train(optimizer, dense):
        table = keras.layers.Embedding(5, 2, embeddings_initializer="ones")
        table.build(None)
        for rows in ([0, 3, 3], [1, 3, 0]):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(table(tf.constant(rows)) ** 2)
            (gradient,) = tape.gradient(loss, table.trainable_variables)
            gradient = tf.convert_to_tensor(gradient) if dense else gradient
            optimizer.apply_gradients([(gradient, table.embeddings)])
        return table.embeddings.numpy()

    # Keras's own path counts one of the two gradients of row 3 if they are not added first.
    expected = train(keras.optimizers.Adam(0.1), dense=True)
    np.testing.assert_allclose(train(tfvae.optimizers.Adam(0.1), False), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["bound", "codes", "prior"])
def test_the_name_adam_is_ours_and_makes_the_steps_of_keras(kind, tmp_path):
    def make(optimizer):
        keras.utils.set_random_seed(0)
        dense = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
        if kind == "prior":
            model = tfvae.code_priors.get("categorical", codebook_size=5)
        elif kind == "bound":
            model = tfvae.VAE(dense, tfvae.networks.dense_decoder(2, (6,), hidden=()))
        else:
            encoder = keras.Sequential([dense, keras.layers.Reshape((2, 2))])
            decoder = keras.Sequential(
                [keras.Input((2, 2)), keras.layers.Flatten(), keras.layers.Dense(6)]
            )
            quantizer = tfvae.quantizers.get("vq", num_embeddings=4, embedding_dim=2)
            model = tfvae.VQVAE(encoder, quantizer, decoder, likelihood="bernoulli")
        model.compile(optimizer, run_eagerly=True)
        for _ in range(3):
            model.train_on_batch(np.random.default_rng(0).integers(0, 2, (8, 6), np.int32))
        return model

    named, keras_s = make("adam"), make(keras.optimizers.Adam())
    assert type(named.optimizer) is tfvae.optimizers.Adam
    for ours, theirs in zip(named.get_weights(), keras_s.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    named.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is tfvae.optimizers.Adam
    assert int(loaded.optimizer.iterations) == 3


def test_config_round_trip_through_keras():
    optimizer = tfvae.optimizers.Adam(0.02, beta_1=0.8, clipnorm=3.0)
    config = keras.saving.serialize_keras_object(optimizer)
    restored = keras.saving.deserialize_keras_object(config)
    assert type(restored) is tfvae.optimizers.Adam
    assert restored.get_config() == optimizer.get_config()


@pytest.mark.parametrize(
    "rate", [0.5, keras.optimizers.schedules.CosineDecay(0.5, 20)], ids=["number", "schedule"]
)
def test_warm_up_rises_to_the_rate_and_leaves_it_alone(rate):
    warm = tfvae.optimizers.WarmUp(rate, 4)
    steps = np.arange(20)
    after = np.array([float(rate(t)) for t in steps]) if callable(rate) else np.full(20, rate)
    expected = after * np.minimum(1, (steps + 1) / 4)
    np.testing.assert_allclose([float(warm(t)) for t in steps], expected, rtol=1e-6)
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(warm))
    np.testing.assert_allclose([float(restored(t)) for t in steps], expected, rtol=1e-6)


def test_warm_up_works_in_an_optimizer_that_is_saved(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(tfvae.optimizers.Adam(tfvae.optimizers.WarmUp(0.1, 10)), "mse")
    model.fit(np.ones((8, 3)), np.zeros((8, 1)), batch_size=4, verbose=0)
    np.testing.assert_allclose(model.optimizer.learning_rate, 0.03, rtol=1e-6)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(loaded.optimizer.learning_rate, 0.03, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_gradients_that_are_not_finite_make_no_step_of_a_layer_s_own_adam(bad):
    layer = keras.layers.Layer()
    weights = [layer.add_weight(shape=(2,), initializer="ones", trainable=False) for _ in "ab"]
    own = tfvae.optimizers.ScaleFreeAdam(layer, weights, 0.1)
    good = [tf.constant([1.0, -2.0]), tf.constant([3.0, 0.5])]
    own.step(good)
    before = [np.asarray(weight) for weight in layer.weights]
    own.step([good[0], tf.constant([bad, 0.5])])
    for weight, expected in zip(layer.weights, before, strict=True):
        np.testing.assert_array_equal(weight, expected)
    own.step(good)
    np.testing.assert_allclose(weights[0], [0.8, 1.2], rtol=1e-4)
