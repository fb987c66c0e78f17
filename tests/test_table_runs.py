"""A table from its file to rows that LiteRT draws, by the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from commands import call, rows_of
from eager import steps_without_graphs

from tfvae import data, runs, tables
from tfvae.errors import InvalidData, TfvaeError
from tfvae.runs.evaluate import load_run
from tfvae.tools.main import cli

pytestmark = pytest.mark.slow  # Runs the command line.

TINY = {
    "model.hidden": [16],
    "model.latent_size": 2,
    "training.epochs": 2,
    "training.batch_size": 20,
    "data.columns.price": "positive",
    "data.columns.note": "ignored",
    "evaluation.num_samples": 10,
}
SIZES = ("large", "medium", "small")


@pytest.fixture(scope="module")
def wine(tmp_path_factory):
    """A CSV with columns of every type."""
    rng = np.random.default_rng(0)
    count, z = 200, np.random.default_rng(1).normal(size=200)
    columns = {
        "alcohol": np.round(13 + z, 1),
        "price": np.round(np.exp(z + rng.normal(size=count)) + 0.01, 2),
        "visits": rng.poisson(np.exp(1.5 + z / 2)),
        "quality": np.clip(np.round(5 + z), 3, 8).astype(int),
        "size": tables.as_objects([SIZES[int(k)] for k in np.clip(np.round(z + 1), 0, 2)]),
        "red": (z > 0).astype(int),
        "year": np.full(count, 2020),
        "note": tables.as_objects([f"wine {n}" for n in range(count)]),
    }
    path = tmp_path_factory.mktemp("wine") / "wine.csv"
    tables.write_csv(columns, path)
    return path


@pytest.fixture(scope="module")
def run(wine):
    """The run of the three commands in docs/tables.md, with a shorter training of fewer columns.

    The file is the one that draws; those with all signatures are in the tests of exports.
    """
    page = Path(__file__).parents[1] / "docs" / "tables.md"
    commands = page.read_text(encoding="utf-8").split("```\n")[1].splitlines()
    short = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]
    sample = ["--signature", "sample", "--output", "runs/wine/decoder.tflite"]
    more = {"train": short, "export": sample, "decode": []}
    assert [command.split()[1] for command in commands] == list(more)
    with steps_without_graphs(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(wine.parent)
        for command in commands:
            _, verb, *arguments = command.split()
            call(verb, *arguments, *more[verb])
    return wine.parent / "runs" / "wine"


COLUMNS = ["alcohol", "price", "visits", "quality", "size", "red", "year"]


def test_a_run_has_rows_and_figures_of_columns(run):
    names = {path.name for path in run.iterdir()}
    assert names >= {"columns.png", "correlations.png", "latent.png", "curves.png"}
    assert names >= {"samples.csv", "reconstructions.csv", "model.keras"}
    assert not names & {"samples.png", "reconstructions.png"}
    config = runs.RunDirectory(run).read_config()
    assert config.data.columns == {"price": "positive", "note": "ignored"}
    assert config.model.likelihood == "columns"


def test_the_three_commands_of_the_page_end_in_rows(run, wine):
    rows = rows_of(wine.parent / "rows.csv")
    assert (len(rows), list(rows[0])) == (1000, COLUMNS)
    (exported,) = json.loads((run / "report.json").read_text())["exports"].values()
    assert exported["max_abs_error"] < 1e-4


def test_the_device_gives_the_rows_of_keras(run):
    own = call("sample", run, "-n", 300, "--seed", 5, "-o", run / "keras.csv")
    device = call("decode", run, "--sample", 300, "--seed", 5, "-o", run / "device.csv")
    assert own["num_rows"] == device["num_rows"] == 300
    of_keras, of_device = rows_of(run / "keras.csv"), rows_of(run / "device.csv")
    assert list(of_keras[0]) == COLUMNS
    for column in COLUMNS:
        given, drawn = ([row[column] for row in rows] for rows in (of_keras, of_device))
        assert sum(a != b for a, b in zip(given, drawn, strict=True)) <= 1, column
    assert {row["size"] for row in of_device} <= set(SIZES)
    assert {row["red"] for row in of_device} <= {"0", "1"}
    assert {row["year"] for row in of_device} == {"2020"}
    assert all(float(row["price"]) > 0 for row in of_device)
    assert len({row["visits"] for row in of_device}) > 3, "draws, not means"


def test_rows_of_a_model_are_rows_of_the_schema(run, wine):
    model, _, splits = load_run(run, {})
    assert splits.schema == model.schema
    again = model.schema.encode(model.schema.decode(splits.test.numpy()))
    np.testing.assert_array_equal(again, splits.test.numpy())
    examples = data.read_examples(wine, columns=model.schema)
    assert (len(examples), examples.kind) == (200, "vector")


def test_reconstructions_stand_beside_the_rows(run):
    call("reconstruct", run, "-n", 7)
    rows = rows_of(run / "reconstructions.csv")
    assert len(rows) == 7
    assert list(rows[0])[:3] == ["alcohol", "alcohol (reconstructed)", "price"]
    assert "year (reconstructed)" not in rows[0]
    assert {row["size (reconstructed)"] for row in rows} <= set(SIZES)


def test_it_is_measured(run):
    result = CliRunner().invoke(cli, ["evaluate", str(run)])
    measured = json.loads((run / "report.json").read_text())["evaluation"]
    assert np.isfinite(measured["log_likelihood"])
    assert measured["num_examples"] == 20
    assert "for each of 20 rows" in result.stdout
    assert "bits/dim" not in result.stdout


def test_rows_of_a_file_are_scored_by_column(run, wine):
    call("score", run, wine, "-n", 5, "--num-samples", 10, "-o", run / "scores.csv")
    rows = rows_of(run / "scores.csv")
    assert len(rows) == 5
    assert {"log_likelihood", "reconstruction_alcohol", "reconstruction_red"} <= set(rows[0])


def test_standardized_numbers_come_as_an_array(run):
    call("sample", run, "-n", 4, "-o", run / "x.npy")
    assert np.load(run / "x.npy").shape == (4, 6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "-o", "x.png"], "rows of a table go into a name ending in .csv"),
        (["reconstruct", "-o", "x.png"], "rows of a table go into a name ending in .csv"),
        (["explore"], "is a model of a table, and the page shows images alone"),
    ],
)
def test_pictures_of_rows_are_refused(run, arguments, message):
    verb, *rest = arguments
    with pytest.raises(TfvaeError, match=message):
        call(verb, run, *rest)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"red": None}, "lacks the column 'red'"),
        ({"ph": 3.1}, "has the column 'ph', which the schema does not know"),
        ({"alcohol": "strong"}, "Row 1 of the column 'alcohol' .* 'strong'; expected a number"),
        ({"alcohol": "inf"}, "Row 1 of the column 'alcohol' .* inf; expected finite"),
        ({"size": "tiny"}, "Row 1 of the column 'size' .* 'tiny'; expected one of 'large'"),
        ({"visits": -1}, "Row 1 of the column 'visits' .* '-1'; expected a count"),
    ],
)
def test_another_table_that_does_not_fit_is_refused(run, wine, tmp_path, change, message):
    columns = dict(tables.read_csv(wine).columns)
    for name, value in change.items():
        if value is None:
            del columns[name]
        else:
            columns[name] = tables.as_objects([str(value)] * 200)
    tables.write_csv(columns, tmp_path / "other.csv")
    with pytest.raises(TfvaeError, match=message):
        call("evaluate", run, "--dataset", tmp_path / "other.csv")


@pytest.mark.nightly
def test_a_column_may_be_the_condition(wine):
    path = wine.parent / "conditional"
    options = {**TINY, "data.condition": "size"}
    given = [part for key, value in options.items() for part in ("--set", f"{key}={value}")]
    call("train", wine, "--run-dir", path, *given)
    call("sample", path, "-n", 5, "--condition", 2, "-o", path / "small.csv")
    rows = rows_of(path / "small.csv")
    assert list(rows[0]) == COLUMNS
    assert {row["size"] for row in rows} == {"small"}
    assert np.isfinite(call("evaluate", path)["log_likelihood"])


def test_the_column_of_an_empty_cell_is_named_whichever_split_it_is_in(wine, run, tmp_path):
    columns = dict(tables.read_csv(wine).columns)
    for row in (0, 100, 199):
        cells = list(columns["visits"])
        cells[row] = None
        gap = columns | {"visits": tables.as_objects(cells)}
        tables.write_csv(gap, tmp_path / "gap.csv")
        with pytest.raises(InvalidData, match="has empty cells, 1 in the column 'visits'"):
            load_run(run, {"data.name": str(tmp_path / "gap.csv")})


@pytest.mark.nightly
def test_a_table_with_empty_cells_goes_the_same_way(wine, run, tmp_path):
    columns = dict(tables.read_csv(wine).columns)
    rng = np.random.default_rng(0)
    for name in ("alcohol", "visits", "size"):
        gone = rng.random(200) < 0.3
        columns[name] = tables.as_objects(
            [None if g else c for g, c in zip(gone, columns[name], strict=True)]
        )
    tables.write_csv(columns, tmp_path / "gaps.csv")
    with pytest.raises(TfvaeError, match=r"has empty cells, [1-9]\d* in the column"):
        call("evaluate", run, "--dataset", tmp_path / "gaps.csv")
    options = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]
    call("train", tmp_path / "gaps.csv", "--run-dir", tmp_path / "run", *options)
    assert np.isfinite(call("evaluate", tmp_path / "run")["log_likelihood"])
    call("export", tmp_path / "run", "--no-report")
    call("decode", tmp_path / "run", "--sample", 20, "-o", tmp_path / "rows.csv")
    assert all(all(row.values()) for row in rows_of(tmp_path / "rows.csv")), "rows are complete"


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a\n1\ninf\n", [], "Row 2 of the column 'a' .* holds inf"),
        ("a,b\n1.5,x\n2,x\n", ["--set", "data.columns.c=count"], "Unknown column 'c'"),
        ("a,b\n1.5,x\n2,x\n", ["--set", "data.columns.a=counts"], "'a' 'counts'. Did you mean"),
        ("a,b\n1.5,x\n2,x\n", ["--set", "data.condition=c"], "has no column 'c'"),
        ("a,b\n1.5\n", [], "1 cells in row 1 and 2 columns"),
    ],
)
def test_a_table_is_looked_at_before_tensorflow_is(tmp_path, monkeypatch, text, options, message):
    def too_late(*_):
        raise AssertionError("TensorFlow would be imported")

    monkeypatch.setattr("tfvae.tools.train.begin_together", too_late)
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(TfvaeError, match=message):
        call("train", tmp_path / "x.csv", "--run-dir", tmp_path / "run", *options)
    assert not (tmp_path / "run").exists()


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["vector", "series", "tokens"])
def test_arrays_of_other_kinds_go_from_a_file_to_a_device(tmp_path, kind):
    rng = np.random.default_rng(0)
    shape = {"vector": (60, 5), "series": (60, 6, 2), "tokens": (60, 7)}[kind]
    x = rng.integers(0, 4, shape) if kind == "tokens" else rng.normal(size=shape)
    np.save(tmp_path / "x.npy", x)
    run = tmp_path / "run"
    width = "network_options={hidden_size=8, num_heads=2}" if kind == "tokens" else "hidden=[8]"
    small = ["--set", f"model.{width}", "--epochs", 1, "--set", f"data.kind={kind}"]
    call("train", tmp_path / "x.npy", "--run-dir", run, *small)
    assert runs.RunDirectory(run).read_config().data.kind == kind
    assert (run / "samples.png").exists() == (kind != "tokens")
    sampled = call("sample", run, "-n", 4)
    assert sampled == {"path": str(run / "samples.npy"), "num_examples": 4}
    call("export", run, "--no-report")
    call("decode", run, "--sample", 4, "-o", tmp_path / "device.npy")
    own, device = np.load(run / "samples.npy"), np.load(tmp_path / "device.npy")
    assert own.shape == (4, *shape[1:])
    np.testing.assert_allclose(own, device, atol=1e-4)
    if kind == "tokens":
        assert own.dtype == device.dtype == np.int32
        assert own.min() >= 0
        assert own.max() == 3
        np.save(tmp_path / "y.npy", np.minimum(x, 1))
        call("score", run, tmp_path / "y.npy", "--num-samples", 2)
        np.save(tmp_path / "y.npy", x + 1)
        with pytest.raises(TfvaeError, match="holds the token 4, and the model was trained on"):
            call("score", run, tmp_path / "y.npy", "--num-samples", 2)
    else:
        files = {path.name for path in run.iterdir()}
        assert files >= {"samples.png", "latent.png", "curves.png"}
        assert ("reconstructions.png" in files) == (kind == "series")
        call("sample", run, "-n", 5, "-o", tmp_path / "shown.png")
        assert (tmp_path / "shown.png").stat().st_size > 5000
    if kind != "series":
        with pytest.raises(TfvaeError, match=r"not drawn\. Choose a name that ends in \.npy"):
            call("reconstruct", run, "-o", tmp_path / "drawn.png")


class TestLoad:
    def test_a_frame_is_split_and_standardized_by_the_training_rows(self, wine):
        frame = tables.read_csv(wine).columns
        splits = data.load(frame, columns={"note": "ignored"})
        assert (splits.kind, splits.shape, len(splits.train)) == ("vector", (6,), 160)
        np.testing.assert_allclose(splits.train.numpy()[:, 0].mean(), 0, atol=1e-6)
        assert abs(splits.test.numpy()[:, 0].mean()) > 1e-3
        again = data.load(str(wine), columns={"note": "ignored"})
        np.testing.assert_array_equal(again.test.numpy(), splits.test.numpy())

    def test_a_folder_of_tables_has_their_splits(self, wine, tmp_path):
        lines = wine.read_text().splitlines(keepends=True)
        for name, start, stop in (("train-0", 1, 60), ("train-1", 60, 120), ("test", 120, 201)):
            (tmp_path / f"{name}.csv").write_text("".join([lines[0], *lines[start:stop]]))
        splits = data.load(str(tmp_path), columns={"note": "ignored"})
        assert [len(p) for p in (splits.train, splits.validation, splits.test)] == [108, 11, 81]

    def test_a_parquet_file_of_values_is_a_table(self, wine, tmp_path):
        pytest.importorskip("pyarrow")
        from pyarrow import csv as arrow_csv
        from pyarrow import parquet

        parquet.write_table(arrow_csv.read_csv(wine), tmp_path / "wine.parquet")
        splits = data.load(str(tmp_path / "wine.parquet"), columns={"note": "ignored"})
        text = data.load(str(wine), columns={"note": "ignored"})
        assert splits.schema == text.schema
        np.testing.assert_array_equal(splits.test.numpy(), text.test.numpy())

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "The column 'note' .* 200 different texts"),
            ({"columns": {"colour": "ignored"}}, "Unknown column 'colour'"),
            ({"binarization": "static"}, "Binarization is for pictures"),
            ({"resize": (8, 8)}, "are for pictures"),
            ({"condition": "colour"}, "has no column 'colour', which data.condition names"),
            ({"kind": "series"}, r"a table, .* 'series'"),
        ],
    )
    def test_options_that_do_not_fit_a_table_are_refused(self, wine, options, message):
        with pytest.raises(TfvaeError, match=message):
            data.load(str(wine), **options)

    def test_columns_of_what_is_no_table_are_refused(self):
        with pytest.raises(TfvaeError, match="describes the columns of a table, and 'digits' is"):
            data.load("digits", columns={"a": "count"})

    def test_cells_may_be_missing(self):
        frame = {"a": [*range(29), None], "b": ["x", None, "y"] * 10, "c": np.arange(30) / 7}
        splits = data.load(frame)
        assert splits.has_missing
        parts = [part.numpy() for part in (splits.train, splits.validation, splits.test)]
        assert np.isnan(np.concatenate(parts)).sum(axis=0).tolist() == [1, 10, 0]
        assert not data.load({"a": np.arange(30) / 7}).has_missing
