"""Checks of arguments, which return a valid value and raise an error for any other."""

import math
import numbers

from tfvae._plain import float32
from tfvae.errors import InvalidArgument, unknown_name


def finite(name: str, value) -> float:
    """Return a constructor argument that must be a finite number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise InvalidArgument(f"`{name}` is {value!r}; expected a finite number.")
    return value


def positive(name: str, value) -> float:
    """Return a constructor argument that must be a finite number above 0."""
    if finite(name, value) <= 0:
        raise InvalidArgument(f"`{name}` is {value!r}; expected a number above 0.")
    return value


def not_negative(name: str, value) -> float:
    """Return an argument that must be a finite number of at least 0."""
    if finite(name, value) < 0:
        raise InvalidArgument(f"`{name}` is {value!r}; expected a number of at least 0.")
    return value


def temperature(value) -> float:
    """Return a temperature of draws, which are computed in float32: a number of at least 0.

    An array or a tensor without axes is a number too.
    """
    if getattr(value, "shape", None) == ():
        value = (value.numpy() if hasattr(value, "numpy") else value).item()
    if not_negative("temperature", value) > float32.LARGEST:
        raise InvalidArgument(
            f"`temperature` is {value!r}; expected one that is finite in float32, below 3.4e38."
        )
    return float(value)


def probability(name: str, value) -> float:
    """Return an argument that must be a number from 0 to 1."""
    return between(name, value, 0, 1)


def between(name: str, value, low: float, high: float) -> float:
    """Return an argument that must be a number from `low` to `high`."""
    if not low <= finite(name, value) <= high:
        raise InvalidArgument(f"`{name}` is {value!r}; expected a number from {low:g} to {high:g}.")
    return value


def below_one(name: str, value) -> float:
    """Return an argument that must be a number from 0 to below 1."""
    if not 0 <= finite(name, value) < 1:
        raise InvalidArgument(f"`{name}` is {value!r}; expected a number from 0 to below 1.")
    return value


def integer(name: str, value) -> int:
    """Return an argument that must be a whole number, NumPy's among them, as a Python integer."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise InvalidArgument(f"`{name}` is {value!r}; expected a whole number.")
    return int(value)


def whole(name: str, value, least: int = 1) -> int:
    """Return an argument that must be a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise InvalidArgument(
            f"`{name}` is {value!r}; expected a whole number of at least {least}."
        )
    return int(value)


def choice(name: str, value, valid) -> str:
    """Return an argument that must be one of the names `valid`."""
    if not isinstance(value, str) or value not in valid:
        raise unknown_name(name, value, valid)
    return value
