"""What tells data from other data that is as large."""

import json
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf

from tfvae.data import Blocks, Source, contents_of, load, shuffled_batches
from tfvae.data.contents import alike
from tfvae.schema import Column, Schema
from tfvae.standardization import Standardization

X = np.random.default_rng(0).random((31, 4, 4, 1), np.float32)


def test_other_values_are_other_data():
    for other in (X[::-1], np.sqrt(X), X[:, ::-1], np.where(X < 0.1, np.nan, X)):
        assert not alike(contents_of(X), contents_of(other))
    assert not alike(contents_of(X), {})


def test_labels_belong_to_it():
    labels = np.arange(31) % 3
    one, other = (contents_of(X, y) for y in (labels, (labels + 1) % 3))
    assert alike(one, one)
    assert not alike(one, other)
    assert not alike(one, contents_of(X))


def test_names_types_and_statistics_of_columns_belong_to_it():
    x = X[:, 0, :2, 0]
    columns = {"b": "count", "c": "count", "d": "positive"}
    schemas = [Schema([Column("a", scale=2.0), Column(n, t)]) for n, t in columns.items()]
    schemas += [Schema([Column("a", scale=s), Column("b", "count")]) for s in (2.0 + 1e-12, 2.01)]
    found = [contents_of(x, None, schema) for schema in schemas]
    assert [alike(found[0], other) for other in found] == [True, False, False, True, False]


def test_statistics_are_compared_as_numbers():
    """Those of times in seconds: another order of sums moves a mean of 1.7e9 by 1e-6."""
    found = [
        contents_of(X[..., 0, 0], standardization=Standardization(4 * [1.7e9 + mean], 4 * [scale]))
        for mean, scale in ((0, 1), (5e-4, 1), (0, 1.0005), (2e-3, 1), (0, 1.002))
    ]
    assert [alike(found[0], other) for other in found] == [True, True, True, False, False]


@pytest.mark.parametrize("far", [0.0, 1e6])
def test_an_outlier_or_a_distance_from_0_hides_nothing(far):
    one, other = far + np.random.default_rng(1).normal(size=(2, 300, 5))
    one[0, 0] = other[0, 0] = 1e12
    assert alike(contents_of(one), contents_of(one + 1e-6))
    assert not alike(contents_of(one), contents_of(other))


@pytest.mark.parametrize(("number", "same"), [(10, True), (11, False)])
def test_a_tenth_may_be_other_examples(number, same):
    one = np.random.default_rng(1).normal(size=(100, 5))
    other = one.copy()
    other[:number] = 0
    assert alike(contents_of(one), contents_of(other)) is same


class Numbered(Source):
    """Four million examples, number n of n alone, in blocks of which it notes those that it reads.

    Args:
        size: of an example.
    """

    name, dtype = "numbered", np.dtype(np.float32)

    def __init__(self, size):
        self.shape, self.blocks = (4_000_000, size), Blocks(np.arange(0, 4_000_000, 1000), 10**9)
        self.seen, self.most = set(), 0

    def read(self, index):
        self.seen |= set((index // 1000).tolist())
        self.most = max(self.most, len(index))
        return np.full((len(index), *self.shape[1:]), index[:, np.newaxis], np.float32)


def test_few_blocks_are_read_and_one_example_at_a_time():
    source = Numbered(100_000)
    tracemalloc.start()
    found = contents_of(source)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert source.most == 1
    assert len(source.seen) <= 20
    assert {0, 3999} <= source.seen
    assert peak < 5 * 8 * 100_000
    assert found["values"][0][0] == 0
    assert found["values"][-1][0] == 3_999_999


@pytest.mark.parametrize(
    "made", [list, tf.constant, np.asarray], ids=["a list", "a tensor", "an array"]
)
def test_conditions_may_be_all_that_tensorflow_takes(made):
    batches = shuffled_batches(tf.constant(X), 4, conditions=made(range(31)))
    assert batches.contents == contents_of(X, np.arange(31))
    for x, y in batches:
        np.testing.assert_array_equal(x, X[y])


def test_what_another_machine_decodes_or_codes_otherwise_is_the_same_data():
    x = X * np.float32(1 + 1e-6)
    x[3] = 1 - x[3]  # one of 31
    assert alike(contents_of(X), contents_of(x))


def test_the_parts_of_a_worker_are_of_the_same_data():
    batches = shuffled_batches(X, 4)
    assert batches.of_worker(1, 2).contents == batches.contents == contents_of(X)


def test_a_stream_is_what_it_is_in_memory(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(3, 2, (500, 4)))
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved/x.npy").write_bytes((tmp_path / "x.npy").read_bytes())
    parts = [
        load(path, standardize=True, memory_gb=size).train.batches(10).contents
        for path, size in ((tmp_path / "x.npy", 0), (tmp_path / "moved/x.npy", 1))
    ]
    assert parts[0] == parts[1]
    assert parts[0] == json.loads(json.dumps(parts[0]))
    assert len(parts[0]["values"]) == 100
