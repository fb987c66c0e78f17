"""A range coder for codes, driven by the probabilities of a prior at each position.

An ideal entropy coder writes codes in −log2 p(codes) bits. The range coder used here stays within a
few bytes of that where the prior expects the codes. Its probabilities are multiples of 2^-24 and
none is 0, so no code takes more than 24 bits, however improbable, and a code that is certain among
K takes about 1.4 K/2^24 bits, not none.

Decoding repeats the prior's arithmetic and must arrive at the same bits. Encoder and decoder both
run the prior one position at a time, in batches of one size, in a graph that is traced for that
size alone. Another machine (its processor, its build of TensorFlow) may still round differently.

Sources: Martin 1979, "Range encoding: an algorithm for removing redundancy from a digitised
message"; Bamler 2022, "Understanding entropy coding with asymmetric numeral systems (ANS): a
statistician's perspective" (`constriction`, whose coder this is).
"""

import math
from collections.abc import Callable, Iterator

import constriction
import numpy as np
import tensorflow as tf

from tfvae.code_priors import CodePrior
from tfvae.codec.streams import Undecodable
from tfvae.errors import InvalidArgument

_BITS_OF_STATE = 64  # of a coder, beside its stream
_ROUNDING = 2.0**-20
# Probabilities in fixed point of 24 bits, none of them 0, quick to make anew for every position.
_FAMILY = constriction.stream.model.Categorical(perfect=False)


class Walk:
    """A prior's log p(code | codes before) at each position, with the same rounding at both ends.

    Rounding of sums depends on the sizes of tensors and on the graph. So every batch has
    `batch_size` rows, the last one filled up with zeros, and the graph belongs to this object: a
    shared one may have been traced for tensors of any size.

    Args:
        prior: a `CodePrior`.
        batch_size: examples of a batch.
    """

    def __init__(self, prior: CodePrior, batch_size: int):
        self.prior, self.batch_size = prior, batch_size
        self._step = tf.function(prior.step, autograph=False)

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


class Writer:
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


class Reader:
    """Reads the codes that a `Writer` wrote to a stream.

    After its end a stream continues with zeros, also in a file that claims more images than it has.
    So reading stops when the bits of the stream are used up.
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
            raise Undecodable from None
        # At least; the coder rounds probabilities to multiples of 2^-24, and none to 0.
        self._bits_left += np.log2(np.minimum(1.0, p[np.arange(len(p)), codes] + _ROUNDING)).sum()
        if self._bits_left < 0:
            raise Undecodable
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
    """Return probabilities in the coder's form, which needs an alphabet of two symbols or more."""
    p = np.exp(log_p)
    return p if p.shape[1] > 1 else np.pad(p, [(0, 0), (0, 1)])
