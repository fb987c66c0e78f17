"""A stack of bits, and the codes by which symbols are pushed on it and popped.

Popping is the inverse of pushing. So a stack can draw: popped under the probabilities p, bits that
look random give symbols that look like draws from p, and pushing these gives back the bits.

Sources: Duda 2009, "Asymmetric numeral systems"; the coder is `constriction`.
"""

import math

import constriction
import numpy as np
from scipy.special import ndtr, ndtri

from tfvae.codec.streams import Undecodable
from tfvae.errors import InvalidArgument

_FAMILY = constriction.stream.model.Categorical(perfect=False)
_BITS_OF_SYMBOL = 24  # at most, as in the range coder
_WORD = 32
_STATE = 2  # words of the coder's state, above which the others lie
_SEED = 0


class Stack:
    """A stack of bits, on which arrays of symbols are pushed and from which they are popped.

    Popping is the inverse of pushing, whatever lies below: `pop(p)` under the probabilities p of
    the last `push(symbols, p)` returns the symbols and leaves the stack as it was before. As in
    `range_coder`, probabilities are multiples of 2^-24, and none is 0.

    Args:
        words: the stack, uint32, the top last.

    Attributes:
        ideal_bits: −log2 p of all symbols pushed, less that of all popped.
    """

    def __init__(self, words: np.ndarray):
        try:
            self._coder = constriction.stream.stack.AnsCoder(words)
        except ValueError:  # the top word is 0
            raise Undecodable from None
        self.ideal_bits = 0.0
        self._random, self._num_random = None, 0
        self._lowest = len(words)

    @classmethod
    def of_random_bits(cls) -> "Stack":
        """Return a stack that `reserve` fills from below with bits of a seeded generator."""
        stack = cls(np.array([1, 1], np.uint32))  # the least state with a full word
        stack._random, stack._num_random = np.random.default_rng(_SEED), _STATE
        return stack

    def reserve(self, num_symbols: int) -> None:
        """Put random words below the others, so that so many symbols can be popped."""
        needed = _STATE + math.ceil(num_symbols * _BITS_OF_SYMBOL / _WORD)
        missing = needed - self._coder.num_words()
        if missing > 0:
            words = self._random.integers(0, 1 << _WORD, missing, dtype=np.uint32)
            below = np.concatenate([words, self._coder.get_compressed()])
            self._coder = constriction.stream.stack.AnsCoder(below)
            self._num_random += missing
            self._lowest += missing

    def push(self, symbols: np.ndarray, p: np.ndarray) -> None:
        """Push symbols `[n]` under probabilities `[n, L]`."""
        symbols = np.ascontiguousarray(symbols, np.int32)
        self._coder.encode_reverse(symbols, _FAMILY, _of_two(p))
        self.ideal_bits -= _log2(p, symbols)

    def pop(self, p: np.ndarray) -> np.ndarray:
        """Pop symbols `[n]` under probabilities `[n, L]`."""
        try:
            symbols = self._coder.decode(_FAMILY, _of_two(p))
        except AssertionError:
            raise Undecodable from None
        self._lowest = min(self._lowest, self._coder.num_words())
        self.ideal_bits += _log2(p, symbols)
        return symbols

    def check(self) -> None:
        """Refuse a stack that has come to its end before its last example."""
        if self._coder.num_words() < _STATE:
            raise Undecodable

    def finish(self) -> tuple[np.ndarray, int]:
        """Return the words, without the random ones that were never popped, and the bits of those.

        The bits are those of the generator that were used, which are among the words.
        """
        unused = min(max(self._lowest - _STATE, 0), self._num_random)
        return self._coder.get_compressed()[unused:], _WORD * (self._num_random - unused)


def _of_two(p):
    """Return probabilities of an alphabet of two symbols or more, which the coder needs."""
    return p if p.shape[1] > 1 else np.pad(p, [(0, 0), (0, 1)])


def _log2(p, symbols):
    chosen = p[np.arange(len(p)), symbols]
    return float(np.log2(np.maximum(chosen, 2.0**-_BITS_OF_SYMBOL)).sum())


class Table:
    """Independent symbols with log-probabilities `[n, L]`, up to a constant for each.

    Raises:
        InvalidArgument: they are not numbers.
    """

    def __init__(self, log_p: np.ndarray):
        log_p = np.asarray(log_p, np.float64)
        largest = log_p.max(axis=1, keepdims=True)
        if not np.isfinite(largest).all():
            raise _diverged()
        p = np.exp(log_p - largest)
        self._p = p / p.sum(axis=1, keepdims=True)

    def push(self, stack, symbols):
        """Push symbols `[n]`."""
        stack.push(symbols, self._p)

    def pop(self, stack):
        """Pop symbols `[n]`."""
        return stack.pop(self._p)


class Buckets:
    """Independent normals `[n]` over the 2^precision buckets of equal mass under N(0, 1).

    A bucket is coded in two digits, first which of the coarse buckets it lies in, so that each
    takes a table of about 2^(precision/2) probabilities.
    """

    def __init__(self, loc: np.ndarray, scale: np.ndarray, precision: int):
        if not (np.isfinite(loc).all() and np.isfinite(scale).all()):
            raise _diverged()
        self._loc, self._scale = loc, scale
        self._coarse, self._fine = 1 << precision // 2, 1 << precision - precision // 2

    def push(self, stack, symbols):
        """Push buckets `[n]`."""
        high, low = np.divmod(symbols, self._fine)
        stack.push(low, self._within(high))
        stack.push(high, self._among())

    def pop(self, stack):
        """Pop buckets `[n]`."""
        high = stack.pop(self._among())
        return high * self._fine + stack.pop(self._within(high))

    def _among(self):
        """Return the masses of the coarse buckets, `[n, coarse]`."""
        return self._masses(np.arange(self._coarse + 1)[np.newaxis] / self._coarse)

    def _within(self, high):
        """Return the masses of the buckets inside of coarse ones, `[n, fine]`."""
        share = np.arange(self._fine + 1) / self._fine
        return self._masses((high[:, np.newaxis] + share) / self._coarse)

    def _masses(self, quantiles):
        """Return the normals' shares of what lies between quantiles of N(0, 1), `[n, edges − 1]`.

        They are differences of the smaller tail, which do not cancel. In a coarse bucket to which
        the normal gives no mass all of them underflow. The coder gives it its smallest probability
        all the same, and the buckets inside count as equal.
        """
        edges = (ndtri(quantiles) - self._loc[:, np.newaxis]) / self._scale[:, np.newaxis]
        below, above = np.diff(ndtr(edges)), -np.diff(ndtr(-edges))
        masses = np.where(edges[:, :-1] > 0, above, below)
        total = masses.sum(axis=1, keepdims=True)
        some = total > 1e-280
        return np.where(some, masses / np.where(some, total, 1.0), 1.0 / masses.shape[1])


def _diverged():
    return InvalidArgument(
        "The model's networks give numbers that are not finite, hence no probabilities. Its "
        "training has diverged: fit it again, with a lower learning rate."
    )


class Continuous:
    """Latents in buckets of equal mass under a normal, whose numbers are those of p(z).

    Args:
        prior: μ and σ of normals, `[rows or 1, D]`, or log w `[C]`, μ and log σ `[C, D]` of a
            mixture.
        precision: of the buckets.
    """

    def __init__(self, prior: tuple[np.ndarray, ...], precision: int):
        self._precision = precision
        self._mixture = None
        if len(prior) == 2:
            self._loc, self._scale = prior
            return
        log_weights, loc, log_scale = prior
        weights, squares = np.exp(log_weights), np.exp(2.0 * log_scale) + loc**2
        self._loc = (weights @ loc)[np.newaxis]
        self._scale = np.sqrt(weights @ squares - self._loc**2)
        self._mixture = log_weights, loc, log_scale

    def values(self, symbols: np.ndarray) -> np.ndarray:
        """Return z of buckets `[rows, D]`, float32."""
        middle = ndtri((symbols + 0.5) / (1 << self._precision))
        return (self._loc + self._scale * middle).astype(np.float32)

    def posterior(self, loc, scale) -> Buckets:
        """Return the code of the buckets under q(z|x), of μ and σ `[rows, D]`."""
        return self._buckets(loc, scale, loc.shape)

    def _buckets(self, loc, scale, shape):
        scaled = (loc - self._loc) / self._scale, scale / self._scale
        return Buckets(*(np.broadcast_to(part, shape).ravel() for part in scaled), self._precision)

    def push(self, stack, symbols: np.ndarray) -> None:
        """Push buckets `[rows, D]` under p(z)."""
        if self._mixture is None:
            self._buckets(self._loc, self._scale, symbols.shape).push(stack, symbols.ravel())
            return
        log_weights, loc, log_scale = self._mixture
        component = self._responsibilities(symbols).pop(stack)
        normals = self._buckets(loc[component], np.exp(log_scale[component]), symbols.shape)
        normals.push(stack, symbols.ravel())
        Table(np.broadcast_to(log_weights, [len(symbols), len(log_weights)])).push(stack, component)

    def pop(self, stack, shape: tuple[int, int]) -> np.ndarray:
        """Pop buckets `[rows, D]` under p(z): the inverse of `push`."""
        if self._mixture is None:
            return self._buckets(self._loc, self._scale, shape).pop(stack).reshape(shape)
        log_weights, loc, log_scale = self._mixture
        component = Table(np.broadcast_to(log_weights, [shape[0], len(log_weights)])).pop(stack)
        normals = self._buckets(loc[component], np.exp(log_scale[component]), shape)
        symbols = normals.pop(stack).reshape(shape)
        stack.check()
        self._responsibilities(symbols).push(stack, component)
        return symbols

    def _responsibilities(self, symbols):
        """Return the code of the component given z, p(c|z) ∝ w_c N(z; μ_c, σ_c²)."""
        log_weights, loc, log_scale = self._mixture
        z, precision = self.values(symbols).astype(np.float64), np.exp(-2.0 * log_scale)
        squares = z**2 @ precision.T - 2.0 * z @ (loc * precision).T + (loc**2 * precision).sum(1)
        return Table(log_weights - log_scale.sum(1) - 0.5 * squares)


class Discrete:
    """Latents of C states, the numbers of p(z) being log-probabilities `[..., D, C]`.

    Args:
        prior: of one array.
        one_hot: whether a value is one-hot, and not its number, 0 or 1.
    """

    def __init__(self, prior: tuple[np.ndarray], one_hot: bool):
        self._log_p, self._one_hot = prior[0], one_hot

    def values(self, symbols: np.ndarray) -> np.ndarray:
        """Return z of states `[rows, D]`, float32, with the last axis one-hot or without."""
        num_states = self._log_p.shape[-1]
        if self._one_hot:
            return np.eye(num_states, dtype=np.float32)[symbols]
        return symbols.astype(np.float32)

    def posterior(self, log_p) -> Table:
        """Return the code of the states under q(z|x), of log-probabilities `[rows, D, C]`."""
        return Table(log_p.reshape(-1, log_p.shape[-1]))

    def _prior(self, shape):
        log_p = np.broadcast_to(self._log_p, [*shape, self._log_p.shape[-1]])
        return self.posterior(log_p)

    def push(self, stack, symbols: np.ndarray) -> None:
        """Push states `[rows, D]` under p(z)."""
        self._prior(symbols.shape).push(stack, symbols.ravel())

    def pop(self, stack, shape: tuple[int, int]) -> np.ndarray:
        """Pop states `[rows, D]` under p(z)."""
        return self._prior(shape).pop(stack).reshape(shape)
