import json
import math

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

import tfvae
from tfvae import evaluation
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.evaluation import CodeLogLikelihood, code_measures
from tfvae.evaluation.codes import Moments

X_SHAPE = (2, 2, 1)
NUM_CODES = 3  # K


def make_model(likelihood="bernoulli", num_classes=0, codebook_size=NUM_CODES, **options):
    """Return a VQ-VAE of 2×2 images with two codes, and a prior that is not uniform."""
    keras.utils.set_random_seed(2)
    likelihood = tfvae.likelihoods.REGISTRY.get(likelihood)
    params = (*X_SHAPE[:-1], likelihood.params_size(1))
    encoder = tfvae.networks.dense_encoder(X_SHAPE, (2, 2), hidden=(8,))
    decoder = tfvae.networks.dense_decoder((2, 2), params, hidden=(8,))
    quantizer = tfvae.quantizers.VectorQuantizer(embedding_dim=2, num_embeddings=codebook_size)
    model = tfvae.VQVAE(encoder, quantizer, decoder, likelihood=likelihood, **options)
    rng = np.random.default_rng(3)
    model.set_weights([_drawn(rng, w) for w in model.get_weights()])
    prior = tfvae.code_priors.get(
        "transformer",
        codebook_size=codebook_size,
        num_layers=1,
        num_heads=1,
        hidden_size=4,
        num_classes=num_classes,
    )
    prior.build((None, 2))
    prior.set_weights([_drawn(rng, w) for w in prior.get_weights()])
    model.prior = prior
    return model


def _drawn(rng, weight):
    return rng.normal(size=weight.shape) if weight.dtype.kind == "f" else weight


def make_hierarchical():
    """Return a model of 4×4 images with a grid of 2×2 codes and one code above it."""
    keras.utils.set_random_seed(2)
    x, below = keras.Input((4, 4, 1)), keras.Input((2, 2, 3))
    layers = keras.layers
    encoders = [
        keras.Model(x, layers.Conv2D(3, 2, 2)(x)),
        keras.Model(below, layers.Conv2D(3, 2, 2)(below)),
    ]
    joined, top = keras.Input((2, 2, 4)), keras.Input((1, 1, 2))
    decoders = [
        keras.Model(joined, layers.Conv2DTranspose(1, 2, 2)(joined)),
        keras.Model(top, layers.Conv2DTranspose(2, 2, 2)(top)),
    ]
    quantizers = [
        tfvae.quantizers.VectorQuantizer(embedding_dim=2, num_embeddings=5) for _ in range(2)
    ]
    return tfvae.HierarchicalVQVAE(encoders, quantizers, decoders, likelihood="bernoulli")


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def all_images():
    """Every binary image of 2×2 pixels."""
    bits = np.arange(16)[:, None] >> np.arange(4) & 1
    return bits.reshape(16, *X_SHAPE).astype(np.float32)


def all_codes():
    return np.stack(np.meshgrid(*[np.arange(NUM_CODES)] * 2), -1).reshape(-1, 2).astype(np.int32)


def log_joint(model, x):
    """Return log p(x|codes) + log p(codes) of all codes, `[codes, B]`, by NumPy in float64."""
    codes = all_codes()
    logits = model.decoder(model.lookup(codes)).numpy().astype(np.float64).reshape(len(codes), -1)
    flat = x.reshape(len(x), -1)
    log_x = logits @ flat.T - np.logaddexp(0, logits).sum(-1)[:, None]
    log_softmax = scipy.special.log_softmax(model.prior.logits(codes).numpy().astype("f8"), axis=-1)
    log_codes = np.take_along_axis(log_softmax, codes[..., None], -1).sum((1, 2))
    return log_x + log_codes[:, None]


class TestLogLikelihood:
    def test_it_is_the_term_of_the_examples_own_codes(self, model, all_images):
        measured = tfvae.log_likelihood(model, all_images, progress=False)
        assert isinstance(measured, CodeLogLikelihood)
        row = model.encode(all_images).numpy() @ [1, NUM_CODES]  # of all_codes()
        order = all_codes() @ [1, NUM_CODES]
        rows = [int(np.flatnonzero(order == number)[0]) for number in row]
        assert len(set(rows)) > 1
        expected = log_joint(model, all_images)[rows, np.arange(16)]
        np.testing.assert_allclose(measured.per_example, expected, rtol=1e-5)
        assert measured.num_values == 4

    def test_it_is_a_lower_bound_on_a_distribution(self, model, all_images):
        exact = scipy.special.logsumexp(log_joint(model, all_images), axis=0)
        assert np.exp(exact).sum() == pytest.approx(1.0, abs=1e-6)
        bound = tfvae.log_likelihood(model, all_images, progress=False).per_example
        assert np.all(bound <= exact + 1e-6)
        assert np.any(bound < exact - 0.1)

    def test_with_the_uniform_prior_the_rate_is_s_log_k(self, all_images):
        model = make_model(prior=None)
        learned = tfvae.log_likelihood(model, all_images, progress=False)
        model.prior = tfvae.code_priors.UniformCodePrior(NUM_CODES)
        uniform = tfvae.log_likelihood(model, all_images, progress=False)
        np.testing.assert_allclose(uniform.rate, 2 * math.log(NUM_CODES), rtol=1e-6)
        assert uniform.uniform_rate == pytest.approx(2 * math.log(NUM_CODES))
        assert learned.uniform_mean == pytest.approx(uniform.mean, rel=1e-5)
        assert learned.uniform_bits_per_dim == pytest.approx(uniform.bits_per_dim, rel=1e-5)
        # The prior that the model got after it was measured is the one it is measured with.
        assert not np.allclose(learned.rate, uniform.rate)

    def test_the_summary_is_json(self, model, all_images):
        measured = tfvae.log_likelihood(model, all_images, progress=False)
        values = measured.summary()
        assert json.loads(json.dumps(values)) == values
        assert set(values) == {
            "log_likelihood",
            "standard_error",
            "bits_per_dim",
            "num_examples",
            "reconstruction",
            "rate",
            "uniform_log_likelihood",
            "uniform_bits_per_dim",
        }
        assert values["num_examples"] == 16
        parts = values["reconstruction"] + values["rate"]
        assert values["log_likelihood"] == pytest.approx(-parts, rel=1e-6)
        assert values["bits_per_dim"] == pytest.approx(parts / (4 * math.log(2)), rel=1e-6)
        assert "16 examples" in str(measured)

    def test_batches_and_datasets_change_nothing(self, model, all_images, monkeypatch):
        whole = tfvae.log_likelihood(model, all_images, progress=False).per_example
        monkeypatch.setattr(evaluation.codes, "_BATCH_SIZE", 5)
        for x in (all_images, tf.data.Dataset.from_tensor_slices(all_images).batch(3)):
            parts = tfvae.log_likelihood(model, x, progress=False).per_example
            np.testing.assert_allclose(parts, whole, rtol=1e-5)

    def test_samples_and_seed_have_no_effect(self, model, all_images):
        results = [
            tfvae.log_likelihood(model, all_images, num_samples=n, seed=n, progress=False).mean
            for n in (1, 70)
        ]
        assert results[0] == results[1]

    def test_a_hierarchical_model(self):
        model = make_hierarchical()
        x = np.random.default_rng(0).integers(0, 2, (7, 4, 4, 1)).astype(np.float32)
        measured = tfvae.log_likelihood(model, x, progress=False)
        codes = model.encode(x)
        assert codes.shape == (7, 5)
        given_codes = model.p_x_given_vectors(model.lookup(codes)).log_prob(x)
        np.testing.assert_allclose(measured.reconstruction, -given_codes, rtol=1e-5)
        np.testing.assert_allclose(measured.rate, 5 * math.log(5), rtol=1e-6)

    def test_what_it_does_not_use_is_refused(self, model, make_vae, images, all_images):
        with pytest.raises(InvalidArgument, match="`proposal`, which VQVAE has no use for"):
            tfvae.log_likelihood(model, all_images, proposal=lambda x: x, progress=False)
        with pytest.raises(InvalidArgument, match="VAE got a condition and has none"):
            tfvae.log_likelihood(make_vae(), images, condition=0, progress=False)

    def test_a_density_is_refused(self, all_images):
        with pytest.raises(InvalidArgument, match=r"Normal likelihood is a density.*'categorical'"):
            tfvae.log_likelihood(make_model("normal"), all_images, progress=False)

    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (np.zeros((0, *X_SHAPE)), "empty"),
            (np.zeros((3, 4, 4, 1)), r"\(4, 4, 1\).*\(2, 2, 1\)"),
            (np.full((3, *X_SHAPE), 2.0), "from 2 to 2"),
        ],
    )
    def test_data_that_does_not_fit_is_refused(self, model, x, message):
        with pytest.raises(InvalidData, match=message):
            tfvae.log_likelihood(model, x, progress=False)


@pytest.fixture(scope="module")
def conditional():
    return make_model(num_classes=3)


class TestClasses:
    def test_labels_follow_their_examples(self, conditional, all_images, monkeypatch):
        labels = np.arange(16) % 3
        expected = -conditional.prior.log_prob(conditional.encode(all_images), labels)
        monkeypatch.setattr(evaluation.codes, "_BATCH_SIZE", 5)
        for x in (all_images, tf.data.Dataset.from_tensor_slices(all_images).batch(4)):
            measured = tfvae.log_likelihood(conditional, x, condition=labels, progress=False)
            np.testing.assert_allclose(measured.rate, expected, rtol=1e-5)

    def test_one_label_stands_for_all(self, conditional, all_images):
        one, each = (
            tfvae.log_likelihood(conditional, all_images, condition=label, progress=False).rate
            for label in (1, np.full(16, 1))
        )
        np.testing.assert_array_equal(one, each)

    @pytest.mark.parametrize(
        ("labels", "error", "message"),
        [
            (None, InvalidArgument, "a label from 0 to 2, and this call got none"),
            (np.zeros(5, int), InvalidData, r"\(5,\)"),
            (np.full(16, 3), InvalidData, "3"),
        ],
    )
    def test_labels_that_do_not_fit_are_refused(
        self, conditional, all_images, labels, error, message
    ):
        with pytest.raises(error, match=message):
            tfvae.log_likelihood(conditional, all_images, condition=labels, progress=False)

    @pytest.mark.parametrize("count", [10, 15, 17])
    def test_so_are_those_of_a_dataset(self, conditional, all_images, monkeypatch, count):
        monkeypatch.setattr(evaluation.codes, "_BATCH_SIZE", 5)
        x = tf.data.Dataset.from_tensor_slices(all_images).batch(4)
        with pytest.raises(InvalidData, match=f"{count} conditions for"):
            tfvae.log_likelihood(conditional, x, condition=np.zeros(count, int), progress=False)

    def test_labels_without_classes_are_refused(self, all_images):
        with pytest.raises(InvalidArgument, match="got a condition and has none"):
            tfvae.log_likelihood(make_model(), all_images, condition=0, progress=False)


@pytest.fixture(scope="module")
def grey():
    """Thirteen grey images."""
    return np.random.default_rng(4).random((13, *X_SHAPE)).astype(np.float32)


class TestMeasures:
    @pytest.mark.parametrize("likelihood", ["bernoulli", "normal"])
    def test_they_are_what_numpy_finds(self, grey, likelihood, monkeypatch):
        x, model = grey, make_model(likelihood)
        monkeypatch.setattr(evaluation.codes, "_BATCH_SIZE", 5)
        errors = np.square(model(x).numpy().astype(np.float64) - x).reshape(13, -1).mean(1)
        counts = np.bincount(model.encode(x).numpy().ravel(), minlength=NUM_CODES)
        p = counts[counts > 0] / counts.sum()
        entropy = -np.sum(p * np.log(p))
        expected = {
            "mse": errors.mean(),
            "mse_over_variance": errors.mean() / x.astype(np.float64).var(),
            "psnr": np.mean(10 * np.log10(1 / errors)),
            "perplexity": np.exp(entropy),
            "code_usage": np.mean(counts > 0),
            "code_bits": 2 * entropy / np.log(2),
            "num_examples": 13,
        }
        for data in (x, tf.data.Dataset.from_tensor_slices(x).batch(4)):
            measured = code_measures(model, data)
            assert measured == pytest.approx(expected, rel=1e-4)
            assert json.loads(json.dumps(measured)) == measured

    def test_each_codebook_counts_for_itself(self):
        model = make_hierarchical()
        x = np.random.default_rng(0).integers(0, 2, (40, 4, 4, 1)).astype(np.float32)
        codes = model.encode(x).numpy()
        bits = 0.0
        for part in (codes[:, :1], codes[:, 1:]):
            counts = np.bincount(part.ravel())
            p = counts[counts > 0] / counts.sum()
            bits -= part.shape[1] * np.sum(p * np.log2(p))
        assert code_measures(model, x)["code_bits"] == pytest.approx(bits, rel=1e-5)

    def test_constant_data_has_no_variance_to_compare_with(self):
        x = np.full((5, *X_SHAPE), 0.1, np.float32)
        assert code_measures(make_model(), x)["mse_over_variance"] is None

    def test_an_exact_image_has_no_psnr(self):
        model = make_model("normal")
        model.decoder.set_weights([np.zeros_like(w) for w in model.decoder.get_weights()])
        x = np.stack([np.zeros(X_SHAPE), np.ones(X_SHAPE)])
        measured = code_measures(model, x)
        assert measured["psnr"] is None
        assert measured["mse"] == 0.5

    def test_data_that_does_not_fit_is_refused(self):
        with pytest.raises(InvalidData, match="empty"):
            code_measures(make_model(), np.zeros((0, *X_SHAPE)))


class TestMoments:
    def test_the_variance_of_a_stream_far_from_0(self):
        values = (1e6 + np.random.default_rng(0).normal(size=1000)).astype(np.float64)
        moments = Moments()
        assert moments.variance == 0
        for part in np.split(values, [10, 11, 500]):
            moments.add(part)
        assert moments.variance == pytest.approx(values.var(), rel=1e-9)

    def test_equal_values_have_none(self):
        moments = Moments()
        for size in (3, 7):
            moments.add(np.full(size, 0.1, np.float32))
        assert moments.variance == 0
