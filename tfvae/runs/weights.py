"""A limit on the memory that the weights of a model take, checked while it is made."""

import contextlib
import contextvars
import math

import keras

from tfvae._plain import memory
from tfvae._plain.threads import shared
from tfvae.errors import TfvaeError


@contextlib.contextmanager
def bounded_weights(most: int, error: type[TfvaeError], message: str):
    """Raise an error at the weight by which the weights made in this context exceed a limit.

    A configuration of a few bytes can ask for a layer of any size. Keras allocates a weight when a
    layer adds it; this context looks at its shape first. What other threads make does not count.

    Args:
        most: bytes that all of them may take.
        error: the class of the error.
        message: a sentence in which `{size}` and `{most}` stand for sizes.

    Raises:
        TfvaeError: `error`.
    """
    token = _bound.set(_Bound(most, error, message))
    try:
        with _checked_weights():
            yield
    finally:
        _bound.reset(token)


class _Bound:
    """A limit, and what was taken of it."""

    def __init__(self, most, error, message):
        self.most, self.error, self.message = most, error, message
        self.taken = 0

    def take(self, shape):
        sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
        if all(isinstance(size, int) for size in sizes):
            self.taken += 4 * math.prod(sizes)
        if self.taken > self.most:
            size, allowed = memory.text(self.taken), memory.text(self.most)
            raise self.error(self.message.format(size=size, most=allowed))


_bound = contextvars.ContextVar("bound", default=None)  # of what this thread makes


@shared
@contextlib.contextmanager
def _checked_weights():
    """Have every layer ask for the limit of its thread before it adds a weight."""
    add_weight = keras.layers.Layer.add_weight

    def checked(layer, *args, shape=None, **options):
        bound = _bound.get()
        if bound is not None:
            bound.take(shape)
        return add_weight(layer, *args, shape=shape, **options)

    keras.layers.Layer.add_weight = checked
    try:
        yield
    finally:
        keras.layers.Layer.add_weight = add_weight
