"""A short part of `benchmarks/fuzz.py`, always the same one, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[1] / "benchmarks" / "fuzz.py"
QUICK = (
    *("npz", "codes", "checkpoint", "pictures", "config", "report", "keras"),
    *("configurations", "arrays", "arguments"),
)


@pytest.mark.slow
@pytest.mark.nightly
def test_hostile_files_and_configurations_are_errors_of_tfvae_and_nothing_else(tmp_path):
    """Seed 1, which the long run does not have."""
    sizes = ["--files", "24", "--vectors", "60", "--seed", "1", "--json", tmp_path / "a.json"]
    command = [sys.executable, FUZZ, "--kinds", *QUICK, *sizes]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=500)
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["failed"] == []
    assert done.returncode == 0
    assert set(found["table"]) == set(QUICK)
    for name, row in found["table"].items():
        assert row["cases"] >= 24, name
        assert row["refused"] > 0, name
