"""`benchmarks/frechet.py`: its distance against closed forms, its table, and its whole way."""

import argparse
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def frechet(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("frechet")


def spread(rng, size):
    """Return a covariance."""
    root = rng.normal(size=(size, size))
    return root @ root.T


def test_distance_of_distributions_with_common_axes(frechet):
    """It is ‖μ1 − μ2‖² + Σ (σ1 − σ2)², and a turn of the axes does not change it."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 5))
    scale, other = rng.uniform(0.1, 2, size=(2, 5))
    expected = np.sum((first - second) ** 2) + np.sum((scale - other) ** 2)
    turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    given = (turn @ first, turn * scale**2 @ turn.T), (turn @ second, turn * other**2 @ turn.T)
    np.testing.assert_allclose(frechet.frechet_distance(*given), expected, rtol=1e-10)


def test_distance_in_the_plane(frechet):
    """Of 2×2 matrices tr A^½ = (tr A + 2 (det A)^½)^½, also where the axes are different."""
    rng = np.random.default_rng(1)
    one, two = spread(rng, 2), spread(rng, 2)
    product = one @ two
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    expected = np.trace(one) + np.trace(two) - 2 * root
    mean = np.zeros(2)
    np.testing.assert_allclose(
        frechet.frechet_distance((mean, one), (mean, two)), expected, rtol=1e-10
    )


def test_distance_without_an_inverse(frechet):
    """A feature that is always 0 adds nothing, and the distance to itself is 0."""
    rng = np.random.default_rng(2)
    features = np.maximum(rng.normal(size=(500, 6)), 0) * [1, 2, 0, 1, 3, 0]
    alive = features[:, [0, 1, 3, 4]]
    other = features[::-1] ** 2
    full = frechet.frechet_distance(frechet.moments(features), frechet.moments(other))
    part = frechet.frechet_distance(frechet.moments(alive), frechet.moments(other[:, [0, 1, 3, 4]]))
    np.testing.assert_allclose(full, part, rtol=1e-9)
    same = frechet.frechet_distance(frechet.moments(features), frechet.moments(features))
    np.testing.assert_allclose(same, 0, atol=1e-9)


def test_moments(frechet):
    features = np.array([[0.0, 1.0], [2.0, 5.0], [4.0, 3.0]], np.float32)
    mean, covariance = frechet.moments(features)
    np.testing.assert_array_equal(mean, [2, 3])
    np.testing.assert_allclose(covariance, [[4, 2], [2, 4]])
    assert covariance.dtype == np.float64


def test_drawn_pixels_have_the_means(frechet):
    means = np.broadcast_to(np.array([0.0, 0.3, 1.0], np.float32), (20_000, 3))
    pixels = frechet.drawn(means, seed=0)
    assert set(np.unique(pixels)) == {0.0, 1.0}
    np.testing.assert_allclose(pixels.mean(0), [0, 0.3, 1], atol=4 * np.sqrt(0.21 / 20_000))


def test_the_page_holds_the_table(frechet):
    page = frechet.quality.PAGE.read_text(encoding="utf-8")
    assert frechet.quality.page_with(frechet.MARKS, frechet.table()) == page


@pytest.mark.nightly
@pytest.mark.slow
def test_runs_are_measured_and_shown(frechet, monkeypatch, tmp_path):
    """The data is nearer to itself than samples of a model that was not trained."""
    from tfvae import runs

    quality = frechet.quality
    entry = {"recipe": "vae-digits", "data": {}, "model": {}, "settings": {}}
    trained = {"training": {"epochs": 2}, "initial_trainings": []}
    found = {"what": "small", **trained, "test": {"nll": 120.0}}
    monkeypatch.setattr(quality, "entries", lambda: {"small": entry})
    monkeypatch.setattr(quality, "measured", lambda: {"small": found})
    monkeypatch.setattr(quality, "RESULTS", tmp_path)
    monkeypatch.setattr(frechet, "FIGURES", tmp_path)
    monkeypatch.setattr(frechet, "LABELLED", "digits")
    config = quality.config_of(entry, None, 0)
    runs.RunDirectory.create(tmp_path / "small", config)
    model = runs.build_model(config, runs.load_data(config))
    model.save(runs.RunDirectory(tmp_path / "small").model_file)
    frechet.run(argparse.Namespace(names=["small"], data_dir=None, runs_dir=tmp_path, seeds=2))

    values = json.loads((tmp_path / frechet.FILE).read_text())
    assert values["num_examples"] == 180
    for distances, floor in zip(
        values["runs"]["small"]["distances"], values["references"][frechet.DATA], strict=True
    ):
        assert len(distances) == len(floor) == 2
        assert max(floor) < min(distances)
        shown = f"{np.mean(distances):.2f} ± {abs(distances[0] - distances[1]) / 2:.2f}"
        assert f" | {shown} |" in frechet.table()
    lines = frechet.table().splitlines()[2:6]
    assert any(line.startswith("| `small`: small | 120.00 | 2 |") for line in lines)
    order = [float(line.split("|")[4].split("±")[0]) for line in lines]
    assert order == sorted(order), "the nearest come first"
    with Image.open(tmp_path / "samples-small.png") as picture:
        assert len(picture.getcolors()) <= frechet.GREYS


def test_a_line_between_images_begins_and_ends_with_what_they_are_decoded_to(
    frechet, make_vae, rng
):
    model = make_vae()
    ends = rng.integers(0, 2, (2, *model.x_shape)).astype("f4")
    row = frechet.between(model, ends)
    assert len(row) == frechet.COLUMNS
    np.testing.assert_array_equal(row[[0, -1]], ends)
    expected = model.decode(model.encode(ends)).numpy()
    np.testing.assert_allclose(row[[1, -2]], expected, atol=1e-6)
    middle = model.decode(model.encode(ends).numpy().mean(0, keepdims=True) * np.float32(1))
    assert np.abs(row[7] - middle[0]).max() < np.abs(row[1] - middle[0]).max()
