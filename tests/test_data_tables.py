"""Tables in several files: columns that are joined, and the index that pandas writes."""

import numpy as np
import pytest

from tfvae import data
from tfvae.errors import InvalidData
from tfvae.tables import Table, as_objects, write_csv

SPLITS = {"train": 12, "validation": 5, "test": 6}


def write(folder, columns_of):
    """Write a CSV for each split, of the columns that a function of its number of rows gives."""
    for split, count in SPLITS.items():
        write_csv(columns_of(count), folder / f"{split}.csv")


@pytest.mark.parametrize("start", [0, 40])
def test_an_index_that_begins_anew_in_every_file_is_ignored(tmp_path, start):
    write(tmp_path, lambda n: {"": start + np.arange(n)[::-1], "a": np.arange(n) / 3})
    splits = data.load(tmp_path)
    assert {column.name: column.type for column in splits.schema.columns} == {
        "": "ignored",
        "a": "numeric",
    }
    assert splits.shape == (1,)
    rows = data.read_examples(tmp_path / "test.csv", columns=splits.schema)
    np.testing.assert_array_equal(rows.numpy(), splits.test.numpy())


def test_an_index_is_ignored_where_the_schema_does_not_know_it(tmp_path):
    splits = data.load({"a": np.arange(20) / 3})
    write(tmp_path, lambda n: {"": np.arange(n), "a": np.arange(n) / 3})
    rows = data.read_examples(tmp_path / "test.csv", columns=splits.schema)
    np.testing.assert_array_equal(rows.numpy(), splits.schema.encode({"a": np.arange(6) / 3}))


@pytest.mark.parametrize("cells", [np.arange(20) / 3, as_objects(["x", "y"] * 10)], ids=["n", "t"])
def test_a_column_without_a_value_in_one_file_joins_those_of_any_type(monkeypatch, cells):
    nothing = as_objects([None] * 20)
    if cells.dtype == object:
        nothing = np.full(20, np.nan)
    kept = {"a": np.arange(20) + 0.5}
    found = {
        "train": Table("train.parquet", {**kept, "b": cells}),
        "validation": Table("validation.parquet", {**kept, "b": nothing}),
        "test": Table("test.parquet", {**kept, "b": cells}),
    }
    monkeypatch.setattr("tfvae.data.loading._tables", lambda name: found)
    splits = data.load("tables")
    assert np.isnan(splits.validation.values[:, 1]).all()
    np.testing.assert_array_equal(splits.train.values, splits.test.values)


def test_texts_and_numbers_do_not_join(monkeypatch):
    found = {"train": np.arange(20) / 3, "test": as_objects(["x", "y"] * 10)}
    found = {name: Table(name, {"b": cells}) for name, cells in found.items()}
    monkeypatch.setattr("tfvae.data.loading._tables", lambda name: found)
    with pytest.raises(InvalidData, match="'b' of train and test holds texts in one file and"):
        data.load("tables")


def test_labels_that_are_no_numbers_of_classes_are_refused(tmp_path):
    for largest in (10**6, 2**40):
        x = {"x": np.zeros((20, 2, 2)), "y": largest - np.arange(20)}
        np.savez(tmp_path / "x.npz", **x)
        with pytest.raises(InvalidData, match=rf"label {largest}; .*numpy.unique"):
            data.load(tmp_path / "x.npz", condition="y")
    np.savez(tmp_path / "x.npz", x=np.zeros((20, 2, 2)), y=10**6 - 1 - np.arange(20))
    assert data.load(tmp_path / "x.npz", condition="y").condition == 10**6


@pytest.mark.parametrize("split", [*SPLITS, None])
def test_a_missing_value_in_any_split_is_one(split):
    schema = data.Schema([data.Column("a"), data.Column("b")])
    x = {name: np.zeros((3, 2), np.float32) for name in SPLITS}
    if split:
        x[split][2, 1] = np.nan
    parts = {name: data.Examples(x[name], kind="vector", schema=schema) for name in SPLITS}
    assert data.Splits("made", **parts).has_missing is (split is not None)
