"""Ancestral sampling from logits: the loop over positions, and the filters top-k and top-p.

Everything is made of operators that LiteRT has, with noise from `tfvae.random`, so that the same
codes come out in Keras, in a SavedModel and on a device.

Sources: Gumbel 1954, "Statistical theory of extreme values" (the argmax of logits plus noise); Fan,
Lewis and Dauphin 2018, "Hierarchical neural story generation" (top-k); Holtzman et al. 2020, "The
curious case of neural text degeneration" (top-p, the nucleus).
"""

import math
import numbers
from collections.abc import Callable

import tensorflow as tf

from tfvae import random
from tfvae._plain import checks
from tfvae.errors import InvalidArgument

# The least temperature to divide by: float32 cannot represent logits / 0.
_COLDEST = 1e-6


# There is no Python control flow on tensors here: AutoGraph would only add seconds to a trace.
@tf.autograph.experimental.do_not_convert
def generate(
    step: Callable,
    state,
    seed: tf.Tensor,
    index: tf.Tensor,
    num_positions: int,
    codebook_size: int,
    choice: Callable,
) -> tf.Tensor:
    """Return draws number `index` of the stream `seed`, `[N, num_positions]` int32.

    Row n depends on `seed`, `index[n]` and the logits of its own codes alone. A position has a
    stream of its own, so that its noise does not depend on how many positions there are.

    Args:
        step: (state, position, previous) → (logits `[N, K]`, state); see `CodePrior.step`.
        state: of the first position, a nest of tensors.
        seed: `[2]` int32.
        index: `[N]` int32.
        num_positions: codes in a draw.
        codebook_size: K.
        choice: (logits `[N, K]`, noise `[N, K]`) → codes `[N]` int32; see `choose`.
    """
    seeds = position_seeds(seed, num_positions)

    def body(position, codes, previous, state):
        logits, state = step(state, position, previous)
        noise = random.gumbel(random.uniform(seeds[position], index, codebook_size))
        code = choice(logits, noise)
        return position + 1, place(codes, position, code), code, state

    none_yet = tf.zeros_like(index)
    codes = tf.tile(none_yet[:, tf.newaxis], [1, num_positions])
    _, codes, _, _ = tf.while_loop(
        lambda position, *_: position < num_positions,
        body,
        (tf.constant(0), codes, none_yet, state),
    )
    return codes


def place(codes: tf.Tensor, position: tf.Tensor, code: tf.Tensor) -> tf.Tensor:
    """Return codes `[N, P]` with `code` `[N]` at a position; unchanged at position −1."""
    here = tf.range(codes.shape[1]) == position
    return tf.where(here, code[:, tf.newaxis], codes)


def position_seeds(seed: tf.Tensor, num_positions: int) -> tf.Tensor:
    """Return a stream of its own for every position, `[num_positions, 2]` int32.

    The counters (position, −1) are ones that no draw uses: draws count pairs from 0.
    """
    positions = tf.range(num_positions)
    words = random.threefry2x32((seed[0], seed[1]), (positions, -tf.ones_like(positions)))
    return tf.stack(words, axis=1)


def choose(
    logits: tf.Tensor,
    noise: tf.Tensor,
    temperature=1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> tf.Tensor:
    """Return the code with the largest logits + T·g among those that pass the filters.

    For Gumbel noise g that is a draw from softmax(logits / T), cut to these codes.

    Args:
        logits: `[N, K]` float32.
        noise: g, `[N, K]` float32.
        temperature: T; at 0 the most probable code.
        top_k: keep this many of the most probable codes.
        top_p: of what top_k leaves, at temperature T, keep the fewest codes that hold at least this
            much of the probability.

    Returns:
        `[N]` int32.
    """
    temperature = tf.cast(temperature, tf.float32)
    if top_k is not None:
        logits = _without(logits, most_probable(logits, top_k))
    if top_p is not None and top_p < 1:
        logits = _without(logits, nucleus(logits, top_p, temperature))
    return tf.argmax(logits + temperature * noise, axis=-1, output_type=tf.int32)


def most_probable(logits: tf.Tensor, k: int) -> tf.Tensor:
    """Return which k logits are the largest, `[N, K]` bool; of equal ones the first count more."""
    values, codes = tf.math.top_k(logits, k)
    return _down_to(logits, values[:, -1:], codes[:, -1:])


def nucleus(logits: tf.Tensor, p: float, temperature=1.0) -> tf.Tensor:
    """Return the nucleus of softmax(logits / T), `[N, K]` bool.

    The nucleus is the fewest codes, the most probable ones first, that hold a mass of at least p;
    of equally probable codes the first count as more probable.
    """
    values, codes = tf.math.top_k(logits, logits.shape[-1])
    scaled = (values - values[:, :1]) / tf.maximum(temperature, _COLDEST)
    mass_before = tf.cumsum(tf.nn.softmax(scaled), axis=-1, exclusive=True)
    size = tf.reduce_sum(tf.cast(mass_before < p, tf.int32), axis=-1, keepdims=True)
    last = [tf.gather(x, size - 1, axis=1, batch_dims=1) for x in (values, codes)]
    return _down_to(logits, *last)


def check_options(temperature, top_k, top_p, codebook_size: int) -> None:
    """Refuse options that `choose` cannot use; a temperature that is a tensor is not checked.

    Raises:
        InvalidArgument: with what was expected.
    """
    if not tf.is_tensor(temperature):
        checks.temperature(temperature)
    whole = _number(top_k) and isinstance(top_k, numbers.Integral)
    if top_k is not None and not (whole and 1 <= top_k <= codebook_size):
        raise InvalidArgument(
            f"`top_k` is {top_k!r}; expected a whole number of codes to choose from, 1 to "
            f"{codebook_size}, or None for all."
        )
    if top_p is not None and not (_number(top_p) and 0 < top_p <= 1):
        raise InvalidArgument(
            f"`top_p` is {top_p!r}; expected the probability to keep, above 0 and at most 1, or "
            "None for all."
        )


def _number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _without(logits, kept):
    return tf.where(kept, logits, -math.inf)


def _down_to(logits, value, code):
    """Which logits come no later than (value, code) in the order of `tf.math.top_k`."""
    codes = tf.range(logits.shape[-1])
    return (logits > value) | ((logits == value) & (codes <= code))
