"""The data that `fit`, `evaluate` and `predict` are given: one array, or batches of it."""

import contextlib
import re
import types
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from tfvae.errors import InvalidArgument, InvalidData

_ONE_ARRAY = (
    "expected one array of examples, or batches of it: (x,), (x, y) or (x, y, sample_weight)"
)
_BATCH_TO_START = 100  # examples of an array


class EpochStarts(keras.callbacks.Callback):
    """A callback for data that depends on the epoch: it calls `start_at` when an epoch begins."""

    def __init__(self, data):
        super().__init__()
        self.data = data

    def on_epoch_begin(self, epoch, logs=None):
        """Tell the data which epoch begins."""
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
        (x, y, sample_weight, data): x an array `[N, ...]`, y an array or None, the weights as they
        are or None; y and the weights are those of a batch. All are None where the batches lie on
        several devices.

    Raises:
        InvalidArgument: nothing, or something that is neither an array nor holds batches of one.
        InvalidData: no batch, or a batch of something else than numbers.
    """
    if data is None:
        raise InvalidArgument(f"`{name}` is missing; {_ONE_ARRAY}.")
    if is_shared_out(data):
        return None, None, None, data
    if _is_nest(data) or isinstance(data, str):
        raise InvalidArgument(_not_one_array(data, name))
    if is_array(data):
        return as_array(data, name), None, None, data
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
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    if _is_nest(x):
        raise InvalidArgument(_not_one_array(x, name))
    y = None if y is None or _is_nest(y) else np.asarray(y)
    return as_array(x, name), y, sample_weight, data


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


def check_weights(sample_weight) -> None:
    """Refuse weights of examples that are not finite.

    Negative ones are taken, as Keras takes them: the weighted sum is defined, and the events of
    some Monte Carlo generators have them.

    Raises:
        InvalidData: with one of them.
    """
    if sample_weight is None:
        return
    weights = as_array(sample_weight, "sample_weight")
    wrong = weights[~np.isfinite(weights)]
    if wrong.size:
        raise InvalidData(
            f"`sample_weight` holds {wrong[0]}; expected finite numbers. The weight 0 leaves an "
            "example out."
        )


def _put_back(batch, generator):
    yield batch
    yield from generator


def _is_nest(x):
    return isinstance(x, (dict, list, tuple))


def is_array(x) -> bool:
    """Whether data is an array or a tensor of any library, not batches of one."""
    tensor = isinstance(x, (tf.Tensor, tf.Variable, tf.RaggedTensor, tf.SparseTensor))
    return tensor or (hasattr(x, "shape") and hasattr(x, "__array__"))


def is_equal(x, y) -> bool:
    """Whether y, a target say, holds the values of the array or tensor x."""
    if y is x or _is_nest(y):
        return y is x
    x, y = np.asarray(x), np.asarray(y)
    return np.array_equal(x, y, equal_nan=y.dtype.kind in "biuf")


def batches_to_start(x, y, who: str, instead: str, step: int = 1) -> Iterator[tuple]:
    """Yield batches of examples, and the conditions beside them or None, to start weights at.

    Args:
        x: an array, or a batched `tf.data.Dataset` of such, or of pairs (x, y).
        y: conditions of an array, or None.
        who: what starts at examples, for the message.
        instead: the call that starts it without `fit`, for the message.
        step: of an array, every `step`-th example.

    Raises:
        InvalidArgument: x is something else, whose examples may not come a second time.
    """
    if isinstance(x, tf.data.Dataset):
        for batch in x:
            yield keras.utils.unpack_x_y_sample_weight(batch)[:2]
        return
    if not is_array(x):
        raise InvalidArgument(
            f"{who} starts at training examples, and `fit` got a {type(x).__name__}; expected an "
            f"array or a tf.data.Dataset. Give `fit` one of these, or call {instead} first."
        )
    for start in range(0, len(x), step * _BATCH_TO_START):
        rows = slice(start, start + step * _BATCH_TO_START, step)
        yield np.asarray(x[rows]), None if y is None else np.asarray(y[rows])


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
    """Raise the error of a source of data in place of TensorFlow's.

    A source fails inside a `tf.data` pipeline, which passes on only the text of its error. The
    function also works as a decorator.
    """
    try:
        yield
    except tf.errors.OpError as error:
        found = re.search(r"InvalidData: (.*?)\n+Traceback", str(error), re.DOTALL)
        if found is None:
            raise
        raise InvalidData(found[1]) from None


def is_shared_out(data) -> bool:
    """Whether data lies on several devices already."""
    return isinstance(data, tf.distribute.DistributedDataset)


def share_out(batches: tf.data.Dataset, strategy) -> tf.distribute.DistributedDataset:
    """Return batches of which replica r of R gets the examples from ⌊B r/R⌋ to below ⌊B (r+1)/R⌋.

    The order of the examples does not depend on how many replicas there are. Batches with the
    method `of_worker` make a worker's part alone; of others every worker makes the whole and keeps
    what its replicas take.
    """

    def of_worker(context):
        count, workers = context.num_replicas_in_sync, context.num_input_pipelines
        worker, own = context.input_pipeline_id, count // workers
        part = batches.of_worker(worker, workers) if hasattr(batches, "of_worker") else None
        if part is None:
            return _Parts(batches, own * worker, own, count)
        return _Parts(part, 0, own, own)

    return strategy.distribute_datasets_from_function(of_worker)


class _Parts(tf.data.Dataset):
    """The parts that the replicas of one worker get of each batch, one after the other."""

    def __init__(self, batches, first, own, count):
        self._batches = batches
        spec = tf.nest.flatten(batches.element_spec)[0]
        even = spec.shape[0] is not None and spec.shape[0] % count == 0

        def part(number, *batch):
            def of(values):
                size = tf.shape(values)[0]
                number_ = tf.cast(number, tf.int32)
                result = values[size * number_ // count : size * (number_ + 1) // count]
                if even:
                    result.set_shape([spec.shape[0] // count, *values.shape[1:]])
                return result

            parts = tf.nest.map_structure(of, batch)
            return parts if len(parts) > 1 else parts[0]

        def of_each(*batch):
            return tf.data.Dataset.range(first, first + own).map(lambda n: part(n, *batch))

        if own == 1:
            self._inside = batches.map(lambda *batch: part(tf.constant(first), *batch))
        else:
            self._inside = batches.flat_map(of_each)
        super().__init__(self._inside._variant_tensor)

    def cardinality(self):
        """Return how many steps there are, not parts."""
        return self._batches.cardinality()

    @property
    def element_spec(self):
        return self._inside.element_spec

    def _inputs(self):
        return [self._inside]
