import csv
import io
import itertools
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from eager import steps_without_graphs
from PIL import Image
from tiers import nightly_but

from tfvae import estimators, paths, recipes, runs
from tfvae._plain.files import read_report, update_report
from tfvae.config import load_config
from tfvae.data import Examples, Splits, load
from tfvae.errors import (
    DivergedLoss,
    InvalidArgument,
    InvalidData,
    InvalidFile,
    NonFiniteLoss,
    TfvaeError,
    TfvaeWarning,
)
from tfvae.evaluation import active_units, log_likelihood
from tfvae.runs import RunDirectory, callbacks, loop, pictures
from tfvae.runs.build import with_networks
from tfvae.runs.evaluate import export_examples, load_run

pytestmark = pytest.mark.slow  # Compiles graphs of whole models.

EPOCHS, STEPS = 3, 7  # 1,437 training digits in batches of 200
CODE_SHAPES = {
    "vqvae-cifar10": (8, 8),
    "vqvae-digits": (4, 4),
    "vqvae-images": (13, 9),
    "vqvae-mnist": (7, 7),
    "vqvae-series": (16,),
    "vqvae2-cifar10": (8 * 8 + 4 * 4,),
}
PICTURES = {"curves.png", "reconstructions.png", "samples.png", "latent.png"}
METRICS = ("loss", "elbo", "reconstruction", "kl")
CONFIG = recipes.load("vae-digits").override(
    {
        "data.binarization": "dynamic",
        "model.hidden": [16],
        "model.latent_size": 2,
        "model.likelihood": "bernoulli",
        "model.likelihood_options": {},
        "training.epochs": EPOCHS,
        "training.batch_size": 200,
        "training.steps_per_execution": 1,
        "training.seed": 3,
    }
)
AT_ONCE = CONFIG.override({"training.steps_per_execution": STEPS})
NORMAL = AT_ONCE.override(
    {"data.binarization": "none", "model.likelihood": "normal", "training.schedule": "constant"}
)


def train(config, path, **options):
    return runs.train(config, path, progress=False, **options)


def history(run):
    """Return the metrics of history.csv, without the times."""
    rows = callbacks.read_history(run)
    return [{name: v for name, v in row.items() if name != "seconds"} for row in rows]


def assert_same_model(a, b):
    """Check weights and optimizer, bit by bit."""
    for one, other in ((a, b), (a.optimizer, b.optimizer)):
        assert len(one.variables) == len(other.variables)
        for left, right in zip(one.variables, other.variables, strict=True):
            np.testing.assert_array_equal(left, right)


def last_model(run, config, splits):
    """Return the model of the last checkpoint."""
    _, tree = run.checkpoints.load()
    model = runs.build_model(config, splits)
    model.optimizer.build(model.trainable_variables)
    for part, variables in (("model", model.variables), ("optimizer", model.optimizer.variables)):
        for variable, value in zip(variables, tree["variables"][part], strict=True):
            variable.assign(value)
    return model


@pytest.fixture(scope="module")
def splits():
    return runs.load_data(CONFIG)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nothing interrupted; not to be changed."""
    return train(CONFIG, tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture(scope="module")
def model(finished):
    return finished.load_model()


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of that run, to be changed."""
    return RunDirectory(shutil.copytree(finished.path, tmp_path / "copy"))


@pytest.mark.parametrize("name", sorted(PICTURES))
def test_a_run_has_its_pictures(finished, name):
    with Image.open(finished.path / name) as picture:
        assert picture.format == "PNG"
        assert len(set(picture.convert("L").tobytes())) > 10


def test_a_run_has_its_other_files_and_nothing_else(finished):
    files = {"config.toml", "model.keras", "history.csv", "report.json"}
    folders = {"checkpoints", "tensorboard"}
    assert {path.name for path in finished.path.iterdir()} == PICTURES | files | folders
    assert all((finished.path / name).stat().st_size for name in files)
    for part in ("train", "validation"):
        (events,) = (finished.tensorboard / part).glob("events.out.tfevents.*")
        assert events.stat().st_size > 100


def test_the_last_two_checkpoints_are_kept(finished, model, splits):
    names = sorted(path.name for path in finished.checkpoints.path.iterdir())
    assert names[-1] == "epoch-00003-batch-00000000.zip"
    assert len(names) == 3
    assert names[0] == ".lock"
    assert finished.position() == (EPOCHS, 0)
    assert_same_model(last_model(finished, CONFIG, splits), model)


def test_the_configuration_is_written_completely(finished):
    assert finished.read_config() == load_config(finished.config_file) == CONFIG
    assert finished.config_file.read_text() == CONFIG.to_toml()


def test_the_history_has_a_row_an_epoch(finished):
    with finished.history_file.open(newline="") as file:
        columns = next(csv.reader(file))
    validation = {f"val_{name}" for name in METRICS}
    assert sorted(columns) == sorted({"epoch", "seconds", "learning_rate", *METRICS, *validation})
    rows = callbacks.read_history(finished)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    for row, prefix in itertools.product(rows, ("", "val_")):
        elbo = -(row[f"{prefix}reconstruction"] + row[f"{prefix}kl"])
        assert row[f"{prefix}elbo"] == pytest.approx(elbo, rel=1e-5)
        assert row[f"{prefix}loss"] == pytest.approx(-elbo, rel=1e-5)
    assert rows[-1]["val_elbo"] > rows[0]["val_elbo"]
    cosine = [2e-3 * 0.5 * (1 + math.cos(math.pi * epoch / EPOCHS)) for epoch in (1, 2, 3)]
    assert [row["learning_rate"] for row in rows] == pytest.approx(cosine, abs=1e-9)


def test_the_report_says_what_was_trained(finished, model):
    training = json.loads((finished.path / "report.json").read_text())["training"]
    assert training.pop("seconds") > 0
    cost = training.pop("checkpoints")
    assert cost["saved"] >= 2
    assert cost["seconds"] > 0
    assert 0 < cost["percent_of_training"] < 100
    steps = EPOCHS * STEPS
    assert training == {
        "epochs": EPOCHS,
        "epoch": EPOCHS,
        "steps": steps,
        "parameters": model.count_params(),
        "replicas": 1,
    }
    assert int(model.step) == steps


@pytest.fixture
def quick_steps():
    with steps_without_graphs():
        yield


@pytest.mark.nightly
def test_a_run_that_was_interrupted_and_resumed_ends_as_one_that_was_not(
    finished, model, tmp_path, interrupted_after, no_pictures, monkeypatch
):
    """A process that dies between the row of an epoch and its checkpoint keeps the row in it."""
    run = RunDirectory(tmp_path / "run")
    with (
        interrupted_after(1),
        pytest.raises(TfvaeError, match=f"--resume --run-dir {run.path}"),
    ):
        train(AT_ONCE, run.path)
    assert not list(run.checkpoints.path.glob("epoch-*"))
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.History, "on_checkpoint", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(run.read_config(), run.path, resume=True)
    assert run.position() == (1, 0)
    assert not run.history_file.exists()
    train(run.read_config(), run.path, resume=True)
    assert_same_model(run.load_model(), model)
    assert history(run) == history(finished)


# Trains by the command, in a process that sends itself SIGKILL while it writes its fourth
# checkpoint, in the first epoch.
KILLED = """
import json, os, signal, sys
import tensorflow as tf
from tfvae.tools.main import main

tf.config.optimizer.set_experimental_options(json.loads(sys.argv.pop(1)))
written, sync = 0, os.fsync

def fsync(file):
    global written
    written += 1
    if written == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    sync(file)

os.fsync = fsync
main()
"""


def kill(config, path, monkeypatch):
    rewriting = json.dumps(tf.config.optimizer.get_experimental_options())
    config_file = path.with_suffix(".toml")
    config_file.write_text(config.to_toml())
    arguments = ["train", "--config", config_file, "--run-dir", path]
    killed = [sys.executable, "-c", KILLED, rewriting, *arguments]
    done = subprocess.run(killed, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr


def keep_what_a_kill_leaves(config, path, monkeypatch):
    """Copy the folder at the moment of that SIGKILL; the process that goes on changes another."""
    written, sync = [], os.fsync

    def fsync(file):
        written.append(file)
        if len(written) == 4:
            shutil.copytree(path.with_name("alive"), path)
            raise ZeroDivisionError
        sync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(ZeroDivisionError):
            train(config, path.with_name("alive"))


@pytest.mark.parametrize(
    "end", nightly_but([kill, keep_what_a_kill_leaves], keep_what_a_kill_leaves)
)
def test_a_run_that_is_killed_and_terminated_ends_as_one_that_is_not(
    finished, model, tmp_path, no_pictures, command, monkeypatch, end
):
    run = RunDirectory(tmp_path / "run")
    end(CONFIG.override({"training.checkpoint_minutes": 1e-9}), run.path, monkeypatch)
    assert run.position() == (0, 3)
    (stray,) = run.checkpoints.path.glob(".epoch-*")
    assert not run.history_file.exists(), "no epoch has a checkpoint"

    # In this process, which would not outlive a SIGTERM that nothing receives.
    calls = []

    def terminate(self, batch, logs=None):
        calls.extend([batch] * (self.model.train_function.__name__ != "pass_over"))
        if len(calls) == 5:
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.History, "on_train_batch_begin", terminate)
        status, _, err = command("train", "--resume", "--run-dir", run.path)
    assert status == 0, err
    assert "going on after batch 3 of epoch 1" in err
    assert f"--resume --run-dir {run.path}" in err
    assert not stray.exists()
    assert run.position() == (1, 2)
    assert [row["epoch"] for row in history(run)] == [1]

    train(run.read_config(), run.path, resume=True)
    assert_same_model(run.load_model(), model)
    assert history(run) == history(finished)


def test_a_history_takes_its_own_state_and_no_other(tmp_path):
    run = RunDirectory(tmp_path)
    kept = callbacks.History(run)
    kept.set_state({"rows": [{"epoch": 1}], "start_loss": 3.0, "seconds": 2.0, "run": "another"})
    assert kept.get_state() == {"rows": [{"epoch": 1}], "start_loss": 3.0, "seconds": 2.0}
    assert kept.run is run
    with pytest.raises(KeyError, match="rows"):
        kept.set_state({"seconds": 2.0})


def test_checkpoints_of_an_earlier_version_are_not_passed_over(tmp_path):
    run = RunDirectory.create(tmp_path / "run", CONFIG)
    (run.checkpoints.path / "epoch-00002.keras").touch()
    with pytest.raises(InvalidFile, match="earlier development version"):
        train(CONFIG, run.path, resume=True)


@pytest.mark.parametrize("missing", [["model.keras"], ["model.keras", "checkpoints"]], ids=str)
def test_a_run_that_has_not_finished_says_how_to_go_on(copied, missing):
    (copied.path / "model.keras").unlink()
    if "checkpoints" in missing:
        shutil.rmtree(copied.checkpoints.path)
    with pytest.raises(InvalidFile, match=f"not finished.*--resume --run-dir {copied.path}"):
        copied.load_model()


def test_a_finished_run_resumed_with_more_epochs_goes_on_learning(copied, model, no_pictures):
    longer = CONFIG.override({"training.epochs": EPOCHS + 2})
    half_way = 0.5 * CONFIG.training.learning_rate * (1 + math.cos(math.pi * EPOCHS / (EPOCHS + 2)))
    rates = f"was 0 after epoch {EPOCHS} and goes on with {half_way:.5g}: "
    of_before = {"evaluation", "evaluation of mnist", "diagnosis", "exports"}
    for section in of_before:
        update_report(copied.path, section, {"decoder.tflite": {}})
    with pytest.warns(TfvaeWarning, match=re.escape(rates)):
        train(longer, copied.path, resume=True)
    assert not of_before & read_report(copied.path).keys()
    assert int(copied.load_model().step) == (EPOCHS + 2) * STEPS
    assert [row["epoch"] for row in history(copied)] == [1, 2, 3, 4, 5]
    before, after = model.get_weights(), copied.load_model().get_weights()
    assert not np.array_equal(before[-1], after[-1])


def test_a_finished_run_resumed_without_a_step_keeps_what_is_said_of_its_model(
    copied, splits, no_pictures
):
    of_model = {"evaluation", "evaluation of mnist", "diagnosis", "exports"}
    for section in of_model:
        update_report(copied.path, section, {"decoder.tflite": {}})
    train(CONFIG, copied.path, resume=True, splits=splits)
    assert of_model < read_report(copied.path).keys()


def test_a_run_is_not_resumed_with_other_settings(copied, splits):
    other = CONFIG.override({"training.learning_rate": 0.07, "training.epochs": EPOCHS + 1})
    with pytest.raises(InvalidArgument, match=r"cannot change training.learning_rate \(from "):
        train(other, copied.path, resume=True, splits=splits)
    assert copied.read_config().training.learning_rate == CONFIG.training.learning_rate


def test_settings_are_utf_8_whatever_the_system_uses(tmp_path, monkeypatch):
    monkeypatch.setattr("io.text_encoding", lambda encoding, *_: encoding or "ascii")
    config = CONFIG.override({"data.data_dir": "Übung"})
    run = RunDirectory.create(tmp_path / "run", config)
    assert run.read_config() == config


def test_a_run_that_another_process_trains_keeps_its_settings(copied, splits):
    before = copied.config_file.read_bytes()
    longer = CONFIG.override({"training.epochs": EPOCHS + 1})
    with (
        copied.checkpoints.in_use(),
        pytest.raises(InvalidFile, match="Another training is under way in"),
    ):
        train(longer, copied.path, resume=True, splits=splits)
    assert copied.config_file.read_bytes() == before


@pytest.mark.parametrize("resume", [True, False])
def test_a_second_training_is_refused_and_changes_nothing(
    copied, tmp_path, splits, monkeypatch, resume
):
    """Before the first step too, while the loss is measured and before the first checkpoint."""
    run = copied if resume else RunDirectory(tmp_path / "run")
    longer = CONFIG.override({"training.epochs": EPOCHS + 1})

    def begin_another(self, *given, **options):
        monkeypatch.undo()
        before = run.config_file.read_bytes()
        with pytest.raises(InvalidFile, match="Another training is under way in"):
            train(CONFIG.override({"training.epochs": 9}), run.path, resume=True, splits=splits)
        assert run.config_file.read_bytes() == before
        raise KeyboardInterrupt

    monkeypatch.setattr("tfvae.models.VAE.fit", begin_another)
    with pytest.raises(TfvaeError, match="Interrupted"):
        train(longer, run.path, resume=resume, splits=splits)


def test_a_run_that_begins_meanwhile_is_not_replaced(tmp_path, splits, monkeypatch):
    run, build = RunDirectory(tmp_path / "run"), runs.build_model

    def begin_another(*given):
        run.write_config(CONFIG)
        return build(*given)

    monkeypatch.setattr(sys.modules["tfvae.runs.train"], "build_model", begin_another)
    with pytest.raises(InvalidFile, match="already holds a run"):
        train(CONFIG.override({"training.epochs": 9}), run.path, splits=splits)
    assert run.read_config() == CONFIG


@pytest.mark.parametrize("seen_by_all", [True, False])
def test_the_first_loss_is_measured_where_no_checkpoint_has_it(
    copied, splits, monkeypatch, no_pictures, seen_by_all
):
    measured = []
    monkeypatch.setattr("tfvae.runs.loop._loss", lambda *_: measured.append(1) or math.inf)
    if not seen_by_all:
        monkeypatch.setattr("tfvae.distribute.any_worker", lambda *_: True)
    train(CONFIG, copied.path, resume=True, splits=splits)
    assert len(measured) == (0 if seen_by_all else 1)


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ("config.toml", r"already holds a run.*--resume.*--run-dir"),
        ("model.keras", r"what is left of a run.*no config\.toml.*Move.*--run-dir"),
        ("checkpoints/epoch-00002-batch-00000000.zip", r"what is left of a run.*no config\.toml"),
        ("checkpoints/epoch-00002.keras", r"what is left of a run.*no config\.toml"),
    ],
)
def test_a_folder_that_holds_a_run_is_refused(tmp_path, splits, kept, message):
    run = tmp_path / "run"
    (run / kept).parent.mkdir(parents=True)
    (run / kept).write_text("precious")
    with pytest.raises(InvalidFile, match=message):
        train(CONFIG, run, splits=splits)
    assert [path for path in run.rglob("*") if path.is_file()] == [run / kept]
    assert (run / kept).read_text() == "precious"


def test_damaged_checkpoints_alone_are_no_run(tmp_path):
    damaged = tmp_path / "checkpoints" / "epoch-00002-batch-00000000.zip.damaged"
    damaged.parent.mkdir()
    damaged.touch()
    paths.check_new_run(tmp_path)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"model.likelihood": "bernouli"}, InvalidArgument),
        ({"model.likelihood_options": {"num_level": 2}}, InvalidArgument),
        ({"model.activation": "rleu"}, InvalidArgument),
        ({"training.objective": "elb"}, InvalidArgument),
        ({"training.optimizer": "sdg"}, InvalidArgument),
        ({"training.kl": "exactly"}, InvalidArgument),
        ({"training.beta": -1.0}, InvalidArgument),
        ({"training.kl_warmup_steps": -1}, InvalidArgument),
        ({"model.posterior": "bernouli"}, InvalidArgument),
        ({"model.posterior": "bernoulli"}, InvalidArgument),  # "pathwise" does not fit
        ({"model.prior": "bernoulli"}, InvalidArgument),
        ({"training.objective_options": {"alpha": 2.0}}, InvalidArgument),  # elbo has none
        ({"training.objective": "renyi", "training.objective_options": {"a": 2}}, InvalidArgument),
        ({"training.estimator": "nvill"}, InvalidArgument),
        ({"training.estimator": "nvil", "training.estimator_options": {"a": 2}}, InvalidArgument),
        ({"training.free_bits": -1.0}, InvalidArgument),
        ({"training.optimizer_options": {"epsilom": 1e-4}}, InvalidArgument),
        ({"training.optimizer": "sgd", "training.optimizer_options": {"rho": 1}}, InvalidArgument),
        ({"training.optimizer_options": {"learning_rate": 0.1}}, InvalidArgument),
        ({"training.optimizer_options": {"use_ema": True}}, InvalidArgument),
        ({"training.optimizer": "lossscaleoptimizer"}, InvalidArgument),
        ({"training.batch_size": 5000}, InvalidData),
        ({"data.name": "/nothing/here.npz"}, InvalidData),
        ({"model.network_options": {"dropout": np.float32(0.1)}}, InvalidArgument),  # not TOML
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(tmp_path, settings, error):
    with pytest.raises(error):
        train(CONFIG.override(settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_data_outside_0_and_1_is_refused_before_anything_is_written(tmp_path, splits, split):
    parts = {
        name: Examples(getattr(splits, name).values) for name in ("train", "validation", "test")
    }
    pixels = parts[split].numpy()
    pixels[-1, 0, 0, 0] = 1.5
    parts |= {name: Examples(np.clip(parts[name].numpy(), 0, 1)) for name in parts if name != split}
    bad = Splits("bad", **{**parts, split: Examples(np.clip(pixels, 0, 1.5))})
    config = CONFIG.override({"data.binarization": "none"})
    with pytest.raises(InvalidData, match=rf"`{split}` has values from 0 to 1\.5.*\[0, 1\]"):
        train(config, tmp_path / "run", splits=bad)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_model(
    tmp_path, monkeypatch
):
    start_clock = callbacks.History.on_epoch_begin

    def diverge_in_epoch_2(self, epoch, logs=None):
        start_clock(self, epoch, logs)
        if epoch == 1:
            self.model.optimizer.learning_rate = 1e20

    monkeypatch.setattr(callbacks.History, "on_epoch_begin", diverge_in_epoch_2)
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(NonFiniteLoss) as caught:
        train(NORMAL, run.path)
    message = str(caught.value)
    good = run.path / "last-good.keras"
    assert f"between steps {STEPS} and {2 * STEPS};" in message
    assert "the term that is not finite: reconstruction" in message
    assert f"The last good model, of epoch 1, is {good}." in message
    assert "Lower the learning rate" in message
    assert run.position() == (1, 0)
    assert runs.load_model(good).steps_made == STEPS
    assert all(np.all(np.isfinite(weight)) for weight in runs.load_model(good).get_weights())
    assert [row["epoch"] for row in history(run)] == [1]
    assert not run.model_file.exists()


@pytest.fixture
def ended(tmp_path):
    """Return a function that checks the end of a training of 64 values that began at 100 nats."""

    def check(*losses, start=100.0):
        rows = [
            {"epoch": n, "val_loss": loss, "learning_rate": 0.5} for n, loss in enumerate(losses, 1)
        ]
        loop.check_end(start, rows, 64, RunDirectory(tmp_path), 0.5)

    return check


def test_a_loss_that_ends_far_above_where_it_started_is_an_error(ended, tmp_path):
    with pytest.raises(DivergedLoss) as error:
        ended(80, 1e6)
    for words in (
        "was 100 nats per example before the first step and is 1e+06 after epoch 2",
        "it was lowest, 80, after epoch 1",
        "the highest was 0.5",
        f"in {tmp_path}",
    ):
        assert words in str(error.value)
    with pytest.raises(DivergedLoss):
        ended(1e21, 3.5e18)  # it fell from epoch to epoch
    with pytest.raises(DivergedLoss):
        ended(70, start=-100.0)  # of a density; by more than 100 + 64


@pytest.mark.parametrize(("start", "end"), [(100, 99), (100, -300), (-50, -60), (100, 101)])
def test_a_loss_that_ends_below_or_as_it_started_is_none(ended, start, end):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ended(end, start=start)


def test_a_loss_that_ends_above_where_it_started_is_warned_of(ended):
    with pytest.warns(TfvaeWarning, match="ended where it started, or worse"):
        ended(90, 120)


def test_a_run_that_diverged_is_complete_and_one_that_goes_on_is_judged_by_its_start(
    tmp_path, splits, no_pictures, quick_steps
):
    settings = {"learning_rate": 1e9, "schedule": "constant", "epochs": 1, "batch_size": 700}
    config = CONFIG.override({f"training.{key}": value for key, value in settings.items()})
    with pytest.raises(DivergedLoss) as error:
        train(config, tmp_path / "run", splits=splits)
    start = re.search("was ([0-9.]+) nats", str(error.value))[1]
    run = RunDirectory(tmp_path / "run")
    assert run.load_model() is not None
    with pytest.raises(DivergedLoss, match=f"was {start} nats .* after epoch 2"):
        train(config.override({"training.epochs": 2}), run.path, resume=True, splits=splits)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A run in mixed precision, with three latents and grey levels, and the policy after it."""
    likelihood = {"num_components": 2, "num_levels": 17}
    config = CONFIG.override(
        {
            "data.binarization": "none",
            "model.latent_size": 3,
            "model.likelihood": "discretized_logistic_mixture",
            "model.likelihood_options": likelihood,
            "training.batch_size": 700,
            "training.epochs": 1,
            "training.precision": "mixed_bfloat16",
        }
    )
    with steps_without_graphs():
        run = train(config, tmp_path_factory.mktemp("mixed") / "run")
    policy = keras.config.dtype_policy().name
    keras.config.set_dtype_policy("float32")
    return run, policy


def test_a_run_in_mixed_precision_is_finite_and_complete(mixed):
    run, _ = mixed
    assert run.load_model().decoder.layers[0].compute_dtype == "bfloat16"
    (row,) = history(run)
    assert all(math.isfinite(value) for value in row.values())
    with Image.open(run.path / "latent.png") as picture:
        assert picture.size[0] > picture.size[1]  # three rows of traversals


def test_a_run_in_mixed_precision_is_used_in_float32(mixed):
    run, _ = mixed
    model, half = runs.open_model(run.path)[0], run.load_model()
    assert {layer.compute_dtype for layer in model._flatten_layers()} == {"float32"}
    assert model.loaded_from == run.model_file
    x = runs.load_data(run.read_config()).test.numpy(0, 20)
    found, rounded = (
        log_likelihood(m, x, num_samples=50, progress=False).per_example for m in (model, half)
    )
    assert 0 < np.abs(found - rounded).max() < 2


def test_training_leaves_the_precision_of_the_process_as_it_was(mixed):
    assert mixed[1] == "float32"


# Other tests here build these, or one with the networks of these.
LIKE_OTHERS = {
    "iwae-mnist-2layer",
    "sbn-mnist-2layer",
    "sbn-mnist-linear",
    "sbn-mnist-nonlinear",
    "vae-images",
    "vqvae-cifar10",
    "vqvae-images",
    "vqvae-mnist",
}


@pytest.mark.parametrize(
    "name", nightly_but(recipes.names(), *(set(recipes.names()) - LIKE_OTHERS))
)
def test_every_recipe_makes_a_model(name):
    config = recipes.load(name)
    shapes = {"digits": (8, 8, 1), "cifar10": (32, 32, 3), "": (25, 18, 3)}
    shape = shapes.get(config.data.name, (28, 28, 1))
    kind = "vector" if name == "vae-cells" else config.data.kind
    shape = {"vector": (64,), "series": (7, 12), "tokens": (12,)}.get(kind, shape)
    if name == "vqvae-series":
        shape = (64, 2)
    images = Examples(np.zeros((1000, *shape), np.uint8), kind="image" if kind == "auto" else kind)
    splits = Splits(config.data.name, images, images, images)
    if config.model.likelihood == "columns":
        splits = load("wine")
    model = runs.build_model(config, splits)
    if name == "ladder-mnist":
        assert model.layer_shapes == ((14, 14, 2), (7, 7, 4), (1, 1, 32))
    elif config.model.family in ("vae", "ladder"):
        sizes = (config.model.latent_size, *config.model.upper_latent_sizes)
        assert model.layer_shapes == tuple((size,) for size in sizes)
    else:
        assert model.code_shape == CODE_SHAPES[name]
        assert model.codebook_size == config.model.quantizer_options["num_embeddings"]
    assert model.optimizer is not None
    assert float(model.optimizer.learning_rate) == pytest.approx(config.training.learning_rate)


@pytest.mark.parametrize(
    ("shape", "network", "hidden", "grid"),
    [
        ((8, 8, 1), "dense", (256, 256), (4, 4)),
        ((16, 5, 3), "dense", (256, 256), (8, 3)),
        ((17, 17, 1), "conv", (32, 64), (9, 9)),
        ((64, 64, 3), "conv", (32, 64, 128), (16, 16)),
        ((60, 201, 3), "conv", (32, 64, 128, 256, 256), (4, 13)),
    ],
    ids=str,
)
def test_networks_are_chosen_by_the_shape_of_the_images(shape, network, hidden, grid):
    chosen = with_networks(recipes.load("vae-images"), shape).model
    assert (chosen.network, chosen.hidden) == (network, hidden)
    small = {"filters": 8, "block_filters": 4, "num_blocks": 1}
    config = recipes.load("vqvae-images").override({"model.network_options": small})
    images = Examples(np.zeros((300, *shape), np.uint8))
    model = runs.build_model(config, Splits("", images, images, images))
    assert (model.x_shape, model.code_shape) == (shape, grid)
    given = config.override({"model.network_options": {**small, "num_downsamplings": 3}})
    assert with_networks(given, shape).model.network_options["num_downsamplings"] == 3


GRIDS = ("ladder", "residual")


@pytest.mark.parametrize(
    ("family", "network"),
    [
        ("vae", "dense"),
        ("vae", "conv"),
        ("ladder", "dense"),
        GRIDS,
        ("vqvae", "residual"),
        ("vqvae2", "residual"),
    ],
)
def test_networks_may_drop_values_in_training(family, network):
    images = Examples(np.zeros((100, 8, 8, 1), np.uint8))
    upper = {} if family.startswith("vq") else {"model.upper_latent_sizes": [2]}
    drop = {"dropout": 0.3} | ({"strides": [2, 2]} if (family, network) == GRIDS else {})
    if family == "vae":
        upper["model.upper_hidden"] = [4]
    options = {"model.family": family, "model.network": network, **upper}
    config = recipes.load("vae-digits").override(options)
    splits = Splits("", images, images, images)
    model = runs.build_model(config.override({"model.network_options": drop}), splits)
    if family in ("ladder", "vqvae"):
        parts = [model.encoder, *(getattr(model, "top_down_networks", None) or [model.decoder])]
    else:
        parts = [*model.encoders, *model.decoders]
    for part in parts:
        drops = [layer.rate for layer in part._flatten_layers() if hasattr(layer, "rate")]
        assert set(drops) == {0.3}
    with pytest.raises(InvalidArgument, match=r"expected names among .*dropout"):
        runs.build_model(config.override({"model.network_options": {"drop": 0.3}}), splits)


def test_the_networks_of_the_iwae_paper():
    """784-200-200-100-100-100-50 both ways, and one affine map each way for the linear SBN."""
    images = Examples(np.zeros((1000, 28, 28, 1), np.uint8))

    def widths(name):
        model = runs.build_model(recipes.load(name), Splits(name, images, images, images))
        several = hasattr(model, "encoders")
        parts = [*model.encoders, *model.decoders] if several else [model.encoder, model.decoder]
        return [[w.shape[0] for w in part.weights if len(w.shape) == 2] for part in parts]

    lower, upper = [784, 200, 200], [100, 100, 100]
    assert widths("iwae-mnist-2layer") == [lower, upper, [100, 200, 200], [50, 100, 100]]
    assert widths("sbn-mnist-linear") == [[784], [200]]
    assert widths("sbn-mnist-nonlinear") == [lower, [200, 200, 200]]
    assert widths("sbn-mnist-2layer") == [[784], [200], [200], [200]]


@pytest.mark.parametrize("passes", [3280, 1640])
def test_the_schedule_of_the_iwae_paper(splits, passes):
    """3^i passes at 1e-3 · 10^(−i/7); half of each with half of the epochs."""
    training = {"batch_size": 100, "epochs": passes, "schedule": "iwae", "learning_rate": 1e-3}
    config = CONFIG.override({f"training.{key}": value for key, value in training.items()})
    schedule = runs.build_model(config, splits).optimizer._learning_rate
    steps = 14 * passes / 3280  # of the first stage
    start = 0
    for stage in range(8):
        end = start + steps * 3**stage
        rate = pytest.approx(1e-3 * 10 ** (-stage / 7), rel=1e-5)
        assert float(schedule(np.int32(start))) == rate
        assert float(schedule(np.int32(end - 1))) == rate
        start = end
    assert start == 14 * passes


OPTIONS = {
    "categories": {"posterior": "categorical", "num_categories": 3, "network": "conv"},
    "two layers": {"upper_latent_sizes": [2], "upper_hidden": [4]},
    "two layers of bits": {"posterior": "bernoulli", "upper_latent_sizes": [3], "hidden": []},
}
TRAINING = {
    "batch_size": 700,
    "estimator": "nvil",
    "estimator_options": {"decay": 0.9},
    "optimizer_options": {"epsilon": 1e-4},
}


@pytest.mark.parametrize("name", nightly_but(OPTIONS, "two layers of bits"))
def test_a_run_with_other_latents_is_complete(name, tmp_path, splits, quick_steps):
    settings = {"hidden": [8], "latent_size": 4, **OPTIONS[name]}
    settings = {f"model.{key}": value for key, value in settings.items()}
    settings |= {f"training.{key}": value for key, value in TRAINING.items()}
    run = train(CONFIG.override({**settings, "training.epochs": 1}), tmp_path / "run")
    model = run.load_model()
    assert model.estimator.decay == 0.9
    assert model.optimizer.epsilon == 1e-4
    assert {path.name for path in run.path.glob("*.png")} == PICTURES
    values = runs.evaluate(model, splits, 5, 10, progress=False)
    assert math.isfinite(values["log_likelihood"])
    assert model.prior.kind == model.latent_kinds[-1]


AVERAGED = CONFIG.override({"training.ema_momentum": 0.9, "training.schedule": "constant"})


def test_an_average_of_the_weights_takes_their_place_when_training_ends(
    splits, tmp_path, no_pictures, quick_steps
):
    """Adam's weights w_t and m make the average; validation in between is of the average too."""
    config = AVERAGED.override({"training.epochs": 1})
    run = train(config, tmp_path / "run", splits=splits)
    averaged, raw = run.load_model(), last_model(run, config, splits)
    averages = raw.optimizer._model_variables_moving_average
    for weight, average in zip(averaged.trainable_variables, averages, strict=True):
        np.testing.assert_allclose(weight, average, rtol=1e-5, atol=1e-6)
    first, last = averaged.trainable_variables[0], raw.trainable_variables[0]
    assert np.abs(first - last).max() > 1e-3
    validation = splits.validation.dataset(config.training.batch_size)
    loss = averaged.evaluate(validation, verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose(callbacks.read_history(run)[-1]["val_loss"], loss, rtol=1e-5)


@pytest.mark.nightly
def test_an_average_of_the_weights_goes_on_with_a_training(
    splits, tmp_path, no_pictures, quick_steps
):
    config = AVERAGED.override({"training.epochs": 2})
    whole = train(config, tmp_path / "run", splits=splits)
    one = train(config.override({"training.epochs": 1}), tmp_path / "one", splits=splits)
    resumed = train(config, one.path, splits=splits, resume=True)
    for a, b in zip(resumed.load_model().weights, whole.load_model().weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("ema_momentum", 1.0),
        ("ema_momentum", -0.1),
        ("learning_rate_warmup_steps", -1),
        ("patience", -1),
    ],
)
def test_averages_and_warm_ups_out_of_range_are_refused(setting, value):
    with pytest.raises(InvalidArgument, match=f"training.{setting} is {value}; expected a number"):
        CONFIG.override({f"training.{setting}": value})


@pytest.mark.parametrize("momentum", nightly_but([0.0, 0.9], 0.9))
def test_patience_ends_a_training_and_keeps_the_best_epoch(splits, tmp_path, no_pictures, momentum):
    settings = {"patience": 1, "ema_momentum": momentum, "epochs": 40, "learning_rate": 0.2}
    config = CONFIG.override({f"training.{key}": value for key, value in settings.items()})
    run = train(config, tmp_path / "run", splits=splits)
    rows = callbacks.read_history(run)
    best = callbacks.best_epoch(rows, "val_loss")
    assert best == len(rows) - 1 < 39, "the last epoch is worse, and ended the training"
    report = json.loads((run.path / "report.json").read_text())["training"]
    assert (report["epochs"], report["epoch"]) == (len(rows), best)
    validation = splits.validation.dataset(config.training.batch_size)
    loss = run.load_model().evaluate(validation, verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose(loss, rows[best - 1]["val_loss"], rtol=1e-5)


def test_options_reach_the_objective(splits):
    settings = {"objective": "renyi", "objective_options": {"alpha": 0.25}, "num_samples": 3}
    config = CONFIG.override({f"training.{key}": value for key, value in settings.items()})
    assert runs.build_model(config, splits).objective.alpha == 0.25
    model = runs.build_model(CONFIG.override({"training.free_bits": 0.5}), splits)
    assert model.free_bits == 0.5
    assert isinstance(model.estimator, estimators.Pathwise)


@pytest.mark.parametrize("network", ["dense", "conv"])
def test_a_bernoulli_decoder_starts_at_the_mean_of_the_data(splits, network):
    config = CONFIG.override({"model.network": network})
    model = runs.build_model(config, splits)
    pixels = splits.train.numpy()
    mean = pixels.mean(axis=0) if network == "dense" else np.full((8, 8, 1), pixels.mean())
    start = model.decode(np.zeros((1, 2), "f4"))[0]
    np.testing.assert_allclose(start, np.clip(mean, 0.001, 0.999), atol=1e-5)


def test_evaluation_has_the_measures_of_the_test_split(model, splits):
    values = runs.evaluate(model, splits, 20, 15, seed=4, progress=False)
    test = splits.test.numpy()
    measured = log_likelihood(model, test[:15], num_samples=20, seed=4, progress=False)
    assert values == {**measured.summary(), "active_units": active_units(model, test)}
    assert values["num_examples"] == 15


def test_evaluation_covers_the_whole_split(model, splits):
    assert runs.evaluate(model, splits, 1, progress=False)["num_examples"] == len(splits.test)


def test_a_run_is_found_again_with_its_data(finished, model, splits):
    loaded, config, data = load_run(finished.path, {})
    assert config == CONFIG
    assert_same_model(loaded, model)
    np.testing.assert_array_equal(data.test.values, splits.test.values)


def test_a_file_without_a_run_needs_a_dataset(finished):
    with pytest.raises(InvalidArgument, match="--dataset"):
        load_run(finished.model_file, {})


def test_a_file_without_a_run_splits_data_by_the_seed_of_its_model(finished, tmp_path):
    model = finished.load_model()
    model.seed = 7
    model.save(tmp_path / "m.keras")
    with pytest.warns(TfvaeWarning, match=r"digits is read .* split anew by the seed .*, 7\."):
        _, _, splits = load_run(tmp_path / "m.keras", {"data.name": "digits"})
    expected = load("digits", seed=7).test
    np.testing.assert_array_equal(splits.test.values, expected.values)


def test_exports_are_verified_on_the_test_split_and_calibrated_on_training_images(finished, splits):
    model = finished.load_model()
    (test, y), (training, training_y) = export_examples(CONFIG, 5, 7, model)
    np.testing.assert_array_equal(test, splits.test.numpy(0, 5))
    np.testing.assert_array_equal(training, splits.train.numpy(0, 7))
    assert y is None
    assert training_y is None
    assert export_examples(None, 5, 7, model) == [(None, None)] * 2


def test_examples_that_cannot_be_had_are_warned_of(finished):
    config = CONFIG.override({"data.name": "/nothing/here.npy"})
    with pytest.warns(TfvaeWarning, match=r"verified on samples.*here\.npy"):
        found = export_examples(config, 5, 7, finished.load_model())
    assert found == [(None, None)] * 2


def cut(path, target):
    target.write_bytes(path.read_bytes()[:-1000])


def flipped(path, target):
    content = bytearray(path.read_bytes())
    for place in range(200, len(content) - 2000, 97):
        content[place] ^= 0xFF
    target.write_bytes(content)


def other_zip(path, target):
    with zipfile.ZipFile(target, "w") as file:
        file.writestr("a.txt", "not a model")


def text(path, target):
    target.write_text("not a model")


def other_model(path, target):
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(target)


def without_a_weight(path, target):
    with zipfile.ZipFile(path) as file, zipfile.ZipFile(target, "w") as changed:
        for name in file.namelist():
            content = io.BytesIO(file.read(name))
            if name == "model.weights.h5":
                with h5py.File(content, "r+") as weights:
                    places = []
                    weights.visit(places.append)
                    del weights[next(p for p in places if isinstance(weights[p], h5py.Dataset))]
            changed.writestr(name, content.getvalue())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_a_weight, "cannot be loaded: .*dense.* expected 2 variables, but received"),
        (cut, "not a .keras file, or is truncated"),
        (flipped, "is damaged or truncated"),
        (other_zip, "cannot be loaded"),
        (text, "not a .keras file"),
        (other_model, "holds a Sequential; expected a model of tfvae"),
    ],
)
def test_a_damaged_or_foreign_model_is_refused(finished, tmp_path, damage, message):
    damage(finished.model_file, tmp_path / "model.keras")
    with pytest.raises(InvalidFile, match=rf"model\.keras.*{message}"):
        runs.load_model(tmp_path / "model.keras")


def test_what_is_no_run_is_refused(tmp_path, finished):
    with pytest.raises(InvalidFile, match=r"no run or model .*nothing"):
        runs.open_model(tmp_path / "nothing")
    with pytest.raises(InvalidFile, match=r"not a run: it has no config\.toml"):
        runs.open_model(tmp_path)
    (tmp_path / "a.tflite").write_bytes(b"")
    with pytest.raises(InvalidArgument, match="tfvae decode"):
        runs.open_model(tmp_path / "a.tflite")
    with pytest.raises(InvalidFile, match=r"There is no model .*model\.keras"):
        RunDirectory(tmp_path).load_model()
    assert runs.open_model(finished.model_file)[1] is None


def test_names_that_are_taken_get_numbers(tmp_path):
    found = [RunDirectory.unused(tmp_path / "runs", "demo") for _ in range(3)]
    assert [path.name for path in found] == ["demo", "demo-2", "demo-3"]
    assert all(path.is_dir() for path in found)  # each is taken, also for other processes


def test_a_link_to_nowhere_is_no_folder_of_runs(tmp_path):
    (tmp_path / "runs").symlink_to(tmp_path / "gone")
    with pytest.raises(InvalidFile, match=r"Cannot write .*runs: File exists"):
        RunDirectory.unused(tmp_path / "runs", "demo")


@pytest.mark.parametrize("count", [1, 5, 16, 20])
def test_every_image_is_in_the_picture_above_its_reconstruction(model, splits, tmp_path, count):
    x = splits.test.numpy(0, count)
    pictures.reconstructions(model, x, tmp_path / "a.png")
    decoded = np.round(255 * np.clip(model.predict(x, verbose=0), 0, 1)).astype(np.uint8)
    with Image.open(tmp_path / "a.png") as file:
        picture = np.asarray(file)[::8, ::8]  # 8×8 images are enlarged eightfold
    cell = 9
    columns = (picture.shape[1] + 1) // cell
    for number in range(count):
        row, left = 2 * (number // columns) * cell, (number % columns) * cell
        above = picture[row : row + 8, left : left + 8]
        below = picture[row + cell : row + cell + 8, left : left + 8]
        np.testing.assert_array_equal(above, np.round(255 * x[number, ..., 0]))
        np.testing.assert_allclose(below.astype(int), decoded[number, ..., 0], atol=1)


def test_a_run_is_not_resumed_with_fewer_epochs_than_it_has_done(copied):
    shorter = CONFIG.override({"training.epochs": EPOCHS - 1})
    with pytest.raises(InvalidArgument, match=f"has done {EPOCHS} epochs already"):
        train(shorter, copied.path, resume=True)
    assert copied.read_config() == CONFIG
