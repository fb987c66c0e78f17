"""Data sets that come with Python packages: digits, wines and spoken vowels."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tfvae import tables
from tfvae.data.arrays import fit_all
from tfvae.data.splits import Part
from tfvae.errors import InvalidArgument, InvalidData, MissingDependency

_FRAMES = 7  # of the shortest utterance
_COEFFICIENTS = 12
_SPEAKERS = 9


def digits(fit: Callable | None, condition: str, kind: str) -> Part:
    """Return 1,797 pictures whose grey levels count the black ones of 16 finer pixels.

    With the kind "vector" they are the 64 counts; the label is the digit.
    """
    from sklearn.datasets import load_digits

    _check_options("digits", condition, kind, ("image", "vector"))
    found = load_digits()
    labels = found.target.astype(np.int32) if condition else None
    if kind == "vector":
        return Part(found.data.astype(np.float32), labels, "vector")
    pixels = found.images.astype(np.uint8)[..., np.newaxis]
    return Part(fit_all(pixels, fit), labels)


def wine() -> tables.Table:
    """Return 178 wines of three cultivars, with 13 measurements each."""
    from sklearn.datasets import load_wine

    found = load_wine()
    columns = dict(zip(found.feature_names, found.data.T, strict=True))
    names = [str(found.target_names[number]) for number in found.target]
    return tables.of_data({**columns, "cultivar": names}, "wine")


def vowels(condition: str, kind: str) -> Part:
    """Return the beginnings of 640 utterances of two vowels, `[640, 7, 12]`.

    Those are 7 frames of 12 linear prediction coefficients each, of nine speakers, who are the
    label. The files are read out of the package aeon, which need not be imported.

    Source: Kudo, Toyama and Shimbo 1999, "Multidimensional curve classification using
    passing-through regions".

    Raises:
        MissingDependency: aeon is not installed.
        InvalidData: its files are not there, or not what they were.
    """
    _check_options("vowels", condition, kind, ("series",))
    folder = vowels_folder()
    x, y = [], []
    for part in ("TRAIN", "TEST"):
        path = folder / f"JapaneseVowels_{part}.ts"
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            for line in lines:
                if line and line[0] not in "#@":
                    *series, label = line.split(":")
                    values = [[float(v) for v in one.split(",")[:_FRAMES]] for one in series]
                    x.append(np.array(values, np.float32).reshape(_COEFFICIENTS, _FRAMES).T)
                    y.append(int(label) - 1)
        except (OSError, ValueError) as error:
            raise InvalidData(f"{path} cannot be read: {error}. Install aeon anew.") from None
    if not x or not 0 <= min(y) <= max(y) < _SPEAKERS:
        raise InvalidData(f"{folder} holds other data than it did. Install aeon anew.")
    return Part(np.stack(x), np.array(y, np.int32) if condition else None, "series")


def vowels_folder() -> Path:
    """Return the folder of the vowels in the package aeon.

    Raises:
        MissingDependency: it is not installed.
    """
    found = importlib.util.find_spec("aeon")
    if found is None or not found.submodule_search_locations:
        raise MissingDependency(
            "The data set 'vowels' comes with the package 'aeon', which is not installed. Install "
            "it with pip install 'tfvae[series]'."
        )
    return Path(found.submodule_search_locations[0]) / "datasets" / "data" / "JapaneseVowels"


def _check_options(name, condition, kind, kinds):
    if condition not in ("", "label"):
        raise InvalidData(f"data.condition is {condition!r}; the {name} have 'label' alone.")
    if kind not in ("auto", *kinds):
        also = "; as 'vector' they are 64 counts each" if name == "digits" else ""
        raise InvalidArgument(f"`kind` is {kind!r}, and the {name} are {kinds[0]}s{also}.")
