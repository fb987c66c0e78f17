"""The usage of each code: moving averages, and the replacement of codes that are not used."""

import math
from typing import NamedTuple

import tensorflow as tf

from tfvae import replicas
from tfvae.random import stateless_uniform


class CodeState(NamedTuple):
    """The state of each code.

    Attributes:
        table: `[K, D]`, their vectors.
        counts: `[K]`, moving average of how many vectors of a batch choose each.
        sums: `[K, D]`, moving average of the sum of these vectors; None if it is not needed.
    """

    table: tf.Tensor
    counts: tf.Tensor
    sums: tf.Tensor | None = None


def count(codes: tf.Tensor, size: int) -> tf.Tensor:
    """Return how many of the codes `[N]` are 0, …, size − 1, `[size]` float32."""
    return tf.math.unsorted_segment_sum(tf.ones_like(codes, tf.float32), codes, size)


def rate(decay: float, step: tf.Tensor) -> tf.Tensor:
    """Return the weight of a batch in a debiased moving average.

    (1 − d)/(1 − d^t) at step t = 1, 2, …: m ← m + rate · (x − m) is then the average of all x so
    far with weights d^age, which is the usual moving average from 0 after division by 1 − d^t.

    Args:
        decay: d, from 0 to below 1.
        step: t − 1.
    """
    if decay == 0:
        return tf.constant(1.0)
    # expm1, since 1 − d^t in float32 would lose digits for d near 1.
    seen = -tf.math.expm1((tf.cast(step, tf.float32) + 1.0) * math.log(decay))
    return (1.0 - decay) / seen


def revive(state: CodeState, vectors: tf.Tensor, threshold: float, seed: tf.Tensor) -> CodeState:
    """Move codes whose count is below a threshold to random vectors of the batch.

    Such a code gets the count of an average code: with its old count it would be replaced again at
    once, and its old sum would draw the moving average back.

    Args:
        state: of all codes, the same on every replica.
        vectors: this replica's part of the batch, `[N, D]`; if the batch is empty, nothing changes.
        threshold: in vectors per batch, over all replicas.
        seed: `[2]` int32, the same on every replica.
    """
    rows, found = random_rows(vectors, state.table.shape[0], seed)
    dead = (state.counts < threshold) & found
    start = tf.maximum(tf.reduce_mean(state.counts), threshold)
    table = tf.where(dead[:, tf.newaxis], rows, state.table)
    counts = tf.where(dead, start, state.counts)
    if state.sums is None:
        return CodeState(table, counts)
    return CodeState(table, counts, tf.where(dead[:, tf.newaxis], start * rows, state.sums))


def random_rows(vectors: tf.Tensor, count: int, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return `count` random rows of the vectors of all replicas, and whether there are any.

    No row occurs twice unless there are fewer than `count`. Without any vectors, the rows are 0.

    Args:
        vectors: those of this replica, `[N, D]`.
        count: how many to choose.
        seed: `[2]` int32.
    """
    size = tf.shape(vectors)[0]
    first, whole = replicas.locate(size)
    # One more entry at the end, which only the empty batch reaches.
    order = tf.pad(tf.argsort(stateless_uniform([whole], seed)), [[0, 1]])
    chosen = tf.gather(order, tf.range(count) % tf.maximum(whole, 1)) - first
    # A row is on one replica, and zeros on the others: the sum moves no more than what is chosen.
    is_here = (chosen >= 0) & (chosen < size)
    here = tf.gather(tf.pad(vectors, [[0, 1], [0, 0]]), tf.where(is_here, chosen, size))
    (rows,) = replicas.sums([here])
    return rows, whole > 0
