"""`benchmarks/ablations.py`: its variants, its table in the docs, and a training of its own."""

import importlib.util
import json
import statistics
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[1] / "benchmarks" / "ablations.py"


@pytest.fixture
def ablations(monkeypatch):
    """Return the script as a module, which imports the one beside it."""
    monkeypatch.syspath_prepend(str(PATH.parent))
    spec = importlib.util.spec_from_file_location("ablations", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("quality", None)


def test_the_page_holds_the_tables(ablations):
    assert ablations.measured()
    for entry in ablations.measured():
        page = ablations.quality.page_with(ablations.marks(entry), ablations.table(entry))
        assert page == ablations.quality.PAGE.read_text(encoding="utf-8")


def test_every_variant_is_a_configuration(ablations):
    for name, variants in ablations.VARIANTS.items():
        entry = ablations.quality.entries()[name]
        config = ablations.quality.config_of(entry, None, 0).override(ablations.BASE)
        first = next(iter(variants))
        for variant, settings in variants.items():
            changed = config.override({k: v for k, v in settings.items() if k != ablations.BIAS})
            assert (changed == config) == (set(settings) <= {ablations.BIAS}), variant
            assert (variant == first) == (not settings)


def test_a_table_has_means_over_seeds_and_differences_of_each_seed(ablations):
    nlls = {"another": {0: 91.0, 2: 95.0}, "the recipe": {2: 92.0, 1: 91.0, 0: 90.0}}
    rows = [
        {"variant": variant, "seed": seed, "epochs": 8, "seconds": 9.0, "nll": nll, "elbo": -99.0}
        for variant, values in nlls.items()
        for seed, nll in values.items()
    ]
    values = {"entry": "static-k1", "machine": "a core", "rows": rows}
    *_, first, second, _ = ablations.lines_of(values)
    assert first == "| the recipe | 3 | 8 | 9 | 91.00 | -99.00 |  |"
    error = statistics.stdev([91 - 90, 95 - 92]) / 2**0.5
    assert second == f"| another | 2 | 8 | 9 | 93.00 | -99.00 | +2.00 ± {error:.2f} |"

    values["rows"] = [row for row in rows if row["seed"] == 0]
    *_, last, _ = ablations.lines_of(values)
    assert last == "| another | 1 | 8 | 9 | 91.00 | -99.00 | +1.00 |", "one seed has no error"


@pytest.mark.slow
@pytest.mark.nightly
def test_a_variant_is_trained_for_its_seconds_and_measured(ablations, monkeypatch):
    entry = {"recipe": "vae-digits", "data": {}, "model": {}, "settings": {"ema_momentum": 0.9}}
    monkeypatch.setattr(ablations.quality, "entries", lambda: {"small": entry})
    monkeypatch.setitem(ablations.VARIANTS, "small", {"small": {ablations.BIAS: 0.25}})
    monkeypatch.setattr(ablations, "NUM_SAMPLES", 5)
    started = []
    trained = ablations.trained
    monkeypatch.setattr(ablations, "trained", lambda *a: started.append(a) or trained(*a))
    row = json.loads(json.dumps(ablations.one("small", "small", 1, 0.5, None)))
    assert [c.training.epochs for c, *_ in started] == [3, row["epochs"]]
    assert {bias for *_, bias in started} == {0.25}
    assert row["epochs"] >= 2
    assert 0 < row["seconds"] < 30
    assert 20 < row["nll"] < 300
    assert row["elbo"] < -row["nll"] + 1.0
