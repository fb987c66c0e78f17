"""`benchmarks/rate_distortion.py`: what it counts, its table, and its whole way."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def codecs(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("rate_distortion")


@pytest.fixture
def patches():
    """Return 16 images of 16×24 pixels in grey."""
    photo = load_sample_image("china.jpg").mean(axis=-1, keepdims=True).astype(np.uint8)
    return photo[100:164, 200:296].reshape(4, 16, 4, 24, 1).swapaxes(1, 2).reshape(16, 16, 24, 1)


@pytest.mark.parametrize("name", ["JPEG", "WebP"])
@pytest.mark.parametrize("way", ["many", "alone"])
def test_images_come_back_in_their_places(codecs, patches, name, way):
    """At the highest quality they are nearly the same; in any other order they are not."""
    bits, decoded = getattr(codecs, way)(codecs.CODECS[name], patches, 100)
    assert decoded.shape == patches.shape
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - patches).mean() < 2
    assert np.abs(decoded[::-1].astype(int) - patches).mean() > 10
    assert 1 < bits < 12


def test_a_sheet_has_its_images_row_by_row(codecs, patches):
    picture = codecs.sheet(patches)
    assert picture.shape == (64, 96, 1)
    np.testing.assert_array_equal(picture[16:32, 24:48], patches[5])
    np.testing.assert_array_equal(codecs.cut(picture, patches.shape[1:]), patches)


@pytest.mark.parametrize("name", ["JPEG", "WebP"])
def test_bits_of_the_files(codecs, patches, name):
    """Of one file they are all of its bytes, of files for each what a black image does not take."""
    encode = codecs.CODECS[name]
    bits, _ = codecs.many(encode, patches, 50)
    size = len(encode(codecs.sheet(patches), 50, small=True))
    assert bits == 8 * size / patches.size
    black = np.zeros_like(patches)
    assert codecs.alone(encode, black, 50)[0] == 0
    half = np.concatenate([patches[:8], black[:8]])
    bits = [codecs.alone(encode, images, 50)[0] for images in (patches[:8], half)]
    np.testing.assert_allclose(bits[0], 2 * bits[1])


def test_bits_at_a_psnr(codecs):
    """They are interpolated on a logarithmic scale, and not beyond what was measured."""
    rows = [{"many": {"psnr": p, "bits": b}} for p, b in ((30, 1.0), (20, 0.25), (40, 2.0))]
    np.testing.assert_allclose(codecs.bits_at(rows, "many", 25), 0.5)
    np.testing.assert_allclose(codecs.bits_at(rows, "many", 40), 2)
    assert codecs.bits_at(rows, "many", 19) is None
    assert codecs.bits_at(rows, "many", 41) is None


def test_the_page_holds_the_table(codecs):
    page = codecs.quality.PAGE.read_text(encoding="utf-8")
    assert codecs.quality.page_with(codecs.MARKS, codecs.table()) == page


def test_a_model_is_measured_and_shown(codecs, monkeypatch, tmp_path):
    """The codes of a categorical prior that was not fitted take log2 K bits each."""
    import tfvae
    from tfvae import recipes

    small = {"filters": 4, "num_blocks": 0, "block_filters": 2}
    encoder = tfvae.networks.residual_encoder((8, 8, 1), 3, num_downsamplings=1, **small)
    decoder = tfvae.networks.residual_decoder((4, 4, 3), 1, num_upsamplings=1, **small)
    quantizer = tfvae.quantizers.get("vq", embedding_dim=3, num_embeddings=64)
    model = tfvae.VQVAE(encoder, quantizer, decoder, likelihood="bernoulli")
    prior = tfvae.code_priors.get("categorical", codebook_size=64)
    prior.build((None, 4, 4))
    model.prior = prior
    for name, value in {"ALONE": 3, "QUALITIES": (10, 50)}.items():
        monkeypatch.setattr(codecs, name, value)
    images = np.rint(255 * tfvae.data.load("digits").test.numpy(0, 64)).astype(np.uint8)
    values, shown = codecs.measure(model, images)
    codecs.draw(values, tmp_path / "curves.png")
    codecs.show(images, shown, tmp_path / "images.png")
    text = codecs.of_data("digits", codecs.about(recipes.load("vqvae-digits"), model) | values)

    (line,) = (line for line in text if line.startswith("| VQ-VAE with its prior |"))
    bits, psnr, _, single = (float(cell) for cell in line.split("|")[2:6])
    expected = 16 * 6 / 64
    assert f"| VQ-VAE, codes as they are | {expected:.3f} | {psnr:.2f} |" in "\n".join(text)
    assert bits > expected + 8 * 640 / images.size, "the header is counted"
    assert expected <= single <= expected + 32 / 64, "here it is not"
    assert len([line for line in text if ", quality " in line]) == 4
    with Image.open(tmp_path / "images.png") as picture:
        assert picture.size == ((8 * 16 + 15) * 8, (8 * 4 + 3) * 8), "four rows"
