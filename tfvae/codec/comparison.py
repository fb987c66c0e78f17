"""Comparison of decoded images and series with the originals."""

import math

import numpy as np
import tensorflow as tf

from tfvae.errors import InvalidData

_BATCH_SIZE = 64
_SSIM_FILTER_SIZE = 11


def quality(x: np.ndarray, images: np.ndarray) -> dict:
    """Compare decoded images with the originals, `[N, H, W, C]` with values in [0, 1], or series.

    Returns:
        A dictionary of plain numbers, for JSON, averaged over images: `psnr`, in dB with a peak of
        1 (None if an image is reproduced exactly: it is infinite), and `ssim`, the
        structural similarity with a Gaussian window of 11 pixels, or the size of a smaller image.
        Source: Wang et al. 2004, "Image quality assessment: from error visibility to structural
        similarity". Of series `[N, T, C]` it is `snr`, the signal-to-noise ratio over all values,
        10 log10(Σ x² / Σ (x − x̂)²) in dB (None if they are reproduced exactly, or all are 0).

    Raises:
        InvalidData: neither images nor series, or of different shapes.
    """
    x, images = (np.asarray(part, np.float32) for part in (x, images))
    if x.ndim not in (3, 4) or x.shape != images.shape or len(x) == 0:
        raise InvalidData(
            f"Arrays of shapes {x.shape} and {images.shape} cannot be compared as images; expected "
            "[N, H, W, C] twice, or series, [N, T, C] twice."
        )
    if x.ndim == 3:
        signal, noise = (float(np.sum(part.astype(np.float64) ** 2)) for part in (x, x - images))
        return {"snr": 10 * math.log10(signal / noise) if signal and noise else None}
    size = min(_SSIM_FILTER_SIZE, *x.shape[1:3])
    psnr, ssim = [], []
    for start in range(0, len(x), _BATCH_SIZE):
        pair = x[start : start + _BATCH_SIZE], images[start : start + _BATCH_SIZE]
        psnr.append(tf.image.psnr(*pair, 1.0))
        ssim.append(tf.image.ssim(*pair, 1.0, filter_size=size))
    means = {"psnr": np.mean(np.concatenate(psnr)), "ssim": np.mean(np.concatenate(ssim))}
    return {name: float(v) if math.isfinite(v) else None for name, v in means.items()}
