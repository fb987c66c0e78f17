"""Strategies of `tf.distribute`, and what the processes of a training agree on."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfvae import replicas
from tfvae._plain import cluster
from tfvae.errors import InvalidArgument, TfvaeError

Strategy = tf.distribute.Strategy


def strategy(name: str) -> Strategy:
    """Return the strategy of a name; a process has one of each.

    "mirrored": all GPUs of this machine (or, where there is none, all logical CPUs that the process
    was given). "multiworker": all GPUs, or the CPU, of every process that TF_CONFIG names; it must
    be the first thing that a process asks of TensorFlow. "": that of the scope, or none.

    Raises:
        InvalidArgument: another name, a single device, or TF_CONFIG is missing or malformed.
    """
    if not name:
        return tf.distribute.get_strategy()
    if name not in cluster.STRATEGIES:
        raise InvalidArgument(
            f"The strategy is {name!r}; expected one of {', '.join(cluster.STRATEGIES)}, or '' for "
            "none."
        )
    return _mirrored() if name == "mirrored" else _multi_worker()


@functools.cache
def _mirrored():
    gpus, cpus = (tf.config.list_logical_devices(kind) for kind in ("GPU", "CPU"))
    devices = gpus or cpus
    if len(devices) < 2:
        found = "1 GPU" if gpus else "no GPU, and 1 CPU"
        raise InvalidArgument(
            f"'mirrored' trains on several devices of one machine; found {found}. Leave it out, "
            "make more devices visible (CUDA_VISIBLE_DEVICES), or use 'multiworker' for several "
            "processes."
        )
    # Where two models are trained in one process, the collectives of TensorFlow's own choice fail
    # with the second.
    across = tf.distribute.NcclAllReduce() if gpus else tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy([device.name for device in devices], across)


@functools.cache
def _multi_worker():
    worker = cluster.this_worker()
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        if "program startup" not in str(error):
            raise
        raise InvalidArgument(
            "'multiworker' has to be the first thing that a process asks of TensorFlow, and this "
            "one has made tensors. Call tfvae.distribute.strategy('multiworker') first."
        ) from None
    except tf.errors.OpError as error:
        raise InvalidArgument(
            f"Worker {worker.number} of {', '.join(worker.addresses)} could not connect to "
            f"the others: {error.message.splitlines()[0]} Start all of them with the same cluster, "
            "on addresses that the others can reach."
        ) from None


def is_multi_worker(strategy: Strategy) -> bool:
    """Whether a strategy is over several processes."""
    resolver = getattr(strategy, "cluster_resolver", None)
    workers = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    return workers and len(resolver.cluster_spec().as_dict().get("worker", [])) > 1


def is_chief(strategy: Strategy) -> bool:
    """Whether this process is the one that writes files: the only one, or worker 0."""
    return not is_multi_worker(strategy) or strategy.cluster_resolver.task_id == 0


def any_worker(strategy: Strategy, asked: bool) -> bool:
    """Return whether any worker asks for something; all workers have to call this together."""
    if not is_multi_worker(strategy):
        return asked
    return bool(_sum(strategy)(tf.constant(float(asked))).numpy() > 0)


def wait(strategy: Strategy) -> None:
    """Wait until all workers have come here."""
    any_worker(strategy, False)


def all_same(strategy: Strategy, number: int) -> bool:
    """Return whether all workers have the same number; all of them have to call this, together."""
    if not is_multi_worker(strategy):
        return True
    # That of worker 0 is known to all by a sum in which the others are 0; then each compares.
    value = tf.constant(number if is_chief(strategy) else 0, tf.float64)
    return not any_worker(strategy, number != float(_sum(strategy)(value)))


def chief_first(strategy: Strategy, function: Callable[[], Any]) -> Any:
    """Return the result of a function, which the chief calls before the other workers."""
    chief = is_chief(strategy)
    result = function() if chief else None
    wait(strategy)
    return result if chief else function()


def take_from_chief(strategy: Strategy, variables: list) -> None:
    """Set variables of floats to what they are on worker 0; all workers have to call this."""
    if not is_multi_worker(strategy):
        return
    for variable in variables:
        value = tf.constant(np.asarray(variable))
        own = value if is_chief(strategy) else tf.zeros_like(value)
        variable.assign(_sum(strategy)(own))


@functools.cache
def _sum(strategy):
    """Return the function that sums a tensor of each worker over all workers."""
    workers = len(strategy.cluster_resolver.cluster_spec().as_dict()["worker"])
    replicas_each = strategy.num_replicas_in_sync // workers

    def on_replica(value):
        # A tensor of the replica's own device: one from outside has none to be sent from.
        first = tf.cast(replicas.number() % replicas_each == 0, value.dtype)
        return replicas.sums([first * value])[0]

    @tf.function(autograph=False)
    def total(value):
        results = strategy.run(on_replica, args=(value,))
        return strategy.experimental_local_results(results)[0]

    return total


@contextlib.contextmanager
def watching_workers(strategy: Strategy, how: str = "") -> Iterator[None]:
    """A context that raises an error if a training ends because another worker was lost.

    Args:
        strategy: of the training.
        how: what to tell the user about how to continue, if there is something to continue.

    Raises:
        TfvaeError: one was lost.
    """
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError):
        if not is_multi_worker(strategy):
            raise
        raise TfvaeError(
            "Another worker has ended, or cannot be reached; what it said tells why. Start all of "
            f"them again. {how}".rstrip()
        ) from None
