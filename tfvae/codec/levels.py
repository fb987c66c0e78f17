"""The levels of x: what values an example without loss may have, and their numbers."""

import numpy as np

from tfvae.errors import InvalidArgument, InvalidData
from tfvae.likelihoods import Likelihood


def check_listed(likelihood: Likelihood) -> None:
    """Refuse a likelihood whose values cannot be listed.

    Raises:
        InvalidArgument: with those whose values can.
    """
    reason, name = None, type(likelihood).__name__
    if likelihood.complete() is not likelihood:
        reason = f"{name} is of examples with missing values, which have no code"
    elif likelihood.is_density:
        reason = f"{name} is a density of continuous values, which no finite file holds exactly"
    elif likelihood.missing_unit is None:
        reason = f"the values of {name} depend on each other in ways that are not coded"
    elif any(_is_of_counts(block) for block in getattr(likelihood, "likelihoods", [])):
        reason = f"{name} has columns of counts, which are coded only where all of x is of one kind"
    elif not _is_of_counts(likelihood) and not num_levels_of(likelihood):
        reason = f"{name} has columns of different numbers of levels"
    if reason is not None:
        raise InvalidArgument(
            f"The model cannot code examples without loss: {reason}. Expected a likelihood of "
            "values that can be listed: 'bernoulli', 'categorical', 'ordinal', "
            "'discretized_logistic_mixture', 'poisson', 'negative_binomial' or "
            "'zero_inflated_negative_binomial'."
        )


def _is_of_counts(likelihood):
    return likelihood.support.whole and likelihood.support.low == 0


def num_levels_of(likelihood: Likelihood) -> int:
    """Return the L of the likelihood; 0 if there is none, as of counts, or more than one."""
    blocks = getattr(likelihood, "likelihoods", [likelihood])
    numbers = {block.num_levels for block in blocks}
    return numbers.pop() or 0 if len(numbers) == 1 else 0


def values_of_levels(likelihood: Likelihood, num_levels: int) -> np.ndarray:
    """Return the values that x may have, `[L]` float32: levels from 0 to 1, or counts."""
    values = np.arange(num_levels, dtype=np.float32)
    return values if _is_of_counts(likelihood) else values / np.float32(num_levels - 1)


def to_levels(likelihood: Likelihood, x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return for each value of x which of `values` it is, int32.

    Raises:
        InvalidData: it is none of them.
    """
    step = values[1]
    levels = np.round(x / step).astype(np.int32)
    off = np.abs(values[levels] - x) > 1e-3 * step
    if off.any():
        remedy = "Binarize it" if len(values) == 2 else "Give it as it was in training"
        raise InvalidData(
            f"{off.mean():.0%} of the values of `x` lie between the {len(values)} levels of the "
            f"{type(likelihood).__name__} likelihood, k / {len(values) - 1}, so that a file "
            f"without loss cannot be written. {remedy}, or train a model of more levels."
        )
    return levels
