"""Data of TensorFlow Datasets: found through TFDS, read from the files that it has prepared."""

import contextlib
import logging
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from tfvae._plain.threads import shared
from tfvae.data.shards import open_shards
from tfvae.data.splits import SPLITS, Part
from tfvae.data_paths import check_data_dir
from tfvae.errors import InvalidArgument, InvalidData, unknown_name

_HOST = "storage.googleapis.com"  # of TFDS's own files


def open_tfds(
    name: str,
    data_dir: str | Path | None,
    download: bool,
    fit: Callable | None = None,
    condition: str = "",
) -> dict[str, Part]:
    """Return the parts of a dataset that TFDS knows by name, or has prepared in `data_dir`.

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
    features = builder.info.features or {}
    feature = next((key for key, f in features.items() if _is_image(tfds, f)), None)
    if feature is None:
        raise InvalidData(f"The TFDS dataset {name!r} has no image feature; expected images.")
    if condition and condition not in features:
        raise InvalidData(
            f"The TFDS dataset {name!r} has no feature {condition!r}, which data.condition names; "
            f"it has {', '.join(features)}."
        )
    if not builder.is_prepared():
        raise InvalidData(
            f"The TFDS dataset {name!r} is not prepared in {builder.data_path}. Pass the "
            "folder that holds it as data_dir (--data-dir), or allow the download "
            "(download=True, --download)."
        )
    kind = features[feature]
    encoded = isinstance(kind, tfds.features.Image)
    options = {
        "feature": feature,
        "shape": None if encoded else tuple(kind.shape),
        "dtype": kind.np_dtype,
    }
    parts = {}
    for split in (name for name in SPLITS if name in builder.info.splits):
        files = [Path(file) for file in builder.info.splits[split].filepaths]
        (part,) = open_shards(
            files[0].parent, [f.name for f in files], "auto", fit, condition, **options
        ).values()
        parts[split] = part
    return parts


def _download(builder, name):
    remedy = "Check the network, or pass the folder of prepared data as data_dir (--data-dir)."
    try:  # TFDS itself would retry for minutes
        socket.getaddrinfo(_HOST, 443)
    except OSError:
        raise InvalidData(
            f"TFDS cannot download {name!r}: there is no network ({_HOST} was not found). " + remedy
        ) from None
    try:
        with _printing_to_stderr():
            builder.download_and_prepare()
    except Exception as error:  # TFDS lets errors of many libraries through
        raise InvalidData(
            f"TFDS could not download {name!r}: {type(error).__name__}: {error}. {remedy}"
        ) from None


@shared
def _printing_to_stderr():
    """Keep what TFDS prints off standard output, which is for results."""
    return contextlib.redirect_stdout(sys.stderr)


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
