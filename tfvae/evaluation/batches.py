"""Batches of checked examples to measure."""

import math
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tfvae._plain import memory
from tfvae.data import Examples
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.inputs import own_errors
from tfvae.models import LatentVariableModel


def _batches(model, x, batch_size) -> tuple[Iterator[tf.Tensor], int | None]:
    """Return an iterator over checked float32 batches, without conditions, and their number."""
    _refuse_weights(x)
    if isinstance(x, Examples):
        starts = range(0, len(x), batch_size)
        parts, count = (x.numpy(start, start + batch_size) for start in starts), len(starts)
    elif isinstance(x, tf.data.Dataset):
        if isinstance(x.element_spec, tuple):
            x = x.map(lambda x, *_: x)
        parts, count = x.unbatch().batch(batch_size).as_numpy_iterator(), None
    else:
        x = np.asarray(x)
        model.check_data(x)
        starts = range(0, len(x), batch_size)
        parts, count = (x[start : start + batch_size] for start in starts), len(starts)

    def checked():
        for part in _read(parts):
            model.check_data(part)
            yield tf.constant(part, tf.float32)

    return checked(), count


def _read(parts):
    """Yield the parts of the data, of which it has at least one, with the errors of its source."""
    empty = True
    with own_errors():
        for part in parts:
            empty = False
            yield part
    if empty:
        raise InvalidData("There are no examples to measure; expected at least one.")


def batches_beside_condition(
    model, x, condition, batch_size, needed: bool = True
) -> tuple[Iterator[tuple[tf.Tensor, tf.Tensor | None]], int | None]:
    """Return an iterator over pairs of a checked batch and its conditions, and how many if known.

    A batch is float32, `[B, *x_shape]`, and its conditions are `[B, ...]`, one for each example.

    Args:
        model: what they are checked for; without a condition, every batch has None beside it.
        x: an array, the `tfvae.data.Examples` of a split, or a batched `tf.data.Dataset`, also of
            pairs of examples and conditions; those are left out if the model has none.
        condition: of each example or one for all; None where x, a dataset or `Examples`, has it.
        batch_size: examples in a batch.
        needed: whether a condition is required if the model has one.

    Raises:
        InvalidArgument: a condition that is missing, that is not wanted, or that is given twice; or
            a dataset with weights of the examples.
        InvalidData: no examples, data or conditions that do not fit, or not as many of one as of
            the other.
    """
    if isinstance(x, Examples) and model.condition is not None and x.conditions is not None:
        if condition is not None:
            raise InvalidArgument(
                "The examples have conditions of their own, and `condition`, --condition on the "
                "command line, gives others; expected one of the two. Leave `condition` out, or "
                "take the examples without theirs: dataclasses.replace(x, conditions=None), and "
                "of a table a file without this column."
            )
        condition = x.conditions
    of_pairs = isinstance(x, tf.data.Dataset) and isinstance(x.element_spec, tuple)
    if model.condition is not None and of_pairs and len(x.element_spec) > 1:
        if condition is not None:
            raise InvalidArgument(
                "There are conditions beside the examples of the dataset and in `condition`; "
                "expected one of the two. Leave those of the dataset out with "
                "`x.map(lambda x, y: x)`."
            )
        _refuse_weights(x)
        return _pairs(model, x, batch_size), None
    x = x if isinstance(x, (tf.data.Dataset, Examples)) else np.asarray(x)
    parts, count = _batches(model, x, batch_size)
    y = None
    if needed or condition is not None:
        y = model.check_condition(condition, None if isinstance(x, tf.data.Dataset) else len(x))
    one_for_all = y is None or y.shape.rank == len(model.condition.spec.shape) - 1
    return _beside(parts, y, one_for_all), count


def _refuse_weights(x):
    """Refuse a dataset whose third part would be lost."""
    is_tuple = isinstance(x, tf.data.Dataset) and isinstance(x.element_spec, tuple)
    if is_tuple and len(x.element_spec) > 2:
        raise InvalidArgument(
            "The dataset has weights beside its examples, (x, y, sample_weight), and every example "
            "counts the same here. Leave them out with `x.map(lambda x, y, weight: (x, y))`."
        )


def _pairs(model, x, batch_size):
    for part in _read(x.unbatch().batch(batch_size).as_numpy_iterator()):
        examples, y = part
        model.check_data(examples, "x")
        y = model.check_condition(y, len(examples), name="x", one_for_all=False)
        yield tf.constant(examples, tf.float32), y


def _beside(parts, y, one_for_all):
    done = 0
    for part in parts:
        start, done = done, done + len(part)
        if not one_for_all and done > len(y):
            raise _wrong_count(y, f"at least {done}")
        if y is None:
            yield part, None
        elif one_for_all:
            yield part, tf.broadcast_to(y, [len(part), *y.shape])
        else:
            yield part, y[start:done]
    if not one_for_all and done < len(y):
        raise _wrong_count(y, done)


def _wrong_count(y, count):
    return InvalidData(
        f"There are {len(y)} conditions for {count} examples; expected one for each."
    )


def arrays_beside_condition(model, x, condition) -> tuple[np.ndarray, np.ndarray | None]:
    """Return all checked examples, `[N, *x_shape]` float32, and their conditions, `[N, ...]`.

    For measures that go over them more than once. Arguments and errors are those of
    `batches_beside_condition`.
    """
    parts, _ = batches_beside_condition(model, x, condition, 1000)
    examples, conditions = zip(*parts, strict=True)
    y = None if model.condition is None else np.concatenate(conditions)
    return np.concatenate(examples), y


def alike(y: np.ndarray | tf.Tensor | None, count: int) -> list[np.ndarray]:
    """Return the indices of the examples of each condition, of y `[count, ...]`; or else of all."""
    if y is None:
        return [np.arange(count)]
    _, which, sizes = np.unique(y, axis=0, return_inverse=True, return_counts=True)
    return np.split(np.argsort(which.ravel(), kind="stable"), np.cumsum(sizes)[:-1])


def sample_size(model) -> int:
    """Return how many numbers the largest tensor has for one latent, which memory goes by.

    That is what the decoder emits, or a sixteenth of the widest layer of the networks that p(x, z)
    is made of: only a few hidden layers are held at a time.
    """
    has_latents = isinstance(model, LatentVariableModel)
    parts = model.generative_parts if has_latents else [model.decoder]
    return max(output_size(model), *(widest(part) // 16 for part in parts))


def widest(part) -> int:
    """Return how many numbers the widest layer of a part gives for one example, 0 if unknown."""
    return max(memory.widths(part), default=0)


def output_size(model) -> int:
    """Return how many numbers the decoder emits for one latent."""
    *sites, channels = model.x_shape
    likelihood = getattr(model, "likelihood", None)
    size = likelihood.params_size(channels) if likelihood is not None else channels
    return math.prod(sites) * size


def refuse_drawn(model, what: str) -> None:
    """Refuse a model whose log p(x|z) is estimated by draws of missing values.

    Raises:
        InvalidArgument: with what measures it.
    """
    if getattr(model.likelihood, "missingness", None) is not None:
        raise InvalidArgument(
            f"{what} needs log p(x|z) itself, but the likelihood has a model of the mask, under "
            "which it is estimated by draws of missing values. Use tfvae.log_likelihood and "
            "tfvae.impute, which make them."
        )


def count_values(x: tf.Tensor) -> np.ndarray:
    """Return how many values each example has that are not missing, `[B]`."""
    return np.sum(~np.isnan(x), axis=tuple(range(1, len(x.shape))))


def join(results) -> list[np.ndarray]:
    """Join the results of all batches, lists of arrays `[B, ...]`, to one list of `[N, ...]`."""
    return [np.concatenate(part) for part in zip(*results, strict=True)]


def track(parts, total, description: str, show: bool = True):
    """Return the iterator `parts` itself, with a progress bar on standard error if `show`."""
    if not show:
        return parts
    import rich.progress
    from rich.console import Console

    console = Console(stderr=True)
    return rich.progress.track(parts, description, total, console=console, transient=True)
