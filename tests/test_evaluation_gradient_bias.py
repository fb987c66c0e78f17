import numpy as np
import pytest

from tfvae.evaluation.gradient_bias import scale_and_bias, squared_bias


def test_the_squared_bias_is_estimated_without_bias_and_with_its_error():
    rng = np.random.default_rng(0)
    bias = np.array([0.3, 0.0, -0.2])
    squares, errors = [], []
    for _ in range(400):
        groups = bias + rng.normal(0, 0.5, (20, 3))
        reference = rng.normal(0, 0.4, (20, 3))
        square, error = squared_bias(groups, reference)
        squares.append(square)
        errors.append(error)
    spread = np.std(squares)
    assert np.mean(squares) == pytest.approx(bias @ bias, abs=4 * spread / np.sqrt(400))
    assert np.mean(errors) == pytest.approx(spread, rel=0.3)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("scale", [0.03, 1.0, -2.0])
def test_scale_and_direction_are_measured_apart_and_with_their_errors(scale, exact):
    """Of E[g] = s (g* + b), where b is across g* = (2, 0, …) and half as long."""
    rng = np.random.default_rng(0)
    expected = np.array([2.0, *np.zeros(28), 1.0])
    reference = np.array([[2.0, *np.zeros(29)]])
    found = []
    for _ in range(300):
        groups = scale * (expected + rng.normal(0, 0.4, (20, 30)))
        noise = 0 if exact else rng.normal(0, 0.4, (20, 30))
        found.append(scale_and_bias(groups, reference + noise))
    scales, scale_errors, biases, bias_errors = np.transpose(found)
    for values, errors, wanted in ((scales, scale_errors, scale), (biases, bias_errors, 0.5)):
        assert np.mean(values) == pytest.approx(wanted, abs=4 * np.std(values) / np.sqrt(300))
        # Rather too large than too small.
        assert 0.9 < np.mean(errors) / np.std(values) < 1.5


def test_the_error_of_a_bias_has_that_of_the_scale_in_it():
    """Of a gradient that is nearly across: s = 0.25 ± 0.02, b = 4."""
    rng = np.random.default_rng(0)
    found = [
        scale_and_bias(
            np.array([0.25, 1.0, 0.0]) + rng.normal(0, 0.09, (20, 3)), np.array([[1.0, 0.0, 0.0]])
        )
        for _ in range(300)
    ]
    _, _, biases, errors = np.transpose(found)
    assert np.median(errors) == pytest.approx(np.std(biases), rel=0.35)
