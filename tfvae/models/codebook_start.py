"""The start of codebooks from training examples."""

import math
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tfvae import distribute
from tfvae.conditions import as_argument
from tfvae.errors import InvalidArgument

_VECTORS = 65_536
_BATCH = 100


def start_codebooks(model, x, y, sites: Sequence[int]) -> None:
    """Initialize the codebooks of a model that wait for data.

    Each gets up to 65,536 vectors, those of examples all over an array or of the first batches of a
    dataset.

    Args:
        model: a `CodeModel`.
        x: an array, or a batched `tf.data.Dataset`.
        y: conditions beside an array, or None.
        sites: how many vectors an example has for each codebook.

    Raises:
        InvalidArgument: x is neither.
        InvalidData: too few vectors.
    """
    y = y if model.trains_on_condition else None
    # From the last to the first: the input of a finer codebook depends on the coarser ones.
    for index, quantizer in reversed(list(enumerate(model.codebooks))):
        if not quantizer.needs_data:
            continue
        vectors, count = [], 0
        most = math.ceil(_VECTORS / sites[index])
        for batch, given in _batches(x, y, most):
            given = given if model.trains_on_condition else None
            c = model.encode_condition(given, tf.shape(batch)[0])
            batch = tf.cast(batch, tf.float32)
            part = model.vectors_to_start(index, batch, **as_argument(c))
            vectors.append(tf.reshape(tf.cast(part, tf.float32), [-1, part.shape[-1]]).numpy())
            count += len(vectors[-1])
            if count >= _VECTORS:
                break
        quantizer.initialize(np.concatenate(vectors)[:_VECTORS])
        # The sums of k-means are rounded differently on different machines.
        floats = [v for v in quantizer.variables if v.dtype.startswith("float")]
        distribute.take_from_chief(model.distribute_strategy, floats)


def _batches(x, y, count):
    """Yield batches, and the conditions beside them if there are any.

    The batches hold up to `count` examples, spread over a whole array, or all those of a dataset.
    """
    if isinstance(x, tf.data.Dataset):
        for batch in x:
            yield keras.utils.unpack_x_y_sample_weight(batch)[:2]
        return
    if not isinstance(x, (np.ndarray, tf.Tensor)):
        raise InvalidArgument(
            f"A codebook that starts from the data got {type(x).__name__}; expected an array or a "
            "tf.data.Dataset. Give `fit` one of these, or call the quantizer's `initialize` first."
        )
    step = math.ceil(len(x) / count)
    chosen, beside = np.asarray(x)[::step], None if y is None else np.asarray(y)[::step]
    for start in range(0, len(chosen), _BATCH):
        rows = slice(start, start + _BATCH)
        yield chosen[rows], None if beside is None else beside[rows]
