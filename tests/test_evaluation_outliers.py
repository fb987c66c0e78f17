"""Scores for outliers that log p(x) does not tell."""

import numpy as np
import pytest

from tfvae.errors import InvalidArgument, InvalidData
from tfvae.evaluation import corrupted, typicality


def test_typicality_is_the_distance_from_the_mean_of_ordinary_scores():
    scores = typicality([-12.0, -9.0, -10.0], [-9.0, -11.0])
    np.testing.assert_allclose(scores, [-2.0, -1.0, 0.0])
    with pytest.raises(InvalidData, match="`ordinary` is empty"):
        typicality([-1.0], [])


@pytest.mark.parametrize("levels", [None, 5])
def test_a_share_of_the_values_is_replaced(levels, rng):
    x = rng.integers(0, 5, (2000, 6)).astype(np.float32) / 4 + 10.0 * np.arange(6, dtype="f4")
    changed = corrupted(x, 0.3, seed=1, levels=levels)
    assert changed.dtype == x.dtype
    share = 0.3 * 0.8 if levels is None else 0.3 * (1 - 0.2 / 6)  # a fifth is replaced by its like
    np.testing.assert_allclose(np.mean(changed != x), share, atol=0.02)
    if levels is None:  # by values of the same column
        np.testing.assert_array_equal(changed // 10, x // 10)
    else:
        replaced = changed[:, 1:][changed[:, 1:] < 10]
        assert set(np.unique(replaced)) == {0.0, 0.25, 0.5, 0.75, 1.0}
    np.testing.assert_array_equal(changed, corrupted(x, 0.3, seed=1, levels=levels))
    assert not np.array_equal(changed, corrupted(x, 0.3, seed=2, levels=levels))
    np.testing.assert_array_equal(corrupted(x, 0.0), x)


def test_the_values_of_an_example_are_replaced_by_those_of_different_ones():
    """Or what the values of an example say of each other would be left in it."""
    x = np.repeat(np.arange(500)[:, np.newaxis], 3, axis=1)
    changed = corrupted(x, 1.0)
    np.testing.assert_array_equal(np.sort(changed, axis=0), x)
    assert np.mean(changed[:, 0] == changed[:, 1]) < 0.02


@pytest.mark.parametrize("levels", [1, 0, 2.5])
def test_levels_are_at_least_two(levels):
    with pytest.raises(InvalidArgument, match=r"`levels` is .*; expected a whole number of at"):
        corrupted(np.zeros((2, 2)), 0.5, levels=levels)


def test_levels_are_not_for_integers(rng):
    x = rng.integers(0, 256, (100, 4)).astype(np.uint8)
    with pytest.raises(InvalidData, match=r"`x` is of type uint8.*divided by 255"):
        corrupted(x, 0.5, levels=256)
    assert np.isin(corrupted(x, 0.5), x).all()


def test_booleans_have_two_levels(rng):
    x = np.zeros((2000, 4), bool)
    changed = corrupted(x, 1.0, levels=2)
    assert changed.dtype == bool
    np.testing.assert_allclose(changed.mean(), 0.5, atol=4 * 0.5 / np.sqrt(8000))
    with pytest.raises(InvalidData, match=r"type bool, which does not hold 3 levels"):
        corrupted(x, 0.5, levels=3)


def test_values_of_other_examples_need_others():
    with pytest.raises(InvalidData, match=r"There are 1 examples.*at least two"):
        corrupted(np.zeros((1, 4)), 0.5)
    assert corrupted(np.zeros((1, 4)), 1.0, levels=2).shape == (1, 4)


def test_the_seed_is_any_integer():
    x = np.arange(40.0).reshape(20, 2)
    assert not np.array_equal(corrupted(x, 1.0, seed=-1), corrupted(x, 1.0, seed=1))
    np.testing.assert_array_equal(corrupted(x, 1.0, seed=np.int64(-1)), corrupted(x, 1.0, seed=-1))


def test_a_rate_that_is_no_probability_is_refused():
    with pytest.raises(InvalidArgument, match=r"`rate` is 1\.5"):
        corrupted(np.zeros((2, 2)), 1.5)
