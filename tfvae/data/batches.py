"""Batches to train on, in an order that is a function of (seed, epoch)."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfvae.errors import InvalidData
from tfvae.random import Stream, fold_in, make_seed

_BATCHES_AT_ONCE = 20


def shuffled_batches(
    values: np.ndarray,
    batch_size: int,
    seed: int,
    epoch: tf.Variable,
    prepare: Callable | None = None,
    conditions: np.ndarray | None = None,
) -> tf.data.Dataset:
    """Return the shuffled batches of one epoch.

    Iterating it anew gives the epoch that the variable `epoch` then holds. What does not fill a
    batch is left out, other values each time.

    Args:
        values: `[N, ...]`.
        batch_size: B.
        seed: with the epoch, decides the order.
        epoch: a scalar int64.
        prepare: a function of several batches at once `[B·n, ...]`, of the epoch and of their
            number in it, that returns what to train on, `[B·n, ...]`; by default they are left as
            they are.
        conditions: `[N, ...]`, what goes beside each value, in pairs; None for values alone.

    Raises:
        InvalidData: there are fewer values than a batch holds.
    """
    count = len(values)
    if count < batch_size:
        raise InvalidData(
            f"The training split has {count} images, fewer than the batch size {batch_size}. "
            f"Choose a batch size of at most {count}."
        )
    values = tf.constant(values)
    conditions = None if conditions is None else tf.constant(conditions)
    order_seed = fold_in(make_seed(seed), int(Stream.SHUFFLE))
    steps = count // batch_size

    def one_epoch(_):
        now = epoch.read_value()
        keys = tf.random.stateless_uniform([count], fold_in(order_seed, now), dtype=tf.float32)
        order = tf.argsort(keys, stable=True)[: steps * batch_size]
        # Several batches at a time: for small ones, calling the function is what costs.
        chunks = tf.data.Dataset.from_tensor_slices(order).batch(_BATCHES_AT_ONCE * batch_size)
        return chunks.enumerate().map(lambda number, index: some_batches(now, number, index))

    def some_batches(now, number, index):
        x = tf.gather(values, index)
        if prepare is not None:
            x = prepare(x, now, number)
        x = tf.reshape(x, [-1, batch_size, *x.shape[1:]])
        if conditions is None:
            return x
        y = tf.gather(conditions, index)
        return x, tf.reshape(y, [-1, batch_size, *y.shape[1:]])

    dataset = tf.data.Dataset.from_tensors(0).flat_map(one_epoch).unbatch()
    return dataset.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(8)
