import hashlib
import struct
import time

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as generated
from ai_edge_litert.interpreter import Interpreter

from tfvae.errors import InvalidFile
from tfvae.ondevice import flatfile, read_description

SHAPES = {"format": 1, "image_shape": [3], "latent_shape": [3]}


@pytest.fixture(scope="module")
def content(device_content):
    return device_content


def with_description(content, edited, text):
    """Return a sealed file with other JSON in it; {sha256} stands where the digest goes."""
    text = text.replace("{sha256}", f'"sha256": "{"0" * 64}"')

    def change(model, schema):
        (entry,) = [m for m in model.metadata if m.name == flatfile.METADATA_NAME]
        model.buffers[entry.buffer].data = np.frombuffer(text.encode(), np.uint8)

    content = edited(content, change)
    return flatfile.sealed(content) if "sha256" in text else content


def data_places(content):
    """Return where the data of each buffer lie in a file, without going through our parser."""
    model = generated.Model.GetRootAs(content)
    base = np.frombuffer(content, np.uint8).__array_interface__["data"][0]
    arrays = [model.Buffers(n).DataAsNumpy() for n in range(model.BuffersLength())]
    return [
        array.__array_interface__["data"][0] - base
        for array in arrays
        if isinstance(array, np.ndarray)
    ]


def names_of_values(content):
    model, _ = flatfile.parse(content)
    return {t.name for graph in model.subgraphs for t in graph.tensors} - {None}


def test_a_packed_tree_computes_the_same(content, foreign_content, rng):
    x = {"x": rng.normal(size=(5, 3)).astype(np.float32)}
    packed = flatfile.pack(flatfile.parse(foreign_content)[0])
    assert packed != foreign_content
    expected = Interpreter(model_content=foreign_content).get_signature_runner()(**x)["y"]
    np.testing.assert_array_equal(expected, x["x"] + 1)
    actual = Interpreter(model_content=packed).get_signature_runner()(**x)["y"]
    np.testing.assert_array_equal(actual, expected)
    again = flatfile.pack(flatfile.parse(content)[0], keep_names=True)
    one, other = (Interpreter(model_content=c) for c in (content, again))
    inputs = {"seed": np.array([1, 2], np.int32), "index": np.arange(6, dtype=np.int32)}
    inputs["temperature"] = np.float32(0.8)
    drawn = [engine.get_signature_runner("sample")(**inputs) for engine in (one, other)]
    for name in ("image", "latents"):
        assert drawn[0][name].std() > 0.1
        np.testing.assert_array_equal(drawn[0][name], drawn[1][name])


def test_packing_a_packed_tree_changes_nothing(content):
    once = flatfile.pack(flatfile.parse(content)[0])
    assert flatfile.pack(flatfile.parse(once)[0]) == once


def test_data_lie_at_multiples_of_sixteen_bytes(content):
    places = data_places(content)
    assert len(places) > 10
    assert all(place % 16 == 0 for place in places)


@pytest.mark.parametrize("size", [1, 2, 3, 15, 16, 17, 1000])
def test_data_of_any_size_lie_at_multiples_of_sixteen_bytes(foreign_content, edited, size):
    def add_data(model, schema):
        for value in (1, 2):
            buffer = schema.BufferT()
            buffer.data = np.full(size, value, np.uint8)
            model.buffers.append(buffer)

    packed = edited(foreign_content, add_data)
    assert all(place % 16 == 0 for place in data_places(packed))
    model, _ = flatfile.parse(packed)
    for buffer, value in zip(model.buffers[-2:], (1, 2), strict=True):
        np.testing.assert_array_equal(buffer.data, np.full(size, value, np.uint8))


def test_equal_data_are_stored_once(foreign_content, edited):
    def add_copies(copies):
        def add(model, schema):
            for _ in range(copies):
                buffer = schema.BufferT()
                buffer.data = np.arange(200, dtype=np.uint8)
                model.buffers.append(buffer)

        return edited(foreign_content, add)

    one, three = add_copies(1), add_copies(3)
    assert three.count(bytes(range(200))) == one.count(bytes(range(200))) == 1
    assert len(set(data_places(three))) == len(set(data_places(one)))
    assert len(data_places(three)) == len(data_places(one)) + 2


def test_equal_bytes_of_another_type_are_stored_apart(foreign_content, edited):
    # The length of a vector counts its elements: as bytes and as int32 it is not the same.
    numbers = np.arange(50, dtype=np.int32)

    def add_both(model, schema):
        model.subgraphs[0].tensors[0].shape = numbers
        model.buffers[0].data = np.frombuffer(numbers.tobytes(), np.uint8)

    model, _ = flatfile.parse(edited(foreign_content, add_both))
    np.testing.assert_array_equal(model.subgraphs[0].tensors[0].shape, numbers)
    assert bytes(model.buffers[0].data) == numbers.tobytes()


def test_names_of_inner_values_are_gone_unless_they_are_kept(content, foreign_content):
    assert names_of_values(content) == set()
    named = names_of_values(foreign_content)
    assert len(named) == 3  # x, 1 and y
    model, _ = flatfile.parse(foreign_content)
    assert names_of_values(flatfile.pack(model, keep_names=True)) == named
    packed = flatfile.pack(model)
    assert names_of_values(packed) == set()
    runner = Interpreter(model_content=packed).get_signature_runner()
    assert (list(runner.get_input_details()), list(runner.get_output_details())) == (["x"], ["y"])


def behind_the_tree(content, edited, shift=0):
    """Return a file whose constants lie behind its tree, by offset and size, as in large files."""
    held = {}

    def take_out(model, schema):
        for number, buffer in enumerate(model.buffers):
            if buffer.data is not None and len(buffer.data):
                held[number] = bytes(buffer.data)
                buffer.data, buffer.offset, buffer.size = None, 1 << 40, 1 << 40

    content = edited(content, take_out)
    model, places = generated.Model.GetRootAs(content), {}
    for number, data in held.items():
        content += bytes(-len(content) % 16)
        places[number] = len(content) + shift, len(data)
        content += data
    changed = bytearray(content)
    for number, place in places.items():
        table = model.Buffers(number)._tab
        for slot, value in zip((6, 8), place, strict=True):  # of `offset` and of `size`
            struct.pack_into("<Q", changed, table.Pos + table.Offset(slot), value)
    return bytes(changed)


def test_data_behind_the_tree_are_read(foreign_content, edited, rng):
    split = behind_the_tree(foreign_content, edited)
    x = rng.normal(size=(5, 3)).astype(np.float32)
    tree = generated.Model.GetRootAs(split)
    assert max(tree.Buffers(n).Offset() for n in range(tree.BuffersLength())) > 1
    np.testing.assert_array_equal(
        Interpreter(model_content=split).get_signature_runner()(x=x)["y"], x + 1
    )
    model, _ = flatfile.parse(split)
    ones = [b for b in model.buffers if b.data is not None and bytes(b.data) == struct.pack("f", 1)]
    assert len(ones) == 1
    assert all(buffer.offset == buffer.size == 0 for buffer in model.buffers)
    joined = flatfile.pack(model)
    np.testing.assert_array_equal(
        Interpreter(model_content=joined).get_signature_runner()(x=x)["y"], x + 1
    )


@pytest.mark.parametrize("shift", [1, 1 << 20, 1 << 62], ids=["by 1", "by 2^20", "by 2^62"])
def test_data_beyond_the_end_of_the_file_are_damage(foreign_content, edited, shift):
    with pytest.raises(InvalidFile, match=r"a\.tflite is damaged"):
        flatfile.parse(behind_the_tree(foreign_content, edited, shift), "a.tflite")


# The description, and the digest in it.


def test_what_is_embedded_is_read_back(foreign_content):
    description = {**SHAPES, "note": 'Größe, "x", ≥ 1', "nested": {"a": [1.5, None, True]}}
    content = flatfile.embed(foreign_content, description)
    read = read_description(content)
    digest = read.pop("sha256")
    assert read == description
    blank = content.replace(digest.encode(), b"0" * 64)
    assert hashlib.sha256(blank).hexdigest() == digest
    runner = Interpreter(model_content=content).get_signature_runner()
    np.testing.assert_array_equal(runner(x=np.zeros((1, 3), np.float32))["y"], np.ones((1, 3)))


def test_other_metadata_stay(content):
    model, _ = flatfile.parse(content)
    assert [m.name for m in model.metadata].count(flatfile.METADATA_NAME) == 1
    assert b"min_runtime_version" in [m.name for m in model.metadata]


def test_sealing_a_sealed_file_changes_nothing(content):
    assert flatfile.sealed(content) == content


def test_a_change_that_is_sealed_again_is_read(content, edited):
    def change_the_version(model, schema):
        model.version = 4

    changed = edited(content, change_the_version)
    with pytest.raises(InvalidFile, match="damaged"):
        read_description(changed)
    before, after = read_description(content), read_description(flatfile.sealed(changed))
    assert before.pop("sha256") != after.pop("sha256")
    assert before == after


def test_any_changed_byte_is_found(content):
    rng = np.random.default_rng(0)
    places = {*rng.integers(0, len(content), 60), 0, 4, 7, len(content) - 1}
    places |= {content.rindex(b'"sha256"') + n for n in (0, 5, 8, 10, 11, 40, 74)}
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(InvalidFile):
            read_description(bytes(changed))


@pytest.mark.parametrize("extra", [b"\0", b"\0" * 16, b" ", b'"sha256": "' + b"0" * 64 + b'"'])
def test_appended_bytes_are_found(content, extra):
    with pytest.raises(InvalidFile, match="damaged"):
        read_description(content + extra)


@pytest.mark.parametrize("count", [1, 2, 16, 1000])
def test_missing_bytes_are_found(content, count):
    with pytest.raises(InvalidFile, match="damaged"):
        read_description(content[:-count])


GOOD = '"format": 1, "image_shape": [4, 4, 1], "latent_shape": [2], {sha256}'
CODES = '"format": 1, "image_shape": [4, 4, 1], "code_shape": [2], "codebook_size": 8, {sha256}'


@pytest.mark.parametrize("text", [GOOD, CODES, CODES + ', "num_classes": 0, "left_out": {}'])
def test_a_description_needs_only_what_a_decoder_goes_by(content, edited, text):
    description = read_description(with_description(content, edited, f"{{{text}}}"))
    assert description["image_shape"] == [4, 4, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged"),
        ("[" * 100_000, "damaged"),
        ("[]", "damaged"),
        ("null", "carries no tfvae description"),
        ('"format"', "damaged"),
        ("{}", "lacks format, image_shape, latent_shape, sha256"),
        (f"{{{GOOD}}}".replace("latent_", "code_"), "lacks codebook_size"),
        (f"{{{GOOD}}}".replace("image_", "x_"), "lacks image_shape"),
        (f"{{{GOOD}}}".replace("{sha256}", '"a": 1'), "lacks sha256"),
        (f"{{{GOOD}}}".replace(": 1,", ": 2,"), "format 2; .*reads format 1. Update tfvae"),
        (f"{{{GOOD}}}".replace(": 1,", ': "1",'), "damaged"),
        (f"{{{GOOD}}}".replace(": 1,", ": null,"), "damaged"),
        (f"{{{GOOD}}}".replace("[2]", "2"), "damaged"),
        (f"{{{GOOD}}}".replace("[2]", "[0]"), "damaged"),
        (f"{{{GOOD}}}".replace("[2]", "[2.0]"), "damaged"),
        (f"{{{GOOD}}}".replace("[2]", "null"), "damaged"),
        (f"{{{GOOD}}}".replace("[4, 4, 1]", '"441"'), "damaged"),
        (f"{{{CODES}}}".replace("8", "-8"), "damaged"),
        (f"{{{CODES}}}".replace("8", "[8]"), "damaged"),
        (f'{{{CODES}, "num_classes": "3"}}', "damaged"),
        (f'{{{CODES}, "left_out": "sample"}}', "damaged"),
    ],
    ids=lambda value: value[:60],
)
def test_a_description_that_does_not_fit_is_refused(content, edited, text, message):
    with pytest.raises(InvalidFile, match=message):
        read_description(with_description(content, edited, text))


def test_a_file_of_another_program_carries_no_description(foreign_content):
    with pytest.raises(InvalidFile, match=r"b\.tflite carries no tfvae description"):
        read_description(foreign_content, "b.tflite")


# Damage that the reader must not follow.


def shared_tables(count):
    """Return a small file that says count² operators: one graph over and over, one operator."""
    builder = flatbuffers.Builder(0)

    def vector(start, table):
        start(builder, count)
        for _ in range(count):
            builder.PrependUOffsetTRelative(table)
        return builder.EndVector()

    generated.OperatorStart(builder)
    operator = generated.OperatorEnd(builder)
    operators = vector(generated.SubGraphStartOperatorsVector, operator)
    generated.SubGraphStart(builder)
    generated.SubGraphAddOperators(builder, operators)
    graphs = vector(generated.ModelStartSubgraphsVector, generated.SubGraphEnd(builder))
    generated.ModelStart(builder)
    generated.ModelAddSubgraphs(builder, graphs)
    builder.Finish(generated.ModelEnd(builder), flatfile.FILE_IDENTIFIER)
    return bytes(builder.Output())


def test_tables_that_are_shared_over_and_over_are_not_read():
    content = shared_tables(20_000)  # 4·10⁸ operators
    assert len(content) < 200_000
    start = time.process_time()
    with pytest.raises(InvalidFile, match="damaged"):
        flatfile.parse(content)
    assert time.process_time() - start < 1


def a_shared_name(where, count, size):
    """Return a file of `count` tables of their own, all with one name of `size` letters."""
    builder = flatbuffers.Builder(0)
    name = builder.CreateString("n" * size)
    kinds = generated.BuiltinOptions2
    tables = []
    for _ in range(count):
        if where == "tensors":
            generated.TensorStart(builder)
            generated.TensorAddName(builder, name)
            tables.append(generated.TensorEnd(builder))
            continue
        generated.StableHLOCompositeOptionsStart(builder)
        generated.StableHLOCompositeOptionsAddName(builder, name)
        options = generated.StableHLOCompositeOptionsEnd(builder)
        generated.OperatorStart(builder)
        generated.OperatorAddBuiltinOptions2Type(builder, kinds.StableHLOCompositeOptions)
        generated.OperatorAddBuiltinOptions2(builder, options)
        tables.append(generated.OperatorEnd(builder))
    if where == "tensors":
        generated.SubGraphStartTensorsVector(builder, count)
    else:
        generated.SubGraphStartOperatorsVector(builder, count)
    for table in tables:
        builder.PrependUOffsetTRelative(table)
    entries = builder.EndVector()
    generated.SubGraphStart(builder)
    if where == "tensors":
        generated.SubGraphAddTensors(builder, entries)
    else:
        generated.SubGraphAddOperators(builder, entries)
    graph = generated.SubGraphEnd(builder)
    generated.ModelStartSubgraphsVector(builder, 1)
    builder.PrependUOffsetTRelative(graph)
    graphs = builder.EndVector()
    generated.ModelStart(builder)
    generated.ModelAddSubgraphs(builder, graphs)
    builder.Finish(generated.ModelEnd(builder), flatfile.FILE_IDENTIFIER)
    return bytes(builder.Output())


@pytest.mark.parametrize("where", ["tensors", "options"])
def test_a_name_that_is_shared_over_and_over_is_not_copied(where):
    flatfile.parse(a_shared_name(where, count=1, size=10_000))
    with pytest.raises(InvalidFile, match="damaged"):
        flatfile.parse(a_shared_name(where, count=20, size=10_000))


def test_the_largest_length_is_not_believed(content):
    root = generated.Model.GetRootAs(content)
    slots = {"operator codes": 6, "subgraphs": 8, "buffers": 12, "metadata": 16, "signatures": 18}
    for slot in slots.values():
        place = root._tab.Pos + root._tab.Offset(slot)
        place += struct.unpack_from("<I", content, place)[0]
        for length in (0xFFFFFFFF, 0x7FFFFFFF, len(content)):
            changed = bytearray(content)
            struct.pack_into("<I", changed, place, length)
            start = time.process_time()
            with pytest.raises(InvalidFile, match="damaged"):
                flatfile.parse(bytes(changed))
            assert time.process_time() - start < 1


# Reading.


def test_bytes_are_read_as_they_are(content):
    for same in (content, bytearray(content), memoryview(content)):
        assert flatfile.read(same) == (content, "the model")


def test_a_path_is_read_and_is_the_name(tmp_path):
    (tmp_path / "a.tflite").write_bytes(b"abc")
    for path in (tmp_path / "a.tflite", str(tmp_path / "a.tflite")):
        assert flatfile.read(path) == (b"abc", str(tmp_path / "a.tflite"))


@pytest.mark.parametrize(
    ("name", "reason"), [("nothing.tflite", "No such file"), (".", "directory"), ("a/b", "No such")]
)
def test_what_cannot_be_read_is_named(tmp_path, name, reason):
    with pytest.raises(InvalidFile, match=f"Cannot read {tmp_path / name}: .*{reason}"):
        flatfile.read(tmp_path / name)
