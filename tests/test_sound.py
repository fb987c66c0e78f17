"""Sound in `.wav` files, and series and sound as codes."""

import json
import math
import re
import wave

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from eager import without_graphs

import tfvae as library
from tfvae import codec, recipes, runs, sound
from tfvae.errors import InvalidArgument, InvalidData, InvalidFile
from tfvae.sound import Sound
from tfvae.tools import common
from tfvae.tools.main import cli

LENGTH, CHANNELS = 16, 2


@pytest.fixture(scope="module", autouse=True)
def eagerly():
    """Run what would be a graph as it is: for a few series that takes less than to trace it."""
    with without_graphs():
        yield


@pytest.fixture(scope="module")
def model():
    """A VQ-VAE of series `[16, 2]` with a line of four codes, and a transformer over them."""
    keras.utils.set_random_seed(1)
    small = {"filters": 4, "num_blocks": 1, "block_filters": 2}
    likelihood = library.likelihoods.Normal(scale="shared")
    encoder = library.networks.residual_encoder((LENGTH, CHANNELS), 3, **small)
    decoder = library.networks.residual_decoder((4, 3), CHANNELS, **small)
    quantizer = library.quantizers.VectorQuantizer(embedding_dim=3, num_embeddings=8)
    model = library.VQVAE(encoder, quantizer, decoder, likelihood=likelihood)
    prior = library.code_priors.get(
        "transformer", codebook_size=8, num_layers=1, num_heads=2, hidden_size=8
    )
    prior.build((None, *model.code_shape))
    model.prior = prior
    return model


def noise(count, channels=CHANNELS):
    return np.random.default_rng(2).uniform(-1, 1, (count, channels)).astype(np.float32)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_comes_back_to_half_a_level(tmp_path, width, channels):
    frames = noise(50, channels)
    frames[:2] = [[-1.0], [1.0]]  # 1 is one level above the largest
    sound.write(Sound(frames, 8000, width), tmp_path / "a.wav")
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert file.getparams()[:4] == (channels, width, 8000, 50)
    read = sound.read(tmp_path / "a.wav")
    assert (read.rate, read.width, read.seconds) == (8000, width, 50 / 8000)
    level = 2.0 ** (1 - 8 * width)
    np.testing.assert_allclose(read.frames[2:], frames[2:], atol=0.51 * level + 1e-7)
    np.testing.assert_allclose(read.frames[:2], frames[:2], atol=level + 1e-7)
    sound.write(read, tmp_path / "b.wav")
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_windows_and_what_joins_them():
    frames = noise(37)
    series = sound.windows(frames, LENGTH)
    assert series.shape == (3, LENGTH, CHANNELS)
    assert not series[2, 5:].any()
    np.testing.assert_array_equal(sound.joined(series, 37), frames)


def test_what_is_no_wav_is_refused(tmp_path):
    with pytest.raises(InvalidData, match="There is no file"):
        sound.read(tmp_path / "none.wav")
    (tmp_path / "junk.wav").write_bytes(b"no sound at all")
    with pytest.raises(InvalidData, match=r"cannot be read as a \.wav file"):
        sound.read(tmp_path / "junk.wav")
    sound.write(Sound(noise(0), 8000), tmp_path / "empty.wav")
    with pytest.raises(InvalidData, match="holds no sound"):
        sound.read(tmp_path / "empty.wav")
    with pytest.raises(InvalidArgument, match=r"ends in \.wav"):
        sound.write(Sound(noise(5), 8000), tmp_path / "a.mp3")


def test_series_come_back_as_the_decoder_has_them(model):
    x = noise(5 * LENGTH).reshape(5, LENGTH, CHANNELS)
    assert model.code_shape == (4,)
    compressed = codec.compress(model, x)
    np.testing.assert_array_equal(
        codec.decompress_codes(model, compressed.content), compressed.codes
    )
    series = codec.decompress(model, compressed.content)
    np.testing.assert_allclose(series, model.decode(model.encode(x)), atol=1e-6)
    values = compressed.summary()
    assert values["num_series"] == 5
    assert values["bits_per_step"] == pytest.approx(8 * values["bytes"] / (5 * LENGTH))
    assert compressed.bits_per_second(100.0) == pytest.approx(100 * values["bits_per_step"])
    ideal = -library.code_priors.CodePrior.log_prob(model.prior, compressed.codes).numpy().sum()
    assert compressed.prior_bits == pytest.approx(ideal / math.log(2), rel=1e-4)


def test_a_sound_comes_back_with_its_rate_and_its_length(model, tmp_path):
    given = Sound(noise(37), 8000, 2)
    compressed = codec.compress_sound(model, given, tmp_path / "a.npz")
    back = codec.decompress_sound(model, tmp_path / "a.npz")
    assert (back.rate, back.width, back.frames.shape) == (8000, 2, (37, CHANNELS))
    expected = np.asarray(model(sound.windows(given.frames, LENGTH)))
    np.testing.assert_allclose(back.frames, expected.reshape(-1, CHANNELS)[:37], atol=1e-6)
    values = compressed.summary()
    assert values["seconds"] == 37 / 8000
    assert values["bits_per_second"] == pytest.approx(8 * values["bytes"] / values["seconds"])


def test_a_sound_that_no_file_holds_is_refused(model, tmp_path):
    given = Sound(noise(50), np.int64(8000))
    compressed = codec.compress_sound(model, given, tmp_path / "a.npz")
    assert codec.decompress_sound(model, tmp_path / "a.npz").rate == 8000
    x, codes = codec.windows_for(model, given), compressed.codes
    for wrong, message in (
        ((8000.0, 50, 2), "8000.0; expected a whole number"),
        ((2**32, 50, 2), "fewer than 2^32"),
        ((8000, 50, 5), "1 to 4 bytes"),
        ((8000, 50), "bytes of a value"),
        ((8000, LENGTH, 2), "is not one of"),
    ):
        for call, examples in ((codec.compress, x), (codec.compress_codes, codes)):
            with pytest.raises(InvalidArgument, match=re.escape(message)):
                call(model, examples, tmp_path / "b.npz", sound=wrong)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_what_is_no_sound_is_refused(model):
    series = codec.compress(model, noise(LENGTH)[np.newaxis]).content
    with pytest.raises(InvalidFile, match="holds no sound"):
        codec.decompress_sound(model, series)
    with pytest.raises(InvalidData, match="sound of 2 channels"):
        codec.compress_sound(model, Sound(noise(20, 1), 8000))
    with pytest.raises(InvalidArgument, match=r"Sound is encoded as series, \[T, C\]"):
        codec.compress_sound(library.VAE, Sound(noise(20), 8000))


def test_the_quality_of_series_is_their_signal_over_noise():
    x = np.ones((2, 3, 1))
    assert codec.quality(x, 0.9 * x)["snr"] == pytest.approx(20.0, abs=1e-4)
    assert codec.quality(x, x) == {"snr": None}


class TestCommandLine:
    @pytest.fixture(scope="class")
    @staticmethod
    def folder(tmp_path_factory):
        """A folder with series, a sound, and a run on the series that was never trained."""
        folder = tmp_path_factory.mktemp("sound")
        np.save(folder / "series.npy", noise(60 * 18, 1).reshape(60, 18, 1))
        sound.write(Sound(noise(50, 1), 8000), folder / "noise.wav")
        small = {"filters": 4, "num_blocks": 0, "block_filters": 2}
        config = recipes.load("vqvae-series").override(
            {"data.name": str(folder / "series.npy"), "model.network_options": small}
        )
        splits = runs.load_data(config)
        config = runs.build.with_networks(config, splits.shape)
        run = runs.RunDirectory.create(folder / "run", config)
        model = runs.build_model(config, splits)
        model.optimizer.build(model.trainable_variables)
        model.save(run.model_file)
        assert model.code_shape == (5,)  # 18 steps, with one more at either end, halved twice
        return folder

    @staticmethod
    def tfvae(*arguments):
        done = CliRunner().invoke(cli, [*map(str, arguments), "--json"], standalone_mode=False)
        if done.exception is not None:
            raise done.exception
        return json.loads(done.stdout)

    @staticmethod
    def through(model, series):
        """Return what a model leaves of series in their own units."""
        units = model.standardization
        return units.restored(np.asarray(model(units.standardized(series))))

    def test_a_sound_is_decoded_under_its_own_condition(self, folder, tmp_path):
        (tmp_path / "sound.npz").touch()
        command = ["decode", folder / "run", "--codes", tmp_path / "sound.npz", "--condition", 1]
        with pytest.raises(InvalidArgument, match="holds the conditions of its examples: no --con"):
            self.tfvae(*command, "--output", tmp_path / "a.wav")

    def test_a_sound_goes_to_codes_and_back(self, folder):
        codes, back = folder / "sound.npz", folder / "back.wav"
        values = self.tfvae("encode", folder / "run", folder / "noise.wav", "--output", codes)
        assert values["num_series"] == 3
        assert values["seconds"] == 50 / 8000
        assert values["bits_per_second"] == pytest.approx(8 * values["bytes"] * 8000 / 50)
        decoded = self.tfvae("decode", folder / "run", "--codes", codes, "--output", back)
        assert decoded == {"path": str(back), "seconds": 50 / 8000, "rate": 8000}
        model, _ = runs.open_model(folder / "run")
        expected = self.through(model, sound.windows(noise(50, 1), 18)).reshape(-1, 1)[:50]
        read = sound.read(back)
        np.testing.assert_allclose(read.frames, expected.clip(-1, 1), atol=1e-4)
        noise_ratio = np.sum(noise(50, 1) ** 2) / np.sum((noise(50, 1) - expected) ** 2)
        assert values["snr"] == pytest.approx(10 * math.log10(noise_ratio), abs=0.5)

    @pytest.mark.slow
    @pytest.mark.nightly  # a sound goes the same way every time
    def test_series_go_to_codes_and_back(self, folder):
        codes, back = folder / "series.npz", folder / "back.npy"
        given = ["encode", folder / "run", folder / "series.npy", "--output", codes]
        values = self.tfvae(*given, "--rate", 100)
        assert values["bits_per_second"] == pytest.approx(100 * values["bits_per_step"])
        self.tfvae("decode", folder / "run", "--codes", codes, "--output", back)
        model, _ = runs.open_model(folder / "run")
        expected = self.through(model, np.load(folder / "series.npy"))
        np.testing.assert_allclose(np.load(back), expected, atol=1e-5)
        with pytest.raises(InvalidFile, match="holds no sound"):
            self.tfvae("decode", folder / "run", "--codes", codes, "-o", folder / "x.wav")

    def test_what_does_not_go_together_is_refused(self, folder):
        run, wav = folder / "run", folder / "noise.wav"
        with pytest.raises(InvalidArgument, match="no -n"):
            self.tfvae("encode", run, wav, "-n", 3)
        with pytest.raises(InvalidArgument, match="at its own rate: no --rate"):
            self.tfvae("encode", run, wav, "--rate", 3)
        with pytest.raises(InvalidArgument, match="sound comes from a file of codes"):
            self.tfvae("decode", run, "--sample", 3, "-o", folder / "x.wav")
        sound.write(Sound(noise(50, 2), 8000), folder / "stereo.wav")
        with pytest.raises(InvalidData, match="sound of 1 channel"):
            self.tfvae("encode", run, folder / "stereo.wav")
        assert not (folder / "x.wav").exists()
        with pytest.raises(InvalidData, match=r"noise\.wav is a sound, and models are trained"):
            self.tfvae("train", wav, "--run-dir", folder / "other")
        values = self.tfvae("evaluate", run, "--num-examples", 5)
        assert common.table(values, "series")[0].endswith("codes of real values have no log p(x)")


@pytest.mark.parametrize(("count", "number"), [(0, 0), (1, 1), (16, 1), (17, 2), (32, 2)])
def test_frames_that_fill_their_windows_have_no_further_one(count, number):
    assert sound.windows(noise(count), 16).shape == (number, 16, CHANNELS)
