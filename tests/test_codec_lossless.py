"""Files without loss: what is refused, and the command line."""

import io
import json

import keras
import numpy as np
import pytest
from test_codec_bits_back import draw_x, make_vae, network

import tfvae as library
from tfvae import codec, recipes, runs
from tfvae.codec.bit_stack import Buckets
from tfvae.errors import InvalidArgument, InvalidData, InvalidFile
from tfvae.models.precision import HALF, in_float32
from tfvae.runs import RunDirectory
from tfvae.tools import decode


@pytest.fixture(scope="module")
def model():
    return make_vae()


@pytest.fixture(scope="module")
def x(model):
    return draw_x(model, 150)


@pytest.fixture(scope="module")
def content(model, x):
    return codec.compress_lossless(model, x[:20]).content


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

    def test_a_header_of_other_levels_is_not_of_the_model(self, model, content):
        """What a batch takes is counted by the levels of the header."""
        with pytest.raises(InvalidFile, match=r"in 3 levels .* this model .*, 2 and"):
            codec.decompress_lossless(model, edited(content, num_levels=3))

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
        encoder, observed = network((3, 2, 2), (6,), 0), "Observed" in str(likelihood)
        if observed:
            inputs = keras.Input((3, 2, 2))
            encoder = keras.Model(
                inputs, encoder(library.networks.ZeroImputation()(inputs)[..., :2])
            )
        likelihood = library.likelihoods.get(likelihood)
        decoder = network((3,), (3, 2, likelihood.params_size(2)), 0)
        model = library.VAE(encoder, decoder, likelihood=likelihood)
        with pytest.raises(InvalidArgument, match=f"{message}.*Expected.*'bernoulli'"):
            codec.compress_lossless(model, np.zeros((2, 3, 2, 2)))

    @pytest.mark.parametrize("part", ["posterior", "prior"])
    def test_latents_that_cannot_be_coded_are_refused_by_name(self, part):
        if part == "prior":
            model, name = make_vae(prior="flow"), "FlowPrior"
        else:
            posterior, name = library.posteriors.get("full_normal"), "FullNormal"
            encoder = network((3, 2, 2), (posterior.params_size(3),), 0)
            model = library.VAE(encoder, network((3,), (3, 2, 2), 0), posterior=posterior)
        with pytest.raises(InvalidArgument, match=f"{name}.*expected.*'diagonal_normal'"):
            codec.compress_lossless(model, np.zeros((2, 3, 2, 2)))

    def test_several_layers_are_refused(self):
        model = library.HierarchicalVAE(
            encoders=[network((3, 2, 2), (6,), 0), network((3,), (4,), 0)],
            decoders=[network((3,), (3, 2, 2), 0), network((2,), (6,), 0)],
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
