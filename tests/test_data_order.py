import collections
import itertools
import math

import numpy as np
import pytest
import scipy.stats
from tiers import nightly_but

from tfvae.data.order import BlockOrder, IndexOrder, key_of, permuted

pytestmark = pytest.mark.slow  # Compiles graphs of whole models.


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9, 10, 37, 99, 100, 101, 1437, 10_007])
def test_a_shuffle_is_a_permutation(count):
    assert sorted(permuted(np.arange(count), count, key=3)) == list(range(count))


def test_any_place_of_a_large_shuffle_is_found_by_itself():
    places = np.array([0, 7, 10**12 - 1])
    images = permuted(places, 10**12, key=5)
    assert np.all((images >= 0) & (images < 10**12))
    np.testing.assert_array_equal(permuted(places[1:2], 10**12, key=5), images[1:2])


@pytest.mark.parametrize("count", nightly_but([3, 4, 5], 4))
def test_small_shuffles_are_drawn_alike(count):
    number = 6000
    drawn = collections.Counter(
        tuple(permuted(np.arange(count), count, key_of(0, epoch))) for epoch in range(number)
    )
    expected = number / math.factorial(count)
    every = itertools.permutations(range(count))
    statistic = sum((drawn[order] - expected) ** 2 / expected for order in every)
    assert scipy.stats.chi2.sf(statistic, math.factorial(count) - 1) > 1e-3


def test_every_image_comes_at_every_place_and_after_every_other_alike():
    count, epochs = 37, 2000
    orders = np.stack([permuted(np.arange(count), count, key_of(1, e)) for e in range(epochs)])
    places = np.zeros((count, count))
    np.add.at(places, (np.tile(np.arange(count), epochs), orders.ravel()), 1)
    expected = epochs / count
    statistic = np.sum((places - expected) ** 2 / expected)
    assert scipy.stats.chi2.sf(statistic, (count - 1) ** 2) > 1e-3
    steps = np.bincount(((orders[:, 1:] - orders[:, :-1]) % count).ravel())[1:]
    assert scipy.stats.chisquare(steps).pvalue > 1e-3


def test_an_order_is_a_function_of_seed_and_epoch():
    places = np.arange(1000)
    orders = {
        (seed, epoch): tuple(IndexOrder(1000, seed)(epoch, places))
        for seed in (0, 1, 2**63)
        for epoch in (0, 1)
    }
    assert len(set(orders.values())) == 6
    np.testing.assert_array_equal(IndexOrder(1000, 0)(1, places), orders[0, 1])


class TestBlocks:
    starts = np.array([0, 3, 50, 51, 100, 180, 200, 290])
    count = 300

    @pytest.fixture
    def order(self):
        return BlockOrder(self.starts, self.count, 3, seed=4)

    def test_every_image_comes_once(self, order):
        assert sorted(order(0, np.arange(self.count))) == list(range(self.count))

    def test_a_part_is_that_of_the_whole(self, order):
        whole = order(2, np.arange(self.count))
        for places in (np.arange(120, 130), np.array([299, 0, 150])):
            np.testing.assert_array_equal(order(2, places), whole[places])

    def test_all_images_of_a_block_come_within_one_window(self, order):
        images = order(1, np.arange(self.count))
        block_at = np.searchsorted(self.starts, images, side="right") - 1
        window, seen = set(), []
        for block in block_at:
            if block not in window:
                seen.append(block)
                window.add(block)
        for n in range(0, 8, 3):
            blocks = seen[n : n + 3]
            sizes = np.diff(np.append(self.starts, self.count))[blocks]
            ends = np.flatnonzero(np.isin(block_at, blocks))
            assert ends[-1] - ends[0] + 1 == sizes.sum()

    def test_images_of_a_window_are_mixed_and_differ_from_epoch_to_epoch(self, order):
        first, second = (order(epoch, np.arange(self.count)) for epoch in (0, 1))
        assert np.mean(np.diff(first) == 1) < 0.1
        assert not np.array_equal(first, second)

    def test_every_window_epoch_and_seed_has_a_shuffle_of_its_own(self):
        """Ten blocks of a hundred images, each a window."""
        starts, places, blocks, within = np.arange(0, 1000, 100), np.arange(1000), set(), set()
        for seed, epoch in itertools.product((0, 1), (0, 1)):
            images = BlockOrder(starts, 1000, 1, seed)(epoch, places).reshape(10, 100)
            blocks.add(tuple(images[:, 0] // 100))
            within.update(map(tuple, images % 100))
        assert len(blocks) == 4
        assert len(within) == 40

    def test_blocks_are_not_shuffled_as_the_images_of_a_window_are(self):
        """Blocks of one image: else one window of all is the shuffle of the blocks, twice."""
        places = np.arange(50)
        of_blocks, of_both = (BlockOrder(places, 50, size, seed=0)(0, places) for size in (1, 50))
        assert not np.array_equal(of_both, of_blocks[of_blocks])
