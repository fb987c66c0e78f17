"""Scale and bias of the mean of noisy gradients, with their standard errors."""

import math

import numpy as np


def scale_and_bias(groups: np.ndarray, reference: np.ndarray) -> tuple[float, float, float, float]:
    """Return s, its standard error, the bias of the direction, and its standard error.

    They are those of `tfvae.evaluation.GradientMeasures`, and NaN where g* is 0 as far as noise
    allows to tell; the bias is NaN where s is 0.

    Args:
        groups: means of groups of draws, `[G, P]`.
        reference: such means of the reference estimator, or the exact gradient, `[1, P]`.
    """
    centre = reference.mean(axis=0)
    # Without the noise of a sampled reference, which makes its mean longer than g*.
    norm_square, _ = _between_groups(reference)
    if norm_square <= 0:
        return (math.nan,) * 4
    scale = float(groups.mean(axis=0) @ centre) / norm_square
    # To first order in the noise of the groups and in that of the reference.
    slope = groups.mean(axis=0) - 2 * scale * centre
    errors = _standard_error(groups @ centre), _standard_error(reference @ slope)
    scale_error = math.hypot(*errors) / norm_square
    if not scale:
        return scale, scale_error, math.nan, math.nan
    square, error = squared_bias(_across(groups, centre) / scale, _across(reference, centre))
    norm = math.sqrt(norm_square)
    bias = math.copysign(math.sqrt(abs(square)), square) / norm
    # Near zero the square root has no slope: there, √(error of the square) is what it can reach.
    spread = (error / (2 * math.sqrt(square)) if square > 4 * error else math.sqrt(error)) / norm
    return scale, scale_error, bias, math.hypot(spread, bias * scale_error / scale)


def _across(rows, direction):
    """Return the rows without their components along a direction."""
    unit = direction / np.linalg.norm(direction)
    return rows - np.outer(rows @ unit, unit)


def _standard_error(values):
    """Return the standard error of the mean of values; 0 for a single one, which is exact."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0


def squared_bias(groups: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Return ‖E[g] − g*‖² estimated without bias, and its standard error by the jackknife.

    Of G independent group means m_i, the products (m_i − g*)·(m_j − g*), i ≠ j, have it as their
    expectation; so do those with the group means of a sampled g*.
    """
    centre = reference.mean(axis=0)
    estimate = _between_groups(groups - centre)
    if len(reference) == 1:
        return estimate
    # The noise of a sampled reference adds its own squared error to the estimate.
    noise = reference - centre
    own = float(np.sum(noise**2)) / (len(noise) * (len(noise) - 1))
    own_groups = np.sum(noise**2, axis=1) / (len(noise) - 1)
    return estimate[0] - own, math.hypot(estimate[1], _standard_error(own_groups))


def _between_groups(deviations):
    if len(deviations) == 1:
        return float(deviations[0] @ deviations[0]), 0.0
    products = deviations @ deviations.T
    count = len(products)

    def mean_product(keep):
        part = products[np.ix_(keep, keep)]
        return (part.sum() - np.trace(part)) / (len(part) * (len(part) - 1))

    everything = np.arange(count)
    without = [mean_product(np.delete(everything, i)) for i in range(count)]
    error = math.sqrt((count - 1) * np.var(without))
    return float(mean_product(everything)), error
