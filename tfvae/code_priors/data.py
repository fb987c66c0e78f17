"""Checks of codes, made before a network sees them."""

import numpy as np
import tensorflow as tf

from tfvae.errors import InvalidData


def check_codes(codes, codebook_size: int, code_shape: tuple | None, name: str = "codes") -> None:
    """Refuse codes that have no probability under a prior.

    Args:
        codes: array or tensor of known values.
        codebook_size: K; codes are 0, …, K − 1.
        code_shape: shape of the codes of one example, or None if any will do.
        name: what the message calls them.

    Raises:
        InvalidData: not integers, no examples, another shape, or values out of range.
    """
    codes = np.asarray(codes)
    check_code_type(codes.dtype, name)
    if codes.ndim < 2 or codes.size == 0:
        raise InvalidData(
            f"`{name}` has the shape {codes.shape}; expected [N, *code_shape] with at least one "
            "example. Give a single example an axis of its own with `codes[None]`."
        )
    if code_shape is not None:
        check_code_shape(codes.shape[1:], code_shape, name)
    check_code_range(codes, codebook_size, name)


def check_code_range(codes, codebook_size: int, name: str = "codes") -> None:
    """Refuse values that are no codes.

    Raises:
        InvalidData: values out of range.
    """
    codes = np.asarray(codes)
    if not codes.size:
        return
    if codes.min() < 0 or codes.max() >= codebook_size:
        raise InvalidData(
            f"`{name}` holds values from {codes.min()} to {codes.max()}; expected 0 to "
            f"{codebook_size - 1}, as `codebook_size` is {codebook_size}. Make a prior with the "
            "codebook size of the model that the codes come from."
        )


def check_code_type(dtype, name: str = "codes") -> None:
    """Refuse codes that are not integers.

    Raises:
        InvalidData: floats, Booleans or anything else.
    """
    if not tf.as_dtype(dtype).is_integer:
        raise InvalidData(
            f"`{name}` holds {tf.as_dtype(dtype).name}; expected integers, the codes that a VQ-VAE "
            "gives an image. Encode images first; cast what is whole with `.astype('int32')`."
        )


def check_code_shape(shape, code_shape: tuple, name: str = "codes") -> None:
    """Refuse an example of another shape; axes that are not known yet fit.

    Raises:
        InvalidData: with both shapes.
    """
    if not tf.TensorShape(shape).is_compatible_with(code_shape):
        raise InvalidData(
            f"`{name}` holds examples of shape {tuple(shape)}; this prior was built for "
            f"{code_shape}. Reshape the codes, or make a prior for their shape."
        )
