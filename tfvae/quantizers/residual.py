"""A residual quantizer: several levels, each for the remainder of the levels before it."""

import functools
import operator

import numpy as np
import tensorflow as tf

from tfvae import random
from tfvae._plain.checks import probability, whole
from tfvae.errors import InvalidArgument
from tfvae.quantizers import Quantizer, gradients
from tfvae.quantizers.composite import Composite
from tfvae.quantizers.quantizer import REGISTRY, Quantized


@REGISTRY.register("residual")
class ResidualQuantizer(Composite):
    """z ≈ e_1 + … + e_Q, where level l quantizes the remainder r_l = z − sg[e_1 + … + e_{l−1}].

    The loss is the sum of the losses of the levels. Every commitment term has a gradient in z,
    since the earlier levels are subtracted as constants; if their straight-through vectors, whose
    gradient in z is 1, were subtracted, each remainder after the first would have gradient 0. From
    the sum of all levels the gradient passes to z once, by the rule of the levels. Levels whose
    vectors have a gradient of their own kind ("fsq", "gumbel") are differentiated through the whole
    chain instead.

    With quantizer dropout, a training call keeps only the first n levels, with probability
    `dropout`, n uniform on 1, …, Q − 1, for the whole batch on all replicas: one codebook then
    serves several rates. The other levels get no update and no loss, and their codes are −1, which
    `lookup` leaves out as well: `lookup(tf.where(tf.range(Q) < n, codes, -1))` decodes the first n
    levels of any codes.

    Use levels that can follow the remainder to smaller scales, and not vectors of a fixed length
    (`similarity="cosine"`, "lfq").

    Source: Zeghidour et al. 2021, "SoundStream: an end-to-end neural audio codec", sec. III-C; Lee
    et al. 2022, "Autoregressive image generation using residual quantization", sec. 3.1.

    Args:
        quantizer: the one that every level is a copy of, of one code a vector, or its name.
        num_quantizers: Q.
        dropout: probability that a training call leaves levels out.
        seed: any integer.

    Raises:
        InvalidArgument: a value that cannot be used, or dropout with a single level.
    """

    def __init__(
        self,
        quantizer: str | Quantizer,
        num_quantizers: int,
        dropout: float = 0.0,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(quantizer, whole("num_quantizers", num_quantizers), seed, **kwargs)
        self.num_quantizers = len(self.parts)
        self.gradient = self.parts[0].gradient
        self.dropout = probability("dropout", dropout)
        if dropout and self.num_quantizers == 1:
            raise InvalidArgument(
                f"`dropout` is {dropout} with num_quantizers=1; expected 0, since the first level "
                "is always kept. Use dropout=0 or more levels."
            )

    def quantize_flat(self, vectors, training):
        remainder, levels = vectors, []
        for part, keep in zip(self.parts, self._kept(training), strict=True):
            level = part.quantize_flat(remainder, training)
            if self.gradient:
                level = level._replace(vectors=tf.stop_gradient(level.vectors))
            remainder = remainder - level.vectors
            levels.append(_masked(level, keep))
        total = _sum([level.vectors for level in levels])
        if self.gradient:
            total = gradients.GRADIENTS[self.gradient](vectors, total)
        codes = tf.stack([level.codes for level in levels], axis=-1)
        return Quantized(total, codes, _sum([level.loss for level in levels]))

    def update(self, vectors, codes, active=True):
        """Update the levels that were kept; see `Quantizer.update`."""
        remainder = tf.stop_gradient(vectors)
        kept = self._kept(training=True)
        for part, keep, own in zip(self.parts, kept, tf.unstack(codes, axis=-1), strict=True):
            # Before the update, which may change the table.
            following = remainder - _lookup(part, own)
            part.update(remainder, own, active & keep)
            remainder = following
        super().update(vectors, codes, active)

    def lookup(self, codes):
        """Return the sum of the vectors of all levels; a level whose code is −1 is left out."""
        levels = tf.unstack(codes, num=self.num_quantizers, axis=-1)
        return _sum([_lookup(part, own) for part, own in zip(self.parts, levels, strict=True)])

    def are_codes(self, numbers):
        """Return whether these are codes; with dropout, the last levels may be −1."""
        if not self.dropout:
            return super().are_codes(numbers)
        out = numbers == -1
        only_last = not np.any(out[..., 0]) and np.all(out[..., 1:] >= out[..., :-1])
        return bool(only_last) and super().are_codes(np.where(out, 0, numbers))

    @property
    def expected_codes(self):
        """Which numbers are codes, for messages."""
        left_out = ", or −1 at levels that are left out, the last of each vector"
        return super().expected_codes + (left_out if self.dropout else "")

    def initialize(self, vectors):
        """Start every level from the remainder that the levels before it leave of the data."""
        if not self.needs_data:
            return
        self._check_size(np.shape(vectors))
        remainder = tf.convert_to_tensor(vectors, tf.float32)
        for part in self.parts:
            part.initialize(remainder)
            remainder = remainder - part(remainder).vectors

    def _kept(self, training):
        """Return which levels count in this call, Q boolean scalars; the same on every replica."""
        depth = self.num_quantizers
        if training and self.dropout:
            seed = random.make_seed(self.seed)
            seed = random.fold_in(seed, int(random.Stream.QUANTIZE), self.step)
            drops, share = tf.unstack(random.stateless_uniform([2], seed))
            fewer = 1 + tf.cast(share * (self.num_quantizers - 1), tf.int32)
            depth = tf.where(drops < self.dropout, fewer, self.num_quantizers)
        return tf.unstack(tf.range(self.num_quantizers) < depth)

    def get_config(self):
        own = {"num_quantizers": self.num_quantizers, "dropout": self.dropout}
        return {**super().get_config(), **own}


def _masked(level, keep):
    """Return the result of a level, with nothing from it where `keep` is False."""
    factor = tf.cast(keep, tf.float32)
    codes = tf.where(keep, level.codes, -1)
    return Quantized(factor * level.vectors, codes, factor * level.loss)


def _lookup(part, codes):
    used = tf.cast(codes >= 0, tf.float32)[..., tf.newaxis]
    return used * part.lookup(tf.maximum(codes, 0))


def _sum(tensors):
    # One after the other: `quantize_flat` and `lookup` must round in the same way.
    return functools.reduce(operator.add, tensors)
