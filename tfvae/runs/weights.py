"""A limit on the memory that the weights of a model take, checked while it is made."""

import contextlib
import math

import keras

from tfvae._plain import memory
from tfvae.errors import TfvaeError


@contextlib.contextmanager
def bounded_weights(most: int, error: type[TfvaeError], message: str):
    """Raise an error at the weight by which the weights made in this context exceed a limit.

    A configuration of a few bytes can ask for a layer of any size. Keras allocates a weight when a
    layer adds it; this context looks at its shape first.

    Args:
        most: bytes that all of them may take.
        error: the class of the error.
        message: a sentence in which `{size}` and `{most}` stand for sizes.

    Raises:
        TfvaeError: `error`.
    """
    add_weight, taken = keras.layers.Layer.add_weight, 0

    def checked(layer, *args, shape=None, **options):
        nonlocal taken
        sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
        if all(isinstance(size, int) for size in sizes):
            taken += 4 * math.prod(sizes)
        if taken > most:
            size, allowed = memory.text(taken), memory.text(most)
            raise error(message.format(size=size, most=allowed))
        return add_weight(layer, *args, shape=shape, **options)

    keras.layers.Layer.add_weight = checked
    try:
        yield
    finally:
        keras.layers.Layer.add_weight = add_weight
