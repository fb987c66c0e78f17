"""Every quantizer keeps one contract, and each does what its paper says, by NumPy."""

import json

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from tfvae import quantizers
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.quantizers import (
    EMAVectorQuantizer,
    FiniteScalarQuantizer,
    GumbelSoftmaxQuantizer,
    LookupFreeQuantizer,
    ProductQuantizer,
    ResidualQuantizer,
    SimVQ,
    VectorQuantizer,
)

D = 4
CASES = {
    "vq": lambda: VectorQuantizer(7, D),
    "vq cosine": lambda: VectorQuantizer(7, D, similarity="cosine"),
    "vq rotation": lambda: VectorQuantizer(7, D, gradient="rotation"),
    "vq revived": lambda: VectorQuantizer(7, D, threshold_ema_dead_code=2.0, seed=3),
    "vq k-means": lambda: VectorQuantizer(7, D, initializer="kmeans"),
    "ema": lambda: EMAVectorQuantizer(7, D, decay=0.9),
    "ema cosine": lambda: EMAVectorQuantizer(7, D, similarity="cosine", initializer="he_normal"),
    "ema revived": lambda: EMAVectorQuantizer(7, D, threshold_ema_dead_code=2.0, seed=3),
    "residual": lambda: ResidualQuantizer(VectorQuantizer(7, D), 3),
    "residual dropout": lambda: ResidualQuantizer(EMAVectorQuantizer(7, D), 3, dropout=0.9),
    "residual fsq": lambda: ResidualQuantizer(FiniteScalarQuantizer((3, 4, 2, 5)), 2),
    "product": lambda: ProductQuantizer(EMAVectorQuantizer(7, D // 2), 2, seed=5),
    "fsq": lambda: FiniteScalarQuantizer((8, 5, 2, 5)),
    "lfq": lambda: LookupFreeQuantizer(D),
    "gumbel": lambda: GumbelSoftmaxQuantizer(7, D, kl_weight=0.1),
    "simvq": lambda: SimVQ(7, D),
}


@pytest.fixture(params=CASES)
def make(request):
    """Return a function that makes one quantizer, always with the same weights."""

    def build():
        quantizer = CASES[request.param]()
        quantizer.build((None, D))
        rng = np.random.default_rng(2)
        for weight in quantizer.weights:
            if weight.path.rpartition("/")[2] in ("table", "map"):
                weight.assign(rng.normal(size=weight.shape))
        return quantizer

    return build


@pytest.fixture
def z(rng):
    """Return vectors `[2, 5, 6, D]`."""
    return rng.normal(size=(2, 5, 6, D)).astype(np.float32)


def assert_same_weights(actual, expected, **tolerance):
    assert len(actual.weights) == len(expected.weights)
    for a, b in zip(actual.weights, expected.weights, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), **(tolerance or {"rtol": 0}))


def expected_codes(quantizer, z):
    """Return the codes of vectors `[N, D]` by the definition of the quantizer, in float64."""
    if isinstance(quantizer, ResidualQuantizer):
        codes = []
        for part in quantizer.parts:
            codes.append(expected_codes(part, z))
            z = z - part.lookup(codes[-1]).numpy()
        return np.stack(codes, axis=-1)
    if isinstance(quantizer, ProductQuantizer):
        pieces = np.split(z, quantizer.num_heads, axis=-1)
        pairs = zip(quantizer.parts, pieces, strict=True)
        return np.stack([expected_codes(*pair) for pair in pairs], axis=-1)
    if isinstance(quantizer, FiniteScalarQuantizer):
        z = np.tanh(z)
    if getattr(quantizer, "similarity", None) == "cosine":
        z = z / np.linalg.norm(z, axis=-1, keepdims=True)
    rows = quantizer.lookup(np.arange(quantizer.codebook_size)).numpy().astype(np.float64)
    return np.argmin(np.sum((z[:, np.newaxis] - rows) ** 2, axis=-1), axis=-1)


def autoencoder(quantizer):
    """Return a Keras model of any image size: reconstruction, codes and the quantizer's loss."""
    inputs = keras.Input((None, None, D))
    quantized = quantizer(keras.layers.Dense(D)(inputs))
    outputs = keras.layers.Dense(D)(quantized.vectors)
    return keras.Model(inputs, [outputs, quantized.codes, quantized.loss])


class TestEveryQuantizer:
    def test_takes_the_nearest_codes(self, make, z):
        quantizer = make()
        codes = quantizer(z).codes
        expected = expected_codes(quantizer, z.reshape(-1, D).astype(np.float64))
        np.testing.assert_array_equal(codes, expected.reshape(codes.shape))
        assert len(np.unique(codes)) > 1
        assert codes.dtype == tf.int32

    def test_vectors_are_exactly_those_of_the_codes(self, make, z):
        quantizer = make()
        quantized = quantizer(z)
        np.testing.assert_array_equal(quantized.vectors, quantizer.lookup(quantized.codes))

    def test_vectors_of_a_training_call_are_those_of_the_state_before(self, make, z):
        quantizer, before = make(), make()
        quantized = quantizer(z, training=True)
        np.testing.assert_array_equal(quantized.vectors, before.lookup(quantized.codes))

    def test_any_leading_shape_gives_the_same(self, make, z):
        quantizer = make()
        flat = quantizer(z.reshape(-1, D))
        whole = quantizer(z)
        alone = quantizer(z[1, 2, 3])
        place = 30 + 2 * 6 + 3
        trailing = {"vectors": (D,), "codes": quantizer.codes_per_vector, "loss": ()}
        for name, part in whole._asdict().items():
            assert part.shape == (2, 5, 6, *trailing[name])
            rows = getattr(flat, name).numpy()
            np.testing.assert_array_equal(part, rows.reshape(part.shape))
            if name != "loss" or not isinstance(quantizer, LookupFreeQuantizer):
                np.testing.assert_allclose(getattr(alone, name), rows[place], rtol=1e-5, atol=1e-6)
        assert quantizer.code_shape((5, 6, D)) == whole.codes.shape[1:]
        assert [part.shape[0] for part in quantizer(np.zeros((0, D), np.float32))] == [0, 0, 0]

    def test_unknown_leading_axes(self, make, z):
        quantizer = make()
        call = tf.function(quantizer, input_signature=[tf.TensorSpec([None] * 3 + [D])])
        for size in (2, 1):
            for actual, expected in zip(call(z[:size]), quantizer(z[:size]), strict=True):
                np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)

    def test_loss_of_a_batch_is_that_of_its_parts(self, make, z):
        """The diversity of "lfq" is that of a batch, and left out."""
        quantizer = make()
        if isinstance(quantizer, LookupFreeQuantizer):
            quantizer.diversity_gamma = 0.0
        parts = tf.concat([quantizer(z[:1]).loss, quantizer(z[1:]).loss], axis=0)
        np.testing.assert_allclose(quantizer(z).loss, parts, rtol=1e-5, atol=1e-6)

    def test_state_changes_in_training_alone(self, make, z):
        quantizer, before = make(), make()
        quantizer(z)
        quantizer(z, training=False)
        assert_same_weights(quantizer, before)
        quantizer(z, training=True)
        if quantizer.step is not None:
            assert int(quantizer.step) == 1

    def test_training_is_the_same_in_every_mode(self, make, z, mode):
        quantizer, other = make(), make()
        call = mode(lambda z: quantizer(z, training=True))
        for _ in range(2):
            for actual, expected in zip(call(z), other(z, training=True), strict=True):
                np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
        assert_same_weights(quantizer, other, rtol=1e-5, atol=1e-6)

    def test_half_precision_gives_the_codes_of_float32(self, make, z):
        keras.config.set_dtype_policy("mixed_bfloat16")
        quantizer = make()
        half = tf.cast(z, tf.bfloat16)
        quantized = quantizer(half)
        for actual, expected in zip(quantized, quantizer(tf.cast(half, "float32")), strict=True):
            np.testing.assert_array_equal(actual, expected)
        assert quantized.vectors.dtype == quantized.loss.dtype == tf.float32
        assert {w.dtype for w in quantizer.weights} <= {"float32", "int64", "int32"}

    def test_config_round_trip(self, make, z):
        quantizer = make()
        config = keras.saving.serialize_keras_object(quantizer)
        json.dumps(config)
        twin = keras.saving.deserialize_keras_object(config)
        assert twin.get_config() == quantizer.get_config()
        twin.ensure_built()
        twin.set_weights(quantizer.get_weights())
        for actual, expected in zip(twin(z), quantizer(z), strict=True):
            np.testing.assert_array_equal(actual, expected)

    def test_saved_in_a_model(self, make, z, tmp_path):
        quantizer = make()
        model = autoencoder(quantizer)
        quantizer.initialize(z)
        model(z, training=True)
        model.save(tmp_path / "model.keras")
        restored = keras.saving.load_model(tmp_path / "model.keras")
        assert_same_weights(restored, model)
        for actual, expected in zip(restored(z), model(z), strict=True):
            np.testing.assert_array_equal(actual, expected)
        own = next(layer for layer in restored.layers if isinstance(layer, quantizers.Quantizer))
        assert not own.needs_data

    def test_trains_in_a_model(self, make, z):
        quantizer = make()
        model = autoencoder(quantizer)
        before = [w.numpy().copy() for w in model.trainable_weights]
        data = tf.data.Dataset.from_tensors((z, (z, z[..., 0], z[..., 0]))).repeat(4)
        model.compile(
            "adam",
            ["mse", None, lambda _, loss: tf.reduce_mean(loss)],
            steps_per_execution=2,
        )
        history = model.fit(data, epochs=1, verbose=0).history
        assert np.isfinite(history["loss"][0])
        for weight, start in zip(model.trainable_weights, before, strict=True):
            assert np.any(weight.numpy() != start), weight.path
        if quantizer.step is not None:
            assert int(quantizer.step) == 4

    def test_lookup_needs_no_call_before(self, make):
        fresh = type(make()).from_config(make().get_config())
        codes = np.zeros((3, *fresh.codes_per_vector), np.int32)
        assert fresh.lookup(codes).shape == (3, D)
        fresh(np.zeros((2, D), np.float32), training=True)
        assert [w.shape for w in fresh.weights] == [w.shape for w in make().weights]

    def test_refuses_vectors_of_another_size(self, make):
        for quantizer in (make(), type(make()).from_config(make().get_config())):
            with pytest.raises(InvalidArgument, match=r"shape \(3, 5\).*embedding_dim = 4"):
                quantizer(np.zeros((3, D + 1), np.float32))

    def test_refuses_what_is_not_a_code(self, make):
        quantizer = make()
        size = quantizer.codebook_size
        good = np.zeros((2, 3, *quantizer.codes_per_vector), np.int64)
        quantizer.check_codes(good)
        quantizer.check_codes(good[:0])
        with pytest.raises(InvalidData, match=f"from 0 to {size}; expected 0 to {size - 1}"):
            quantizer.check_codes(np.where(np.arange(good.size).reshape(good.shape), 0, size))
        with pytest.raises(InvalidData, match=f"from -1 to -1; expected 0 to {size - 1}"):
            quantizer.check_codes(good - 1)
        with pytest.raises(InvalidData, match="float64"):
            quantizer.check_codes(good.astype(float))
        if quantizer.codes_per_vector:
            with pytest.raises(InvalidData, match="last axis"):
                quantizer.check_codes(good[..., :1])
