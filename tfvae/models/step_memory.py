"""The memory that a step of training takes."""

import math

import keras
import tensorflow as tf

from tfvae._plain import memory


def check(model: keras.Model, num_samples: int, batch_size: int) -> None:
    """Refuse a number of samples with which a step of training takes more than memory.

    A step keeps the output of every layer of the decoders, for each sample of each example, and its
    gradient. A GPU has a memory of its own, of which only the user can say how much may be taken,
    with the variable that `tfvae._plain.memory` reads.

    Args:
        model: a built `LatentVariableModel`.
        num_samples: K.
        batch_size: B.

    Raises:
        InvalidArgument: with the number that fits.
    """
    if memory.chosen() is None and tf.config.list_logical_devices("GPU"):
        return
    each = 2 * _bytes_of_sample(model)
    what = "examples in a batch, with a sample each,"
    memory.check_request(batch_size, each, what, "Use at most {most} (batch_size).")
    memory.check_request(
        num_samples,
        each * batch_size,
        f"samples for each of {batch_size:,} examples",
        "Use at most {most} (num_samples), or a smaller batch_size.",
    )


def _bytes_of_sample(model):
    """Return what the latent, the decoders' layers and the parameters of p(x|z) take."""
    *sites, channels = model.x_shape
    numbers = math.prod(sites) * model.likelihood.params_size(channels)
    total = 4 * (numbers + math.prod(model.latent_shape))  # in float32
    for part in model.generative_parts:
        dtype = tf.as_dtype(getattr(part, "compute_dtype", None) or "float32")
        total += sum(memory.widths(part)) * dtype.size
    return total
