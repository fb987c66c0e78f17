"""The benchmarks of speed at their smallest: that each of them runs, not what it measures."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "bound_overhead.py --rounds 1",
        "latents.py ladders --rounds 1",
        "latents.py posteriors --rounds 1",
        "latents.py priors --rounds 1",
        "training_step.py --program graph --k 1 --epochs 1",
        "training_step.py --program tfvae --k 1 --epochs 1",
        "vqvae_pytorch.py step --program tfvae",
    ],
)
def test_it_runs(command):
    script, *arguments = command.split()
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *arguments],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
