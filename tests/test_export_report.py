"""The measures of an exported file, and the page about it."""

import json
import shutil
import sys

import numpy as np
import pytest
from tiers import nightly_but

import tfvae
from tfvae import export
from tfvae.errors import InvalidData, InvalidFile
from tfvae.ondevice import Decoder
from tfvae.ondevice.benchmark import Benchmark

pytestmark = pytest.mark.slow  # Converts models.

SHAPE = (4, 4, 1)


@pytest.fixture(scope="module")
def vae(make_vae):
    return make_vae()


@pytest.fixture(scope="module")
def vqvae():
    networks = tfvae.networks
    return tfvae.VQVAE(
        networks.residual_encoder(SHAPE, 4, 8, 1, 1, 4),
        tfvae.quantizers.get("vq", num_embeddings=8, embedding_dim=4),
        networks.residual_decoder((2, 2, 4), 1, 8, 1, 1, 4),
        likelihood="bernoulli",
    )


def converted(model, folder):
    """Return the decoder of a model's file."""
    export.litert(model, folder / "decoder.tflite")
    return Decoder.from_file(folder / "decoder.tflite")


class Unconverted:
    """What `quality` asks of the decoder of a model's file, answered by the model."""

    description = {"quantize": "none"}

    def __init__(self, model, folder):
        self.model, self.code_shape = model, getattr(model, "code_shape", None)

    def takes_condition(self, signature):
        return False

    def given(self, signature, condition):
        return {}

    def run(self, signature, **rows):
        assert signature == "parameters"
        (latents,) = rows.values()
        return {"parameters": self.model.x_parameters(latents).numpy()}

    def encode(self, x):
        return self.model.encode(x).numpy()

    def decode(self, latents):
        return self.model.decode(latents).numpy()

    decode_codes = decode


# That a file gives what its model gives is a test of its own, and of those of exports.
DECODERS = nightly_but([converted, Unconverted], Unconverted)


@pytest.fixture(scope="module")
def of_vae(reported):
    return Decoder.from_file(reported[0] / "decoder.tflite")


@pytest.fixture(scope="module")
def of_vqvae(vqvae, tmp_path_factory):
    return converted(vqvae, tmp_path_factory.mktemp("vqvae"))


@pytest.fixture
def untimed(monkeypatch):
    """Leave out the times, which a child process takes seconds for."""
    timed = Benchmark(0, {}, {}, {})
    monkeypatch.setattr(sys.modules["tfvae.export.report"], "benchmark", lambda path: timed)


def shifted(model, by):
    """Return a copy of a model whose logits are larger by so much."""
    copy = model.copy()
    bias = copy.decoder.get_layer("params").bias
    bias.assign(bias + by)
    return copy


@pytest.mark.parametrize("name", nightly_but(["vae", "vqvae"], "vae"))
def test_a_file_of_float32_loses_nothing(request, name, images):
    model, decoder = (request.getfixturevalue(part) for part in (name, f"of_{name}"))
    values = export.quality(model, decoder, images)
    assert values["num_examples"] == len(images)
    assert abs(values["log_likelihood_change"]) < 1e-4
    assert values["mse"] == pytest.approx(values["mse_keras"], abs=1e-6)
    assert abs(values["psnr_change"]) < 1e-4
    assert values.get("code_agreement", 1.0) == 1.0


@pytest.mark.parametrize("decoder_of", DECODERS)
def test_the_change_of_the_likelihood_is_the_exact_one(images, tmp_path, decoder_of):
    encoder = tfvae.networks.dense_encoder(SHAPE, 4, (8,))
    decoder = tfvae.networks.dense_decoder(4, SHAPE, (8,))
    model = tfvae.VAE(encoder, decoder, posterior="bernoulli")
    other = shifted(model, 0.5)
    values = export.quality(model, decoder_of(other, tmp_path), images, num_samples=2000)
    before, after = (tfvae.exact_log_likelihood(m, images).per_example for m in (model, other))
    change = np.mean(after - before)
    assert abs(change) > 0.1
    assert values["log_likelihood"] == pytest.approx(np.mean(after), abs=0.02)
    assert values["log_likelihood_change"] == pytest.approx(change, abs=0.01)
    spread = np.std(after - before, ddof=1) / np.sqrt(len(images))
    assert values["standard_error"] == pytest.approx(spread, rel=0.1)


@pytest.mark.parametrize("decoder_of", DECODERS)
def test_the_change_of_the_bound_of_codes_is_the_exact_one(vqvae, images, tmp_path, decoder_of):
    other = shifted(vqvae, 0.5)
    values = export.quality(other, decoder_of(vqvae, tmp_path), images)
    bounds = [tfvae.log_likelihood(m, images, progress=False).per_example for m in (other, vqvae)]
    assert values["log_likelihood"] == pytest.approx(np.mean(bounds[1]), abs=1e-4)
    change = np.mean(bounds[1] - bounds[0])
    assert values["log_likelihood_change"] == pytest.approx(change, abs=1e-4)
    assert abs(change) > 0.1


def test_reconstruction_errors_are_those_of_numpy(vae, of_vae, images):
    other = shifted(vae, 1.0)
    values = export.quality(other, of_vae, images)
    for key, model in (("_keras", other), ("", vae)):
        error = np.mean((model(images).numpy() - images) ** 2)
        assert values[f"mse{key}"] == pytest.approx(error, rel=1e-4)
        assert values[f"psnr{key}"] == pytest.approx(-10 * np.log10(error), rel=1e-4)
    assert values["psnr_change"] == pytest.approx(values["psnr"] - values["psnr_keras"])


@pytest.mark.parametrize("decoder_of", DECODERS)
def test_codes_that_differ_are_counted(vqvae, images, tmp_path, decoder_of):
    other = vqvae.copy()
    table = other.quantizer.table
    table.assign(table.numpy()[[1, 0, *range(2, 8)]])  # two codes change places
    found = export.quality(other, decoder_of(vqvae, tmp_path), images)["code_agreement"]
    codes = vqvae.encode(images).numpy()
    assert found == pytest.approx(np.mean(codes > 1))


@pytest.fixture(scope="module")
def reported(vae, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    signatures = ["decode", "encode", "parameters"]
    exported = export.litert(vae, folder / "decoder.tflite", images, signatures=signatures)
    return folder, export.report(vae, folder / "decoder.tflite", images, exported)


def test_the_report_has_all_that_was_measured(reported):
    folder, values = reported
    assert json.loads((folder / "report.json").read_text())["exports"]["decoder.tflite"] == (
        json.loads(json.dumps(values))
    )
    assert values["bytes"] == (folder / "decoder.tflite").stat().st_size
    assert set(values["latency_ms"]) == set(values["signatures"]) == set(values["arena_bytes"])
    assert set(values["latency_ms"]["decode"]) == {1, 16}
    assert set(values["latency_ms"]["decode_1"]) == {1}
    for cells in values["latency_ms"]["decode"].values():
        assert set(cells) == {1, 2}
        assert all(0 < cell["median"] <= cell["p95"] for cell in cells.values())
    assert values["quality"]["num_examples"] == 12
    assert values["failed"] == {}


def test_without_what_the_export_returned_its_entry_stays(vae, reported, images, tmp_path, untimed):
    shutil.copy(reported[0] / "decoder.tflite", tmp_path)
    for entry in ({"max_abs_error": 0.5, "mean_abs_error": 0.1, "psnr": 20.0}, {}):
        (tmp_path / "report.json").write_text(json.dumps({"exports": {"decoder.tflite": entry}}))
        values = export.report(vae, tmp_path / "decoder.tflite", images)
        written = json.loads((tmp_path / "report.json").read_text())["exports"]["decoder.tflite"]
        size = (tmp_path / "decoder.tflite").stat().st_size
        own = {"path": str(tmp_path / "decoder.tflite"), "bytes": size, "quantize": "none"}
        assert written.items() >= {**entry, **own}.items()
        assert values.keys() == written.keys()


def test_the_page_shows_it(reported):
    folder, values = reported
    page = (folder / "decoder.md").read_text()
    for part in ("What is lost", "Time", "Memory", "Signatures", "![", "decoder.png", "log p(x)"):
        assert part in page
    assert f"{values['bytes']:,} bytes" in page
    assert f"| {values['quality']['log_likelihood']:.3f} |" in page
    assert (folder / "decoder.png").read_bytes()[:4] == b"\x89PNG"
    assert sorted(p.name for p in folder.iterdir()) == [
        *("decoder.md", "decoder.png", "decoder.tflite", "report.json")
    ]


@pytest.mark.parametrize("decoder_of", DECODERS)
def test_what_is_standardized_is_reported_in_its_own_units(
    make_vae, rng, tmp_path, reported, untimed, monkeypatch, decoder_of
):
    units = tfvae.data.Standardization([5.0, 0.0, -1.0], [1.0, 10.0, 1000.0])
    model = make_vae("normal", (3,), standardization=units)
    x = rng.normal(size=(4, 3)).astype("float32")
    decoder = decoder_of(model, tmp_path)
    if decoder_of is Unconverted:
        shutil.copy(reported[0] / "decoder.tflite", tmp_path)
        monkeypatch.setattr(Decoder, "from_file", lambda path: decoder)
    found = export.quality(model, decoder, x)
    reported = export.report(model, tmp_path / "decoder.tflite", x)["quality"]
    # dx/dv = 1 / scale
    expected = found["log_likelihood"] - np.log(10 * 1000)
    assert reported == found | {"log_likelihood": pytest.approx(expected, abs=1e-5)}


def test_examples_that_do_not_fit_are_refused(vae, reported, images, tmp_path):
    shutil.copy(reported[0] / "decoder.tflite", tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InvalidData, match="takes"):
        export.report(vae, tmp_path / "decoder.tflite", images[:, :2])
    with pytest.raises(InvalidFile, match="Cannot read"):
        export.report(vae, tmp_path / "missing.tflite", images)
    assert sorted(tmp_path.iterdir()) == before
