"""A signature of a `.tflite` file: its inputs, and the integers that stand for real numbers."""

from typing import Any

import numpy as np

from tfvae.errors import InvalidArgument


class Signature:
    """One function of a file, between real numbers and those that the file has.

    Args:
        runner: LiteRT's, which takes arrays by name and returns a dictionary of arrays.

    Attributes:
        runner: as given.
        inputs: (type of the values, shape) of each input by its name; −1 stands for any size.
    """

    def __init__(self, runner: Any):
        self.runner = runner
        self.inputs = {
            name: (np.dtype(detail["dtype"]), tuple(map(int, detail["shape_signature"])))
            for name, detail in runner.get_input_details().items()
        }
        self._inward = _integers(runner.get_input_details())
        self._outward = _integers(runner.get_output_details())

    def from_real(self, inputs: dict) -> dict[str, np.ndarray]:
        """Return inputs as the runner takes them.

        Raises:
            InvalidArgument: an array of another shape than the signature takes, or of values that
                its type does not hold.
        """
        found = {}
        for name, value in inputs.items():
            value = np.asarray(value)
            _check(name, value, *self.inputs[name])
            if name in self._inward:
                found[name] = _to_integer(value, self._inward[name])
            else:
                found[name] = _as_type(name, value, self.inputs[name][0])
        return found

    def to_real(self, outputs: dict) -> dict[str, np.ndarray]:
        """Return outputs of the runner as real numbers, where they stand for such."""
        return {name: _to_real(value, self._outward.get(name)) for name, value in outputs.items()}


def _integers(details):
    """Return (type, scale, zero point) of each input or output that stands for real numbers."""
    return {
        name: (detail["dtype"], *detail["quantization"])
        for name, detail in details.items()
        if detail["quantization"][0]
    }


def _check(name, values, dtype, shape):
    fits = len(values.shape) == len(shape) and all(
        wanted in (-1, given) for wanted, given in zip(shape, values.shape, strict=True)
    )
    if not fits or values.dtype.kind not in "buif":
        sizes = ", ".join("any" if size < 0 else str(size) for size in shape)
        raise InvalidArgument(
            f"{name!r} is an array of {values.dtype} of shape {values.shape}; expected {dtype} "
            f"[{sizes}]."
        )


def _as_type(name, values, dtype):
    """Return an input in the type that a signature takes; whole numbers stay the same."""
    with np.errstate(over="ignore", invalid="ignore"):
        converted = values.astype(dtype)
    if dtype.kind in "ui" and not np.array_equal(converted, values):
        raise InvalidArgument(
            f"{name!r} has values from {values.min()} to {values.max()}; expected whole numbers "
            f"that {dtype} holds."
        )
    return converted


def _to_integer(values, how):
    dtype, scale, zero_point = how
    limits = np.iinfo(dtype)
    return np.clip(np.round(values / scale) + zero_point, limits.min, limits.max).astype(dtype)


def _to_real(values, how):
    if how is None:
        return values
    _, scale, zero_point = how
    return np.float32(scale) * (values.astype(np.float32) - zero_point)
