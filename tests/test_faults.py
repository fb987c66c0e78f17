"""Full disks, read-only folders, exhausted memory: each really caused, each one sentence."""

import contextlib
import errno
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from tiers import nightly_but

import tfvae
from tfvae import recipes, runs
from tfvae._plain import files, memory, quiet
from tfvae.config import load_config
from tfvae.errors import DivergedLoss, InvalidArgument, InvalidFile
from tfvae.runs import RunDirectory, loop

pytestmark = pytest.mark.slow  # Starts processes.

TINY = {
    "model.hidden": [16],
    "model.latent_size": 2,
    "training.epochs": 3,
    "training.batch_size": 200,
    "evaluation.num_samples": 10,
}
SET_TINY = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]


def mounted(folder, *options):
    """Mount, or skip the test where that is not allowed."""
    folder.mkdir(exist_ok=True)
    command = shutil.which("mount")
    if command is None or os.geteuid() != 0:
        pytest.skip("only root mounts")
    done = subprocess.run([command, *options, str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path):
    """A disk of 4 MB in the folder "disk"."""
    mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=4m", "tmpfs")
    yield tmp_path / "disk"
    subprocess.run(["umount", "--lazy", str(tmp_path / "disk")], check=True)


@pytest.fixture
def read_only(tmp_path):
    """Return a function that makes a folder read-only, for root too."""
    made = []

    def make(folder):
        mounted(folder, "--bind", str(folder))
        made.append(folder)
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)

    yield make
    for folder in made:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def leave(disk, free):
    """Fill a disk but for `free` bytes, in whole pages."""
    room = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes(max(0, room.f_bavail * room.f_bsize - free)))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """Runs "vae" and "vq" whose models were never trained, and their folder; not to be changed."""
    folder = tmp_path_factory.mktemp("pristine")
    small = {"num_downsamplings": 1, "filters": 8, "block_filters": 4}
    settings = {
        "vae": recipes.load("vae-digits").override(TINY),
        "vq": recipes.load("vqvae-digits").override(
            {
                "model.network_options": small,
                "model.quantizer": "fsq",
                "model.quantizer_options": {},
            }
        ),
    }
    for name, config in settings.items():
        model = runs.build_model(config, runs.load_data(config))
        model.optimizer.build(model.trainable_variables)
        model.save(RunDirectory.create(folder / name, config).model_file)
    return folder


@pytest.fixture
def made(pristine, tmp_path):
    """The runs, in the folder where the command runs."""
    for name in ("vae", "vq"):
        shutil.copytree(pristine / name, tmp_path / name)


def whole(folder):
    """Check that every file there can be read, and that none is half written."""
    for path in folder.rglob("*"):
        assert not path.name.startswith("."), f"{path} was left behind"
        match path.suffix:
            case ".keras":
                with zipfile.ZipFile(path) as archive:
                    assert archive.testzip() is None
            case ".toml":
                load_config(path)
            case ".json":
                json.loads(path.read_text())
            case ".csv":
                assert path.read_text().endswith("\n")


def one_sentence(err, *words):
    """Check what a command said of a fault: one message, and nothing about a bug."""
    assert err.count("Error:") == 1, err
    assert all(word in err for word in words), err
    assert "not expected" not in err
    assert "Traceback" not in err


# A full disk.


# Too little for a configuration, a history, a checkpoint, a second one, the model, its pictures.
ROOM = (0, 8, 100, 300, 500, 800)


@pytest.mark.nightly
def test_a_training_on_a_disk_that_fills_can_go_on_once_there_is_room(command, disk, tmp_path):
    """To the weights of one that had room from the start."""
    train = ["train", "vae-digits", *SET_TINY]
    assert command(*train, "--run-dir", "straight")[0] == 0
    straight = RunDirectory("straight").load_model().get_weights()
    said = []
    for room in ROOM:
        run = disk / "run"
        leave(disk, room << 10)
        started = (run / "config.toml").exists()
        again = ["train", "--resume", "--run-dir", run]
        status, _, err = command(*(again if started else [*train, "--run-dir", run]))
        if status:
            one_sentence(err, "No space left on device", str(run), "Make room")
            said.append(err)
        whole(disk)
        (disk / "filler").unlink()
    assert len(said) >= 4
    assert any("No checkpoint was complete" in err for err in said)
    status, _, err = command(*again)
    assert status == 0, err
    for mine, theirs in zip(RunDirectory(run).load_model().get_weights(), straight, strict=True):
        np.testing.assert_array_equal(mine, theirs)


SAVED_MODEL = ("export", "vae", "--signature", "decode", "--format", "saved_model")
WRITES = {
    "picture": ["sample", "vae", "-o", "disk/a.png"],
    "array": ["sample", "vae", "-o", "disk/a.npy"],
    "reconstructions": ["reconstruct", "vae", "-o", "disk/a.png"],
    "codes": ["encode", "vq", "-o", "disk/a.npz"],
    "tflite": ["export", "vae", "--signature", "decode", "-o", "disk/a.tflite"],
    "header": ["export", "vae", "--format", "c-header", "-o", "disk/a.h"],
    "saved model": [*SAVED_MODEL, "-o", "disk/a"],
}


@pytest.mark.parametrize("case", nightly_but(WRITES, *(w for w in WRITES if w != "header")))
def test_a_file_does_not_appear_on_a_full_disk(command, made, disk, case):
    leave(disk, 0)
    status, out, err = command(*WRITES[case])
    assert (status, out) == (1, "")
    one_sentence(err, f"Cannot write {WRITES[case][-1]}: No space left on device", "Make room")
    assert [path.name for path in disk.iterdir()] == ["filler"]


def test_figures_are_printed_though_the_disk_is_full(command, made, disk):
    shutil.copytree("vae", disk / "vae")
    (disk / "vae" / "report.json").write_text('{"training": {}}\n')
    leave(disk, 0)
    evaluate = ["evaluate", "disk/vae", "--num-examples", 2, "--num-samples", 4, "--json"]
    status, out, err = command(*evaluate)
    assert status == 1
    assert json.loads(out)["num_examples"] == 2
    one_sentence(err, "disk/vae/report.json", "No space left", "The one before is still there")
    assert json.loads((disk / "vae" / "report.json").read_text()) == {"training": {}}


@pytest.mark.nightly
def test_a_file_may_be_too_large_for_the_limit_of_a_shell(made, tmp_path):
    """`ulimit -f`, in a process of its own."""
    code = (
        "import resource, sys\n"
        "from tfvae.tools.main import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "sys.argv = ['tfvae', 'sample', 'vae', '-o', 'a.npy']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 1
    one_sentence(done.stderr, "Cannot write")
    assert not list(tmp_path.glob("*.npy"))


def test_results_that_cannot_be_printed_are_no_bug(command, monkeypatch):
    full = open("/dev/full", "w")  # noqa: SIM115  (closing it fails, too)
    monkeypatch.setattr(sys, "stdout", full)
    status, _, err = command("recipes")
    monkeypatch.undo()
    with contextlib.suppress(OSError):
        full.close()
    assert status == 1
    one_sentence(err, "No space left on device")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "Disk quota exceeded"),
        (OSError("4096 requested and 992 written"), "No space left on device"),
        (RuntimeError("a library in C++: No space left on device"), "No space left on device"),
        (OSError(errno.ENOENT, "No such file or directory"), None),
        (ValueError("No space left on device"), None),
    ],
)
def test_what_the_system_has_against_a_file(error, reason):
    assert files.hindrance(error) == reason


# Folders that are read-only, reports that are none.


READS = {
    "sample": ["sample", "vae"],
    "reconstruct": ["reconstruct", "vae"],
    "encode": ["encode", "vq", "-o", "vae/a.npz"],
    "decode": ["decode", "vq", "--sample", 1, "-o", "vae/a.png"],
    "export": ["export", "vae"],
    "train": ["train", "vae-digits", "--run-dir", "vae/new"],
    "resume": ["train", "--resume", "--run-dir", "vae"],
}


@pytest.mark.parametrize("case", READS)
def test_a_read_only_folder_is_refused_before_the_work(
    command, made, read_only, monkeypatch, case, tmp_path
):
    read_only(tmp_path / "vae")
    monkeypatch.setattr(quiet, "import_tensorflow", lambda: pytest.fail("the work began"))
    status, out, err = command(*READS[case])
    assert (status, out) == (1, "")
    one_sentence(err, "Cannot write vae", "Read-only file system", "Choose another path")


def test_a_read_only_run_is_measured(command, made, read_only, tmp_path):
    read_only(tmp_path / "vae")
    status, out, err = command("evaluate", "vae", "--num-examples", 2, "--num-samples", 4)
    assert status == 1
    assert "test log p(x)" in out
    one_sentence(err, "Cannot write vae/report.json: Read-only file system")


def test_a_path_below_a_file_is_refused_before_the_work(command, made, monkeypatch):
    monkeypatch.setattr(quiet, "import_tensorflow", lambda: pytest.fail("the work began"))
    _, _, err = command("sample", "vae", "-o", "vae/config.toml/a.png")
    one_sentence(err, "Cannot write vae/config.toml/a.png: vae/config.toml is a file")


@pytest.mark.parametrize("verb", [["train", "vae-digits"], ["demo"]], ids=" ".join)
def test_a_file_in_the_place_of_the_runs_is_refused_before_the_work(
    command, tmp_path, monkeypatch, verb
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quiet, "import_tensorflow", lambda: pytest.fail("the work began"))
    Path("runs").touch()
    status, out, err = command(*verb)
    assert (status, out) == (1, "")
    one_sentence(err, "Cannot write runs: runs is a file, not a folder", "Choose another path")


@pytest.mark.parametrize("verb", ["evaluate", "diagnose", "export", "resume"])
@pytest.mark.parametrize("content", ["{", "[1]", '{"evaluation": 3}', "[" * 100_000])
def test_a_report_that_is_none_is_refused_before_the_work(
    command, made, monkeypatch, verb, content
):
    Path("vae/report.json").write_text(content)
    monkeypatch.setattr(quiet, "import_tensorflow", lambda: pytest.fail("the work began"))
    arguments = ["train", "--resume", "--run-dir", "vae"] if verb == "resume" else [verb, "vae"]
    status, _, err = command(*arguments)
    assert status == 1
    one_sentence(err, "vae/report.json is in the way")
    assert Path("vae/report.json").read_text() == content


def test_a_text_that_is_no_configuration_by_its_size_is_not_read(tmp_path):
    with (tmp_path / "config.toml").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InvalidFile, match=r"config\.toml has more than 16 MiB"):
        load_config(tmp_path / "config.toml")


# Memory.


ABSURD = {
    "images": ["sample", "vae", "-n", 10**9],
    "images of codes": ["sample", "vq", "-n", 10**9],
    "samples": ["train", "vae-digits", *SET_TINY, "--num-samples", 10**8, "--run-dir", "new"],
    "samples to compare": ["diagnose", "vae", "--num-samples", 10**8],
    "weights": ["train", "vae-digits", "--set", "model.hidden=[1000000000]", "--run-dir", "new"],
    "pixels": ["train", "vae-digits", "--set", "data.resize=[1000000,1000000]", "--run-dir", "new"],
}


@pytest.mark.parametrize("case", ABSURD)
def test_absurd_sizes_are_refused_with_what_would_fit(command, made, case):
    status, _, err = command(*ABSURD[case])
    assert status == 2, err
    one_sentence(err, "GB of memory", "can be had")
    assert not Path("new").exists()
    if case in ("images", "samples"):
        most = int(re.search(r"at most ([\d,]+)", err)[1].replace(",", ""))
        assert 1000 < most < 10**8


@pytest.mark.parametrize("model", ["vae", "vq"])
def test_what_is_said_to_fit_is_the_limit(pristine, monkeypatch, model):
    model = runs.load_model(pristine / model / "model.keras")
    monkeypatch.setenv(memory.VARIABLE, "100kB")
    with pytest.raises(InvalidArgument, match="at most") as raised:
        model.sample(10**6)
    most = int(re.search(r"at most ([\d,]+)", str(raised.value))[1].replace(",", ""))
    assert model.sample(most).shape[0] == most
    with pytest.raises(InvalidArgument, match="at most"):
        model.sample(most + 1)


def test_a_refused_size_names_the_way_to_raise_the_limit(monkeypatch):
    monkeypatch.setenv(memory.VARIABLE, "4GB")
    with pytest.raises(InvalidArgument) as error:
        memory.check_request(5, 10**9, "things", "Use at most {most}.")
    assert str(error.value) == (
        "5 things would take about 5.0 GB of memory, and 4.0 GB can be had. Use at most 4. "
        "If more memory is there, raise the limit: TFVAE_MAX_MEMORY=5GB."
    )
    monkeypatch.setenv(memory.VARIABLE, "5GB")
    memory.check_request(5, 10**9, "things", "Use at most {most}.")


EXHAUSTED = """
import resource, sys
from tfvae._plain import memory
from tfvae._plain.quiet import import_tensorflow
from tfvae.tools.main import main
import_tensorflow()
import tfvae.runs, tfvae.evaluation
taken = memory._fields("/proc/self/status")["VmSize"]
resource.setrlimit(resource.RLIMIT_AS, 2 * (taken + (2 << 30),))
if sys.argv[1] == "numpy":
    import numpy
    from tfvae import outputs
    outputs.save = lambda *_: numpy.ones(10**10)
    sys.argv[1:] = ["sample", "vae"]
else:
    memory.check_request = lambda *_: None  # what an estimate lets through
    sys.argv[1:] = ["sample", "vae", "-n", "10000000"]
main()
"""


@pytest.mark.nightly
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("who", ["numpy", "tensorflow"])
def test_memory_that_is_really_exhausted_is_one_sentence(made, tmp_path, who):
    script = [sys.executable, "-c", EXHAUSTED, who]
    done = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path, timeout=200)
    assert done.returncode == 1, done.stderr
    one_sentence(done.stderr, "Out of memory", "can still be had", "-n")


@pytest.mark.parametrize(
    ("given", "size"),
    [("8GB", 8 * 10**9), ("1.5g", 1.5e9), ("500 MB", 5e8), ("64KiB", 64_000), ("100", 100)],
)
def test_the_limit_is_a_size(monkeypatch, given, size):
    monkeypatch.setenv(memory.VARIABLE, given)
    assert memory.limit() == memory.unpacked_limit(1) == size


@pytest.mark.parametrize("given", ["much", "0", "-1GB", "1 GB 2", "nan"])
def test_a_limit_that_is_no_size_is_refused(command, made, monkeypatch, given):
    monkeypatch.setenv(memory.VARIABLE, given)
    status, _, err = command("sample", "vae", "-n", 1)
    assert status == 2
    one_sentence(err, memory.VARIABLE, "such as 8GB")


def test_memory_that_is_left_is_no_more_than_a_shell_allows(run_python):
    script = """
import resource
from tfvae._plain import memory
before = memory.available()
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
print(before > memory.available(), memory.available() < 1 << 30)
"""
    assert run_python(script).split() == ["True", "True"]


@pytest.mark.parametrize(
    ("group", "counters"),
    [
        (0, "anon 960\ninactive_file 30\nactive_file 9\n"),
        (1, "inactive_file 1\nactive_file 2\ntotal_inactive_file 30\ntotal_active_file 9\n"),
    ],
    ids=["v2", "v1"],
)
def test_the_page_cache_of_a_container_can_be_had(tmp_path, monkeypatch, group, counters):
    *paths, prefix = memory._CGROUPS[group]
    files = [tmp_path / Path(path).name for path in paths]
    monkeypatch.setattr(memory, "_CGROUPS", [(*files, prefix)])
    for file, content in zip(files, ("1000\n", "999\n", counters), strict=True):
        file.write_text(content)
    assert memory.available() == 1000 - 999 + 30 + 9
    files[2].unlink()
    assert memory.available() == 1000 - 999
    files[0].write_text("max\n")
    assert memory.available() > 1000


# Trainings and measures that cannot be.


def rows(*losses):
    return [
        {"epoch": n, "val_loss": loss, "learning_rate": 1e-3} for n, loss in enumerate(losses, 1)
    ]


def test_a_loss_that_grows_again_is_named_though_it_ends_below_its_start(tmp_path):
    with pytest.raises(
        DivergedLoss, match=r"lowest, 100, after epoch 2.*worse than that of epoch 2"
    ):
        loop.check_end(1e6, rows(5e5, 100.0, 9e5), 64, RunDirectory(tmp_path), 0.5)
    loop.check_end(1e6, rows(5e5, 100.0, 200.0), 64, RunDirectory(tmp_path), 0.5)


@pytest.mark.parametrize("from_python", [False, True])
def test_diagnose_refuses_a_vqvae_by_name(command, made, pristine, from_python):
    if from_python:
        model = runs.load_model(pristine / "vq" / "model.keras")
        with pytest.raises(InvalidArgument, match="`diagnose` got VQVAE"):
            tfvae.diagnose(model, np.zeros((2, 8, 8, 1), np.float32))
        return
    status, _, err = command("diagnose", "vq")
    assert status == 2
    one_sentence(err, "vq holds a VQ-VAE")


def test_keras_is_as_it_was_after_a_model_was_loaded(pristine):
    add_weight = keras.layers.Layer.add_weight
    runs.load_model(pristine / "vae" / "model.keras")
    assert keras.layers.Layer.add_weight is add_weight
