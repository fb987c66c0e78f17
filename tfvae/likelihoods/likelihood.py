"""The contract of a likelihood family."""

import numpy as np
import tensorflow as tf

from tfvae.distributions.factory import Factory
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.registry import Registry

REGISTRY = Registry("likelihood")
get = REGISTRY.get


class Likelihood(Factory):
    """A family of p(x|z), a Keras layer that turns a decoder's output into a distribution.

    Data with levels are floats in [0, 1]: over L levels, value v is level v·(L − 1).

    Attributes:
        num_levels: how many values a pixel can take; None for a density on the real line.
    """

    num_levels: int | None = None

    def check(self, x: np.ndarray, name: str = "x") -> None:
        """Refuse data to which this likelihood gives no meaning.

        Raises:
            InvalidData: `x` is not finite, or lies outside [0, 1] while pixels have levels.
        """
        if not np.all(np.isfinite(x)):
            raise InvalidData(
                f"`{name}` holds {np.count_nonzero(~np.isfinite(x))} values that are infinite or "
                "not a number; expected finite pixels. Clean the data first."
            )
        if self.num_levels and x.size and (x.min() < 0 or x.max() > 1):
            raise InvalidData(
                f"`{name}` has values from {x.min():g} to {x.max():g}; {self.expected()}"
            )

    def takes(self, x: tf.Tensor) -> tf.Tensor:
        """Return whether `check` would take the values of a float32 batch: a scalar, in a graph."""
        # Reductions alone: comparing every value would take several times as long. Under XLA, a
        # minimum and a maximum pass over NaN; a sum does not.
        is_finite = tf.math.is_finite(tf.reduce_sum(x))
        if not self.num_levels:
            return is_finite
        return is_finite & (tf.reduce_min(x) >= 0.0) & (tf.reduce_max(x) <= 1.0)

    def expected(self) -> str:
        """Return what `check` and `takes` want of data, and what to do with other data."""
        if self.num_levels:
            return (
                f"the {type(self).__name__} likelihood expects pixels in [0, 1]. Divide 8-bit "
                "images by 255, or use likelihood='normal'."
            )
        return f"the {type(self).__name__} likelihood expects finite pixels. Clean the data first."

    def off_levels(self, x: np.ndarray) -> float:
        """Return the fraction of values that are not one of the levels: 0 if all is well.

        A likelihood over levels is a probability only of data that lies on them; of grey pixels, a
        Bernoulli's "log-likelihood" is not one.
        """
        if not self.num_levels:
            return 0.0
        level = np.asarray(x, np.float32) * (self.num_levels - 1)
        return float(np.mean(np.abs(level - np.round(level)) > 1e-2))


def check_levels(num_levels: int) -> int:
    """Return a number of levels, which must be at least 2."""
    if num_levels < 2:
        raise InvalidArgument(f"`num_levels` is {num_levels}; expected at least 2.")
    return num_levels
