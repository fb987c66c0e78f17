"""A short part of `benchmarks/workers.py`: two processes that train together on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfvae
from tfvae.tools.main import main

pytestmark = pytest.mark.slow  # Starts processes.

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "workers.py"
TWO = ["127.0.0.1:1", "127.0.0.1:2"]


def results(tmp_path, *arguments):
    """Return what the benchmark measured; all of it must be as it should be."""
    file = tmp_path / "workers.json"
    command = [sys.executable, str(BENCHMARK), *arguments, "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(file.read_text())


def check(row, family):
    assert row["family"] == family
    assert row["steps"] == 3
    assert row["workers_agree"]
    assert row["loss"] < 1e-5
    assert row["weights"] < 1e-3  # Adam moves by 1e-3 a step, whatever the gradient


# What these learn of a batch beside their weights, they learn of all workers' parts.
@pytest.mark.nightly
@pytest.mark.parametrize("family", ["nvil", "vqvae-ema"])
def test_two_workers_train_as_one_process(tmp_path, family):
    (row,) = results(tmp_path, "--steps", "3", "--families", family, "--recipes")["families"]
    check(row, family)


def small():
    """Return the model of codes above with a layer on each side, and the options of its data."""
    import workers

    layers = keras.layers
    ema = {"initializer": "kmeans", "threshold_ema_dead_code": 2.0, **workers.EMA}
    return tfvae.VQVAE(
        keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(8, 2, strides=2)]),
        tfvae.quantizers.get("ema", **ema),
        keras.Sequential([keras.Input((4, 4, 8)), layers.Conv2DTranspose(1, 2, strides=2)]),
        likelihood="bernoulli",
    ), {}


def train_small(out):
    """Train it in this process, a worker if TF_CONFIG is set."""
    import workers

    workers.FAMILIES["small-vqvae"] = small
    workers.child(["small-vqvae"], 3, Path(out))


def rename(path, like):
    """Name the arrays of a file as those of another: Keras counts the models of this process."""
    with np.load(path) as own, np.load(like) as others:
        for a, b in zip(own.files, others.files, strict=True):
            assert a.rpartition("/")[2] == b.rpartition("/")[2]
        arrays = {name: own[a] for a, name in zip(own.files, others.files, strict=True)}
    np.savez(path, **arrays)


SMALL = """
import json, sys
import tensorflow as tf

tf.config.optimizer.set_experimental_options(json.loads(sys.argv.pop(1)))
import test_workers
test_workers.train_small("-".join(sys.argv[1:]))
"""


def test_two_workers_train_a_small_model_as_one_process(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARK.parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
    import workers

    rewriting = json.dumps(tf.config.optimizer.get_experimental_options())
    started = workers.run_together([sys.executable, "-c", SMALL, rewriting, tmp_path / "2"], 2)
    train_small(tmp_path / "1-0")
    assert [process.wait(timeout=300) for process in started] == [0, 0]
    rename(tmp_path / "1-0" / "small-vqvae.npz", tmp_path / "2-0" / "small-vqvae.npz")
    check(workers.compare("small-vqvae", tmp_path), "small-vqvae")


@pytest.mark.nightly
def test_a_killed_worker_ends_the_other_and_both_go_on_to_the_same_weights(tmp_path):
    (row,) = results(tmp_path, "--families", "--recipes", "vae-digits")["kills"]
    assert row["same"]
    assert row["the_other_ended_after"] < 100
    assert not row["resumed_from"].endswith("-00000000")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (None, [], "TF_CONFIG, which is not set"),
        ("{}", [], "TF_CONFIG has no section 'cluster'"),
        ({"worker": TWO[:1]}, [], "names 1 worker"),
        ({"worker": TWO}, [], "Several workers need --run-dir"),
        ({"worker": TWO}, ["--set", "training.jit_compile=true"], "XLA compiles no step"),
    ],
)
def test_what_cannot_train_together_is_refused_at_once(monkeypatch, capsys, text, options, message):
    if isinstance(text, dict):
        text = json.dumps({"cluster": text, "task": {"type": "worker", "index": 0}})
    monkeypatch.setattr(os, "environ", {**os.environ, **({"TF_CONFIG": text} if text else {})})
    monkeypatch.setattr(
        sys, "argv", ["tfvae", "train", "vae-digits", "--distribute", "multiworker", *options]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_an_unknown_strategy_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tfvae", "train", "vae-digits", "--distribute", "mirored"])
    with pytest.raises(SystemExit):
        main()
    assert "Did you mean 'mirrored'" in capsys.readouterr().err
