"""Random numbers as functions of (seed, stream, step, example): no generator keeps a hidden state.

Training noise is made of the words of TensorFlow's stateless generator, seeded by `stream_seed`.
These words are the same in a graph and under XLA if no word of the seed is negative (XLA extends
its sign, the kernels of a graph do not); TensorFlow's floats and its integers in a range are not
the same. Where replicas share a batch, each draws the noise of the whole batch and uses that of its
own examples, so an example has the same noise on one device and on several.

Latents that must be the same in Keras, in a SavedModel and on a device come from `normal`, a
counter-based generator built from integer operations that LiteRT has as builtin operators.

Sources: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Threefry-2x32, 20
rounds); Box and Muller 1958.
"""

import enum
import functools
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfvae import replicas
from tfvae._plain.checks import integer

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_KEY_PARITY = 0x1BD11BDA
_NO_SIGN = 0x7FFFFFFF
# Any two words of 31 bits whose sum also has 31 bits (these are digits of π and e).
_SIGN_WORDS = np.array([0x3243F6A8, 0x2B7E1516], np.int32)

# For the first word of a seed, which `fold_in` has hashed, so that no step or stream gets it.
_OTHER_DRAW = np.array([0x243F6A88, 0], np.int32)


class Stream(enum.IntEnum):
    """The use of a seed: equal seeds in different streams give independent numbers."""

    TRAIN = 0
    TEST = 1
    EVALUATE = 2
    SHUFFLE = 3
    BINARIZE = 4
    SAMPLE = 5
    QUANTIZE = 6
    PENALTY = 7
    IMPUTE = 8
    LAYERS = 9


def make_seed(seed: int) -> tf.Tensor:
    """Return the `[2]` int32 seed for an integer of up to 64 bits.

    Raises:
        InvalidArgument: it is no integer.
    """
    seed = integer("seed", seed)
    words = np.array([seed >> 32 & 0xFFFFFFFF, seed & 0xFFFFFFFF], np.uint32).astype(np.int32)
    return tf.constant(words)


def fold_in(seed: tf.Tensor, *data) -> tf.Tensor:
    """Return a new `[2]` int32 seed from `seed` and the integers in `data`, one after the other.

    The same in a graph and under XLA, which `tf.random.fold_in` is not where a word of the seed is
    negative; where none is, this is `tf.random.fold_in`.
    """
    for value in data:
        # The signs that `words` leaves out count too: a seed has 64 bits.
        signs = tf.reduce_sum(tf.where(seed < 0, _SIGN_WORDS, 0))
        hashed = tf.bitwise.bitwise_xor(words([], seed), signs)
        seed = tf.stack([hashed, tf.cast(value, tf.int32)])
    return seed


def stream_seed(seed: int, stream: Stream, *data) -> tf.Tensor:
    """Return the `[2]` int32 seed of (seed, stream, data...), the same on every replica.

    The number that changes from step to step comes last: `fold_in` hashes the numbers before it
    into one word and keeps the last integer as the other, so no two steps of a run can share a
    seed.
    """
    return fold_in(tf.constant(_start(integer("seed", seed), int(stream))), *data)


@functools.lru_cache(maxsize=1024)
def _start(seed, stream):
    """Return what the seeds of a stream begin with, which no step has to compute again: `[2]`."""
    with tf.init_scope():  # out of the graph that is traced
        # The 0 keeps the results of a seed as they were when replicas had seeds of their own.
        return fold_in(make_seed(seed), stream, 0).numpy()


def seed_of_replica(seed: tf.Tensor) -> tf.Tensor:
    """Return another seed on every replica, for draws without an axis of examples; see `words`."""
    return fold_in(seed, replicas.number()) if replicas.are_several() else seed


def draw_seed(seed: tf.Tensor, number: int) -> tf.Tensor:
    """Return the `[2]` int32 stream of the layer that is drawn as number 0, 1, … of several.

    Made of operators that LiteRT has. The counter (number, −1) is one that no draw uses: draws
    count pairs from 0. The first layer has the stream itself.
    """
    if number == 0:
        return seed
    words = threefry2x32((seed[0], seed[1]), (tf.constant(number), tf.constant(-1)))
    return tf.stack(words)


def words(shape: Sequence[int] | tf.Tensor, seed: tf.Tensor, axis: int | None = None) -> tf.Tensor:
    """Return random int32 words of all 32 bits, the same in a graph and under XLA.

    Args:
        shape: of the result.
        seed: `[2]` int32, of which the signs do not count.
        axis: along which stand the examples of a batch that replicas may share, or as many rows of
            each; None for what is no batch.
    """
    seed = tf.bitwise.bitwise_and(seed, _NO_SIGN)
    return _own(
        shape,
        axis,
        lambda shape: tf.random.stateless_uniform(
            shape, seed, minval=None, maxval=None, dtype=tf.int32
        ),
    )


def stateless_uniform(
    shape: Sequence[int] | tf.Tensor, seed: tf.Tensor, axis: int | None = None
) -> tf.Tensor:
    """Return float32 uniforms in (0, 1), both ends left out: odd multiples of 2^-24.

    The same in a graph and under XLA, which `tf.random.stateless_uniform` is not; see `words`.
    """
    return _open_uniform(words(shape, seed, axis))


def stateless_normal(
    shape: Sequence[int] | tf.Tensor, seed: tf.Tensor, axis: int | None = None
) -> tf.Tensor:
    """Return standard normals in float32, the same in a graph and under XLA to within rounding.

    `tf.random.stateless_normal` gives other ones under XLA, and is no faster. |value| < 5.78; see
    `words`.
    """
    return _own(shape, axis, lambda shape: _normal(shape, seed))


def _own(shape, axis, draw):
    """Return this replica's part of what is drawn for the whole batch along an axis."""
    if axis is None or not replicas.are_several():
        return draw(shape)
    shape = tf.cast(shape, tf.int32)
    _, whole = replicas.place(shape[axis])
    drawn = draw(tf.tensor_scatter_nd_update(shape, [[axis]], [whole]))
    return replicas.own(drawn, shape[axis], axis)


def _normal(shape, seed):
    shape = tf.cast(shape, tf.int32)
    count = tf.reduce_prod(shape)
    half = [(count + 1) // 2]
    # Two draws, not the halves of one, which XLA would draw once for each number made of them.
    other = tf.bitwise.bitwise_xor(seed, _OTHER_DRAW)
    both = tf.concat(_box_muller(words(half, seed), words(half, other)), 0)
    return tf.reshape(both[:count], shape)


def gumbel(uniform: tf.Tensor) -> tf.Tensor:
    """Return −log(−log u): a draw of the standard Gumbel distribution for uniforms u in (0, 1)."""
    return -tf.math.log(-tf.math.log(uniform))


def threefry2x32(
    key: Sequence[tf.Tensor], counter: Sequence[tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Threefry-2x32 with 20 rounds on int32 words.

    Args:
        key: two int32 tensors.
        counter: two int32 tensors, of shapes that broadcast with each other and the key's.

    Returns:
        Two int32 tensors of the broadcast shape; for key (0, 0) and counter (0, 0) they are
        0x6b200159 and 0x99ba4efe.
    """
    words = [tf.convert_to_tensor(word, tf.int32) for word in (*key, *counter)]
    shape = functools.reduce(tf.broadcast_static_shape, (word.shape for word in words))
    x0, x1 = _threefry2x32(*words)
    return tf.ensure_shape(x0, shape), tf.ensure_shape(x1, shape)


# As a function of any shapes it is traced once, and not for each of the many graphs that call it.
@tf.function(input_signature=[tf.TensorSpec(None, tf.int32)] * 4, autograph=False)
def _threefry2x32(key0, key1, counter0, counter1):
    parity = tf.bitwise.bitwise_xor(tf.bitwise.bitwise_xor(key0, key1), _KEY_PARITY)
    schedule = (key0, key1, parity)
    x0, x1 = counter0 + key0, counter1 + key1
    for block in range(5):
        for rotation in _ROTATIONS[block % 2]:
            x0 = x0 + x1
            x1 = tf.bitwise.bitwise_xor(_rotate_left(x1, rotation), x0)
        x0 = x0 + schedule[(block + 1) % 3]
        x1 = x1 + schedule[(block + 2) % 3] + (block + 1)
    return x0, x1


def normal(seed: tf.Tensor, index: tf.Tensor, size: int) -> tf.Tensor:
    """Standard normals that are the same wherever they are computed, to within float rounding.

    Row n depends on `seed` and `index[n]` alone, so draw number 7 is the same whether it is drawn
    alone, in a batch, or on another machine. With 24-bit uniforms, |value| < 5.78.

    Args:
        seed: `[2]` int32.
        index: `[N]` int32, which draws of the stream to make.
        size: numbers in a draw.

    Returns:
        `[N, size]` float32.
    """
    both = tf.stack(_box_muller(*_bits(seed, index, size)), axis=-1)
    return tf.reshape(both, [-1, 2 * ((size + 1) // 2)])[:, :size]


def uniform(seed: tf.Tensor, index: tf.Tensor, size: int) -> tf.Tensor:
    """Uniforms in (0, 1), both ends left out, the same wherever they are computed; see `normal`.

    Returns:
        `[N, size]` float32, odd multiples of 2^-24.
    """
    both = tf.stack([_open_uniform(bits) for bits in _bits(seed, index, size)], axis=-1)
    return tf.reshape(both, [-1, 2 * ((size + 1) // 2)])[:, :size]


def whole(seed: tf.Tensor, index: tf.Tensor, size: int, count: int) -> tf.Tensor:
    """Whole numbers from 0 to count − 1, the same wherever they are computed; see `normal`.

    Args:
        seed: as in `normal`, and so are `index` and `size`.
        index: `[N]` int32.
        size: numbers in a draw.
        count: below 2^31. Words of 31 bits are taken modulo `count`, so that probabilities differ
            from 1/count by less than 2^-31.

    Returns:
        `[N, size]` int32.
    """
    both = tf.stack([_shift_right(bits, 1) for bits in _bits(seed, index, size)], axis=-1)
    return tf.reshape(both, [-1, 2 * ((size + 1) // 2)])[:, :size] % count


def _bits(seed, index, size):
    """Return two words for each pair of numbers, `[N, ceil(size / 2)]`."""
    pairs = tf.range((size + 1) // 2, dtype=tf.int32)[tf.newaxis, :]
    rows = index[:, tf.newaxis]
    counter = rows + tf.zeros_like(pairs), pairs + tf.zeros_like(rows)
    return threefry2x32((seed[0], seed[1]), counter)


def _box_muller(bits0, bits1):
    """Return two independent standard normals for each pair of words."""
    radius = tf.sqrt(-2.0 * tf.math.log(_uniform(bits0)))
    angle = (2.0 * math.pi) * _uniform(bits1)
    return radius * tf.cos(angle), radius * tf.sin(angle)


def _open_uniform(bits: tf.Tensor) -> tf.Tensor:
    """Uniforms from the upper 23 bits: with one more, the largest would be rounded to 1."""
    return (tf.cast(_shift_right(bits, 9), tf.float32) + 0.5) * 2.0**-23


def _uniform(bits: tf.Tensor) -> tf.Tensor:
    """Uniforms in (0, 1] from the upper 24 bits, each exact in float32."""
    return (tf.cast(_shift_right(bits, 8), tf.float32) + 1.0) * 2.0**-24


def _rotate_left(x: tf.Tensor, bits: int) -> tf.Tensor:
    # LiteRT has no left shift; int32 multiplication wraps around and is the same thing.
    return x * np.int32(2**bits) + _shift_right(x, 32 - bits)


def _shift_right(x: tf.Tensor, bits: int) -> tf.Tensor:
    """Logical shift: an int32 shift would copy the sign bit."""
    unsigned = tf.bitcast(x, tf.uint32)
    return tf.bitcast(tf.bitwise.right_shift(unsigned, tf.constant(bits, tf.uint32)), tf.int32)
