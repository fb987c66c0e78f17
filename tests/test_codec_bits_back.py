"""Bits-back coding: what is written comes back, in as many bits as the ELBO says."""

import io
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiers import nightly_but

import tfvae as library
from tfvae import codec, distributions
from tfvae.codec import bits_back, lossless
from tfvae.codec.bit_stack import Stack

LIKELIHOODS = {
    "bernoulli": {},
    "categorical": {"num_levels": 5},
    "ordinal": {"num_levels": 5},
    "discretized_logistic_mixture": {"num_levels": 9, "num_components": 2},
    "poisson": {},
    "negative_binomial": {},
    "zero_inflated_negative_binomial": {},
    "columns": {"blocks": [["categorical", 2, {"num_levels": 4}]]},
}
# The size of one latent, and for categorical latents the number of categories.
POSTERIORS = {"diagonal_normal": (3,), "bernoulli": (4,), "categorical": (2, 3)}


def make_vae(
    likelihood="bernoulli",
    posterior="diagonal_normal",
    x_shape=(3, 2, 2),
    condition=None,
    **options,
):
    """Return a VAE with arbitrary weights; the same arguments give the same weights."""
    keras.utils.set_random_seed(1)
    likelihood = library.likelihoods.get(likelihood, **LIKELIHOODS.get(likelihood, {}))
    shape = POSTERIORS[posterior]
    params = library.posteriors.get(posterior).params_size(shape[-1])
    width = 0 if condition is None else library.conditions.get(condition).size
    encoder = network(x_shape, (*shape[:-1], params), width)
    decoder = network(shape, (*x_shape[:-1], likelihood.params_size(x_shape[-1])), width)
    model = library.VAE(
        encoder, decoder, posterior=posterior, likelihood=likelihood, condition=condition, **options
    )
    rng = np.random.default_rng(2)
    drawn = [0.6 * rng.normal(size=w.shape) if w.ndim else w for w in model.get_weights()]
    model.set_weights(drawn)
    return model


def network(input_shape, output_shape, width):
    inputs = [keras.Input(input_shape)] + ([keras.Input((width,))] if width else [])
    flat = [keras.layers.Flatten()(each) for each in inputs]
    hidden = keras.layers.Concatenate()(flat) if width else flat[0]
    hidden = keras.layers.Dense(8, "tanh")(hidden)
    outputs = keras.layers.Dense(math.prod(output_shape))(hidden)
    return keras.Model(inputs, keras.layers.Reshape(output_shape)(outputs))


def draw_x(model, count):
    """Return examples that the model draws."""
    y = _some(model, count)
    seed, index = library.random.make_seed(3), tf.range(count)
    z, _ = model.draw(seed, index, condition=y)
    return np.asarray(
        model.p_x_given_z(z, condition=y).sample(seed=tf.constant([4, 0])), np.float32
    )


def _some(model, count):
    return None if model.condition is None else np.arange(count) % model.condition.size


@pytest.fixture(scope="module")
def model():
    return make_vae()


@pytest.fixture(scope="module")
def x(model):
    return draw_x(model, 150)


def round_trip(model, x, **options):
    compressed = codec.compress_lossless(model, x, **options)
    back = codec.decompress_lossless(model, compressed.content)
    np.testing.assert_array_equal(back, x)
    assert back.dtype == np.float32
    return compressed


class TestRoundTrip:
    @pytest.mark.parametrize(
        "likelihood",
        nightly_but(
            LIKELIHOODS,
            "zero_inflated_negative_binomial",
            "columns",
        ),
    )
    @pytest.mark.slow
    def test_every_likelihood(self, likelihood):
        model = make_vae(likelihood)
        x = np.minimum(draw_x(model, 23), 40.0)  # counts too, so that tables are small
        assert len(np.unique(x)) > 2 or likelihood == "bernoulli"
        compressed = round_trip(model, x, batch_size=4)
        assert compressed.net_bits == pytest.approx(compressed.elbo_bits, rel=0.01, abs=64)

    @pytest.mark.parametrize("posterior", POSTERIORS)
    @pytest.mark.parametrize("count", [1, 20])
    def test_every_posterior(self, posterior, count):
        model = make_vae(posterior=posterior)
        round_trip(model, draw_x(model, count))

    @pytest.mark.parametrize("prior", nightly_but(["mixture", "vamp"], "mixture"))
    def test_mixtures(self, prior):
        options = {"num_components": 5} | ({"spread": 2.0} if prior == "mixture" else {})
        model = make_vae(prior=library.priors.get(prior, **options))
        compressed = round_trip(model, draw_x(model, 30))
        assert compressed.net_bits == pytest.approx(compressed.elbo_bits, abs=64)

    @pytest.mark.parametrize(
        "prior", nightly_but(["standard_normal", "conditional_normal"], "conditional_normal")
    )
    def test_conditions_are_kept_in_the_file(self, prior):
        model = make_vae(condition=3, prior=prior)
        x = draw_x(model, 20)
        round_trip(model, x, condition=np.arange(20) % 3, batch_size=2)
        round_trip(model, x[:4], condition=1, batch_size=2)
        vectors, x = make_vae(condition=(2,), prior=prior), x[:4]
        y = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
        round_trip(vectors, x, condition=y)
        whole = np.tile([-1, 300], (4, 1))
        round_trip(vectors, x, condition=whole)
        content = codec.compress_lossless(vectors, x, condition=whole).content
        with np.load(io.BytesIO(content)) as archive:
            np.testing.assert_array_equal(archive["labels"], whole)
        np.testing.assert_array_equal(codec.condition_in(content), whole)

    @pytest.mark.parametrize("precision", nightly_but([2, 5, 20], 2, 20))
    def test_any_precision(self, model, x, precision):
        round_trip(model, x[:10], precision=precision)

    def test_latents_far_from_the_prior(self):
        """Buckets end where the prior does: q beyond it, or narrower than a bucket, costs bits."""
        model = make_vae()
        model.encoder.set_weights([20 * w for w in model.encoder.get_weights()])
        round_trip(model, draw_x(model, 20))

    def test_values_that_the_model_rules_out(self):
        model = make_vae()
        *others, bias = model.decoder.get_weights()
        model.decoder.set_weights([*others, bias + 1000])
        x = np.zeros((3, *model.x_shape), np.float32)
        compressed = round_trip(model, x)
        assert compressed.net_bits <= 24 * x.size + 200

    def test_a_file_and_a_model_that_was_saved(self, model, x, tmp_path):
        compressed = codec.compress_lossless(model, x[:9], tmp_path / "a.npz")
        assert (tmp_path / "a.npz").read_bytes() == compressed.content
        model.save(tmp_path / "m.keras")
        loaded = keras.saving.load_model(tmp_path / "m.keras")
        np.testing.assert_array_equal(codec.decompress_lossless(loaded, tmp_path / "a.npz"), x[:9])

    def test_a_dataset_is_as_good_as_an_array(self, model, x):
        batches = tf.data.Dataset.from_tensor_slices(x[:9]).batch(4)
        written = [codec.compress_lossless(model, each).content for each in (batches, x[:9])]
        assert written[0] == written[1]

    def test_eight_bit_images_come_back_to_the_bit(self):
        model = make_vae(library.likelihoods.Categorical(256), x_shape=(2, 2, 1))
        pixels = np.random.default_rng(0).integers(0, 256, (12, 2, 2, 1), dtype=np.uint8)
        x = pixels / np.float32(255)
        round_trip(model, x)
        np.testing.assert_array_equal(np.round(255 * x).astype(np.uint8), pixels)


class TestSize:
    """The net size is −ELBO/ln 2, up to the coder's rounding and the buckets."""

    @pytest.mark.parametrize("posterior", ["bernoulli", "categorical"])
    def test_it_is_the_exact_elbo_of_discrete_latents(self, posterior):
        """Within 4 standard errors of the sum over 150 examples, by enumeration, and 64 bits."""
        model = make_vae(posterior=posterior)
        x = draw_x(model, 150)
        z = distributions.all_states(posterior, model.latent_shape)[:, np.newaxis]
        q = model.q_z_given_x(x)
        log_q = q.log_prob(z).numpy().astype(np.float64)
        z = np.broadcast_to(z, [len(z), len(x), *model.latent_shape])
        log_w = model.log_joint(x, z).numpy() - log_q
        elbo = np.sum(np.exp(log_q) * log_w, axis=0)
        variance = np.sum(np.exp(log_q) * (log_w - elbo) ** 2, axis=0)
        self.check(codec.compress_lossless(model, x), elbo, variance)

    @pytest.mark.parametrize("prior", ["standard_normal", "mixture"])
    def test_it_is_the_elbo_of_continuous_latents(self, prior):
        """As above, of 400 samples of the ELBO for each example."""
        model = make_vae(prior=prior)
        x = draw_x(model, 150)
        log_w = model.log_weights(x, 400).numpy().astype(np.float64)
        variance = log_w.var(axis=0, ddof=1) * (1 + 1 / 400)
        self.check(codec.compress_lossless(model, x, precision=16), log_w.mean(axis=0), variance)

    @staticmethod
    def check(compressed, elbo, variance):
        expected, error = -elbo.sum() / math.log(2), math.sqrt(variance.sum()) / math.log(2)
        assert error < 0.05 * expected  # otherwise the test says nothing
        assert abs(compressed.net_bits - expected) < 4 * error + 64
        assert abs(compressed.net_bits - compressed.elbo_bits) < 64 + 1e-3 * expected

    def test_bits_that_are_not_given_back_are_in_the_file(self, model, x, monkeypatch):
        """The check above fails for a writer that draws z elsewhere than from the stack."""
        honest = codec.compress_lossless(model, x)
        monkeypatch.setattr(lossless, "Stack", _Wasteful)
        wasteful = codec.compress_lossless(model, x)
        assert wasteful.net_bits > honest.net_bits + 8 * x.shape[0]

    def test_the_initial_bits_are_those_of_the_first_example(self, model, x):
        """3 latents of 12 bits, two words of state, and one of rounding."""
        for count in (1, 150):
            compressed = codec.compress_lossless(model, x[:count])
            assert compressed.initial_bits <= 36 + 3 * 32
            assert compressed.net_bits + compressed.initial_bits == 8 * compressed.stream_bytes
            assert len(compressed.content) - compressed.stream_bytes < 800

    def test_batches_grow_with_the_stack(self):
        sizes = [rows.stop - rows.start for rows in bits_back.growing_batches(1000, 64)]
        assert sizes[:17] == [1] * 16 + [2]
        assert max(sizes) == 64
        assert sum(sizes) == 1000
        ends = np.cumsum([0, *sizes])
        assert all(size <= max(1, start // 8) for size, start in zip(sizes, ends, strict=False))

    def test_the_summary_is_json(self, model, x):
        values = codec.compress_lossless(model, x[:20]).summary()
        assert json.loads(json.dumps(values)) == values
        assert values["num_images"] == 20
        assert values["bits_per_dim"] == 8 * values["bytes"] / (20 * 12)


class _Wasteful(Stack):
    """A stack from which random bits are popped, and its own stay."""

    def pop(self, p):
        random = Stack.of_random_bits()
        random.reserve(len(p))
        return random.pop(p)
