"""The codec, in Python and on the command line."""

import dataclasses
import io
import json
import math
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tiers import LONG, nightly_but

import tfvae as library
from tfvae import code_priors, codec, export, recipes, runs
from tfvae.errors import InvalidArgument, InvalidData, InvalidFile
from tfvae.runs import RunDirectory
from tfvae.tools import encode

pytestmark = pytest.mark.slow  # Compiles graphs of whole models.

X_SHAPE = (8, 8, 1)
CODE_SHAPE = (4, 4)
NUM_CODES = 32  # K
SMALL = {
    "uniform": {},
    "categorical": {},
    "transformer": {"num_layers": 1, "num_heads": 2, "hidden_size": 8},
    "pixelcnn": {"num_layers": 1, "num_filters": 8, "kernel_size": 3},
}
PRIORS = [name for name in SMALL if name in code_priors.REGISTRY.names()]


def make_prior(name, code_shape=CODE_SHAPE, codebook_size=NUM_CODES, num_classes=0):
    """Return a prior with arbitrary weights."""
    prior = code_priors.get(
        name, codebook_size=codebook_size, num_classes=num_classes, **SMALL[name]
    )
    prior.build((None, *code_shape))
    rng = np.random.default_rng(5)
    prior.set_weights([_drawn(rng, w) for w in prior.get_weights()])
    return prior


def _drawn(rng, weight):
    return 0.5 * rng.normal(size=weight.shape) if weight.dtype.kind == "f" else weight


def make_model(prior="categorical", num_classes=0, codebook_size=NUM_CODES):
    """Return a VQ-VAE that was never trained; the same arguments give the same weights."""
    keras.utils.set_random_seed(1)
    small = {"filters": 4, "num_blocks": 0, "block_filters": 2}
    encoder = library.networks.residual_encoder(X_SHAPE, 3, num_downsamplings=1, **small)
    decoder = library.networks.residual_decoder((*CODE_SHAPE, 3), 1, num_upsamplings=1, **small)
    quantizer = library.quantizers.VectorQuantizer(embedding_dim=3, num_embeddings=codebook_size)
    model = library.VQVAE(encoder, quantizer, decoder, likelihood="bernoulli")
    model.prior = make_prior(prior, num_classes=num_classes, codebook_size=codebook_size)
    return model


def draw_codes(count, size=NUM_CODES):
    return np.random.default_rng(6).integers(0, size, (count, *CODE_SHAPE)).astype(np.int32)


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def x():
    """Thirteen grey images."""
    return np.random.default_rng(7).random((13, *X_SHAPE)).astype(np.float32)


class TestRoundTrip:
    @pytest.mark.parametrize(
        ("prior", "count", "batch_size"),
        nightly_but(
            [*((prior, 13, 5) for prior in PRIORS), ("categorical", 1, 64), ("categorical", 8, 4)],
            *((prior, 13, 5) for prior in PRIORS if prior != "pixelcnn"),
            ("categorical", 1, 64),
        ),
    )
    def test_codes_come_back(self, prior, count, batch_size):
        model, codes = make_model(prior), draw_codes(count)
        compressed = codec.compress_codes(model, codes, batch_size=batch_size)
        decoded = codec.decompress_codes(model, compressed.content)
        np.testing.assert_array_equal(decoded, codes)
        assert decoded.dtype == np.int32

    def test_images_come_back_as_the_decoder_has_them(self, model, x, tmp_path):
        compressed = codec.compress(model, x, tmp_path / "a.npz", batch_size=5)
        assert (tmp_path / "a.npz").read_bytes() == compressed.content
        np.testing.assert_array_equal(compressed.codes, model.encode(x))
        images = codec.decompress(model, tmp_path / "a.npz")
        np.testing.assert_allclose(images, model.decode(model.encode(x)), atol=1e-6)
        assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]

    def test_a_dataset_is_as_good_as_an_array(self, model, x):
        dataset = tf.data.Dataset.from_tensor_slices(x).batch(4)
        assert codec.compress(model, dataset).content == codec.compress(model, x).content

    # The next test has a transformer.
    @pytest.mark.parametrize("prior", nightly_but(PRIORS, "categorical"))
    def test_a_model_that_was_saved_reads_it(self, prior, tmp_path):
        model, codes = make_model(prior), draw_codes(7)
        content = codec.compress_codes(model, codes).content
        model.save(tmp_path / "m.keras")
        loaded = keras.saving.load_model(tmp_path / "m.keras")
        np.testing.assert_array_equal(codec.decompress_codes(loaded, content), codes)

    def test_half_precision_writes_what_a_run_reads(self, tmp_path):
        keras.config.set_dtype_policy("mixed_bfloat16")
        model, codes = make_model("transformer"), draw_codes(5)
        content = codec.compress_codes(model, codes, batch_size=np.int64(4)).content
        model.save(tmp_path / "m.keras")
        opened, _ = runs.open_model(tmp_path / "m.keras")
        for reader in (model, opened):
            np.testing.assert_array_equal(codec.decompress_codes(reader, content), codes)

    def test_vectors(self, tmp_path):
        dense, shape = keras.layers.Dense(6), keras.layers.Reshape((2, 3))
        encoder = keras.Sequential([keras.Input((6,)), dense, shape])
        decoder = keras.Sequential(
            [keras.Input((2, 3)), keras.layers.Flatten(), keras.layers.Dense(6)]
        )
        quantizer = library.quantizers.get("vq", embedding_dim=3, num_embeddings=4)
        model = library.VQVAE(encoder, quantizer, decoder, likelihood="normal")
        model.prior = make_prior("categorical", model.code_shape, 4)
        x = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
        compressed = codec.compress(model, x)
        found = codec.decompress_codes(model, compressed.content)
        np.testing.assert_array_equal(found, model.encode(x))
        values = encode._values(model, x, compressed, tmp_path / "a.npz")
        bits = 8 * len(compressed.content) / 9
        assert (values["num_examples"], values["bits_per_example"]) == (9, bits)
        assert f"{bits:.4f} bits/example" in "\n".join(encode._lines(values))

    @pytest.mark.parametrize("prior", nightly_but(["categorical", "transformer"], "categorical"))
    def test_a_hierarchical_model(self, prior):
        grids, channels = ((4, 4), (2, 2)), 3
        inputs = [keras.Input(shape) for shape in (X_SHAPE, (4, 4, 3), (4, 4, 6), (2, 2, 3))]
        layers = [
            keras.layers.Conv2D(channels, 2, 2),
            keras.layers.Conv2D(channels, 2, 2),
            keras.layers.Conv2DTranspose(1, 2, 2),
            keras.layers.Conv2DTranspose(channels, 2, 2),
        ]
        networks = [keras.Model(x, layer(x)) for x, layer in zip(inputs, layers, strict=True)]
        quantizers = [
            library.quantizers.VectorQuantizer(embedding_dim=3, num_embeddings=6) for _ in grids
        ]
        model = library.HierarchicalVQVAE(
            networks[:2], quantizers, networks[2:], likelihood="bernoulli"
        )
        model.prior = make_prior(prior, (20,), 6)
        x = np.random.default_rng(0).random((5, *X_SHAPE)).astype(np.float32)
        content = codec.compress(model, x).content
        np.testing.assert_array_equal(codec.decompress_codes(model, content), model.encode(x))

    @pytest.mark.parametrize("size", [1, 2, 300])
    def test_codebooks_small_and_large(self, size):
        model, codes = make_model(codebook_size=size), draw_codes(5, size)
        compressed = codec.compress_codes(model, codes)
        np.testing.assert_array_equal(codec.decompress_codes(model, compressed.content), codes)
        if size == 1:
            assert compressed.prior_bits == 0

    @pytest.mark.parametrize(
        ("prior", "labels"),
        [
            ("categorical", np.arange(7) % 3),
            ("categorical", 2),
            pytest.param("transformer", np.arange(7) % 3, marks=LONG),
            pytest.param("transformer", 2, marks=LONG),
        ],
    )
    def test_labels_are_kept_in_the_file(self, prior, labels):
        model, codes = make_model(prior, num_classes=3), draw_codes(7)
        compressed = codec.compress_codes(model, codes, condition=labels, batch_size=4)
        np.testing.assert_array_equal(codec.decompress_codes(model, compressed.content), codes)
        nats = -np.sum(model.prior.log_prob(codes, labels))
        assert compressed.prior_bits == pytest.approx(nats / math.log(2), rel=1e-5)

    def test_the_same_images_give_the_same_file(self, model, x):
        first, second = (codec.compress(model, x).content for _ in range(2))
        assert first == second


class TestSize:
    @pytest.mark.parametrize("prior", nightly_but(PRIORS, "categorical", "pixelcnn"))
    def test_the_stream_is_what_the_prior_says(self, prior):
        model, codes = make_model(prior), draw_codes(300)
        compressed = codec.compress_codes(model, codes)
        bits = -np.sum(model.prior.log_prob(codes), dtype=np.float64) / math.log(2)
        assert compressed.prior_bits == pytest.approx(bits, rel=1e-5)
        assert 8 * compressed.stream_bytes == pytest.approx(bits, rel=0.01)
        assert len(compressed.content) - compressed.stream_bytes < 800  # whatever the images

    def test_the_file_is_too_once_it_is_large(self, model):
        compressed = codec.compress_codes(model, draw_codes(10_000), batch_size=1000)
        assert 8 * len(compressed.content) == pytest.approx(compressed.prior_bits, rel=0.01)

    @pytest.mark.parametrize("expected", [True, False])
    def test_an_extreme_prior_is_one_of_24_bits(self, expected):
        """The coder's probabilities are at least 2^-24: impossible codes take no more than that."""
        model = make_model()
        model.prior.set_weights(
            [60 * _drawn(np.random.default_rng(9), w) for w in model.prior.get_weights()]
        )
        codes = draw_codes(200)
        if expected:
            codes = np.argmax(model.prior.logits(codes), axis=-1).astype(np.int32)
        compressed = codec.compress_codes(model, codes)
        np.testing.assert_array_equal(codec.decompress_codes(model, compressed.content), codes)
        if expected:
            assert 8 * compressed.stream_bytes <= compressed.prior_bits + codes.size * 3e-6 + 64
        else:
            assert compressed.prior_bits > 60 * codes.size
            assert 8 * compressed.stream_bytes <= 24 * codes.size + 64

    @pytest.mark.parametrize("prior", nightly_but(["categorical", "transformer"], "categorical"))
    def test_labels_are_the_only_thing_that_grows_with_the_number_of_images(self, prior):
        model = make_model(prior, num_classes=3)
        around = []
        for count in (50, 350):
            labels = np.arange(count) % 3
            written = codec.compress_codes(model, draw_codes(count), condition=labels)
            around.append(len(written.content) - written.stream_bytes)
        assert abs(around[1] - around[0] - 300) < 20

    def test_likelier_codes_take_less(self, model):
        codes = draw_codes(40)
        likeliest = np.argmax(model.prior.logits(codes), axis=-1)
        sizes = [codec.compress_codes(model, c).stream_bytes for c in (likeliest, codes)]
        assert sizes[0] < 0.8 * sizes[1]

    def test_the_summary_is_json(self, model, x):
        compressed = codec.compress(model, x)
        values = compressed.summary()
        assert json.loads(json.dumps(values)) == values
        assert values["num_images"] == 13
        assert values["bytes"] == len(compressed.content)
        assert values["bits_per_pixel"] == 8 * len(compressed.content) / (13 * 64)


class TestRefusal:
    @pytest.fixture
    def content(self, model):
        return codec.compress_codes(model, draw_codes(6)).content

    def test_a_byte_that_changed_is_found(self, model, content):
        codes, rng = draw_codes(6), np.random.default_rng(8)
        refused = 0
        for place in rng.choice(len(content), 150, replace=False):
            damaged = bytearray(content)
            damaged[place] ^= 1 << rng.integers(8)
            try:
                decoded = codec.decompress_codes(model, bytes(damaged))
            except InvalidFile:
                refused += 1
            else:  # a field of the archive that nothing reads, such as a date
                np.testing.assert_array_equal(decoded, codes)
        assert refused > 100

    @pytest.mark.parametrize("kept", [0, 1, 0.5, 0.99])
    def test_a_truncated_file_is_refused(self, model, content, kept, tmp_path):
        path = tmp_path / "cut.npz"
        path.write_bytes(content[: int(kept * len(content)) if kept != 1 else 1])
        with pytest.raises(InvalidFile, match=r"cut\.npz .*damaged or truncated.*tfvae encode"):
            codec.decompress(model, path)

    def test_a_stream_that_was_tampered_with_is_found(self, model, content):
        arrays = dict(np.load(io.BytesIO(content)))
        for stream in (arrays["stream"][:-2], arrays["stream"][::-1], arrays["stream"][:0]):
            file = io.BytesIO()
            np.savez(file, **{**arrays, "stream": stream})
            with pytest.raises(InvalidFile, match=r"another checksum.*differs on this machine"):
                codec.decompress_codes(model, file.getvalue())

    @pytest.mark.parametrize(
        "arrays",
        [
            {"x": np.zeros((3, 4))},
            {"header": np.zeros(3, np.uint8), "stream": np.zeros(3, np.uint32)},
            {"header": np.frombuffer(b"[]", np.uint8), "stream": np.zeros(3, np.uint32)},
            {"header": np.frombuffer(b'{"format":1}', np.uint8), "stream": np.zeros(3, "u4")},
        ],
    )
    def test_a_foreign_archive_is_refused(self, model, arrays):
        file = io.BytesIO()
        np.savez(file, **arrays)
        with pytest.raises(InvalidFile, match="holds no codes"):
            codec.decompress(model, file.getvalue())

    def test_a_foreign_file_is_refused(self, model):
        array = io.BytesIO()
        np.save(array, np.zeros(3))
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as written:
            written.writestr("a.txt", "text")
        for content in (b"junk", array.getvalue(), archive.getvalue()):
            with pytest.raises(InvalidFile, match="holds no codes"):
                codec.decompress(model, content)

    def test_the_states_of_a_prior_that_memory_does_not_hold_are_refused(self, monkeypatch):
        """Each of 1,000 takes 2 · 1,028 bytes of state, and 1,024 of probabilities."""
        model, codes = make_model("transformer"), draw_codes(1000)
        assert model.prior.state_bytes() == 4 + 2 * 16 * 8 * 4  # the class, keys and values
        content = codec.compress_codes(model, codes[:2]).content
        arrays = dict(np.load(io.BytesIO(content)))
        header = json.loads(arrays["header"].tobytes()) | {"num_images": 1000, "batch_size": 1000}
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
        file = io.BytesIO()
        np.savez(file, **arrays)
        monkeypatch.setenv("TFVAE_MAX_MEMORY", "3MB")
        with pytest.raises(InvalidFile, match=r"in batches of 1,000, which take 3\.1 MB"):
            codec.decompress(model, file.getvalue())
        with pytest.raises(InvalidArgument, match=r"1,000 examples at a time .*at most 974:"):
            codec.compress_codes(model, codes, batch_size=1000)

    def test_a_later_format_is_refused(self, model, content):
        arrays = dict(np.load(io.BytesIO(content)))
        header = json.loads(arrays["header"].tobytes()) | {"format": 2}
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
        file = io.BytesIO()
        np.savez(file, **arrays)
        with pytest.raises(InvalidFile, match="of format 2; this tfvae reads format 1"):
            codec.decompress(model, file.getvalue())

    def test_a_missing_file_is_refused(self, model, tmp_path):
        with pytest.raises(InvalidFile, match=r"Cannot read .*nothing\.npz"):
            codec.decompress(model, tmp_path / "nothing.npz")

    @pytest.mark.parametrize("part", ["prior", "quantizer", "decoder", "another codebook"])
    def test_a_file_of_another_model_is_refused(self, content, part):
        other = make_model(codebook_size=40 if part == "another codebook" else NUM_CODES)
        if hasattr(other, part):
            changed = getattr(other, part)
            changed.set_weights([w + 1 for w in changed.get_weights()])
        with pytest.raises(InvalidFile, match=r"another model.*fingerprint [0-9a-f]{16}"):
            codec.decompress(other, content)

    def test_no_codes_are_refused(self, model):
        for call in (codec.compress_codes, codec.decode):
            with pytest.raises(InvalidData, match="There are no codes; expected"):
                call(model, draw_codes(3)[:0])

    def test_levels_that_are_left_out_are_refused(self):
        """They decode, but no prior gives −1 a probability."""
        table = library.quantizers.VectorQuantizer(embedding_dim=3, num_embeddings=8)
        quantizer = library.quantizers.ResidualQuantizer(table, 2, dropout=0.5)
        networks = make_model().encoder, quantizer, make_model().decoder
        model = library.VQVAE(*networks, likelihood="bernoulli")
        model.prior = code_priors.get("uniform", codebook_size=8)
        codes = np.zeros((2, *model.code_shape), np.int32)
        codes[1, ..., -1] = -1
        assert codec.decode(model, codes).shape == (2, *X_SHAPE)
        with pytest.raises(InvalidData, match="−1, a level that is left out"):
            codec.compress_codes(model, codes)

    def test_codes_that_are_none_are_refused(self, model):
        with pytest.raises(InvalidData, match="from 32 to 32; expected"):
            codec.compress_codes(model, np.full((1, *CODE_SHAPE), 32))

    def test_data_that_does_not_fit_is_refused(self, model):
        with pytest.raises(InvalidData, match=r"\(4, 4, 1\)"):
            codec.compress(model, np.zeros((2, 4, 4, 1)))

    def test_a_model_without_codes_is_refused(self, make_vae, images):
        with pytest.raises(InvalidArgument, match=r"VAE; expected a model of codes"):
            codec.compress(make_vae(), images)
        with pytest.raises(InvalidArgument, match=r"VAE; expected a model of codes"):
            codec.decompress(make_vae(), b"")

    def test_a_model_without_weights_is_refused(self):
        network = keras.Sequential([keras.layers.Dense(3)])
        quantizer = library.quantizers.VectorQuantizer(embedding_dim=3, num_embeddings=4)
        with pytest.raises(InvalidArgument, match="no weights yet"):
            codec.decompress(library.VQVAE(network, quantizer, network), b"")

    def test_another_ending_is_refused_before_any_work(self, model, x, tmp_path):
        with pytest.raises(InvalidArgument, match=r"a\.png; expected a name that ends in \.npz"):
            codec.compress(model, x, tmp_path / "a.png")

    def test_a_prior_that_diverged_is_refused(self, x):
        model = make_model()
        model.prior.set_weights([w * np.nan if w.ndim else w for w in model.prior.get_weights()])
        with pytest.raises(InvalidArgument, match="not finite numbers"):
            codec.compress(model, x)

    @pytest.mark.parametrize("labels", [None, np.zeros(5, int), 3])
    def test_labels_that_do_not_fit_are_refused(self, labels):
        model = make_model(num_classes=3)
        with pytest.raises((InvalidArgument, InvalidData), match=r"label"):
            codec.compress_codes(model, draw_codes(7), condition=labels)


# The command line.

TINY = {
    "model.network_options": {"filters": 8, "num_downsamplings": 1, "block_filters": 4},
    "model.quantizer_options": {"num_embeddings": 16},
}


@pytest.fixture
def tfvae(command):
    """Return a function that runs the command in this process, in an empty folder."""

    @dataclasses.dataclass
    class Done:
        status: int
        out: str
        err: str

    def run(*arguments):
        return Done(*command(*arguments))

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with a VQ-VAE that was never trained, and a prior; not to be changed."""
    config = recipes.load("vqvae-digits").override(TINY)
    run = RunDirectory.create(tmp_path_factory.mktemp("codec") / "run", config)
    model = runs.build_model(config, runs.load_data(config))
    model.prior = make_prior("categorical", model.code_shape, model.codebook_size)
    model.optimizer.build(model.trainable_variables)
    model.save(run.model_file)
    return run


@pytest.fixture
def run(trained, tmp_path):
    """A run called "run" in the folder where the command runs."""
    copy = RunDirectory.create(tmp_path / "run", trained.read_config())
    copy.model_file.write_bytes(trained.model_file.read_bytes())
    return copy


@pytest.fixture(scope="module")
def model_of_trained(trained):
    return runs.open_model(trained.path)


@pytest.fixture
def opened(model_of_trained, monkeypatch):
    """Leave out what takes the commands longest: the model of a run is read from its file once."""
    open_model = runs.open_model

    def opening(path):
        return model_of_trained if path.is_dir() else open_model(path)

    monkeypatch.setattr(runs, "open_model", opening)


REPORT = {"path", "num_images", "bytes", "stream_bytes", "prior_bits"}
REPORT |= {"bits_per_pixel", "psnr", "ssim"}


def test_encode_and_decode_test_images_of_the_run(tfvae, run, tmp_path):
    done = tfvae("encode", "run", "-n", 9, "--json")
    assert done.status == 0, done.err
    values = json.loads(done.out)
    assert set(values) == REPORT
    assert values["path"] == "run/codes.npz"
    assert values["num_images"] == 9
    assert values["bytes"] == (run.path / "codes.npz").stat().st_size
    model, x = run.load_model(), runs.load_data(run.read_config()).test.numpy(0, 9)
    nats = -np.sum(model.prior.log_prob(model.encode(x)))
    assert values["prior_bits"] == pytest.approx(nats / math.log(2), rel=1e-5)

    done = tfvae("decode", "run", "--codes", "run/codes.npz", "-o", "a.npy", "--json")
    assert json.loads(done.out) == {"path": "a.npy", "num_images": 9}
    images = np.load(tmp_path / "a.npy")
    np.testing.assert_allclose(images, model.decode(model.encode(x)), atol=1e-5)
    mse = np.square(images - x).reshape(9, -1).mean(1)
    assert values["psnr"] == pytest.approx(np.mean(-10 * np.log10(mse)), rel=1e-4)


def test_encode_for_people(tfvae, run, opened):
    done = tfvae("encode", "run", "-n", 3, "-o", "some.npz")
    words = ("3 images in some.npz", "bytes", "bits/pixel", "prior", "PSNR", "SSIM")
    assert all(word in done.out for word in words)
    done = tfvae("decode", "run", "--codes", "some.npz")
    assert done.out == "3 images in samples.png\n"


@pytest.mark.parametrize("kind", nightly_but(["folder", "npy", "npz"], "folder"))
def test_encode_of_images_that_are_given(tfvae, run, tmp_path, kind):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)
    path = tmp_path / ("images" if kind == "folder" else f"images.{kind}")
    if kind == "folder":
        path.mkdir()
        for number, image in enumerate(pixels):
            Image.fromarray(image).save(path / f"{number}.png")
    elif kind == "npy":
        np.save(path, pixels)
    else:
        np.savez(path, pixels)
    done = tfvae("encode", "run/model.keras", path.name, "-o", "c.npz", "--json")
    assert json.loads(done.out)["num_images"] == 4
    model = run.load_model()
    expected = model.encode(pixels[..., None] / np.float32(255))
    np.testing.assert_array_equal(codec.decompress_codes(model, tmp_path / "c.npz"), expected)


BAD_USE = {
    "no run": (1, ["no run or model nowhere"], ["encode", "nowhere"]),
    "a file without images": (2, ["name the FILE"], ["encode", "run/model.keras"]),
    "missing images": (1, ["no file or folder a.npy"], ["encode", "run", "a.npy"]),
    "other images": (1, ["(4, 4, 1)", "(8, 8, 1)"], ["encode", "run", "small.npy"]),
    "no images": (1, ["holds no images"], ["encode", "run", "empty"]),
    "several arrays": (1, ["one array of examples"], ["encode", "run", "several.npz"]),
    "damaged images": (1, ["cannot be read as an array"], ["encode", "run", "junk.npz"]),
    "not numbers": (1, ["expected numbers"], ["encode", "run", "text.npy"]),
    "an ending": (2, [".npz"], ["encode", "run", "-o", "codes.bin"]),
    "a density": (2, ["bernoulli", "density"], ["encode", "vae.keras", "small.npy"]),
    "neither": (2, ["--sample N", "--codes FILE"], ["decode", "run"]),
    "both": (2, ["either"], ["decode", "run", "--codes", "a.npz", "--sample", 1]),
    "missing codes": (1, ["Cannot read a.npz"], ["decode", "run", "--codes", "a.npz"]),
    "damaged codes": (1, ["damaged"], ["decode", "run", "--codes", "junk.npz"]),
    "images as codes": (1, ["holds no codes"], ["decode", "run", "--codes", "several.npz"]),
    "a foreign ending": (2, ["no file of codes"], ["decode", "run", "--codes", "a.txt"]),
    "prior on the device": (2, ["Give the run"], ["decode", "a.tflite", "--codes", "a.npz"]),
    "plain codes with a run": (2, [".tflite"], ["decode", "run", "--codes", "small.npy"]),
    "codes without a run": (1, ["no run or model"], ["decode", "gone", "--codes", "junk.npz"]),
}


@pytest.fixture(scope="module")
def saved_vae(make_vae, tmp_path_factory):
    """The bytes of a model without codes."""
    path = tmp_path_factory.mktemp("vae") / "vae.keras"
    make_vae("normal").save(path)
    return path.read_bytes()


@pytest.mark.parametrize("case", BAD_USE)
def test_use_that_cannot_be_is_refused(tfvae, run, opened, saved_vae, tmp_path, case):
    status, messages, command = BAD_USE[case]
    np.save(tmp_path / "small.npy", np.zeros((3, 4, 4), np.float32))
    np.save(tmp_path / "text.npy", np.array([[["a"]]]))
    np.savez(tmp_path / "several.npz", a=np.zeros((3, 8, 8)), b=np.zeros((3, 8, 8)))
    (tmp_path / "junk.npz").write_bytes(b"junk")
    (tmp_path / "empty").mkdir()
    (tmp_path / "vae.keras").write_bytes(saved_vae)
    before = sorted(tmp_path.rglob("*"))
    done = tfvae(*command)
    assert done.status == status, done.err
    assert done.out == ""
    assert all(message.lower() in done.err.lower() for message in messages), done.err
    assert "Traceback" not in done.err
    assert "This was not expected" not in done.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.nightly
def test_codes_in_an_array_are_decoded_on_the_device(tfvae, trained, tmp_path):
    model = trained.load_model()
    export.litert(model, tmp_path / "a.tflite")
    codes = np.arange(3 * 16).reshape(3, 4, 4) % model.codebook_size
    np.save(tmp_path / "codes.npy", codes)
    done = tfvae("decode", "a.tflite", "--codes", "codes.npy", "-o", "a.npy")
    assert done.status == 0, done.err
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), model.decode(codes), atol=1e-5)
    np.save(tmp_path / "codes.npy", codes[:, 1:])
    done = tfvae("decode", "a.tflite", "--codes", "codes.npy", "-o", "b.npy")
    assert done.status == 1
    assert "(3, 3, 4)" in done.err
    assert not (tmp_path / "b.npy").exists()
