"""Images as files of codes: the encoder chooses them, the prior and an entropy coder pack them.

A `CodeModel` with a prior is a lossy image codec. An ideal entropy coder writes its codes in
−log2 p(codes) bits. The range coder used here stays within a few bytes of that where the prior
expects the codes. Its probabilities are multiples of 2^-24 and none is 0, so no code takes more
than 24 bits, however improbable, and a certain one of K takes about 1.4 K/2^24 bits, not none.

Decoding repeats the prior's arithmetic and must arrive at the same bits. At both ends the prior
runs a position at a time, in batches of one size, in a graph that is traced for that size alone.
Another machine (its processor, its build of TensorFlow) may still round differently: a checksum of
the codes in the file finds that out, so that it is an error and never a wrong image.

Sources: Martin 1979, "Range encoding: an algorithm for removing redundancy from a digitised
message"; Bamler 2022, "Understanding entropy coding with asymmetric numeral systems (ANS): a
statistician's perspective" (`constriction`, whose coder this is).
"""

import dataclasses
import functools
import hashlib
import io
import json
import math
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import constriction
import numpy as np
import tensorflow as tf

from tfvae import memory, untrusted
from tfvae.checks import whole
from tfvae.code_priors import CodePrior
from tfvae.errors import InvalidArgument, InvalidData, InvalidFile
from tfvae.evaluation.batches import batches_beside_condition, track
from tfvae.files import atomic
from tfvae.models import CodeModel

FORMAT = 1
_ENDING = ".npz"
_BATCH_SIZE = 64
_SSIM_FILTER_SIZE = 11
_BITS_OF_STATE = 64  # of a coder, beside its stream
_ROUNDING = 2.0**-20
# Probabilities in fixed point of 24 bits, none of them 0, quick to make anew for every position.
_FAMILY = constriction.stream.model.Categorical(perfect=False)


@dataclasses.dataclass(frozen=True)
class Compressed:
    """Images as the bytes of a file.

    Attributes:
        content: the file, an `.npz`.
        codes: the codes of the images, `[N, *code_shape]` int32.
        prior_bits: −log2 p(codes), summed over the images; given their labels, where the prior has
            classes. What an ideal coder would need.
        condition: y of the images, `[N, ...]`; None without a condition.
        stream_bytes: size of the entropy-coded part of `content`.
        image_shape: shape of one image.
    """

    content: bytes
    codes: np.ndarray
    prior_bits: float
    stream_bytes: int
    image_shape: tuple[int, ...]
    condition: np.ndarray | None = None

    @property
    def bits_per_pixel(self) -> float:
        """Bits of the whole file for each pixel, a site of an image with all its channels."""
        num_pixels = len(self.codes) * math.prod(self.image_shape[:-1])
        return 8 * len(self.content) / num_pixels

    def summary(self) -> dict:
        """Return the sizes as a dictionary of plain numbers, for JSON."""
        return {
            "num_images": len(self.codes),
            "bytes": len(self.content),
            "stream_bytes": self.stream_bytes,
            "prior_bits": self.prior_bits,
            "bits_per_pixel": self.bits_per_pixel,
        }


def compress(
    model, x, path=None, condition=None, batch_size: int = _BATCH_SIZE, progress: bool = False
) -> Compressed:
    """Encode images, and write their codes; `decompress` gives back the decoder's images.

    Args:
        model: a `CodeModel`. Its prior decides the size of the file: fit one first.
        x: an array `[N, *x_shape]`, or a batched `tf.data.Dataset` of such.
        path: where to write the file, a name ending in .npz; None to write none.
        condition: y, labels `[N]` or vectors `[N, C]` or one for all, where the model or its prior
            takes one: the file keeps them. Else None.
        batch_size: images at a time, here and in `decompress`; larger ones are faster and take more
            memory.
        progress: whether to show a progress bar on standard error.

    Returns:
        A `Compressed`.

    Raises:
        InvalidArgument: not a model of codes, a prior whose logits are not numbers, a condition
            that is missing or not wanted, or a path with another ending.
        InvalidData: data that is empty or does not fit the model, or conditions that do not.
        InvalidFile: the file cannot be written.
    """
    _check(model, path, batch_size)
    parts = batches_beside_condition(model, x, condition, batch_size)
    encoded = [
        (_encode(model, part, y).numpy(), y) for part, y in track(*parts, "encoding", progress)
    ]
    codes = [part for part, _ in encoded]
    if condition is None and model.condition is not None:  # it came with the batches
        condition = np.concatenate([y for _, y in encoded])
    return compress_codes(model, np.concatenate(codes), path, condition, batch_size, progress)


def compress_codes(
    model, codes, path=None, condition=None, batch_size: int = _BATCH_SIZE, progress: bool = False
) -> Compressed:
    """Write codes `[N, *code_shape]`, as `model.encode` gives them; see `compress`.

    Raises:
        InvalidArgument: as in `compress`.
        InvalidData: not codes of this model, or conditions that do not fit.
        InvalidFile: the file cannot be written.
    """
    _check(model, path, batch_size)
    _check_built(model)
    codes = model.check_codes(codes)
    y = _one_for_each(model, condition, len(codes))
    labels = _labels(model, y, len(codes))
    walk = _Walk(model.prior, _even(len(codes), batch_size))
    writer = _Writer()
    flat = codes.reshape(len(codes), -1)
    for rows in track(*walk.batches(len(codes)), "coding", progress):
        walk(labels[rows], functools.partial(writer, flat[rows]))
    header = _Header(
        format=FORMAT,
        num_images=len(codes),
        code_shape=list(model.code_shape),
        codebook_size=model.codebook_size,
        batch_size=walk.batch_size,
        crc32=_checksum(codes),
        model=fingerprint(model),
    )
    stream = writer.stream()
    content = _pack(header, stream, y)
    if path is not None:
        with atomic(path) as temporary:
            temporary.write_bytes(content)
    return Compressed(content, codes, writer.bits, stream.nbytes, tuple(model.x_shape), y)


def decompress(model, file, progress: bool = False) -> np.ndarray:
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
    return decode(model, *_decompress(model, file, progress))


def decompress_codes(model, file, progress: bool = False) -> np.ndarray:
    """Return the codes in a file, `[N, *code_shape]` int32; see `decompress`."""
    return _decompress(model, file, progress)[0]


def _decompress(model, file, progress):
    """Return the codes in a file, and y of the images or None."""
    _check(model)
    _check_built(model)
    name, content = _read(file)
    header, stream, y = _unpack(content, name)
    _check_belongs(header, model, name)
    _check_size(header, model, name)
    labels = _labels(
        model, _checked_condition(model, y, header.num_images, name), header.num_images
    )
    walk = _Walk(model.prior, header.batch_size)
    reader = _Reader(stream)
    try:
        parts = [
            walk(labels[rows], reader)
            for rows in track(*walk.batches(header.num_images), "decoding", progress)
        ]
    except _Undecodable:
        raise _wrong_codes(name) from None
    codes = np.concatenate(parts).reshape(-1, *model.code_shape)
    if _checksum(codes) != header.crc32:
        raise _wrong_codes(name)
    return codes, y


def decode(model, codes, condition=None) -> np.ndarray:
    """Return `model.decode(codes, condition)`, the images `[N, *x_shape]`, a batch at a time.

    Raises:
        InvalidArgument: a condition that is missing, or that is not wanted.
        InvalidData: not codes of this model, or conditions that do not fit.
    """
    codes = model.check_codes(codes)
    if condition is not None:
        condition = _one_for_each(model, condition, len(codes))
    rows = [slice(n, n + _BATCH_SIZE) for n in range(0, len(codes), _BATCH_SIZE)]
    parts = [(codes[r], None if condition is None else condition[r]) for r in rows]
    return np.concatenate([model.decode(*part).numpy() for part in parts])


def quality(x, images) -> dict:
    """Compare images with what they were, both `[N, H, W, C]` with values in [0, 1].

    Returns:
        A dictionary of plain numbers, for JSON, averaged over images: `psnr`, in dB with a peak of
        1 (None if an image is reproduced exactly, which has no finite one), and `ssim`, the
        structural similarity with a Gaussian window of 11 pixels, or the size of a smaller image.
        Source: Wang et al. 2004, "Image quality assessment: from error visibility to structural
        similarity".

    Raises:
        InvalidData: not images, or of different shapes.
    """
    x, images = (np.asarray(part, np.float32) for part in (x, images))
    if x.ndim != 4 or x.shape != images.shape or len(x) == 0:
        raise InvalidData(
            f"Arrays of shapes {x.shape} and {images.shape} cannot be compared as images; expected "
            "[N, H, W, C] twice."
        )
    size = min(_SSIM_FILTER_SIZE, *x.shape[1:3])
    psnr, ssim = [], []
    for start in range(0, len(x), _BATCH_SIZE):
        pair = x[start : start + _BATCH_SIZE], images[start : start + _BATCH_SIZE]
        psnr.append(tf.image.psnr(*pair, 1.0))
        ssim.append(tf.image.ssim(*pair, 1.0, filter_size=size))
    means = {"psnr": np.mean(np.concatenate(psnr)), "ssim": np.mean(np.concatenate(ssim))}
    return {name: float(v) if math.isfinite(v) else None for name, v in means.items()}


def fingerprint(model) -> str:
    """Return 16 hexadecimal digits that are the same for models of equal weights.

    Of all weights, prior and decoder among them: codes mean what they do to this model alone.
    """
    digest = hashlib.sha256()
    for weight in model.weights:
        value = np.asarray(weight)
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()[:16]


@tf.function(reduce_retracing=True)
def _encode(model, x, condition):
    """Return the codes of a batch; at module level, so as not to trace the graph at every call."""
    return model.encode(x, condition)


class _Walk:
    """A prior's log p(code | codes before), position by position, by one arithmetic at both ends.

    How sums are rounded depends on the sizes of tensors and on the graph. So every batch has
    `batch_size` rows, the last one filled up with zeros, and the graph is this object's own: one
    that is shared may have been traced for tensors of any size.

    Args:
        prior: a `CodePrior`.
        batch_size: examples of a batch.
    """

    def __init__(self, prior: CodePrior, batch_size: int):
        self.prior, self.batch_size = prior, batch_size
        self._step = tf.function(prior.step)

    def batches(self, count: int) -> tuple[Iterator[slice], int]:
        """Return the rows of each batch of `count` examples, and how many batches there are."""
        starts = range(0, count, self.batch_size)
        rows = (slice(start, min(start + self.batch_size, count)) for start in starts)
        return rows, len(starts)

    def __call__(self, labels: np.ndarray, choose: Callable) -> np.ndarray:
        """Return the codes of a batch, `[B, positions]` int32.

        Args:
            labels: `[B]`; without classes, all 0.
            choose: a function from a position and log p `[B, K]` float64 of its code to the codes
                `[B]` there. It is called for the positions in order.
        """
        filled = np.zeros(self.batch_size, np.int32)
        filled[: len(labels)] = labels
        state = self.prior.start(self.batch_size, filled if self.prior.num_classes else None)
        codes = np.zeros((self.batch_size, self.prior.num_positions), np.int32)
        for position in range(self.prior.num_positions):
            previous = codes[:, max(position - 1, 0)]
            logits, state = self._step(state, tf.constant(position), tf.constant(previous))
            log_p = _log_softmax(logits.numpy()[: len(labels)].astype(np.float64))
            codes[: len(labels), position] = choose(position, log_p)
        return codes[: len(labels)]


class _Writer:
    """Writes the codes of batches to one stream.

    Attributes:
        bits: −log2 p of all codes so far.
    """

    def __init__(self):
        self.bits = 0.0
        self._coder = constriction.stream.queue.RangeEncoder()

    def __call__(self, codes, position, log_p):
        """Write a position of codes `[B, positions]`, and return its codes."""
        here = np.ascontiguousarray(codes[:, position])
        self.bits -= float(log_p[np.arange(len(here)), here].sum()) / math.log(2.0)
        self._coder.encode(here, _FAMILY, _probabilities(log_p))
        return here

    def stream(self) -> np.ndarray:
        """Return what was written, uint32."""
        return self._coder.get_compressed()


class _Undecodable(Exception):
    """No codes would have given this stream."""


class _Reader:
    """Reads from a stream what a `_Writer` wrote.

    Behind its end a stream goes on with zeros, and so would a file that claims more images than it
    has. So no more is read than the stream has bits for.
    """

    def __init__(self, stream: np.ndarray):
        self._coder = constriction.stream.queue.RangeDecoder(stream)
        self._bits_left = 8 * stream.nbytes + _BITS_OF_STATE

    def __call__(self, position, log_p):
        """Return the next codes."""
        p = _probabilities(log_p)
        try:
            codes = self._coder.decode(_FAMILY, p)
        except AssertionError:
            raise _Undecodable from None
        # At least; the coder rounds probabilities to multiples of 2^-24, and none to 0.
        self._bits_left += np.log2(np.minimum(1.0, p[np.arange(len(p)), codes] + _ROUNDING)).sum()
        if self._bits_left < 0:
            raise _Undecodable
        return codes


def _log_softmax(logits):
    """Return log-probabilities `[B, K]` of float64 logits."""
    largest = logits.max(axis=1, keepdims=True)
    if not np.isfinite(largest).all():
        raise InvalidArgument(
            "The prior's logits are not finite numbers, so that it gives codes no probability. Its "
            "training has diverged: fit it again, with a lower learning rate."
        )
    shifted = logits - largest
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _probabilities(log_p):
    """Return probabilities that the coder takes; it takes no alphabet of a single symbol."""
    p = np.exp(log_p)
    return p if p.shape[1] > 1 else np.pad(p, [(0, 0), (0, 1)])


@dataclasses.dataclass(frozen=True)
class _Header:
    """What a file says of itself, as JSON."""

    format: int
    num_images: int
    code_shape: list[int]
    codebook_size: int
    batch_size: int
    crc32: int
    model: str


def _pack(header, stream, condition) -> bytes:
    """Return an .npz of the header, the stream, and the labels or vectors y if there are."""
    text = json.dumps(dataclasses.asdict(header), separators=(",", ":"))
    arrays = {"header": np.frombuffer(text.encode(), np.uint8), "stream": stream}
    if condition is not None:
        labels = np.issubdtype(condition.dtype, np.integer)
        dtype = np.min_scalar_type(int(condition.max())) if labels else np.float32
        arrays["labels"] = condition.astype(dtype)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _unpack(content, name):
    """Return the header, the stream, and the labels or vectors y or None.

    Raises:
        InvalidFile: the content is not what `_pack` returns, or of another format.
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
    """Return what `_unpack` does, or raise an error of any kind."""
    header = _Header(**fields)
    whole("num_images", header.num_images)
    whole("batch_size", header.batch_size)
    if header.batch_size > header.num_images:
        raise ValueError("a batch of more images than there are")
    stream, labels = arrays["stream"].astype(np.uint32, casting="safe"), arrays.get("labels")
    if stream.ndim != 1 or (labels is not None and labels.shape[:1] != (header.num_images,)):
        raise ValueError("arrays of other shapes")
    return header, stream, labels


def _check_belongs(header, model, name):
    """Refuse a file of another model; only this one gives its codes their meaning.

    Raises:
        InvalidFile: with both fingerprints.
    """
    theirs = header.code_shape, header.codebook_size, header.model
    mine = list(model.code_shape), model.codebook_size, fingerprint(model)
    if theirs != mine:
        raise InvalidFile(
            f"{name} was written with another model, or with this one before its weights or its "
            f"prior changed: it has codes of shape {theirs[0]} from a codebook of {theirs[1]} and "
            f"the fingerprint {theirs[2]}, this model {mine[0]}, {mine[1]} and {mine[2]}. Use the "
            "run that it was written with."
        )


def _check_size(header, model, name):
    """Refuse a file whose images would not fit into memory, at once or a batch at a time.

    Raises:
        InvalidFile: they would not.
    """
    positions = math.prod(model.code_shape)
    images = 4 * header.num_images * (positions + math.prod(model.x_shape))
    batch = 8 * 4 * header.batch_size * max(positions, model.codebook_size)
    if max(images, batch) > memory.limit():
        raise InvalidFile(
            f"{name} says it holds {header.num_images:,} images in batches of "
            f"{header.batch_size:,}, which take {memory.text(max(images, batch))} of memory; "
            f"{memory.text(memory.limit())} can be had. It is damaged, or needs a larger machine; "
            f"{memory.VARIABLE} sets the limit."
        )


def _wrong_codes(name):
    return InvalidFile(
        f"{name} cannot be decoded: its codes have another checksum. Either it is damaged, or the "
        "prior's arithmetic differs on this machine from that where it was written (processor, "
        "version or settings of TensorFlow); expected one that rounds alike. Decode it there, or "
        "write it again here."
    )


def _checksum(codes) -> int:
    return zlib.crc32(np.ascontiguousarray(codes, "<i4"))


def _read(file) -> tuple[str, bytes]:
    """Return what to call a file in messages, and its content."""
    if isinstance(file, (bytes, bytearray, memoryview)):
        return "The file", bytes(file)
    try:
        return str(file), Path(file).read_bytes()
    except OSError as error:
        raise InvalidFile(f"Cannot read {file}: {error.strerror}.") from None


def _even(count, most) -> int:
    """Return the size of the smallest batches that are as few as batches of at most `most`."""
    return math.ceil(count / math.ceil(count / most))


def _one_for_each(model, condition, count) -> np.ndarray | None:
    """Return conditions `[N, ...]`, None for a model without."""
    y = model.check_condition(condition, count)
    return (
        None if y is None else np.broadcast_to(y.numpy(), (count, *model.condition.spec.shape[1:]))
    )


def _labels(model, condition, count) -> np.ndarray:
    """Return the labels `[N]` that the prior is given, all 0 if it has no classes."""
    given = model.condition_of_prior(condition)
    return np.zeros(count, np.int32) if given is None else given


def _checked_condition(model, condition, count, name):
    """Return what a file holds of y, or refuse a file of another model.

    Raises:
        InvalidFile: it holds other conditions than the model has.
    """
    try:
        return _one_for_each(model, condition, count)
    except (InvalidArgument, InvalidData) as error:
        raise InvalidFile(f"{name} does not hold the conditions of this model: {error}") from None


def _check(model, path=None, batch_size=1):
    whole("batch_size", batch_size)
    if not isinstance(model, CodeModel):
        raise InvalidArgument(
            f"The codec got {type(model).__name__}; expected a model of codes, VQVAE or "
            "HierarchicalVQVAE, whose latents are integers that can be written."
        )
    if path is not None and Path(path).suffix.lower() != _ENDING:
        raise InvalidArgument(
            f"Cannot write codes to {path}; expected a name that ends in {_ENDING}."
        )


def _check_built(model):
    if not model.built:
        raise InvalidArgument(
            f"{model.name} has no weights yet, since it waits for the shape of its data; expected "
            "the model that encodes or has encoded the images. Fit it or load it first."
        )
