"""What a `.tflite` file says of itself, read from its bytes without running anything."""

import dataclasses
import hashlib
import json
import re
from collections import Counter
from pathlib import Path

from tfvae.errors import InvalidFile, MissingDependency

METADATA_NAME = b"tfvae"
FILE_IDENTIFIER = b"TFL3"
FORMAT_VERSION = 1  # of the description; more keys do not change it

# The description holds the digest of the file, computed with these digits in its place.
_NO_DIGEST = "0" * 64
_DIGEST = re.compile(rb'"sha256": "([0-9a-f]{64})"')


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """An input or output of a signature.

    Attributes:
        name: in the signature.
        dtype: "float32", "int32", "int8", ….
        shape: its sizes; −1 where any will do.
        scale: of an integer that stands for a real number (value − zero_point) · scale, else None.
        zero_point: likewise.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float | None = None
    zero_point: int | None = None


@dataclasses.dataclass(frozen=True)
class SignatureInfo:
    """A signature: what goes in, what comes out, and what it is made of.

    Attributes:
        inputs: in the order of the file; so are the outputs.
        operators: how many of each there are; the bodies of loops are not counted.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    operators: dict[str, int]


@dataclasses.dataclass(frozen=True)
class FileInfo:
    """What is in a `.tflite` file.

    Attributes:
        bytes: its size.
        weights: bytes of its constants, by type.
        operators: how many of each there are, in all graphs together.
        signatures: by name.
        description: what `tfvae export` wrote into it; None in a file of another program.
    """

    bytes: int
    weights: dict[str, int]
    operators: dict[str, int]
    signatures: dict[str, SignatureInfo]
    description: dict | None

    def as_dict(self) -> dict:
        """Return it all as plain data."""
        return dataclasses.asdict(self)


def inspect(file: str | Path | bytes) -> FileInfo:
    """Return what is in a `.tflite` file: signatures, shapes, operators, description.

    Args:
        file: a path, or the bytes of a file.

    Raises:
        InvalidFile: it cannot be read, is not a `.tflite`, or is damaged.
    """
    content, name = read(file)
    model, schema = _parsed(content, name)
    try:
        return FileInfo(
            len(content),
            _weights(model, schema),
            _count(model, schema, model.subgraphs or []),
            {
                _text(signature.signatureKey): _signature(model, schema, signature)
                for signature in model.signatureDefs or []
            },
            _description(model),
        )
    except InvalidFile:
        raise
    except Exception:  # a damaged flatbuffer fails anywhere
        raise damaged(name) from None


def operators(content: bytes) -> list[str]:
    """Return the names of the operators in a `.tflite`, sorted; custom ones by their own name."""
    return sorted(inspect(content).operators)


def read_description(content: bytes, name: str = "the model") -> dict:
    """Return the description that `tfvae.export.litert` embedded, after checking the file's digest.

    Raises:
        InvalidFile: the content is not a `.tflite`, is damaged, or was not written by tfvae.
    """
    model, _ = _parsed(content, name)
    try:
        description = _description(model)
    except Exception:
        raise damaged(name) from None
    if description is None:
        raise InvalidFile(
            f"{name} carries no tfvae description. Expected a file written by `tfvae export`."
        )
    _check_description(description, name)
    # LiteRT does not survive every damaged file: none reaches it.
    if _digest(content) != description["sha256"]:
        raise damaged(name)
    return description


def variables(content: bytes, graph: int) -> list[int]:
    """Return the numbers of the tensors of a graph that are not constants."""
    model, _ = _parsed(content, "the model")
    tensors = model.subgraphs[graph].tensors
    return [n for n, tensor in enumerate(tensors) if model.buffers[tensor.buffer].data is None]


def embed(content: bytes, description: dict) -> bytes:
    """Return a `.tflite` with a description, and a digest of all of it, as JSON in its metadata."""
    import flatbuffers

    model, schema = _parsed(content, "the model")
    buffer = schema.BufferT()
    buffer.data = list(json.dumps({**description, "sha256": _NO_DIGEST}).encode())
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name = METADATA_NAME.decode()
    entry.buffer = len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(len(content) + 4096)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return sealed(bytes(builder.Output()))


def sealed(content: bytes) -> bytes:
    """Return a `.tflite` that holds a description, with the right digest in it."""
    found = list(_DIGEST.finditer(content))[-1]
    digest = _digest(content).encode()
    return content[: found.start(1)] + digest + content[found.end(1) :]


def read(file: str | Path | bytes) -> tuple[bytes, str]:
    """Return the bytes of a file and what to call it in messages.

    Raises:
        InvalidFile: it cannot be read.
    """
    if isinstance(file, (bytes, bytearray, memoryview)):
        return bytes(file), "the model"
    try:
        return Path(file).read_bytes(), str(file)
    except OSError as error:
        raise InvalidFile(f"Cannot read {file}: {error.strerror}.") from None


def damaged(name: str) -> InvalidFile:
    """Return the error for a file that is not as it was written."""
    return InvalidFile(f"{name} is damaged or truncated. Export or copy it again.")


def litert_part(module: str):
    """Import a module of LiteRT, or say what to install."""
    import importlib

    try:
        return importlib.import_module(f"ai_edge_litert.{module}")
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"Decoding needs the package {error.name!r}: pip install 'tfvae[decode]'."
        ) from error


def _parsed(content, name):
    if len(content) < 8 or content[4:8] != FILE_IDENTIFIER:
        raise InvalidFile(
            f"{name} is not a .tflite file. Expected a file written by `tfvae export`."
        )
    schema = litert_part("schema_py_generated")
    try:
        return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content)), schema
    except Exception:  # a damaged flatbuffer fails anywhere in the generated reader
        raise damaged(name) from None


def _description(model):
    for entry in model.metadata or []:
        if _text(entry.name) == METADATA_NAME.decode():
            return json.loads(bytes(model.buffers[entry.buffer].data))
    return None


def _digest(content):
    found = list(_DIGEST.finditer(content))
    if not found:
        return None
    start, end = found[-1].span(1)
    return hashlib.sha256(content[:start] + _NO_DIGEST.encode() + content[end:]).hexdigest()


def _check_description(description, name):
    if not isinstance(description, dict):
        raise damaged(name)
    has_codes = "code_shape" in description
    needed = {"code_shape", "codebook_size"} if has_codes else {"latent_shape"}
    missing = (needed | {"image_shape", "format", "sha256"}) - set(description)
    if missing:
        raise InvalidFile(f"The description in {name} lacks {', '.join(sorted(missing))}.")
    if description["format"] > FORMAT_VERSION:
        raise InvalidFile(
            f"{name} has a description of format {description['format']}; this version of tfvae "
            f"reads format {FORMAT_VERSION}. Update tfvae."
        )


def _signature(model, schema, signature):
    graph = model.subgraphs[signature.subgraphIndex]

    def tensors(maps):
        return tuple(_tensor(graph.tensors[m.tensorIndex], _text(m.name), schema) for m in maps)

    return SignatureInfo(
        tensors(signature.inputs or []),
        tensors(signature.outputs or []),
        _count(model, schema, [graph]),
    )


def _tensor(tensor, name, schema):
    fixed = [] if tensor.shape is None else list(tensor.shape)
    signature = fixed if tensor.shapeSignature is None else list(tensor.shapeSignature)
    quantization = tensor.quantization
    scale = zero_point = None
    if quantization is not None and quantization.scale is not None and len(quantization.scale):
        scale, zero_point = float(quantization.scale[0]), int(quantization.zeroPoint[0])
    dtype = _names(schema.TensorType)[tensor.type].lower()
    return TensorInfo(name, dtype, tuple(int(n) for n in signature), scale, zero_point)


def _count(model, schema, graphs):
    """Return how many operators of each name there are."""
    names = _names(schema.BuiltinOperator)
    found = Counter()
    for graph in graphs:
        for operator in graph.operators or []:
            code = model.operatorCodes[operator.opcodeIndex]
            number = max(code.builtinCode, code.deprecatedBuiltinCode)
            custom = number == schema.BuiltinOperator.CUSTOM
            found[_text(code.customCode) if custom else names[number]] += 1
    return dict(sorted(found.items()))


def _weights(model, schema):
    """Return the bytes of the constants by their type, each buffer once."""
    names, found, seen = _names(schema.TensorType), Counter(), set()
    for graph in model.subgraphs or []:
        for tensor in graph.tensors or []:
            data = model.buffers[tensor.buffer].data
            if data is not None and tensor.buffer not in seen:
                seen.add(tensor.buffer)
                found[names[tensor.type].lower()] += len(data)
    return dict(sorted(found.items()))


def _names(enumeration):
    return {v: k for k, v in vars(enumeration).items() if not k.startswith("_")}


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)
