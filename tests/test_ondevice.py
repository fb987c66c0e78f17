import json
import time

import numpy as np
import pytest

from tfvae import export
from tfvae.errors import InvalidArgument, InvalidData, InvalidFile
from tfvae.ondevice import FILE_IDENTIFIER, METADATA_NAME, Decoder, operators, read_description

MANY = 300  # above the number of rows that a decoder takes at once


@pytest.fixture(scope="module")
def model(make_vae):
    model = make_vae()
    rng = np.random.default_rng(0)
    model.set_weights([w if w.ndim == 0 else rng.normal(size=w.shape) for w in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("ondevice") / "decoder.tflite"
    export.litert(model, path)
    return path


@pytest.fixture(scope="module")
def content(path):
    return path.read_bytes()


@pytest.fixture(scope="module")
def decoder(path):
    return Decoder.from_file(path)


def edited(content, edit):
    """Return a .tflite after `edit(model, schema)` has changed its tree."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    tree = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    edit(tree, schema)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(tree.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())


def with_description(content, text):
    def edit(tree, schema):
        (entry,) = [m for m in tree.metadata if m.name == METADATA_NAME]
        tree.buffers[entry.buffer].data = np.frombuffer(text.encode(), np.uint8)

    return edited(content, edit)


def without_description(content):
    def edit(tree, schema):
        tree.metadata = [m for m in tree.metadata if m.name != METADATA_NAME]

    return edited(content, edit)


def with_a_broken_operator(content):
    def edit(tree, schema):
        for graph in tree.subgraphs:
            graph.operators[-1].inputs = [10_000 for _ in graph.operators[-1].inputs]

    return edited(content, edit)


@pytest.mark.parametrize("count", [1, MANY, 3])
def test_decode_gives_the_images_of_keras(decoder, model, rng, count):
    z = rng.normal(size=(count, 2)).astype(np.float32)
    images = decoder.decode(z)
    assert images.shape == (count, 4, 4, 1)
    assert images.dtype == np.float32
    np.testing.assert_allclose(images, model.decode(z), atol=1e-5)
    assert images.std() > 0.1


@pytest.mark.parametrize("count", [1, 3, MANY])
def test_encode_gives_the_means_of_keras(decoder, model, rng, count):
    x = rng.random((count, 4, 4, 1)).astype(np.float32)
    means = decoder.encode(x)
    assert means.shape == (count, 2)
    np.testing.assert_allclose(means, model.encode(x), atol=1e-4)


@pytest.mark.parametrize(
    ("count", "seed", "temperature"),
    [(1, 0, 1.0), (MANY, 3, 1.0), (5, -1, 0.5), (5, 2**40 + 3, 2.0), (2, 1, 0.0)],
)
def test_sample_draws_the_images_of_keras(decoder, model, count, seed, temperature):
    images = decoder.sample(count, seed, temperature)
    assert images.shape == (count, 4, 4, 1)
    np.testing.assert_allclose(images, model.sample(count, seed, temperature), atol=1e-4)


def test_a_longer_sample_begins_with_a_shorter_one(decoder):
    np.testing.assert_allclose(decoder.sample(MANY)[:7], decoder.sample(7), atol=1e-6)
    assert not np.allclose(decoder.sample(7), decoder.sample(7, seed=1))


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.uint8, bool])
def test_numbers_of_any_type_are_decoded_as_float32(decoder, dtype):
    z = np.array([[0, 1], [1, 1]], dtype)
    np.testing.assert_array_equal(decoder.decode(z), decoder.decode(z.astype(np.float32)))


def test_lists_are_decoded(decoder):
    assert decoder.decode([[0.0, 1.0]]).shape == (1, 4, 4, 1)


def test_the_file_describes_itself(decoder, content):
    assert decoder.description == read_description(content)
    assert decoder.latent_shape == (2,)
    assert decoder.code_shape is decoder.codebook_size is None
    assert decoder.image_shape == (4, 4, 1)


def test_threads_do_not_change_the_images(path, decoder):
    z = np.ones((4, 2), np.float32)
    two = Decoder.from_file(path, num_threads=2)
    np.testing.assert_allclose(two.decode(z), decoder.decode(z), atol=1e-6)


def test_the_latency_is_a_time(decoder):
    start = time.perf_counter()
    latency = decoder.decode_latency(repeats=20)
    elapsed = time.perf_counter() - start
    assert 0 < 20e-3 * latency / 2 <= elapsed  # half of the calls take the median or longer


@pytest.mark.parametrize(
    ("z", "message"),
    [
        (np.zeros((3, 5)), r"\(3, 5\).*\(N, 2\)"),
        (np.zeros(2), r"\(2,\).*\(N, 2\)"),
        (np.zeros((1, 2, 1)), r"\(1, 2, 1\)"),
        (np.zeros((0, 2)), r"\(0, 2\)"),
        (np.float32(1.0), r"shape \(\)"),
        (np.array([["a", "b"]]), "<U1"),
        (np.array([[1j, 2j]]), "complex"),
        (np.array([[None, 1]]), "object"),
        (np.array([[np.nan, 0.0]]), "not a number"),
        (np.array([[0.0, np.inf]]), "infinite"),
    ],
    ids=lambda value: None if isinstance(value, str) else str(np.shape(value)),
)
def test_latents_that_do_not_fit_are_refused(decoder, z, message):
    with pytest.raises(InvalidData, match=message):
        decoder.decode(z)


def test_codes_and_labels_have_no_place_in_a_file_with_latents(decoder):
    with pytest.raises(InvalidArgument, match=r"decodes latents of shape \(2,\).*`decode`"):
        decoder.decode_codes(np.zeros((1, 2), np.int32))
    with pytest.raises(InvalidArgument, match="no classes and got labels"):
        decoder.sample(2, condition=1)


def test_images_that_do_not_fit_are_refused(decoder):
    with pytest.raises(InvalidData, match=r"images.*\(2, 4, 4\).*\(N, 4, 4, 1\)"):
        decoder.encode(np.zeros((2, 4, 4)))


@pytest.mark.parametrize("n", [0, -3])
def test_no_samples_are_refused(decoder, n):
    with pytest.raises(InvalidArgument, match=f"n={n} .*at least 1"):
        decoder.sample(n)


def test_an_infinite_temperature_is_refused(decoder):
    with pytest.raises(InvalidArgument, match=r"temperature=inf; expected .*finite"):
        decoder.sample(2, temperature=float("inf"))


@pytest.mark.parametrize("temperature", [-0.5, float("nan")])
def test_a_temperature_that_is_not_above_0_is_refused(decoder, model, temperature):
    for draw in (decoder.sample, model.sample):
        with pytest.raises(InvalidArgument, match=f"temperature={temperature}"):
            draw(2, temperature=temperature)


def test_a_missing_signature_is_named_with_those_there_are(decoder):
    with pytest.raises(InvalidArgument, match=r"'quantize'.* decode, encode, sample"):
        decoder.run("quantize", latents=np.zeros((1, 2), np.float32))


@pytest.mark.parametrize("fraction", [0.001, 0.01, 0.25, 0.5, 0.75, 0.9, 0.99, 0.9999])
def test_a_truncated_file_is_refused(tmp_path, content, fraction):
    (tmp_path / "cut.tflite").write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(InvalidFile, match=r"cut\.tflite"):
        Decoder.from_file(tmp_path / "cut.tflite").sample(1)


@pytest.mark.parametrize(
    "junk", [b"", b"TFL3", b"\0\0\0\0TFL3", b"\xff" * 4 + b"TFL3" + b"\xff" * 100, b"\x89PNG" * 50]
)
def test_a_foreign_file_is_refused(tmp_path, junk):
    (tmp_path / "foreign.tflite").write_bytes(junk)
    with pytest.raises(InvalidFile, match=r"foreign\.tflite"):
        Decoder.from_file(tmp_path / "foreign.tflite")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_description, "no tfvae description"),
        (lambda content: with_description(content, "{"), "damaged"),
        (lambda content: with_description(content, "[]"), "lacks format, image_shape, latent_s"),
        (
            lambda content: with_description(
                content, '{"format": 1, "image_shape": [4, 4, 1], "code_shape": [2]}'
            ),
            "lacks codebook_size",
        ),
        (
            lambda content: with_description(
                content, '{"format": 2, "image_shape": [4, 4, 1], "latent_shape": [2]}'
            ),
            "format 2; .*reads format 1. Update tfvae",
        ),
        (
            lambda content: with_description(content, '{"format": 1, "latent_shape": [2]}'),
            "lacks i",
        ),
    ],
)
def test_a_tflite_that_tfvae_did_not_write_is_refused(content, change, message):
    with pytest.raises(InvalidFile, match=message):
        Decoder(change(content))


def test_a_file_that_cannot_run_is_refused(content):
    with pytest.raises(InvalidFile, match="damaged"):
        Decoder(with_a_broken_operator(content)).sample(1)


@pytest.mark.parametrize("name", ["nothing.tflite", "."])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(InvalidFile, match=f"Cannot read {tmp_path / name}"):
        Decoder.from_file(tmp_path / name)


def test_operators_have_names(content):
    found = operators(content)
    assert found == sorted(set(found))
    assert {"FULLY_CONNECTED", "LOGISTIC", "BITWISE_XOR"} <= set(found)


NO_TENSORFLOW = "assert not {'tensorflow', 'keras'} & set(sys.modules), sorted(sys.modules)\n"


def test_the_library_side_needs_no_tensorflow(run_python, path):
    script = (
        "import sys\n"
        "import tfvae\n"
        "decoder = tfvae.ondevice.Decoder.from_file(sys.argv[1])\n"
        "print(decoder.sample(2).shape, decoder.decode([[0, 1]]).shape)\n"
    )
    assert run_python(script + NO_TENSORFLOW, path) == "(2, 4, 4, 1) (1, 4, 4, 1)\n"


def test_the_command_decode_needs_no_tensorflow(run_python, path, tmp_path):
    script = (
        "import sys\n"
        "from tfvae.tools.main import cli\n"
        "cli.main(['decode', *sys.argv[1:]], standalone_mode=False)\n"
    )
    arguments = ["--sample", 3, "-o", tmp_path / "a.npy", "--json"]
    printed = json.loads(run_python(script + NO_TENSORFLOW, path, *arguments))
    assert printed == {"path": str(tmp_path / "a.npy"), "num_images": 3}
    assert np.load(tmp_path / "a.npy").shape == (3, 4, 4, 1)


def test_importing_takes_less_than_three_tenths_of_a_second(run_python):
    script = (
        "import time; start = time.process_time(); import tfvae.ondevice;"
        "print(time.process_time() - start)"
    )
    assert min(float(run_python(script)) for _ in range(3)) < 0.3
