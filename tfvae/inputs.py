"""What `fit` and its like are given: one array, or batches of it, whatever holds them."""

import contextlib
import re
import types

import keras
import numpy as np
import tensorflow as tf

from tfvae.errors import InvalidArgument, InvalidData

_ONE_ARRAY = (
    "expected one array of examples, or batches of it: (x,), (x, y) or (x, y, sample_weight)"
)


class EpochStarts(keras.callbacks.Callback):
    """Tells data that depends on the epoch which one begins, by its method `start_at`."""

    def __init__(self, data):
        super().__init__()
        self.data = data

    def on_epoch_begin(self, epoch, logs=None):
        """Tell it."""
        self.data.start_at(epoch)


def look(data, name: str):
    """Return the first examples as arrays, and the data to go on with.

    All examples of an array or tensor, the first batch of anything else: a `tf.data.Dataset`, a
    `keras.utils.PyDataset`, another iterable of batches, or a Python generator, whose first batch
    is put back.

    Args:
        data: what a user hands to `fit`, `evaluate` or `predict` as x.
        name: what messages call it.

    Returns:
        (x, y, data): x an array `[N, ...]`, y an array or None. Both are None where the batches
        lie on several devices.

    Raises:
        InvalidArgument: nothing, or something that is neither an array nor holds batches of one.
        InvalidData: no batch, or a batch of something else than numbers.
    """
    if data is None:
        raise InvalidArgument(f"`{name}` is missing; {_ONE_ARRAY}.")
    if isinstance(data, tf.distribute.DistributedDataset):
        return None, None, data
    if _is_nest(data) or isinstance(data, str):
        raise InvalidArgument(_not_one_array(data, name))
    if is_array(data):
        return as_array(data, name), None, data
    if isinstance(data, keras.utils.PyDataset):
        batch = data[0]
    elif isinstance(data, types.GeneratorType):
        batch = next(data, None)
        data = _put_back(batch, data)
    elif hasattr(data, "__iter__"):
        batch = next(iter(data), None)
    else:
        raise InvalidArgument(_not_one_array(data, name))
    if batch is None:
        raise InvalidData(f"`{name}` is empty; expected at least one batch.")
    x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    if _is_nest(x):
        raise InvalidArgument(_not_one_array(x, name))
    return as_array(x, name), None if y is None or _is_nest(y) else np.asarray(y), data


def as_array(x, name: str) -> np.ndarray:
    """Return examples as an array of numbers.

    Raises:
        InvalidData: ragged or sparse tensors, text, objects, complex numbers.
    """
    dense = not isinstance(x, (tf.RaggedTensor, tf.SparseTensor))
    array = np.asarray(x) if dense else None
    if dense and array.dtype == tf.bfloat16.as_numpy_dtype:
        return array.astype(np.float32)
    if not dense or array.dtype.kind not in "biuf":
        what = f"{array.dtype} values" if dense else type(x).__name__
        raise InvalidData(f"`{name}` holds {what}; expected a dense array of numbers.")
    return array


def _put_back(batch, generator):
    yield batch
    yield from generator


def _is_nest(x):
    return isinstance(x, (dict, list, tuple))


def is_array(x) -> bool:
    """Whether data is all there, as an array or a tensor of whatever library."""
    tensor = isinstance(x, (tf.Tensor, tf.Variable, tf.RaggedTensor, tf.SparseTensor))
    return tensor or (hasattr(x, "shape") and hasattr(x, "__array__"))


def _not_one_array(x, name):
    what = f"a {type(x).__name__}"
    remedy = "Give the encoder a single input, joining several with keras.layers.Concatenate()."
    if isinstance(x, dict):
        what = f"a dict of {', '.join(map(repr, x))}"
        key = next(iter(x), "image")
        remedy = (
            f"Take the examples out: x[{key!r}] of a dict of arrays, "
            f"`dataset.map(lambda batch: batch[{key!r}])` of a dataset of dicts."
        )
    elif isinstance(x, (list, tuple)):
        what += f" of {len(x)}"
        remedy = "Make a list of examples an array with np.stack. " + remedy
    return f"`{name}` holds {what}; {_ONE_ARRAY}. {remedy}"


@contextlib.contextmanager
def own_errors():
    """Give the error of a source of data in place of the one that TensorFlow makes of it.

    A source fails inside of a `tf.data` pipeline, from where only the text of its error comes.
    Works as a decorator too.
    """
    try:
        yield
    except tf.errors.OpError as error:
        found = re.search(r"InvalidData: (.*?)\n+Traceback", str(error), re.DOTALL)
        if found is None:
            raise
        raise InvalidData(found[1]) from None
