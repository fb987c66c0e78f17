"""The file of codes: an `.npz` of a header, a stream, and the conditions of the images.

The header holds the fingerprint of the model and a checksum of the codes: a file of another model,
or one that another machine decodes to other codes, leads to an error and never to a wrong image. A
file of bits-back coding has another header, and the levels of the images in place of codes.
"""

import dataclasses
import hashlib
import io
import json
import math
import zlib
from pathlib import Path

import numpy as np

from tfvae._plain import memory, untrusted
from tfvae._plain.checks import whole
from tfvae.codec.levels import num_levels_of
from tfvae.errors import InvalidArgument, InvalidFile
from tfvae.models import GenerativeModel

FORMAT = 1
MOST_PRECISION = 20  # bits of a latent coordinate


def fingerprint(model: GenerativeModel) -> str:
    """Return 16 hexadecimal digits that are the same for models of equal weights.

    All weights count but those that `compile` brings, those of prior and decoder included: only
    this model can decode the codes.
    """
    digest = hashlib.sha256()
    for weight in model.weights_to_copy():
        value = np.asarray(weight)
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class Header:
    """The header of a file, as JSON.

    Only a file of sound has `sound`: frames in a second, frames in all, bytes of a value.
    """

    format: int
    num_images: int
    code_shape: list[int]
    codebook_size: int
    batch_size: int
    crc32: int
    model: str
    sound: list[int] | None = None


@dataclasses.dataclass(frozen=True)
class LosslessHeader:
    """The header of a file of bits-back coding, as JSON."""

    format: int
    num_images: int
    x_shape: list[int]
    num_levels: int
    precision: int
    batch_size: int
    crc32: int
    model: str


def checked_sound(sound) -> tuple[int, int, int]:
    """Return the frames in a second of a sound, its frames in all, and the bytes of a value.

    Raises:
        InvalidArgument: they are not those of a `.wav`.
    """
    if len(sound) != 3:
        raise InvalidArgument(
            f"`sound` is {sound!r}; expected its frames in a second, its frames in all, and the "
            "bytes of a value."
        )
    rate, count, width = (whole("sound", value) for value in sound)
    if rate >= 2**32 or width > 4:
        raise InvalidArgument(
            f"`sound` is {sound!r}; expected fewer than 2^32 frames in a second, and 1 to 4 bytes "
            "of a value, as a .wav has."
        )
    return rate, count, width


def pack(header, stream, condition) -> bytes:
    """Return an .npz of the header, the stream, and the labels or vectors y if there are."""
    fields = {k: v for k, v in dataclasses.asdict(header).items() if v is not None}
    text = json.dumps(fields, separators=(",", ":"))
    arrays = {"header": np.frombuffer(text.encode(), np.uint8), "stream": stream}
    if condition is not None:
        labels = np.issubdtype(condition.dtype, np.integer)
        dtype = np.min_scalar_type(int(condition.max())) if labels else np.float32
        arrays["labels"] = condition.astype(dtype)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def unpack(content, name):
    """Return the header, the stream, and the labels or vectors y or None.

    Raises:
        InvalidFile: the content is not what `pack` returns, or of another format.
    """
    untrusted.check_arrays(io.BytesIO(content), name, InvalidFile)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        fields = json.loads(arrays["header"].tobytes())
        written_as = fields["format"]
        parts = _parts(fields, arrays) if written_as == FORMAT else None
    except Exception:  # NumPy, zipfile and zlib raise many kinds on a damaged file
        raise InvalidFile(
            f"{name} holds no codes, or is damaged or truncated. Expected an .npz that `tfvae "
            "encode` or tfvae.codec.compress wrote. Copy or write it again."
        ) from None
    if parts is None:
        raise InvalidFile(
            f"{name} is a file of codes of format {written_as}; this tfvae reads format {FORMAT}. "
            "Install a version that reads it."
        )
    return parts


def _parts(fields, arrays):
    """Return the result of `unpack`, or raise an error of any kind."""
    lossless = "precision" in fields
    header = (LosslessHeader if lossless else Header)(**fields)
    whole("num_images", header.num_images)
    whole("batch_size", header.batch_size)
    if header.batch_size > header.num_images:
        raise ValueError("a batch of more images than there are")
    if lossless:
        whole("num_levels", header.num_levels, least=2)
        math.prod(header.x_shape)  # of numbers
        if not 1 < whole("precision", header.precision) <= MOST_PRECISION:
            raise ValueError("a precision that the coder does not have")
    elif header.sound is not None:
        checked_sound(header.sound)
    stream, labels = arrays["stream"].astype(np.uint32, casting="safe"), arrays.get("labels")
    if stream.ndim != 1 or (labels is not None and labels.shape[:1] != (header.num_images,)):
        raise ValueError("arrays of other shapes")
    return header, stream, labels


def condition_in(file: str | Path | bytes) -> np.ndarray | None:
    """Return the conditions y `[N, ...]` in a file of codes, or in one without loss; else None.

    Args:
        file: the path of the file, or its bytes.

    Raises:
        InvalidFile: the file is missing, damaged, truncated or foreign.
    """
    name, content = read(file)
    return unpack(content, name)[2]


def check_belongs(header, model, name):
    """Refuse a file of another model, which could not decode its codes.

    Raises:
        InvalidFile: with both fingerprints.
    """
    if isinstance(header, LosslessHeader):
        raise InvalidFile(
            f"{name} holds examples without loss, as they are written with a VAE, and this model "
            f"is a {type(model).__name__}, which decodes codes. Use the run that it was written "
            "with: `tfvae decode RUN --codes FILE`, or tfvae.codec.decompress_lossless."
        )
    theirs = header.code_shape, header.codebook_size, header.model
    mine = list(model.code_shape), model.codebook_size, fingerprint(model)
    if theirs != mine:
        raise InvalidFile(
            f"{name} was written with another model, or with this one before its weights or its "
            f"prior changed: it has codes of shape {theirs[0]} from a codebook of {theirs[1]} and "
            f"the fingerprint {theirs[2]}, this model {mine[0]}, {mine[1]} and {mine[2]}. Use the "
            "run that it was written with."
        )


def check_belongs_without_loss(header, model, name):
    """Refuse a file that was not written by bits-back coding, or with another model.

    Raises:
        InvalidFile: with both fingerprints.
    """
    if not isinstance(header, LosslessHeader):
        raise InvalidFile(
            f"{name} holds codes, as they are written with a VQVAE, and this model is a "
            f"{type(model).__name__}, which decodes files without loss. Use the run that it was "
            "written with: `tfvae decode RUN --codes FILE`, or tfvae.codec.decompress."
        )
    theirs = tuple(header.x_shape), header.model
    mine = tuple(model.x_shape), fingerprint(model)
    levels = num_levels_of(model.likelihood)
    if theirs != mine or levels not in (0, header.num_levels):
        raise InvalidFile(
            f"{name} was written with another model, or with this one before its weights changed: "
            f"it has examples of shape {theirs[0]} in {header.num_levels:,} levels and the "
            f"fingerprint {theirs[1]}, this model {mine[0]}, {levels or 'counts'} and {mine[1]}. "
            "Use the run that it was written with."
        )


def check_size(header, model, name):
    """Refuse a file whose images would not fit into memory, at once or a batch at a time.

    Raises:
        InvalidFile: they would not.
    """
    if isinstance(header, LosslessHeader):
        positions = math.prod(model.x_shape)
        each = bytes_without_loss(model, header.num_levels, header.precision)
    else:
        positions = math.prod(model.code_shape)
        each = bytes_of_codes(model)
    images = 4 * header.num_images * (positions + math.prod(model.x_shape))
    batch = header.batch_size * each
    if max(images, batch) > memory.limit():
        raise InvalidFile(
            f"{name} says it holds {header.num_images:,} images in batches of "
            f"{header.batch_size:,}, which take {memory.text(max(images, batch))} of memory; "
            f"{memory.text(memory.limit())} can be had. It is damaged, or needs a larger machine; "
            f"{memory.VARIABLE} sets the limit."
        )


def bytes_of_codes(model) -> int:
    """Return the memory that the range coder takes for each example of a batch.

    It is that of the codes, or of their probabilities at a position, and of the prior's state
    before and after it.
    """
    at_once = 4 * max(math.prod(model.code_shape), model.codebook_size)
    return 8 * at_once + 2 * model.prior.state_bytes()


def bytes_without_loss(model, num_levels: int, precision: int) -> int:
    """Return the memory that bits-back coding takes for each example of a batch.

    It is that of the probabilities of all levels of x, or of those of the 2^(precision/2) buckets
    of a digit of all latents, whichever is more; see `bit_stack.Buckets`.
    """
    of_x = 4 * math.prod(model.x_shape) * num_levels
    buckets = 2 ** math.ceil(precision / 2) if model.latent_kinds[0] == "continuous" else 1
    of_z = 8 * math.prod(model.latent_shape) * buckets
    return 8 * max(of_x, of_z)


def wrong_codes(name, whose: str = "prior") -> InvalidFile:
    """Return the error for a file whose codes are not those that were written.

    Args:
        name: of the file.
        whose: the part of the model that has to give the same probabilities again.
    """
    return InvalidFile(
        f"{name} cannot be decoded: its codes have another checksum. Either it is damaged, or the "
        f"{whose}'s arithmetic differs on this machine from that where it was written (processor, "
        "version or settings of TensorFlow); expected one that rounds alike. Decode it there, or "
        "write it again here."
    )


def checksum(codes) -> int:
    """Return the CRC-32 of codes."""
    return zlib.crc32(np.ascontiguousarray(codes, "<i4"))


def read(file) -> tuple[str, bytes]:
    """Return the name of a file for messages, and its content."""
    if isinstance(file, (bytes, bytearray, memoryview)):
        return "The file", bytes(file)
    try:
        return str(file), Path(file).read_bytes()
    except OSError as error:
        raise InvalidFile(f"Cannot read {file}: {error.strerror}.") from None
