"""Exports in smaller numbers: what is in the file, and what it still computes."""

import importlib
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiers import nightly_but

import tfvae
from tfvae import export, likelihoods
from tfvae.errors import ExportError, InvalidArgument, InvalidData, MissingDependency
from tfvae.export import quantization, signatures
from tfvae.export.parity import psnr
from tfvae.ondevice import Decoder, flatfile, inspect

pytestmark = pytest.mark.slow  # Converts models.

QUANTIZATIONS = ("float16", "dynamic", "int8", "int16x8", "int4")
OF_CODES = ("float16", "int8", "int4")  # the others differ only between the layers
KEPT_OF_CODES = ["decode_codes", "encode", "sample"]
BITS = {"dynamic": 8, "int8": 8, "int16x8": 8, "int4": 4}
SHAPE = (8, 8, 1)

litert = importlib.import_module("tfvae.export.litert")  # the package has the function


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 2, (30, *SHAPE)).astype(np.float32)


def random_weights(model, scale=0.2):
    rng = np.random.default_rng(0)
    for weight in model.trainable_variables:
        weight.assign(scale * rng.normal(size=weight.shape))
    return model


@pytest.fixture(scope="module")
def vae():
    encoder = tfvae.networks.dense_encoder(SHAPE, 2 * 4, (64, 48))
    return random_weights(tfvae.VAE(encoder, tfvae.networks.dense_decoder(4, SHAPE, (48, 56))))


def vqvae(prior, **options):
    networks = tfvae.networks
    model = tfvae.VQVAE(
        networks.residual_encoder(SHAPE, 8, 16, 1, 1, 8),
        tfvae.quantizers.get("vq", num_embeddings=32, embedding_dim=8),
        networks.residual_decoder((4, 4, 8), 1, 16, 1, 1, 8),
        likelihood="bernoulli",
    )
    model.prior = tfvae.code_priors.get(prior, codebook_size=32, **options)
    return random_weights(model, 0.3)


class Exported:
    """A model, and its files, which come from one conversion and one set of graphs to save time.

    A file is written when a test first asks for it. The parameters are those of a model below.
    """

    def __init__(self, model, images, folder, kept):
        self.model, self.images, self.folder, self.kept = model, images, folder, kept
        self.reports = {}
        self.offered = signatures.of(model, on_device=True, names=self.kept)
        self.content = litert._convert(self.offered)

    def report(self, name, **options):
        """Return the report of the export in a quantization, by its name."""
        key = (name, *options)
        if key not in self.reports:
            path = self.folder / f"{'-'.join(key)}.tflite"
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(litert, "of", lambda *_, **__: self.offered)
                patch.setattr(litert, "_convert", lambda offered: self.content)
                options |= {"signatures": self.kept, "calibration": self.images}
                x = self.images[:16]
                self.reports[key] = export.litert(self.model, path, x, quantize=name, **options)
        return self.reports[key]

    def path(self, name, **options):
        return Path(self.report(name, **options)["path"])

    def decoder(self, name):
        return Decoder.from_file(self.path(name))


@pytest.fixture(scope="module")
def latents(vae, images, tmp_path_factory):
    return Exported(vae, images, tmp_path_factory.mktemp("latents"), ["decode", "encode"])


@pytest.fixture(scope="module")
def noise(vae, images, tmp_path_factory):
    return Exported(vae, images, tmp_path_factory.mktemp("noise"), ["decode", "sample"])


@pytest.fixture(scope="module")
def codes(images, tmp_path_factory):
    model = vqvae("transformer", num_layers=1, num_heads=2, hidden_size=16)
    return Exported(model, images, tmp_path_factory.mktemp("codes"), KEPT_OF_CODES)


@pytest.fixture(scope="module")
def codes_of_a_table(images, tmp_path_factory):
    """A prior without a network is drawn from in a loop as well, and converts in less time."""
    model = vqvae("categorical")
    return Exported(model, images, tmp_path_factory.mktemp("table"), KEPT_OF_CODES)


@pytest.fixture(scope="module", params=nightly_but(["latents", "codes"], "latents"))
def exported(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def quantizations(exported):
    return OF_CODES if isinstance(exported.model, tfvae.VQVAE) else QUANTIZATIONS


def parsed(path, signature):
    """Return a file's tree, its schema, and the graph of a signature."""
    model, schema = flatfile.parse(path.read_bytes())
    (graph,) = (
        model.subgraphs[s.subgraphIndex]
        for s in model.signatureDefs
        if flatfile.text(s.signatureKey) == signature
    )
    return model, schema, graph


def constants(path, signature):
    """Return {shape: real values} of the constants of a graph with at least two axes."""
    model, schema, graph = parsed(path, signature)
    kinds = schema.TensorType
    types = {kinds.FLOAT32: np.float32, kinds.FLOAT16: np.float16, kinds.INT8: np.int8}
    for tensor in graph.tensors:
        data = model.buffers[tensor.buffer].data
        if data is None or len(tensor.shape) < 2 or tensor.type not in types:
            continue
        values = np.frombuffer(data.tobytes(), types[tensor.type]).reshape(tensor.shape)
        scale = np.float32(1.0)
        if tensor.type == kinds.INT8:
            scale = tensor.quantization.scale
            if len(scale) > 1:
                axes = [1] * values.ndim
                axes[tensor.quantization.quantizedDimension] = -1
                scale = scale.reshape(axes)
        yield tuple(tensor.shape), values.astype(np.float64) * scale, np.max(scale)


def test_dense_weights_are_within_half_a_step_of_the_models(latents):
    kernels = [w.T for w in latents.model.decoder.get_weights() if w.ndim == 2]
    for name in ("dynamic", "int8", "int16x8"):
        found = {shape: (v, s) for shape, v, s in constants(latents.path(name), "decode")}
        for kernel in kernels:
            values, scale = found[kernel.shape]
            assert scale == pytest.approx(np.abs(kernel).max() / 127, rel=1e-5)
            assert np.abs(values - kernel).max() <= 0.501 * scale
    found = {shape: v for shape, v, _ in constants(latents.path("float16"), "decode")}
    for kernel in kernels:
        np.testing.assert_array_equal(found[kernel.shape], kernel.astype(np.float16))


def test_the_weights_take_the_bits_that_were_asked_for(exported, quantizations):
    plain = inspect(exported.path("none")).weights["float32"]
    half = inspect(exported.path("float16")).weights
    assert half.get("float32", 0) < 0.1 * plain  # what is no weight
    assert half["float16"] == pytest.approx(plain / 2, rel=0.1)
    for name in set(BITS) & set(quantizations):
        bits = BITS[name]
        weights = inspect(exported.path(name)).weights
        integers = weights.get("int8", 0) + weights.get("int4", 0)
        # Convolutions that there is no kernel of four bits for keep eight, biases stay wide.
        assert bits / 32 * 0.7 * plain < integers < bits / 32 * 1.6 * plain, name
        assert weights.get("float32", 0) < 0.25 * plain, name
    sizes = [exported.report(name)["bytes"] for name in ("int4", "int8", "float16", "none")]
    assert sizes == sorted(set(sizes))


def test_images_are_near_those_of_keras(exported, quantizations):
    least = {"float16": 70, "dynamic": 35, "int8": 30, "int16x8": 35, "int4": 20}
    model, z = exported.model, exported.model.encode(exported.images[:16]).numpy()
    expected = model.decode(z).numpy()
    assert expected.std() > 0.05
    for name in quantizations:
        assert exported.report(name)["quantize"] == name
        assert exported.report(name)["psnr"] > least[name], name
        decoder = exported.decoder(name)
        decode = decoder.decode if decoder.code_shape is None else decoder.decode_codes
        assert psnr(np.mean((decode(z) - expected) ** 2)) > least[name] - 5, name


@pytest.mark.parametrize("name", nightly_but(QUANTIZATIONS, "int8"))
def test_the_noise_of_samples_loses_nothing(noise, name):
    draws = {
        "seed": np.array([0, 5], np.int32),
        "index": np.arange(20, dtype=np.int32),
        "temperature": np.float32(1.0),
    }
    found = noise.decoder(name).run("sample", **draws)["latents"]
    expected = noise.model.prior.draw(draws["seed"], draws["index"])
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.fixture(params=nightly_but(["codes_of_a_table", "codes"], "codes_of_a_table"))
def coded(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("name", nightly_but(OF_CODES, "int8"))
def test_codes_are_drawn_and_decoded(coded, name):
    images = coded.decoder(name).sample(6, seed=3)
    assert images.shape == (6, *SHAPE)
    assert np.all((images >= 0) & (images <= 1))
    assert np.all(images.std(axis=(1, 2, 3)) > 0.01)


@pytest.mark.parametrize(
    ("name", "least"), nightly_but([("float16", 0.97), ("int8", 0.8)], ("int8", 0.8))
)
def test_most_codes_are_those_of_keras(coded, name, least):
    expected = coded.model.encode(coded.images).numpy()
    assert np.mean(coded.decoder(name).encode(coded.images) == expected) > least


def test_one_image_and_a_batch_have_the_same_ranges(exported):
    info = inspect(exported.path("int8"))
    decoder = exported.decoder("int8")
    signature = "decode" if decoder.code_shape is None else "decode_codes"
    ((key, batch),) = calibration_of(exported, signature).items()
    together = decoder.run(signature, **{key: batch})["image"]
    alone = [decoder.run(f"{signature}_1", **{key: row[None]})["image"] for row in batch]
    np.testing.assert_array_equal(together, np.concatenate(alone))
    assert info.signatures[signature].outputs[0].dtype == "float32"


def calibration_of(exported, signature):
    offered = signatures.of(exported.model)
    return {k: v[:8] for k, v in offered.inputs(exported.images)[signature].items()}


@pytest.mark.parametrize("kind", ["latents", "codes"])
def test_calibration_computes_fifty_examples_at_a_time(vae, images, monkeypatch, kind):
    model = vae if kind == "latents" else vqvae("categorical")
    network, sizes = type(model.encoder), []
    call = network.__call__

    def counted(self, x, *args, **options):
        sizes.append(x.shape[0])
        return call(self, x, *args, **options)

    monkeypatch.setattr(network, "__call__", counted)
    names = ["encode", "decode" if kind == "latents" else "decode_codes"]
    batches = signatures.of(model, names=names).calibration(
        np.resize(images, (120, *images.shape[1:]))
    )
    assert sizes
    assert max(size or 0 for size in sizes) <= 50
    (key,) = batches[names[1]][0]
    assert [len(batch[key]) for batch in batches[names[1]]] == [50, 50, 50, 50, 40]


def test_ranges_are_seen_by_one_interpreter(latents, monkeypatch):
    made, make = [], quantization.tfl_interpreter_utils.create_tfl_interpreter

    def counted(*args, **options):
        made.append(options)
        return make(*args, **options)

    monkeypatch.setattr(quantization.tfl_interpreter_utils, "create_tfl_interpreter", counted)
    recipes = quantization.recipe_manager.RecipeManager()
    model, _ = flatfile.parse(latents.content)
    for graph in model.subgraphs:
        for number, tensor in enumerate(graph.tensors):
            tensor.name = f"{number}"
    content = flatfile.pack(model, keep_names=True)
    z = np.zeros((1, *latents.model.latent_shape), np.float32)
    quantization._ranges(content, recipes, {"decode_1": [{"latents": z}]})
    assert made == [{"use_xnnpack": False, "num_threads": 2}]


def test_the_ranges_are_the_widest_that_calibration_saw(latents):
    found = inspect(latents.path("int8", integer_io=True)).signatures
    (image,) = found["encode"].inputs
    low, high = (image.scale * (n - image.zero_point) for n in (-128, 127))
    assert (low, high) == pytest.approx((0.0, 1.0), abs=0.01)  # rounded outwards to 8 bits
    (z,) = found["decode"].inputs
    assert z.dtype == "int8"
    low, high = (z.scale * (n - z.zero_point) for n in (-128, 127))
    assert low < -2.5  # a draw of a hundred from the prior is in the ranges
    assert high > 2.5
    decoded = found["decode"].outputs[0]
    assert (decoded.dtype, decoded.scale, decoded.zero_point) == ("int8", 1 / 256, -128)
    assert decoded.shape == (-1, *SHAPE)


def test_parameters_of_several_kinds_share_no_range(images, tmp_path):
    likelihood = tfvae.likelihoods.REGISTRY.get("discretized_logistic_mixture", num_components=2)
    decoder = tfvae.networks.conv_decoder(4, (8, 8, likelihood.params_size(1)), (8,), 16)
    encoder = tfvae.networks.conv_encoder(SHAPE, 2 * 4, (8,), 16)
    model = random_weights(tfvae.VAE(encoder, decoder, likelihood=likelihood))
    bias = decoder.get_layer("params").bias
    bias.assign(np.float32([0.3, -0.2, 0.1, 0.4, -7.0, -40.0]))  # scales far from all the rest
    path = tmp_path / "a.tflite"
    more = np.random.default_rng(2).integers(0, 2, (60, *SHAPE)).astype(np.float32)
    options = {"quantize": "int8", "signatures": ["decode", "encode", "parameters"]}
    report = export.litert(model, path, images[:10], calibration=more, **options)
    assert report["psnr"] > 35
    assert report["errors"]["parameters"] < 0.1  # a range of 32 in 256 steps would err by 0.06 each
    loss = export.quality(model, Decoder.from_file(path), images[:10], num_samples=8)
    assert abs(loss["log_likelihood_change"]) < 0.01 * abs(loss["log_likelihood"])
    # Three layers work on integers; the last one, and what comes behind it, on real numbers.
    for signature in ("decode", "decode_1", "parameters"):
        layers = outputs_of_layers(path, signature)
        assert layers == ["INT8", "INT8", "INT8", "FLOAT32"], signature


@pytest.mark.nightly
def test_a_last_layer_that_becomes_several_operators_shares_no_range(images, tmp_path):
    """A transposed convolution of so many filters is one convolution for each residue."""
    likelihood = tfvae.likelihoods.REGISTRY.get("discretized_logistic_mixture", num_components=6)
    model = tfvae.VQVAE(
        tfvae.networks.residual_encoder(SHAPE, 8, 16, 1, 1, 8),
        tfvae.quantizers.get("vq", num_embeddings=32, embedding_dim=8),
        tfvae.networks.residual_decoder((4, 4, 8), likelihood.params_size(1), 16, 1, 1, 8),
        likelihood=likelihood,
    )
    path = tmp_path / "a.tflite"
    export.litert(random_weights(model), path, images, quantize="int8", calibration=images)
    for signature in ("decode_codes", "decode_codes_1", "parameters"):
        layers = outputs_of_layers(path, signature)
        assert layers == ["INT8"] * 3 + ["FLOAT32"] * 4, signature


def outputs_of_layers(path, signature):
    """Return the types of what the operators with weights give, in their order."""
    model, schema, graph = parsed(path, signature)
    operators, types = (
        {number: name for name, number in vars(kind).items() if isinstance(number, int)}
        for kind in (schema.BuiltinOperator, schema.TensorType)
    )
    return [
        types[graph.tensors[operator.outputs[0]].type]
        for operator in graph.operators
        if operators[model.operatorCodes[operator.opcodeIndex].builtinCode]
        in ("FULLY_CONNECTED", "CONV_2D")
    ]


@pytest.mark.parametrize("name", ["INT8", "int2", ""])
def test_an_unknown_quantization_is_refused_with_those_there_are(vae, tmp_path, name):
    with pytest.raises(InvalidArgument, match="float16, int16x8, int4, int8, none"):
        export.litert(vae, tmp_path / "a.tflite", quantize=name)


def test_integers_in_and_out_need_ranges(vae, tmp_path):
    with pytest.raises(InvalidArgument, match=r"int8 and int16x8.*got 'dynamic'"):
        export.litert(vae, tmp_path / "a.tflite", quantize="dynamic", integer_io=True)


@pytest.mark.parametrize("quantize", ["int8", "int16x8"])
def test_ranges_for_samples_alone_are_refused(vae, tmp_path, quantize):
    with pytest.raises(InvalidArgument, match=rf"^'{quantize}' .* Use quantize='dynamic'"):
        export.litert(vae, tmp_path / "a.tflite", signatures=["sample"], quantize=quantize)
    assert not list(tmp_path.iterdir())


def test_calibration_examples_that_do_not_fit_are_refused(latents, tmp_path, monkeypatch):
    vae, images = latents.model, latents.images
    monkeypatch.setattr(litert, "of", lambda *_, **__: latents.offered)
    for bad in (images[:, :4], images + 3, images[:0], np.full_like(images, np.nan)):
        with pytest.raises(InvalidData, match="calibration"):
            export.litert(vae, tmp_path / "a.tflite", quantize="int8", calibration=bad)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_integers_ruin_is_refused(images, tmp_path):
    encoder = tfvae.networks.dense_encoder(SHAPE, 2 * 4, (8,))
    model = random_weights(tfvae.VAE(encoder, tfvae.networks.dense_decoder(4, SHAPE, (8,))), 2.0)
    hidden = model.decoder.layers[0].kernel
    # A unit that nothing listens to: its weight is all that the scale of the layer has room for.
    hidden.assign(tf.tensor_scatter_nd_update(hidden, [[0, 0]], [1e5]))
    out = model.decoder.get_layer("params").kernel
    out.assign(tf.tensor_scatter_nd_update(out, [[0]], [tf.zeros(64)]))
    path, options = tmp_path / "a.tflite", {"quantize": "dynamic", "signatures": ["decode"]}
    with pytest.raises(ExportError, match=r"PSNR of .* dB .*at least 20.*more bits"):
        export.litert(model, path, images, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("names", nightly_but([["decode"], ["encode"]], ["decode"]))
def test_a_file_of_one_signature_is_quantized(tmp_path, images, names):
    """Parameters of several kinds are found behind the images, where there are images.

    What decodes takes no scales, which the network gives all the same.
    """
    keras.utils.set_random_seed(0)
    encoder = tfvae.networks.dense_encoder(SHAPE, 2 * 4, (32,))
    decoder = tfvae.networks.dense_decoder(4, (*SHAPE[:-1], 2), (32,))
    model = random_weights(tfvae.VAE(encoder, decoder, likelihood=likelihoods.Normal("learned")))
    path, options = tmp_path / "a.tflite", {"quantize": "int8", "calibration": images}
    report = export.litert(model, path, images, signatures=names, **options)
    assert set(report["errors"]) == {*names, f"{names[0]}_1"}
    assert report.get("psnr", 99) > 25


def test_what_the_quantizer_does_not_take_is_said(vae, latents, tmp_path, monkeypatch):
    from litert_quantizer import quantizer

    def refuse(self, ranges):
        raise ValueError("no kernel of RESIZE_NEAREST_NEIGHBOR in int8")

    monkeypatch.setattr(quantizer.Quantizer, "quantize", refuse)
    monkeypatch.setattr(litert, "_convert", lambda offered: latents.content)
    with pytest.raises(ExportError, match="'dynamic': no kernel of RESIZE_NEAREST_NEIGHBOR"):
        export.litert(vae, tmp_path / "a.tflite", quantize="dynamic", signatures=["decode"])
    assert list(tmp_path.iterdir()) == []


def test_without_the_quantizer_an_error_says_what_to_install(vae, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "tfvae.export.quantization", raising=False)
    monkeypatch.setitem(sys.modules, "litert_quantizer", None)
    with pytest.raises(MissingDependency, match=r"litert_quantizer.*pip install 'tfvae\[train\]'"):
        export.litert(vae, tmp_path / "a.tflite", quantize="int8")


@pytest.mark.nightly
def test_samples_calibrate_where_no_examples_are_given(vae, tmp_path):
    assert export.litert(vae, tmp_path / "a.tflite", quantize="int8")["psnr"] > 25
