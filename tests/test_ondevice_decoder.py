import json
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from tiers import nightly_but

from tfvae import export
from tfvae.errors import InvalidArgument, InvalidData, InvalidFile
from tfvae.ondevice import Decoder, flatfile, read_description

MANY = 300  # above the number of rows that a decoder takes at once
ROWS = [1, 255, 256, 257]  # around it


@pytest.fixture(scope="module")
def model(device_model):
    return device_model


@pytest.fixture(scope="module")
def content(device_content):
    return device_content


@pytest.fixture(scope="module")
def path(content, tmp_path_factory):
    path = tmp_path_factory.mktemp("ondevice") / "decoder.tflite"
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def decoder(path):
    return Decoder.from_file(path)


def watched(content):
    """Return a decoder, and the list of the signatures that it has run."""
    decoder, called = Decoder(content), []
    run = decoder.run

    def noting(signature, **inputs):
        called.append(signature)
        return run(signature, **inputs)

    decoder.run = noting
    return decoder, called


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
    [
        (1, 0, 1.0),
        (MANY, 3, 1.0),
        (5, -1, 0.5),
        (5, 2**40 + 3, 2.0),
        (2, 1, 0.0),
        (2, np.int32(-7), 1.0),
    ],
)
def test_sample_draws_the_images_of_keras(decoder, model, count, seed, temperature):
    images = decoder.sample(count, seed, temperature)
    assert images.shape == (count, 4, 4, 1)
    np.testing.assert_allclose(images, model.sample(count, seed, temperature), atol=1e-4)


@pytest.mark.parametrize("seed", [1.5, "1", True, None])
def test_a_seed_that_is_no_integer_is_refused(decoder, model, seed):
    for drawn_from in (decoder, model):
        with pytest.raises(InvalidArgument, match=r"`seed` is .*expected a whole number"):
            drawn_from.sample(2, seed)


def test_a_longer_sample_begins_with_a_shorter_one(decoder):
    np.testing.assert_allclose(decoder.sample(MANY)[:7], decoder.sample(7), atol=1e-6)
    assert not np.allclose(decoder.sample(7), decoder.sample(7, seed=1))


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.uint8, bool])
def test_numbers_of_any_type_are_decoded_as_float32(decoder, dtype):
    z = np.array([[0, 1], [1, 1]], dtype)
    np.testing.assert_array_equal(decoder.decode(z), decoder.decode(z.astype(np.float32)))


def test_lists_are_decoded(decoder):
    assert decoder.decode([[0.0, 1.0]]).shape == (1, 4, 4, 1)


@pytest.mark.parametrize("count", ROWS)
def test_rows_are_decoded_a_part_at_a_time_and_stay_in_order(content, model, rng, count):
    decoder, called = watched(content)
    z = rng.normal(size=(count, 2)).astype(np.float32)
    np.testing.assert_allclose(decoder.decode(z), model.decode(z), atol=1e-5)
    expected = {1: ["decode_1"], 255: ["decode"], 256: ["decode"], 257: ["decode", "decode_1"]}
    assert called == expected[count]


def test_a_single_row_takes_the_graph_for_one(content):
    decoder, called = watched(content)
    decoder.decode([[0.0, 1.0]])
    decoder.encode(np.zeros((1, 4, 4, 1)))
    decoder.sample(1)
    decoder.decode([[0.0, 1.0], [1.0, 0.0]])
    assert called == ["decode_1", "encode_1", "sample_1", "decode"]


def test_a_file_without_a_graph_for_one_decodes_single_rows(content, edited, decoder):
    def leave_out_the_singles(model, schema):
        model.signatureDefs = [s for s in model.signatureDefs if not s.signatureKey.endswith(b"_1")]

    older, called = watched(flatfile.sealed(edited(content, leave_out_the_singles)))
    z = np.array([[0.5, -1.0]], np.float32)
    np.testing.assert_allclose(older.decode(z), decoder.decode(z), atol=1e-6)
    np.testing.assert_allclose(older.sample(257), decoder.sample(257), atol=1e-6)
    assert called == ["decode", "sample", "sample"]


def test_threads_that_share_a_decoder_take_turns_and_get_their_own_images(content, model, rng):
    decoder, inside, most = Decoder(content), [], []

    def slowly(runner):
        def run(**inputs):
            inside.append(1)
            most.append(len(inside))
            time.sleep(1e-3)  # without turns, others come in here
            outputs = runner(**inputs)
            inside.pop()
            return outputs

        return run

    for signature in decoder._signatures.values():
        signature.runner = slowly(signature.runner)
    batches = [rng.normal(size=(size, 2)).astype(np.float32) for size in (1, 2, 7, 1, 30, 3)]
    expected = [np.asarray(model.decode(z)) for z in batches]

    def check(number):
        for _ in range(20):
            images = decoder.decode(batches[number])
            np.testing.assert_allclose(images, expected[number], atol=1e-5)

    with ThreadPoolExecutor(len(batches)) as pool:
        list(pool.map(check, range(len(batches))))
    assert (len(most), max(most)) == (20 * len(batches), 1)


@pytest.fixture(scope="module", params=nightly_but(["int8", "int16x8"], "int8"))
def integers(request, model, images, tmp_path_factory):
    """The bytes of a file that takes and gives integers."""
    path = tmp_path_factory.mktemp("integers") / "a.tflite"
    options = {"quantize": request.param, "integer_io": True, "signatures": ["encode", "decode"]}
    export.litert(model, path, calibration=images, **options)
    return path.read_bytes()


@pytest.mark.slow
def test_real_numbers_go_into_a_file_of_integers_and_come_out(integers):
    z = np.array([[0.3, -0.7], [0.0, 1.0], [-0.2, 0.1]], np.float32)
    runner = Interpreter(model_content=integers).get_signature_runner("decode")
    dtype = runner.get_input_details()["latents"]["dtype"]
    scale, zero_point = runner.get_input_details()["latents"]["quantization"]
    expected = runner(latents=np.round(z / scale + zero_point).astype(dtype))["image"]
    scale, zero_point = runner.get_output_details()["image"]["quantization"]
    images = Decoder(integers).decode(z)
    assert images.dtype == np.float32
    np.testing.assert_allclose(
        images, scale * (expected.astype(np.float64) - zero_point), rtol=1e-6, atol=1e-7
    )


@pytest.mark.slow
def test_real_numbers_beyond_the_range_of_the_integers_are_those_at_its_ends(integers):
    decoder = Decoder(integers)
    runner = Interpreter(model_content=integers).get_signature_runner("decode")
    detail = runner.get_input_details()["latents"]
    scale, zero_point = detail["quantization"]
    limits = np.iinfo(detail["dtype"])
    ends = scale * (np.array([[limits.min, limits.max], [limits.max, limits.min]]) - zero_point)
    beyond = np.where(ends > 0, 1e6, -1e6)
    np.testing.assert_array_equal(decoder.decode(beyond), decoder.decode(ends))


@pytest.mark.slow
def test_a_file_of_integers_codes_images_as_the_one_of_real_numbers(integers, decoder, images):
    means = Decoder(integers).encode(images)
    assert means.dtype == np.float32
    np.testing.assert_allclose(means, decoder.encode(images), atol=0.3)  # of values up to 5


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"z": np.zeros((1, 2), np.float32)},
        {"latents": np.zeros(2, np.float32)},
        {"latents": [["a", "b"]]},
        {"latents": np.zeros((1, 3), np.float32)},
        {"latents": np.zeros((1, 2), np.float32), "more": np.zeros(1)},
    ],
    ids=["none", "another name", "one axis", "texts", "another shape", "too many"],
)
def test_run_says_what_inputs_a_signature_takes(decoder, path, inputs):
    expected = rf"'decode' in {path} takes latents|'latents' is .*expected float32 \[any, 2\]"
    with pytest.raises(InvalidArgument, match=expected):
        decoder.run("decode", **inputs)
    assert decoder.decode([[0.0, 1.0]]).shape == (1, 4, 4, 1)  # and it goes on


@pytest.mark.parametrize("given", [np.float64, np.float16, np.int64, list])
def test_run_takes_numbers_of_any_type(decoder, given):
    z = np.array([[0.0, 1.0], [2.0, -3.0]])
    expected = decoder.decode(z)
    z = z.tolist() if given is list else z.astype(given)
    np.testing.assert_array_equal(decoder.run("decode", latents=z)["image"], expected)


@pytest.mark.parametrize("index", [[2**32], [0.5]])
def test_run_refuses_what_a_whole_number_cannot_hold(decoder, index):
    rest = {"seed": np.zeros(2, np.int32), "temperature": 1.0}
    assert decoder.run("sample", index=[0], **rest)["image"].shape == (1, 4, 4, 1)
    with pytest.raises(InvalidArgument, match=r"'index' has values .*that int32 holds"):
        decoder.run("sample", index=index, **rest)


@pytest.mark.parametrize("num_threads", [0, -1, 1.5, "2"])
def test_a_number_of_threads_that_is_none_is_no_damage(content, num_threads):
    with pytest.raises(InvalidArgument, match=r"`num_threads` is .*expected a whole number"):
        Decoder(content, num_threads=num_threads)


@pytest.mark.parametrize("n", [2.5, "3", True])
def test_a_number_of_images_that_is_not_whole_is_refused(decoder, n):
    with pytest.raises(InvalidArgument, match=r"`n` is .*expected a whole number"):
        decoder.sample(n)


COLUMN = {"name": "a", "mean": 0.0}


@pytest.mark.parametrize(
    "change",
    [
        {"schema": {"columns": [COLUMN]}},  # of pictures
        {"schema": {"columns": [COLUMN | {"mean": 10**400}]}},
        {"schema": {"columns": [COLUMN | {"decimals": 10**400}]}},
        {"standardization": {"mean": [10**400], "scale": [1.0]}},
        {"standardization": {"mean": [0.0, 0.0], "scale": [1.0, 1.0]}},
        {"num_tokens": -1},
        {"num_tokens": 10**400},
        {"num_tokens": "3"},
        {"codebook_size": 10**400},
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_description_that_does_not_fit_the_decoder_is_damage(content, edited, change):
    def describe(model, schema):
        (entry,) = [m for m in model.metadata if m.name == flatfile.METADATA_NAME]
        text = json.dumps(read_description(content) | change | {"sha256": "0" * 64})
        model.buffers[entry.buffer].data = np.frombuffer(text.encode(), np.uint8)

    with pytest.raises(InvalidFile, match="the model is damaged"):
        Decoder(flatfile.sealed(edited(content, describe)))


def test_the_file_describes_itself(decoder, content):
    assert decoder.description == read_description(content)
    assert decoder.latent_shape == (2,)
    assert decoder.code_shape is decoder.codebook_size is None
    assert decoder.image_shape == (4, 4, 1)


def test_threads_do_not_change_the_images(path, decoder):
    z = np.ones((4, 2), np.float32)
    two = Decoder.from_file(path, num_threads=2)
    np.testing.assert_allclose(two.decode(z), decoder.decode(z), atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_latency_is_the_median_of_at_least_five_calls(decoder, batch_size):
    start = time.perf_counter()
    latency = decoder.decode_latency(batch_size)
    elapsed = time.perf_counter() - start
    assert 0 < 1e-3 * latency * 3 <= elapsed  # three of five calls take the median or longer


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
    with pytest.raises(InvalidArgument, match=f"`n` is {n}; .*at least 1"):
        decoder.sample(n)


@pytest.mark.parametrize("temperature", [-0.5, float("nan"), float("inf"), 3.5e38, "1", True])
def test_a_temperature_that_is_no_number_of_float32_is_refused(decoder, model, temperature):
    for draw in (decoder.sample, model.sample, model.prior.sample):
        with pytest.raises(InvalidArgument, match=r"`temperature` is .*; expected (a|one) "):
            draw(2, temperature=temperature)


def test_a_missing_signature_is_named_with_those_there_are(decoder):
    with pytest.raises(InvalidArgument, match=r"'quantize'.* decode, decode_1, .* sample_1"):
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


def test_a_file_that_cannot_run_is_refused(content, edited):
    def break_the_last_operators(model, schema):
        for graph in model.subgraphs:
            graph.operators[-1].inputs = [10_000 for _ in graph.operators[-1].inputs]

    with pytest.raises(InvalidFile, match=r"damaged.*LiteRT says"):
        Decoder(flatfile.sealed(edited(content, break_the_last_operators))).sample(1)


def test_a_file_with_operators_of_the_future_is_refused(content, edited):
    def ask_for_other_versions(model, schema):
        for code in model.operatorCodes:
            code.version = 99

    with pytest.raises(InvalidFile, match=r"a\.tflite is damaged: LiteRT says .*version"):
        Decoder(flatfile.sealed(edited(content, ask_for_other_versions)), "a.tflite")


@pytest.mark.parametrize("name", ["nothing.tflite", "."])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(InvalidFile, match=f"Cannot read {tmp_path / name}"):
        Decoder.from_file(tmp_path / name)


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


def test_importing_takes_a_few_times_as_long_as_numpy_does(run_python):
    script = (
        "from time import process_time as now; start = now(); import numpy; middle = now();"
        "import tfvae.ondevice; print((now() - middle) / (middle - start))"
    )
    assert min(float(run_python(script)) for _ in range(3)) < 4


def test_a_path_in_place_of_the_content_is_refused_with_the_call_that_takes_it():
    with pytest.raises(InvalidArgument, match=r"Decoder.from_file\('decoder.tflite'\)"):
        Decoder("decoder.tflite")
