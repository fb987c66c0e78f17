"""VQ-VAE-2 by NumPy: from fine to coarse and back, with codes of all grids in one list."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiers import nightly_but

import tfvae
from tfvae import code_priors, quantizers
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.quantizers import EMAVectorQuantizer, VectorQuantizer

pytestmark = pytest.mark.slow  # Compiles graphs of whole models.

D, K = 3, 5
# Heights (and widths) of x, h_1, h_2, …, and the channels of h_l and of d_l above the first.
SIZES = {2: (8, 4, 2), 3: (8, 4, 2, 1)}
CHANNELS = (6, 4, 5)
ABOVE = (None, 7, 2)


def spread(seed):
    return keras.initializers.RandomNormal(stddev=1.0, seed=seed)


def halve(size, channels, filters, seed):
    """Return an encoder from a grid to one of half its height and width."""
    layer = keras.layers.Conv2D(
        filters, 2, strides=2, activation="tanh", kernel_initializer=spread(seed)
    )
    return keras.Sequential([keras.Input((size, size, channels)), layer])


def double(size, channels, filters, seed):
    """Return a decoder to a grid of twice the height and width."""
    layer = keras.layers.Conv2DTranspose(filters, 2, strides=2, kernel_initializer=spread(seed))
    return keras.Sequential([keras.Input((size, size, channels)), layer])


def networks(levels, dims):
    """Return encoders and decoders that fit each other, from the finest up."""
    sizes, features = SIZES[levels], (1, *CHANNELS)
    encoders = [halve(sizes[n], features[n], features[n + 1], 10 + n) for n in range(levels)]
    decoders = []
    for n in range(levels):
        above = ABOVE[n + 1] if n + 1 < levels else 0
        decoders.append(double(sizes[n + 1], dims[n] + above, ABOVE[n] or 1, 20 + n))
    return encoders, decoders


def make(levels=2, codebooks=None, **options):
    """Return a tiny HierarchicalVQVAE of 8×8 images; equal arguments give equal weights."""
    keras.utils.set_random_seed(1)
    codebooks = codebooks or [VectorQuantizer(K, D + n) for n in range(levels)]
    dims = [quantizer.embedding_dim for quantizer in codebooks]
    parts = _around(codebooks, networks(levels, dims))
    model = tfvae.HierarchicalVQVAE(*parts, likelihood="bernoulli", **options)
    rng = np.random.default_rng(2)
    for weight in model.weights:
        if weight.path.endswith("/table"):
            weight.assign(rng.normal(size=weight.shape))
    return model


def _around(codebooks, pair):
    encoders, decoders = pair
    return encoders, codebooks, decoders


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(1).integers(0, 2, (10, 8, 8, 1)).astype(np.float32)


def state(model):
    return np.concatenate([np.ravel(w.numpy()).astype(np.float64) for w in model.weights])


def expected_terms(model, x):
    """Return −log p(x|z) and the quantizers' losses, `[B]`, and the codes from coarse to fine."""
    features, h = [], x
    for encoder in model.encoders:
        h = encoder(h).numpy()
        features.append(h)
    codes, quantization, above = [], 0, None
    for level in reversed(range(len(features))):
        h = features[level]
        joined = h if above is None else np.concatenate([h, above], axis=-1)
        kernel, bias = (w.numpy().astype(np.float64) for w in model.projections[level].weights)
        vectors = joined @ kernel + bias
        table = model.codebooks[level].table.numpy().astype(np.float64)
        distances = np.sum((vectors[..., np.newaxis, :] - table) ** 2, axis=-1)
        codes.append(np.argmin(distances, axis=-1).reshape(len(x), -1))
        quantization = quantization + 1.25 * np.sum(np.min(distances, axis=-1), axis=(1, 2))
        e = table[np.argmin(distances, axis=-1)].astype(np.float32)
        joined = e if above is None else np.concatenate([e, above], axis=-1)
        above = model.decoders[level](joined).numpy()
    logits = above.astype(np.float64)
    nats = np.where(x == 1, np.logaddexp(0, -logits), np.logaddexp(0, logits))
    return np.sum(nats, axis=(1, 2, 3)), quantization, codes


@pytest.mark.parametrize("levels", nightly_but([2, 3], 3))
class TestByNumPy:
    def test_loss_and_codes_are_their_definition(self, levels, x):
        model = make(levels)
        model.compile(run_eagerly=True)
        reconstruction, quantization, codes = expected_terms(model, x)
        assert [len(np.unique(part)) > 1 for part in codes] == [True] * levels
        np.testing.assert_array_equal(model.encode(x), np.concatenate(codes, axis=1))
        metrics = model.evaluate(x, batch_size=4, verbose=0, return_dict=True)
        np.testing.assert_allclose(metrics["reconstruction"], reconstruction.mean(), rtol=1e-5)
        np.testing.assert_allclose(metrics["quantization"], quantization.mean(), rtol=1e-5)
        expected = reconstruction.mean() + quantization.mean()
        np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)

    def test_usage_is_counted_for_each_codebook(self, levels, x):
        model = make(levels)
        model.compile(run_eagerly=True)
        *_, codes = expected_terms(model, x)
        counts = np.stack([np.bincount(part.ravel(), minlength=K) for part in codes[::-1]])
        metrics = model.evaluate(x, batch_size=4, verbose=0, return_dict=True)
        np.testing.assert_array_equal(model.code_counts, counts)
        p = counts / counts.sum(axis=1, keepdims=True)
        entropy = -np.sum(np.where(p > 0, p * np.log(np.maximum(p, 1e-30)), 0), axis=1)
        sites = counts.sum(axis=1) / len(x)
        np.testing.assert_allclose(metrics["perplexity"], np.exp(entropy).mean(), rtol=1e-6)
        np.testing.assert_allclose(metrics["code_usage"], np.mean(counts > 0), rtol=1e-6)
        np.testing.assert_allclose(metrics["code_bits"], sites @ entropy / np.log(2), rtol=1e-6)

    def test_shapes_and_the_order_of_codes(self, levels, x):
        """The coarsest grid first, each in raster order."""
        model = make(levels)
        sizes = [n * n for n in SIZES[levels][1:]]
        assert model.grids == tuple((n, n) for n in SIZES[levels][1:])
        assert model.code_shape == (sum(sizes),)
        codes = model.encode(x)
        assert codes.shape == (10, sum(sizes))
        finest = model.by_codebook(codes)[0]
        np.testing.assert_array_equal(finest, codes[:, -sizes[0] :])
        coarsest = model.by_codebook(codes)[-1]
        np.testing.assert_array_equal(coarsest, codes[:, : sizes[-1]])
        # The site in row 3, column 2 of the finest grid describes pixels from row 6, column 4.
        other = x.copy()
        other[:, 6:, 4:6] = 1 - other[:, 6:, 4:6]
        features = np.any(model.encoders[0](other).numpy() != model.encoders[0](x), axis=(0, 3))
        np.testing.assert_array_equal(np.argwhere(features), [[3, 2]])

    def test_decoded_codes_are_the_reconstruction(self, levels, x):
        model = make(levels)
        model.compile(run_eagerly=True)
        codes = model.encode(x)
        decoded = model.decode(codes)
        np.testing.assert_allclose(model(x), decoded, rtol=0, atol=1e-6)
        predicted = model.predict(x, batch_size=4, verbose=0)
        np.testing.assert_allclose(predicted, decoded, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(model.lookup(codes), model.quantized(x).vectors)
        for level in range(levels):  # every grid has a say in the image
            changed = codes.numpy()
            start = sum(n * n for n in SIZES[levels][level + 2 :])
            changed[:, start] = (changed[:, start] + 1) % K
            assert not np.allclose(model.decode(changed), decoded, atol=1e-4)

    def test_the_gradient_reaches_every_weight(self, levels, x):
        model = make(levels)
        before = [weight.numpy() for weight in model.trainable_weights]
        parts = levels * (2 + 2 + 2 + 1)  # kernels and biases of three networks, and a table
        assert len(before) == parts
        model.compile(tfvae.optimizers.Adam(0.01), run_eagerly=True)
        model.train_on_batch(x)
        for weight, old in zip(model.trainable_weights, before, strict=True):
            assert np.all(np.isfinite(weight))
            assert not np.array_equal(weight, old), weight.path


def trained(x, epochs, **compiled):
    """Return a model with codebooks of moving averages, after these epochs."""
    model = make(codebooks=[EMAVectorQuantizer(K, D, seed=n) for n in range(2)], seed=7)
    model.compile(tfvae.optimizers.Adam(0.01), **compiled)
    return train(model, x, epochs)


def train(model, x, epochs):
    model.fit(x, epochs=epochs, batch_size=5, shuffle=False, verbose=0)
    return model


@pytest.mark.parametrize(
    "compiled", nightly_but([{"jit_compile": True}, {"jit_compile": False}], {"jit_compile": False})
)
def test_training_is_the_same_in_any_mode(x, compiled):
    x = x[:5]  # one step an epoch
    whole = trained(x, 2, run_eagerly=True)
    np.testing.assert_allclose(state(trained(x, 2, **compiled)), state(whole), atol=1e-3)


def test_training_goes_on_after_saving(x, tmp_path):
    x = x[:5]  # one step an epoch
    whole = trained(x, 2, run_eagerly=True)
    trained(x, 1, run_eagerly=True).save(tmp_path / "model.keras")
    resumed = keras.saving.load_model(tmp_path / "model.keras")
    resumed.run_eagerly = True
    train(resumed, x, 1)
    np.testing.assert_array_equal(state(resumed), state(whole))
    assert (resumed.seed, resumed.grids, resumed.x_shape) == (7, ((4, 4), (2, 2)), (8, 8, 1))


def test_it_comes_back_whole(x, tmp_path):
    model = make(3)
    model.prior = code_priors.CategoricalCodePrior(K)
    model.prior.table.assign(np.random.default_rng(0).normal(size=model.prior.table.shape))
    model.save(tmp_path / "model.keras")
    for other in (keras.saving.load_model(tmp_path / "model.keras"), model.copy()):
        assert type(other) is tfvae.HierarchicalVQVAE
        np.testing.assert_array_equal(state(other), state(model))
        np.testing.assert_array_equal(other.prior.table, model.prior.table)
        np.testing.assert_array_equal(other.encode(x), model.encode(x))
        np.testing.assert_allclose(other.sample(3, seed=1), model.sample(3, seed=1), atol=1e-6)


def test_a_prior_is_over_the_list_of_all_codes():
    model = make()
    prior = code_priors.CategoricalCodePrior(K)
    model.prior = prior
    assert prior.code_shape == (20,)
    favourite = np.arange(20) % K
    prior.table.assign(30.0 * np.eye(K)[favourite][np.newaxis])
    expected = model.decode(favourite[np.newaxis])
    np.testing.assert_allclose(model.sample(1), expected, rtol=0, atol=1e-6)
    wrong = code_priors.CategoricalCodePrior(K)
    wrong.build((None, 4, 5))
    with pytest.raises(InvalidArgument, match=r"codes of \(4, 5\).*codes of \(20,\)"):
        model.prior = wrong


def test_mixed_precision(x):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = make()
    model.compile(tfvae.optimizers.Adam(0.05), run_eagerly=True)
    start = model.evaluate(x, verbose=0)[0]
    for _ in range(15):
        model.train_on_batch(x)
    assert model.evaluate(x, verbose=0)[0] < 0.9 * start
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}
    assert model(x).dtype == model.quantized(x).vectors.dtype == tf.float32


def test_coarse_codebooks_start_from_the_data_before_fine_ones(x):
    """The fine vectors that k-means sees are those with the coarse codebook already started."""
    codebooks = [VectorQuantizer(K, D, initializer="kmeans") for _ in range(2)]
    model = make(codebooks=codebooks)
    given = {}
    for level, quantizer in enumerate(model.codebooks):
        start = quantizer.initialize

        def initialize(vectors, level=level, start=start):
            given[level] = vectors
            start(vectors)

        quantizer.initialize = initialize
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    model.fit(x, verbose=0)
    assert list(given) == [1, 0]
    for level, vectors in given.items():
        np.testing.assert_array_equal(
            vectors, np.reshape(model.vectors_to_start(level, x), (-1, D))
        )
        assert not model.codebooks[level].needs_data
    # And those are what the quantizers get in a call.
    codes = model.by_codebook(model.encode(x))
    for level, vectors in given.items():
        actual = model.codebooks[level](vectors).codes
        np.testing.assert_array_equal(actual, np.ravel(codes[level]))


def test_names_stand_for_quantizers(x):
    encoders, decoders = networks(2, (64, 64))
    model = tfvae.HierarchicalVQVAE(encoders, "vq", decoders, likelihood="bernoulli")
    assert model.codebooks[0] is not model.codebooks[1]
    assert [q.embedding_dim for q in model.codebooks] == [64, 64]
    assert model.encode(x).shape == (10, 20)


def test_networks_that_wait_for_the_data(x):
    layers = keras.layers
    encoders = [keras.Sequential([layers.Conv2D(4, 2, strides=2)]) for _ in range(2)]
    decoders = [keras.Sequential([layers.Conv2DTranspose(n, 2, strides=2)]) for n in (1, 6)]
    codebooks = [VectorQuantizer(K, D) for _ in range(2)]
    model = tfvae.HierarchicalVQVAE(encoders, codebooks, decoders, likelihood="bernoulli")
    assert not model.built
    model.compile(run_eagerly=True)
    model.fit(x, verbose=0)
    assert model.grids == ((4, 4), (2, 2))
    assert model.sample(2).shape == (2, 8, 8, 1)


class TestRefusals:
    @staticmethod
    def parts():
        return [*networks(2, (D, D)), [VectorQuantizer(K, D) for _ in range(2)]]

    @pytest.mark.parametrize("missing", ["encoders", "decoders", "quantizers"])
    def test_numbers_that_do_not_match(self, missing):
        parts = dict(zip(("encoders", "decoders", "quantizers"), self.parts(), strict=True))
        parts[missing] = parts[missing][:1]
        with pytest.raises(InvalidArgument, match="one of each for every grid"):
            tfvae.HierarchicalVQVAE(**parts, likelihood="bernoulli")

    def test_no_levels(self):
        with pytest.raises(InvalidArgument, match="0 encoders"):
            tfvae.HierarchicalVQVAE([], [], [])

    def test_codebooks_of_different_sizes(self):
        encoders, decoders, _ = self.parts()
        codebooks = [VectorQuantizer(K, D), VectorQuantizer(K + 1, D)]
        with pytest.raises(InvalidArgument, match=r"\[5, 6\] codes; expected one size"):
            tfvae.HierarchicalVQVAE(encoders, codebooks, decoders)

    def test_several_codes_a_vector(self):
        encoders, decoders, _ = self.parts()
        codebooks = [quantizers.ResidualQuantizer(VectorQuantizer(K, D), 2) for _ in range(2)]
        with pytest.raises(InvalidArgument, match="expected quantizers of one code for each"):
            tfvae.HierarchicalVQVAE(encoders, codebooks, decoders)

    def test_one_quantizer_for_two_grids(self):
        encoders, decoders, codebooks = self.parts()
        with pytest.raises(InvalidArgument, match="the same quantizer"):
            tfvae.HierarchicalVQVAE(encoders, [codebooks[0]] * 2, decoders)

    @pytest.mark.parametrize(
        ("place", "network", "message"),
        [
            (("encoders", 1), halve(4, 5, 4, 0), r"encoder 2 takes .*\(4, 4, 5\).*\(4, 4, 6\)"),
            (("encoders", 1), halve(2, 6, 4, 0), r"encoder 2 takes .*\(2, 2, 6\).*\(4, 4, 6\)"),
            (("decoders", 1), double(2, 9, 7, 0), r"decoder 2 takes .*\(2, 2, 9\).*\(2, 2, 3\)"),
            (("decoders", 0), double(4, 3, 1, 0), r"decoder 1 takes .*\(4, 4, 3\).*\(4, 4, 10\)"),
            (("decoders", 0), double(4, 10, 2, 0), r"describes values of shape \(8, 8, 2\)"),
            (
                ("decoders", 1),
                keras.Sequential([keras.Input((2, 2, D)), keras.layers.Conv2D(7, 1)]),
                r"Decoder 2 gives features of \(2, 2\), but the grid below is \(4, 4\)",
            ),
        ],
        ids=["channels in", "size in", "vectors in", "joined", "likelihood", "size out"],
    )
    def test_networks_that_do_not_fit(self, place, network, message):
        parts = dict(zip(("encoders", "decoders", "quantizers"), self.parts(), strict=True))
        parts[place[0]][place[1]] = network
        with pytest.raises(InvalidArgument, match=message):
            tfvae.HierarchicalVQVAE(**parts, likelihood="bernoulli")

    def test_codes(self):
        with pytest.raises(InvalidData, match=r"expected \[N, 20\]"):
            make().decode(np.zeros((1, 4, 5), int))
        with pytest.raises(InvalidData, match="from 0 to 4"):
            make().decode(np.full((1, 20), K))

    def test_a_loss(self):
        with pytest.raises(InvalidArgument, match="HierarchicalVQVAE has a loss of its own"):
            make().compile(loss="mse")


def test_a_name_stands_for_quantizers_with_noise_of_their_own():
    """Of 512 codes that are all as likely, two grids share 1 in 512."""
    keras.utils.set_random_seed(1)
    dims = [64, 64]
    model = tfvae.HierarchicalVQVAE(*_around("gumbel", networks(2, dims)), likelihood="bernoulli")
    assert [quantizer.seed for quantizer in model.codebooks] == [0, 1]
    drawn = []
    for quantizer in model.codebooks:
        quantizer.table.assign(np.zeros((512, 64)))
        drawn.append(quantizer(np.zeros((2000, 64), np.float32), training=True).codes.numpy())
    assert np.mean(drawn[0] == drawn[1]) < 0.02


def test_projections_compute_in_float32_whatever_the_policy(x):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = make()
        expected = model.encode(x)
        config = model.get_config()
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_array_equal(model.copy(config).encode(x), expected)
    assert {layer.compute_dtype for layer in model.projections} == {"float32"}


def test_grids_draw_noise_of_their_own_whatever_the_seeds():
    """Of 512 codes that are all as likely, two grids share 1 in 512."""
    dims = [64, 64]
    given = ["gumbel", quantizers.GumbelSoftmaxQuantizer()]
    model = tfvae.HierarchicalVQVAE(*_around(given, networks(2, dims)), likelihood="bernoulli")
    assert [quantizer.seed for quantizer in model.codebooks] == [0, 0]
    drawn = []
    for quantizer in model.codebooks:
        quantizer.table.assign(np.zeros((512, 64)))
        drawn.append(quantizer(np.zeros((2000, 64), np.float32), training=True).codes.numpy())
    assert np.mean(drawn[0] == drawn[1]) < 0.02


@pytest.mark.parametrize(
    "frozen", nightly_but(["all", "first projection", "upper codebook"], "all", "first projection")
)
def test_what_is_frozen_stays_so(frozen, tmp_path):
    model = make()
    part = {
        "all": model,
        "first projection": model.projections[0],
        "upper codebook": model.codebooks[1],
    }[frozen]
    part.trainable = False
    model.save(tmp_path / "a.keras")
    expected = [v.shape for v in model.trainable_variables]
    for again in (model.copy(), keras.saving.load_model(tmp_path / "a.keras")):
        assert again.trainable == model.trainable
        assert [v.shape for v in again.trainable_variables] == expected
        assert [p.trainable for p in again.projections] == [p.trainable for p in model.projections]


def test_a_copy_of_a_frozen_model_has_nothing_to_learn_either(x):
    model = make()
    model.trainable = False
    again = model.copy()
    again.compile(run_eagerly=True)
    with pytest.raises(InvalidArgument, match="all of them are frozen"):
        again.fit(x, verbose=0)
