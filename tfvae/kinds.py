"""Kinds of examples (pictures, vectors, series, tokens), and how arrays are told apart."""

import numpy as np

from tfvae.errors import InvalidArgument, InvalidData, unknown_name

KINDS = ("image", "vector", "series", "tokens")
# How the axes of pictures are read: N images, height H, width W, C channels.
LAYOUTS = ("auto", "NHW", "NHWC", "NCHW")
_PLURALS = {"image": "images", "vector": "vectors", "tokens": "lines of tokens"}
_SHAPES = {
    "image": {3: "[N, H, W]", 4: "[N, H, W, C]"},
    "series": {3: "[N, T, C]", 2: "[N, T]"},
    "tokens": {2: "[N, T]"},
}


def plural(kind: str) -> str:
    """Return what several examples of a kind are called in a message."""
    return _PLURALS.get(kind, kind)


def check_options(layout: str, kind: str, fitted: bool) -> None:
    """Refuse a layout or a kind that does not exist, and picture options with another kind.

    Raises:
        InvalidArgument: with the names there are.
    """
    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS)
    if kind not in ("auto", *KINDS):
        raise unknown_name("kind", kind, ("auto", *KINDS))
    if kind not in ("auto", "image") and (fitted or layout != "auto"):
        raise InvalidArgument(
            f"`layout`, `resize` and `crop` are for pictures, and `kind` is {kind!r}. Leave them "
            "out."
        )


def check_stored_pictures(name: str, layout: str, kind: str) -> None:
    """Refuse options of arrays for data that is stored as pictures.

    Raises:
        InvalidArgument: with the option.
    """
    if kind not in ("auto", "image"):
        raise InvalidArgument(
            f"{name} holds pictures, and `kind` is {kind!r}, as given or as that of the data a run "
            f"was trained on. Give an array file of {plural(kind)}; for pictures, leave it out, or "
            "take a model of pictures."
        )
    if layout != "auto":
        raise InvalidArgument(
            f"`layout` gives the axes of an array file, and {name} is none. Leave it out."
        )


def kind_of(array, name: str, layout: str = "auto", kind: str = "auto") -> str:
    """Return what the examples of an array are, one of `KINDS`.

    Args:
        array: what has `shape`, `ndim` and `dtype`.
        name: what messages call it.
        layout: the axes of pictures; "auto" for those of any kind.
        kind: what they are called, or "auto" for what is clear: floats of two axes are vectors,
            three axes are grey pictures where these are squares or have 8 or 16 bits and no side
            more than four times the other, and four are pictures.

    Raises:
        InvalidData: the examples cannot be of that kind, or may be of several kinds.
    """
    if layout != "auto":
        kind = "image"
    _check_numbers(array, name, layout, kind)
    if kind != "auto":
        if kind == "image":
            _check_channels(array, name, layout)
        return kind
    if array.ndim == 2:
        if array.dtype.kind in "ui":
            raise InvalidData(_vectors_or_tokens(array, name))
        return "vector"
    if array.ndim == 3 and not _is_grey(array):
        raise InvalidData(_pictures_or_series(array, name))
    _check_channels(array, name, layout)
    return "image"


def _check_numbers(array, name, layout, kind):
    shapes = _SHAPES.get(kind, {})
    if layout != "auto":
        ndim = len(layout)
        shapes = {ndim: "[N, C, H, W]" if layout == "NCHW" else shapes[ndim]}
    elif kind == "auto":
        shapes = {**_SHAPES["image"], 2: "[N, D]"}
    fits = array.ndim in shapes if shapes else array.ndim >= 2
    types = "ui" if kind == "tokens" else "buif"
    if fits and array.dtype.kind in types:
        return
    what = "whole numbers" if kind == "tokens" else "numbers"
    expected = " or ".join(shapes.values()) or "[N, D]"
    raise InvalidData(
        f"{name} is an array of {array.dtype} of shape {array.shape}; expected {what} of shape "
        f"{expected}{'' if kind in ('auto', 'image') else ', which ' + plural(kind) + ' have'}."
    )


def _vectors_or_tokens(array, name):
    count, size = array.shape
    return (
        f"{name} is an array of {array.dtype} of shape {array.shape}. It may hold {count} vectors "
        f"of {size} whole numbers, such as counts, or {count} lines of {size} tokens. "
        f"{_say('kind', 'vector')}, or 'tokens'."
    )


def _pictures_or_series(array, name):
    count, steps, values = array.shape
    return (
        f"{name} is an array of {array.dtype} of shape {array.shape}. It may hold {count} grey "
        f"pictures of {steps}×{values} pixels, or {count} series of {steps} steps with "
        f"{values} values each. {_say('kind', 'series')} if they are series; "
        f"{_say('layout', 'NHW')} if they are pictures."
    )


def _check_channels(array, name, layout):
    """Refuse pictures whose channels may come first."""
    sizes = array.shape[1:]
    if array.ndim == 4 and layout == "auto" and sizes[0] in (1, 3) and sizes[2] > 4:
        raise InvalidData(
            f"{name} is an array of shape {array.shape}: by the usual order [N, H, W, C], pictures "
            f"of {sizes[0]}×{sizes[1]} pixels with {sizes[2]} channels. Do the channels come "
            f"first, [N, C, H, W]? {_say('layout', 'NCHW')}. If not, give 'NHWC'."
        )


def _say(option, value):
    return (
        f"Say so with {option}={value!r} in Python, --set data.{option}={value} on the command line"
    )


def _is_grey(array):
    """Whether an array `[N, ·, ·]` is clearly one of grey pictures.

    These are squares, and arrays of the types in which pixels are stored, unless one side is more
    than four times the other.
    """
    short, long = sorted(array.shape[1:])
    stored_as_pixels = array.dtype in (np.uint8, np.uint16, np.bool_)
    return short == long or (stored_as_pixels and long <= 4 * short)
