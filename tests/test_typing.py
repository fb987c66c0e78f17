"""What a type checker tells those who call the package."""

import importlib.util
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
import test_docs_site

import tfvae

ROOT = Path(__file__).parents[1]
CALLER = """
import keras
import numpy as np
import tfvae
from tfvae.ondevice import Decoder

encoder = tfvae.networks.dense_encoder((8, 8, 1), params_size=2 * 4, hidden=(32,))
decoder = tfvae.networks.dense_decoder(4, (8, 8, 1))
model = tfvae.VAE(encoder, decoder, prior="standard_normal", seed=1)
model.compile(keras.optimizers.Adam(1e-3), objective="iwae", num_samples=5)
x = np.zeros((3, 8, 8, 1), np.float32)
result = tfvae.log_likelihood(model, x, num_samples=5)
mean: float = result.mean
units: int = tfvae.active_units(model, x, condition=np.zeros(3, np.int32), progress=False)
tfvae.mutual_information(model, x, condition=1, num_samples=2, seed=1, progress=False)
images = Decoder.from_file("decoder.tflite").sample(3, seed=1, temperature=0.5)
shape: tuple[int, ...] = images.shape
splits = tfvae.data.load("digits", binarization="static", resize=(8, 8))
train: np.ndarray = splits.train.numpy()
"""
MISTAKES = {
    "tfvae.VEA": "has no attribute 'VEA'",
    "tfvae.VAE(encoder)": "Missing positional argument 'decoder' in call to 'VAE'",
    "model.compile(num_samples='5')": "'num_samples' to 'compile' of",
    "model.sample('8')": "'sample' of 'LatentVariableModel' has incompatible type 'str'",
    "tfvae.VAE(encoder, decoder, seed='1')": "Argument 'seed' to 'VAE' has incompatible type 'str'",
    "tfvae.VAE(encoder, decoder, 'vamp')": "Too many positional arguments for 'VAE'",
    "tfvae.score(model, x, x)": "Too many positional arguments for 'score'",
    "tfvae.networks.dense_encoder((8,), 4, hidden=32)": "'hidden' to 'dense_encoder'",
    "tfvae.log_likelihood(model, x).maen": "has no attribute 'maen'",
    "Decoder.from_file(3)": "'from_file' of 'Decoder' has incompatible type 'int'",
    "images.shpae": "has no attribute 'shpae'",
}


def signatures():
    """Yield the name and the function of all that is public, where it is first defined."""
    for module, names in test_docs_site.NAMES.items():
        home = tfvae if module == "tfvae" else getattr(tfvae, module.removeprefix("tfvae."))
        for name in names:
            part = getattr(home, name)
            if inspect.isclass(part):
                for method, function in vars(part).items():
                    inherited = any(method in vars(base) for base in part.__mro__[1:])
                    if method == "__init__" or not (method.startswith("_") or inherited):
                        yield f"{module}.{name}.{method}", function
            elif inspect.isfunction(part):
                yield f"{module}.{name}", part


def test_public_signatures_are_typed():
    """Overriding methods may leave out what the overridden one says."""
    untyped = []
    for name, function in signatures():
        function = getattr(function, "__func__", getattr(function, "fget", function))
        if not inspect.isfunction(function):
            continue
        signature = inspect.signature(function)
        named = [
            p
            for p in signature.parameters.values()
            if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        named = [p for p in named if p.name not in ("self", "cls")]
        missing = [p.name for p in named if p.annotation is p.empty]
        if not name.endswith(".__init__") and signature.return_annotation is signature.empty:
            missing.append("return")
        untyped += [f"{name}: {what}" for what in missing]
    assert not untyped


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="needs mypy")
def test_mypy_knows_the_package(tmp_path, pytestconfig):
    right = CALLER.strip().splitlines()
    (tmp_path / "caller.py").write_text("\n".join([*right, *MISTAKES]) + "\n")
    # A source tree is no installed package: what is in it is not to be reported on.
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--ignore-missing-imports"]
    done = subprocess.run(
        [*command, "--cache-dir", str(pytestconfig.cache.mkdir("mypy")), "caller.py"],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    found = dict(
        (int(line.split(":")[1]), line.replace('"', "'"))
        for line in done.stdout.splitlines()
        if ": error:" in line
    )
    assert set(found) == {len(right) + 1 + n for n in range(len(MISTAKES))}, done.stdout
    for number, message in enumerate(MISTAKES.values(), start=len(right) + 1):
        assert message in found[number]
