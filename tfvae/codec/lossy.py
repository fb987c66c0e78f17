"""Compression and decompression of images, of series and of codes."""

import functools
import math
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfvae._plain import memory
from tfvae._plain.checks import whole
from tfvae._plain.files import atomic
from tfvae.codec import file_format
from tfvae.codec.checks import check_built, check_path, condition_in_file
from tfvae.codec.compressed import Compressed
from tfvae.codec.range_coder import Reader, Walk, Writer
from tfvae.codec.streams import Undecodable
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.evaluation.batches import batches_beside_condition, track
from tfvae.graphs import in_graph
from tfvae.models import CodeModel
from tfvae.models.precision import HALF, in_float32

_BATCH_SIZE = 64


def compress(
    model: CodeModel,
    x: np.ndarray | tf.Tensor | tf.data.Dataset,
    path: str | Path | None = None,
    condition: np.ndarray | tf.Tensor | int | None = None,
    batch_size: int = _BATCH_SIZE,
    progress: bool = False,
    sound: tuple[int, int, int] | None = None,
) -> Compressed:
    """Encode images or series, and write their codes; `decompress` returns the decoder's images.

    Networks of half precision compute in float32, here and in `decompress`, as they do in a run
    that is opened.

    Args:
        model: a `CodeModel`. Its prior decides the size of the file: fit one first.
        x: an array `[N, *x_shape]`, or a batched `tf.data.Dataset` of such.
        path: where to write the file, a name ending in .npz; None to write none.
        condition: y, labels `[N]` or vectors `[N, C]` or one for all, where the model or its prior
            takes one: the file keeps them. Else None.
        batch_size: images at a time, here and in `decompress`; larger ones are faster and take more
            memory.
        progress: whether to show a progress bar on standard error.
        sound: the rate and length of a sound, which the file keeps; see `compress_sound`.

    Returns:
        A `Compressed`.

    Raises:
        InvalidArgument: not a model of codes, a prior whose logits are not numbers, a condition
            that is missing or not wanted, a path with another ending, a sound that no .wav
            holds, or more images at a time than memory does.
        InvalidData: data that is empty or does not fit the model, or conditions that do not.
        InvalidFile: the file cannot be written.
    """
    model = _ready(model, path)
    batch_size = whole("batch_size", batch_size)
    sound = None if sound is None else file_format.checked_sound(sound)
    parts = batches_beside_condition(model, x, condition, batch_size)
    encoded = [
        (_encode(model, part, y).numpy(), y) for part, y in track(*parts, "encoding", progress)
    ]
    codes = [part for part, _ in encoded]
    if condition is None and model.condition is not None:  # it came with the batches
        condition = np.concatenate([y for _, y in encoded])
    codes = np.concatenate(codes)
    return compress_codes(model, codes, path, condition, batch_size, progress, sound)


def compress_codes(
    model: CodeModel,
    codes: np.ndarray | tf.Tensor,
    path: str | Path | None = None,
    condition: np.ndarray | tf.Tensor | int | None = None,
    batch_size: int = _BATCH_SIZE,
    progress: bool = False,
    sound: tuple[int, int, int] | None = None,
) -> Compressed:
    """Write codes `[N, *code_shape]`, as `model.encode` gives them; see `compress`.

    Raises:
        InvalidArgument: as in `compress`.
        InvalidData: not codes of this model, none, or −1 of a level that is left out; or conditions
            that do not fit.
        InvalidFile: the file cannot be written.
    """
    model = _ready(model, path)
    batch_size = whole("batch_size", batch_size)
    codes = _some_codes(model, codes)
    if codes.min() < 0:
        raise InvalidData(
            "Some codes are −1, a level that is left out, to which the prior gives no probability; "
            "expected all levels, as `model.encode` gives them."
        )
    if sound is not None:
        sound = _checked_sound(model, sound, len(codes))
    y = model.condition_of_each(condition, len(codes))
    labels = _labels(model, y, len(codes))
    batch_size = _even(len(codes), batch_size)
    advice = "Use at most {most}: `batch_size`."
    each = file_format.bytes_of_codes(model)
    memory.check_request(batch_size, each, "examples at a time", advice)
    walk = Walk(model.prior, batch_size)
    writer = Writer()
    flat = codes.reshape(len(codes), -1)
    for rows in track(*walk.batches(len(codes)), "coding", progress):
        walk(labels[rows], functools.partial(writer, flat[rows]))
    header = file_format.Header(
        format=file_format.FORMAT,
        num_images=len(codes),
        code_shape=list(model.code_shape),
        codebook_size=model.codebook_size,
        batch_size=walk.batch_size,
        crc32=file_format.checksum(codes),
        model=file_format.fingerprint(model),
        sound=None if sound is None else list(sound),
    )
    stream = writer.stream()
    content = file_format.pack(header, stream, y)
    if path is not None:
        with atomic(path) as temporary:
            temporary.write_bytes(content)
    shape = tuple(model.x_shape)
    return Compressed(content, codes, writer.bits, stream.nbytes, shape, y, sound)


def decompress(model: CodeModel, file: str | Path | bytes, progress: bool = False) -> np.ndarray:
    """Return the images in a file, `[N, *x_shape]` float32: the means of p(x|codes).

    Args:
        model: the `CodeModel` that the file was written with, with the prior it had then.
        file: the path of the file, or its bytes.
        progress: whether to show a progress bar on standard error.

    Raises:
        InvalidFile: the file is missing, damaged, truncated or foreign, belongs to another model,
            or the prior's arithmetic differs on this machine from that where it was written.
        InvalidArgument: not a model of codes.
    """
    codes, y, _ = read(model, file, progress)
    return decode(model, codes, y)


def decompress_codes(
    model: CodeModel, file: str | Path | bytes, progress: bool = False
) -> np.ndarray:
    """Return the codes in a file, `[N, *code_shape]` int32; see `decompress`."""
    return read(model, file, progress)[0]


def read(model, file, progress: bool = False):
    """Return the codes in a file, y or None, and the rate and length of a sound or None.

    See `decompress`.
    """
    model = _ready(model)
    name, content = file_format.read(file)
    header, stream, y = file_format.unpack(content, name)
    file_format.check_belongs(header, model, name)
    file_format.check_size(header, model, name)
    labels = _labels(model, condition_in_file(model, y, header.num_images, name), header.num_images)
    walk = Walk(model.prior, header.batch_size)
    reader = Reader(stream)
    try:
        parts = [
            walk(labels[rows], reader)
            for rows in track(*walk.batches(header.num_images), "decoding", progress)
        ]
    except Undecodable:
        raise file_format.wrong_codes(name) from None
    codes = np.concatenate(parts).reshape(-1, *model.code_shape)
    if file_format.checksum(codes) != header.crc32:
        raise file_format.wrong_codes(name)
    return codes, y, header.sound


def decode(
    model: CodeModel,
    codes: np.ndarray | tf.Tensor,
    condition: np.ndarray | tf.Tensor | int | None = None,
) -> np.ndarray:
    """Return `model.decode(codes, condition)`, the images `[N, *x_shape]`, a batch at a time.

    Raises:
        InvalidArgument: a condition that is missing, or that is not wanted.
        InvalidData: not codes of this model, or none; or conditions that do not fit.
    """
    model = _ready(model)
    codes = _some_codes(model, codes)
    if condition is not None:
        condition = model.condition_of_each(condition, len(codes))
    rows = [slice(n, n + _BATCH_SIZE) for n in range(0, len(codes), _BATCH_SIZE)]
    parts = [(codes[r], None if condition is None else condition[r]) for r in rows]
    return np.concatenate([model.decode(*part).numpy() for part in parts])


@in_graph
def _encode(model, x, condition):
    """Return the codes of a batch."""
    return model.encode(x, condition)


def _even(count, most) -> int:
    """Return the size of the fewest batches of at most `most`, made as equal as possible."""
    return math.ceil(count / math.ceil(count / most))


def _labels(model, condition, count) -> np.ndarray:
    """Return the labels `[N]` that the prior is given, all 0 if it has no classes."""
    given = model.condition_of_prior(condition)
    return np.zeros(count, np.int32) if given is None else given


def _ready(model, path=None):
    """Return the model as the codec runs it: in float32, if it computes in half precision."""
    if not isinstance(model, CodeModel):
        raise InvalidArgument(
            f"The codec got {type(model).__name__}; expected a model of codes, VQVAE or "
            "HierarchicalVQVAE, whose latents are integers that can be written. With a VAE, "
            "tfvae.codec.compress_lossless writes files without loss."
        )
    check_path(path)
    check_built(model)
    return in_float32(model, HALF)


def _some_codes(model, codes):
    """Return codes as an int32 array, or refuse them."""
    if np.shape(codes)[:1] == (0,):
        raise InvalidData("There are no codes; expected those of at least one example.")
    return model.check_codes(codes)


def _checked_sound(model, sound, num_windows):
    """Return what a file keeps of a sound, or refuse a sound that is not of so many windows."""
    rate, count, width = file_format.checked_sound(sound)
    length = model.x_shape[0]
    if len(model.x_shape) != 2 or num_windows != math.ceil(count / length):
        raise InvalidArgument(
            f"A sound of {count:,} frames is not one of {num_windows:,} examples of shape "
            f"{tuple(model.x_shape)}; expected series [T, C], frames / T of them, rounded up. Call "
            "tfvae.codec.compress_sound."
        )
    return rate, count, width
