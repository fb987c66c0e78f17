"""Images as files of codes: the encoder finds them, the prior and an entropy coder write them small.

A `CodeModel` with a prior is a lossy image codec. Its codes take −log2 p(codes) bits with an ideal
entropy coder; the range coder used here comes within a few bytes of that.

Decoding repeats the prior's arithmetic and must get the same bits. At both ends the prior runs a
position at a time, in batches of one shape, in a graph that was traced for this shape alone. Between
machines (another processor, number of threads or version of TensorFlow) rounding may still differ: a
checksum of the codes finds that out, and there are never wrong images.

Sources: Martin 1979, "Range encoding: an algorithm for removing redundancy from a digitised
message"; Bamler 2022, "Understanding entropy coding with asymmetric numeral systems (ANS): a
statistician's perspective" (`constriction`, the coder).
"""

import dataclasses
import hashlib
import io
import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path

import constriction
import numpy as np
import tensorflow as tf

from tfvae.checks import whole
from tfvae.code_priors.data import check_condition
from tfvae.errors import InvalidArgument, InvalidFile
from tfvae.evaluation.batches import as_array, batches, track
from tfvae.files import atomic
from tfvae.models import CodeModel

FORMAT = 1
_EXPECTED = "Expected an .npz that `tfvae encode` or tfvae.codec.compress wrote."
_QUALITY_BATCH_SIZE = 100
_SSIM_FILTER_SIZE = 11


@dataclasses.dataclass(frozen=True)
class Compressed:
    """Images as the bytes of a file.

    Attributes:
        content: what stands in the file, an `.npz`.
        codes: the codes of the images, `[N, *code_shape]` int32.
        prior_bits: −log2 p(codes) of all images together, under the prior (given the labels, where
            there are classes): what an ideal coder needs.
        stream_bytes: size of the entropy-coded part of `content`.
        image_shape: shape of one image.
    """

    content: bytes
    codes: np.ndarray
    prior_bits: float
    stream_bytes: int
    image_shape: tuple[int, ...]

    @property
    def bits_per_pixel(self) -> float:
        """Bits of the whole file for a pixel, which is a site of the image with all its channels."""
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
    model, x, path=None, condition=None, batch_size: int = 64, progress: bool = False
) -> Compressed:
    """Write images as their codes.

    Args:
        model: a `CodeModel`, with the prior that is to code them.
        x: an array `[N, *x_shape]`, or a batched `tf.data.Dataset` of such.
        path: where to write the file, a name ending in .npz; None to write none.
        condition: labels `[N]` or one label for all, where the prior has classes; they are kept in
            the file. Else None.
        batch_size: the most images that the prior runs on at a time, here and in `decompress`:
            larger ones are faster and take more memory.
        progress: whether to show a progress bar on standard error.

    Returns:
        A `Compressed`.

    Raises:
        InvalidArgument: the model has no codes, its prior no probabilities (NaN), labels are
            missing or not wanted, or the path ends in something else.
        InvalidData: data that is empty or does not fit the model, or labels that do not.
        InvalidFile: the file cannot be written.
    """
    _check_model(model)
    encode = tf.function(model.encode, reduce_retracing=True)
    parts, _ = batches(model, x, batch_size)
    codes = np.concatenate([encode(part).numpy() for part in parts])
    return compress_codes(model, codes, path, condition, batch_size, progress)


def compress_codes(
    model, codes, path=None, condition=None, batch_size: int = 64, progress: bool = False
) -> Compressed:
    """Write codes `[N, *code_shape]`, those that `model.encode` gives; see `compress`.

    Raises:
        InvalidData: not codes of this model, or labels that do not fit.
        InvalidArgument: as in `compress`.
        InvalidFile: the file cannot be written.
    """
    _check_model(model)
    _check_path(path)
    codes = model.check_codes(codes)
    prior = model.prior
    check_condition(condition, prior.num_classes, len(codes))
    labels = None
    if condition is not None:
        smallest = np.min_scalar_type(prior.num_classes - 1)
        labels = np.broadcast_to(np.asarray(condition), [len(codes)]).astype(smallest)

    batch_size = _even_batches(len(codes), whole("batch_size", batch_size))
    coder = constriction.stream.queue.RangeEncoder()
    bits = 0.0

    def write(code, log_p):
        nonlocal bits
        bits -= log_p[np.arange(len(code)), code].sum() / math.log(2)
        coder.encode(code, _family(), _probabilities(log_p))

    walk = _Walk(prior, batch_size)
    flat = codes.reshape(len(codes), -1)
    for start in track(*_starts(len(codes), batch_size), "coding", progress):
        part = slice(start, start + batch_size)
        given = iter(flat[part].T)

        def next_code(log_p, given=given):
            code = np.ascontiguousarray(next(given))
            write(code, log_p)
            return code

        walk(len(flat[part]), None if labels is None else labels[part], next_code)

    stream = coder.get_compressed()
    header = _Header(
        FORMAT, len(codes), codes.shape[1:], model.codebook_size, batch_size, _crc(codes),
        fingerprint(model),
    )
    content = _pack(header, stream, labels)
    if path is not None:
        with atomic(path) as temporary:
            temporary.write_bytes(content)
    return Compressed(content, codes, float(bits), stream.nbytes, tuple(model.x_shape))
