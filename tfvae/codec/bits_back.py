"""Lossless compression with a VAE: bits-back coding with asymmetric numeral systems (BB-ANS).

The file is a stack of bits, of which an entropy coder can pop symbols of any distribution. To write
an example x,

    pop z under q(z|x),    push x under p(x|z),    push z under p(z).

The stack grows by log q(z|x) − log p(x|z) − log p(z). Bits that look random, popped under q, give a
draw z ~ q(z|x), so that on average it grows by −ELBO(x) nats: by what the model was trained to make
small. To read x, pop z and then x, and push z under q(z|x), which now can be computed; this gives
back the bits that chose z, in which the examples before are written.

The bits for the first z come from a seeded generator. They are a cost of the whole file and not of
an example, so that many examples belong in one file. Batches start at one example and grow, see
`_batches`: a batch pops all of its z from what the batches before it have pushed.

A continuous latent is one of 2^precision buckets of equal mass under its prior, and stands for the
median of its bucket. Then log q − log p is that of the buckets, which for buckets much narrower
than q(z|x) is that of the densities: the bits that finer buckets cost under p(z) are regained when
z is popped under q(z|x), except those that the first examples pop from the seeded bits. Under a
mixture prior the buckets are those of the normal with the mixture's mean and variance, and the
component is one more latent, whose posterior p(component|z) is known. Discrete latents are coded
as they are.

Reading repeats the arithmetic of the networks and must arrive at the same bits. Writer and reader
run them in batches of one size, filled up with zeros, in graphs that are traced for that size
alone; see `range_coder`. Another machine may still round differently, which the checksum shows.

Sources: Townsend, Bird and Barber 2019, "Practical lossless compression with latent variables using
bits back coding"; Duda 2009, "Asymmetric numeral systems"; the coder is `constriction`.
"""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfvae import distributions
from tfvae._plain import memory
from tfvae._plain.checks import whole
from tfvae._plain.files import atomic
from tfvae.codec import file_format
from tfvae.codec.bit_stack import Continuous, Discrete, Stack, Table, Undecodable
from tfvae.codec.interface import check_built, check_path, condition_in_file
from tfvae.distributions import BernoulliLatent, CategoricalLatent, tfd
from tfvae.distributions.normal_mixture import NormalMixture
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.evaluation.batches import batches_beside_condition, track
from tfvae.models import VAE
from tfvae.models.precision import HALF, in_float32

_BATCH_SIZE = 64
_MOST_MEMORY = 64 << 20  # bytes of the probabilities of a batch
_EARLIER = 8  # a batch has at most one example for so many examples before it


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
    num_levels = _num_levels(model) or max(2, int(x.max()) + 1)
    each = file_format.bytes_without_loss(model, num_levels, precision)
    if batch_size is None:
        batch_size = min(_BATCH_SIZE, max(1, _MOST_MEMORY // each))
    batch_size = min(batch_size, len(x))
    advice = "Use fewer examples at a time or, of counts, leave out examples with very large ones."
    memory.check_request(batch_size, each, "examples at a time", advice)
    values = _values(model, num_levels)
    levels = _levels(model, x, values)
    stack = Stack.of_random_bits()
    coder = _Coder(model, values, batch_size, precision)
    rows = list(_batches(len(x), batch_size))
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
    values = _values(model, _num_levels(model) or header.num_levels)
    coder = _Coder(model, values, header.batch_size, header.precision)
    levels = np.empty([header.num_images, *model.x_shape], np.int32)
    rows = list(_batches(header.num_images, header.batch_size))[::-1]
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


def _batches(count: int, most: int) -> Iterator[slice]:
    """Yield the rows of each batch: one example, and more as the stack grows, up to `most`."""
    start = 0
    while start < count:
        size = min(most, max(1, start // _EARLIER), count - start)
        yield slice(start, start + size)
        start += size


class _Coder:
    """Pushes the levels of batches of examples on a stack, and pops them.

    Args:
        model: a VAE.
        values: of the levels, `[L]`.
        batch_size: rows of every tensor that networks are given, the last ones zeros.
        precision: of continuous latents.
    """

    def __init__(self, model: VAE, values: np.ndarray, batch_size: int, precision: int):
        self._model, self._values = model, values
        self._batch_size, self._precision = batch_size, precision
        self._one_hot = model.posterior.kind == "categorical"
        self._num_latents = math.prod(model.latent_shape[: -1 if self._one_hot else None])
        # Where the channels of a site depend on each other, one is coded after the other.
        alone = model.likelihood.missing_unit == "site"
        channels = range(model.x_shape[-1])
        self._parts = [slice(c, c + 1) for c in channels] if alone else [slice(0, None)]
        # Graphs of this object: a shared one may have been traced for tensors of any size.
        graphs = (self._p_z, self._q_z, self._x_parameters, self._p_x)
        self._p_z, self._q_z, self._x_parameters, self._p_x = (
            tf.function(graph, autograph=False) for graph in graphs
        )
        self._p_z_of_all = None if model.prior.takes_condition else _arrays(self._p_z(None))

    def push(self, stack: Stack, levels: np.ndarray, y: np.ndarray | None) -> None:
        """Push examples `[rows, *x_shape]`: z is popped, and x and z are pushed."""
        y = self._filled(y)
        rows, latents = len(levels), self._latents(len(levels), y)
        stack.reserve(rows * (2 * self._num_latents + 1))
        z = self._posterior(latents, levels, y).pop(stack).reshape(rows, -1)
        params = self._x_parameters(self._filled(latents.values(z)), y)
        for part in self._parts[::-1]:
            self._likelihood(params, levels, part).push(stack, levels[..., part].ravel())
        latents.push(stack, z)

    def pop(self, stack: Stack, rows: int, y: np.ndarray | None) -> np.ndarray:
        """Pop examples: z and x are popped, and z is pushed; the inverse of `push`."""
        y = self._filled(y)
        latents, levels = self._latents(rows, y), np.zeros([rows, *self._model.x_shape], np.int32)
        z = latents.pop(stack, (rows, self._num_latents))
        params = self._x_parameters(self._filled(latents.values(z)), y)
        for part in self._parts:
            here = self._likelihood(params, levels, part).pop(stack)
            levels[..., part] = here.reshape(levels[..., part].shape)
        stack.check()
        self._posterior(latents, levels, y).push(stack, z.ravel())
        return levels

    def _latents(self, rows, y):
        """Return the latents of so many examples, given p(z)."""
        numbers = self._p_z_of_all
        if numbers is None:
            numbers = [part[:rows] for part in _arrays(self._p_z(y))]
        if len(numbers) == 1:
            return Discrete(*numbers, self._one_hot)
        return Continuous(numbers, self._precision)

    def _posterior(self, latents, levels, y):
        """Return the code of z under q(z|x)."""
        numbers = _arrays(self._q_z(self._filled(self._values[levels]), y))
        return latents.posterior(*(part[: len(levels)] for part in numbers))

    def _likelihood(self, params, levels, part):
        """Return the code of channels of x under p(x|z) and the channels before them."""
        before = levels.copy()
        before[..., part.start :] = 0  # as they are for a reader
        alone = part.start if len(self._parts) > 1 else None
        log_p = self._p_x(params, self._filled(self._values[before]), alone).numpy()
        return Table(log_p[: len(levels)].reshape(-1, log_p.shape[-1]))

    def _filled(self, rows):
        """Return rows and zeros as a tensor of `batch_size` rows; None for None."""
        if rows is None:
            return None
        zeros = np.zeros([self._batch_size - len(rows), *rows.shape[1:]], rows.dtype)
        return tf.constant(np.concatenate([rows, zeros]))

    # Graphs.

    def _p_z(self, y):
        return _numbers(self._model.p_z(y), self._model.prior)

    def _q_z(self, x, y):
        return _numbers(self._model.q_z_given_x(x, condition=y), self._model.posterior)

    def _x_parameters(self, z, y):
        z = tf.reshape(z, [self._batch_size, *self._model.latent_shape])
        return self._model.x_parameters(z, condition=y)

    def _p_x(self, params, x, channel):
        p_x = self._model.likelihood(params)
        by_level = distributions.log_prob_by_level(p_x, x, self._values)  # [B, ..., C, L]
        if channel is None:
            return by_level
        # The graph then computes this channel alone, where an ellipsis would keep the others.
        return by_level[(*[slice(None)] * (len(by_level.shape) - 2), channel)]


def _arrays(numbers):
    return [part.numpy().astype(np.float64) for part in numbers]


def _numbers(distribution, part) -> tuple[tf.Tensor, ...]:
    """Return the numbers by which `Continuous` and `Discrete` take a distribution.

    Raises:
        InvalidArgument: it is of another kind, with the class of the part that it comes from.
    """
    if isinstance(distribution, CategoricalLatent):
        num_categories = distribution.event_shape[-1]
        units = math.prod(distribution.event_shape[:-1])
        return (tf.reshape(distribution.logits, [-1, units, num_categories]),)
    if isinstance(distribution, BernoulliLatent):
        logits = tf.reshape(distribution.logits, [-1, distribution.event_shape.num_elements()])
        return (tf.stack([tf.math.log_sigmoid(-logits), tf.math.log_sigmoid(logits)], -1),)
    size = distribution.event_shape.num_elements()
    if isinstance(distribution, NormalMixture):
        parts = distribution.loc, distribution.log_scale
        return distribution.log_weights, *(tf.reshape(part, [-1, size]) for part in parts)
    # Not an instance of tfd.Independent where what it holds is of a class of our own.
    is_independent = hasattr(distribution, "reinterpreted_batch_ndims")
    if is_independent and isinstance(distribution.distribution, tfd.Normal):
        normal = distribution.distribution
        return tuple(tf.reshape(part, [-1, size]) for part in (normal.loc, normal.scale))
    raise InvalidArgument(
        f"Bits-back coding cannot draw from {type(part).__name__}, whose units are not independent "
        "given what is known; expected the posterior 'diagonal_normal', 'bernoulli' or "
        "'categorical', and a prior 'standard_normal', 'conditional_normal', 'mixture', 'vamp', "
        "'bernoulli' or 'categorical'."
    )


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
    likelihood, reason = model.likelihood, None
    name = type(likelihood).__name__
    if likelihood.complete() is not likelihood:
        reason = f"{name} is of examples with missing values, which have no code"
    elif likelihood.is_density:
        reason = f"{name} is a density of continuous values, which no finite file holds exactly"
    elif likelihood.missing_unit is None:
        reason = f"the values of {name} depend on each other in ways that are not coded"
    elif any(_is_of_counts(block) for block in getattr(likelihood, "likelihoods", [])):
        reason = f"{name} has columns of counts, which are coded only where all of x is of one kind"
    elif not _is_of_counts(likelihood) and not _num_levels(model):
        reason = f"{name} has columns of different numbers of levels"
    if reason is not None:
        raise InvalidArgument(
            f"The model cannot code examples without loss: {reason}. Expected a likelihood of "
            "values that can be listed: 'bernoulli', 'categorical', 'ordinal', "
            "'discretized_logistic_mixture', 'poisson', 'negative_binomial' or "
            "'zero_inflated_negative_binomial'."
        )
    return in_float32(model, HALF)


def _is_of_counts(likelihood):
    return likelihood.support.whole and likelihood.support.low == 0


def _num_levels(model) -> int:
    """Return the L of the likelihood; 0 if there is none, as of counts, or more than one."""
    blocks = getattr(model.likelihood, "likelihoods", [model.likelihood])
    numbers = {block.num_levels for block in blocks}
    return numbers.pop() or 0 if len(numbers) == 1 else 0


def _values(model, num_levels) -> np.ndarray:
    """Return the values that x may have, `[L]` float32: levels from 0 to 1, or counts."""
    values = np.arange(num_levels, dtype=np.float32)
    return values if _is_of_counts(model.likelihood) else values / np.float32(num_levels - 1)


def _levels(model, x, values) -> np.ndarray:
    """Return for each value of x which of `values` it is, int32.

    Raises:
        InvalidData: it is none of them.
    """
    step = values[1]
    levels = np.round(x / step).astype(np.int32)
    off = np.abs(values[levels] - x) > 1e-3 * step
    if off.any():
        remedy = "Binarize it" if len(values) == 2 else "Give it as it was in training"
        raise InvalidData(
            f"{off.mean():.0%} of the values of `x` lie between the {len(values)} levels of the "
            f"{type(model.likelihood).__name__} likelihood, k / {len(values) - 1}, so that a file "
            f"without loss cannot be written. {remedy}, or train a model of more levels."
        )
    return levels
