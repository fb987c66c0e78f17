"""The data of a call of `fit`: what is left of it for training."""

import numpy as np
import pytest

from tfvae.training.data import without_validation


@pytest.mark.parametrize(("share", "count"), [(None, 10), (0.0, 10), (0.25, 7), (0.5, 5)])
def test_validation_takes_its_share_of_the_end_of_x_and_of_y(share, count):
    x, y = np.arange(10.0), np.arange(10)[::-1]
    left = without_validation(x, y, {"validation_split": share})
    np.testing.assert_array_equal(left, [x[:count], y[:count]])
    left, nothing = without_validation(x, None, {"validation_split": share})
    np.testing.assert_array_equal(left, x[:count])
    assert nothing is None
