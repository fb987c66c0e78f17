"""Lossless compression of examples with a VAE, by `bits_back`."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfvae._plain import memory
from tfvae._plain.checks import whole
from tfvae._plain.files import atomic
from tfvae.codec import file_format
from tfvae.codec.bit_stack import Stack
from tfvae.codec.bits_back import Coder, growing_batches
from tfvae.codec.checks import check_built, check_path, condition_in_file
from tfvae.codec.levels import check_listed, num_levels_of, to_levels, values_of_levels
from tfvae.codec.streams import Undecodable
from tfvae.errors import InvalidArgument
from tfvae.evaluation.batches import batches_beside_condition, track
from tfvae.models import VAE
from tfvae.models.precision import HALF, in_float32

_BATCH_SIZE = 64
_MOST_MEMORY = 64 << 20  # bytes of the probabilities of a batch


@dataclasses.dataclass(frozen=True)
class Lossless:
    """Examples as the bytes of a file from which they come back exactly.

    Attributes:
        content: the file, an `.npz`.
        num_examples: how many there are.
        stream_bytes: size of the entropy-coded part of `content`.
        initial_bits: bits of a seeded generator that the first examples took from the stack. They
            are part of the stream, and are no information about the examples.
        elbo_bits: Σ log2 q(z|x) − log2 p(x|z) − log2 p(z) over the examples, at the z that the
            coder drew: the net size for an ideal coder, and an estimate of −ELBO/ln 2.
        x_shape: shape of one example.
    """

    content: bytes
    num_examples: int
    stream_bytes: int
    initial_bits: int
    elbo_bits: float
    x_shape: tuple[int, ...]

    @property
    def net_bits(self) -> int:
        """Bits of the stream without the initial ones, to within a word of 32."""
        return 8 * self.stream_bytes - self.initial_bits

    @property
    def bits_per_dim(self) -> float:
        """Bits of the whole file for each value of x."""
        return 8 * len(self.content) / (self.num_examples * math.prod(self.x_shape))

    def summary(self) -> dict:
        """Return the sizes as a dictionary of plain numbers, for JSON."""
        names = {3: "num_images", 2: "num_series"}
        return {
            names.get(len(self.x_shape), "num_examples"): self.num_examples,
            "bytes": len(self.content),
            "stream_bytes": self.stream_bytes,
            "initial_bits": self.initial_bits,
            "net_bits": self.net_bits,
            "elbo_bits": self.elbo_bits,
            "bits_per_dim": self.bits_per_dim,
        }


def compress_lossless(
    model: VAE,
    x: np.ndarray | tf.Tensor | tf.data.Dataset,
    path: str | Path | None = None,
    condition: np.ndarray | tf.Tensor | int | None = None,
    batch_size: int | None = None,
    precision: int = 12,
    progress: bool = False,
) -> Lossless:
    """Write examples by bits-back coding; `decompress_lossless` returns them exactly.

    Args:
        model: a `VAE` whose likelihood is one of finitely many values ("bernoulli", "categorical",
            "ordinal", "discretized_logistic_mixture"), or of counts; whose posterior is independent
            normals, bits or categories; and whose prior is the same or a mixture of normals
            ("mixture", "vamp").
        x: an array `[N, *x_shape]`, the `tfvae.data.Examples` of a split, or a batched
            `tf.data.Dataset`. Every value lies on a level k / (L − 1), or is a count.
        path: where to write the file, a name ending in .npz; None to write none.
        condition: y, labels `[N]` or vectors `[N, C]` or one for all, where the model takes one:
            the file keeps them. Else None.
        batch_size: the most examples at a time, here and in `decompress_lossless`; by default 64,
            or fewer where their probabilities would take much memory.
        precision: a continuous latent is one of 2^precision buckets. More of them cost memory and
            initial bits, fewer cost net bits where q(z|x) is narrow or far from the prior.
        progress: whether to show a progress bar on standard error.

    Raises:
        InvalidArgument: a model that cannot be coded, with what can; a condition that is missing or
            not wanted; a path with another ending.
        InvalidData: data that is empty, does not fit the model, or lies between its levels.
        InvalidFile: the file cannot be written.
    """
    check_path(path)
    model = _ready(model)
    precision = whole("precision", precision)
    batch_size = None if batch_size is None else whole("batch_size", batch_size)
    if not 1 < precision <= file_format.MOST_PRECISION:
        raise InvalidArgument(
            f"`precision` is {precision}; expected 2 to {file_format.MOST_PRECISION} bits."
        )
    parts, count = batches_beside_condition(model, x, condition, 1000)
    pairs = [(part.numpy(), y) for part, y in track(parts, count, "reading", progress)]
    x = np.concatenate([part for part, _ in pairs])
    if condition is None and model.condition is not None:  # it came with the batches
        condition = np.concatenate([y for _, y in pairs])
    y = model.condition_of_each(condition, len(x))
    num_levels = num_levels_of(model.likelihood) or max(2, int(x.max()) + 1)
    each = file_format.bytes_without_loss(model, num_levels, precision)
    if batch_size is None:
        batch_size = min(_BATCH_SIZE, max(1, _MOST_MEMORY // each))
    batch_size = min(batch_size, len(x))
    advice = "Use fewer examples at a time or, of counts, leave out examples with very large ones."
    memory.check_request(batch_size, each, "examples at a time", advice)
    values = values_of_levels(model.likelihood, num_levels)
    levels = to_levels(model.likelihood, x, values)
    stack = Stack.of_random_bits()
    coder = Coder(model, values, batch_size, precision)
    rows = list(growing_batches(len(x), batch_size))
    for part in track(rows, len(rows), "coding", progress):
        coder.push(stack, levels[part], None if y is None else y[part])
    stream, initial_bits = stack.finish()
    header = file_format.LosslessHeader(
        format=file_format.FORMAT,
        num_images=len(x),
        x_shape=list(x.shape[1:]),
        num_levels=len(values),
        precision=precision,
        batch_size=batch_size,
        crc32=file_format.checksum(levels),
        model=file_format.fingerprint(model),
    )
    content = file_format.pack(header, stream, y)
    if path is not None:
        with atomic(path) as temporary:
            temporary.write_bytes(content)
    shape = tuple(x.shape[1:])
    return Lossless(content, len(x), stream.nbytes, initial_bits, stack.ideal_bits, shape)


def decompress_lossless(model: VAE, file: str | Path | bytes, progress: bool = False) -> np.ndarray:
    """Return the examples in a file of `compress_lossless`, `[N, *x_shape]` float32.

    Every value is the float32 of its level k / (L − 1), or its count.

    Args:
        model: the `VAE` that the file was written with.
        file: the path of the file, or its bytes.
        progress: whether to show a progress bar on standard error.

    Raises:
        InvalidFile: the file is missing, damaged, truncated or foreign, belongs to another model,
            or the networks' arithmetic differs on this machine from that where it was written.
        InvalidArgument: a model that cannot be coded.
    """
    model = _ready(model)
    name, content = file_format.read(file)
    header, stream, y = file_format.unpack(content, name)
    file_format.check_belongs_without_loss(header, model, name)
    file_format.check_size(header, model, name)
    y = condition_in_file(model, y, header.num_images, name)
    values = values_of_levels(model.likelihood, header.num_levels)
    coder = Coder(model, values, header.batch_size, header.precision)
    levels = np.empty([header.num_images, *model.x_shape], np.int32)
    rows = list(growing_batches(header.num_images, header.batch_size))[::-1]
    try:
        stack = Stack(stream)
        for part in track(rows, len(rows), "decoding", progress):
            count = part.stop - part.start
            levels[part] = coder.pop(stack, count, None if y is None else y[part])
    except Undecodable:
        raise file_format.wrong_codes(name, "model") from None
    if file_format.checksum(levels) != header.crc32:
        raise file_format.wrong_codes(name, "model")
    return values[levels]


def _ready(model):
    """Return the model as the codec runs it: in float32, if it computes in half precision.

    Raises:
        InvalidArgument: it cannot be coded, as far as its parts show; with what can be.
    """
    if not isinstance(model, VAE):
        raise InvalidArgument(
            f"The codec got {type(model).__name__}; expected a VAE, whose one layer of latents "
            "allows files without loss by bits-back coding, or for tfvae.codec.compress a VQVAE or "
            "HierarchicalVQVAE."
        )
    check_built(model)
    check_listed(model.likelihood)
    return in_float32(model, HALF)
