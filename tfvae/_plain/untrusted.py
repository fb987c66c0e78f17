"""Limits on foreign files, by the sizes that their headers declare.

The limits are in `tfvae._plain.memory`, and the environment variable described there raises them.
"""

import contextlib
import io
import math
import types
import zipfile
from pathlib import Path

from tfvae._plain import memory
from tfvae._plain.threads import shared
from tfvae.errors import InvalidData, InvalidFile, TfvaeError

# What is read as a picture. Pillow knows more formats, some of which call other programs.
PICTURE_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", "TGA")
_WEIGHTS = "model.weights.h5"
_BLOCK, _BLOCK_HEADER, _CHUNK_HEADER = 1 << 16, 24, 40  # of Riegeli, in bytes
_CHUNKS = (b"s", b"m", b"p", b"r", b"t")  # their kinds
_ARROW_DICTIONARY, _ARROW_BATCH = 2, 3  # kinds of messages


def check_arrays(file, name: str, error: type = InvalidData) -> None:
    """Refuse an `.npy` or `.npz` whose arrays take more memory than a file of its size may.

    Arrays of other types than those of 8 or 16 bits without sign are counted as float32 at least,
    which images become. A file that is neither is left to the reader, which says so.

    Args:
        file: its path, or an open file.
        name: what to call it.
        error: the class of the error.

    Raises:
        InvalidData: or `error`: the arrays are too large, or larger than the file.
    """
    with contextlib.ExitStack() as stack:
        if not hasattr(file, "read"):
            file = stack.enter_context(Path(file).open("rb"))
        stored = file.seek(0, io.SEEK_END)
        file.seek(0)
        try:
            archive = stack.enter_context(zipfile.ZipFile(file))
        except Exception:  # zipfile raises many kinds
            file.seek(0)
            _array_size(file, stored, name, error)
            return
        _check_members(archive, name, stored, error)
        sizes = [_member_size(archive, info, name, error) for info in archive.infolist()]
        memory.check_unpacked(name, sum(sizes), stored, error)


def array_header(path: Path) -> types.SimpleNamespace:
    """Return `shape`, `ndim` and `dtype` of the array in an `.npy`, or of the first in an `.npz`.

    Raises:
        InvalidData: there is no such file, or it is no array.
    """
    try:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(path.open("rb"))
            if zipfile.is_zipfile(file):
                archive = stack.enter_context(zipfile.ZipFile(file))
                file = stack.enter_context(archive.open(archive.infolist()[0]))
            else:
                file.seek(0)
            shape, dtype = _header(file)
    except FileNotFoundError:
        raise InvalidData(f"There is no file {path}.") from None
    except Exception as error:  # NumPy, zipfile and zlib raise many kinds
        raise InvalidData(f"{path} cannot be read as an array: {error}") from None
    return types.SimpleNamespace(shape=shape, ndim=len(shape), dtype=dtype)


def _header(file):
    """Return the shape and the type of an array, as its file says."""
    import numpy as np

    formats = np.lib.format
    is_old = formats.read_magic(file) == (1, 0)
    # Version 3 differs from 2 in the letters of names of fields.
    read = formats.read_array_header_1_0 if is_old else formats.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _member_size(archive, info, name, error):
    try:
        member = archive.open(info)
    except Exception:  # zipfile raises many kinds
        return 0
    with member:
        return _array_size(member, info.file_size, f"{name}[{info.filename}]", error)


def _array_size(file, stored, name, error):
    """Return how much memory an array takes, by its header; 0 if there is none that can be read."""
    try:
        shape, dtype = _header(file)
    except Exception:  # NumPy, zipfile and zlib raise many kinds
        return 0
    if any(size < 0 for size in shape):
        raise error(f"{name} says it has the shape {shape}; expected sizes of at least 0.")
    if 0 in shape[1:]:  # any number of such examples takes no room in a file
        raise error(f"{name} has the shape {shape}, in which each example is empty.")
    count = math.prod(shape)
    if count * dtype.itemsize > stored:
        claimed = memory.text(count * dtype.itemsize)
        raise error(
            f"{name} cannot be read as an array: it says it holds {claimed} and has "
            f"{memory.text(stored)}, so it is damaged or truncated."
        )
    narrow = dtype.kind == "u" and dtype.itemsize <= 2
    return count * (dtype.itemsize if narrow else max(4, dtype.itemsize))


def _check_members(archive, name, stored, error):
    memory.check_unpacked(name, sum(info.file_size for info in archive.infolist()), stored, error)


@contextlib.contextmanager
def open_picture(file: str | Path | bytes, name: str = ""):
    """Open a picture with Pillow, unless it would take more memory than a file of its size may.

    Args:
        file: its path, or its content.
        name: what messages call it; its path if empty.

    Raises:
        InvalidData: it would.
        OSError: it cannot be read, or is no picture (`PIL.UnidentifiedImageError`).
    """
    from PIL import Image

    with _unlimited_pillow():  # the limit is ours, below
        content = io.BytesIO(file) if isinstance(file, bytes) else file
        image = Image.open(content, formats=PICTURE_FORMATS)
    with image:
        width, height = image.size
        unpacked = width * height * max(3 if image.mode == "P" else 1, len(image.getbands()))
        name = f"{name or file}, a picture of {height:,}×{width:,} pixels,"
        stored = len(file) if isinstance(file, bytes) else Path(file).stat().st_size
        memory.check_unpacked(name, unpacked, stored, InvalidData, memory.PICTURE_FLOOR)
        yield image


@shared
@contextlib.contextmanager
def _unlimited_pillow():
    """Lift the limit of Pillow on pixels."""
    from PIL import Image

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def check_arrow(stream, name: str) -> None:
    """Refuse an Arrow stream whose compressed parts take more memory than one of its size may.

    Parts that are not compressed are used in place.

    Args:
        stream: a `pa.Buffer`.
        name: what to call it.

    Raises:
        InvalidData: they would.
        OSError: it is no such stream (`pa.ArrowException`, ditto).
    """
    import pyarrow as pa

    messages = pa.ipc.MessageReader.open_stream(pa.BufferReader(stream))
    unpacked = sum(_unpacked_batch(message) for message in messages)
    memory.check_unpacked(name, unpacked, stream.size, InvalidData)


def _unpacked_batch(message):
    """Return the declared size of the compressed buffers of a message after unpacking.

    The format is in Message.fbs of Arrow, and pyarrow has verified the offsets. A buffer begins
    with the size to which it unpacks, -1 where it is not compressed.
    """
    import numpy as np
    from flatbuffers.number_types import Int16Flags, Uint8Flags
    from flatbuffers.table import Table

    def number(table, field, flags):
        offset = table.Offset(4 + 2 * field)
        return table.Get(flags, offset + table.Pos) if offset else 0

    def child(table, field):
        return Table(content, table.Indirect(table.Offset(4 + 2 * field) + table.Pos))

    content = message.metadata.to_pybytes()
    header = Table(content, int.from_bytes(content[:4], "little"))
    kind = number(header, 1, Uint8Flags)
    if kind not in (_ARROW_DICTIONARY, _ARROW_BATCH):
        return 0
    batch = child(header, 2)
    batch = child(batch, 1) if kind == _ARROW_DICTIONARY else batch
    # Before version 5, in metadata of the user.
    old = number(header, 0, Int16Flags) < 4 and header.Offset(4 + 2 * 4)
    buffers = batch.Offset(4 + 2 * 2)
    if not buffers or not (old or batch.Offset(4 + 2 * 3)):
        return 0
    spans = np.frombuffer(content, "<i8", 2 * batch.VectorLen(buffers), batch.Vector(buffers))
    body = memoryview(message.body)
    begins = (body[begin : begin + 8] for begin, length in spans.reshape(-1, 2) if length >= 8)
    return sum(max(0, int.from_bytes(begin, "little", signed=True)) for begin in begins)


def check_array_record(path: Path) -> None:
    """Refuse an ArrayRecord file in which a chunk says it unpacks to more than the file may.

    The chunks are walked through from the first, as far as they can be told. The format is
    Riegeli's: blocks of 64 KiB, each with a header, which chunks go across.

    Raises:
        InvalidData: one does.
    """
    size, place = path.stat().st_size, 0
    with path.open("rb") as file:
        while place < size:
            file.seek(place)
            overhead = _BLOCK_HEADER if place % _BLOCK == 0 else 0
            header = file.read(overhead + _CHUNK_HEADER + _BLOCK_HEADER)[overhead:]
            left = _BLOCK - (place + overhead) % _BLOCK
            header = (header[:left] + header[left + _BLOCK_HEADER :])[:_CHUNK_HEADER]
            if len(header) < _CHUNK_HEADER or header[24:25] not in _CHUNKS:
                return
            length, unpacked = (int.from_bytes(header[n : n + 8], "little") for n in (8, 32))
            memory.check_unpacked(str(path), unpacked, size, InvalidData)
            least = place + int.from_bytes(header[25:32], "little")  # a byte for each record
            if 0 < least % _BLOCK < _BLOCK_HEADER:
                least += _BLOCK_HEADER - least % _BLOCK
            inside = max(0, place % _BLOCK - _BLOCK_HEADER) + _CHUNK_HEADER + length
            blocks, rest = divmod(inside, _BLOCK - _BLOCK_HEADER)
            end = (place // _BLOCK + blocks) * _BLOCK + (rest and _BLOCK_HEADER + rest)
            place = max(end, least)


def check_model_file(path: str | Path) -> None:
    """Refuse a `.keras` file that unpacks to more than a file of its size may.

    Raises:
        InvalidFile: it does, or it is damaged.
    """
    stored = Path(path).stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, str(path), stored, InvalidFile)
            if _WEIGHTS in archive.namelist():
                with archive.open(_WEIGHTS) as member:
                    unpacked = _weights_size(member)
                memory.check_unpacked(str(path), unpacked, stored)
    except TfvaeError:
        raise
    except Exception as error:  # h5py and zipfile raise many kinds
        raise InvalidFile(f"{path} is damaged or truncated: {_first_line(error)}") from None


def too_many_weights(path: str | Path) -> str:
    """Return the message for a `.keras` file whose configuration needs more memory than allowed.

    `{size}` and `{most}` in it stand for sizes.
    """
    return (
        f"{path} describes a model whose weights take {{size}} of memory or more, and at most "
        f"{{most}} are allowed for a file of its size. If you trust it, and the memory is there, "
        f"raise the limit with {memory.VARIABLE}."
    )


def check_datasets(parts: list, path: Path) -> None:
    """Refuse parts of an HDF5 file that take more memory than a file of its size may.

    Texts count 64 bytes each, since how long they are is not known before they are read.

    Args:
        parts: datasets, and groups of them.
        path: of the file.

    Raises:
        InvalidData: they do, or they lie in another file.
    """
    unpacked = 0
    for dataset in (dataset for part in parts for dataset in _datasets(part)):
        if dataset.file.filename != str(path) or dataset.external or dataset.is_virtual:
            raise InvalidData(f"{path} takes {dataset.name} from another file; expected all in it.")
        each = 64 if dataset.dtype.kind in "OS" else 8
        unpacked += math.prod(dataset.shape or ()) * max(each, dataset.dtype.itemsize)
    memory.check_unpacked(str(path), unpacked, path.stat().st_size, InvalidData)


def _datasets(part, depth=3):
    """Yield a dataset, or those of a group; what lies deeper is not read."""
    if not hasattr(part, "keys"):
        yield part
    elif depth:
        for child in part.values():
            yield from _datasets(child, depth - 1)


def _weights_size(member):
    """Return how many bytes the arrays of an HDF5 file say they have."""
    import h5py

    sizes = []

    def add(_, part):
        if isinstance(part, h5py.Dataset):
            sizes.append(math.prod(part.shape or ()) * part.dtype.itemsize)

    with h5py.File(member, "r") as file:
        file.visititems(add)
    return sum(sizes)


def _first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
