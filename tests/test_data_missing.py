"""What becomes NaN at the door: masks beside examples, and what pads shorter series."""

import numpy as np
import pytest

from tfvae import data
from tfvae.errors import InvalidData


def test_a_mask_becomes_nan():
    x = np.arange(6).reshape(2, 3)
    mask = np.array([[1, 0, 1], [1, 1, 0]])
    for observed in (mask, mask.astype(bool), mask.astype(float)):
        found = data.masked(x, observed)
        np.testing.assert_array_equal(found, [[0, np.nan, 2], [3, 4, np.nan]])
        assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((2, 2)), r"shape \(2, 2\), and the examples \(2, 3\)"),
        (np.full((2, 3), 2), "0 and 1"),
    ],
)
def test_another_mask_is_refused(mask, message):
    with pytest.raises(InvalidData, match=message):
        data.masked(np.zeros((2, 3)), mask)


def test_series_are_padded_with_nan():
    x = data.padded([np.ones((2, 3)), np.zeros((4, 3))])
    assert x.shape == (2, 4, 3)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x[:, :, 0], [[1, 1, np.nan, np.nan], [0, 0, 0, 0]])
    assert data.padded([[1.0, 2.0], [3.0]], length=3).shape == (2, 3, 1)


@pytest.mark.parametrize(
    ("series", "length", "message"),
    [
        ([], None, "have the shapes none"),
        ([np.ones((2, 3)), np.ones((2, 4))], None, "all of the same C"),
        ([np.ones((2, 3)), np.ones((5, 3))], 4, "Series 1 has 5 steps; expected at most 4"),
    ],
)
def test_other_series_are_refused(series, length, message):
    with pytest.raises(InvalidData, match=message):
        data.padded(series, length)
