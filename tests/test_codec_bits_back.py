"""Bits-back coding: what is written comes back, in as many bits as the ELBO says."""

import io
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import tfvae as library
from tfvae import codec, distributions, recipes, runs
from tfvae.codec import bits_back
from tfvae.codec.bit_stack import Buckets, Stack, Table
from tfvae.errors import InvalidArgument, InvalidData, InvalidFile
from tfvae.models.precision import HALF, in_float32
from tfvae.runs import RunDirectory
from tfvae.tools import decode

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
    encoder = _network(x_shape, (*shape[:-1], params), width)
    decoder = _network(shape, (*x_shape[:-1], likelihood.params_size(x_shape[-1])), width)
    model = library.VAE(
        encoder, decoder, posterior=posterior, likelihood=likelihood, condition=condition, **options
    )
    rng = np.random.default_rng(2)
    drawn = [0.6 * rng.normal(size=w.shape) if w.ndim else w for w in model.get_weights()]
    model.set_weights(drawn)
    return model


def _network(input_shape, output_shape, width):
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


@pytest.fixture(scope="module")
def content(model, x):
    return codec.compress_lossless(model, x[:20]).content


def test_decoded_examples_are_written_beside_their_condition(tmp_path):
    """So that rows of a table get the column that is the condition."""
    model, y = make_vae(condition=3), np.arange(20) % 3
    x = draw_x(model, 20)
    model.save(tmp_path / "m.keras")
    codec.compress_lossless(model, x, tmp_path / "a.npz", condition=y)
    decoded, source, condition = decode._decompress(tmp_path / "m.keras", tmp_path / "a.npz")
    np.testing.assert_array_equal(decoded, x)
    np.testing.assert_array_equal(condition, y)
    assert source.condition.num_classes == 3


class TestStack:
    def test_what_is_popped_and_pushed_again_leaves_it_as_it_was(self, rng):
        words = rng.integers(1, 1 << 32, 500, dtype=np.uint32)
        stack = Stack(words)
        codes = [
            Table(5 * rng.normal(size=(40, 7))),
            Table(rng.normal(size=(10, 1))),
            Buckets(rng.normal(size=30), np.exp(3 * rng.normal(size=30)), 11),
            Buckets(20 * rng.normal(size=30), np.full(30, 1e-3), 12),
        ]
        popped = [code.pop(stack) for code in codes]
        assert len(stack.finish()[0]) < 495
        for code, symbols in list(zip(codes, popped, strict=True))[::-1]:
            code.push(stack, symbols)
        np.testing.assert_array_equal(stack.finish()[0], words)
        assert stack.ideal_bits == pytest.approx(0.0, abs=1e-6)

    def test_popped_symbols_are_draws(self):
        """10^5 symbols: frequencies within 5 standard errors."""
        stack, p = Stack.of_random_bits(), np.array([0.6, 0.3, 0.1])
        stack.reserve(100_000)
        symbols = Table(np.tile(np.log(p), [100_000, 1])).pop(stack)
        share = np.bincount(symbols, minlength=3) / 1e5
        assert np.all(np.abs(share - p) < 5 * np.sqrt(p * (1 - p) / 1e5))

    def test_the_masses_of_buckets_are_those_of_the_normal(self):
        """At precision 6, to 1e-6 of the mass."""
        loc, scale = np.array([0.0, 1.3, -2.0]), np.array([1.0, 0.2, 3.0])
        buckets = Buckets(loc, scale, 6)
        among = buckets._among()
        edges = stats.norm.ppf(np.arange(65) / 64)
        for j in (0, 5, 31, 40, 63):
            high, low = np.divmod(np.full(3, j), 8)
            mass = among[np.arange(3), high] * buckets._within(high)[np.arange(3), low]
            ends = (stats.norm.cdf(edges[k], loc, scale) for k in (j + 1, j))
            expected = next(ends) - next(ends)
            np.testing.assert_allclose(mass, expected, rtol=1e-6, atol=1e-12)

    def test_only_the_random_words_that_were_popped_stay(self):
        stack = Stack.of_random_bits()
        stack.reserve(1000)
        code = Table(np.zeros([10, 16]))
        code.push(stack, code.pop(stack))
        stream, initial_bits = stack.finish()
        assert 40 <= initial_bits <= 40 + 3 * 32
        assert 32 * len(stream) == initial_bits


def round_trip(model, x, **options):
    compressed = codec.compress_lossless(model, x, **options)
    back = codec.decompress_lossless(model, compressed.content)
    np.testing.assert_array_equal(back, x)
    assert back.dtype == np.float32
    return compressed


class TestRoundTrip:
    @pytest.mark.parametrize("likelihood", LIKELIHOODS)
    @pytest.mark.slow
    def test_every_likelihood(self, likelihood):
        model = make_vae(likelihood)
        x = np.minimum(draw_x(model, 23), 40.0)  # counts too, so that tables are small
        assert len(np.unique(x)) > 2 or likelihood == "bernoulli"
        compressed = round_trip(model, x, batch_size=4)
        assert compressed.net_bits == pytest.approx(compressed.elbo_bits, rel=0.01, abs=64)

    @pytest.mark.parametrize("posterior", POSTERIORS)
    @pytest.mark.parametrize("count", [1, 40])
    def test_every_posterior(self, posterior, count):
        model = make_vae(posterior=posterior)
        round_trip(model, draw_x(model, count))

    @pytest.mark.parametrize("prior", ["mixture", "vamp"])
    def test_mixtures(self, prior):
        options = {"num_components": 5} | ({"spread": 2.0} if prior == "mixture" else {})
        model = make_vae(prior=library.priors.get(prior, **options))
        compressed = round_trip(model, draw_x(model, 30))
        assert compressed.net_bits == pytest.approx(compressed.elbo_bits, abs=64)

    @pytest.mark.parametrize("prior", ["standard_normal", "conditional_normal"])
    def test_conditions_are_kept_in_the_file(self, prior):
        model = make_vae(condition=3, prior=prior)
        x = draw_x(model, 20)
        for y in (np.arange(20) % 3, 1):
            round_trip(model, x, condition=y, batch_size=2)
        vectors = make_vae(condition=(2,), prior=prior)
        y = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
        round_trip(vectors, x, condition=y)
        whole = np.tile([-1, 300], (20, 1))
        round_trip(vectors, x, condition=whole)
        content = codec.compress_lossless(vectors, x, condition=whole).content
        with np.load(io.BytesIO(content)) as archive:
            np.testing.assert_array_equal(archive["labels"], whole)
        np.testing.assert_array_equal(codec.condition_in(content), whole)

    @pytest.mark.parametrize("precision", [2, 5, 20])
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
        monkeypatch.setattr(bits_back, "Stack", _Wasteful)
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
        sizes = [rows.stop - rows.start for rows in bits_back._batches(1000, 64)]
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


class TestRefusal:
    def test_a_byte_that_changed_is_found(self, model, x, content):
        rng, refused = np.random.default_rng(8), 0
        for place in rng.choice(len(content), 40, replace=False):
            damaged = bytearray(content)
            damaged[place] ^= 1 << rng.integers(8)
            try:
                back = codec.decompress_lossless(model, bytes(damaged))
            except InvalidFile:
                refused += 1
            else:  # a field of the archive that nothing reads, such as a date
                np.testing.assert_array_equal(back, x[:20])
        assert refused > 25

    @pytest.mark.parametrize("kept", [0, 1, 300, -1])
    def test_a_truncated_file_is_refused(self, model, content, kept, tmp_path):
        (tmp_path / "cut.npz").write_bytes(content[:kept])
        with pytest.raises(InvalidFile, match=r"cut\.npz .*damaged or truncated.*tfvae encode"):
            codec.decompress_lossless(model, tmp_path / "cut.npz")

    def test_a_stream_that_was_tampered_with_is_found(self, model, content):
        stream = dict(np.load(io.BytesIO(content)))["stream"]
        for other in (
            stream[:-1],
            stream[::-1],
            stream[:0],
            stream[len(stream) // 2 :],
            0 * stream,
        ):
            with pytest.raises(InvalidFile, match=r"another checksum.*model's arithmetic differs"):
                codec.decompress_lossless(model, edited(content, stream=other))

    @pytest.mark.parametrize(
        "fields",
        [
            {"num_images": 10**12},
            {"batch_size": 10**9},
            {"precision": 60},
            {"precision": "a"},
            {"x_shape": 3},
        ],
    )
    def test_a_header_that_was_tampered_with_is_found(self, model, content, fields):
        with pytest.raises(InvalidFile, match="damaged"):
            codec.decompress_lossless(model, edited(content, **fields))

    def test_more_images_than_the_stream_has_are_refused_before_they_are_made(self, model, content):
        with pytest.raises(InvalidFile, match="another checksum"):
            codec.decompress_lossless(model, edited(content, num_images=1_000_000))

    @pytest.mark.parametrize("part", ["encoder", "decoder", "prior"])
    def test_a_file_of_another_model_is_refused(self, part):
        prior = library.priors.get("mixture", num_components=2)
        model = make_vae(prior=prior)
        content = codec.compress_lossless(model, draw_x(model, 3)).content
        changed = getattr(model, part)
        changed.set_weights([w + 0.01 for w in changed.get_weights()])
        with pytest.raises(InvalidFile, match=r"another model.*fingerprint [0-9a-f]{16}"):
            codec.decompress_lossless(model, content)

    def test_a_reader_that_rounds_differently_is_found(self, model, content, monkeypatch):
        masses = Buckets._masses
        monkeypatch.setattr(Buckets, "_masses", lambda *a: masses(*a) * [[1 + 1e-3] + [1] * 63])
        with pytest.raises(InvalidFile, match="another checksum"):
            codec.decompress_lossless(model, content)

    def test_a_file_of_codes_and_one_without_loss_are_not_mixed_up(self, model, content):
        encoder = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(3, 2, 2)])
        decoder = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Conv2DTranspose(1, 2, 2)])
        vq = library.VQVAE(
            encoder,
            library.quantizers.get("ema", embedding_dim=3, num_embeddings=4),
            decoder,
            likelihood="bernoulli",
        )
        vq.prior = library.code_priors.get("uniform", codebook_size=4)
        with pytest.raises(InvalidFile, match=r"without loss.*VAE.*decompress_lossless"):
            codec.decompress(vq, content)
        codes = codec.compress_codes(vq, np.zeros((2, 4, 4), int)).content
        with pytest.raises(InvalidFile, match=r"holds codes.*VQVAE"):
            codec.decompress_lossless(model, codes)
        with pytest.raises(InvalidArgument, match=r"got VQVAE; expected a VAE.*codec\.compress"):
            codec.compress_lossless(vq, np.zeros((2, 8, 8, 1)))

    @pytest.mark.parametrize(
        ("likelihood", "message"),
        [
            ("normal", "Normal is a density"),
            ("continuous_bernoulli", "density"),
            (library.likelihoods.Poisson(size_factor="total"), "depend on each other"),
            (library.likelihoods.Observed("bernoulli"), "missing values"),
            (library.likelihoods.Columns([("bernoulli", 1), ("categorical", 1, {"num_levels": 3})]),
             "different numbers of levels"),
            (library.likelihoods.Columns([("poisson", 1), ("bernoulli", 1)]), "columns of counts"),
        ],
        ids=str,
    )  # fmt: skip
    def test_a_likelihood_that_cannot_be_coded_is_refused_by_name(self, likelihood, message):
        encoder, observed = _network((3, 2, 2), (6,), 0), "Observed" in str(likelihood)
        if observed:
            inputs = keras.Input((3, 2, 2))
            encoder = keras.Model(
                inputs, encoder(library.networks.ZeroImputation()(inputs)[..., :2])
            )
        likelihood = library.likelihoods.get(likelihood)
        decoder = _network((3,), (3, 2, likelihood.params_size(2)), 0)
        model = library.VAE(encoder, decoder, likelihood=likelihood)
        with pytest.raises(InvalidArgument, match=f"{message}.*Expected.*'bernoulli'"):
            codec.compress_lossless(model, np.zeros((2, 3, 2, 2)))

    @pytest.mark.parametrize("part", ["posterior", "prior"])
    def test_latents_that_cannot_be_coded_are_refused_by_name(self, part):
        if part == "prior":
            model, name = make_vae(prior="flow"), "FlowPrior"
        else:
            posterior, name = library.posteriors.get("full_normal"), "FullNormal"
            encoder = _network((3, 2, 2), (posterior.params_size(3),), 0)
            model = library.VAE(encoder, _network((3,), (3, 2, 2), 0), posterior=posterior)
        with pytest.raises(InvalidArgument, match=f"{name}.*expected.*'diagonal_normal'"):
            codec.compress_lossless(model, np.zeros((2, 3, 2, 2)))

    def test_several_layers_are_refused(self):
        model = library.HierarchicalVAE(
            encoders=[_network((3, 2, 2), (6,), 0), _network((3,), (4,), 0)],
            decoders=[_network((3,), (3, 2, 2), 0), _network((2,), (6,), 0)],
        )
        with pytest.raises(InvalidArgument, match="got HierarchicalVAE; expected a VAE"):
            codec.compress_lossless(model, np.zeros((2, 3, 2, 2)))

    def test_values_between_the_levels_are_refused(self, model):
        with pytest.raises(InvalidData, match=r"50% .* between the 2 levels.*Binarize"):
            codec.compress_lossless(model, np.tile(np.float32([0, 0.4]), (2, 3, 2, 1)))

    def test_latents_that_memory_does_not_hold_are_refused(self, model, x, monkeypatch):
        """Three of 2^20 buckets take 8 arrays of 3·2^10 numbers, more than 12 bits of x."""
        compressed = codec.compress_lossless(model, x[:9], batch_size=9, precision=np.int64(20))
        monkeypatch.setenv("TFVAE_MAX_MEMORY", "1MB")
        with pytest.raises(InvalidFile, match="holds 9 images in batches of 9, which take 1"):
            codec.decompress_lossless(model, compressed.content)
        with pytest.raises(InvalidArgument, match="Use fewer examples at a time"):
            codec.compress_lossless(model, x[:9], batch_size=9, precision=20)
        codec.compress_lossless(model, x[:9], batch_size=4, precision=20)

    def test_half_precision_writes_what_a_run_reads(self, x):
        keras.config.set_dtype_policy("mixed_bfloat16")
        model = make_vae()
        content = codec.compress_lossless(model, x[:20]).content
        for reader in (model, in_float32(model, HALF)):
            np.testing.assert_array_equal(codec.decompress_lossless(reader, content), x[:20])

    def test_counts_too_large_for_a_table_are_refused(self):
        model = make_vae("poisson")
        x = np.full((2, *model.x_shape), 1e12, np.float32)
        with pytest.raises(InvalidArgument, match=r"memory.*very large"):
            codec.compress_lossless(model, x)

    @pytest.mark.parametrize("precision", [1, 21, 12.5])
    def test_a_precision_that_the_coder_does_not_have(self, model, x, precision):
        with pytest.raises(InvalidArgument, match="precision"):
            codec.compress_lossless(model, x, precision=precision)

    def test_networks_that_diverged(self, x):
        for part in ("encoder", "decoder"):
            model = make_vae()
            network = getattr(model, part)
            network.set_weights([w * np.nan for w in network.get_weights()])
            with pytest.raises(InvalidArgument, match="diverged"):
                codec.compress_lossless(model, x)

    def test_a_path_with_another_ending(self, model, x, tmp_path):
        with pytest.raises(InvalidArgument, match=r"\.npz"):
            codec.compress_lossless(model, x, tmp_path / "a.png")


def edited(content, stream=None, **fields):
    """Return a file with another stream, or other fields in its header."""
    arrays = dict(np.load(io.BytesIO(content)))
    header = json.loads(arrays["header"].tobytes()) | fields
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, **arrays | ({} if stream is None else {"stream": stream}))
    return file.getvalue()


# The command line.


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with a VAE that was never trained; not to be changed."""
    config = recipes.load("vae-digits")
    run = RunDirectory.create(tmp_path_factory.mktemp("lossless") / "run", config)
    runs.build_model(config, runs.load_data(config)).save(run.model_file)
    return run


def test_test_images_of_a_run_there_and_back(command, run, tmp_path):
    status, out, err = command("encode", run.path, "-n", 30, "-o", "a.npz", "--json")
    assert status == 0, err
    values = json.loads(out)
    assert values["num_images"] == 30
    assert values["bytes"] == (tmp_path / "a.npz").stat().st_size
    x = runs.load_data(run.read_config()).test.numpy(0, 30)
    expected = codec.compress_lossless(run.load_model(), x)
    assert values == {"path": "a.npz", **expected.summary()}

    status, out, err = command("decode", run.path, "--codes", "a.npz", "-o", "a.npy", "--json")
    assert json.loads(out) == {"path": "a.npy", "num_images": 30}
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), x)


def test_it_is_reported_for_people(command, run):
    _, out, err = command("encode", run.path, "-n", 3, "-o", "a.npz")
    words = ("3 images in a.npz", "bits/dim, without loss", "net", "-ELBO", "initial")
    assert all(word in out for word in words), err
    assert "lossless" in command("encode", "--help")[1]


def test_a_rate_is_refused(command, run):
    status, _, err = command("encode", run.path, "--rate", 100, "-o", "a.npz")
    assert status == 2
    assert "VAE writes examples without loss" in err
