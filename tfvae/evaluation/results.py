"""The mean of a measured log p(x), its standard error, and its bits per dimension."""

import dataclasses
import math
from typing import Any

import numpy as np


class Measured:
    """Mixin for a frozen dataclass with `per_example`, `[N]` in nats, and `num_values`.

    The latter is how many values an example has; with missing values, the mean number of those that
    were observed.
    """

    @property
    def mean(self) -> float:
        """The mean over examples."""
        return float(self.per_example.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of the mean over examples: std / √N."""
        return standard_error(self.per_example)

    @property
    def bits_per_dim(self) -> float:
        """−mean / (ln 2 · num_values)."""
        return -self.mean / (math.log(2) * self.num_values)

    def summary(self) -> dict:
        """Return the means as a dictionary of plain numbers, for JSON.

        The standard error of a single example is None.
        """
        return {
            "log_likelihood": self.mean,
            "standard_error": error_or_none(self.per_example),
            "bits_per_dim": self.bits_per_dim,
            "num_examples": len(self.per_example),
        }

    def __str__(self):
        return (
            f"log p(x) = {self.mean:.3f} ± {self.standard_error:.3f} nats "
            f"({self.bits_per_dim:.4f} bits/dim), {len(self.per_example)} examples"
        )


def in_units(found: Any, log_jacobian: np.ndarray | None) -> Any:
    """Convert measures of x into measures of the data that x stands for, in their own units.

    log p(v) = log p(x) + log |dx/dv|, and the reconstruction has the same with the other sign.

    Args:
        found: a `LogLikelihood`, a `CodeLogLikelihood` or `Scores`.
        log_jacobian: what `model.log_jacobian(x)` gives, `[N, *x_shape]`; None changes nothing.
    """
    if log_jacobian is None:
        return found
    of_example = log_jacobian.reshape(len(log_jacobian), -1).sum(axis=1)
    changes = {"reconstruction": found.reconstruction - of_example}
    fields = {field.name for field in dataclasses.fields(found)}
    for name in fields & {"per_example", "log_likelihood"}:
        changes[name] = getattr(found, name) + of_example
    if getattr(found, "reconstruction_by_value", None) is not None:
        changes["reconstruction_by_value"] = found.reconstruction_by_value - log_jacobian
    return dataclasses.replace(found, **changes)


def standard_error(values: np.ndarray) -> float:
    """Return std / √N, the standard error of the mean of `values`; NaN for a single one."""
    count = len(values)
    return float(values.std(ddof=1) / math.sqrt(count)) if count > 1 else math.nan


def error_or_none(values: np.ndarray) -> float | None:
    """Return the standard error of the mean, with None, which JSON has, in place of NaN."""
    return standard_error(values) if len(values) > 1 else None


def sampling_error(effective_sample_size: np.ndarray, num_samples: int) -> np.ndarray:
    """Return the standard error of log (1/K) Σ_k w_k by the delta method, in nats.

    It is the coefficient of variation of the mean weight, √((1/ESS − 1/K) · K/(K − 1)): an estimate
    from the weights themselves, too small where they miss the bulk of the posterior. NaN at K = 1.
    """
    if num_samples == 1:
        return np.full(np.shape(effective_sample_size), np.nan)
    excess = 1.0 / effective_sample_size - 1.0 / num_samples
    return np.sqrt(np.maximum(excess, 0.0) * num_samples / (num_samples - 1))
