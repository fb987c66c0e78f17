"""The start of codebooks from training examples."""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfvae import distribute, inputs
from tfvae.conditions import as_argument

_VECTORS = 65_536


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
        vectors, count, step = [], 0, 1
        if inputs.is_array(x):  # from all over it
            step = math.ceil(len(x) / math.ceil(_VECTORS / sites[index]))
        who, instead = "The codebook", "the quantizer's `initialize`"
        for batch, given in inputs.batches_to_start(x, y, who, instead, step):
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
