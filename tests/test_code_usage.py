"""Usage of codes over an epoch, against NumPy, and the warning of collapse."""

import types
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfvae
from tfvae import quantizers
from tfvae.errors import InvalidArgument, TfvaeWarning
from tfvae.models.code_usage import CodeUsage, WarnOfCollapse
from tfvae.quantizers import VectorQuantizer

pytestmark = pytest.mark.slow  # Compiles graphs of whole models.

K = 6


def expected(by_codebook, examples, size=K):
    """Return the three measures of the codes of each codebook, over all examples."""
    entropies, used, bits = [], [], 0.0
    for codes in by_codebook:
        frequencies = np.bincount(np.ravel(codes), minlength=size) / np.size(codes)
        p = frequencies[frequencies > 0]
        entropies.append(-np.sum(p * np.log(p)))
        used.append(len(p) / size)
        bits += np.size(codes) / examples * entropies[-1] / np.log(2)
    return {
        "perplexity": np.mean(np.exp(entropies)),
        "code_usage": np.mean(used),
        "code_bits": bits,
    }


def usage(sites, size=K):
    metric = CodeUsage()
    metric.start(sites, size)
    return metric


def values(result):
    return {name: float(value) for name, value in result.items()}


class TestCodeUsage:
    def test_a_codebook_of_more_codes_than_it_counts_is_refused(self):
        encoder = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Dense(25)])
        decoder = keras.Sequential([keras.Input((2, 2, 25)), keras.layers.Dense(1)])
        with pytest.raises(InvalidArgument, match=r"33,554,432 codes.*at most 16,777,216"):
            tfvae.VQVAE(encoder, "lfq", decoder, likelihood="bernoulli")

    def test_it_is_that_of_all_batches_together(self, rng, mode):
        """Of unequal sizes, and codes that get rarer: the mean over batches is another number."""
        metric = usage([4, 2])
        update = mode(metric.update_state)
        batches = [
            (rng.integers(0, high, (n, 2, 2)), rng.integers(0, 3, (n, 2)))
            for n, high in ((5, 6), (5, 2), (1, 1))
        ]
        for batch in batches:
            update([tf.constant(codes, tf.int32) for codes in batch])
        whole = [np.concatenate(codes) for codes in zip(*batches, strict=True)]
        actual = values(metric.result())
        for name, value in expected(whole, 11).items():
            assert actual[name] == pytest.approx(value, rel=1e-6)
        by_batch = [expected(batch, len(batch[0]))["perplexity"] for batch in batches]
        assert abs(np.mean(by_batch) - actual["perplexity"]) > 0.3

    @pytest.mark.parametrize(
        ("codes", "perplexity", "code_usage", "code_bits"),
        [
            (np.full((3, 4), 2), 1.0, 1 / 6, 0.0),
            (np.tile(np.arange(6), (3, 1)), 6.0, 1.0, 6 * np.log2(6)),
            ([[0, 1], [0, 1]], 2.0, 1 / 3, 2.0),
            ([[0, 0, 0, 1]], 2**0.8112781244591328, 1 / 3, 4 * 0.8112781244591328),
        ],
        ids=["one code", "all alike", "two codes", "three to one"],
    )
    def test_known_cases(self, codes, perplexity, code_usage, code_bits):
        metric = usage([np.shape(codes)[1]])
        metric.update_state([tf.constant(codes)])
        assert values(metric.result()) == pytest.approx(
            {"perplexity": perplexity, "code_usage": code_usage, "code_bits": code_bits}, rel=1e-6
        )

    def test_it_is_zero_before_the_first_batch_and_after_a_reset(self):
        metric = usage([2])
        nothing = {"perplexity": 0.0, "code_usage": 0.0, "code_bits": 0.0}
        assert values(metric.result()) == nothing
        metric.update_state([tf.constant([[1, 2]])])
        assert values(metric.result()) != nothing
        metric.reset_state()
        assert values(metric.result()) == nothing

    def test_levels_that_were_left_out_do_not_count(self):
        metric, without = usage([2, 2]), usage([2, 2])
        first, second = tf.constant([[0, 1], [2, 2]]), tf.constant([[3, 3], [-1, -1]])
        metric.update_state([first, second])
        without.update_state([first, second[:1]])
        assert values(metric.result()) == values(without.result())

    def test_counts_stay_exact_beyond_what_float32_holds(self):
        metric = usage([1])
        metric.counts.assign([[2.0**24, 0, 0, 0, 0, 0]])
        metric.update_state([tf.constant([[0]])])
        assert metric.counts.numpy()[0, 0] == 2**24 + 1


def make(quantizer=None, bias_only=False):
    """Return a VQVAE of 4×4 images with 2×2 codes; with `bias_only`, of one code for all."""
    keras.utils.set_random_seed(1)
    quantizer = quantizer or VectorQuantizer(K, 3)
    kernel = keras.initializers.Zeros() if bias_only else keras.initializers.RandomNormal(stddev=1)
    encoder = [keras.Input((4, 4, 1)), keras.layers.Conv2D(3, 2, 2, kernel_initializer=kernel)]
    decoder = [keras.Input((2, 2, 3)), keras.layers.Conv2DTranspose(1, 2, 2)]
    sequential = keras.Sequential
    model = tfvae.VQVAE(sequential(encoder), quantizer, sequential(decoder), likelihood="bernoulli")
    rng = np.random.default_rng(2)
    for weight in model.weights:
        if weight.path.endswith("/table"):
            weight.assign(rng.normal(size=weight.shape))
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    return model


class TestInTraining:
    """At a learning rate of 0, the codes of an epoch are those of the start."""

    @pytest.mark.parametrize(
        "quantizer",
        [VectorQuantizer(K, 3), quantizers.ResidualQuantizer(VectorQuantizer(K, 3), 2)],
        ids=["one code a vector", "two"],
    )
    def test_training_and_validation_count_their_own(self, images, quantizer):
        model = make(quantizer)
        options = {"batch_size": 5, "epochs": 2, "verbose": 0}
        history = model.fit(images, validation_data=images[:3], **options).history
        for prefix, x in (("", images), ("val_", images[:3])):
            codes = model.encode(x).numpy().reshape(len(x), 4, -1)
            for name, value in expected(np.moveaxis(codes, -1, 0), len(x)).items():
                np.testing.assert_allclose(history[prefix + name], [value] * 2, rtol=1e-6)
        assert history["perplexity"][0] > 1.5
        assert history["perplexity"] != history["val_perplexity"]

    def test_a_weight_does_not_make_an_example_count_more(self, images):
        model = make()
        plain = model.evaluate(images, verbose=0, return_dict=True)
        weights = np.linspace(0, 1, 12)
        weighted = model.evaluate(images, sample_weight=weights, verbose=0, return_dict=True)
        assert weighted["perplexity"] == plain["perplexity"]
        assert weighted["loss"] != plain["loss"]


def uniform(images):
    """Return images with the same pixels, and so the same code, at every site."""
    return np.tile(images[:1, :2, :2], (4, 2, 2, 1))


def collapses(model, x, epochs=4, **options):
    """Return the warnings of collapse during `fit`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x, epochs=epochs, batch_size=12, verbose=0, **options)
    return [str(w.message) for w in caught if issubclass(w.category, TfvaeWarning)]


def collapses_of(codes, size=K, epochs=4):
    """Return the warnings of collapse where these are the codes of every epoch, and their usage."""
    metric = usage([np.shape(part)[1] for part in codes], size)
    metric.update_state([tf.constant(part) for part in codes])
    callback = WarnOfCollapse()
    callback.set_model(types.SimpleNamespace(code_counts=metric.counts))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for epoch in range(epochs):
            callback.on_epoch_begin(epoch)
            callback.on_epoch_end(epoch)
    texts = [str(w.message) for w in caught if issubclass(w.category, TfvaeWarning)]
    return texts, values(metric.result())


class TestWarnOfCollapse:
    def test_it_comes_once_with_the_remedy(self, images):
        (text,) = collapses(make(bias_only=True), images, validation_data=images)
        assert "in epoch 3 its perplexity was 1.0 of 6 codes, 17% of them used at all" in text
        assert "threshold_ema_dead_code=1 and initializer='kmeans'" in text

    def test_it_waits_for_the_third_epoch(self):
        one_code = [np.full((12, 4), 2)]
        assert collapses_of(one_code, epochs=2)[0] == []
        assert len(collapses_of(one_code, epochs=3)[0]) == 1

    def test_a_healthy_codebook_is_left_in_peace(self, images):
        codes = make().encode(images).numpy().reshape(12, 4)
        assert collapses_of([codes])[0] == []

    def test_one_with_as_many_codes_as_there_are_vectors_is_healthy(self):
        """Of 1024 codes no more than 48 can come up in one image of 48 sites."""
        texts, measures = collapses_of([np.arange(48)[np.newaxis]], 1024)
        assert texts == []
        assert measures["perplexity"] == pytest.approx(48)
        ((text,), _) = collapses_of([np.full((1, 48), 7)], 1024)
        assert "perplexity was 1.0 of 1024 codes, 0% of them" in text

    def test_validation_is_not_what_it_looks_at(self, images):
        assert not collapses(make(), images, epochs=3, validation_data=uniform(images))
        assert collapses(make(), uniform(images), epochs=3, validation_data=images)

    def test_one_collapsed_codebook_among_several_is_named(self, rng):
        codes = rng.integers(0, K, (12, 4))
        ((text,), _) = collapses_of([codes, np.full((12, 4), 4)])
        assert text.startswith("Codebook 2 of 2 has collapsed")

    def test_a_codebook_of_one_code_cannot_collapse(self):
        assert collapses_of([np.zeros((12, 4), int)], 1)[0] == []

    def test_one_that_is_given_takes_the_place_of_the_usual_one(self, images):
        given = WarnOfCollapse(threshold=1.1, patience=1)
        (text,) = collapses(make(), images, epochs=1, callbacks=[given])
        assert "in epoch 1" in text
        silent = WarnOfCollapse(threshold=0.0)
        assert not collapses(make(bias_only=True), images, epochs=3, callbacks=silent)

    def test_a_callback_that_evaluates_does_not_confuse_it(self, images):
        """Evaluation begins its own counts: here of images with one code for every site."""

        class Evaluate(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                self.model.evaluate(uniform(images), verbose=0)

        assert not collapses(make(), images, epochs=3, callbacks=[Evaluate()])
