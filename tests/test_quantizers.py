"""Every quantizer keeps one contract, and each does what its paper says, by NumPy."""

import functools
import json

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from tiers import nightly_but

from tfvae import quantizers, random
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
    usage,
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


# Each kind, and each of what one may do besides; the rest of the cases join two of these.
QUICK = (
    *("vq", "vq cosine", "vq revived", "ema", "ema revived", "residual dropout", "product"),
    *("fsq", "lfq", "gumbel", "simvq"),
)
WITH_A_STATE = ["vq k-means", "ema revived", "residual dropout", "product"]


def with_weights(name):
    """Return the quantizer of a case, always with the same weights."""
    quantizer = CASES[name]()
    quantizer.build((None, D))
    rng = np.random.default_rng(2)
    for weight in quantizer.weights:
        if weight.path.rpartition("/")[2] in ("table", "map"):
            weight.assign(rng.normal(size=weight.shape))
    return quantizer


@pytest.fixture(params=nightly_but(CASES, *QUICK))
def make(request):
    """Return a function that makes one quantizer, always with the same weights."""
    return functools.partial(with_weights, request.param)


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


@pytest.mark.parametrize(
    "kind", nightly_but([VectorQuantizer, EMAVectorQuantizer], EMAVectorQuantizer)
)
@pytest.mark.slow
def test_dead_codes_get_the_same_vectors_under_xla(kind, z):
    """In steps with the seed 2, a word of the seed is negative, which XLA extends otherwise."""
    quantizers = [kind(7, D, threshold_ema_dead_code=20.0, seed=2) for _ in range(2)]
    for quantizer in quantizers:
        quantizer.build((None, D))
        quantizer.table.assign(np.linspace(-2, 2, 7 * D).reshape(7, D))
    plain, compiled = quantizers
    call = tf.function(lambda z: compiled(z, training=True), jit_compile=True, autograph=False)
    for _ in range(5):
        before = plain.table.numpy()
        plain(z, training=True)
        call(z)
        assert np.any(plain.table.numpy() != before)
        assert_same_weights(compiled, plain, rtol=1e-5, atol=1e-6)


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

    @pytest.mark.parametrize(
        "make",
        # All quantizers have the axes from one base class, and are trained in graphs elsewhere.
        nightly_but(CASES, "vq cosine", "residual dropout", "product", "fsq", "lfq", "gumbel"),
        indirect=True,
    )
    def test_unknown_leading_axes(self, make, z):
        quantizer = make()
        call = tf.function(
            quantizer, input_signature=[tf.TensorSpec([None] * 3 + [D])], autograph=False
        )
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

    def test_an_update_that_is_not_active_changes_nothing(self, make, z):
        quantizer, before, after = make(), make(), make()
        flat = tf.reshape(z, [-1, D])
        codes = quantizer.quantize_flat(flat, True).codes
        quantizer.update(flat, codes, active=tf.constant(False))
        assert_same_weights(quantizer, before)
        quantizer.update(flat, codes, active=tf.constant(True))
        after(z, training=True)
        assert_same_weights(quantizer, after)

    @pytest.mark.parametrize(
        "make",
        # Moving averages, dead codes and all that is made of several quantizers take XLA longest;
        # the former are in the test above, and the latter's parts are here. Rotation, rounding,
        # signs and the map of a table are operations without noise and without a state.
        nightly_but(
            [n for n in CASES if n not in ("vq", "vq cosine", "vq k-means", "ema revived")],
            "gumbel",
        ),
        indirect=True,
    )
    @pytest.mark.slow
    def test_training_under_xla_is_the_same(self, make, z):
        """Over several steps: with one draw that differs, codes and tables would drift apart."""
        quantizer, other = make(), make()
        call = tf.function(lambda z: quantizer(z, training=True), jit_compile=True, autograph=False)
        for _ in range(5):
            for actual, expected in zip(call(z), other(z, training=True), strict=True):
                np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
        assert_same_weights(quantizer, other, rtol=1e-5, atol=1e-6)

    def test_half_precision_gives_the_codes_of_float32(self, make, z):
        reference = make()
        keras.config.set_dtype_policy("mixed_bfloat16")
        quantizer = make()
        for inputs in (tf.cast(z, tf.bfloat16), z):
            quantized = quantizer(inputs)
            expected = reference(tf.cast(inputs, tf.float32))
            for actual, wanted in zip(quantized, expected, strict=True):
                np.testing.assert_array_equal(actual, wanted)
                assert actual.dtype == wanted.dtype
        assert {w.dtype for w in quantizer.weights} <= {"float32", "int64", "int32"}

    def test_lookup_inside_a_layer_of_half_precision(self, make, z):
        quantizer = make()
        codes = quantizer(z).codes

        class Decoder(keras.layers.Layer):
            def call(self, codes):
                return quantizer.lookup(codes)

        inside = Decoder(dtype="mixed_bfloat16")(codes)
        np.testing.assert_array_equal(inside, quantizer.lookup(codes))
        assert inside.dtype == tf.float32

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

    @pytest.mark.parametrize(
        "names",
        nightly_but([list(CASES), WITH_A_STATE], WITH_A_STATE),
        ids=["all", "some"],
    )
    def test_saved_in_a_model(self, names, z, tmp_path):
        """All of them in one, side by side; every time some that have a state."""
        own = {name: with_weights(name) for name in names}
        inputs = keras.Input((None, None, D))
        hidden = keras.layers.Dense(D)(inputs)
        outputs = [list(quantizer(hidden)) for quantizer in own.values()]
        model = keras.Model(inputs, outputs)
        for quantizer in own.values():
            quantizer.initialize(z)
        model(z, training=True)
        model.save(tmp_path / "model.keras")
        restored = keras.saving.load_model(tmp_path / "model.keras")
        pairs = zip(own.items(), restored(z), model(z), strict=True)
        for (name, quantizer), found, wanted in pairs:
            again = restored.get_layer(quantizer.name)
            assert type(again) is type(quantizer)
            assert_same_weights(again, quantizer)
            for actual, expected in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(actual, expected, err_msg=name)
            assert not again.needs_data
        assert_same_weights(restored, model)

    @pytest.mark.parametrize(
        "make",
        # Training of the others in a model is that of a VQVAE, in test_vqvae.
        nightly_but(["vq revived", "residual dropout", "gumbel", "simvq"], "vq revived"),
        indirect=True,
    )
    @pytest.mark.slow
    def test_trains_in_a_model(self, make, z):
        quantizer = make()
        model = autoencoder(quantizer)
        before = [w.numpy().copy() for w in model.trainable_weights]
        data = tf.data.Dataset.from_tensors((z, (z, z[..., 0], z[..., 0]))).repeat(4)
        losses = ["mse", None, lambda _, loss: tf.reduce_mean(loss)]
        model.compile("adam", losses, run_eagerly=True)
        history = model.fit(data, shuffle=False, verbose=0).history
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
        with pytest.raises(
            InvalidData, match=f"from 0 to {size}; expected whole numbers from 0 to {size - 1}"
        ):
            quantizer.check_codes(np.where(np.arange(good.size).reshape(good.shape), 0, size))
        with pytest.raises(
            InvalidData, match=f"from -1 to -1; expected whole numbers from 0 to {size - 1}"
        ):
            quantizer.check_codes(good - 1)
        with pytest.raises(InvalidData, match="float64"):
            quantizer.check_codes(good.astype(float))
        if quantizer.codes_per_vector:
            with pytest.raises(InvalidData, match="last axis"):
                quantizer.check_codes(good[..., :1])


def gradients_of(function, *sources):
    """Return the gradients of a scalar function, 0 where it does not depend on a source."""
    with tf.GradientTape() as tape:
        for source in sources:
            if isinstance(source, tf.Tensor):
                tape.watch(source)
        value = function()
    zero = tf.UnconnectedGradients.ZERO
    sources = [getattr(source, "value", source) for source in sources]
    gradients = tape.gradient(value, sources, unconnected_gradients=zero)
    return [tf.convert_to_tensor(g).numpy() for g in gradients]


def filled(quantizer, rng, scale=1.0):
    """Return a quantizer that is built, its table drawn from a normal distribution."""
    quantizer.build((None, quantizer.embedding_dim))
    quantizer.table.assign(scale * rng.normal(size=quantizer.table.shape))
    return quantizer


class TestGradients:
    @pytest.mark.parametrize("name", ["vq", "ema", "simvq", "lfq", "residual", "product"])
    def test_straight_through_copies_that_of_the_vectors(self, name, z, rng):
        quantizer = CASES[name]()
        z = tf.constant(z)
        weights = tf.constant(rng.normal(size=z.shape), tf.float32)

        def decoder(vectors):
            return tf.reduce_sum(tf.sin(vectors) * weights)

        at_input, *own = gradients_of(
            lambda: decoder(quantizer(z).vectors), z, *quantizer.trainable_variables
        )
        values = tf.stop_gradient(quantizer(z).vectors)
        (at_values,) = gradients_of(lambda: decoder(values), values)
        np.testing.assert_array_equal(at_input, at_values)
        quantizer(z)
        for gradient in gradients_of(
            lambda: decoder(quantizer(z).vectors), *quantizer.trainable_variables
        ):
            np.testing.assert_array_equal(gradient, 0)
        assert not own

    def test_rotation_turns_the_gradient_as_it_turns_the_vector(self, rng):
        z, q, g = rng.normal(size=(3, 10, D))
        z32, q32, g32 = (tf.constant(array, tf.float32) for array in (z, q, g))
        np.testing.assert_array_equal(quantizers.rotation(z32, q32), q32)
        actual = gradients_of(lambda: tf.reduce_sum(quantizers.rotation(z32, q32) * g32), z32, q32)
        expected = [_rotation(*pair).T @ g_n for *pair, g_n in zip(z, q, g, strict=True)]
        np.testing.assert_allclose(actual[0], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(actual[1], 0)

    def test_rotation_of_opposite_and_of_no_directions(self):
        z = tf.constant([[1.0, 2.0], [0.0, 0.0]])
        q = tf.constant([[-2.0, -4.0], [1.0, 0.0]])
        out = lambda: quantizers.rotation(z, q)  # noqa: E731
        np.testing.assert_array_equal(out(), q)
        (gradient,) = gradients_of(lambda: tf.reduce_sum(out() * q), z)
        np.testing.assert_allclose(gradient, [[4.0, 8.0], [0.0, 0.0]], rtol=1e-5)

    def test_terms_of_the_loss_reach_one_side_each(self, z, rng):
        quantizer = filled(VectorQuantizer(7, D, commitment_cost=0.3), rng)
        z = tf.constant(z)
        values = quantizer.lookup(quantizer(z).codes)
        to_z, to_table = gradients_of(lambda: tf.reduce_sum(quantizer(z).loss), z, quantizer.table)
        np.testing.assert_allclose(to_z, 0.3 * 2 * (z - values), rtol=1e-5)
        flat, codes = z.numpy().reshape(-1, D), quantizer(z).codes.numpy().ravel()
        expected = np.zeros((7, D))
        np.add.at(expected, codes, 2 * (values.numpy().reshape(-1, D) - flat))
        np.testing.assert_allclose(to_table, expected, rtol=1e-4, atol=1e-5)
        squares = np.sum((z - values) ** 2, axis=-1)
        np.testing.assert_allclose(quantizer(z).loss, 1.3 * squares, rtol=1e-5)

    def test_cosine_compares_vectors_of_length_one(self, z, rng):
        quantizer = filled(VectorQuantizer(7, D, similarity="cosine"), rng)
        unit = z / np.linalg.norm(z, axis=-1, keepdims=True)
        quantized = quantizer(z)
        np.testing.assert_allclose(np.linalg.norm(quantized.vectors, axis=-1), 1, rtol=1e-5)
        expected = 1.25 * np.sum((unit - quantized.vectors) ** 2, axis=-1)
        np.testing.assert_allclose(quantized.loss, expected, rtol=1e-4, atol=1e-6)

    def test_ema_has_commitment_alone(self, z, rng):
        quantizer = filled(EMAVectorQuantizer(7, D), rng)
        squares = np.sum((z - quantizer(z).vectors) ** 2, axis=-1)
        np.testing.assert_allclose(quantizer(z).loss, 0.25 * squares, rtol=1e-5)
        assert not quantizer.trainable_variables

    def test_simvq_trains_its_map_alone(self, z, rng):
        quantizer = filled(SimVQ(7, D), rng)
        assert [w.path.rpartition("/")[2] for w in quantizer.trainable_variables] == ["map"]
        table = quantizer.table.numpy()
        np.testing.assert_array_equal(quantizer.codebook(), table)
        quantizer.map.assign(rng.normal(size=(D, D)))
        np.testing.assert_allclose(
            quantizer.codebook(), table @ quantizer.map.numpy(), rtol=1e-4, atol=1e-5
        )
        z = tf.constant(z)
        (actual,) = gradients_of(lambda: tf.reduce_sum(quantizer(z).loss), quantizer.map)
        rows = table[quantizer(z).codes.numpy().ravel()]
        off = quantizer(z).vectors.numpy().reshape(-1, D) - z.numpy().reshape(-1, D)
        np.testing.assert_allclose(actual, 2 * rows.T @ off, rtol=1e-3, atol=1e-4)

    def test_simvq_scales_its_rows_to_length_one_for_cosine(self, z, rng):
        quantizer = filled(SimVQ(7, D, similarity="cosine"), rng)
        quantizer.map.assign(rng.normal(size=(D, D)))
        rows = quantizer.table.numpy() @ quantizer.map.numpy()
        rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
        np.testing.assert_allclose(quantizer.codebook(), rows, rtol=1e-4, atol=1e-5)
        unit = z / np.linalg.norm(z, axis=-1, keepdims=True)
        codes = np.argmax(unit @ rows.T, axis=-1)
        np.testing.assert_array_equal(quantizer(z).codes, codes)


def _rotation(z, q):
    """Return the matrix that turns and scales z into q, by two reflections in NumPy."""
    start, end = z / np.linalg.norm(z), q / np.linalg.norm(q)
    middle = (start + end) / np.linalg.norm(start + end)
    reflect = lambda v: np.eye(len(v)) - 2 * np.outer(v, v)  # noqa: E731
    matrix = reflect(middle) @ reflect(start)
    np.testing.assert_allclose(matrix @ start, end, atol=1e-12)
    return matrix * np.linalg.norm(q) / np.linalg.norm(z)


class TestMovingAverages:
    @pytest.mark.parametrize("epsilon", [0.0, 1e-5, 0.5])
    def test_equal_a_recomputation(self, epsilon, rng):
        size, decay, batches = 6, 0.9, 50
        quantizer = filled(EMAVectorQuantizer(size, 3, decay=decay, epsilon=epsilon), rng)
        # Far from everything: never used.
        quantizer.table.assign(np.concatenate([quantizer.table[:-1], np.full((1, 3), 100.0)]))
        table = quantizer.table.numpy().astype(np.float64)
        counts, sums, debias = np.zeros(size), np.zeros((size, 3)), 0.0
        train = tf.function(lambda z: quantizer(z, training=True), autograph=False)
        for _ in range(batches):
            z = rng.normal(size=(20, 3)).astype(np.float32)
            hot = np.eye(size)[np.argmin(np.sum((z[:, None] - table) ** 2, -1), -1)]
            codes = train(z).codes
            np.testing.assert_array_equal(codes, np.argmax(hot, axis=-1))
            counts = decay * counts + (1 - decay) * hot.sum(axis=0)
            sums = decay * sums + (1 - decay) * hot.T @ z
            debias = decay * debias + (1 - decay)
            n = counts / debias
            smoothed = (n + epsilon) / (n.sum() + size * epsilon) * n.sum()
            used = n > 0
            table[used] = (sums / debias)[used] / smoothed[used, None]
        np.testing.assert_allclose(quantizer.counts, counts / debias, rtol=1e-4)
        np.testing.assert_allclose(quantizer.sums, sums / debias, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(quantizer.table, table, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(quantizer.table[-1], 100.0)
        assert quantizer.step == batches

    def test_with_cosine_they_are_of_vectors_of_length_one(self, z, rng):
        quantizer = filled(EMAVectorQuantizer(7, D, similarity="cosine", epsilon=0.0), rng)
        unit = (z / np.linalg.norm(z, axis=-1, keepdims=True)).reshape(-1, D)
        codes = quantizer(z, training=True).codes.numpy().ravel()
        sums = np.eye(7)[codes].T @ unit
        np.testing.assert_allclose(quantizer.sums, sums, rtol=1e-4, atol=1e-5)
        used = np.bincount(codes, minlength=7) > 0
        means = sums[used] / np.bincount(codes, minlength=7)[used, np.newaxis]
        np.testing.assert_allclose(quantizer.table.numpy()[used], means, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("decay", [0.0, 0.5, 0.9999])
    def test_the_first_batch_counts_in_full(self, decay, z):
        quantizer = EMAVectorQuantizer(7, D, decay=decay, epsilon=0.0)
        quantizer(z, training=True)
        np.testing.assert_allclose(np.sum(quantizer.counts), 60, rtol=1e-5)

    @pytest.mark.parametrize("make", [VectorQuantizer, EMAVectorQuantizer])
    def test_dead_codes_are_revived_and_do_not_relapse(self, make, rng):
        size, batch = 64, 1024
        quantizer = filled(make(size, 8, threshold_ema_dead_code=1.0), rng, scale=0.01)
        quantizer.table.assign_add(tf.fill(quantizer.table.shape, 50.0))
        optimizer = keras.optimizers.SGD(4.0)

        @tf.function(autograph=False)
        def train(z):
            with tf.GradientTape() as tape:
                quantized = quantizer(z, training=True)
                loss = tf.reduce_mean(quantized.loss)
            if quantizer.trainable_variables:
                gradients = tape.gradient(loss, quantizer.trainable_variables)
                optimizer.apply_gradients(
                    zip(gradients, quantizer.trainable_variables, strict=True)
                )
            return quantized.codes

        used = [
            len(np.unique(train(rng.normal(size=(batch, 8)).astype(np.float32)))) for _ in range(60)
        ]
        assert used[0] < 0.1 * size
        assert min(used[1:]) > 0.9 * size

    @pytest.mark.parametrize("make", [VectorQuantizer, EMAVectorQuantizer])
    @pytest.mark.parametrize("composite", [None, ResidualQuantizer, ProductQuantizer])
    def test_a_frozen_codebook_keeps_its_codes(self, make, composite, rng):
        quantizer = make(8, D, threshold_ema_dead_code=1.0)
        quantizer = quantizer if composite is None else composite(quantizer, 2)
        z = rng.normal(size=(20, quantizer.embedding_dim)).astype(np.float32)
        quantizer(z, training=True)
        tables = [part.table for part in getattr(quantizer, "parts", [quantizer])]
        before = [table.numpy() for table in tables]
        for trains in (False, True):
            quantizer.trainable = trains
            quantizer(z + 5.0, training=True)
            moved = [np.any(table != old) for table, old in zip(tables, before, strict=True)]
            assert all(moved) == trains == any(moved)

    def test_a_revived_code_has_the_count_of_the_average(self, rng):
        quantizer = filled(EMAVectorQuantizer(8, D, threshold_ema_dead_code=1.0), rng)
        quantizer.table.assign(np.concatenate([np.zeros((1, D)), np.full((7, D), 50.0)]))
        z = rng.normal(size=(40, D)).astype(np.float32)
        quantizer(z, training=True)
        np.testing.assert_allclose(quantizer.counts, [40.0, *[5.0] * 7])
        np.testing.assert_allclose(quantizer.sums[1:], 5 * quantizer.table[1:])
        distances = np.abs(quantizer.table.numpy()[1:, None] - z).max(axis=-1)
        assert np.all(distances.min(axis=-1) == 0), "new vectors are of the batch"
        assert len(np.unique(distances.argmin(axis=-1))) == 7, "and no two the same"

    def test_a_revived_code_is_not_dead_where_the_average_code_is(self, rng):
        """Its count is then the threshold: with the average it would be replaced again at once."""
        state = usage.CodeState(tf.zeros([3, D]), tf.constant([0.5, 0.0, 1.0]), tf.zeros([3, D]))
        vectors = tf.constant(rng.normal(size=(9, D)), tf.float32)
        revived = usage.revive(state, vectors, 2.0, random.make_seed(0))
        np.testing.assert_array_equal(revived.counts, [2.0, 2.0, 2.0])
        np.testing.assert_allclose(revived.sums, 2.0 * revived.table)
        again = usage.revive(revived, vectors, 2.0, random.make_seed(1))
        np.testing.assert_array_equal(again.table, revived.table)

    def test_revival_is_a_function_of_the_seed_and_the_step(self, z):
        def tables(seed):
            quantizer = VectorQuantizer(7, D, threshold_ema_dead_code=1e9, seed=seed)
            result = []
            for _ in range(2):
                quantizer(z, training=True)
                result.append(quantizer.table.numpy())
            return result

        first, again, other = tables(1), tables(1), tables(2)
        np.testing.assert_array_equal(first, again)
        assert np.any(first[0] != first[1])
        assert np.any(first[0] != other[0])


class TestInitialize:
    def test_kmeans_finds_the_clusters(self, rng):
        centres = 10 * np.eye(6, 5)
        z = (np.repeat(centres, 30, axis=0) + 0.01 * rng.normal(size=(180, 5))).astype(np.float32)
        quantizer = EMAVectorQuantizer(6, 5, initializer="kmeans")
        assert quantizer.needs_data
        quantizer.initialize(z.reshape(2, 90, 5))
        assert not quantizer.needs_data
        found = quantizer.table.numpy()
        order = np.argmin(np.sum((found[:, None] - centres) ** 2, axis=-1), axis=0)
        np.testing.assert_allclose(found[order], z.reshape(6, 30, 5).mean(axis=1), atol=1e-4)

    def test_kmeans_of_directions(self, rng):
        lengths = rng.uniform(0.1, 10, size=(180, 1))
        z = lengths * np.repeat(np.eye(6, 6), 30, axis=0)
        z += 0.01 * lengths * rng.normal(size=z.shape)
        quantizer = VectorQuantizer(6, 6, initializer="kmeans", similarity="cosine")
        quantizer.initialize(z)
        found = quantizer.codebook().numpy()
        np.testing.assert_allclose(found[found.argmax(axis=0)], np.eye(6), atol=0.02)

    def test_is_done_once_and_where_it_is_wanted(self, z):
        quantizer = VectorQuantizer(7, D, initializer="kmeans")
        quantizer.initialize(z)
        start = quantizer.table.numpy()
        quantizer.initialize(2 * z)
        np.testing.assert_array_equal(quantizer.table, start)
        plain = filled(VectorQuantizer(7, D), np.random.default_rng(0))
        before = plain.table.numpy()
        assert not plain.needs_data
        plain.initialize(z)
        np.testing.assert_array_equal(plain.table, before)

    def test_levels_start_from_what_is_left(self, z):
        quantizer = ResidualQuantizer(EMAVectorQuantizer(7, D, initializer="kmeans"), 3)
        assert quantizer.needs_data
        quantizer.initialize(z)
        assert not quantizer.needs_data
        errors = _errors_by_level(quantizer, z)
        assert np.all(np.diff(errors) < 0)
        assert errors[2] < 0.2 * errors[0]

    def test_heads_start_from_their_share(self, z):
        quantizer = ProductQuantizer(VectorQuantizer(60, D // 2, initializer="kmeans"), 2)
        quantizer.initialize(z)
        np.testing.assert_allclose(quantizer(z).vectors, z, atol=1e-6)

    @pytest.mark.parametrize("name", ["vq", "residual"])
    def test_refuses_data_that_does_not_do(self, name, z):
        quantizer = VectorQuantizer(7, D, initializer="kmeans")
        if name == "residual":
            quantizer = ResidualQuantizer(quantizer, 2)
        with pytest.raises(InvalidData, match="6 vectors, 5 of them different; expected at least"):
            quantizer.initialize(z.reshape(-1, D)[[0, 1, 2, 3, 4, 4]])
        with pytest.raises(InvalidArgument, match="embedding_dim = 4"):
            quantizer.initialize(z[..., :3])
        with pytest.raises(InvalidData, match="not finite"):
            quantizer.initialize(np.where(z > 1, np.nan, z))
        assert quantizer.needs_data


def _errors_by_level(quantizer, z):
    """Return the mean squared error of the first 1, 2, … levels."""
    codes = quantizer(z).codes
    depths = range(1, quantizer.num_quantizers + 1)
    level = np.arange(quantizer.num_quantizers)
    return [
        np.mean((quantizer.lookup(tf.where(level < depth, codes, -1)) - z) ** 2) for depth in depths
    ]


class TestResidual:
    def test_every_level_commits_the_encoder(self, z):
        quantizer = ResidualQuantizer(EMAVectorQuantizer(7, D), 3)
        z = tf.constant(z)
        (actual,) = gradients_of(lambda: tf.reduce_sum(quantizer(z).loss), z)
        codes = tf.unstack(quantizer(z).codes, axis=-1)
        remainder, expected = z, 0.0
        for part, own in zip(quantizer.parts, codes, strict=True):
            remainder = remainder - part.lookup(own)
            expected += 2 * 0.25 * remainder
            assert np.abs(remainder).max() > 0.1
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)

    def test_every_level_follows_what_the_ones_before_it_left(self, z):
        quantizer = ResidualQuantizer(EMAVectorQuantizer(7, D), 2)
        first, second = np.moveaxis(quantizer(z).codes.numpy().reshape(-1, 2), -1, 0)
        left = z.reshape(-1, D) - quantizer.parts[0].lookup(first).numpy()
        quantizer(z, training=True)
        expected = np.zeros((7, D))
        np.add.at(expected, second, left)
        np.testing.assert_allclose(quantizer.parts[1].sums, expected, rtol=1e-4, atol=1e-5)

    def test_more_levels_reconstruct_better(self, rng):
        quantizer = ResidualQuantizer(EMAVectorQuantizer(16, D, decay=0.9), 4)
        z = rng.normal(size=(400, D)).astype(np.float32)
        train = tf.function(lambda: quantizer(z, training=True).loss, autograph=False)
        for _ in range(30):
            train()
        errors = _errors_by_level(quantizer, z)
        assert np.all(np.diff(errors) < 0)
        assert errors[3] < 0.2 * errors[0]
        np.testing.assert_allclose(errors[3], np.mean((quantizer(z).vectors - z) ** 2), rtol=1e-5)

    def test_the_gradient_passes_once_in_the_way_of_the_levels(self, z):
        quantizer = ResidualQuantizer(VectorQuantizer(7, D, gradient="rotation"), 3)
        z = tf.constant(z)
        (actual,) = gradients_of(lambda: tf.reduce_sum(quantizer(z).vectors), z)
        total = quantizer(z).vectors
        (expected,) = gradients_of(lambda: tf.reduce_sum(quantizers.rotation(z, total)), z)
        np.testing.assert_array_equal(actual, expected)

    def test_gradients_of_their_own_kind_go_through_the_chain(self, z):
        quantizer = ResidualQuantizer(FiniteScalarQuantizer((3, 3, 3, 3)), 2)
        z = tf.constant(z)
        (actual,) = gradients_of(lambda: tf.reduce_sum(quantizer(z).vectors), z)
        first = quantizer.parts[0].lookup(quantizer(z).codes[..., 0])
        slope = [1 - np.tanh(z) ** 2, 1 - np.tanh(z - first) ** 2]
        np.testing.assert_allclose(actual, slope[0] + slope[1] * (1 - slope[0]), rtol=1e-4)

    def test_dropout_keeps_the_first_levels(self, z):
        quantizer = ResidualQuantizer(EMAVectorQuantizer(7, D), 4, dropout=0.75, seed=2)
        quantizer.build((None, D))
        train = tf.function(lambda: quantizer(z, training=True), autograph=False)
        depths = []
        count = 80
        for _ in range(count):
            before = [[w.numpy() for w in part.weights] for part in quantizer.parts]
            codes = train().codes.numpy()
            kept = np.all(codes >= 0, axis=(0, 1, 2))
            depth = int(kept.sum())
            np.testing.assert_array_equal(kept, np.arange(4) < depth)
            assert np.all(codes[..., depth:] == -1)
            for number, (part, weights) in enumerate(zip(quantizer.parts, before, strict=True)):
                pairs = zip(part.weights, weights, strict=True)
                changed = any(np.any(a.numpy() != b) for a, b in pairs)
                assert changed == (number < depth)
            depths.append(depth)
        frequencies = np.bincount(depths, minlength=5)[1:] / count
        # Four standard errors of a frequency of 1/4 over as many draws.
        np.testing.assert_allclose(frequencies, 0.25, atol=4 * np.sqrt(0.25 * 0.75 / count))

    def test_with_dropout_the_last_levels_of_a_vector_may_be_left_out(self):
        quantizer = ResidualQuantizer(VectorQuantizer(7, D), 3, dropout=0.5)
        quantizer.check_codes(np.array([[6, 0, -1], [3, -1, -1], [1, 2, 3]]))
        plain = ResidualQuantizer(VectorQuantizer(7, D), 3)
        for wrong in ([-1, -1, -1], [2, -1, 3], [2, 3, -2], [7, 0, -1]):
            with pytest.raises(InvalidData, match=r"0 to 6, or −1 .* the last of each vector"):
                quantizer.check_codes(np.array([wrong]))
        with pytest.raises(InvalidData, match=r"expected whole numbers from 0 to 6\."):
            plain.check_codes(np.array([[6, 0, -1]]))

    def test_levels_that_are_left_out_cost_nothing(self, z):
        quantizer = ResidualQuantizer(VectorQuantizer(7, D), 2, dropout=1.0)
        quantized = quantizer(z, training=True)
        alone = quantizer.parts[0](z)
        np.testing.assert_array_equal(quantized.loss, alone.loss)
        np.testing.assert_array_equal(quantized.vectors, alone.vectors)
        table = quantizer.parts[1].table
        (gradient,) = gradients_of(lambda: tf.reduce_sum(quantizer(z, training=True).loss), table)
        np.testing.assert_array_equal(gradient, 0)

    @pytest.mark.parametrize("frozen", [(0,), (1, 2), (0, 1, 2), ()])
    def test_each_level_is_frozen_by_itself(self, frozen):
        quantizer = ResidualQuantizer(VectorQuantizer(8, D), 3)
        quantizer.build((None, D))
        for level in frozen:
            quantizer.parts[level].trainable = False
        again = ResidualQuantizer.from_config(quantizer.get_config())
        again.build((None, D))
        assert [part.trainable for part in again.parts] == [n not in frozen for n in range(3)]
        assert len(again.trainable_variables) == 3 - len(frozen)

    def test_levels_have_seeds_and_tables_of_their_own(self):
        quantizer = ResidualQuantizer("vq", 3, seed=5)
        quantizer.build((None, 64))
        assert [part.seed for part in quantizer.parts] == [5, 6, 7]
        assert np.any(quantizer.parts[0].table.numpy() != quantizer.parts[1].table.numpy())

    def test_refuses_what_it_cannot_be_made_of(self):
        with pytest.raises(InvalidArgument, match="do not nest"):
            ResidualQuantizer(ProductQuantizer("vq", 2), 2)
        with pytest.raises(InvalidArgument, match="first level"):
            ResidualQuantizer("vq", 1, dropout=0.5)
        with pytest.raises(InvalidArgument, match="num_quantizers"):
            ResidualQuantizer("vq", 0)

    def test_seeded_tables_of_the_levels_differ(self):
        """A seeded Keras initializer draws the same numbers at every call."""
        for seed in (1, None):
            initializer = keras.initializers.RandomUniform(seed=seed)
            codebook = VectorQuantizer(8, 4, initializer=initializer)
            quantizer = ResidualQuantizer(codebook, 3)
            again = ResidualQuantizer.from_config(quantizer.get_config())
            for each in (quantizer, again):
                each.build((None, 4))
            tables = [part.table.numpy() for part in quantizer.parts]
            assert len(np.unique(tables, axis=0)) == 3
            if seed is not None:
                codebook.build((None, 4))
                np.testing.assert_array_equal(tables[0], codebook.table)
                np.testing.assert_array_equal(tables, [part.table for part in again.parts])
        generator = keras.random.SeedGenerator(1)
        drawn = keras.initializers.RandomUniform(seed=generator)
        of_generator = ResidualQuantizer(VectorQuantizer(8, 4, initializer=drawn), 3)
        of_generator.build((None, 4))
        tables = [part.table.numpy() for part in of_generator.parts]
        assert len(np.unique(tables, axis=0)) == 3
        constant = ResidualQuantizer(VectorQuantizer(8, 4, initializer="zeros"), 2)
        constant.build((None, 4))
        assert not np.any(constant.parts[1].table)


class TestProduct:
    def test_loss_is_the_sum_of_the_heads(self, z):
        quantizer = ProductQuantizer(EMAVectorQuantizer(7, D // 2), 2)
        quantized = quantizer(z)
        expected = 0.25 * np.sum((z - quantized.vectors) ** 2, axis=-1)
        np.testing.assert_allclose(quantized.loss, expected, rtol=1e-5)

    def test_heads_have_seeds_and_tables_of_their_own(self):
        quantizer = ProductQuantizer("vq", 2, seed=5)
        quantizer.build((None, 128))
        assert [part.seed for part in quantizer.parts] == [5, 6]
        assert np.any(quantizer.parts[0].table.numpy() != quantizer.parts[1].table.numpy())


class TestFiniteScalar:
    def test_codes_and_vectors_go_one_to_one(self):
        quantizer = FiniteScalarQuantizer((3, 2, 5))
        codes = np.arange(30)
        vectors = quantizer.lookup(codes).numpy()
        assert len(np.unique(vectors, axis=0)) == quantizer.codebook_size == 30
        assert vectors.min() == -1
        assert vectors.max() == 1
        # The first axis counts least, and every axis is evenly spaced.
        np.testing.assert_array_equal(vectors[:4, 0], [-1, 0, 1, -1])
        np.testing.assert_array_equal(vectors[::6, 2], [-1, -0.5, 0, 0.5, 1])
        inside = np.arctanh(np.clip(vectors, -0.99, 0.99))
        np.testing.assert_array_equal(quantizer(inside).codes, codes)

    def test_gradient_is_that_of_tanh(self, z):
        quantizer = FiniteScalarQuantizer()
        z = tf.constant(z)
        (actual,) = gradients_of(lambda: tf.reduce_sum(quantizer(z).vectors), z)
        np.testing.assert_allclose(actual, 1 - np.tanh(z) ** 2, rtol=1e-4)

    def test_huge_inputs_stay_in_range(self):
        quantizer = FiniteScalarQuantizer((8, 5))
        codes = quantizer(np.array([[1e30, 1e30], [-1e30, -1e30]], np.float32)).codes
        np.testing.assert_array_equal(codes, [39, 0])

    @pytest.mark.parametrize("levels", [(), (8, 1), (2.5,), (2,) * 31, True, ("8",)])
    def test_refuses_levels_that_say_nothing(self, levels):
        with pytest.raises(InvalidArgument, match="levels"):
            FiniteScalarQuantizer(levels)


class TestLookupFree:
    def test_bits_count_from_the_first(self):
        quantizer = LookupFreeQuantizer(3)
        np.testing.assert_array_equal(quantizer.lookup([1, 4]), [[1, -1, -1], [-1, -1, 1]])
        np.testing.assert_array_equal(quantizer(np.array([[0.1, -2.0, 3.0]], "f4")).codes, [5])

    @pytest.mark.parametrize("bits", [1, 5])
    def test_entropies_are_those_of_all_codes(self, bits, rng):
        quantizer = LookupFreeQuantizer(bits, inverse_temperature=0.3)
        z = rng.normal(size=(20, bits)).astype(np.float32)
        codes = quantizer.lookup(np.arange(2**bits)).numpy()
        distances = np.sum((z[:, None] - codes) ** 2, axis=-1)
        p = scipy.special.softmax(-0.3 * distances, axis=-1)
        each, batch = quantizer.entropies(z)
        np.testing.assert_allclose(each, scipy.special.entr(p).sum(axis=-1), rtol=1e-4)
        mean = scipy.special.entr(p.mean(axis=0)).sum()
        np.testing.assert_allclose(batch, mean, rtol=1e-5)
        commitment = 0.25 * np.sum((z - np.sign(z)) ** 2, axis=-1)
        expected = commitment + 0.1 * (each - mean)
        np.testing.assert_allclose(quantizer(z).loss, expected, rtol=1e-4)

    def test_the_gradient_of_the_loss_is_its_slope(self, rng):
        """Of the commitment, with signs as constants, and of both entropies, by differences."""
        quantizer = LookupFreeQuantizer(3, inverse_temperature=0.3, diversity_gamma=2.0)
        z = rng.normal(size=(6, 3))
        codes = quantizer.lookup(np.arange(8)).numpy()

        def loss(z):
            p = scipy.special.softmax(-0.3 * np.sum((z[:, None] - codes) ** 2, -1), axis=-1)
            batch = scipy.special.entr(p.mean(axis=0)).sum()
            entropies = scipy.special.entr(p).sum() - 6 * 2.0 * batch
            return 0.25 * np.sum((z - np.sign(z)) ** 2) + 0.1 * entropies

        steps = 1e-5 * np.eye(18).reshape(18, 6, 3)
        expected = [(loss(z + step) - loss(z - step)) / 2e-5 for step in steps]
        z = tf.constant(z, tf.float32)
        (actual,) = gradients_of(lambda: tf.reduce_sum(quantizer(z).loss), z)
        np.testing.assert_allclose(actual.ravel(), expected, rtol=1e-3, atol=1e-4)

    def test_many_bits_are_bounded_by_their_own_entropies(self, rng):
        z = rng.normal(size=(10, 19)).astype(np.float32)
        _, bound = LookupFreeQuantizer(19).entropies(z)
        on = scipy.special.expit(40 * z).mean(axis=0)
        expected = np.sum(scipy.special.entr(on) + scipy.special.entr(1 - on))
        np.testing.assert_allclose(bound, expected, rtol=1e-5)
        _, exact = LookupFreeQuantizer(18).entropies(z[:, :18])
        assert exact < bound

    def test_entropies_have_a_finite_gradient_where_bits_are_sure(self):
        quantizer = LookupFreeQuantizer(4)
        z = tf.constant([[0.0, 100.0, -100.0, 1e6]])
        (gradient,) = gradients_of(lambda: tf.reduce_sum(quantizer(z).loss), z)
        assert np.all(np.isfinite(gradient))

    def test_refuses_more_bits_than_a_code_holds(self):
        with pytest.raises(InvalidArgument, match="at most 30"):
            LookupFreeQuantizer(31)


class TestGumbel:
    def test_codes_have_the_frequencies_of_the_softmax(self, rng):
        quantizer = filled(GumbelSoftmaxQuantizer(6, 3, seed=4), rng)
        z = rng.normal(size=(1, 3)).astype(np.float32)
        draws = 20_000
        codes = quantizer(np.repeat(z, draws, axis=0), training=True).codes.numpy()
        p = scipy.special.softmax(-np.sum((z - quantizer.table.numpy()) ** 2, axis=-1))
        off = np.bincount(codes, minlength=6) / draws - p
        assert np.all(np.abs(off) < 4 * np.sqrt(p * (1 - p) / draws))
        # Another step, other noise.
        again = quantizer(np.repeat(z, draws, axis=0), training=True).codes.numpy()
        assert np.mean(codes == again) < 0.9

    def test_loss_is_the_divergence_from_uniform(self, z, rng):
        quantizer = filled(GumbelSoftmaxQuantizer(6, D, kl_weight=0.3), rng)
        logits = -np.sum((z[..., None, :] - quantizer.table.numpy()) ** 2, axis=-1)
        p = scipy.special.softmax(logits, axis=-1)
        expected = 0.3 * np.sum(scipy.special.rel_entr(p, 1 / 6), axis=-1)
        for training in (False, True):
            loss = quantizer(z, training=training).loss
            np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-6)

    def test_cosine_makes_the_softmax_of_vectors_of_length_one(self, z, rng):
        quantizer = filled(GumbelSoftmaxQuantizer(6, D, similarity="cosine"), rng)
        both = z, quantizer.table.numpy()
        unit, rows = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in both)
        p = scipy.special.softmax(2 * unit @ rows.T, axis=-1)  # ‖z − e‖² = 2 − 2 z·e
        expected = np.sum(scipy.special.rel_entr(p, 1 / 6), axis=-1)
        np.testing.assert_allclose(quantizer(z).loss, expected, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("composite", [ResidualQuantizer, ProductQuantizer])
    def test_every_copy_draws_in_training_and_takes_the_nearest_otherwise(self, composite, rng):
        """Of 8 codes at nearly equal distances, a draw is the nearest one in 1 of 8 cases."""
        quantizer = composite(GumbelSoftmaxQuantizer(8, 2), 2)
        quantizer.build((None, quantizer.embedding_dim))
        for part in quantizer.parts:
            part.table.assign(1e-3 * rng.normal(size=(8, 2)))
        z = np.ones((2000, quantizer.embedding_dim), np.float32)
        nearest, drawn = (quantizer(z, training=t).codes.numpy() for t in (False, True))
        assert np.all(nearest == nearest[0])
        for codes, code in zip(drawn.T, nearest[0], strict=True):
            share = np.mean(codes == code)
            assert abs(share - 1 / 8) < 4 * np.sqrt(1 / 8 * 7 / 8 / 2000) + 0.005

    def test_gradient_is_that_of_the_relaxed_draw(self, z, rng):
        """Σ_k y_k e_k of the same noise, written out, by autodiff."""
        quantizer = filled(GumbelSoftmaxQuantizer(6, D, temperature=0.7, seed=4), rng)
        noise = -np.log(-np.log(random.stateless_uniform([60, 6], quantizer.draw_seed(), 0)))
        z, weights = (tf.constant(v, tf.float32) for v in (z, rng.normal(size=z.shape)))

        def relaxed(table):
            distances = tf.reduce_sum((z[..., tf.newaxis, :] - table) ** 2, axis=-1)
            y = tf.nn.softmax((noise - tf.reshape(distances, [60, 6])) / 0.7)
            return tf.reduce_sum(weights * tf.reshape(tf.matmul(y, table), z.shape))

        table = tf.constant(quantizer.table)
        expected = gradients_of(lambda: relaxed(table), z, table)
        found = gradients_of(
            lambda: tf.reduce_sum(weights * quantizer(z, training=True).vectors), z, quantizer.table
        )
        for a, b in zip(found, expected, strict=True):
            assert np.abs(b).max() > 0.1, "nothing to compare"
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


class TestSearch:
    def test_blocks_give_what_one_product_gives(self, rng, mode, monkeypatch):
        from tfvae.quantizers import search

        table = tf.constant(rng.normal(size=(50, 3)), tf.float32)
        for count in (0, 23):
            z = tf.constant(rng.normal(size=(count, 3)), tf.float32)
            expected = search.nearest(z, table)
            with monkeypatch.context() as patch:
                patch.setattr(search, "LARGE_TABLE", 10)
                patch.setattr(search, "BLOCK_ELEMENTS", 50 * 7)
                codes = mode(lambda z: search.nearest(z, table))(z)
            np.testing.assert_array_equal(codes, expected)
            assert codes.dtype == tf.int32

    def test_of_equal_distances_the_first(self):
        table = tf.constant([[2.0], [1.0], [1.0], [-1.0]])
        np.testing.assert_array_equal(quantizers.nearest(tf.zeros((1, 1)), table), [1])

    @pytest.mark.slow
    @pytest.mark.nightly
    def test_memory_of_a_large_table(self, run_python):
        script = """
import re
import tensorflow as tf
from tfvae.quantizers import nearest
z, table = tf.random.normal([32768, 64]), tf.random.normal([16384, 64])
codes = tf.function(nearest)(z, table)
# Of this program: the peak that `resource` knows begins at that of the process which started it.
peak = re.search("VmHWM: *([0-9]+) kB", open("/proc/self/status").read().replace(chr(9), " "))
print(int(peak[1]) / 2**20)
"""
        assert float(run_python(script)) < 3.0


REPLICAS = """
import json
import keras, numpy as np, tensorflow as tf
from tfvae import quantizers

cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
z = tf.constant(np.random.default_rng(0).normal(size=(5, 40, 3)), tf.float32)
results = {}
for count in (1, 2):
    strategy = tf.distribute.MirroredStrategy(
        [f"cpu:{n}" for n in range(count)],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
    with strategy.scope():
        keras.utils.set_random_seed(0)
        ema = quantizers.EMAVectorQuantizer(6, 3, decay=0.9)
        residual = quantizers.ResidualQuantizer(
            quantizers.EMAVectorQuantizer(6, 3), 3, dropout=0.7
        )
        revived = quantizers.VectorQuantizer(6, 3, threshold_ema_dead_code=5.0)
        gumbel = quantizers.get("gumbel", num_embeddings=6, embedding_dim=3)
        lfq = quantizers.get("lfq", embedding_dim=3)
        layers = (ema, residual, revived, gumbel, lfq)
        for layer in layers:
            layer.build((None, 3))

    @tf.function(autograph=False)
    def train(z):
        def step(z):
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            # Of 40 vectors the replicas have 16 and 24.
            own = z if count == 1 else z[16 * replica : 16 + 24 * replica]
            quantized = [layer(own, training=True) for layer in layers]
            return quantized[3].codes, quantized[4].loss
        return [
            tf.concat(strategy.experimental_local_results(part), 0)
            for part in strategy.run(step, args=(z,))
        ]

    for batch in z:
        codes, loss = train(batch)
    same = True
    for layer in layers:
        for weight in layer.weights:
            local = strategy.experimental_local_results(weight.value)
            same = same and all(np.array_equal(value, local[0]) for value in local)
    exact = [w.numpy().tolist() for layer in layers for w in layer.weights]
    exact += [codes.numpy().tolist(), loss.numpy().tolist()]
    steps = [int(layer.step.numpy()) for layer in layers[:3]]
    results[count] = {"weights": exact, "same": same, "steps": steps}

with strategy.scope():
    inputs = keras.Input((3,))
    quantized = quantizers.VectorQuantizer(6, 3, threshold_ema_dead_code=1.0)(inputs)
    model = keras.Model(inputs, [keras.layers.Dense(3)(quantized.vectors), quantized.loss])
    model.compile("adam", ["mse", lambda _, loss: tf.reduce_mean(loss)], steps_per_execution=2)
x = tf.reshape(z, [-1, 3]).numpy()[:80]
history = model.fit(x, [x, x[:, 0]], batch_size=20, epochs=2, verbose=0).history
results["loss"] = history["loss"]
results["step"] = int(model.layers[1].step.numpy())
print(json.dumps(results))
"""


@pytest.mark.nightly
@pytest.mark.slow
def test_two_replicas_give_the_state_of_one(run_python):
    results = json.loads(run_python(REPLICAS).splitlines()[-1])
    assert results["1"]["steps"] == results["2"]["steps"] == [5, 5, 5]
    assert results["2"]["same"]
    for one, two in zip(results["1"]["weights"], results["2"]["weights"], strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
    assert results["step"] == 8
    assert np.all(np.isfinite(results["loss"]))


class TestNames:
    def test_every_quantizer_has_a_case(self):
        covered = {type(make()) for make in CASES.values()}
        registered = {quantizers.REGISTRY.part(name) for name in quantizers.REGISTRY.names()}
        assert covered == registered

    def test_a_table_under_a_map_has_no_rows_to_start_anew(self):
        with pytest.raises(InvalidArgument, match=r"`threshold_ema_dead_code`.*W moves all rows"):
            quantizers.SimVQ(5, 3, threshold_ema_dead_code=1.0)

    def test_by_name_with_options(self):
        quantizer = quantizers.get("ema", num_embeddings=8, embedding_dim=2, decay=0.5)
        assert (quantizer.codebook_size, quantizer.embedding_dim, quantizer.decay) == (8, 2, 0.5)
        assert quantizers.get(quantizer) is quantizer
        with pytest.raises(InvalidArgument, match="Did you mean 'num_embeddings'"):
            quantizers.get("vq", num_embedding=8)

    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            ("vq", {"num_embeddings": 0}, "num_embeddings"),
            ("vq", {"embedding_dim": 0}, "embedding_dim"),
            ("vq", {"commitment_cost": -1.0}, "commitment_cost"),
            ("vq", {"similarity": "cosinus"}, "Did you mean 'cosine'"),
            ("vq", {"gradient": "rotate"}, "rotation"),
            ("vq", {"initializer": "k-means"}, "'kmeans'"),
            ("vq", {"seed": 0.5}, "seed"),
            ("vq", {"threshold_ema_dead_code": float("nan")}, "threshold"),
            ("ema", {"decay": 1.0}, "decay"),
            ("ema", {"epsilon": -1e-5}, "epsilon"),
            ("residual", {"quantizer": "vq", "num_quantizers": 2, "dropout": 1.5}, "dropout"),
            ("residual", {"quantizer": VectorQuantizer, "num_quantizers": 2}, "not a class"),
            ("product", {"quantizer": "vq", "num_heads": 1.5}, "num_heads"),
            ("gumbel", {"temperature": 0.0}, "temperature"),
            ("simvq", {"threshold_ema_dead_code": 1.0}, "Unknown option"),
            ("vq", {"dtype": "mixed_float16"}, "`dtype` of a quantizer is 'mixed_float16'"),
            ("fsq", {"dtype": keras.DTypePolicy("float64")}, "'float64'; expected 'float32'"),
        ],
    )
    def test_refuses_arguments_it_cannot_use(self, name, options, message):
        with pytest.raises(InvalidArgument, match=message):
            quantizers.get(name, **options)


@pytest.mark.parametrize("size", [256, 5000])
@pytest.mark.parametrize("offset", [0, 100, 1000, 10_000])
def test_the_nearest_code_is_so_wherever_the_codes_lie(offset, size, rng):
    table = (offset + rng.normal(size=(size, 8))).astype("f4")
    z = (offset + rng.normal(size=(500, 8))).astype("f4")
    distances = np.zeros((500, size))
    for d in range(8):
        distances += np.subtract.outer(z[:, d].astype("f8"), table[:, d].astype("f8")) ** 2
    codes = quantizers.search.nearest(tf.constant(z), tf.constant(table)).numpy()
    found = np.take_along_axis(distances, codes[:, None], 1)[:, 0]
    np.testing.assert_allclose(found, distances.min(1), rtol=0, atol=1e-4)


def test_codes_far_from_0_have_the_probabilities_of_their_distances(rng):
    table, z = rng.normal(size=(6, D)), rng.normal(size=(50, D))
    losses = []
    for offset in (0.0, 4096.0):
        quantizer = GumbelSoftmaxQuantizer(6, D)
        quantizer.build((None, D))
        # Multiples of 1/1024, exact also beside the offset.
        near = [np.round(1024 * values) / 1024 + offset for values in (table, z)]
        quantizer.table.assign(near[0])
        losses.append(quantizer(near[1].astype("f4")).loss)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("astray", [1e5, 1e6, np.inf, np.nan])
def test_a_code_that_went_astray_leaves_the_others_what_they_are(astray, rng):
    """One row of the table is far off, as of a code that nothing takes, or not finite."""
    table = rng.normal(size=(512, 64)).astype(np.float32)
    z = rng.normal(size=(200, 64)).astype(np.float32)
    table[7] = astray
    squares = ((z[:, np.newaxis] - np.delete(table, 7, axis=0).astype(np.float64)) ** 2).sum(-1)
    expected = squares.argmin(1)
    expected += expected >= 7
    codes = quantizers.search.nearest(tf.constant(z), tf.constant(table))
    np.testing.assert_array_equal(codes, expected)
