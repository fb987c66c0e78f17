"""From the name of a dataset to its three splits."""

import dataclasses
from pathlib import Path

import numpy as np

from tfvae.data.images import Images, Splits
from tfvae.data.local import (
    check_layout,
    fit_all,
    fitting,
    load_arrays,
    load_folder,
    split_by_shuffle,
)
from tfvae.data.tfds import load_tfds
from tfvae.errors import InvalidData, unknown_name
from tfvae.paths import dataset_kind
from tfvae.random import Stream

BINARIZATIONS = ("none", "static", "dynamic")


def load(
    name: str,
    data_dir: str | Path | None = None,
    binarization: str = "none",
    seed: int = 0,
    download: bool = False,
    layout: str = "auto",
    resize: tuple[int, int] | None = None,
    crop: tuple[int, int] | None = None,
    condition: str = "",
) -> Splits:
    """Load a dataset.

    Args:
        name: "digits" (1,797 handwritten digits of 8×8 pixels and 17 grey levels, bundled with
            scikit-learn), the name of a TFDS dataset, or the path of an `.npy` or `.npz` file or of
            a folder of images. A folder may hold `train/`, `validation/` and `test/`; an `.npz` may
            hold arrays of these names. What has no such parts is split by a seeded shuffle, 80%,
            10% and 10%. A TFDS dataset without a validation split gives up the last tenth of
            `train`, at most 10,000 images.
        data_dir: where TFDS finds prepared data; its own default if None.
        binarization: "none"; "static": every pixel is drawn once, with its intensity as
            probability; "dynamic": training pixels are drawn anew every epoch, those of the other
            splits once.
        seed: decides splits and the pixels that are drawn once.
        download: let TFDS download what is not prepared.
        layout: the axes of an array file, "NHW" (grey pictures), "NHWC" or "NCHW". "auto" takes
            four axes for `[N, H, W, C]`, unless the channels seem to come first, and three for grey
            pictures `[N, H, W]` where that is clear: they are squares, or of 8 or 16 bits with no
            side more than four times the other. What is not clear, such as series `[N, T, C]`, is
            refused.
        resize: (height, width) that every image is scaled to, its proportions kept: what overhangs
            is cut off. See `tfvae.images.fit`.
        crop: (height, width) of the middle that is cut out of every image before that.
        condition: where the labels or vectors of the images are, for a model with a condition: the
            name of a TFDS feature, "label" of the digits, or an array of an `.npz`, beside
            "train", "validation" and "test" the arrays "train_label" and so on. "" for none.

    Raises:
        InvalidArgument: an unknown name, binarization or layout, or a size that is none.
        InvalidData: data that is missing or not images, or an empty split.
    """
    if binarization not in BINARIZATIONS:
        raise unknown_name("binarization", binarization, BINARIZATIONS)
    check_layout(layout)
    fit = fitting(resize, crop)
    splits = _read(str(name), data_dir, seed, download, layout, fit, condition)
    for split in ("train", "validation", "test"):
        images = getattr(splits, split)
        if len(images) == 0:
            raise InvalidData(f"The {split} split of {name!r} is empty; expected images.")
        if images.shape != splits.shape:
            raise InvalidData(
                f"The {split} split of {name!r} has images of shape {images.shape}, the training "
                f"split of {splits.shape}; expected one shape."
            )
    return splits if binarization == "none" else _binarize(splits, binarization, seed)


def _read(name, data_dir, seed, download, layout, fit, condition):
    kind = dataset_kind(name)
    if kind == "digits":
        return _load_digits(seed, fit, condition)
    if kind == "arrays":
        return load_arrays(Path(name), seed, layout, fit, condition)
    if kind == "folder":
        if condition:
            raise InvalidData(
                f"data.condition is {condition!r}, but the folder {name} holds images alone. Put "
                "images and labels into an .npz file."
            )
        return load_folder(Path(name), seed, fit)
    return load_tfds(name, data_dir, download, fit, condition)


def _binarize(splits, binarization, seed):
    def draw(images, split):
        rng = np.random.default_rng([seed, int(Stream.BINARIZE), split])
        drawn = np.empty(images.pixels.shape, np.uint8)
        for start in range(0, len(images), 1000):
            x = images.numpy(start, start + 1000)
            drawn[start : start + 1000] = rng.random(x.shape, np.float32) < x
        return Images(drawn, conditions=images.conditions)

    _check_unit_range(splits)
    dynamic = dataclasses.replace(splits.train, resample=True)
    train = dynamic if binarization == "dynamic" else draw(splits.train, 0)
    return Splits(splits.name, train, draw(splits.validation, 1), draw(splits.test, 2))


def _check_unit_range(splits):
    for images in (splits.train, splits.validation, splits.test):
        low, high = float(images.pixels.min()), float(images.pixels.max())
        if not (low >= 0 and high <= images.max_value):
            raise InvalidData(
                f"{splits.name!r} has pixels from {low:g} to {high:g}; binarization expects "
                "intensities in [0, 1]. Rescale the data, or use binarization 'none'."
            )


def _load_digits(seed, fit, condition):
    from sklearn.datasets import load_digits

    if condition not in ("", "label"):
        raise InvalidData(f"data.condition is {condition!r}; the digits have 'label' alone.")
    digits = load_digits()
    pixels = digits.images.astype(np.uint8)[..., np.newaxis]
    labels = digits.target.astype(np.int32) if condition else None
    return split_by_shuffle("digits", fit_all(pixels, fit), 16.0, seed, labels)
