"""The content of a `.tflite` file, read from its bytes without running it."""

import dataclasses
from collections import Counter
from pathlib import Path

from tfvae.ondevice import flatfile


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

    def __str__(self):
        sizes = ", ".join("any" if n < 0 else str(n) for n in self.shape)
        text = f"{self.name}: {self.dtype} [{sizes}]"
        if self.scale is not None:
            text += f", real value = {self.scale:.9g} * (integer - {self.zero_point})"
        return text


@dataclasses.dataclass(frozen=True)
class SignatureInfo:
    """A signature: its inputs, its outputs, and its operators.

    Attributes:
        inputs: in the order of the file; so are the outputs.
        operators: how many of each there are; the bodies of loops are not counted.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    operators: dict[str, int]


@dataclasses.dataclass(frozen=True)
class FileInfo:
    """The content of a `.tflite` file.

    Attributes:
        bytes: its size.
        weights: bytes of its constants in the file, by type.
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
        """Return all fields as plain data."""
        return dataclasses.asdict(self)


def inspect(file: str | Path | bytes) -> FileInfo:
    """Return the content of a `.tflite` file: signatures, shapes, operators, description.

    Args:
        file: a path, or the bytes of a file.

    Raises:
        InvalidFile: it cannot be read, is not a `.tflite`, or is damaged.
    """
    content, name = flatfile.read(file)
    model, schema = flatfile.parse(content, name)
    try:
        description = flatfile.description_in(content, name)
        if not isinstance(description, dict | None):
            raise ValueError
        counts = [_count(model, schema, graph) for graph in model.subgraphs or []]
        return FileInfo(
            len(content),
            _weights(model, schema),
            _by_name(sum(counts, Counter())),
            {
                flatfile.text(signature.signatureKey): _signature(model, schema, signature, counts)
                for signature in model.signatureDefs or []
            },
            description,
        )
    except Exception:  # a damaged flatbuffer fails anywhere
        raise flatfile.damaged(name) from None


def operators(content: bytes) -> list[str]:
    """Return the names of the operators in a `.tflite`, sorted; custom ones by their own name."""
    return sorted(inspect(content).operators)


def variables(content: bytes, graph: int) -> list[int]:
    """Return the numbers of the tensors of a graph that are not constants."""
    model, _ = flatfile.parse(content)
    tensors = model.subgraphs[graph].tensors
    return [n for n, tensor in enumerate(tensors) if model.buffers[tensor.buffer].data is None]


def _signature(model, schema, signature, counts):
    graph = model.subgraphs[signature.subgraphIndex]

    def tensors(maps):
        return tuple(
            _tensor(graph.tensors[m.tensorIndex], flatfile.text(m.name), schema) for m in maps
        )

    return SignatureInfo(
        tensors(signature.inputs or []),
        tensors(signature.outputs or []),
        _by_name(counts[signature.subgraphIndex]),
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


def _count(model, schema, graph):
    """Return how many operators of each name there are in a graph."""
    names = _names(schema.BuiltinOperator)
    found = Counter()
    for operator in graph.operators or []:
        code = model.operatorCodes[operator.opcodeIndex]
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        custom = number == schema.BuiltinOperator.CUSTOM
        found[flatfile.text(code.customCode) if custom else names[number]] += 1
    return found


def _weights(model, schema):
    """Return the bytes of the constants by their type, each place in the file once.

    Not each buffer: several may have one place, as `flatfile.pack` writes equal ones.
    """
    names, found, seen = _names(schema.TensorType), Counter(), set()
    for graph in model.subgraphs or []:
        for tensor in graph.tensors or []:
            data = model.buffers[tensor.buffer].data
            if data is not None and len(data) and data.ctypes.data not in seen:
                seen.add(data.ctypes.data)
                found[names[tensor.type].lower()] += len(data)
    return _by_name(found)


def _by_name(found):
    return dict(sorted(found.items()))


def _names(enumeration):
    return {v: k for k, v in vars(enumeration).items() if not k.startswith("_")}
