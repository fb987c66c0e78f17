"""What tells data from other data that is as large."""

import json

import numpy as np

from tfvae.data import contents_of, load, shuffled_batches
from tfvae.data.contents import alike
from tfvae.schema import Column, Schema

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
