"""An interval that a likelihood is told of."""

import math

from tfvae.checks import finite
from tfvae.errors import InvalidArgument


def check_bounds(low, high) -> tuple[float, float]:
    """Return the ends of an interval; either may be None where it has no end.

    Raises:
        InvalidArgument: no end at all, or the ends in the wrong order.
    """
    low = -math.inf if low is None else float(finite("low", low))
    high = math.inf if high is None else float(finite("high", high))
    if not low < high or (low == -math.inf and high == math.inf):
        raise InvalidArgument(
            f"`low` and `high` are {low:g} and {high:g}; expected at least one number, and low "
            "below high. Without either, use likelihood='normal'."
        )
    return low, high
