import json
import sys

import keras
import numpy as np
import pytest

import tfvae
from tfvae import export
from tfvae.errors import ExportError, InvalidArgument, InvalidFile, MissingDependency

pytestmark = pytest.mark.slow  # Converts models.

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")


@pytest.fixture(scope="module")
def vae(make_vae):
    return make_vae()


@pytest.fixture(scope="module")
def vqvae():
    networks = tfvae.networks
    return tfvae.VQVAE(
        networks.residual_encoder((8, 8, 1), 4, 8, 1, 1, 4),
        tfvae.quantizers.get("vq", num_embeddings=16, embedding_dim=4),
        networks.residual_decoder((4, 4, 4), 1, 8, 1, 1, 4),
        likelihood="bernoulli",
    )


def run(path, **inputs):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == list(inputs)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


@pytest.mark.parametrize("count", [1, 5])
def test_a_decoder_of_latents_computes_what_keras_computes(vae, tmp_path, rng, count):
    export.onnx(vae, tmp_path / "decoder.onnx")
    z = rng.normal(size=(count, 2)).astype(np.float32)
    image = run(tmp_path / "decoder.onnx", latents=z)["image"]
    np.testing.assert_allclose(image, vae.decode(z), atol=1e-6)
    assert image.shape == (count, 4, 4, 1)


def test_a_decoder_of_codes_computes_what_keras_computes(vqvae, tmp_path, rng):
    export.onnx(vqvae, tmp_path / "decoder.onnx")
    codes = rng.integers(0, 16, (3, 4, 4)).astype(np.int32)
    image = run(tmp_path / "decoder.onnx", codes=codes)["image"]
    np.testing.assert_allclose(image, vqvae.decode(codes), atol=1e-5)


def test_encoders_and_parameters_can_be_had_too(vae, vqvae, tmp_path, rng):
    x = rng.random((3, 4, 4, 1)).astype(np.float32)
    assert export.onnx(vae, tmp_path / "e.onnx", signature="encode")["signature"] == "encode"
    q = vae.q_z_given_x(x)
    outputs = run(tmp_path / "e.onnx", image=x)
    np.testing.assert_allclose(outputs["mean"], q.mean(), atol=1e-5)
    np.testing.assert_allclose(outputs["stddev"], q.stddev(), atol=1e-5)
    x = rng.random((3, 8, 8, 1)).astype(np.float32)
    export.onnx(vqvae, tmp_path / "c.onnx", signature="encode")
    np.testing.assert_array_equal(run(tmp_path / "c.onnx", image=x)["codes"], vqvae.encode(x))
    export.onnx(vae, tmp_path / "p.onnx", signature="parameters")
    z = rng.normal(size=(3, 2)).astype(np.float32)
    logits = run(tmp_path / "p.onnx", latents=z)["parameters"]
    np.testing.assert_allclose(logits, vae.x_parameters(z), atol=1e-5)


def test_the_report_says_what_was_compared(vae, tmp_path):
    values = export.onnx(vae, tmp_path / "decoder.onnx")
    assert values["bytes"] == (tmp_path / "decoder.onnx").stat().st_size
    assert set(values["errors"]) == {"decode"}
    assert values["max_abs_error"] < 1e-5
    report = json.loads((tmp_path / "report.json").read_text())
    assert report == {"exports": {"decoder.onnx": values}}


def test_what_an_onnx_file_cannot_hold_is_refused(vae, tmp_path):
    with pytest.raises(InvalidArgument, match=r"'sample'.*decode, encode, parameters"):
        export.onnx(vae, tmp_path / "a.onnx", signature="sample")
    with pytest.raises(InvalidFile, match="it is a folder"):
        export.onnx(vae, tmp_path)
    with pytest.raises(ExportError, match="expected at most 0"):
        export.onnx(vae, tmp_path / "a.onnx", tolerance=0.0)
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_bfloat16_is_exported_in_float32(tmp_path, make_vae, rng):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = make_vae()
    keras.config.set_dtype_policy("float32")
    assert export.onnx(model, tmp_path / "decoder.onnx")["max_abs_error"] < 1e-5


@pytest.mark.parametrize("package", ["tf2onnx", "onnxruntime"])
def test_a_missing_package_is_named(vae, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependency, match=rf"{package}.*pip install 'tfvae\[onnx\]'"):
        export.onnx(vae, tmp_path / "decoder.onnx")
