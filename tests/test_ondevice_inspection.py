import dataclasses
import json
import zipfile

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from click.testing import CliRunner

from tfvae import export
from tfvae.errors import InvalidFile
from tfvae.ondevice import flatfile, inspect, operators, read_description
from tfvae.ondevice.inspection import FileInfo, SignatureInfo, TensorInfo, variables
from tfvae.tools.main import cli


@pytest.fixture(scope="module")
def info(device_content):
    return inspect(device_content)


def test_all_of_a_file_of_another_program(foreign_content):
    x, y = (TensorInfo(name, "float32", (-1, 3)) for name in "xy")
    signature = SignatureInfo((x,), (y,), {"ADD": 1})
    one = {"float32": 4}
    assert inspect(foreign_content) == FileInfo(
        len(foreign_content), one, {"ADD": 1}, {"serving_default": signature}, None
    )


def test_the_signatures_of_a_vae(info, device_content):
    names = {"decode", "decode_1", "encode", "encode_1", "sample", "sample_1", "parameters"}
    assert set(info.signatures) == names
    for name in names:
        rows = 1 if name.endswith("_1") else -1
        floats = {
            "latents": TensorInfo("latents", "float32", (rows, 2)),
            "image": TensorInfo("image", "float32", (rows, 4, 4, 1)),
            "mean": TensorInfo("mean", "float32", (rows, 2)),
            "stddev": TensorInfo("stddev", "float32", (rows, 2)),
            "parameters": TensorInfo("parameters", "float32", (rows, 4, 4, 1)),
            "index": TensorInfo("index", "int32", (rows,)),
            "seed": TensorInfo("seed", "int32", (2,)),
            "temperature": TensorInfo("temperature", "float32", ()),
        }
        inputs, outputs = {
            "decode": (["latents"], ["image"]),
            "encode": (["image"], ["mean", "stddev"]),
            "sample": (["index", "seed", "temperature"], ["image", "latents"]),
            "parameters": (["latents"], ["parameters"]),
        }[name.removesuffix("_1")]
        signature = info.signatures[name]
        assert set(signature.inputs) == {floats[name] for name in inputs}
        assert set(signature.outputs) == {floats[name] for name in outputs}
    assert info.bytes == len(device_content)
    assert info.description == read_description(device_content)


def test_operators_are_counted_by_graph_and_in_all(info, device_content):
    assert info.signatures["decode_1"].operators["FULLY_CONNECTED"] == 2  # its two dense layers
    assert info.signatures["encode_1"].operators["FULLY_CONNECTED"] == 2
    for name, count in info.operators.items():
        graphs = [signature.operators.get(name, 0) for signature in info.signatures.values()]
        assert sum(graphs) == count
    assert list(info.operators) == operators(device_content) == sorted(info.operators)
    assert {"FULLY_CONNECTED", "LOGISTIC", "BITWISE_XOR"} <= set(info.operators)


def test_weights_that_several_graphs_use_count_once(info, device_model):
    networks = (device_model.encoder, device_model.decoder)
    weights = 4 * sum(network.count_params() for network in networks)
    assert weights <= info.weights["float32"] < weights + 100  # and a few small constants


def test_equal_weights_that_lie_in_one_place_count_once(device_content, info, edited):
    def give_every_tensor_a_buffer_of_its_own(model, schema):
        for graph in model.subgraphs:
            for tensor in graph.tensors:
                if model.buffers[tensor.buffer].data is not None:
                    buffer = schema.BufferT()
                    buffer.data = model.buffers[tensor.buffer].data
                    model.buffers.append(buffer)
                    tensor.buffer = len(model.buffers) - 1

    content = edited(device_content, give_every_tensor_a_buffer_of_its_own)
    assert inspect(content).weights == info.weights
    assert sum(info.weights.values()) < len(device_content)


def test_a_custom_operator_goes_by_its_own_name(foreign_content, edited):
    def make_it_custom(model, schema):
        (code,) = model.operatorCodes
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = "Mine"

    assert operators(edited(foreign_content, make_it_custom)) == ["Mine"]


def test_without_a_signature_of_shapes_the_shapes_are_fixed(foreign_content, edited):
    def fix(model, schema):
        for tensor in model.subgraphs[0].tensors:
            tensor.shapeSignature = None

    (signature,) = inspect(edited(foreign_content, fix)).signatures.values()
    assert signature.inputs[0].shape == (1, 3)


def test_a_file_without_signatures_has_none(foreign_content, edited):
    def leave_out(model, schema):
        model.signatureDefs = None

    info = inspect(edited(foreign_content, leave_out))
    assert info.signatures == {}
    assert info.operators == {"ADD": 1}


@pytest.mark.nightly
@pytest.mark.slow
def test_integers_come_with_what_they_stand_for(device_model, images, tmp_path):
    path = tmp_path / "a.tflite"
    export.litert(device_model, path, quantize="int8", calibration=images, integer_io=True)
    info = inspect(path)
    runner = Interpreter(str(path)).get_signature_runner("encode")
    details = runner.get_input_details() | runner.get_output_details()
    signature = info.signatures["encode"]
    for tensor in (*signature.inputs, *signature.outputs):
        scale, zero_point = details[tensor.name]["quantization"]
        assert tensor.dtype == "int8"
        assert (tensor.scale, tensor.zero_point) == (pytest.approx(scale, rel=1e-6), zero_point)
        assert str(tensor).endswith(f"real value = {tensor.scale:.9g} * (integer - {zero_point})")
    assert all(tensor.scale is None for tensor in info.signatures["sample"].inputs)
    kernels = sum(
        layer.kernel.shape[0] * layer.kernel.shape[1]
        for network in (device_model.encoder, device_model.decoder)
        for layer in network.layers
        if hasattr(layer, "kernel")
    )
    assert kernels <= info.weights["int8"] < kernels + 20


def test_names_of_a_foreign_file_stay_in_their_line(foreign_content, edited):
    def rename(model, schema):
        model.signatureDefs[0].signatureKey = "a\n#error\\"
        model.signatureDefs[0].inputs[0].name = "\x1b[2Jx\u202e"

    (name,) = inspect(edited(foreign_content, rename)).signatures
    assert name == "a�#error�"
    (tensor,) = inspect(edited(foreign_content, rename)).signatures[name].inputs
    assert tensor.name == "�[2Jx�"


def test_a_description_is_printed_in_its_line(foreign_content, tmp_path):
    described = flatfile.embed(foreign_content, {"a\x1b[2J": "b\nc"})
    (tmp_path / "x.tflite").write_bytes(described)
    printed = CliRunner().invoke(cli, ["inspect", str(tmp_path / "x.tflite")]).output
    assert "\na�[2J: b�c\n" in printed


def test_a_description_that_is_no_dictionary_is_damage(foreign_content, edited):
    def describe(model, schema):
        entry, buffer = schema.MetadataT(), schema.BufferT()
        buffer.data = np.frombuffer(b"[1]", np.uint8)
        model.buffers.append(buffer)
        entry.name, entry.buffer = "tfvae", len(model.buffers) - 1
        model.metadata = [entry]

    with pytest.raises(InvalidFile, match="damaged"):
        inspect(edited(foreign_content, describe))


def test_tensors_are_written_for_people():
    assert str(TensorInfo("x", "int32", (-1, 2))) == "x: int32 [any, 2]"
    assert str(TensorInfo("t", "float32", ())) == "t: float32 []"
    text = "x: int8 [1], real value = 0.5 * (integer - -3)"
    assert str(TensorInfo("x", "int8", (1,), 0.5, -3)) == text


def test_all_of_it_is_plain_data(info):
    plain = json.loads(json.dumps(info.as_dict()))
    assert plain["description"] == info.description
    assert plain["signatures"]["decode"]["inputs"][0]["shape"] == [-1, 2]
    assert set(plain) == {field.name for field in dataclasses.fields(info)}


def test_variables_are_what_is_not_constant(foreign_content, device_content):
    assert len(variables(foreign_content, 0)) == 2  # x and y
    model, _ = flatfile.parse(device_content)
    (number,) = [s.subgraphIndex for s in model.signatureDefs if s.signatureKey == b"decode_1"]
    given = sum(inspect(device_content).signatures["decode_1"].operators.values())
    assert len(variables(device_content, number)) == 1 + given  # latents, and one an operator


def test_a_path_and_its_bytes_are_the_same(device_content, tmp_path, info):
    (tmp_path / "a.tflite").write_bytes(device_content)
    assert inspect(tmp_path / "a.tflite") == inspect(str(tmp_path / "a.tflite")) == info


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "Cannot read .*No such file"),
        ("a folder", "Cannot read .*directory"),
        ("empty", "is not a .tflite file"),
        ("a text", "is not a .tflite file"),
        ("a .keras file", "is not a .tflite file"),
        ("cut", "is damaged or truncated"),
    ],
)
def test_what_is_no_tflite_is_refused_by_name(tmp_path, device_content, kind, message):
    path = tmp_path / "a.tflite"
    if kind == "a folder":
        path.mkdir()
    elif kind == "a .keras file":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", "{}")
    elif kind != "missing":
        contents = {"empty": b"", "a text": b"no model\n" * 9, "cut": device_content[:-5000]}
        path.write_bytes(contents[kind])
    with pytest.raises(InvalidFile, match=message) as error:
        inspect(path)
    assert str(path) in str(error.value)


def break_signature(model, schema):
    model.signatureDefs[0].inputs[0].tensorIndex = 1000


def break_graph(model, schema):
    model.signatureDefs[0].subgraphIndex = 1000


def break_operator(model, schema):
    model.subgraphs[0].operators[0].opcodeIndex = 1000


def break_buffer(model, schema):
    model.subgraphs[0].tensors[0].buffer = 100_000


def break_type(model, schema):
    model.subgraphs[0].tensors[0].type = 100


def break_name(model, schema):
    model.signatureDefs[0].signatureKey = b"\xff\xfe"


@pytest.mark.parametrize(
    "change",
    [break_signature, break_graph, break_operator, break_buffer, break_type, break_name],
    ids=lambda change: change.__name__,
)
def test_a_tree_that_points_to_nothing_is_damage(foreign_content, edited, tmp_path, change):
    (tmp_path / "a.tflite").write_bytes(edited(foreign_content, change))
    with pytest.raises(InvalidFile, match=r"a\.tflite is damaged"):
        inspect(tmp_path / "a.tflite")
