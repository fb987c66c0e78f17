"""`benchmarks/quality.py`: its entries, the table in the docs, and a run of its whole way."""

import argparse
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from tfvae import runs
from tfvae.evaluation import log_likelihood
from tfvae.runs import callbacks

PATH = Path(__file__).parents[1] / "benchmarks" / "quality.py"


@pytest.fixture
def quality(monkeypatch, tmp_path):
    """Return the script as a module, with one small entry, and results elsewhere."""
    spec = importlib.util.spec_from_file_location("quality", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    small = {
        "what": "a small model",
        "recipe": "vae-digits",
        "published": 200.0,
        "source": "a paper",
        "samples": 20,
        "model": {"latent_size": 5},
        "data": {},
        "initial": "",
        "settings": {"epochs": 2},
    }
    later = small | {"what": "a later model", "initial": "small", "settings": {"epochs": 1}}
    last = later | {"what": "the last one", "initial": "later"}
    named = {"small": small, "later": later, "last": last}
    module.all_entries = module.entries
    monkeypatch.setattr(module, "entries", lambda: named)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(module, "BLOCK", 70)
    return module


@pytest.fixture
def arguments(tmp_path):
    return argparse.Namespace(
        data_dir=None, runs_dir=tmp_path / "runs", seed=0, note="", jit_compile=False
    )


def test_the_page_holds_the_table(quality, monkeypatch):
    monkeypatch.setattr(quality, "RESULTS", PATH.parent / "results")
    monkeypatch.setattr(quality, "entries", quality.all_entries)
    page = quality.page_with(quality.MARKS, quality.table())
    assert page == quality.PAGE.read_text(encoding="utf-8")


def test_every_entry_is_a_configuration(quality):
    all_entries = quality.all_entries()
    for number, (name, entry) in enumerate(all_entries.items()):
        config = quality.config_of(entry, None, seed=3)
        assert config.training.seed == 3, name
        assert (entry["published"] is None) == (entry["source"] is None)
        assert not entry["initial"] or list(all_entries).index(entry["initial"]) < number


@pytest.mark.slow
def test_an_entry_is_trained_and_measured_and_shown(quality, arguments, monkeypatch, capsys):
    quality.run("small", arguments)
    values = json.loads((quality.RESULTS / "small.json").read_text())
    run = runs.RunDirectory(arguments.runs_dir / "small")
    model, splits = run.load_model(), runs.load_data(run.read_config())
    x = splits.test.numpy()
    parts = [
        log_likelihood(model, x[i : i + 70], num_samples=20, seed=i, progress=False)
        for i in (0, 70, 140)
    ]
    log_p = np.concatenate([part.per_example for part in parts])
    assert values["test"]["num_examples"] == len(x) == 180
    np.testing.assert_allclose(values["test"]["nll"], -log_p.mean(), rtol=1e-6)
    np.testing.assert_allclose(
        values["test"]["standard_error"], log_p.std(ddof=1) / np.sqrt(180), rtol=1e-5
    )
    assert values["training"]["epochs"] == 2
    table = quality.table()
    assert f"**{-log_p.mean():.2f} ± " in table, "a figure below the published one is in bold"
    assert "| `small` | a small model | 200.00 | a paper | **" in table
    assert "| `later` | a later model | 200.00 | a paper | not run |" in table

    monkeypatch.setattr(runs, "train", None)  # neither trained nor measured a second time
    kept = next(run.path.glob("measured-*.json"))
    blocks = json.loads(kept.read_text())
    kept.write_text(json.dumps([[[-1000.0] * len(c) for c in blocks[0]], *blocks[1:]]))
    quality.run("small", arguments)
    assert json.loads((quality.RESULTS / "small.json").read_text())["test"]["nll"] > 300


@pytest.mark.nightly
@pytest.mark.slow
def test_an_entry_starts_from_the_weights_of_its_initial_one(quality, arguments):
    arguments.data_dir = None
    quality.run("small", arguments)
    quality.run("later", arguments)
    first, second = (runs.RunDirectory(arguments.runs_dir / name) for name in ("small", "later"))
    assert second.read_config().training.initial_weights == str(first.path.resolve())
    ends = [callbacks.read_history(run)[-1]["loss"] for run in (first, second)]
    assert ends[1] < ends[0]
    assert "| 2 + 1 |" in quality.table()
    before = quality.initial_trainings("last", arguments)
    assert [part["epochs"] for part in before] == [2, 1], "of the one that it starts from, too"
