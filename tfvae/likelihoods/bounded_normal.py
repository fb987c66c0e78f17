"""Normal values in an interval that the user gives."""

import math

from tfvae._plain.checks import finite
from tfvae.errors import InvalidArgument
from tfvae.likelihoods.likelihood import Likelihood
from tfvae.likelihoods.scales import WithScale
from tfvae.likelihoods.support import interval


class BoundedNormal(WithScale, Likelihood):
    """Values in [low, high] with a location and a scale; subclasses implement `distribution`.

    Args:
        low: the lower end; None for none.
        high: the upper end; None for none.
        scale: σ.

            - A number: fixed.
            - "shared": one trained number for all values and examples, from 1.
            - "by_value": a trained number for each value (column, gene, pixel), from 1.
            - "learned": the network emits it, softplus(raw + log(e − 1)), behind the locations on
              the last axis.
    """

    def __init__(
        self,
        low: float | None = 0.0,
        high: float | None = None,
        scale: float | str = "shared",
        **kwargs,
    ):
        super().__init__(scale, **kwargs)
        self.low, self.high = low, high
        self._ends = check_bounds(low, high)
        self.unbounded = {"raw scale": (1 / 2, 1)} if scale == "learned" else {}

    @property
    def support(self):
        return interval(*self._ends)

    def get_config(self):
        return {"low": self.low, "high": self.high} | super().get_config()


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
