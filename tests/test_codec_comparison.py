"""The comparison of decoded images and series with the originals."""

import numpy as np
import pytest

from tfvae import codec
from tfvae.codec import comparison
from tfvae.errors import InvalidData


@pytest.fixture
def x():
    """Thirteen grey images."""
    return np.random.default_rng(7).random((13, 8, 8, 1)).astype(np.float32)


def test_the_quality_is_what_numpy_finds(x):
    images = np.clip(x + 0.1 * np.random.default_rng(0).normal(size=x.shape), 0, 1)
    measured = codec.quality(x, images)
    mse = np.square(images - x).reshape(len(x), -1).mean(1)
    assert measured["psnr"] == pytest.approx(np.mean(-10 * np.log10(mse)), rel=1e-4)
    assert 0.5 < measured["ssim"] < 1


def test_equal_images_are_reproduced_exactly(x):
    assert codec.quality(x, x) == {"psnr": None, "ssim": pytest.approx(1.0)}


def test_quality_goes_in_batches(x, monkeypatch):
    whole = codec.quality(x[1:], x[:-1])
    monkeypatch.setattr(comparison, "_BATCH_SIZE", 5)
    assert codec.quality(x[1:], x[:-1]) == pytest.approx(whole, rel=1e-5)


def test_what_are_no_images_is_refused(x):
    with pytest.raises(InvalidData, match="cannot be compared"):
        codec.quality(x, x[:2])


def test_the_quality_of_series_is_the_ratio_of_signal_to_noise():
    x = np.array([[[3.0], [4.0]], [[0.0], [5.0]]])  # Σ x² = 50
    decoded = x + np.array([[[0.1], [0.2]], [[0.0], [-0.5]]])  # Σ (x − x̂)² = 0.3
    assert codec.quality(x, decoded) == {"snr": pytest.approx(10 * np.log10(50 / 0.3), rel=1e-5)}
    assert codec.quality(x, x) == {"snr": None}
