"""Batches to train on, which can begin at any batch of any epoch.

The contract that `tfvae.callbacks.Resume` relies on: the batches of an epoch are a function of
(seed, epoch), and those from batch n on are had without making the ones before. A source of data
keeps it by a function `epoch_from(epoch, first)` that it hands to `Batches`.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfvae.errors import InvalidData
from tfvae.random import Stream, fold_in, make_seed

_BATCHES_AT_ONCE = 20


class Batches(tf.data.Dataset):
    """The batches of an epoch, from any batch on; a `tf.data.Dataset` to give to `fit`.

    Iterating it anew gives what `start_at` was last told: at first the whole of epoch 0. In the
    `fit` of a model of tfvae every epoch is told so by itself. Its `cardinality()` is always that
    of a whole epoch.

    Args:
        epoch_from: a function of two int64 scalars, an epoch from 0 on and the number of a batch in
            it, that returns the `tf.data.Dataset` of the batches of that epoch from that one on;
            none where it is `num_batches`. It is traced into a graph. It may do no work that grows
            with the batches it leaves out, but for arithmetic on their indices.
        num_batches: how many batches an epoch has.
        identity: what else the batches depend on, such as {"seed": 0, "batch_size": 100}, in
            values of JSON. A training is not resumed on batches of another identity.
    """

    def __init__(self, epoch_from: Callable, num_batches: int, identity: dict):
        self.num_batches, self.identity = int(num_batches), dict(identity)
        self._epoch, self._first = (tf.Variable(0, trainable=False, dtype=tf.int64) for _ in "ab")

        def from_here(_):
            return epoch_from(self._epoch.read_value(), self._first.read_value())

        self._inside = tf.data.Dataset.from_tensors(0).flat_map(from_here).prefetch(8)
        super().__init__(self._inside._variant_tensor)

    def start_at(self, epoch: int, first: int = 0) -> None:
        """Set where the next iteration begins: the epoch, and a batch of it, both from 0 on."""
        self._epoch.assign(epoch)
        self._first.assign(first)

    def cardinality(self):
        """Return the number of batches in an epoch, an int64 tensor."""
        return tf.constant(self.num_batches, tf.int64)

    @property
    def element_spec(self):
        """The type and shape of a batch."""
        return self._inside.element_spec

    def _inputs(self):
        return [self._inside]


def shuffled_batches(
    values: np.ndarray,
    batch_size: int,
    seed: int = 0,
    prepare: Callable | None = None,
    conditions: np.ndarray | None = None,
) -> Batches:
    """Return the batches of an array, in an order that is a function of (seed, epoch).

    What does not fill a batch is left out, other values each time.

    Args:
        values: `[N, ...]`.
        batch_size: B.
        seed: with the epoch, decides the order.
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
    at_once = _BATCHES_AT_ONCE * batch_size

    def epoch_from(epoch, first):
        keys = tf.random.stateless_uniform([count], fold_in(order_seed, epoch), dtype=tf.float32)
        order = tf.argsort(keys, stable=True)[: steps * batch_size]
        # Several batches at a time: for small ones, calling the function is what costs.
        chunk = first // _BATCHES_AT_ONCE
        rest = tf.data.Dataset.from_tensor_slices(order[chunk * at_once :]).batch(at_once)
        made = rest.enumerate(chunk).map(lambda number, index: some_batches(epoch, number, index))
        return made.unbatch().skip(first % _BATCHES_AT_ONCE)

    def some_batches(epoch, number, index):
        x = tf.gather(values, index)
        if prepare is not None:
            x = prepare(x, epoch, number)
        x = tf.reshape(x, [-1, batch_size, *x.shape[1:]])
        if conditions is None:
            return x
        y = tf.gather(conditions, index)
        return x, tf.reshape(y, [-1, batch_size, *y.shape[1:]])

    identity = {"examples": count, "batch_size": int(batch_size), "seed": int(seed)}
    return Batches(epoch_from, steps, identity)
