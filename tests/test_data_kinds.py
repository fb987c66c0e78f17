"""Arrays of every rank: what is clear is taken, what is not is asked for."""

import numpy as np
import pytest

from tfvae import data
from tfvae.errors import InvalidArgument, InvalidData


@pytest.fixture
def saved(tmp_path):
    """Return a function that saves an array and gives its path."""

    def save(array):
        path = tmp_path / "x.npy"
        np.save(path, array)
        return str(path)

    return save


def test_floats_of_two_axes_are_vectors_as_they_are(saved, rng):
    x = 100 * rng.normal(size=(20, 5))
    splits = data.load(saved(x))
    assert (splits.kind, splits.shape) == ("vector", (5,))
    together = np.concatenate([part.numpy() for part in (splits.train, splits.validation)])
    assert {*together.ravel()} < {*x.astype(np.float32).ravel()}


@pytest.mark.parametrize("dtype", ["i8", "u1", "u2"])
def test_whole_numbers_of_two_axes_are_asked_for(saved, rng, dtype):
    x = rng.integers(0, 7, (20, 5)).astype(dtype)
    path = saved(x)
    with pytest.raises(InvalidData, match=r"20 vectors of 5 whole .* --set data.kind=vector"):
        data.load(path)
    assert data.load(path, kind="vector").train.numpy().max() == 6, "counts are not divided"
    tokens = data.load(path, kind="tokens")
    assert (tokens.kind, tokens.shape, tokens.train.max_value) == ("tokens", (5,), 6)
    levels = 6 * tokens.train.numpy()
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-5)


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1)])
def test_series_may_lack_the_axis_of_their_values(saved, rng, shape):
    x = rng.normal(size=shape).astype(np.float32)
    splits = data.load(saved(x), kind="series")
    assert splits.shape == (30, 1)
    batch = next(iter(splits.train.batches(4)))
    assert batch.shape == (4, 30, 1)


def test_vectors_may_have_any_shape(saved, rng):
    x = rng.integers(0, 255, (20, 2, 3, 4, 5)).astype(np.uint8)
    path = saved(x)
    with pytest.raises(InvalidData, match=r"shape \(20, 2, 3, 4, 5\); expected numbers of shape"):
        data.load(path)
    assert data.load(path, kind="vector").shape == (2, 3, 4, 5)


@pytest.mark.parametrize(
    ("array", "options", "message"),
    [
        (
            np.zeros((20, 4, 4, 1)),
            {"kind": "series"},
            r"\[N, T, C\] or \[N, T\], which series",
        ),
        (np.zeros((20, 4)), {"kind": "tokens"}, "expected whole numbers of shape"),
        (np.full((20, 4), "a"), {"kind": "vector"}, "an array of <U1"),
        (np.full((20, 4), -1), {"kind": "tokens"}, "tokens from -1"),
        (np.where(np.eye(20)[:, :4] > 0, np.inf, 0), {}, r"4 values .*, the first at \[0, 0\]"),
    ],
    ids=["rank", "floats", "text", "negative", "not finite"],
)
def test_what_is_not_of_the_kind_is_refused(saved, array, options, message):
    with pytest.raises(InvalidData, match=message):
        data.load(saved(array), **options)


@pytest.mark.parametrize("option", [{"layout": "NHW"}, {"resize": (4, 4)}])
def test_options_of_pictures_do_not_go_with_another_kind(saved, option):
    with pytest.raises(InvalidArgument, match="are for pictures, and `kind` is 'series'"):
        data.load(saved(np.zeros((20, 5, 5))), kind="series", **option)


@pytest.mark.parametrize("memory_gb", [0, 1])
@pytest.mark.parametrize("token", [2**32 + 3, -(2**32), 2**31])
def test_tokens_that_do_not_fit_are_refused(saved, memory_gb, token):
    x = np.zeros((20, 4), np.int64)
    x[7, 1] = token
    with pytest.raises(InvalidData, match=f"{token}.*from 0 to 2147483647"):
        data.load(saved(x), kind="tokens", memory_gb=memory_gb)


def test_tokens_are_not_binarized(saved):
    with pytest.raises(InvalidArgument, match="holds lines of tokens, and binarization"):
        data.load(saved(np.ones((20, 4), int)), kind="tokens", binarization="static")


def test_kinds_of_named_splits_and_conditions(tmp_path, rng):
    tops = {"train": 3, "validation": 9, "test": 2}
    x = {name: rng.integers(0, top, (5, 4)) for name, top in tops.items()}
    x["test"][0, 0] = 9
    y = {f"{name}_label": np.arange(5) for name in x}
    np.savez(tmp_path / "x.npz", **x, **y)
    splits = data.load(str(tmp_path / "x.npz"), kind="tokens", condition="label")
    assert {part.max_value for part in (splits.train, splits.validation, splits.test)} == {9}
    assert splits.condition == 5
    assert splits.train.first(2).kind == "tokens"
