"""The values of vectors and series in units of their spread."""

from collections.abc import Iterable, Sequence

import numpy as np

from tfvae.errors import InvalidArgument, InvalidData


def scale_of(mean: np.ndarray | float, deviation: np.ndarray | float) -> np.ndarray:
    """Return standard deviations, and 1 in place of what rounding makes of constant values."""
    return np.where(deviation > 1e-12 * np.maximum(np.abs(mean), 1e-30), deviation, 1.0)


class Standardization:
    """x = (v − mean) / scale of each value on the last axis: of a column, or of a channel.

    Args:
        mean: `[C]`.
        scale: `[C]`, above 0.

    Raises:
        InvalidArgument: they are no finite numbers, or not as many.
    """

    def __init__(self, mean: Sequence[float] | np.ndarray, scale: Sequence[float] | np.ndarray):
        try:
            self.mean, self.scale = (np.array(part, np.float64) for part in (mean, scale))
        except (TypeError, ValueError, OverflowError):
            self.mean = self.scale = np.zeros(0)
        is_sound = self.mean.ndim == 1 and self.mean.shape == self.scale.shape and self.mean.size
        finite = np.isfinite(self.mean).all() and np.isfinite(self.scale).all()
        if not (is_sound and finite and (self.scale > 0).all()):
            raise InvalidArgument(
                f"The means {str(mean)[:80]} and the scales {str(scale)[:80]} standardize nothing; "
                "expected as many finite numbers of each, and scales above 0."
            )

    @classmethod
    def fitted(cls, parts: Iterable[np.ndarray], name: str = "the data") -> "Standardization":
        """Return mean and standard deviation over all but the last axis, missing values left out.

        The scale of constant values is 1.

        Args:
            parts: arrays `[n, ..., C]`, one after the other.
            name: what messages call them.

        Raises:
            InvalidData: values of which all are missing, NaN.
        """
        count = mean = squares = 0.0
        for part in parts:
            rows = np.asarray(part, np.float64).reshape(-1, np.shape(part)[-1])
            observed = ~np.isnan(rows)
            number = observed.sum(0)
            of_part = rows.sum(0, where=observed) / np.maximum(number, 1)
            deviation = np.where(observed, rows - of_part, 0.0)
            # Chan, Golub and LeVeque 1979: means and squared deviations of two parts, joined.
            total = np.maximum(count + number, 1)
            squares = squares + (deviation**2).sum(0)
            squares = squares + (of_part - mean) ** 2 * count * number / total
            mean = mean + (of_part - mean) * number / total
            count = count + number
        empty = np.flatnonzero(count == 0)
        if len(empty):
            raise InvalidData(
                f"Column {empty[0]} of the last axis of {name} has no value in any of the training "
                "examples; expected one at least. Leave it out."
            )
        return cls(mean, scale_of(mean, np.sqrt(squares / count)))

    def standardized(self, values: np.ndarray) -> np.ndarray:
        """Return x of values `[..., C]`, float32."""
        return ((np.asarray(values, np.float64) - self.mean) / self.scale).astype(np.float32)

    def restored(self, x: np.ndarray) -> np.ndarray:
        """Return the values that x `[..., C]` stands for, float64: the inverse of `standardized`.

        They are exact to the scale times 2^-24 for each unit of x: so much float32 holds of x.

        Raises:
            InvalidData: x has another last axis.
        """
        x = np.asarray(x, np.float64)
        if x.shape[-1:] != self.mean.shape:
            raise InvalidData(
                f"x has the shape {x.shape}; what was standardized has {len(self.mean)} values on "
                "its last axis."
            )
        return x * self.scale + self.mean

    def log_jacobian(self, x: np.ndarray) -> np.ndarray:
        """Return log |dx/dv| = −log scale of each value, of the shape of x; 0 where it is NaN.

        Added to log p(x), their sum gives the log-density of the values in their own units.
        """
        return np.where(np.isnan(x), 0.0, -np.log(self.scale))

    def get_config(self) -> dict:
        """Return the statistics as plain numbers, for JSON."""
        return {"mean": self.mean.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def of(cls, value: "Standardization | dict") -> "Standardization":
        """Return one as it is, or the one that `get_config` described.

        Raises:
            InvalidArgument: it is neither.
        """
        if isinstance(value, cls):
            return value
        if not isinstance(value, dict) or set(value) != {"mean", "scale"}:
            raise InvalidArgument(f"No standardization can be made of {str(value)[:200]}.")
        return cls(**value)

    def __eq__(self, other):
        return isinstance(other, Standardization) and self.get_config() == other.get_config()

    def __hash__(self):
        return hash((*self.mean.tolist(), *self.scale.tolist()))

    def __repr__(self):
        return f"Standardization(mean={self.mean.tolist()}, scale={self.scale.tolist()})"
