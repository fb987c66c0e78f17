"""The contract of a likelihood family."""

import numpy as np
import tensorflow as tf

from tfvae.distributions import tfd
from tfvae.distributions.factory import Factory
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.likelihoods.support import REALS, Support
from tfvae.registry import Registry

MISSING = (
    "use likelihoods.Observed(...) around the likelihood, and networks with missing=True "
    "(docs/missing-values.md)"
)
REGISTRY = Registry("likelihood")
get = REGISTRY.get
_UNIT = Support(
    0.0,
    1.0,
    noun="pixels in [0, 1]",
    remedy="Divide 8-bit images by 255, or use likelihood='normal'.",
)


class Likelihood(Factory):
    """A family of p(x|z), a Keras layer that turns a decoder's output into a distribution.

    Data with levels are floats in [0, 1]: over L levels, value v is level v·(L − 1).

    Attributes:
        num_levels: how many levels there are, in [0, 1]; None where values are no levels.
        is_density: whether p(x|z) is a density, so that log p(x) depends on the unit of x, and not
            the probability of discrete values.
        missing_unit: what may be missing from x under `Observed`: any "value"; only a "site" as a
            whole, with all of its channels; None for nothing.
        draws_values: whether samples of a model are draws of x. Otherwise they are means of p(x|z),
            as is usual for pictures.
    """

    num_levels: int | None = None
    is_density = True
    missing_unit: str | None = "value"
    draws_values = False

    def draw_width(self, channels: int) -> int:
        """Return the most values in memory that a draw of x needs for each example."""
        return channels

    def complete(self) -> "Likelihood":
        """Return the likelihood of examples without missing values: itself, but for `Observed`."""
        return self

    def weigh(
        self, p_x: tfd.Distribution, x: tf.Tensor, seed: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return what p(x|z) contributes to a log-weight, `[K, B]`, and the x that it is of.

        This is log p(x|z), of x itself, but for `Observed` with a model of the mask, which draws
        what is missing.

        Args:
            p_x: what this likelihood made of parameters, with batch shape `[K, B]`.
            x: examples, `[B, *x_shape]`.
            seed: `[2]` int32 of the latents, of which such draws derive their own; None where
                log p(x|z) itself is asked for.
        """
        return p_x.log_prob(x), x

    def filled(self, x: tf.Tensor) -> tf.Tensor:
        """Return x for functions that take no missing values: x itself, except for `Observed`."""
        return x

    def placeholder(self, channels: int) -> np.ndarray:
        """Return for each channel a value of its support, `[channels]`."""
        return np.full(channels, self.support.inside(), np.float32)

    def num_categories(self, channels: int) -> np.ndarray:
        """Return for each channel how many categories its values name, `[channels]`.

        0 where they are numbers, whose mean has a meaning.
        """
        return np.zeros(channels, int)

    @property
    def support(self) -> Support:
        """The values that x may have."""
        return REALS if self.num_levels is None else _UNIT

    def check(self, x: np.ndarray, name: str = "x") -> None:
        """Refuse data outside of the support of this likelihood.

        Raises:
            InvalidData: `x` is not finite, or has values outside of `support`.
        """
        if not np.all(np.isfinite(x)):
            remedy = "Clean the data first."
            if np.any(np.isnan(x)):
                remedy += f" If NaN stands for a missing value: {MISSING}."
            raise InvalidData(
                f"`{name}` holds {np.count_nonzero(~np.isfinite(x))} values that are infinite or "
                f"not a number; expected finite values. {remedy}"
            )
        if not self.support.holds(x):
            fraction = self.support.whole and np.mean(x != np.round(x))
            what = f", {fraction:.0%} of them not whole" if fraction else ""
            raise InvalidData(
                f"`{name}` has values from {x.min():g} to {x.max():g}{what}; {self.expected()}"
            )

    def takes(self, x: tf.Tensor) -> tf.Tensor:
        """Return whether `check` would take the values of a float32 batch: a scalar, in a graph."""
        return self.support.takes(x)

    def expected(self) -> str:
        """Return what `check` and `takes` expect of data, and the remedy for other data."""
        support = self.support
        return f"the {type(self).__name__} likelihood expects {support.noun}. {support.remedy}"

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
