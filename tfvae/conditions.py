"""Conditions y of a model p(x|y): labels of classes, or vectors."""

import numbers

import numpy as np
import tensorflow as tf

from tfvae.errors import InvalidArgument, InvalidData


class Condition:
    """What y is, and the vectors c(y) of float32 that networks are given.

    Attributes:
        size: C, the width of c(y).
        num_classes: how many labels there are; 0 for vectors.
        spec: the `tf.TensorSpec` of the conditions of a batch.
    """

    size: int
    num_classes = 0
    spec: tf.TensorSpec

    def __str__(self):
        raise NotImplementedError

    def check(
        self,
        y: np.ndarray | tf.Tensor | int | None,
        count: int | None = None,
        name: str | None = None,
        one_for_all: bool = True,
    ) -> tf.Tensor:
        """Return y as a tensor, `[count, ...]` or one for all; values are checked where known.

        Args:
            y: what a user gives.
            count: how many there should be, if that is known.
            name: of the data that y lies beside, for the message; None for an argument of its own.
            one_for_all: whether one condition will do for all examples.

        Raises:
            InvalidArgument: y is missing.
            InvalidData: y is of another type, another shape or another length, or out of range.
        """
        where = "`condition`" if name is None else f"The condition beside `{name}`"
        if y is None:
            got = "this call got none" if name is None else f"there is none beside `{name}`"
            raise InvalidArgument(
                f"The model has a condition, {self}, and {got}. Give each example its own: "
                "`fit(x, y)`, batches (x, y), or `condition=y`, --condition on the command line."
            )
        try:
            y = tf.convert_to_tensor(y)
        except (ValueError, TypeError):
            raise InvalidData(
                f"{where} is a {type(y).__name__} that is no array of numbers; expected {self}."
            ) from None
        y = self._of_type_and_shape(y, where)
        if y.shape.rank is None:  # Keras's steps forget it where data of two ranks was seen
            y = tf.reshape(y, [-1, *self.spec.shape[1:]])
        fits = one_for_all and y.shape.is_compatible_with(self.spec.shape[1:])
        if not fits and not y.shape.is_compatible_with([count, *self.spec.shape[1:]]):
            sizes = ", ".join(map(str, [count or "N", *self.spec.shape[1:]]))
            others = ", or a single one for all" if one_for_all else ""
            raise InvalidData(
                f"{where} has the shape {tuple(y.shape)}; expected [{sizes}], {self} for each "
                f"example{others}."
            )
        if hasattr(y, "numpy") and not bool(self.takes(y)):
            raise InvalidData(f"{where} {self._found(y.numpy())}.")
        return y

    def takes(self, y: tf.Tensor) -> tf.Tensor:
        """Return whether all values are such conditions, a scalar, in the graph."""
        raise NotImplementedError

    def encode(self, y: np.ndarray | tf.Tensor | int | None, count: tf.Tensor) -> tf.Tensor:
        """Return c(y), `[count, C]`, of conditions or of one for all."""
        y = self.check(y, tf.get_static_value(count))
        c = self._vectors(y)
        return tf.broadcast_to(c, tf.stack([count, self.size])) if c.shape.rank == 1 else c

    def example(self, count: tf.Tensor) -> tf.Tensor:
        """Return valid conditions `[count, ...]`, where any will do."""
        raise NotImplementedError

    def config(self) -> int | list[int]:
        """Return what `get` makes this condition of."""
        raise NotImplementedError

    def _of_type_and_shape(self, y, where):
        """Return y in the shape of the specification, if it has a type that will do."""
        raise NotImplementedError

    def _vectors(self, y):
        raise NotImplementedError

    def _found(self, y):
        raise NotImplementedError


class Classes(Condition):
    """One of C classes, an integer from 0 to C − 1; c(y) is one-hot."""

    def __init__(self, num_classes: int):
        if isinstance(num_classes, bool) or num_classes < 2:
            raise InvalidArgument(f"`condition` is {num_classes!r}; expected at least 2 classes.")
        self.size = self.num_classes = int(num_classes)
        self.spec = tf.TensorSpec((None,), tf.int32, "condition")

    def __str__(self):
        return f"a label from 0 to {self.size - 1}"

    def takes(self, y):
        y = tf.cast(y, tf.int64)
        return tf.reduce_all((y >= 0) & (y < self.size))

    def example(self, count):
        return tf.range(count, dtype=tf.int32) % self.size

    def config(self):
        return self.size

    def _of_type_and_shape(self, y, where):
        if not y.dtype.is_integer:
            raise InvalidData(
                f"{where} holds {y.dtype.name}; expected integers, each {self}. Cast whole "
                "numbers with `.astype('int32')`; make one-hot rows labels with `.argmax(-1)`."
            )
        if y.shape.rank == 2 and y.shape[-1] == 1:  # as Keras hands labels on
            y = tf.reshape(y, [-1])
        return y

    def _vectors(self, y):
        return tf.one_hot(tf.cast(y, tf.int32), self.size)

    def _found(self, y):
        return f"holds labels from {y.min()} to {y.max()}; expected each to be {self}"


class Vectors(Condition):
    """A vector of C finite numbers; c(y) = y."""

    def __init__(self, size: int):
        if not isinstance(size, numbers.Integral) or isinstance(size, bool) or size < 1:
            raise InvalidArgument(f"`condition` is ({size!r},); expected a width of at least 1.")
        self.size = int(size)
        self.spec = tf.TensorSpec((None, self.size), tf.float32, "condition")

    def __str__(self):
        return f"a vector of {self.size} numbers"

    def takes(self, y):
        return tf.reduce_all(tf.math.is_finite(tf.cast(y, tf.float32)))

    def example(self, count):
        rows, columns = (tf.cast(tf.range(1, n + 1), tf.float32) for n in (count, self.size))
        return tf.sin(rows[:, tf.newaxis] * columns)  # in [−1, 1], none of them 0

    def config(self):
        return [self.size]

    def _of_type_and_shape(self, y, where):
        if not (y.dtype.is_floating or y.dtype.is_integer or y.dtype.is_bool):
            raise InvalidData(f"{where} holds {y.dtype.name}; expected {self}.")
        return y

    def _vectors(self, y):
        return tf.cast(y, tf.float32)

    def _found(self, y):
        wrong = np.sum(~np.isfinite(tf.cast(y, tf.float32)))
        return f"holds {wrong} values that, in float32, are infinite or not a number"


def get(condition: int | tuple[int, ...] | Condition | None) -> Condition | None:
    """Return a condition: of a number of classes, of the shape `(C,)` of vectors, or as it is.

    Raises:
        InvalidArgument: anything else.
    """
    if condition is None or isinstance(condition, Condition):
        return condition
    if isinstance(condition, numbers.Integral):
        return Classes(condition)
    if isinstance(condition, (tuple, list)) and len(condition) == 1:
        return Vectors(condition[0])
    raise InvalidArgument(
        f"`condition` is {condition!r}; expected a number of classes, such as 10, or the shape of "
        "vectors, such as (5,)."
    )


class Conditional:
    """The base of classes with a condition, which check and encode y in the same way."""

    condition: Condition | None = None
    makes_conditional = "Make the model with `condition=`"  # how one has a condition

    @property
    def trains_on_condition(self) -> bool:
        """Whether `fit`, `evaluate` and `predict` need y beside x."""
        return self.condition is not None

    def check_condition(
        self, y: np.ndarray | tf.Tensor | int | None, count: int | None = None, **where
    ) -> tf.Tensor | None:
        """Return y as `Condition.check` does; None without a condition, and then y has to be None.

        Raises:
            InvalidArgument: a condition that is missing, or that is not wanted.
            InvalidData: conditions of another type or shape, or out of range.
        """
        if self.condition is not None:
            return self.condition.check(y, count, **where)
        if y is not None:
            raise InvalidArgument(
                f"{type(self).__name__} got a condition and has none. {self.makes_conditional}, or "
                "leave the condition out."
            )
        return None

    def condition_of_each(
        self, y: np.ndarray | tf.Tensor | int | None, count: int
    ) -> np.ndarray | None:
        """Return y of each of `count` examples, `[count, ...]`, of conditions or of one for all.

        They have the type of the condition's `spec`. None without a condition.

        Raises:
            InvalidArgument: a condition that is missing, or that is not wanted.
            InvalidData: conditions of another type or shape, or out of range.
        """
        y = self.check_condition(y, count)
        if y is None:
            return None
        spec = self.condition.spec
        return np.broadcast_to(tf.cast(y, spec.dtype).numpy(), (count, *spec.shape[1:]))

    def encode_condition(
        self, y: np.ndarray | tf.Tensor | int | None, count: int | tf.Tensor
    ) -> tf.Tensor | None:
        """Return c(y), `[count, C]`, of conditions or of one for all; None without a condition.

        Raises:
            InvalidArgument: a condition that is missing, or that is not wanted.
            InvalidData: conditions of another type or shape, or out of range.
        """
        y = self.check_condition(y, tf.get_static_value(count))
        return None if y is None else self.condition.encode(y, count)


def describe(condition: Condition | None) -> dict:
    """Return the description of a condition in a file, as plain data; empty if there is none."""
    if condition is None:
        return {}
    if condition.num_classes:
        return {"num_classes": condition.num_classes}
    return {"condition_size": condition.size}


def as_argument(c: tf.Tensor | None) -> dict:
    """Return c(y) as a keyword argument of a pass, or no argument without a condition."""
    return {} if c is None else {"condition": c}
