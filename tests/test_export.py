import importlib
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from tiers import nightly_but

import tfvae
from tfvae import export
from tfvae.errors import ExportError, InvalidArgument, InvalidFile, TfvaeWarning
from tfvae.export import signatures
from tfvae.export.culprits import remedy
from tfvae.export.latent_signatures import LatentSignatures
from tfvae.models.precision import in_float32
from tfvae.ondevice import Decoder, operators, read_description

pytestmark = pytest.mark.slow  # Converts models.

LATENTS = 3
GREY, COLOUR = (4, 4, 1), (4, 4, 3)
# Name: likelihood, its options, shape of an image, kind of network, precision policy.
MODELS = {
    "bernoulli": ("bernoulli", {}, GREY, "dense", "float32"),
    "bernoulli, bfloat16": ("bernoulli", {}, GREY, "dense", "mixed_bfloat16"),
    "categorical": ("categorical", {"num_levels": 5}, COLOUR, "conv", "float32"),
    "normal, learned": ("normal", {"scale": "learned"}, GREY, "conv", "float32"),
    "mixture": ("discretized_logistic_mixture", {"num_components": 2}, GREY, "dense", "float32"),
    "mixture, colour": (
        "discretized_logistic_mixture",
        {"num_components": 2, "num_levels": 16},
        COLOUR,
        "conv",
        "float32",
    ),
}
SIGNATURES = {"decode", "encode", "sample", "parameters"}
ON_DEVICE = SIGNATURES | {"decode_1", "encode_1", "sample_1"}
litert = importlib.import_module("tfvae.export.litert")  # the package has the function
WRITERS = {"tflite": export.litert, "saved_model": export.saved_model}


def build(likelihood, options, x_shape, network, policy, seed=0):
    """Return a VAE with random weights, biases included."""
    likelihood = tfvae.likelihoods.REGISTRY.get(likelihood, **options)
    params_shape = (*x_shape[:-1], likelihood.params_size(x_shape[-1]))
    make_encoder = getattr(tfvae.networks, f"{network}_encoder")
    make_decoder = getattr(tfvae.networks, f"{network}_decoder")
    sizes = ((8,),) if network == "dense" else ((8,), 8)
    keras.config.set_dtype_policy(policy)
    try:
        encoder = make_encoder(x_shape, 2 * LATENTS, *sizes)
        decoder = make_decoder(LATENTS, params_shape, *sizes)
        model = tfvae.VAE(encoder, decoder, likelihood=likelihood)
    finally:
        keras.config.set_dtype_policy("float32")
    rng = np.random.default_rng(seed)
    shapes = [weight.shape for weight in model.get_weights()]
    model.set_weights([0.4 * rng.normal(size=s) if s else np.int64(7) for s in shapes])
    return model


@pytest.fixture(scope="module")
def simple():
    return build(*MODELS["bernoulli"])


@pytest.fixture(scope="module")
def converted(simple):
    """What LiteRT makes of `simple`, of its signature `decode` alone."""
    return litert._convert(signatures.of(simple, on_device=True, names=["decode"]))


def earlier_export(folder, kind):
    """Put at folder/kind what an export may replace, and return that path."""
    path = folder / kind
    if kind == "tflite":
        path.write_bytes(b"old")
    else:
        path.mkdir()
        (path / "saved_model.pb").write_bytes(b"old")
        (path / "stale").write_bytes(b"old")
    return path


class Exported:
    """One model, a float32 twin of it in Keras, and its two exports."""

    def __init__(self, name, folder):
        model = build(*MODELS[name])
        self.keras = build(*MODELS[name][:-1], "float32")
        self.of_keras = signatures.of(self.keras).functions
        self.weights = model.get_weights()
        self.x_shape = model.x_shape
        self.folder = folder
        self.reports = {kind: write(model, folder / kind) for kind, write in WRITERS.items()}
        self.decoder = Decoder.from_file(folder / "tflite")
        self.loaded = tf.saved_model.load(str(folder / "saved_model"))
        self.after = model.get_weights()

    def run(self, kind, signature, **inputs):
        """Return the outputs of one signature of an export, or of Keras."""
        if kind == "tflite":
            return self.decoder.run(signature, **inputs)
        tensors = {key: tf.constant(value) for key, value in inputs.items()}
        if kind == "saved_model":
            outputs = self.loaded.signatures[signature](**tensors)
        else:
            outputs = self.of_keras[signature](**tensors)
        return {key: value.numpy() for key, value in outputs.items()}


# Convolutions and mixtures are on a device in test_export_quantization, and the means of every
# likelihood in test_likelihoods.
@pytest.fixture(scope="module", params=nightly_but(MODELS, "bernoulli"))
def exported(request, tmp_path_factory):
    return Exported(request.param, tmp_path_factory.mktemp("export"))


@pytest.mark.parametrize("count", [1, 3, 17])
@pytest.mark.parametrize("kind", WRITERS)
def test_every_signature_computes_what_keras_computes(exported, kind, count, rng):
    inputs = {
        "decode": {"latents": rng.normal(size=(count, LATENTS)).astype("f4")},
        "encode": {"image": rng.random((count, *exported.x_shape)).astype("f4")},
        "parameters": {"latents": rng.normal(size=(count, LATENTS)).astype("f4")},
        "sample": {
            "seed": np.array([3, -4], np.int32),
            "index": np.arange(5, 5 + count, dtype=np.int32),
            "temperature": np.float32(0.8),
        },
    }
    if count == 1 and kind == "tflite":
        inputs |= {f"{name}_1": inputs[name] for name in ("decode", "encode", "sample")}
    for signature, values in inputs.items():
        expected = exported.run("keras", signature.removesuffix("_1"), **values)
        actual = exported.run(kind, signature, **values)
        assert set(actual) == set(expected)
        for name, value in expected.items():
            assert actual[name].dtype == np.float32
            assert actual[name].shape == value.shape
            np.testing.assert_allclose(actual[name], value, atol=2e-5, err_msg=f"{name}")
            assert len(actual[name]) == count
            assert np.ptp(value) > 0.01


def test_the_decoder_draws_the_samples_of_keras(exported):
    expected = exported.keras.sample(6, seed=11, temperature=0.7)
    np.testing.assert_allclose(exported.decoder.sample(6, 11, 0.7), expected, atol=2e-5)


def test_only_builtin_operators_are_used(exported):
    found = operators((exported.folder / "tflite").read_bytes())
    assert found
    assert not [name for name in found if "Flex" in name or name == "CUSTOM"]
    assert all(name == name.upper() for name in found)  # custom ones have names of their own
    assert exported.reports["tflite"]["operators"] == found


def test_the_report_beside_the_exports_says_what_was_returned(exported):
    report = json.loads((exported.folder / "report.json").read_text())
    assert report == {"exports": exported.reports}
    for kind in WRITERS:
        values = report["exports"][kind]
        assert values["path"] == str(exported.folder / kind)
        assert set(values["errors"]) == (ON_DEVICE if kind == "tflite" else SIGNATURES)
        assert 0 <= values["mean_abs_error"] <= values["max_abs_error"]
        assert values["psnr"] is None or values["psnr"] > 80
        assert values["max_abs_error"] == max(values["errors"].values()) < 1e-4
    tflite = report["exports"]["tflite"]
    assert tflite["bytes"] == (exported.folder / "tflite").stat().st_size
    assert 0 < tflite["decode_latency_ms"] < 1000
    assert tflite["left_out"] == {}
    files = [f for f in (exported.folder / "saved_model").rglob("*") if f.is_file()]
    assert report["exports"]["saved_model"]["bytes"] == sum(f.stat().st_size for f in files)


def test_nothing_else_is_left_in_the_folder(exported):
    left = sorted(path.name for path in exported.folder.iterdir())
    assert left == ["report.json", "saved_model", "tflite"]


def test_the_file_describes_the_model(exported):
    likelihood = exported.keras.likelihood
    description = read_description((exported.folder / "tflite").read_bytes())
    assert len(description.pop("sha256")) == 64
    assert set(description.pop("signatures")) == ON_DEVICE
    assert description == {
        "format": 1,
        "tfvae_version": tfvae.__version__,
        "model": "VAE",
        "latent_shape": [LATENTS],
        "latent_kinds": ["continuous"],
        "layer_shapes": [[LATENTS]],
        "image_shape": list(exported.x_shape),
        "image_range": [0.0, 1.0] if likelihood.num_levels else None,
        "likelihood": {"name": type(likelihood).__name__, **likelihood.get_config()},
        "left_out": {},
        "quantize": "none",
    }


def test_exporting_leaves_the_model_as_it_was(exported):
    for before, after in zip(exported.weights, exported.after, strict=True):
        np.testing.assert_array_equal(before, after)


# Name: kind of the latents, their shapes from the bottom up, precision policy.
LATENT_MODELS = {
    "categories": ("categorical", [(4, 3)], "float32"),
    "two layers of bits": ("bernoulli", [(6,), (4,)], "float32"),
    "two layers, bfloat16": ("diagonal_normal", [(4,), (3,)], "mixed_bfloat16"),
}


def build_latent(kind, shapes, policy):
    """Return a model with such latents and random weights, after a step with a learned baseline."""
    networks, posterior = tfvae.networks, tfvae.posteriors.get(kind)
    params = [(*shape[:-1], posterior.params_size(shape[-1])) for shape in shapes]
    keras.config.set_dtype_policy(policy)
    try:
        inputs, outputs = [GREY, *shapes[:-1]], [GREY, *params[:-1]]
        encoders = [networks.dense_encoder(*io, (8,)) for io in zip(inputs, params, strict=True)]
        decoders = [networks.dense_decoder(*io, (8,)) for io in zip(shapes, outputs, strict=True)]
        if len(shapes) == 1:
            model = tfvae.VAE(*encoders, *decoders, posterior=posterior)
        else:
            model = tfvae.HierarchicalVAE(encoders, decoders, posteriors=posterior)
    finally:
        keras.config.set_dtype_policy("float32")
    rng = np.random.default_rng(0)
    for weight in model.trainable_variables:
        weight.assign(0.4 * rng.normal(size=weight.shape))
    model.compile(estimator="nvil", run_eagerly=True)  # quicker than to trace it
    model.fit(rng.integers(0, 2, (4, *GREY)).astype("f4"), batch_size=4, verbose=0)
    return model


@pytest.mark.parametrize("name", nightly_but(LATENT_MODELS, "categories"))
def test_models_with_other_latents_are_exported(name, tmp_path, rng):
    model = build_latent(*LATENT_MODELS[name])
    x = rng.integers(0, 2, (9, *GREY)).astype("f4")
    names = ["decode", "encode", "sample"]
    report = export.litert(model, tmp_path / "tflite", x, signatures=names)
    assert report["max_abs_error"] < 1e-4
    decoder = Decoder.from_file(tmp_path / "tflite")
    found = operators((tmp_path / "tflite").read_bytes())
    assert not [operator for operator in found if operator != operator.upper()]
    assert "CUSTOM" not in found
    twin = in_float32(model)
    assert decoder.latent_shape == model.latent_shape
    np.testing.assert_allclose(decoder.encode(x), twin.encode(x), atol=2e-5)
    np.testing.assert_allclose(decoder.sample(40, 3, 0.8), twin.sample(40, 3, 0.8), atol=2e-5)
    z = twin.draw(tfvae.random.make_seed(5), tf.range(7))[0].numpy()
    np.testing.assert_allclose(decoder.decode(z), twin.decode(z), atol=2e-5)


@pytest.mark.nightly
@pytest.mark.parametrize("name", LATENT_MODELS)
@pytest.mark.parametrize("kind", WRITERS)
def test_models_with_other_latents_have_every_signature(kind, name, tmp_path, rng):
    model, x = build_latent(*LATENT_MODELS[name]), rng.integers(0, 2, (9, *GREY)).astype("f4")
    report = WRITERS[kind](model, tmp_path / kind, x)
    assert report["max_abs_error"] < 1e-4
    assert report["left_out"] == {}


@pytest.mark.parametrize("kind", nightly_but(WRITERS, "saved_model"))
def test_an_export_has_the_signatures_that_are_asked_for(tmp_path, kind):
    """Without `encode`, and so without the weights of the encoder."""
    encoder = tfvae.networks.dense_encoder((28, 28, 1), 2 * LATENTS, (100,))
    model = tfvae.VAE(encoder, tfvae.networks.dense_decoder(LATENTS, (28, 28, 1), (10,)))
    path, names = tmp_path / kind, ["parameters", "decode"]
    report = WRITERS[kind](model, path, signatures=names)
    assert report["left_out"] == dict.fromkeys(["encode", "sample"], "it was not asked for")
    singles = {"decode_1"} if kind == "tflite" else set()
    assert set(report["errors"]) == {*names, *singles}
    assert report["bytes"] < 0.3 * 4 * encoder.count_params()
    if kind == "tflite":
        decoder = Decoder.from_file(path)
        z = np.ones((3, LATENTS), np.float32)
        np.testing.assert_allclose(decoder.decode(z), model.decode(z), atol=1e-5)
        with pytest.raises(InvalidArgument, match=r"'encode' in .* since it was not asked for"):
            decoder.encode(np.zeros((1, 28, 28, 1)))


def test_an_encoder_alone_is_exported(simple, tmp_path, rng):
    """Without `decode`, and so without the weights of the decoder."""
    report = export.litert(simple, tmp_path / "encoder.tflite", signatures=["encode"])
    assert set(report["errors"]) == {"encode", "encode_1"}
    assert report["left_out"]["decode"] == "it was not asked for"
    assert "decode_latency_ms" not in report
    x = rng.integers(0, 2, (5, *GREY)).astype("f4")
    on_device = Decoder.from_file(tmp_path / "encoder.tflite")
    np.testing.assert_allclose(on_device.encode(x), simple.encode(x), atol=1e-5)
    with pytest.raises(InvalidArgument, match=r"'decode' in .* since it was not asked for"):
        on_device.decode(np.zeros((1, LATENTS)))


def test_images_of_draws_are_not_measured_as_decoded_ones(simple, tmp_path):
    report = export.saved_model(simple, tmp_path / "saved_model", signatures=["sample"])
    assert "psnr" not in report


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("decode", "`signatures` is 'decode'; expected a list of names among decode, encode, samp"),
        ([], r"`signatures` is \[\]; expected a list"),
        (["decod"], "Unknown signature 'decod'.*Did you mean 'decode'"),
        (["decode_codes"], "Unknown signature 'decode_codes'"),
    ],
)
def test_signatures_that_there_are_not_are_refused(simple, tmp_path, kind, names, message):
    with pytest.raises(InvalidArgument, match=f"(?is){message}"):
        WRITERS[kind](simple, tmp_path / "export", signatures=names)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.nightly
def test_a_saved_model_serves_without_tfvae(simple, tmp_path, run_python, rng):
    script = (
        "import sys\n"
        "import numpy as np\n"
        "import tensorflow as tf\n"
        "loaded = tf.saved_model.load('saved_model')\n"
        "z = np.load('z.npy')\n"
        "image = loaded.signatures['decode'](latents=tf.constant(z))['image']\n"
        "np.save('images.npy', image.numpy())\n"
        "assert not {'tfvae', 'tensorflow_probability'} & set(sys.modules)\n"
    )
    export.saved_model(simple, tmp_path / "saved_model", signatures=["decode"])
    z = rng.normal(size=(4, LATENTS)).astype("f4")
    np.save(tmp_path / "z.npy", z)
    run_python(f"import os\nos.chdir({str(tmp_path)!r})\n{script}")
    np.testing.assert_allclose(np.load(tmp_path / "images.npy"), simple.decode(z), atol=2e-5)


def test_given_examples_are_what_is_compared(simple, tmp_path, monkeypatch, rng):
    seen = {}
    example_inputs = LatentSignatures.example_inputs

    def watched(self, x, y):
        seen.update(example_inputs(self, x, y))
        return seen

    monkeypatch.setattr(LatentSignatures, "example_inputs", watched)
    x = rng.integers(0, 2, (5, *GREY)).astype("f4")
    export.saved_model(simple, tmp_path / "saved_model", x, signatures=["encode"])
    np.testing.assert_array_equal(seen["encode"]["image"], x)


@pytest.mark.parametrize("kind", WRITERS)
def test_an_export_that_differs_is_refused_and_the_old_one_kept(
    simple, converted, tmp_path, monkeypatch, kind
):
    path = earlier_export(tmp_path, kind)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    write, names = signatures.write_saved_model, ["decode"]
    other = signatures.of(simple, names=names)
    module = importlib.import_module(WRITERS[kind].__module__)
    monkeypatch.setattr(module, "write_saved_model", lambda _, folder: write(other, folder))
    monkeypatch.setattr(litert, "_convert", lambda _: converted)
    with pytest.raises(
        ExportError, match=r"differs from Keras by 0\.\d+; expected at most 0\.0001"
    ):
        WRITERS[kind](build(*MODELS["bernoulli"], seed=1), path, signatures=names)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_the_tolerance_decides(simple, converted, tmp_path, monkeypatch):
    monkeypatch.setattr(litert, "_convert", lambda _: converted)
    with pytest.raises(ExportError, match="expected at most 0"):
        export.litert(simple, tmp_path / "a.tflite", signatures=["decode"], tolerance=0.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", nightly_but(WRITERS, "saved_model"))
def test_a_model_that_computes_nan_is_refused(tmp_path, kind):
    model = build("normal", {"scale": "learned"}, GREY, "dense", "float32")
    weights = model.get_weights()
    model.set_weights([*weights[:-1], np.full_like(weights[-1], np.nan)])
    with pytest.raises(ExportError, match="differs from Keras by nan"):
        WRITERS[kind](model, tmp_path / kind, signatures=["decode"])
    assert list(tmp_path.iterdir()) == []


@keras.saving.register_keras_serializable("test_export")
class InverseErrorFunction(keras.layers.Layer):
    """An operation that LiteRT does not have."""

    def call(self, x):
        return tf.math.erfinv(0.9 * tf.tanh(x))


@pytest.fixture(scope="module")
def unsupported():
    encoder = tfvae.networks.dense_encoder((4,), 2 * LATENTS, (8,))
    layers = [keras.Input((LATENTS,)), keras.layers.Dense(4), InverseErrorFunction()]
    return tfvae.VAE(encoder, keras.Sequential(layers), likelihood="normal")


def test_an_operator_that_litert_lacks_is_named_and_nothing_else_is_printed(
    unsupported, tmp_path, capfd
):
    with pytest.raises(ExportError, match=r"needs Erfinv, which LiteRT does not have") as error:
        export.litert(unsupported, tmp_path / "decoder.tflite", signatures=["decode"])
    layer = unsupported.decoder.layers[-1]
    assert f"It comes from the layer {layer.name!r} (InverseErrorFunction). Replace it," in str(
        error.value
    )
    assert list(tmp_path.iterdir()) == []
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def _writer(unroll):
    """A VAE of series whose decoder writes them step by step."""
    decoder = keras.Sequential(
        [
            keras.Input((LATENTS,)),
            keras.layers.RepeatVector(3),
            keras.layers.LSTM(4, return_sequences=True, unroll=unroll, name="writer"),
            keras.layers.Dense(4),
        ]
    )
    return tfvae.VAE(tfvae.networks.dense_encoder((3, 4), 2 * LATENTS, (8,)), decoder, seed=1)


def test_a_recurrent_layer_is_to_be_unrolled():
    advice = remedy(["TensorListReserve"], [keras.layers.LSTM(4, name="writer")])
    assert "It comes from the layer 'writer' (LSTM). Make it with unroll=True" in advice


@pytest.mark.nightly
def test_a_recurrent_layer_that_does_not_convert_is_named_with_what_helps(tmp_path):
    with pytest.raises(ExportError, match="needs TensorListReserve") as error:
        export.litert(_writer(unroll=False), tmp_path / "decoder.tflite", signatures=["decode"])
    assert "It comes from the layer 'writer' (LSTM). Make it with unroll=True" in str(error.value)


@pytest.mark.nightly
def test_what_is_said_to_help_a_recurrent_layer_does(tmp_path):
    assert export.litert(_writer(unroll=True), tmp_path / "decoder.tflite")["left_out"] == {}


def test_what_litert_lacks_can_be_a_saved_model(unsupported, tmp_path):
    report = export.saved_model(unsupported, tmp_path / "saved_model", signatures=["decode"])
    assert report["max_abs_error"] < 1e-4


@keras.saving.register_keras_serializable("test_export")
class ErfinvPrior(tfvae.priors.StandardNormal):
    """A prior that LiteRT cannot draw from."""

    def draw(self, seed, index, temperature=1.0):
        words = tf.cast(seed[0] + index, tf.float32)[:, tf.newaxis] + tf.range(1.0, LATENTS + 1)
        return temperature * tf.math.erfinv(0.9 * tf.sin(words))  # no noise, whose graph is large


def test_a_prior_that_litert_cannot_draw_from_leaves_the_rest(tmp_path):
    prior, path = ErfinvPrior(), tmp_path / "decoder.tflite"
    encoder = tfvae.networks.dense_encoder(GREY, 2 * LATENTS, (8,))
    model = tfvae.VAE(encoder, tfvae.networks.dense_decoder(LATENTS, GREY, (8,)), prior=prior)
    report = export.litert(model, path, signatures=["decode", "sample"])
    reason = "the prior needs Erfinv, which LiteRT does not have as a builtin operator"
    assert report["left_out"]["sample"] == reason
    assert set(report["errors"]) == {"decode", "decode_1"}
    decoder = Decoder.from_file(path)
    assert decoder.description["left_out"] == report["left_out"]
    assert decoder.decode(np.zeros((2, LATENTS))).shape == (2, *GREY)
    with pytest.raises(InvalidArgument, match=f"no signature 'sample'.* since {reason}"):
        decoder.sample(2)


@pytest.mark.nightly
def test_samples_alone_that_litert_cannot_draw_are_refused(tmp_path):
    encoder = tfvae.networks.dense_encoder(GREY, 2 * LATENTS, (8,))
    decoder = tfvae.networks.dense_decoder(LATENTS, GREY, (8,))
    model = tfvae.VAE(encoder, decoder, prior=ErfinvPrior())
    with pytest.raises(ExportError, match="needs Erfinv"):
        export.litert(model, tmp_path / "decoder.tflite", signatures=["sample"])


@keras.saving.register_keras_serializable("test_export")
class LaplacePrior(tfvae.priors.Prior):
    """A prior that only its distribution can draw from."""

    def distribution(self):
        laplace = tfp.distributions.Laplace(tf.zeros(self.latent_shape), 1.0)
        return tfp.distributions.Independent(laplace, len(self.latent_shape))


@pytest.mark.parametrize(
    ("given", "names"),
    nightly_but(
        [(True, ["decode", "encode"]), (False, ["decode", "encode"]), (False, ["decode"])],
        (False, ["decode"]),
    ),
)
def test_a_prior_without_draws_to_repeat_leaves_the_rest(tmp_path, rng, given, names):
    encoder = tfvae.networks.dense_encoder(GREY, 2 * LATENTS, (8,))
    decoder = tfvae.networks.dense_decoder(LATENTS, GREY, (8,))
    model = tfvae.VAE(encoder, decoder, prior=LaplacePrior())
    x = rng.random((9, *GREY), np.float32) if given else None
    path, options = tmp_path / "decoder.tflite", {"signatures": [*names, "sample"]}
    with pytest.warns(TfvaeWarning, match="without `sample`, since the prior cannot be drawn"):
        report = export.litert(model, path, x, quantize="int8", calibration=x, **options)
    assert set(report["left_out"]) == {"decode", "encode", "sample", "parameters"} - set(names)
    assert set(report["errors"]) == {*names, *(f"{name}_1" for name in names)}
    on_device = Decoder.from_file(path)
    assert on_device.decode(np.zeros((2, LATENTS))).shape == (2, *GREY)
    with pytest.raises(InvalidArgument, match=r"no signature 'sample'.* since the prior cannot"):
        on_device.sample(2)
    with pytest.raises(InvalidArgument, match="would hold no signature: there is no `sample`"):
        export.saved_model(model, tmp_path / "saved_model", signatures=["sample"])
    with pytest.warns(TfvaeWarning, match="without `sample`"):
        saved = export.saved_model(model, tmp_path / "saved_model", x, **options)
    assert saved["left_out"] == report["left_out"]
    assert "sample" not in tf.saved_model.load(str(tmp_path / "saved_model")).signatures


def test_a_saved_model_holds_every_weight_once(tmp_path):
    encoder = tfvae.networks.dense_encoder((28, 28, 1), 2 * LATENTS, (100,))
    model = tfvae.VAE(encoder, tfvae.networks.dense_decoder(LATENTS, (28, 28, 1), (100,)))
    model.compile("adam")
    model.optimizer.build(model.trainable_variables)
    export.saved_model(model, tmp_path / "saved_model", signatures=["decode", "encode", "sample"])
    written = (tmp_path / "saved_model/variables/variables.data-00000-of-00001").stat().st_size
    weights = 4 * sum(np.prod(weight.shape) for weight in model.trainable_variables)
    assert weights <= written < 1.05 * weights


@pytest.mark.parametrize("model", [None, "decoder.keras", keras.Sequential([keras.Input((2,))])])
def test_what_is_no_model_of_tfvae_is_refused(tmp_path, model):
    for write in WRITERS.values():
        with pytest.raises(InvalidArgument, match="expected one of tfvae, such as a VAE"):
            write(model, tmp_path / "export")


def test_a_model_that_is_not_built_is_refused(tmp_path):
    networks = [keras.Sequential([keras.layers.Dense(2)]) for _ in range(2)]
    with pytest.raises(InvalidArgument, match="does not know the shape of its data"):
        export.litert(tfvae.VAE(*networks), tmp_path / "decoder.tflite")


@pytest.mark.parametrize("kind", WRITERS)
def test_an_earlier_export_is_replaced(simple, converted, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(litert, "_convert", lambda _: converted)
    path = earlier_export(tmp_path, kind)
    before = {file.name for file in tmp_path.iterdir()}
    report = WRITERS[kind](simple, path, signatures=["decode"])
    assert report["bytes"] > 3
    assert not (path / "stale").exists()
    assert {file.name for file in tmp_path.iterdir()} == before | {"report.json"}
    if kind == "tflite":
        assert Decoder.from_file(path).decode(np.zeros((2, LATENTS))).shape == (2, *GREY)
    else:
        assert set(tf.saved_model.load(str(path)).signatures) == {"serving_default", "decode"}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_folder_in_the_way_is_refused(tmp_path, simple, kind):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "precious.txt").write_text("kept")
    with pytest.raises(InvalidFile, match=r"folder"):
        WRITERS[kind](simple, tmp_path / "folder")
    assert (tmp_path / "folder" / "precious.txt").read_text() == "kept"
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_a_file_in_the_way_of_a_saved_model_is_refused(tmp_path, simple):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(InvalidFile, match="in the way"):
        export.saved_model(simple, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"


def test_a_path_that_cannot_be_written_is_refused(tmp_path, simple):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidFile, match="Choose another path"):
        export.saved_model(simple, tmp_path / "file" / "saved_model")
