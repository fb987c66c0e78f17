"""The format of a `.tflite` file: its tree, its bytes, and the description that tfvae embeds."""

import hashlib
import importlib
import json
import re
from pathlib import Path

import numpy as np

from tfvae.errors import InvalidFile, MissingDependency

METADATA_NAME = b"tfvae"
FILE_IDENTIFIER = b"TFL3"
FORMAT_VERSION = 1  # of the description; more keys do not change it

# The description holds the digest of the file, computed with these digits in its place.
_NO_DIGEST = "0" * 64
_DIGEST = re.compile(rb'"sha256": "([0-9a-f]{64})"')


def _is_size(value):
    return type(value) is int and 0 < value < 2**31


def _is_shape(value):
    return isinstance(value, list) and all(map(_is_size, value))


# The keys of the description that a decoder needs, and their types.
_FITS = {
    "format": _is_size,
    "image_shape": _is_shape,
    "latent_shape": _is_shape,
    "code_shape": _is_shape,
    "codebook_size": _is_size,
    "condition_size": lambda value: value == 0 or _is_size(value),
    "num_classes": lambda value: value == 0 or _is_size(value),
    "num_tokens": lambda value: value == 0 or _is_size(value),
    "left_out": lambda value: isinstance(value, dict),
}


def read_description(content: bytes, name: str = "the model") -> dict:
    """Return the description that `tfvae.export.litert` embedded, after checking the file's digest.

    Raises:
        InvalidFile: the content is not a `.tflite`, is damaged, or was not written by tfvae.
    """
    # Some damaged files crash LiteRT, so none may reach it, nor the reader below.
    if content[4:8] == FILE_IDENTIFIER and not _is_whole(content):
        raise damaged(name)
    description = description_in(content, name)
    if description is None:
        raise InvalidFile(
            f"{name} carries no tfvae description. Expected a file written by `tfvae export`."
        )
    _check_description(description, name)
    if description["sha256"] != _digest(content):  # damage within the digest itself
        raise damaged(name)
    return description


def embed(content: bytes, description: dict) -> bytes:
    """Return a `.tflite` with a description, and a digest of all of it, as JSON in its metadata."""
    model, schema = parse(content)
    line = json.dumps({**description, "sha256": _NO_DIGEST})
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(line.encode(), np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name = METADATA_NAME.decode()
    entry.buffer = len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    return sealed(pack(model))


def pack(model, keep_names: bool = False) -> bytes:
    """Return the bytes of a tree, as few as possible.

    Equal vectors are written once, and inner values have no names unless these are to be kept.
    Weights start at multiples of 16 bytes, which the format requires and generated code ignores.
    """
    import flatbuffers

    class Sharing(flatbuffers.Builder):
        """A builder that writes equal vectors of numbers once."""

        def __init__(self):
            super().__init__(1 << 16)
            self._places = {}

        def CreateNumpyVector(self, x):
            content = np.ascontiguousarray(x).tobytes()
            key = x.dtype.str, content
            if key not in self._places:
                is_data = x.dtype == np.uint8
                self.StartVector(x.itemsize, x.size, 16 if is_data else x.itemsize)
                self.head -= len(content)
                self.Bytes[self.head : self.head + len(content)] = content
                self._places[key] = self.EndVector()
            return self._places[key]

    _drop_the_needless(model, keep_names)
    builder = Sharing()
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())


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
    """Return the error for a file that was damaged after it was written."""
    return InvalidFile(f"{name} is damaged or truncated. Export or copy it again.")


def litert_part(module: str):
    """Import a module of LiteRT, or say what to install."""
    try:
        return importlib.import_module(f"ai_edge_litert.{module}")
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"Decoding needs the package {error.name!r}: pip install 'tfvae[decode]'."
        ) from error


def parse(content: bytes, name: str = "the model"):
    """Return the tree of a `.tflite`, and the module of its classes.

    Raises:
        InvalidFile: it is none, or is damaged.
    """
    try:
        model = _schema().ModelT.InitFromObj(_root(content, name))
        for buffer in model.buffers or []:
            if buffer.offset > 1:  # its data lies behind the tree; from 2 on, says the schema
                buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
                buffer.offset = buffer.size = 0
        return model, _schema()
    except InvalidFile:
        raise
    except Exception:  # a damaged flatbuffer fails anywhere in the generated reader
        raise damaged(name) from None


def _schema():
    return litert_part("schema_py_generated")


def _root(content, name):
    """Return the root of a `.tflite`, whose tree is read only where it is accessed."""
    if len(content) < 8 or content[4:8] != FILE_IDENTIFIER:
        raise InvalidFile(
            f"{name} is not a .tflite file. Expected a file written by `tfvae export`."
        )
    root = _schema().Model.GetRootAs(content)
    _check_lengths(root, len(content))
    return root


def description_in(content: bytes, name: str = "the model") -> dict | None:
    """Return what `embed` put into a `.tflite`, unchecked, without reading the rest; None if none.

    Raises:
        InvalidFile: it is no `.tflite`, or is damaged.
    """
    try:
        root = _root(content, name)
        for entry in map(root.Metadata, range(root.MetadataLength())):
            if entry.Name() == METADATA_NAME:
                buffer = root.Buffers(entry.Buffer())
                start, size = buffer.Offset(), buffer.Size()
                within = start > 1  # as in `parse`
                data = content[start : start + size] if within else buffer.DataAsNumpy()
                return json.loads(bytes(data))
    except InvalidFile:
        raise
    except Exception:
        raise damaged(name) from None
    return None


def _is_whole(content):
    """Whether the digest in a file is that of its bytes; True for a file without a digest."""
    found = list(_DIGEST.finditer(content))
    return not found or found[-1][1].decode() == _digest(content)


def _digest(content):
    """Return the digest of a file with a digest in it, else None."""
    found = list(_DIGEST.finditer(content))
    if not found:
        return None
    start, end = found[-1].span(1)
    return hashlib.sha256(content[:start] + _NO_DIGEST.encode() + content[end:]).hexdigest()


def _check_lengths(root, size):
    """Refuse a tree whose vectors of tables and names take more room than there is in the file.

    They are shared only in a damaged file, and reading these again and again may not end, or take
    any amount of memory.
    """
    for taken in _lengths(root):
        size -= taken
        if size < 0:
            raise ValueError


def _lengths(root):
    """Yield the bytes of all vectors of tables and of all names, of the outer ones first.

    Vectors of numbers are not among them, since they are read where they lie.
    """
    yield _entries(root.OperatorCodesLength())
    yield _entries(root.BuffersLength())
    yield _entries(root.MetadataLength())
    yield _entries(root.ExternalBufferGroupsLength())
    yield _entries(root.ExternalBuffersLength())
    yield _entries(root.SignatureDefsLength())
    yield _entries(root.SubgraphsLength())
    for code in map(root.OperatorCodes, range(root.OperatorCodesLength())):
        yield _name(code.CustomCode())
    for entry in map(root.Metadata, range(root.MetadataLength())):
        yield _name(entry.Name())
    for group in map(root.ExternalBufferGroups, range(root.ExternalBufferGroupsLength())):
        yield _name(group.Name())
    for buffer in map(root.ExternalBuffers, range(root.ExternalBuffersLength())):
        yield _name(buffer.Packing())
    for signature in map(root.SignatureDefs, range(root.SignatureDefsLength())):
        yield _name(signature.SignatureKey())
        yield _entries(signature.InputsLength())
        yield _entries(signature.OutputsLength())
        for entry in map(signature.Inputs, range(signature.InputsLength())):
            yield _name(entry.Name())
        for entry in map(signature.Outputs, range(signature.OutputsLength())):
            yield _name(entry.Name())
    for graph in map(root.Subgraphs, range(root.SubgraphsLength())):
        yield _name(graph.Name())
        yield _entries(graph.OperatorsLength())
        yield _entries(graph.TensorsLength())
        for tensor in map(graph.Tensors, range(graph.TensorsLength())):
            yield _name(tensor.Name())
            yield _entries(tensor.VariantTensorsLength())
            sparsity = tensor.Sparsity()
            yield 0 if sparsity is None else _entries(sparsity.DimMetadataLength())
        for operator in map(graph.Operators, range(graph.OperatorsLength())):
            yield from map(_name, _names_in_options(operator))


def _entries(count):
    return 4 * count  # where each table lies


def _name(value):
    return len(value or b"")


def _names_in_options(operator):
    """Yield the names in the options of an operator, which few kinds have."""
    schema = _schema()
    of_variable = schema.BuiltinOptions.VarHandleOptions
    of_call = schema.BuiltinOptions2.StablehloCustomCallOptions
    of_composite = schema.BuiltinOptions2.StableHLOCompositeOptions
    if operator.BuiltinOptionsType() == of_variable:
        options = _options(schema.VarHandleOptions, operator.BuiltinOptions())
        yield from (options.Container(), options.SharedName())
    if operator.BuiltinOptions2Type() == of_call:
        options = _options(schema.StablehloCustomCallOptions, operator.BuiltinOptions2())
        yield from (options.CallTargetName(), options.BackendConfig())
    if operator.BuiltinOptions2Type() == of_composite:
        yield _options(schema.StableHLOCompositeOptions, operator.BuiltinOptions2()).Name()


def _options(kind, table):
    options = kind()
    options.Init(table.Bytes, table.Pos)
    return options


def _check_description(description, name):
    if not isinstance(description, dict):
        raise damaged(name)
    has_codes = "code_shape" in description
    needed = {"code_shape", "codebook_size"} if has_codes else {"latent_shape"}
    missing = (needed | {"image_shape", "format", "sha256"}) - set(description)
    if missing:
        raise InvalidFile(f"The description in {name} lacks {', '.join(sorted(missing))}.")
    if _is_size(description["format"]) and description["format"] > FORMAT_VERSION:
        raise InvalidFile(
            f"{name} has a description of format {description['format']}; this version of tfvae "
            f"reads format {FORMAT_VERSION}. Update tfvae."
        )
    if not all(_FITS[key](value) for key, value in description.items() if key in _FITS):
        raise damaged(name)


def text(value) -> str:
    """Return a name as text of one line; generated code returns bytes.

    What does not print, such as the end of a line or what steers a terminal, becomes �, and so does
    a backslash, which would join lines of C.
    """
    name = value.decode() if isinstance(value, bytes) else str(value)
    return "".join(c if c.isprintable() and c != "\\" else "�" for c in name)


def _drop_the_needless(model, keep_names):
    """Remove what no interpreter reads: names of inner values, and empty parts."""
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if not keep_names:
                tensor.name = None
            if tensor.quantization is not None and tensor.quantization.scale is None:
                tensor.quantization = None
        for operator in graph.operators or []:
            for name in ("intermediates", "mutatingVariableInputs"):
                vector = getattr(operator, name)
                if vector is not None and not len(vector):
                    setattr(operator, name, None)
