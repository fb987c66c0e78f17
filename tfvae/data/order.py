"""The order of an epoch: which image stands at which place, found for any place by itself.

A shuffle is a permutation of 0, …, N − 1 that a key picks, computed at the places that are asked
for: it takes no memory, and the last batch of an epoch is found as soon as the first. It is a
Feistel network over pairs (l, r), l < a, r < b, with the smallest a·b ≥ N for a = 2⌈√N/2⌉, which
maps these pairs one to one; a place that is mapped to N or more is mapped on until it is not.

Sources: Black and Rogaway 2002, "Ciphers with arbitrary finite domains" (the generalized Feistel
network and the walk along a cycle); Steele, Lea and Flood 2014, "Fast splittable pseudorandom
number generators" (the hash, SplitMix64).
"""

import functools
import math

import numpy as np

from tfvae.random import Stream

_ROUNDS = 12
_WORD = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MULTIPLIERS = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


class IndexOrder:
    """An index shuffle: every image may come at every place, whatever stands before it.

    Args:
        count: N.
        seed: with the epoch, picks the permutation.
    """

    def __init__(self, count: int, seed: int):
        self.count, self.seed = count, seed

    def __call__(self, epoch: int, places: np.ndarray) -> np.ndarray:
        """Return the images at places `[n]` of an epoch, int64."""
        return permuted(places, self.count, key_of(self.seed, Stream.SHUFFLE, epoch))


class BlockOrder:
    """A block shuffle, for images that are read a block at a time.

    The blocks are shuffled, so many of them make a window, and the images of a window are shuffled
    among themselves. All images of a block come within one window, which may be any of the epoch.

    Args:
        starts: the first image of every block, `[M]`, ascending from 0.
        count: N.
        blocks_in_window: how many blocks make a window.
        seed: with the epoch, picks the permutations.
    """

    def __init__(self, starts: np.ndarray, count: int, blocks_in_window: int, seed: int):
        self.starts, self.sizes = starts, np.diff(np.append(starts, count))
        self.blocks_in_window, self.seed = blocks_in_window, seed
        self._blocks = functools.lru_cache(maxsize=2)(self._blocks_of_epoch)

    def __call__(self, epoch: int, places: np.ndarray) -> np.ndarray:
        """Return the images at places `[n]` of an epoch, int64."""
        blocks, ends, window_ends = self._blocks(int(epoch))
        images = np.empty(len(places), np.int64)
        windows = np.searchsorted(window_ends, places, side="right")
        for window in np.unique(windows):
            here = windows == window
            first = window_ends[window - 1] if window else 0
            key = key_of(self.seed, Stream.SHUFFLE, epoch, 1 + window)
            within = permuted(places[here] - first, int(window_ends[window] - first), key)
            images[here] = first + within
        which = np.searchsorted(ends, images, side="right")
        block = blocks[which]
        return self.starts[block] + images - (ends[which] - self.sizes[block])

    def _blocks_of_epoch(self, epoch):
        """Return the blocks in their order, and where they and the windows end."""
        number = len(self.starts)
        key = key_of(self.seed, Stream.SHUFFLE, epoch, 0)
        blocks = permuted(np.arange(number), number, key)
        ends = np.cumsum(self.sizes[blocks])
        last = np.arange(self.blocks_in_window - 1, number, self.blocks_in_window)
        return blocks, ends, ends[np.union1d(last, [number - 1])]


def permuted(places: np.ndarray, count: int, key: int) -> np.ndarray:
    """Return where the permutation of 0, …, `count` − 1 that a key picks takes places.

    Args:
        places: `[n]` integers, each from 0 on and below `count`.
        count: N, below 2^62.
        key: an integer of 64 bits.

    Returns:
        `[n]` int64.
    """
    a = 2 * ((math.isqrt(count - 1) + 2) // 2)  # even: else no permutation is odd
    b = -(-count // a)
    keys = [np.uint64(key_of(key, number)) for number in range(_ROUNDS)]
    walking, images = np.arange(len(places)), np.asarray(places, np.uint64)
    while len(walking):
        left, right = np.divmod(images[walking], np.uint64(b))
        for number, round_key in enumerate(keys):
            if number % 2:
                right = _added(right, _hash(left ^ round_key), b)
            else:
                left = _added(left, _hash(right ^ round_key), a)
        images[walking] = left * np.uint64(b) + right
        walking = walking[images[walking] >= count]
    return images.astype(np.int64)


def key_of(*numbers: int) -> int:
    """Return 64 bits that each depend on all of some integers, in their order."""
    key = 0
    for number in numbers:
        key = (key + _GOLDEN + int(number)) & _WORD
        for shift, multiplier in zip((30, 27), _MULTIPLIERS, strict=True):
            key = (key ^ (key >> shift)) * multiplier & _WORD
        key ^= key >> 31
    return key


def _added(number, hashed, size):
    """Return (number + h) mod `size`, where h < `size` is made of the upper half of a hash."""
    size = np.uint64(size)
    total = number + ((hashed >> np.uint64(32)) * size >> np.uint64(32))
    return np.where(total < size, total, total - size)


def _hash(x):
    """Return 64 bits for each number that each depend on all of its bits."""
    for shift, multiplier in zip((30, 27), _MULTIPLIERS, strict=True):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(multiplier)
    return x ^ (x >> np.uint64(31))
