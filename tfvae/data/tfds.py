"""Data of TensorFlow Datasets, loaded through TFDS itself."""

import contextlib
import logging
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tfvae.data.conditions import as_conditions
from tfvae.data.images import Images, Splits, stored_maximum
from tfvae.data.local import resize_remedy
from tfvae.errors import InvalidArgument, InvalidData, unknown_name
from tfvae.paths import check_data_dir

_HOST = "storage.googleapis.com"  # of TFDS's own files


def load_tfds(
    name: str,
    data_dir: str | Path | None,
    download: bool,
    fit: Callable | None = None,
    condition: str = "",
) -> Splits:
    """Read a dataset that TFDS knows by name, or has prepared in `data_dir`.

    `condition` is the feature that holds the conditions, "" for none.

    Raises:
        InvalidArgument: no dataset has that name.
        InvalidData: the data is not prepared, cannot be downloaded, or is not images.
    """
    logging.getLogger("absl").setLevel(logging.ERROR)
    import tensorflow_datasets as tfds

    builder = _tfds_builder(tfds, name, data_dir)
    if download and not builder.is_prepared():
        _download(builder, name)
    feature = next(
        (key for key, f in (builder.info.features or {}).items() if _is_image(tfds, f)), None
    )
    if feature is None:
        raise InvalidData(f"The TFDS dataset {name!r} has no image feature; expected images.")

    if condition and condition not in builder.info.features:
        raise InvalidData(
            f"The TFDS dataset {name!r} has no feature {condition!r}, which data.condition names; "
            f"it has {', '.join(builder.info.features)}."
        )

    def read(split):
        try:
            dataset = builder.as_dataset(split=split, shuffle_files=False)
        except AssertionError:
            raise InvalidData(
                f"The TFDS dataset {name!r} is not prepared in {builder.data_path}. Pass the "
                "folder that holds it as data_dir (--data-dir), or allow the download "
                "(download=True, --download)."
            ) from None
        examples = [
            (e[feature], e[condition] if condition else None) for e in dataset.as_numpy_iterator()
        ]
        images = [image for image, _ in examples]
        images = images if fit is None else [fit(image) for image in images]
        shapes = {image.shape for image in images}
        if len(shapes) > 1:
            raise InvalidData(
                f"The images of the TFDS dataset {name!r} differ in size; expected one size. "
                + resize_remedy([shape[:2] for shape in shapes])
            )
        pixels = np.stack(images) if images else np.empty((0,))
        if not condition or not images:
            return pixels, None
        values = np.stack([value for _, value in examples])
        return pixels, as_conditions(values, len(pixels), f"{name}[{condition}]")

    return _tfds_splits(name, builder, read)


def _download(builder, name):
    remedy = "Check the network, or pass the folder of prepared data as data_dir (--data-dir)."
    try:  # TFDS itself would retry for minutes
        socket.getaddrinfo(_HOST, 443)
    except OSError:
        raise InvalidData(
            f"TFDS cannot download {name!r}: there is no network ({_HOST} was not found). " + remedy
        ) from None
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
            builder.download_and_prepare()
    except Exception as error:  # TFDS lets errors of many libraries through
        raise InvalidData(
            f"TFDS could not download {name!r}: {type(error).__name__}: {error}. {remedy}"
        ) from None


def _is_image(tfds, feature):
    return isinstance(feature, tfds.features.Image) or (
        isinstance(feature, tfds.features.Tensor) and len(feature.shape) == 3
    )


def _tfds_builder(tfds, name, data_dir):
    if data_dir is not None:
        check_data_dir(data_dir)
    try:
        return tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except tfds.core.DatasetNotFoundError:
        prepared = [p.parent.parent.name for p in Path(data_dir or ".").glob("*/*/features.json")]
        names = ["digits", *prepared, *tfds.list_builders(with_community_datasets=False)]
        error = unknown_name("dataset", name, names)
        few = ", ".join(sorted({"digits", *prepared, "mnist", "fashion_mnist", "binarized_mnist"}))
        text = str(error).split(" Valid names:")[0]
        raise InvalidArgument(
            f"{text} Expected 'digits', the path of a folder of images or of an .npy or .npz file, "
            f"or the name of a TFDS dataset, such as {few}."
        ) from None


def _tfds_splits(name, builder, read):
    train = read("train")
    available = builder.info.splits
    max_value = stored_maximum(train[0])
    if "validation" in available:
        validation = read("validation")
    else:
        train, validation = _hold_out(train, min(10_000, len(train[0]) // 10))
    if "test" not in available:
        train, test = _hold_out(train, max(1, len(train[0]) // 10))
    else:
        test = read("test")
    parts = (train, validation, test)
    return Splits(name, *(Images(x, max_value, conditions=y) for x, y in parts))


def _hold_out(part, count):
    """Return all but the last images with their conditions, and these last ones."""
    x, y = part
    none = y is None
    return (x[:-count], None if none else y[:-count]), (x[-count:], None if none else y[-count:])
