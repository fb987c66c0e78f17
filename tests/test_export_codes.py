"""Exports of vector-quantized models: the codes of Keras, exactly, and its images."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiers import nightly_but

import tfvae
from tfvae import code_priors, export, quantizers
from tfvae.errors import ExportError, InvalidArgument, InvalidData, InvalidFile
from tfvae.export import signatures
from tfvae.export.code_ties import count_flips
from tfvae.export.parity import check_parity
from tfvae.models.precision import in_float32
from tfvae.ondevice import Decoder, operators, read_description
from tfvae.tools.main import cli

pytestmark = pytest.mark.slow  # Converts models.

K = 16
ON_DEVICE = {
    *("decode_codes", "encode", "sample", "parameters"),
    *("decode_codes_1", "encode_1", "sample_1"),
}
GREY, COLOUR = (8, 8, 1), (8, 8, 3)
MANY = 300  # above the number of rows that a decoder takes at once
MIXTURE = ("discretized_logistic_mixture", {"num_components": 2})
PRIORS = {
    "uniform": {},
    "categorical": {},
    "transformer": {"num_layers": 1, "num_heads": 2, "hidden_size": 8},
    "pixelcnn": {"num_filters": 6, "num_layers": 2, "kernel_size": 3},
}


def make_quantizer(name):
    """Return a small quantizer."""
    table = {"num_embeddings": K, "embedding_dim": 4}
    options = {
        "fsq": {"levels": (5, 4, 3)},
        "lfq": {"embedding_dim": 4},
        "residual": {"quantizer": quantizers.get("ema", **table), "num_quantizers": 3},
        "product": {
            "quantizer": quantizers.get("vq", num_embeddings=K, embedding_dim=2),
            "num_heads": 2,
        },
    }
    return quantizers.get(name, **options.get(name, table))


# Name: quantizer, prior, its number of classes, likelihood, shape of an image, precision policy.
MODELS = {
    "ema": ("ema", "uniform", 0, ("bernoulli", {}), GREY, "float32"),
    "vq, bfloat16": ("vq", "transformer", 3, ("normal", {}), GREY, "mixed_bfloat16"),
    "fsq": ("fsq", "categorical", 0, MIXTURE, COLOUR, "float32"),
    "residual": ("residual", "transformer", 0, MIXTURE, GREY, "float32"),
    "product": ("product", "categorical", 2, ("bernoulli", {}), GREY, "float32"),
    "lfq": ("lfq", "pixelcnn", 0, ("normal", {"scale": "learned"}), COLOUR, "float32"),
    "simvq": ("simvq", "pixelcnn", 2, ("bernoulli", {}), GREY, "float32"),
    "gumbel": ("gumbel", "uniform", 2, ("bernoulli", {}), GREY, "float32"),
    "hierarchical": (("vq", "ema"), "categorical", 0, ("bernoulli", {}), GREY, "float32"),
    "hierarchical, transformer": (
        ("vq", "ema"),
        "transformer",
        0,
        ("bernoulli", {}),
        GREY,
        "float32",
    ),
}
QUANTIZERS = ["vq", "ema", "fsq", "residual", "product", "lfq", "simvq", "gumbel"]


def build(quantizer, prior, num_classes, likelihood, x_shape, policy):
    """Return a model with random weights, biases and tables included."""
    likelihood = tfvae.likelihoods.REGISTRY.get(likelihood[0], **likelihood[1])
    channels = likelihood.params_size(x_shape[-1])
    keras.config.set_dtype_policy(policy)
    try:
        make = build_hierarchical if isinstance(quantizer, tuple) else build_flat
        model = make(quantizer, x_shape, channels, likelihood)
        options = {"codebook_size": model.codebook_size, "num_classes": num_classes}
        model.prior = code_priors.get(prior, **options, **PRIORS[prior])
    finally:
        keras.config.set_dtype_policy("float32")
    randomize(model)
    return model


def build_flat(quantizer, x_shape, channels, likelihood):
    quantizer = make_quantizer(quantizer)
    size = quantizer.embedding_dim
    encoder = tfvae.networks.residual_encoder(x_shape, size, 8, 1, 1, 4)
    decoder = tfvae.networks.residual_decoder((4, 4, size), channels, 8, 1, 1, 4)
    return tfvae.VQVAE(encoder, quantizer, decoder, likelihood=likelihood)


def build_hierarchical(names, x_shape, channels, likelihood):
    networks = tfvae.networks
    encoders = [
        networks.residual_encoder(shape, None, 8, 1, 0, 4) for shape in (x_shape, (4, 4, 8))
    ]
    decoders = [
        networks.residual_decoder((4, 4, 4 + 8), channels, 8, 1, 0, 4),
        networks.residual_decoder((2, 2, 4), 8, 8, 1, 0, 4),
    ]
    tables = [make_quantizer(name) for name in names]
    return tfvae.HierarchicalVQVAE(encoders, tables, decoders, likelihood=likelihood)


def randomize(model):
    rng = np.random.default_rng(0)
    tables = [id(v) for q in model.codebooks for v in q.variables]
    for weight in [*model.variables, *model.prior.variables]:
        if weight.ndim:
            # Small biases: the codes should depend on the image.
            scale = 1.0 if id(weight) in tables else 0.4 if weight.ndim > 1 else 0.1
            weight.assign(scale * rng.normal(size=weight.shape))


class Exported:
    """One model, what Keras computes in float32, and the decoder in its export."""

    def __init__(self, name, folder):
        self.name = name
        self.model = build(*MODELS[name])
        self.keras = in_float32(self.model)
        self.before = self.model.get_weights()
        self.path = folder / "decoder.tflite"
        self.report = export.litert(self.model, self.path)
        self.decoder = Decoder.from_file(self.path)
        self.x = np.random.default_rng(1).random((MANY, *self.model.x_shape)).astype("f4")

    def codes(self, count, seed=2):
        rng = np.random.default_rng(seed)
        return rng.integers(0, self.model.codebook_size, (count, *self.model.code_shape))

    def labels(self, count):
        classes = self.model.prior.num_classes
        return {"condition": np.arange(count) % classes} if classes else {}


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    return Exported("product", tmp_path_factory.mktemp("product"))


# It has several codes for a vector, and classes; a hierarchical one is a SavedModel below, and a
# prior of networks is on a device in test_code_priors.
@pytest.fixture(scope="module", params=nightly_but(MODELS, "product"))
def exported(request, tmp_path_factory):
    if request.param == "product":
        return request.getfixturevalue("product")
    return Exported(request.param, tmp_path_factory.mktemp("export"))


@pytest.mark.parametrize("count", [1, 3, MANY])
def test_codes_are_decoded_to_the_images_of_keras(exported, count):
    codes = exported.codes(count)
    images = exported.decoder.decode_codes(codes)
    assert images.shape == (count, *exported.model.x_shape)
    assert images.dtype == np.float32
    np.testing.assert_allclose(images, exported.keras.decode(codes), atol=1e-4)
    assert images.std() > 0.05


@pytest.mark.parametrize("count", [1, 3, MANY])
def test_images_are_encoded_to_the_codes_of_keras(exported, count):
    codes = exported.decoder.encode(exported.x[:count])
    assert codes.shape == (count, *exported.model.code_shape)
    assert codes.dtype == np.int32
    np.testing.assert_array_equal(codes, exported.keras.encode(exported.x[:count]))
    assert len(np.unique(codes)) > 1


@pytest.mark.parametrize(("count", "seed", "temperature"), [(6, 11, 0.7), (1, -1, 0.0)])
def test_the_decoder_draws_the_samples_of_keras(exported, count, seed, temperature):
    labels = exported.labels(count)
    images = exported.decoder.sample(count, seed, temperature, **labels)
    expected = exported.keras.sample(count, seed, temperature, **labels)
    np.testing.assert_allclose(images, expected, atol=1e-4)
    outputs = exported.decoder.run(
        "sample",
        seed=tfvae.random.make_seed(seed).numpy(),
        index=np.arange(count, dtype=np.int32),
        temperature=np.float32(temperature),
        **{key: value.astype(np.int32) for key, value in labels.items()},
    )
    codes = exported.keras.prior.sample(count, seed, temperature=temperature, **labels)
    np.testing.assert_array_equal(outputs["codes"], codes)


def test_only_builtin_operators_are_used(exported):
    found = operators(exported.path.read_bytes())
    assert found == exported.report["operators"]
    assert not [name for name in found if name != name.upper() or name == "CUSTOM"]


def test_the_report_says_what_was_compared(exported):
    report = json.loads((exported.path.parent / "report.json").read_text())
    assert report == {"exports": {exported.path.name: exported.report}}
    assert set(exported.report["errors"]) == ON_DEVICE
    assert exported.report["max_abs_error"] < 1e-4
    assert exported.report["code_flips"] == 0
    assert exported.report["left_out"] == {}
    assert exported.report["bytes"] == exported.path.stat().st_size
    assert 0 < exported.report["decode_latency_ms"] < 1000


def test_the_file_describes_the_model(exported):
    model, likelihood = exported.model, exported.model.likelihood
    description = read_description(exported.path.read_bytes())
    assert len(description.pop("sha256")) == 64
    assert set(description.pop("signatures")) == ON_DEVICE
    assert description == {
        "format": 1,
        "tfvae_version": tfvae.__version__,
        "model": type(model).__name__,
        "code_shape": list(model.code_shape),
        "code_grids": [list(grid) for grid in model.code_grids],
        "codebook_size": model.codebook_size,
        "num_classes": model.prior.num_classes,
        "image_shape": list(model.x_shape),
        "image_range": [0.0, 1.0] if likelihood.num_levels else None,
        "likelihood": {"name": type(likelihood).__name__, **likelihood.get_config()},
        "left_out": {},
        "quantize": "none",
    }
    assert exported.decoder.code_shape == model.code_shape
    assert exported.decoder.codebook_size == model.codebook_size
    assert exported.decoder.num_classes == model.prior.num_classes
    assert exported.decoder.latent_shape is None


def test_codes_out_of_range_do_not_end_the_process(exported):
    """What reaches the interpreter past the checks is refused by it, or decoded to something."""
    codes = exported.codes(2).astype(np.int32)
    before = exported.decoder.run("decode_codes", codes=codes)["image"]
    for bad in (exported.model.codebook_size, -1, -(2**31), 2**31 - 1):
        try:
            image = exported.decoder.run("decode_codes", codes=np.full_like(codes, bad))["image"]
        except InvalidFile:
            continue
        assert np.all(np.isfinite(image))
    after = exported.decoder.run("decode_codes", codes=codes)["image"]
    np.testing.assert_array_equal(after, before)


def test_exporting_leaves_the_model_as_it_was(exported):
    for before, after in zip(exported.before, exported.model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("quantizer", "num_classes", "policy"),
    nightly_but(
        [("vq", 3, "mixed_bfloat16"), (("vq", "ema"), 3, "float32")], (("vq", "ema"), 3, "float32")
    ),
    ids=["half precision", "hierarchical"],
)
def test_a_saved_model_computes_what_keras_computes(quantizer, num_classes, policy, tmp_path, rng):
    model = build(quantizer, "categorical", num_classes, ("normal", {}), GREY, policy)
    names = ["encode", "decode_codes", "sample"]
    report = export.saved_model(model, tmp_path / "saved_model", signatures=names)
    assert report["max_abs_error"] < 1e-4
    assert report["code_flips"] == 0
    loaded = tf.saved_model.load(str(tmp_path / "saved_model")).signatures
    twin = in_float32(model)
    x = rng.random((5, *model.x_shape)).astype("f4")
    codes = loaded["encode"](image=tf.constant(x))["codes"]
    np.testing.assert_array_equal(codes, twin.encode(x))
    images = loaded["decode_codes"](codes=codes)["image"]
    np.testing.assert_allclose(images, twin.decode(codes), atol=1e-4)
    labels = tf.constant([0, 2])
    drawn = loaded["sample"](
        seed=tfvae.random.make_seed(5),
        index=tf.range(2),
        temperature=tf.constant(0.5),
        condition=labels,
    )
    expected = twin.sample(2, 5, 0.5, condition=labels)
    np.testing.assert_allclose(drawn["image"], expected, atol=1e-4)


@pytest.mark.nightly
def test_a_saved_model_serves_without_tfvae(tmp_path, run_python):
    model = build(*MODELS["ema"])
    export.saved_model(model, tmp_path / "saved_model")
    codes = np.random.default_rng(2).integers(0, K, (4, *model.code_shape)).astype(np.int32)
    np.save(tmp_path / "codes.npy", codes)
    script = f"""
import os, sys
os.chdir({str(tmp_path)!r})
import numpy as np
import tensorflow as tf
serve = tf.saved_model.load("saved_model").signatures
image = serve["decode_codes"](codes=tf.constant(np.load("codes.npy")))["image"]
drawn = serve["sample"](
    seed=tf.constant([0, 3]), index=tf.range(4), temperature=tf.constant(1.0)
)["codes"]
np.savez("out.npz", image=image, codes=serve["encode"](image=image)["codes"], drawn=drawn)
assert not {{"tfvae", "tensorflow_probability"}} & set(sys.modules)
"""
    run_python(script)
    found = np.load(tmp_path / "out.npz")
    np.testing.assert_allclose(found["image"], model.decode(codes), atol=1e-4)
    np.testing.assert_array_equal(found["codes"], model.encode(found["image"]))
    np.testing.assert_array_equal(found["drawn"], model.prior.sample(4, 3))


# What a decoder refuses, by the smallest of files: one code of three, one label of two.
@pytest.fixture(scope="module")
def tiny():
    return tiny_model(code_priors.get("categorical", codebook_size=3, num_classes=2))


@pytest.fixture(scope="module")
def decoder(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "tiny.tflite"
    export.litert(tiny, path, signatures=["decode_codes"])
    return Decoder.from_file(path)


@pytest.fixture(scope="module")
def drawing(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("drawing") / "tiny.tflite"
    export.litert(tiny, path, signatures=["sample"])
    return Decoder.from_file(path)


def tiny_model(prior=None):
    """Return a model of examples (2, 2, 2) whose networks do nothing: a site, a code."""
    quantizer = quantizers.get("vq", num_embeddings=3, embedding_dim=2)
    return around(quantizer, prior)


def around(quantizer, prior=None):
    """Return a model whose examples, `(2, 2, D)`, are the vectors that the quantizer gets."""
    shape = (2, 2, quantizer.embedding_dim)
    networks = [keras.Sequential([keras.Input(shape), keras.layers.Identity()]) for _ in range(2)]
    return tfvae.VQVAE(networks[0], quantizer, networks[1], prior=prior)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((2, 2, 3), int), r"int64 of shape \(2, 2, 3\).*integers of shape \(N, 2, 2\)"),
        (np.zeros((2, 2), int), r"shape \(2, 2\)"),
        (np.zeros((0, 2, 2), int), r"shape \(0, 2, 2\)"),
        (np.zeros((1, 2, 2)), "array of float64"),
        (np.zeros((1, 2, 2), bool), "array of bool"),
        (np.full((1, 2, 2), 3), "The codes are from 3 to 3; expected 0 to 2"),
        (np.full((1, 2, 2), -1), "from -1 to -1; expected 0 to 2"),
        (np.full((1, 2, 2), 2**32), "from 4294967296"),
    ],
    ids=lambda value: None if isinstance(value, str) else f"{value.dtype} {value.shape}",
)
def test_codes_that_do_not_fit_are_refused(decoder, codes, message):
    with pytest.raises(InvalidData, match=message):
        decoder.decode_codes(codes)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_integers_of_any_type_are_codes(decoder, tiny, dtype):
    codes = np.array([[[0, 1], [2, 1]]], dtype)
    np.testing.assert_allclose(decoder.decode_codes(codes), tiny.decode(codes), atol=1e-6)
    np.testing.assert_array_equal(decoder.decode_codes(codes.tolist()), decoder.decode_codes(codes))


def test_latents_have_no_place_in_a_file_with_codes(decoder):
    with pytest.raises(
        InvalidArgument, match=r"tiny.tflite decodes codes of shape \(2, 2\), not.*`decode_codes`"
    ):
        decoder.decode(np.zeros((1, 2, 2, 2)))


@pytest.mark.parametrize(
    ("condition", "error", "message"),
    [
        (None, InvalidArgument, "has 2 classes and got no labels"),
        (2, InvalidData, "labels are from 2 to 2; expected 0 to 1"),
        ([0, -1, 0], InvalidData, "labels are from -1 to 0"),
        ([0, 1], InvalidData, r"shape \(2,\); expected one integer, or 3"),
        (0.0, InvalidData, "array of float64"),
    ],
)
def test_labels_that_do_not_fit_are_refused(product, condition, error, message):
    with pytest.raises(error, match=message):
        product.decoder.sample(3, condition=condition)


# The draws of the model above have labels as well.
@pytest.mark.nightly
def test_one_label_stands_for_all(drawing, tiny):
    images = drawing.sample(3, seed=4, condition=1)
    np.testing.assert_array_equal(images, drawing.sample(3, seed=4, condition=[1, 1, 1]))
    np.testing.assert_allclose(images, tiny.sample(3, 4, condition=1), atol=1e-6)


@pytest.mark.nightly
def test_labels_go_with_their_images_in_ragged_batches(drawing, tiny):
    labels = np.arange(MANY) % 2
    expected = tiny.sample(MANY, 4, condition=labels)
    np.testing.assert_allclose(drawing.sample(MANY, 4, condition=labels), expected, atol=1e-6)


def test_the_latency_is_a_time(decoder):
    assert 0 < decoder.decode_latency(batch_size=2) < 1000


@keras.saving.register_keras_serializable("test_export_codes")
class ErfinvPrior(code_priors.CategoricalCodePrior):
    """A prior that LiteRT cannot draw from."""

    def step(self, state, position, previous):
        logits, state = super().step(state, position, previous)
        return tf.math.erfinv(tf.tanh(logits)), state


@pytest.mark.nightly
def test_a_prior_that_litert_cannot_draw_from_leaves_the_rest(tmp_path, capsys):
    model = tiny_model(ErfinvPrior(codebook_size=3))
    model.save(tmp_path / "model.keras")
    arguments = ["export", str(tmp_path / "model.keras"), "--no-report"]
    cli.main(arguments, standalone_mode=False)
    reason = "the prior needs Erfinv, which LiteRT does not have as a builtin operator"
    assert f"without sample: {reason}" in capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())["exports"]["decoder.tflite"]
    assert report["left_out"] == {"sample": reason}
    left = {name for name in ON_DEVICE if "sample" not in name}
    assert set(report["errors"]) == left
    decoder = Decoder.from_file(tmp_path / "decoder.tflite")
    assert decoder.description["left_out"] == report["left_out"]
    assert set(decoder.description["signatures"]) == left
    with pytest.raises(InvalidArgument, match=f"no signature 'sample' in .*, since {reason}"):
        decoder.sample(2)
    codes = np.zeros((1, 2, 2), int)
    np.testing.assert_allclose(decoder.decode_codes(codes), model.decode(codes), atol=1e-6)
    assert "sample" in export.saved_model(model, tmp_path / "saved_model")["errors"]


# Whether rounding explains that codes differ.
def boundaries(model, rng, count):
    """Yield examples, their codes, and those of examples as near to them as it gets.

    The codes of the two differ in one site.
    """
    encode = tf.function(model.encode, autograph=False)

    def code(x):
        return encode(x)[0, 1, 0].numpy().tolist()

    for _ in range(count):
        near = rng.normal(size=(1, *model.x_shape)).astype("f4")
        far = near.copy()
        while code(near) == code(far):
            far[0, 1, 0] = rng.normal(size=model.x_shape[-1])
        for _ in range(30):
            middle = ((near.astype("f8") + far) / 2).astype("f4")
            if code(middle) == code(near):
                near = middle
            else:
                far = middle
        yield near, encode(near).numpy(), encode(far).numpy()


@pytest.mark.parametrize("name", nightly_but(QUANTIZERS, "vq", "fsq", "residual"))
def test_a_code_at_a_boundary_is_a_tie(name, rng):
    model = around(make_quantizer(name))
    randomize(model)
    for x, ours, theirs in boundaries(model, rng, 1):
        assert count_flips(model, x, ours, theirs, 1e-4) == (1, 1)


@pytest.mark.parametrize("name", QUANTIZERS)
def test_a_code_away_from_a_boundary_is_no_tie(name, rng):
    model = around(make_quantizer(name))
    randomize(model)
    x = rng.normal(size=(50, *model.x_shape)).astype("f4")
    ours = np.asarray(model.encode(x))
    theirs = (ours + 1) % model.codebook_size
    assert count_flips(model, x, ours, theirs, 1e-4) == (50 * 4, 0)
    assert count_flips(model, x, ours, ours, 1e-4) == (0, 0)


def test_two_codes_of_one_vector_are_a_tie():
    model = tiny_model()
    model.quantizer.table.assign(np.ones((3, 2)))
    x = np.full((1, 2, 2, 2), 7.0, "f4")
    ours = np.asarray(model.encode(x))
    assert count_flips(model, x, ours, ours + 1, 1e-4) == (4, 4)


def test_what_follows_from_a_coarse_code_is_not_counted(rng):
    model = build(*MODELS["hierarchical"])
    x = rng.random((2, *GREY)).astype("f4")
    ours = np.asarray(model.encode(x))
    coarse, fine = 2 * 2, 4 * 4
    theirs = ours.copy()
    theirs[0, 0] += 1
    theirs[0, coarse:] += 1
    theirs[1, coarse:] += 1
    theirs %= K
    assert count_flips(model, x, ours, theirs, 1e-4) == (1 + fine, 0)


@pytest.fixture(scope="module")
def offered():
    """What Keras computes, in graphs that are traced once."""
    model = tiny_model(code_priors.get("categorical", codebook_size=3))
    randomize(model)
    return signatures.of(model)


def compare(offered, change, x=None):
    """Compare Keras with itself after `change(signature, outputs)`, in place."""

    def run(name, inputs):
        tensors = {key: tf.constant(value) for key, value in inputs.items()}
        outputs = offered.functions[name](**tensors)
        outputs = {key: value.numpy() for key, value in outputs.items()}
        change(name, outputs)
        return outputs

    return check_parity(offered, run, x, 1e-4, "a.tflite")


@pytest.mark.parametrize("wrong", [lambda code: (code + 1) % 3, lambda code: 3, lambda code: -1])
def test_a_wrong_code_is_an_error(offered, rng, wrong):
    def change(name, outputs):
        if name == "encode":
            outputs["codes"][0, 0, 0] = wrong(outputs["codes"][0, 0, 0])

    x = rng.normal(size=(4, 2, 2, 2)).astype("f4")
    with pytest.raises(
        ExportError, match=r"a\.tflite does not.*'encode', 1 codes .*, 1 of them at .*nearer"
    ):
        compare(offered, change, x)


def test_a_tie_is_counted(offered, rng):
    ((x, _, theirs),) = boundaries(offered.model, rng, 1)

    def change(name, outputs):
        if name == "encode":
            outputs["codes"][:] = theirs

    report = compare(offered, change, x)
    assert report["code_flips"] == 1
    assert report["max_abs_error"] == max(report["errors"].values()) < 1e-6


def change_draws(count):
    def change(name, outputs):
        if name == "sample":
            outputs["codes"][:count] = (outputs["codes"][:count] + 1) % 3
            outputs["image"][:count] += 1.0

    return change


def test_one_other_draw_is_counted(offered):
    report = compare(offered, change_draws(1))
    assert report["code_flips"] == 1
    assert report["max_abs_error"] < 1e-6


def test_several_other_draws_are_an_error(offered):
    with pytest.raises(ExportError, match=r"2 of 64 draws .*; expected at least 98% to"):
        compare(offered, change_draws(2))


@pytest.mark.parametrize("signature", ["decode_codes", "sample"])
def test_another_image_is_an_error(offered, signature):
    def change(name, outputs):
        if name == signature:
            outputs["image"][-1] += 0.5

    with pytest.raises(ExportError, match=f"'image' of signature '{signature}' differs .* by 0.5"):
        compare(offered, change)
