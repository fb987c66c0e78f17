"""The command line: in this process where that is enough, as the installed command where not."""

import contextlib
import dataclasses
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from tiers import nightly_but

from tfvae import evaluation, ondevice, recipes, runs
from tfvae._plain import files
from tfvae.config import Config, load_config
from tfvae.errors import InvalidFile
from tfvae.evaluation.diagnosis import Diagnosis, GradientMeasures
from tfvae.ondevice import Decoder
from tfvae.runs import RunDirectory
from tfvae.tools import common
from tfvae.tools.export import _default_output
from tfvae.tools.main import cli

pytestmark = pytest.mark.slow  # Runs the command line.

TINY = {
    "model.hidden": [16],
    "model.latent_size": 2,
    "training.epochs": 1,
    "training.batch_size": 200,
    "training.steps_per_execution": 7,
    "evaluation.num_samples": 10,
}


def settings(values):
    """Return the options of the command for values of settings."""
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


SET_TINY = settings(TINY)
MEASURES = {
    "log_likelihood",
    "standard_error",
    "bits_per_dim",
    "elbo",
    "reconstruction",
    "kl",
    "active_units",
    "effective_sample_size",
    "num_samples",
    "num_examples",
}
EXPORT = {"path", "bytes", "max_abs_error", "operators"}
DEMO_TEST = "test_the_demo_goes_the_whole_way"
PICTURES = {"curves.png", "reconstructions.png", "samples.png", "latent.png"}


@dataclasses.dataclass
class Done:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str

    def json(self):
        """Return standard output, which must be one line with one JSON object."""
        assert self.status == 0, self.err
        assert self.out.count("\n") == 1

        def refuse(name):
            raise AssertionError(f"{name} is not JSON")

        value = json.loads(self.out, parse_constant=refuse)
        assert isinstance(value, dict)
        return value


def start_command(*arguments, folder):
    """Start the installed command, without what the tests set for TensorFlow."""
    command = [str(Path(sys.executable).with_name("tfvae")), *map(str, arguments)]
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish_command(process):
    out, err = process.communicate(timeout=300)
    return Done(process.returncode, out, err)


@pytest.fixture
def tfvae(command):
    """Return a function that runs the command in this process, in an empty folder."""

    def run(*arguments):
        return Done(*command(*arguments))

    return run


def content(folder):
    """Return every file below a folder, with its content."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def refused(tfvae, tmp_path):
    """Return a function that checks that a command fails as it should, and changes nothing."""

    def check(status, *messages, command):
        before = content(tmp_path)
        done = tfvae(*command)
        assert done.status == status, done.err
        assert done.out == ""
        for message in messages:
            assert message in done.err
        assert "Traceback" not in done.err
        assert "This was not expected" not in done.err
        assert content(tmp_path) == before

    return check


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """A run with a model that was never trained; not to be changed."""
    config = recipes.load("vae-digits").override(TINY)
    run = RunDirectory.create(tmp_path_factory.mktemp("cli") / "run", config)
    model = runs.build_model(config, runs.load_data(config))
    model.optimizer.build(model.trainable_variables)
    model.save(run.model_file)
    return run


@pytest.fixture
def run(pristine, tmp_path):
    """A run called "run" in the folder where the command runs."""
    copy = RunDirectory.create(tmp_path / "run", pristine.read_config())
    copy.model_file.write_bytes(pristine.model_file.read_bytes())
    return copy


@pytest.fixture(scope="module")
def tflite(journey):
    """The path of a decoder; not to be changed."""
    return journey[0] / "run" / "decoder.tflite"


@pytest.fixture(scope="module", autouse=True)
def demo_started(request, tmp_path_factory):
    """`tfvae demo`, if its test is to run: it takes most of a minute, beside all other tests."""
    if not any(item.name == DEMO_TEST for item in request.session.items):
        yield None
        return
    folder = tmp_path_factory.mktemp("demo")
    process = start_command("demo", "--run-dir", "out", "--json", folder=folder)
    yield folder / "out", process
    process.kill()
    process.communicate()


def test_help_takes_less_than_a_second(tmp_path):
    seconds = []  # of the processor, however busy it is
    for _ in range(3):
        before = os.times()
        done = finish_command(start_command("--help", folder=tmp_path))
        spent = os.times()
        seconds.append(spent.children_user - before.children_user)
        assert done.status == 0
        assert "tfvae demo" in done.out
    assert 0 < min(seconds) < 1.0


def test_help_does_not_import_tensorflow(run_python):
    script = (
        "import sys\n"
        "from tfvae.tools.main import cli\n"
        "for verb in ([], *([name] for name in cli.commands)):\n"
        "    cli.main([*verb, '--help'], standalone_mode=False)\n"
        "assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules)\n"
    )
    printed = run_python(script)
    assert printed.count("Usage:") == 1 + len(cli.commands)


REFUSED_AT_ONCE = [
    ["train", "vae-digit"],
    ["train", "vae-digits", "--set", "training.betta=1"],
    ["train", "vae-digits", "--dataset", "a/b.npz"],
    ["train", "vae-digits", "--objective", "elb"],
    ["train", "--resume", "--run-dir", "nowhere"],
    ["train-prior", "nowhere"],
    *([verb, "nowhere"] for verb in ("evaluate", "diagnose", "sample", "reconstruct", "encode")),
    ["export", "nowhere"],
    ["decode", "nowhere", "--codes", "codes.npz"],
]


def test_what_needs_no_tensorflow_is_refused_without_its_import(run_python, tmp_path):
    script = f"""
import os, sys
from tfvae.errors import TfvaeError
from tfvae.tools.main import cli
os.chdir(sys.argv[1])
for command in {REFUSED_AT_ONCE!r}:
    try:
        cli.main(command, standalone_mode=False)
    except TfvaeError as error:
        print(command[0], error)
    assert not {{"tensorflow", "keras"}} & set(sys.modules), command
"""
    assert run_python(script, tmp_path).count("\n") == len(REFUSED_AT_ONCE)


def test_a_refusal_takes_less_than_half_a_second(tmp_path):
    """Of processor time, which other work on the machine does not lengthen."""
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = finish_command(start_command("train", "nope", folder=tmp_path))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.status == 2
    assert min(seconds) < 0.5


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["decode", "nothing.tflite", "--sample", 1], 1), (["decode"], 2), (["--version"], 0)],
)
def test_the_exit_status_of_the_installed_command(tmp_path, arguments, status):
    done = finish_command(start_command(*arguments, folder=tmp_path))
    assert done.status == status
    assert bool(done.out) == (status == 0)
    assert bool(done.err) == (status != 0)
    assert "Traceback" not in done.err


# What works, in this process.


def test_recipes_are_listed_with_what_they_are(tfvae):
    listed = tfvae("recipes", "--json").json()
    expected = {name: recipes.load(name).description for name in recipes.names()}
    assert listed == {"recipes": expected}
    lines = tfvae("recipes").out.splitlines()
    assert [line.split()[0] for line in lines] == recipes.names()


def test_a_recipe_is_printed_to_start_from(tfvae, tmp_path):
    (tmp_path / "own.toml").write_text(tfvae("recipes", "vae-digits").out)
    assert load_config(tmp_path / "own.toml") == recipes.load("vae-digits")
    printed = tfvae("recipes", "vae-digits", "--json").json()
    assert printed == {"name": "vae-digits", "toml": recipes.text("vae-digits")}


@pytest.fixture
def no_space(monkeypatch):
    """No file of a run can be written."""

    def refuse(path):
        raise InvalidFile(f"Cannot write {path}: No space left on device.")

    monkeypatch.setattr("tfvae.runs.directory.atomic", refuse)


def test_a_training_that_cannot_begin_leaves_no_run(tfvae, tmp_path, no_space):
    done = tfvae("train", "vae-digits", *SET_TINY)
    assert done.status == 1
    assert "config.toml: No space left on device" in done.err
    assert list((tmp_path / "runs").iterdir()) == []


def test_sample_without_output_writes_into_the_run(tfvae, run):
    assert tfvae("sample", "run", "-n", 3).out == "3 images in run/samples.png\n"
    assert (run.path / "samples.png").stat().st_size > 0


def test_sample_is_decided_by_seed_and_temperature(tfvae, run, tmp_path):
    model = run.load_model()
    tfvae("sample", "run", "-n", 4, "--seed", 5, "--temperature", 0.5, "-o", "a.npy")
    expected = model.sample(4, seed=5, temperature=0.5)
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), expected, atol=1e-6)


@pytest.mark.usefixtures("quickly")
def test_a_model_file_is_enough(tfvae, run, tmp_path):
    done = tfvae("evaluate", "run/model.keras", "--dataset", "digits", "--num-examples", 2)
    assert done.status == 0
    assert "test log p(x)" in done.out
    assert not (run.path / "report.json").exists()
    tfvae("sample", "run/model.keras", "-n", 2, "-o", "a.png")
    assert (tmp_path / "a.png").exists()


@pytest.mark.usefixtures("quickly")
def test_evaluate_for_people_has_a_line_for_every_measure(tfvae, run):
    done = tfvae("evaluate", "run", "--num-examples", 3, "--num-samples", 4)
    words = ("log p(x)", "bits/dim", "ELBO", "reconstruction", "KL", "active units", "4 samples")
    assert all(word in done.out for word in words)


@pytest.mark.usefixtures("quickly")
def test_one_example_is_measured_in_valid_json(tfvae, run):
    assert tfvae("evaluate", "run", "--num-examples", 1, "--json").json()["num_examples"] == 1


def test_diagnose_prints_reports_and_draws_a_table(tfvae, run, monkeypatch):
    """For people, and as JSON: of what is measured here, without measuring it."""
    found = []

    def measured(model, x, *, names, objective_names, num_samples, num_draws, **others):
        assert x.shape == (4, *model.x_shape)
        assert others == {"condition": None, "num_warmup": 1, "seed": 0}
        numbers = np.random.default_rng(0).uniform(0.1, 1, (len(names), 7)).tolist()
        rows = [
            GradientMeasures(name, objective, num_samples, *numbers.pop())
            for objective in objective_names
            for name in names
        ]
        found.append(Diagnosis(rows, {"elbo": "sticking_the_landing"}, num_draws, len(x)))
        return found[-1]

    monkeypatch.setattr(evaluation, "diagnose", measured)
    options = ["--num-draws", 20, "--num-warmup", 1, "--batch-size", 4, "--num-samples", 2]
    of = ["--estimators", "pathwise,dreg", "--objectives", "elbo"]
    done = tfvae("diagnose", "run", *of, *options)
    assert done.status == 0, done.err
    assert "variance" in done.out
    assert "(elbo: sticking_the_landing)" in done.out  # what the bias is relative to
    values = tfvae("diagnose", "run", *of, *options, "--json").json()
    assert len(found) == 2
    assert values == found[1].summary()
    assert (values["num_draws"], values["batch_size"]) == (20, 4)
    assert json.loads((run.path / "report.json").read_text())["diagnosis"] == values
    rows = values["rows"]
    assert {(row["estimator"], row["objective"]) for row in rows} == {
        ("pathwise", "elbo"),
        ("dreg", "elbo"),
    }
    assert all(row["ms_per_step"] > 0 and row["variance"] >= 0 for row in rows)
    assert (run.path / "diagnosis.png").stat().st_size > 1000


def test_diagnose_refuses_estimators_that_do_not_fit(tfvae, run):
    done = tfvae("diagnose", "run", "--estimators", "disarm")
    assert done.status == 2
    assert "None of disarm fits elbo, iwae" in done.err


@pytest.mark.nightly
def test_export_of_a_saved_model(tfvae, run):
    values = tfvae("export", "run", "--format", "saved_model", "--json").json()
    assert values["path"] == str(Path("run/saved_model"))
    assert (run.path / "saved_model" / "saved_model.pb").is_file()


@pytest.mark.nightly
def test_export_in_integers_with_its_report(tfvae, run):
    done = tfvae("export", "run", "--quantize", "int8", "--calibration", 20)
    assert "reconstruction PSNR" in done.out
    assert "report in run/decoder-int8.md" in done.out
    names = {path.name for path in run.path.glob("decoder-int8.*")}
    assert names == {"decoder-int8.tflite", "decoder-int8.md", "decoder-int8.png"}
    values = json.loads((run.path / "report.json").read_text())["exports"]["decoder-int8.tflite"]
    assert values["quantize"] == "int8"
    assert values["quality"]["num_examples"] == 180
    assert "decode_1" in values["latency_ms"]


@pytest.mark.nightly
def test_export_of_a_c_header(tfvae, run):
    options = ["--format", "c-header", "--quantize", "dynamic", "--json"]
    values = tfvae("export", "run", *options).json()
    assert values["path"] == str(Path("run/decoder-dynamic.h"))
    text = (run.path / "decoder-dynamic.h").read_text()
    assert f"decoder_dynamic_tflite_len = {values['bytes']};" in text
    assert not list(run.path.glob("*.tflite"))
    exports = json.loads((run.path / "report.json").read_text())["exports"]
    assert exports["decoder-dynamic.h"] == values


@pytest.mark.nightly
def test_export_of_some_signatures(tfvae, run):
    """Without the report, which measures all of them."""
    values = tfvae("export", "run", "--signature", "decode", "--json").json()
    assert values["path"] == str(Path("run/decode.tflite"))
    assert set(values["errors"]) == {"decode", "decode_1"}
    assert values["left_out"]["encode"] == "it was not asked for"
    assert not (run.path / "decode.md").exists()


@pytest.mark.nightly
def test_export_to_onnx(tfvae, run):
    pytest.importorskip("tf2onnx")
    values = tfvae("export", "run", "--format", "onnx", "--signature", "encode", "--json").json()
    assert values["path"] == str(Path("run/encoder.onnx"))
    assert values["max_abs_error"] < 1e-4
    assert (run.path / "encoder.onnx").stat().st_size == values["bytes"]


def test_decode_of_latents(tfvae, tflite, tmp_path):
    z = np.array([[0.5, -1.0], [2.0, 0.0]])
    np.save(tmp_path / "z.npy", z)
    tfvae("decode", tflite, "--latents", "z.npy", "-o", "a.npy")
    expected = RunDirectory(tflite.parent).load_model().decode(z)
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), expected, atol=1e-5)


def test_decode_takes_a_folder_that_has_a_decoder_and_no_model(tfvae, tflite, tmp_path):
    (tmp_path / "device").mkdir()
    shutil.copy(tflite, tmp_path / "device")
    assert tfvae("decode", "device", "--sample", 4).out == "4 images in samples.png\n"


def test_decode_writes_samples_png_by_default(tfvae, tflite, tmp_path):
    assert tfvae("decode", tflite, "--sample", 4).out == "4 images in samples.png\n"
    with Image.open(tmp_path / "samples.png") as picture:
        assert picture.size == (8 * 17, 8 * 17)


@pytest.fixture
def resumable(journey, tmp_path):
    """A run of one epoch whose end was lost."""
    shutil.copytree(journey[0] / "run", tmp_path / "run")
    (tmp_path / "run" / "model.keras").unlink()
    return RunDirectory(tmp_path / "run")


@pytest.mark.usefixtures("quickly")
def test_resume_finishes_a_run(tfvae, resumable):
    weights = resumable.checkpoints.load()[1]["variables"]["model"]
    done = tfvae("train", "--resume", "--run-dir", "run", "--json")
    assert done.json() == {"run_dir": "run", "epochs": 1}
    for before, after in zip(weights, resumable.load_model().get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


TWO_STEPS = TINY | {
    "training.batch_size": 700,
    "model.likelihood": "normal",
    "model.likelihood_options": {},
}
DIVERGE = ["train", "--recipe", "vae-digits", *settings(TWO_STEPS), "--learning-rate", 1e30]


@pytest.mark.usefixtures("quickly")
def test_a_loss_that_is_not_finite_is_one_message(tfvae, tmp_path):
    done = tfvae(*DIVERGE, "--run-dir", "run")
    assert done.status == 1
    assert "Error: The loss became" in done.err
    assert "reconstruction" in done.err
    assert "There is no checkpoint yet" in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "run" / "model.keras").exists()
    assert not list((tmp_path / "run" / "checkpoints").glob("epoch-*"))


@pytest.mark.nightly
def test_a_loss_that_ends_far_above_where_it_started_is_no_success(tfvae, tmp_path):
    command = ["train", "vae-digits", *SET_TINY, "--learning-rate", 1e9, "--run-dir", "run"]
    done = tfvae(*command, "--json")
    assert (done.status, done.out) == (1, "")
    words = "Error: The training diverged. The validation loss was"
    assert words in done.err
    assert "Lower the learning rate (--learning-rate; the highest was 1e+09" in done.err
    assert (tmp_path / "run" / "curves.png").exists()
    assert "Traceback" not in done.err


@pytest.fixture
def photographs(tmp_path, rng):
    """Folders of pictures: "grey", of an odd size, and "sizes", of two sizes in colour."""
    for name, shapes in {"grey": [(10, 9)], "sizes": [(20, 31, 3), (25, 18, 3)]}.items():
        (tmp_path / name).mkdir()
        for number in range(40):
            pixels = rng.integers(0, 256, shapes[number % len(shapes)], np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    return tmp_path


@pytest.mark.usefixtures("quickly")
def test_a_folder_of_pictures_is_trained_with_a_recipe_that_is_named(tfvae, photographs):
    done = tfvae("train", "grey", "--epochs", 1)
    assert done.status == 0, done.err
    assert "The recipe for grey is vae-images; --recipe vqvae-images is" in done.err
    assert "images: 32 train, 4 validation, 4 test; 10×9 pixels, grey" in done.err
    assert "compiling the graph of a step" in done.err
    run = RunDirectory("runs/vae-images")
    assert run.read_config().model.network == "dense"
    assert Path(run.read_config().data.name) == photographs / "grey"


@pytest.mark.nightly
def test_pictures_of_different_sizes_are_resized_into_codes(tfvae, photographs):
    done = tfvae("train", "sizes")
    assert done.status == 1
    assert "20×31 (20), 25×18 (20)" in done.err
    assert "--set data.resize=[16,16]" in done.err
    small = ["--set", "model.network_options={filters=8,block_filters=4}", "--epochs", 1]
    resize = ["--set", "data.resize=[13,17]", "--run-dir", "run"]
    done = tfvae("train", "sizes", "--recipe", "vqvae-images", *small, *resize)
    assert done.status == 0, done.err
    model = RunDirectory("run").load_model()
    assert (model.x_shape, model.code_shape) == ((13, 17, 3), (7, 9))


def test_a_configuration_may_be_the_bare_argument(tfvae, tmp_path, no_space):
    own = recipes.load("vae-digits").override(TINY)
    (tmp_path / "own.toml").write_text(dataclasses.replace(own, name="own").to_toml())
    done = tfvae("train", "own.toml")
    assert (done.status, "config.toml: No space left" in done.err) == (1, True), done.err
    assert "own: training on digits, writing to runs/own" in done.err


@pytest.mark.usefixtures("quickly")
def test_a_run_that_fails_gives_the_terminal_its_cursor_back(tfvae, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes rich believe in a terminal
    done = tfvae(*DIVERGE, "--run-dir", "run")
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert done.err.count(hide) == 1
    assert done.err.rfind(show) > done.err.rfind(hide)


# What does not work: (exit status, words of the message, command). Nothing may be written.

TRAIN = ["train", "--recipe", "vae-digits", *SET_TINY, "--run-dir", "new"]
BAD_TRAINING = {
    "unknown recipe": (2, ["'vae-digit'", "mean 'vae-digits'"], ["train", "--recipe", "vae-digit"]),
    "neither recipe nor config": (2, ["vae-digits", "tfvae recipes"], ["train"]),
    "recipe and config": (
        2,
        ["--recipe vae-digits and --config a.toml"],
        [*TRAIN, "--config", "a.toml"],
    ),
    "two recipes": (
        2,
        ["vae-mnist and vae-digits", "Give one"],
        ["train", "vae-mnist", *TRAIN[1:]],
    ),
    "two sets of data": (
        2,
        ["series.npy and digits"],
        ["train", "series.npy", *TRAIN[1:], "--dataset", "digits"],
    ),
    "a run as data": (2, ["run is a run", "--resume --run-dir run"], ["train", "run"]),
    "a recipe of another name": (2, ["mean 'vae-mnist'", "beta=4"], ["train", "beta_vae"]),
    "a recipe without data": (2, ["There is no data", "--dataset"], ["train", "vae-images"]),
    "series": (
        1,
        ["40 series of 10 steps", "--set data.layout=NHW"],
        ["train", "series.npy", "--run-dir", "new"],
    ),
    "hidden layers of networks that are chosen": (
        2,
        ["model.hidden is [30]", "expected []"],
        ["train", "vae-images", "--dataset", "digits", "--set", "model.hidden=[30]"],
    ),
    "missing config": (1, ["a.toml"], ["train", "--config", "a.toml"]),
    "unknown dataset": (2, ["'mnits'", "mean 'mnist'"], [*TRAIN, "--dataset", "mnits"]),
    "missing dataset": (1, ["a/b.npz"], [*TRAIN, "--dataset", "a/b.npz"]),
    "not prepared": (
        1,
        ["'mnist' is not prepared", "--data-dir", "--download"],
        [*TRAIN, "--dataset", "mnist", "--data-dir", "."],
    ),
    "a folder of prepared data for other data": (
        2,
        ["--data-dir", "digits is no TFDS dataset"],
        [*TRAIN, "--dataset", "digits", "--data-dir", "."],
    ),
    "a layout of what is no array": (
        2,
        ["data.layout", "digits is none"],
        [*TRAIN, "--dataset", "digits", "--set", "data.layout=NHW"],
    ),
    "a download that is forbidden": (
        2,
        ["--download and --set data.download=False", "Give one"],
        [*TRAIN, "--download", "--set", "data.download=false"],
    ),
    "no data folder": (1, ["nowhere"], [*TRAIN, "--dataset", "mnist", "--data-dir", "nowhere"]),
    "unknown likelihood": (
        2,
        ["'bernouli'", "mean 'bernoulli'"],
        [*TRAIN, "--set", "model.likelihood=bernouli"],
    ),
    "unknown option of the likelihood": (
        2,
        ["'num_level'", "mean 'num_levels'"],
        [*TRAIN, "--set", "model.likelihood_options={num_level=17}"],
    ),
    "wrong option of the likelihood": (
        2,
        ["num_levels", "many"],
        [*TRAIN, "--set", "model.likelihood_options={num_levels='many'}"],
    ),
    "unknown objective": (2, ["'elb'", "mean 'elbo'"], [*TRAIN, "--objective", "elb"]),
    "unknown estimator": (2, ["mean 'pathwise'"], [*TRAIN, "--estimator", "pathwis"]),
    "unknown optimizer": (2, ["'sdg'", "'sgd'"], [*TRAIN, "--set", "training.optimizer=sdg"]),
    "unknown activation": (2, ["'rleu'"], [*TRAIN, "--set", "model.activation=rleu"]),
    "unknown prior": (2, ["mean 'standard_normal'"], [*TRAIN, "--set", "model.prior=standard"]),
    "unknown network": (2, ["mean 'conv'"], [*TRAIN, "--set", "model.network=convv"]),
    "unknown setting": (2, ["mean 'training.beta'"], [*TRAIN, "--set", "training.betta=1"]),
    "a setting that is an option of another": (
        2,
        ["mean 'training.optimizer_options', such as {epsilon"],
        [*TRAIN, "--set", "training.epsilon=1e-4"],
    ),
    "unknown section": (2, ["mean 'training'"], [*TRAIN, "--set", "trainin.beta=1"]),
    "no assignment": (2, ["section.key=value"], [*TRAIN, "--set", "training.beta"]),
    "wrong type": (2, ["training.kl is 3", "str"], [*TRAIN, "--set", "training.kl=3"]),
    "a name that is a number": (2, ["data.name is 5", "str"], [*TRAIN, "--set", "data.name=5"]),
    "wrong type of an option": (2, ["'three'", "integer"], [*TRAIN, "--epochs", "three"]),
    "two numbers of epochs": (
        2,
        ["Got --epochs 1 and --set training.epochs=7. Give one."],
        [*TRAIN, "--epochs", 1, "--set", "training.epochs=7"],
    ),
    "a learning rate that is no number": (
        2,
        ["training.learning_rate is nan; expected a number above 0"],
        [*TRAIN, "--learning-rate", "nan"],
    ),
    "no epochs": (2, ["training.epochs is 0"], [*TRAIN, "--set", "training.epochs=0"]),
    "negative beta": (2, ["beta", "-1"], [*TRAIN, "--set", "training.beta=-1"]),
    "exact KL of IWAE": (
        2,
        ["exact"],
        [*TRAIN, "--objective", "iwae", "--set", "training.kl=exact"],
    ),
    "batch too large": (1, ["1437", "9999"], [*TRAIN, "--set", "training.batch_size=9999"]),
    "run exists": (
        1,
        ["already holds a run", "--resume"],
        ["train", "--recipe", "vae-digits", "--run-dir", "run"],
    ),
    "resume of nothing": (1, ["new is not a run"], ["train", "--resume", "--run-dir", "new"]),
    "resume without a run": (2, ["--run-dir"], ["train", "--resume"]),
    "resume of a recipe": (2, ["--run-dir alone"], [*TRAIN, "--resume"]),
    "resume with other settings": (
        2,
        ["cannot change training.batch_size (from", "--epochs"],
        ["train", "--resume", "--run-dir", "run", "--batch-size", 3],
    ),
}


@pytest.mark.parametrize("case", BAD_TRAINING)
def test_training_that_cannot_be_is_refused(refused, run, case, tmp_path):
    np.save(tmp_path / "series.npy", np.zeros((40, 10, 6), np.float32))
    status, messages, command = BAD_TRAINING[case]
    refused(status, *messages, command=command)


BAD_USE = {
    "unknown command": (2, ["decod", "decode"], ["decod"]),
    "no run": (1, ["no run or model nowhere"], ["evaluate", "nowhere"]),
    "a folder that is no run": (1, ["config.toml"], ["sample", "."]),
    "a file without its data": (2, ["--dataset"], ["evaluate", "run/model.keras"]),
    "a prior of a file": (2, ["the folder of a run"], ["train-prior", "run/model.keras"]),
    "a folder of prepared data for a run of other data": (
        2,
        ["--data-dir", "digits is no TFDS dataset"],
        ["evaluate", "run", "--data-dir", "."],
    ),
    "a .tflite": (2, ["tfvae decode"], ["sample", "junk.tflite"]),
    "truncated model": (1, ["cut.keras", "truncated"], ["evaluate", "cut.keras"]),
    "truncated model, export": (1, ["cut.keras", "truncated"], ["export", "cut.keras"]),
    "foreign model": (1, ["junk.keras"], ["sample", "junk.keras"]),
    "other images": (
        1,
        ["(4, 4, 1)", "(8, 8, 1)"],
        ["evaluate", "run", "--dataset", "images.npy"],
    ),
    "other images, reconstruct": (
        1,
        ["(4, 4, 1)", "(8, 8, 1)"],
        ["reconstruct", "run", "--dataset", "images.npy"],
    ),
    "a folder with something else": (
        1,
        ["notes.txt", ".png"],
        ["evaluate", "run", "--dataset", "mixed"],
    ),
    "no samples": (2, ["x>=1"], ["evaluate", "run", "--num-samples", 0]),
    "no images": (2, ["x>=1"], ["sample", "run", "-n", 0]),
    "negative temperature": (2, ["`temperature` is -1"], ["sample", "run", "--temperature", -1]),
    "temperature 1e39": (2, ["below 3.4e38"], ["sample", "no-run", "--temperature", 1e39]),
    "temperature nan": (2, ["`temperature` is nan"], ["sample", "run", "--temperature", "nan"]),
    "unknown ending": (2, [".png or .npy"], ["sample", "run", "-o", "a.gif"]),
    "unknown ending, reconstruct": (2, [".png"], ["reconstruct", "run", "-o", "a.txt"]),
    "unknown format": (2, ["'pickle'", "'tflite'"], ["export", "run", "--format", "pickle"]),
    "unknown quantization": (2, ["'int2'", "'int8'"], ["export", "run", "--quantize", "int2"]),
    "a format without quantization": (
        2,
        ["tflite and c-header", "saved_model holds float32"],
        ["export", "run", "--format", "saved_model", "--quantize", "int8"],
    ),
    "integers without ranges": (
        2,
        ["int8 and int16x8", "'float16'"],
        ["export", "run", "--quantize", "float16", "--io", "integer"],
    ),
    "two signatures of a file with one": (
        2,
        ["An ONNX file holds one function; got decode, encode"],
        ["export", "run", "--format", "onnx", "--signature", "decode", "--signature", "encode"],
    ),
    "a report of some signatures": (
        2,
        ["--signature chooses some"],
        ["export", "run", "--signature", "decode", "--report"],
    ),
    "no such signature": (
        2,
        ["Unknown signature 'decod'. Did you mean 'decode'?"],
        ["export", "run", "--signature", "decod"],
    ),
    "no calibration": (2, ["x>=1"], ["export", "run", "--calibration", 0]),
    "calibration of what has no ranges": (
        2,
        ["--calibration sets the ranges"],
        ["export", "run", "--calibration", 500],
    ),
    "a tolerance of integers": (
        2,
        ["--tolerance is for files of float32"],
        ["export", "run", "--quantize", "int8", "--tolerance", 1e-3],
    ),
    "integers in ONNX": (
        2,
        ["--io is for the formats tflite and c-header, not onnx"],
        ["export", "run", "--format", "onnx", "--io", "integer"],
    ),
    "a report of a header": (
        2,
        ["--report is of a tflite"],
        ["export", "run", "--format", "c-header", "--report"],
    ),
    "a seed of latents": (
        2,
        ["--seed is of --sample"],
        ["decode", "junk.tflite", "--latents", "images.npy", "--seed", 0],
    ),
    "a temperature of codes": (
        2,
        ["--temperature is of --sample"],
        ["decode", "run", "--codes", "codes.npz", "--temperature", 0.5],
    ),
    "threads of TensorFlow": (
        2,
        ["--threads is of a .tflite"],
        ["decode", "run", "--codes", "codes.npz", "--threads", 2],
    ),
    "impossible tolerance": (
        1,
        ["differs from Keras"],
        ["export", "run", "--tolerance", 1e-12, "--signature", "decode"],
    ),
    "impossible tolerance of a header": (
        1,
        ["out.h does not reproduce"],
        [
            *("export", "run", "--tolerance", 1e-12, "--signature", "decode"),
            *("--format", "c-header", "-o", "out.h"),
        ],
    ),
    "a folder in the way": (1, ["mixed is in the way"], ["export", "run", "-o", "mixed"]),
    "a folder in the way of a folder": (
        1,
        ["mixed is in the way"],
        ["export", "run", "--format", "saved_model", "-o", "mixed"],
    ),
}


# Those that convert a model; test_export looks at the tolerance every time.
CONVERTED = ("impossible tolerance", "impossible tolerance of a header")


@pytest.mark.parametrize("case", nightly_but(BAD_USE, *(c for c in BAD_USE if c not in CONVERTED)))
def test_use_that_cannot_be_is_refused(refused, run, tmp_path, case):
    status, messages, command = BAD_USE[case]
    (tmp_path / "cut.keras").write_bytes(run.model_file.read_bytes()[:-500])
    (tmp_path / "junk.keras").write_bytes(b"junk")
    (tmp_path / "junk.tflite").write_bytes(b"junk")
    np.save(tmp_path / "images.npy", np.zeros((30, 4, 4), np.float32))
    (tmp_path / "mixed").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "mixed" / "a.png")
    (tmp_path / "mixed" / "notes.txt").write_text("not an image")
    refused(status, *messages, command=command)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("onnx", "none", ()), "decoder.onnx"),
        (("onnx", "none", ("decode",)), "decoder.onnx"),
        (("onnx", "none", ("encode",)), "encoder.onnx"),
        (("onnx", "none", ("parameters",)), "parameters.onnx"),
        (("tflite", "int8", ()), "decoder-int8.tflite"),
        (("tflite", "none", ("decode",)), "decode.tflite"),
        (("tflite", "none", ("encode",)), "encode.tflite"),
        (("tflite", "int8", ("decode", "sample", "decode")), "decode-sample-int8.tflite"),
        (("saved_model", "none", ()), "saved_model"),
        (("saved_model", "none", ("encode",)), "encode"),
    ],
)
def test_exports_of_different_content_have_different_names(tmp_path, options, name):
    assert _default_output(tmp_path, *options) == tmp_path / name


BAD_DECODING = {
    "missing file": (1, ["nothing.tflite"], ["nothing.tflite", "--sample", 1]),
    "foreign file": (1, ["junk.tflite", "tfvae export"], ["junk.tflite", "--sample", 1]),
    "truncated file": (1, ["cut.tflite", "damaged"], ["cut.tflite", "--sample", 1]),
    "a folder without a decoder": (
        1,
        ["has no decoder.tflite", "tfvae export", "one of its files: cut.tflite, good.tflite"],
        [".", "--sample", 1],
    ),
    "a decoder of before the last training": (
        1,
        ["is not of the model", "tfvae export"],
        ["stale", "--sample", 1],
    ),
    "neither": (2, ["--sample N", "--latents FILE.npy"], ["good.tflite"]),
    "both": (2, ["either"], ["good.tflite", "--sample", 1, "--latents", "wide.npy"]),
    "no samples": (2, ["x>=1"], ["good.tflite", "--sample", 0]),
    "negative temperature": (2, ["-1"], ["good.tflite", "--sample", 1, "--temperature", -1]),
    "wrong width": (1, ["(3, 5)", "(N, 2)"], ["good.tflite", "--latents", "wide.npy"]),
    "no numbers": (1, ["<U1"], ["good.tflite", "--latents", "text.npy"]),
    "nan": (1, ["not a number"], ["good.tflite", "--latents", "nan.npy"]),
    "no latents": (1, ["(0, 2)"], ["good.tflite", "--latents", "empty.npy"]),
    "missing latents": (1, ["nothing.npy"], ["good.tflite", "--latents", "nothing.npy"]),
    "truncated latents": (1, ["cut.npy"], ["good.tflite", "--latents", "cut.npy"]),
    "several arrays": (
        1,
        ["holds a, b; expected"],
        ["good.tflite", "--latents", "several.npz"],
    ),
    "truncated archive": (1, ["cut.npz"], ["good.tflite", "--latents", "cut.npz"]),
    "foreign latents": (1, ["junk.tflite"], ["good.tflite", "--latents", "junk.tflite"]),
    "unknown ending": (2, [".png or .npy"], ["good.tflite", "--sample", 1, "-o", "a.gif"]),
}


@pytest.mark.parametrize("case", BAD_DECODING)
def test_decoding_that_cannot_be_is_refused(refused, tflite, tmp_path, case):
    status, messages, arguments = BAD_DECODING[case]
    good = tflite.read_bytes()
    (tmp_path / "good.tflite").write_bytes(good)
    (tmp_path / "cut.tflite").write_bytes(good[: len(good) // 2])
    stale = RunDirectory.create(tmp_path / "stale", Config())
    (stale.path / "decoder.tflite").write_bytes(good)
    files.write_json(stale.path / "report.json", {"training": {"epochs": 3}})
    (tmp_path / "junk.tflite").write_bytes(b"junk")
    np.save(tmp_path / "wide.npy", np.zeros((3, 5)))
    np.save(tmp_path / "text.npy", np.array([["a", "b"]]))
    np.save(tmp_path / "nan.npy", np.array([[0.0, np.nan]]))
    np.save(tmp_path / "empty.npy", np.zeros((0, 2)))
    np.savez(tmp_path / "several.npz", a=np.zeros((3, 2)), b=np.zeros((3, 2)))
    for name, whole in (("cut.npy", "wide.npy"), ("cut.npz", "several.npz")):
        (tmp_path / name).write_bytes((tmp_path / whole).read_bytes()[:-100])
    refused(status, *messages, command=["decode", *arguments])


def test_an_archive_of_one_array_is_as_good_as_the_array(tfvae, tflite, tmp_path):
    z = np.array([[0.5, -1.0], [2.0, 0.0]], np.float32)
    np.save(tmp_path / "z.npy", z)
    np.savez(tmp_path / "z.npz", z=z)
    for name in ("z.npy", "z.npz"):
        tfvae("decode", tflite, "--latents", tmp_path / name, "-o", tmp_path / f"{name}.out.npy")
    one, other = (np.load(tmp_path / f"{name}.out.npy") for name in ("z.npy", "z.npz"))
    np.testing.assert_array_equal(one, other)


def test_a_condition_may_be_in_an_archive_of_one_array(tmp_path):
    np.savez(tmp_path / "y.npz", y=np.arange(3))
    np.testing.assert_array_equal(common.condition_of(str(tmp_path / "y.npz")), [0, 1, 2])


# What is in a .tflite, and how fast it is.


QUICKLY = ["--batch", "1,3", "--threads", "1", "--seconds", 1e-6]


def test_inspect_prints_what_is_in_a_file(tfvae, tflite):
    expected = ondevice.inspect(tflite)
    printed = tfvae("inspect", tflite, "--json").json()
    assert printed == json.loads(json.dumps(expected.as_dict()))
    done = tfvae("inspect", tflite)
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == f"{tflite}: {tflite.stat().st_size:,} bytes"
    assert "  takes latents: float32 [any, 2]" in lines
    assert "  takes latents: float32 [1, 2]" in lines
    assert "  gives image: float32 [any, 8, 8, 1]" in lines
    assert f"model: {expected.description['model']}" in lines
    for name, signature in expected.signatures.items():
        assert f"{name} ({sum(signature.operators.values())} operators)" in lines
    (operators,) = [line for line in lines if line.startswith("operators: ")]
    assert all(f"{name} {count}" in operators for name, count in expected.operators.items())


@pytest.mark.nightly
def test_benchmark_times_every_signature(tfvae, tflite):
    values = tfvae("benchmark", tflite, *QUICKLY, "--json").json()
    assert values["bytes"] == tflite.stat().st_size
    assert values["failed"] == {}
    signatures = ondevice.inspect(tflite).signatures
    assert {name: set(rows) for name, rows in values["latency_ms"].items()} == {
        name: {"1"} if name.endswith("_1") else {"1", "3"} for name in signatures
    }
    assert all(
        set(cells) == {"1"} and 0 < cells["1"]["median"] <= cells["1"]["p95"]
        for rows in values["latency_ms"].values()
        for cells in rows.values()
    )


def test_a_file_of_another_program_is_timed(tfvae, foreign_content, tmp_path):
    (tmp_path / "b.tflite").write_bytes(foreign_content)
    values = tfvae("benchmark", "b.tflite", *QUICKLY, "--json").json()
    assert values["arena_bytes"] == {"serving_default": {"1": 24, "3": 72}}


BAD_FILES = {
    "missing": (1, ["Cannot read nothing.tflite", "No such file"], "nothing.tflite"),
    "a folder": (1, ["Cannot read folder", "directory"], "folder"),
    "empty": (1, ["empty.tflite is not a .tflite file"], "empty.tflite"),
    "foreign": (1, ["junk.tflite is not a .tflite file"], "junk.tflite"),
    "a .keras file": (1, ["model.keras is not a .tflite file"], "run/model.keras"),
    "cut": (1, ["cut.tflite is damaged"], "cut.tflite"),
}


@pytest.mark.parametrize("verb", ["inspect", "benchmark"])
@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_is_no_tflite_is_refused(refused, run, tflite, tmp_path, verb, case):
    status, messages, name = BAD_FILES[case]
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.tflite").write_bytes(b"")
    (tmp_path / "junk.tflite").write_bytes(b"no model")
    (tmp_path / "cut.tflite").write_bytes(tflite.read_bytes()[:-5000])
    refused(status, *messages, command=[verb, name])
    refused(status, *messages, command=[verb, name, "--json"])


BAD_BENCHMARKS = {
    "no file": (2, ["FILE"], []),
    "unknown signature": (2, ["'decod'", "'decode'"], ["good.tflite", "--signature", "decod"]),
    "no batch": (2, ["''", "1,16"], ["good.tflite", "--batch", ""]),
    "batch 0": (2, ["'1,0'", "at least 1"], ["good.tflite", "--batch", "1,0"]),
    "batch of words": (2, ["'one'", "1,16"], ["good.tflite", "--batch", "one"]),
    "half a thread": (2, ["'0.5'", "1,16"], ["good.tflite", "--threads", "0.5"]),
    "thread -1": (2, ["'-1'", "at least 1"], ["good.tflite", "--threads", "-1"]),
    "no time": (2, ["--seconds"], ["good.tflite", "--seconds", 0]),
    "time nan": (2, ["`seconds` is nan"], ["good.tflite", "--seconds", "nan"]),
    "no memory": (
        1,
        ["cannot run good.tflite", "decode:"],
        ["good.tflite", "--signature", "decode", "--batch", 10**13],
    ),
}


@pytest.mark.parametrize("case", BAD_BENCHMARKS)
def test_a_benchmark_that_cannot_be_is_refused(refused, tflite, tmp_path, case):
    status, messages, arguments = BAD_BENCHMARKS[case]
    (tmp_path / "good.tflite").write_bytes(tflite.read_bytes())
    refused(status, *messages, command=["benchmark", *arguments])


def test_inspect_without_a_file_is_bad_usage(refused):
    refused(2, "FILE", command=["inspect"])


# The whole way.


@pytest.fixture(scope="module")
def journey(tmp_path_factory):
    """The folder where train and export ran, and what they said."""
    folder = tmp_path_factory.mktemp("journey")
    train = ["train", "--recipe", "vae-digits", *SET_TINY, "--run-dir", "run", "--json"]
    commands = {"train": train, "export": ["export", "run", "--json"]}
    done = {}
    with contextlib.chdir(folder):
        for verb, parts in commands.items():
            result = CliRunner().invoke(cli, parts)
            done[verb] = Done(result.exit_code, result.stdout, result.stderr)
    return folder, done


def test_train_says_where_the_run_is(journey):
    folder, done = journey
    assert done["train"].json() == {"run_dir": "run", "epochs": 1}
    names = {path.name for path in (folder / "run").iterdir()}
    assert {"config.toml", "model.keras", "history.csv", "report.json", *PICTURES} <= names


def test_evaluate_prints_the_measures_and_reports_them(journey, tfvae, monkeypatch):
    folder, _ = journey
    monkeypatch.chdir(folder)
    values = tfvae("evaluate", "run", "--num-examples", 30, "--json").json()
    assert set(values) == MEASURES
    assert values["num_samples"] == 10
    assert values["num_examples"] == 30
    assert values["log_likelihood"] > values["elbo"]
    assert json.loads((folder / "run" / "report.json").read_text())["evaluation"] == values


def test_sample_and_reconstruct_write_images(journey, tfvae, monkeypatch):
    folder, _ = journey
    monkeypatch.chdir(folder)
    drawn = tfvae("sample", "run", "-n", 5, "-o", "sampled.npy", "--json")
    assert drawn.json() == {"path": "sampled.npy", "num_images": 5}
    assert np.load(folder / "sampled.npy").shape == (5, 8, 8, 1)
    drawn = tfvae("reconstruct", "run", "-n", 6, "-o", "reconstructed.png", "--json")
    assert drawn.json() == {"path": "reconstructed.png", "num_images": 6}
    with Image.open(folder / "reconstructed.png") as picture:
        assert picture.size == (8 * (6 * 9 - 1), 8 * (2 * 9 - 1))


def test_export_reports_the_file_and_its_parity(journey):
    folder, done = journey
    values = done["export"].json()
    assert set(values) >= EXPORT
    assert values["path"] == str(Path("run/decoder.tflite"))
    assert values["bytes"] == (folder / values["path"]).stat().st_size
    assert values["max_abs_error"] < 1e-4
    assert not [name for name in values["operators"] if "Flex" in name]


@pytest.mark.parametrize("model", nightly_but(["run", "run/decoder.tflite"], "run/decoder.tflite"))
def test_decode_draws_what_sample_draws(journey, tfvae, monkeypatch, model):
    folder, _ = journey
    command = ["decode", model, "--sample", 5, "-o", "decoded.npy", "--json"]
    done = finish_command(start_command(*command, folder=folder))
    assert done.json() == {"path": "decoded.npy", "num_images": 5}
    monkeypatch.chdir(folder)
    assert tfvae("sample", "run", "-n", 5, "-o", "drawn.npy").status == 0
    decoded, sampled = np.load(folder / "decoded.npy"), np.load(folder / "drawn.npy")
    np.testing.assert_allclose(decoded, sampled, atol=1e-5)


NOISE = ("INFO:", "WARNING", "I0000", "oneDNN", "cuda", "Warning", "\n\n")


# In a process each, because libraries write as they are imported.
@pytest.mark.nightly
@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "vae-digits", *SET_TINY, "--run-dir", "again"],
        ["export", "run"],
        ["evaluate", "run"],
        ["sample", "run"],
        ["reconstruct", "run"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_libraries_do_not_write_to_the_terminal(journey, arguments):
    folder, _ = journey
    done = finish_command(start_command(*arguments, folder=folder))
    assert done.status == 0, done.err
    assert not [noise for noise in NOISE if noise in done.err]


@pytest.mark.nightly
def test_the_demo_goes_the_whole_way(demo_started):
    folder, process = demo_started
    values = finish_command(process).json()
    assert set(values) >= MEASURES | EXPORT | {"run_dir", "seconds"}
    assert values["run_dir"] == "out"
    assert 0 < values["seconds"] < 600
    assert -90 < values["log_likelihood"] < -75
    assert values["log_likelihood"] > values["elbo"]
    assert values["elbo"] == pytest.approx(-values["reconstruction"] - values["kl"], rel=1e-5)
    bits = -values["log_likelihood"] / np.log(2) / 64
    assert values["bits_per_dim"] == pytest.approx(bits, rel=1e-5)
    assert 0 < values["standard_error"] < 2
    assert values["effective_sample_size"] > 10
    assert values["num_samples"] == 5000
    assert 1 <= values["active_units"] <= 8
    assert values["max_abs_error"] < 1e-4
    assert values["saved_model_max_abs_error"] < 1e-4
    files = {"config.toml", "model.keras", "history.csv", "report.json", "decoder.tflite"}
    folders = {"checkpoints", "tensorboard", "saved_model"}
    names = {path.name for path in folder.iterdir()}
    assert names == files | folders | PICTURES | {"decoded.png"}
    assert all(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    report = json.loads((folder / "report.json").read_text())
    assert set(report) == {"training", "evaluation", "exports"}
    assert report["evaluation"] == {name: values[name] for name in MEASURES}
    assert set(report["exports"]) == {"decoder.tflite", "saved_model"}
    decoder = Decoder.from_file(folder / "decoder.tflite")
    assert decoder.sample(3).shape == (3, 8, 8, 1)


def test_inspect_reads_the_file_of_another_program(tfvae, foreign_content, tmp_path):
    (tmp_path / "foreign.tflite").write_bytes(foreign_content)
    assert "not written by tfvae" in tfvae("inspect", "foreign.tflite").out
    assert tfvae("inspect", "foreign.tflite", "--json").json()["description"] is None


def test_benchmark_times_signatures_batches_and_threads(tfvae, tflite):
    options = ["--signature", "decode", "--signature", "decode_1", "--seconds", 0.001]
    values = tfvae("benchmark", tflite, *options, "--batch", "1,4", "--json").json()
    assert set(values["latency_ms"]) == {"decode", "decode_1"}
    assert set(values["latency_ms"]["decode"]) == {"1", "4"}
    assert set(values["latency_ms"]["decode"]["4"]) == {"1", "2"}
    assert set(values["latency_ms"]["decode_1"]) == {"1"}
    cell = values["latency_ms"]["decode"]["1"]["1"]
    assert 0 < cell["median"] <= cell["p95"]
    out = tfvae("benchmark", tflite, *options, "--threads", 1).out.splitlines()
    assert out[1].split() == ["signature", "batch", "threads", "median", "95%", "memory"]
    assert [line.split()[:3] for line in out[2:]] == [
        ["decode", "1", "1"],
        ["decode", "16", "1"],
        ["decode_1", "1", "1"],
    ]


@pytest.mark.parametrize(
    ("status", "message", "arguments"),
    [
        (1, "Cannot read nothing.tflite", ["inspect", "nothing.tflite"]),
        (1, "Cannot read .", ["inspect", "."]),
        (1, "not a .tflite", ["inspect", "empty"]),
        (1, "not a .tflite", ["benchmark", "empty"]),
        (2, "'decod'. Did you mean 'decode'?", ["benchmark", "FILE", "--signature", "decod"]),
        (2, "'0' is no list of numbers", ["benchmark", "FILE", "--batch", "0"]),
        (2, "'a' is no list of numbers", ["benchmark", "FILE", "--threads", "a"]),
        (2, "x>0", ["benchmark", "FILE", "--seconds", 0]),
    ],
)
def test_files_that_cannot_be_read_or_timed_are_refused(
    refused, tflite, tmp_path, status, message, arguments
):
    (tmp_path / "empty").write_bytes(b"")
    command = [tflite if argument == "FILE" else argument for argument in arguments]
    refused(status, message, command=command)


@pytest.mark.parametrize("verb", ["inspect", "benchmark"])
def test_verbs_of_the_device_side_need_no_tensorflow(run_python, tflite, verb):
    script = (
        "import sys\n"
        "from tfvae.tools.main import cli\n"
        "cli.main(sys.argv[1:], standalone_mode=False)\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    options = ["--signature", "decode_1", "--threads", "1", "--seconds", "0.001"]
    options = options if verb == "benchmark" else []
    assert run_python(script, verb, tflite, *options, "--json")[0] == "{"
