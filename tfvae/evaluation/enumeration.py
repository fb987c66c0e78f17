"""p(x, z) of every state of discrete latents, a few states at a time."""

import numpy as np
import tensorflow as tf

from tfvae import exact
from tfvae.evaluation.batches import output_size, widest
from tfvae.evaluation.importance import log_add_exp
from tfvae.graphs import in_graph

# Numbers in one tensor of (states × examples × decoder outputs), and in the widest layer of the
# networks for these states: 32 MiB, of which the log-density of a likelihood makes a handful.
CHUNK_SIZE = 2**23


def numbers_of_a_state(model, count) -> int:
    """Return how many numbers the largest tensor has for each state that `count` examples share.

    That is log p(x|z), or what the widest layer of the networks gives: networks that take a
    condition decode a state for each example, others once.
    """
    rows = 1 if model.condition is None else count
    return max(count * output_size(model), *(rows * widest(p) for p in model.generative_parts))


def log_joint_sum(model, x, y, states) -> tf.Tensor:
    """Return log Σ_z p(x, z) over the states `[S, *latent_shape]`, given conditions y, `[B]`."""
    chunk = max(1, CHUNK_SIZE // numbers_of_a_state(model, len(x)))
    return _log_joint_sum(model, x, y, states, tf.constant(chunk))


@in_graph
def _log_joint_sum(model, x, y, states, chunk):
    """Go over the states in chunks, so that memory does not grow with their number."""

    def add_chunk(start, log_sum):
        part = _log_joint(model, x, y, states[start : start + chunk])
        return start + chunk, log_add_exp(log_sum, tf.reduce_logsumexp(part, axis=0))

    empty = tf.zeros(tf.shape(x)[:1]) - np.inf
    _, log_sum = tf.while_loop(
        lambda start, _: start < tf.shape(states)[0], add_chunk, (0, empty), parallel_iterations=1
    )
    return log_sum


def log_joint_table(model, x, y, states) -> tf.Tensor:
    """Return log p(x, z) of every state given y, `[S, B]`, decoded a few states at a time."""
    chunk = max(1, CHUNK_SIZE // numbers_of_a_state(model, len(x)))
    starts = range(0, len(states), chunk)
    return tf.concat([_log_joint(model, x, y, states[n : n + chunk]) for n in starts], 0)


@in_graph
def _log_joint(model, x, y, states):
    """Return log p(x, z), `[S, B]`, compiled once for a shape."""
    return exact.log_joint(model, x, states, condition=y)
