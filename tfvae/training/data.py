"""The data of a call of `fit` or `evaluate`: what is left out of it, and what each worker gets."""

import inspect
import math

import keras
import tensorflow as tf

from tfvae import distribute, inputs
from tfvae.errors import InvalidArgument
from tfvae.training.batch import NO_LABELS


def arguments(method: str, *args, **kwargs) -> dict:
    """Return the arguments after x and y in a call of one of Keras's methods, by name.

    Raises:
        TypeError: an argument that the method does not have.
    """
    signature = inspect.signature(getattr(keras.Model, method))
    arguments = signature.bind(None, None, None, *args, **kwargs).arguments
    rest = arguments.pop("kwargs", {})
    return {k: v for k, v in arguments.items() if k not in ("self", "x", "y")} | rest


def labels(y, options: dict):
    """Return y; without y, a stand-in, since Keras passes weights on only beside labels."""
    weights = options.get("sample_weight")
    return y if y is not None or weights is None else {NO_LABELS: weights}


def without_validation(x, y, options):
    """Return the part of arrays that `validation_split` leaves for training, as Keras cuts them."""
    share = options.get("validation_split")
    if not share or not inputs.is_array(x):
        return x, y
    count = math.floor(len(x) * (1.0 - share))
    return x[:count], None if y is None else y[:count]


def share_out(strategy, x, y, options: dict, shuffle: bool = False):
    """Return data of which every replica takes its part, and the labels that belong to it.

    Keras shares out arrays by itself, but each worker would shuffle them in another way.
    """
    if distribute.is_multi_worker(strategy) and inputs.is_array(x) and not shuffle:
        weights = options.pop("sample_weight", None)
        parts = (x,) if y is None and weights is None else (x, y)
        if weights is not None:
            y = labels(y, {"sample_weight": weights})
            parts = (x, y, tf.nest.map_structure(lambda _: weights, y))
        x = tf.data.Dataset.from_tensor_slices(parts).batch(options.pop("batch_size", None) or 32)
        y = None
    if strategy.num_replicas_in_sync > 1 and isinstance(x, tf.data.Dataset):
        if hasattr(x, "start_at"):
            _check_divisible(x, strategy)
        return inputs.share_out(x, strategy), y
    if not distribute.is_multi_worker(strategy) or inputs.is_shared_out(x):
        return x, y
    raise InvalidArgument(
        f"Several workers got {_a(x)}, which each worker would order in another way. Give them "
        "batches in an order that is the same for all: tfvae.data.shuffled_batches(x, "
        "batch_size), or another tf.data.Dataset."
    )


def _check_divisible(batches, strategy):
    """Refuse batches of which replicas would get parts of different sizes in training."""
    size = tf.nest.flatten(batches.element_spec)[0].shape[0]
    count = strategy.num_replicas_in_sync
    if size is not None and size % count:
        raise InvalidArgument(
            f"The batch size {size} is not divisible by the {count} replicas that train together. "
            f"Choose a multiple of {count}, such as {max(1, round(size / count)) * count}."
        )


def _a(x):
    return "an array that `fit` is to shuffle" if inputs.is_array(x) else f"a {type(x).__name__}"
