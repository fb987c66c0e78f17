"""Missing values from a file to a file, by the command line."""

import csv

import numpy as np
import pytest
from commands import call

from tfvae import tables
from tfvae.errors import InvalidArgument, InvalidData

pytestmark = pytest.mark.slow  # Runs the command line.

TINY = [
    "--set=model.hidden=[8]",
    "--set=model.latent_size=1",
    "--set=training.epochs=1",
    "--set=training.batch_size=40",
    "--set=evaluation.num_samples=5",
]


def test_a_table_with_empty_cells_is_filled_in(tmp_path, rng):
    z = rng.normal(size=100)
    columns = {
        "height": np.round(170 + 10 * z, 1),
        "weight": np.round(70 + 8 * z + rng.normal(size=100), 1),
        "size": tables.as_objects([("small", "large")[int(value > 0)] for value in z]),
    }
    columns["height"][::4] = np.nan
    columns["size"][1::4] = None
    tables.write_csv(columns, tmp_path / "people.csv")
    run = tmp_path / "run"
    call("train", tmp_path / "people.csv", "--run-dir", run, *TINY)
    found = call("impute", run, tmp_path / "people.csv", "--draws", 2, "--num-samples", 50)
    assert found["num_rows"] == 100
    assert found["num_missing"] == 50
    assert found["path"] == str(run / "imputed.csv")
    assert found["draws"] == [str(run / f"imputed-{n}.csv") for n in (1, 2)]
    for path in (found["path"], *found["draws"]):
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == list(columns)
        assert all(value for row in rows for value in row.values())
        assert {row["size"] for row in rows} == {"small", "large"}
        assert [float(row["weight"]) for row in rows] == list(columns["weight"])
        assert 100 < float(rows[0]["height"]) < 240


def test_what_was_observed_is_written_as_it_was(tmp_path, rng, quickly):
    z = rng.normal(size=60)
    columns = {
        "time": 1.7e9 + np.round(1e7 * z),
        "price": tables.as_objects([f"{np.exp(value):.12f}" for value in z]),
        "kind": tables.as_objects(["x", "y", "y"] * 20),
    }
    tables.write_csv(columns, tmp_path / "x.csv")
    run = tmp_path / "run"
    empty = {"price": tables.as_objects([None, *columns["price"][1:]])}
    tables.write_csv(columns | empty, tmp_path / "gaps.csv")
    settings = ("--set=data.condition=kind", "--set=data.columns.price=positive")
    call("train", tmp_path / "gaps.csv", "--run-dir", run, *settings, *TINY)
    options = ("--num-samples", 5, "-o", tmp_path / "full.csv")
    call("impute", run, tmp_path / "gaps.csv", *options)
    full = tables.read_csv(tmp_path / "full.csv").columns
    assert float(full["price"][0]) > 0
    assert list(full["price"][1:]) == list(columns["price"][1:])
    assert [float(cell) for cell in full["time"]] == list(columns["time"])
    assert list(full["kind"]) == list(columns["kind"])
    with pytest.raises(InvalidArgument, match="have conditions of their own"):
        call("impute", run, tmp_path / "gaps.csv", "--condition", 1, *options)
    unlabelled = {name: cells for name, cells in (columns | empty).items() if name != "kind"}
    tables.write_csv(unlabelled, tmp_path / "unlabelled.csv")
    with pytest.raises(InvalidArgument, match=r"has a condition, .*--condition"):
        call("impute", run, tmp_path / "unlabelled.csv", *options)
    call("impute", run, tmp_path / "unlabelled.csv", "--condition", 1, *options)
    assert set(tables.read_csv(tmp_path / "full.csv").columns["kind"]) == {"y"}


def test_standardized_values_that_were_observed_are_written_as_they_were(tmp_path, rng, quickly):
    x = 1.7e9 + rng.normal(size=(60, 3))
    x[::3, 1] = np.nan
    path, run = tmp_path / "x.npy", tmp_path / "run"
    np.save(path, x)
    call("train", path, "--run-dir", run, *TINY, "--set=data.missing=true")
    call("impute", run, path, "--output", tmp_path / "filled.npy", "--num-samples", 5)
    filled = np.load(tmp_path / "filled.npy")
    np.testing.assert_array_equal(filled[~np.isnan(x)], x[~np.isnan(x)])
    assert np.abs(filled - 1.7e9).max() < 100


def test_an_array_with_nan_is_filled_in(tmp_path, rng, quickly):
    x = rng.normal(size=(60, 3)).astype(np.float32)
    x[::3, 1] = np.nan
    path, run = tmp_path / "x.npy", tmp_path / "run"
    np.save(path, x)
    train = ("train", path, "--run-dir", run, *TINY)
    with pytest.raises(InvalidData, match=r"set data\.missing to true"):
        call(*train)
    call(*train, "--set=data.missing=true")
    found = call("impute", run, path, "--output", tmp_path / "filled.npy", "--num-samples", 20)
    filled = np.load(tmp_path / "filled.npy")
    assert found["num_missing"] == 20
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[~np.isnan(x)], x[~np.isnan(x)])
    with pytest.raises(InvalidData, match="There is no file"):
        call("impute", run, tmp_path / "none.npy")
    x[5] = np.nan
    np.save(path, x)
    with pytest.raises(InvalidData, match=r"Example 5 of .* has no value"):
        call("impute", run, path)


def test_a_run_without_missing_values_says_what_is_needed(tmp_path, rng, quickly):
    np.save(tmp_path / "x.npy", rng.normal(size=(60, 3)).astype(np.float32))
    run = tmp_path / "run"
    call("train", tmp_path / "x.npy", "--run-dir", run, *TINY)
    with pytest.raises(InvalidArgument, match="the likelihood Columns; expected"):
        call("impute", run, tmp_path / "x.npy")
    assert not (run / "imputed.npy").exists()


@pytest.mark.nightly
@pytest.mark.parametrize("network", ["conv", "transformer"])
def test_series_of_different_lengths_train_on_their_networks(tmp_path, rng, network):
    x = rng.normal(size=(60, 9, 2)).astype(np.float32)
    x[::2, 5:] = np.nan
    np.save(tmp_path / "x.npy", x)
    options = [
        "--set=data.missing=true",
        "--set=data.kind=series",
        f"--set=model.network={network}",
    ]
    tiny = TINY
    if network == "transformer":
        tiny = TINY[1:]  # it has a width of its own
        options.append("--set=model.network_options={width=8, num_layers=1, num_heads=2}")
    call("train", tmp_path / "x.npy", "--run-dir", tmp_path / "run", *options, *tiny)
    found = call("impute", tmp_path / "run", tmp_path / "x.npy", "--num-samples", 5)
    assert found["num_missing"] == 30 * 4 * 2
