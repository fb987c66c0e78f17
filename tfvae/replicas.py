"""Sums over replicas that train together, and the place of an example in the whole batch.

A step of `tf.distribute` runs on every replica, for a part of the batch: the examples of replica 0
come first. Outside of such a step, and with a single replica, every function here is the identity.
"""

import weakref

import tensorflow as tf

_PLACES = weakref.WeakKeyDictionary()  # of the batch of a step, by the replica's context


def are_several() -> bool:
    """Whether this is a step on one of several replicas."""
    context = tf.distribute.get_replica_context()
    return context is not None and context.num_replicas_in_sync > 1


def number() -> tf.Tensor | int:
    """Return the number of this replica, from 0 on."""
    return tf.distribute.get_replica_context().replica_id_in_sync_group if are_several() else 0


def sums(tensors: list) -> list:
    """Return the sums of tensors over all replicas; their gradients are those of the sums."""
    if not are_several():
        return tensors
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tensors)


def locate(size: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return how many rows stand before those of this replica, and how many there are in all.

    Args:
        size: how many rows this replica has; it may be 0, and differ between replicas.
    """
    if not are_several():
        return tf.constant(0), size
    count = tf.distribute.get_replica_context().num_replicas_in_sync
    own = tf.one_hot(number(), count, dtype=tf.float64) * tf.cast(size, tf.float64)
    (sizes,) = sums([own])
    before = tf.range(count) < number()
    first = tf.reduce_sum(tf.where(before, sizes, 0.0))
    return tf.cast(first, tf.int32), tf.cast(tf.reduce_sum(sizes), tf.int32)


def begin_step(size: tf.Tensor) -> None:
    """Locate the batch of a step, once for all callers of `place`.

    Args:
        size: how many examples this replica has.
    """
    if are_several():
        _PLACES[tf.distribute.get_replica_context()] = size, *locate(size)


def place(size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the result of `locate` for rows, of which every example has equally many."""
    located = _PLACES.get(tf.distribute.get_replica_context()) if are_several() else None
    if located is None:
        return locate(size)
    examples, first, whole = located
    rows = tf.where(examples > 0, size // tf.maximum(examples, 1), 1)
    return first * rows, whole * rows


def gather(values: tf.Tensor, axis: int = 0) -> tf.Tensor:
    """Return the values of all replicas, one behind the other, with gradients to each of them."""
    if not are_several():
        return values
    size = tf.shape(values)[axis]
    first, whole = place(size)
    paddings = tf.scatter_nd([[axis]], [[first, whole - first - size]], [len(values.shape), 2])
    padded = tf.pad(values, paddings)
    padded.set_shape([None if a == axis else n for a, n in enumerate(values.shape)])
    return sums([padded])[0]


def own(values: tf.Tensor, size: tf.Tensor, axis: int = 0) -> tf.Tensor:
    """Return this replica's part, `size` rows, of a tensor with the rows of all replicas."""
    if not are_several():
        return values
    first, _ = place(size)
    return tf.gather(values, first + tf.range(size), axis=axis)
