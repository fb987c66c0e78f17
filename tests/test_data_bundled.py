"""The data sets that Python packages bring."""

import importlib.machinery
import importlib.util

import numpy as np
import pytest

from tfvae import data
from tfvae.errors import InvalidArgument, InvalidData, MissingDependency


def test_digits_are_pictures_or_counts():
    pictures, counts = data.load("digits"), data.load("digits", kind="vector", condition="label")
    assert (counts.kind, counts.shape, counts.condition) == ("vector", (64,), 10)
    whole = counts.test.numpy()
    assert (whole.min(), whole.max()) == (0, 16)
    np.testing.assert_allclose(whole, 16 * pictures.test.numpy().reshape(-1, 64), atol=1e-5)
    with pytest.raises(InvalidArgument, match="the digits are images; as 'vector' they are 64"):
        data.load("digits", kind="tokens")


def aeon(folder, monkeypatch, lines):
    """Make a package aeon with the vowels in these lines, and the only one there is."""
    inside = folder / "aeon" / "datasets" / "data" / "JapaneseVowels"
    inside.mkdir(parents=True)
    for part in ("TRAIN", "TEST"):
        (inside / f"JapaneseVowels_{part}.ts").write_text("# of 1999\n@data\n" + "\n".join(lines))
    spec = importlib.machinery.ModuleSpec("aeon", None, is_package=True)
    spec.submodule_search_locations.append(str(folder / "aeon"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)


def test_vowels_are_read_out_of_a_package(tmp_path, monkeypatch):
    """Coefficients stand one after the other, each with all of its frames."""
    series = [
        ":".join(",".join(str(100 * c + t + n) for t in range(8 + n)) for c in range(12)) + f":{n}"
        for n in range(1, 10)
    ]
    aeon(tmp_path, monkeypatch, series)
    splits = data.load("vowels", condition="label")
    assert (splits.kind, splits.shape, splits.condition) == ("series", (7, 12), 9)
    x, y = splits.train.numpy(), splits.train.conditions
    expected = 100 * np.arange(12) + np.arange(7)[:, np.newaxis] + y[0] + 1
    np.testing.assert_array_equal(x[0], expected)


def test_other_vowels_are_refused(tmp_path, monkeypatch):
    aeon(tmp_path, monkeypatch, ["1,2,3:1"])
    with pytest.raises(InvalidData, match=r"JapaneseVowels_TRAIN\.ts cannot be read"):
        data.load("vowels")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"tfvae\[series\]"):
        data.load("vowels")
