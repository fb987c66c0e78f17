"""AnnData files, from cells to counts that are drawn."""

import h5py
import numpy as np
import pytest
from commands import call, rows_of

from tfvae import data, runs, tables
from tfvae.errors import InvalidData

pytestmark = pytest.mark.slow  # Runs the command line.

COUNT, GENES = 60, 5


@pytest.fixture(scope="module")
def x():
    rng = np.random.default_rng(0)
    return rng.poisson(rng.gamma(2.0, 1.0, (COUNT, 1)) * np.array([0.2, 1.0, 3.0, 9.0, 0.0]))


def write(path, x, form):
    """Write a file as anndata 0.8 and later do."""
    with h5py.File(path, "w") as file:
        if form == "dense":
            file["X"] = x.astype(np.float32)
        else:
            lines = x if form == "csr_matrix" else x.T
            group = file.create_group("X")
            group.attrs["encoding-type"], group.attrs["shape"] = form, x.shape
            group["data"] = lines[lines > 0].astype(np.float32)
            group["indices"] = np.nonzero(lines)[1]
            group["indptr"] = np.r_[0, np.cumsum((lines > 0).sum(1))]
        for name, index in (("var", [f"gene{n}" for n in range(GENES)]), ("obs", range(COUNT))):
            group = file.create_group(name)
            group.attrs["_index"] = "_index"
            group["_index"] = [str(text) for text in index]
        obs = file["obs"]
        obs.attrs["column-order"] = ["type", "depth"]
        obs["depth"] = np.linspace(0, 1, COUNT)
        obs["type/categories"], obs["type/codes"] = ["B", "T"], (np.arange(COUNT) % 2).astype("i1")
    return path


@pytest.mark.parametrize("form", ["dense", "csr_matrix", "csc_matrix"])
def test_every_form_of_x_is_read(tmp_path, x, form):
    table = tables.read_anndata(write(tmp_path / "x.h5ad", x, form))
    columns = table.columns
    np.testing.assert_array_equal(np.stack([columns[f"gene{n}"] for n in range(GENES)], 1), x)
    assert list(columns["type"][:3]) == ["B", "T", "B"]
    genes = {f"gene{n}": "count" for n in range(GENES)}
    assert table.types == genes | {"type": "ignored", "depth": "ignored"}


@pytest.mark.nightly
def test_cells_go_from_their_file_to_a_device(tmp_path, x):
    path, run = write(tmp_path / "x.h5ad", x, "csr_matrix"), tmp_path / "run"
    small = ["--set", "model.hidden=[8]", "--epochs", 2, "--batch-size", 20]
    call("train", path, "--run-dir", run, *small, "--set", "data.condition=type")
    config = runs.RunDirectory(run).read_config()
    assert config.model.likelihood_options == {"size_factor": "total"}
    assert {"latent.png", "columns.png", "samples.csv"} <= {p.name for p in run.iterdir()}
    call("export", run, "--no-report")
    drawn = ["--seed", 3, "--condition", 1]
    call("sample", run, "-n", 40, *drawn, "-o", run / "keras.csv")
    call("decode", run, "--sample", 40, *drawn, "-o", run / "device.csv")
    own, device = (rows_of(run / f"{name}.csv") for name in ("keras", "device"))
    assert sum(a != b for a, b in zip(own, device, strict=True)) <= 1
    assert own[0]["type"] == "T"
    totals = [sum(int(row[f"gene{n}"]) for n in range(GENES)) for row in own]
    assert 0.5 < np.mean(totals) / np.median(x.sum(1)) < 2
    call("score", run, path, "-n", 3, "--num-samples", 5, "--condition", 0)


def test_observations_of_another_file_do_not_matter(tmp_path, x):
    path = write(tmp_path / "x.h5ad", x, "dense")
    schema = data.load(path).schema
    with h5py.File(path, "r+") as file:
        file["obs"].attrs["column-order"] = ["depth", "new"]
        file["obs"]["new"] = np.ones(COUNT)
    np.testing.assert_array_equal(schema.encode(tables.read(path)), x)


def test_entries_of_one_place_add_up(tmp_path, x):
    path = write(tmp_path / "x.h5ad", x, "csr_matrix")
    with h5py.File(path, "r+") as file:
        indices, data = file["X/indices"][()], file["X/data"][()]
        indices[1] = indices[0]  # of the first row, which has two entries at least
        file["X/indices"][...] = indices
    expected = x.astype(float)
    first, second = np.flatnonzero(x[0])[:2]
    expected[0, first], expected[0, second] = data[0] + data[1], 0
    columns = tables.read_anndata(path).columns
    np.testing.assert_array_equal(
        np.stack([columns[f"gene{n}"] for n in range(GENES)], 1), expected
    )


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("nullable-integer", np.arange(COUNT), [np.nan, 1.0, 2.0]),
        ("nullable-boolean", np.arange(COUNT) % 2 == 0, [np.nan, 0.0, 1.0]),
        ("nullable-string-array", [str(n) for n in range(COUNT)], [None, "1", "2"]),
    ],
)
def test_observations_that_may_be_missing_are_read(tmp_path, x, kind, values, expected):
    path = write(tmp_path / "x.h5ad", x, "dense")
    with h5py.File(path, "r+") as file:
        group = file.create_group("obs/score")
        group.attrs["encoding-type"] = kind
        group["values"], group["mask"] = values, np.arange(COUNT) == 0
        file["obs"].attrs["column-order"] = ["score"]
    table = tables.read_anndata(path)
    assert table.columns["score"][:3].tolist() == pytest.approx(expected, nan_ok=True)
    assert table.types["score"] == "ignored"


def replace(name, values, **options):
    def change(file):
        del file[name]
        file.create_dataset(name, data=values, **options)

    return change


def bomb(name, shape, dtype="i1"):
    def change(file):
        del file[name]
        file.create_dataset(name, shape, dtype, chunks=True, compression="gzip")

    return change


def from_another_file(file):
    del file["X"]
    file["X"] = h5py.ExternalLink("other.h5ad", "/X")


@pytest.mark.parametrize(
    ("form", "change", "message"),
    [
        ("dense", bomb("X", (10**5, GENES * 10**3)), "would take 4.0 GB"),
        ("csr_matrix", bomb("X/data", (10**9,)), "would take 8.0 GB"),
        ("csr_matrix", bomb("obs/type/codes", (10**9,)), "would take 8.0 GB"),
        ("csr_matrix", replace("X/indices", np.full(3, 1)), "does not fit together"),
        ("csr_matrix", replace("X/indptr", [0, 4]), "does not fit together"),
        ("csr_matrix", replace("X/indptr", np.zeros(0, int)), "does not fit together"),
        ("csr_matrix", lambda file: file["X/indptr"].write_direct(np.full(61, -1)), "not fit tog"),
        ("csr_matrix", lambda file: file["X/indices"].__setitem__(0, -1), "entries outside"),
        ("csc_matrix", lambda file: file["X/indices"].__setitem__(0, COUNT), "entries outside"),
        ("csr_matrix", lambda f: f["X"].attrs.__setitem__("shape", (-1, GENES)), "has the shape"),
        ("csr_matrix", lambda f: f["X"].attrs.__setitem__("shape", (np.inf, 5)), "cannot be read"),
        ("dense", lambda file: file["obs/type/codes"].__setitem__(0, 2), "none of its categories"),
        ("dense", lambda file: file["obs/type/codes"].__setitem__(0, -2), "none of its categories"),
        ("dense", replace("obs/depth", np.zeros(3)), "60 rows, and the observation 'depth' has 3"),
        ("dense", replace("obs/depth", np.zeros((60, 2), "c8")), "values of type complex64"),
        ("dense", replace("X", np.zeros((COUNT, GENES), "c8")), "values of type complex64"),
        ("dense", from_another_file, "from another file"),
    ],
)
def test_a_hostile_file_is_refused(tmp_path, x, form, change, message):
    write(tmp_path / "other.h5ad", x, "dense")
    path = write(tmp_path / "x.h5ad", x, form)
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(InvalidData, match=message):
        tables.read_anndata(path)


def test_texts_are_sized_as_they_are_read(tmp_path, x, monkeypatch):
    path = write(tmp_path / "x.h5ad", x, "dense")
    with h5py.File(path, "r+") as file:
        replace("obs/type/categories", [letter * 600_000 for letter in "BT"])(file)
    assert len(tables.read_anndata(path).columns["type"][0]) == 600_000
    monkeypatch.setenv("TFVAE_MAX_MEMORY", "1MB")
    with pytest.raises(InvalidData, match=r"would take 1\.2 MB"):
        tables.read_anndata(path)


def test_what_is_no_anndata_file_is_refused(tmp_path, x):
    (tmp_path / "x.h5ad").write_bytes(b"no")
    with pytest.raises(InvalidData, match="cannot be read as an AnnData file"):
        tables.read_anndata(tmp_path / "x.h5ad")
    path = write(tmp_path / "y.h5ad", x, "csr_matrix")
    with h5py.File(path, "r+") as file:
        file["X"].attrs["shape"] = (COUNT, 2)
    with pytest.raises(InvalidData, match="X has 2 columns and 5 names"):
        tables.read_anndata(path)


def test_an_observation_without_a_category_is_missing(tmp_path, x):
    path = write(tmp_path / "x.h5ad", x, "dense")
    with h5py.File(path, "r+") as file:
        file["obs/type/codes"][:3] = [-1, 1, 0]
    assert list(tables.read_anndata(path).columns["type"][:3]) == [None, "T", "B"]


@pytest.mark.parametrize("value", [-1.0, 0.5])
def test_genes_are_no_counts_where_x_holds_another_number(tmp_path, x, value):
    path = write(tmp_path / "x.h5ad", x, "dense")
    with h5py.File(path, "r+") as file:
        file["X"][3, 2] = value
    assert set(tables.read_anndata(path).types) == {"type", "depth"}
