"""Batches to train on, which can begin at any batch of any epoch.

The contract that `tfvae.callbacks.Resume` relies on: the batches of an epoch are a function of
(seed, epoch), and those from batch n on are had without making the ones before. A source of data
keeps it by a function `epoch_from(epoch, first)` that it hands to `Batches`.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfvae.data.contents import contents_of
from tfvae.data.order import BlockOrder, IndexOrder
from tfvae.data.reading import PARALLEL_READS, reader
from tfvae.data.source import Source
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.random import Stream, fold_in, make_seed
from tfvae.schema import Schema
from tfvae.standardization import Standardization

_BATCHES_AT_ONCE = 20
_BYTES_AT_ONCE = 2**24  # as float32, what several batches at once, or those made ahead, may take


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
        part: a function of the number of a worker and of how many workers there are, that returns
            `epoch_from` for the parts of the batches that this worker gets, from ⌊B w/W⌋ to below
            ⌊B (w + 1)/W⌋ of the B examples. If None, each worker makes whole batches and keeps
            its part.
        position: the variables of other batches, to begin where they do; for `of_worker`.
        contents: a function that returns what tells this data from other data of the same
            identity, `tfvae.data.contents_of(values)` for instance; called once, as a training with
            `tfvae.callbacks.Resume` begins. Nothing does if None.
    """

    def __init__(
        self,
        epoch_from: Callable,
        num_batches: int,
        identity: dict,
        part: Callable | None = None,
        position: tuple[tf.Variable, tf.Variable] | None = None,
        contents: Callable | None = None,
    ):
        self.num_batches, self.identity = int(num_batches), dict(identity)
        self._part, self._contents = part, contents
        new = (tf.Variable(0, trainable=False, dtype=tf.int64) for _ in "ab")
        self._epoch, self._first = position or new

        def from_here(_):
            return epoch_from(self._epoch.read_value(), self._first.read_value())

        batches = tf.data.Dataset.from_tensors(0).flat_map(from_here)
        first = tf.nest.flatten(batches.element_spec)[0]
        size = math.prod(n or 1 for n in first.shape) * first.dtype.size
        self._inside = batches.prefetch(min(8, max(2, _BYTES_AT_ONCE // size)))
        super().__init__(self._inside._variant_tensor)

    def start_at(self, epoch: int, first: int = 0) -> None:
        """Set where the next iteration begins: the epoch, and a batch of it, both from 0 on."""
        self._epoch.assign(epoch)
        self._first.assign(first)

    @functools.cached_property
    def contents(self) -> dict:
        """What tells this data from other data of the same identity; empty if nothing does."""
        return {} if self._contents is None else self._contents()

    def of_worker(self, worker: int, num_workers: int) -> "Batches | None":
        """Return a worker's parts of these batches, which begin where these do; None if unknown."""
        if self._part is None:
            return None
        position = self._epoch, self._first
        parts = self._part(worker, num_workers)
        contents = functools.partial(getattr, self, "contents")
        return Batches(parts, self.num_batches, self.identity, None, position, contents)

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
    values: np.ndarray | Source,
    batch_size: int,
    seed: int = 0,
    prepare: Callable | None = None,
    conditions: np.ndarray | None = None,
    worker: int = 0,
    num_workers: int = 1,
    schema: Schema | None = None,
    standardization: Standardization | None = None,
) -> Batches:
    """Return the batches of an array or a source, in an order that is a function of (seed, epoch).

    The order is an index shuffle, in which every value may come at every place. Of a source with
    `Blocks`, the blocks are shuffled, and the values of a window of many blocks among themselves.
    What does not fill a batch is left out, other values each time.

    Several workers get the parts of the same batches: one after the other they are the batch that
    a single one would get.

    Args:
        values: `[N, ...]`, a source, or what NumPy makes an array of.
        batch_size: B, of all workers together.
        seed: with the epoch, decides the order.
        prepare: a function of several batches at once `[b·n, ...]` and of a function without
            arguments, that returns what to train on, `[b·n, ...]`. The function gives uniforms in
            [0, 1) of their shape that are a function of (seed, epoch, batch, place in the batch).
            By default the batches are left as they are.
        conditions: `[N, ...]`, what goes beside each value, in pairs; None for values alone.
        worker: whose batches these are, from 0 on.
        num_workers: W. Each worker gets b of B values, ⌊B/W⌋ or one more.
        schema: of the table that the values are rows of; None where they are none. A training that
            is resumed has to be on one of the same columns and statistics.
        standardization: what was done to the values, or None; as `schema`.

    Raises:
        InvalidData: there are fewer values than a batch holds.
        InvalidArgument: there is no such worker, or there are more than a batch has values.
    """
    values = values if isinstance(values, Source) else np.asarray(values)
    # By way of TensorFlow, which makes 32 bits of Python's numbers.
    conditions = None if conditions is None else np.asarray(tf.convert_to_tensor(conditions))
    count = len(values)
    if count < batch_size:
        raise InvalidData(
            f"The training split has {count} examples, fewer than the batch size {batch_size}. "
            f"Choose a batch size of at most {count}."
        )
    if not 0 <= worker < num_workers <= batch_size:
        raise InvalidArgument(
            f"`worker` is {worker} of {num_workers} with batches of {batch_size}; expected a "
            "number from 0 on, below that of the workers, which is at most the batch size."
        )
    epochs = _Epochs(values, batch_size, seed, prepare, conditions)
    identity = {"examples": count, "batch_size": int(batch_size), "seed": int(seed)}
    own = epochs.part(worker, num_workers)
    contents = functools.partial(contents_of, values, conditions, schema, standardization)
    part = epochs.part if num_workers == 1 else None
    return Batches(own, epochs.steps, identity, part, contents=contents)


class _Epochs:
    """The batches of all epochs of an array or a source, as `shuffled_batches` describes them."""

    def __init__(self, values, batch_size, seed, prepare, conditions):
        count, blocks = len(values), getattr(values, "blocks", None)
        self.read, self.prepare, self.batch_size = reader(values), prepare, batch_size
        self.order = IndexOrder(count, seed)
        if blocks is not None:
            self.order = BlockOrder(blocks.starts, count, blocks.in_window(count), seed)
        self.conditions = None if conditions is None else tf.constant(conditions)
        self.noise_seed = fold_in(make_seed(seed), int(Stream.BINARIZE))
        self.steps, self.shape = count // batch_size, values.shape[1:]
        # Several batches at a time: for small ones, calling the function is what costs.
        batch_bytes = 4 * batch_size * math.prod(self.shape)
        self.at_once = min(_BATCHES_AT_ONCE, max(1, _BYTES_AT_ONCE // batch_bytes))
        self.parallel = PARALLEL_READS if isinstance(values, Source) else None

    def part(self, worker, num_workers):
        """Return `epoch_from` for the parts of the batches that a worker gets, see `Batches`."""
        begin, end = (n * self.batch_size // num_workers for n in (worker, worker + 1))
        return functools.partial(self._from, begin, end)

    def _from(self, begin, end, epoch, first):
        """Return the examples `begin` to `end` of each batch of an epoch, from batch `first` on."""
        chunks = tf.data.Dataset.range(first // self.at_once, -(-self.steps // self.at_once))
        several = functools.partial(self._several, begin, end, epoch)
        made = chunks.map(several, num_parallel_calls=self.parallel)
        return made.unbatch().skip(first % self.at_once)

    def _several(self, begin, end, epoch, number):
        """Return the batches that are made together, number `number` of these, `[b, n, ...]`."""
        begins = number * self.at_once
        batches = tf.range(begins, tf.minimum(begins + self.at_once, self.steps))
        places = batches[:, tf.newaxis] * self.batch_size + tf.range(begin, end, dtype=tf.int64)
        places = tf.reshape(places, [-1])
        index = tf.ensure_shape(tf.numpy_function(self.order, [epoch, places], tf.int64), [None])
        x = self.read(index)
        if self.prepare is not None:

            def uniforms():
                whole = self._uniforms(epoch, number, tf.size(batches))
                return tf.reshape(whole[:, begin:end], [-1, *self.shape])

            x = self.prepare(x, uniforms)
        x = tf.reshape(x, [-1, end - begin, *x.shape[1:]])
        if self.conditions is None:
            return x
        y = tf.gather(self.conditions, index)
        return x, tf.reshape(y, [-1, end - begin, *y.shape[1:]])

    def _uniforms(self, epoch, number, count):
        """Return the uniforms of `count` whole batches that are made together."""
        seed = fold_in(self.noise_seed, epoch, number)
        return tf.random.stateless_uniform([count, self.batch_size, *self.shape], seed)
