"""What is built for an index: the source distribution and the wheel."""

import configparser
import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import test_imports

import tfvae

ROOT = Path(__file__).parents[1]
SETUPTOOLS = int(importlib.metadata.version("setuptools").split(".")[0])


def test_the_version_is_one_wherever_it_stands():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    citation = (ROOT / "CITATION.cff").read_text()
    assert setup["metadata"]["version"] == tfvae.__version__
    assert f"\nversion: {tfvae.__version__}\n" in citation
    assert f"\n## {tfvae.__version__} " in (ROOT / "CHANGELOG.md").read_text()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of a source distribution, and of a wheel that was built from it."""
    if importlib.util.find_spec("build") is None or SETUPTOOLS < 77:
        pytest.skip("needs build and setuptools>=77")
    folder = tmp_path_factory.mktemp("built")
    left_out = shutil.ignore_patterns("node_modules", "__pycache__", "*.egg-info")
    for name in ("tfvae", "tools"):
        shutil.copytree(ROOT / name, folder / "tree" / name, ignore=left_out)
    for name in ("README.md", "LICENSE", "pyproject.toml", "setup.cfg", "setup.py"):
        shutil.copy(ROOT / name, folder / "tree")
    runtime = folder / "tree" / "tfvae" / "explore" / "node_modules" / "@litertjs" / "core"
    runtime.mkdir(parents=True)
    (runtime / "index.js").touch()  # as npm brings it into a source tree
    # With no PATH there is no npm: a build must not need it, nor the network.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "..", "."]
    done = subprocess.run(
        command, cwd=folder / "tree", env={"PATH": ""}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_wheel_holds_every_module_and_the_data(built):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    for name, path in test_imports.MODULES.items():
        parts = name.split(".") + (["__init__"] if path.name == "__init__.py" else [])
        assert "/".join(parts) + ".py" in names
    data = ["py.typed", "__init__.pyi", "explore/page/index.html", "explore/package-lock.json"]
    assert {f"tfvae/{name}" for name in data} <= names
    recipes = {f"tfvae/recipes/{path.name}" for path in (ROOT / "tfvae/recipes").glob("*.toml")}
    assert recipes <= names
    assert not [name for name in names if "node_modules" in name]


def test_the_source_holds_what_the_wheel_is_built_from(built):
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as file:
        names = {name.split("/", 1)[-1] for name in file.getnames()}
    assert {"LICENSE", "README.md", "setup.py", "tfvae/py.typed", "tools/main.py"} <= names


def test_an_index_would_take_both(built):
    pytest.importorskip("twine")
    command = [sys.executable, "-m", "twine", "check", "--strict", *built.glob("tfvae-*")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("PASSED") == 2


@pytest.mark.slow
@pytest.mark.nightly  # test_imports has a plain test of what the device side imports
def test_a_decoder_needs_the_extra_decode_alone(built, device_content, tmp_path):
    """In an environment of its own, without TensorFlow: what a device or a server installs."""
    (wheel,) = built.glob("*.whl")
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True, timeout=300)
    command = [python, "-m", "pip", "install", "--quiet", f"{wheel}[decode]"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if "No matching distribution" in done.stderr:
        pytest.skip("needs a package index")
    assert done.returncode == 0, done.stderr
    (tmp_path / "decoder.tflite").write_bytes(device_content)
    command = [python.parent / "tfvae", "decode", "decoder.tflite", "--sample", "4", "-o", "x.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    script = "import importlib.util as u; print(u.find_spec('tensorflow'), u.find_spec('keras'))"
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.stdout == "None None\n"
