"""The meaning of names and paths of data, found without TensorFlow so that errors come early."""

import os
from collections.abc import Iterable
from pathlib import Path

from tfvae._plain import untrusted
from tfvae.config import DataConfig
from tfvae.config.locations import BUNDLED
from tfvae.errors import InvalidArgument, InvalidData

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
_SOON_READ = 10 << 20  # bytes of a table that is read before TensorFlow is there


def shard_kind(name: str) -> str | None:
    """Return of what kind a file of a dataset is by its name, None if it is none.

    That is "npy", "records" (TFRecord and ArrayRecord), "arrow" or "parquet".
    """
    name = Path(name).name.lower()
    if name.startswith("cache-"):  # what Hugging Face datasets leave beside their data
        return None
    if any(word in name for word in (".tfrecord", ".array_record", ".arrayrecord")):
        return "records"
    ending = name.rpartition(".")[-1]
    return ending if ending in ("npy", "arrow", "parquet") else None


def is_table_by_name(name: str) -> bool:
    """Whether a file is a table by its name: one in text, or cells of AnnData."""
    return Path(name).suffix.lower() in (".csv", ".tsv") or holds_cells(name)


def holds_cells(name: str) -> bool:
    """Whether a file is one of AnnData by its name."""
    return Path(name).suffix.lower() == ".h5ad"


def dataset_kind(name: str) -> str:
    """Return what a name stands for.

    That is "digits", "wine", "vowels", "arrays", "table", "folder", "shard" or "tfds"; a Parquet
    file, which may be a table too, is a shard.

    Raises:
        InvalidArgument: there is no name.
        InvalidData: the path of a file that is no dataset, or of nothing.
    """
    if not name:
        raise InvalidArgument(
            "There is no data: give the path of a table (.csv, .parquet, .h5ad), of a folder of "
            "images or shards or of an .npy or .npz file, 'digits', 'wine', 'vowels', or the name "
            "of a TFDS dataset (--dataset)."
        )
    if name in BUNDLED:
        return name
    path = Path(name)
    is_arrays, is_table = path.suffix in (".npy", ".npz"), is_table_by_name(name)
    if path.is_dir() and not is_arrays:
        return "folder"
    if not path.exists() and (is_arrays or is_table or "/" in name or "\\" in name):
        raise InvalidData(
            f"There is no file {'' if is_arrays or is_table else 'or folder '}{name}."
        )
    if is_table:
        return "table"
    if path.exists() and shard_kind(name) and not is_arrays:
        return "shard"
    if path.exists() and path.suffix.lower() == ".wav":
        raise InvalidData(
            f"{name} is a sound, and models are trained on windows of sounds. Save them as an .npy "
            f"file, numpy.save('windows.npy', tfvae.sound.windows(tfvae.sound.read({name!r}).frames"
            ", 256)), and train on that: tfvae train vqvae-series --dataset windows.npy."
        )
    if path.exists() and not is_arrays:
        raise InvalidData(
            f"{name} is not a dataset: expected a table (.csv, .parquet, .h5ad), a folder of "
            "images, an .npy or .npz file, a folder or a file of shards (.npy, .tfrecord, .arrow, "
            ".parquet), 'digits' or the name of a TFDS dataset."
        )
    return "arrays" if is_arrays else "tfds"


def is_table(path: str | Path) -> bool:
    """Whether a file, or the first of a folder, holds the rows of a table.

    Raises:
        InvalidData: a Parquet file that cannot be read.
    """
    path = _first_file(Path(path))
    if is_table_by_name(path.name):
        return path.is_file()
    if path.suffix.lower() != ".parquet" or not path.is_file():
        return False
    from tfvae.tables import is_table_of_values

    return is_table_of_values(path)


def kind_of_data(name: str, layout: str = "auto", kind: str = "auto") -> str:
    """Return what the examples of a file or folder are, one of `tfvae.kinds.KINDS`.

    Args:
        name: its path.
        layout: the axes of pictures, or "auto".
        kind: what is said of it, or "auto" to look at the first array.

    Raises:
        InvalidData: an array that cannot be read, or may be of several kinds.
    """
    path = _first_file(Path(name))
    if kind != "auto" or not _is_array(path):
        return "image" if kind == "auto" else kind
    from tfvae.kinds import kind_of

    return kind_of(untrusted.array_header(path), str(path), layout)


def holds_arrays(name: str) -> bool:
    """Whether a file is one of arrays, which have axes, or a folder has such shards."""
    return _is_array(_first_file(Path(name)))


def holds_whole_numbers(name: str) -> bool:
    """Whether the first array of a file or folder is one of integers."""
    path = _first_file(Path(name))
    return holds_arrays(name) and untrusted.array_header(path).dtype.kind in "ui"


def _first_file(path):
    """Return the path of a file, or of the first one below a folder that says what this holds.

    That is a shard or a picture. Others, such as a README, may lie beside shards; the first of them
    is returned where there is nothing else.
    """
    if not path.is_dir():
        return path
    other = None
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(name for name in names if name[0] != "."):
            if shard_kind(name) or name.lower().endswith(IMAGE_SUFFIXES):
                return Path(folder) / name
            other = other or Path(folder) / name
    return other or path


def _is_array(path):
    return path.suffix.lower() in (".npy", ".npz")


def check_data(config: DataConfig) -> None:
    """Refuse data that cannot be there.

    Raises:
        InvalidArgument: there is no name.
        InvalidData: there is no such file or folder.
    """
    if dataset_kind(config.name) == "tfds" and config.data_dir:
        check_data_dir(config.data_dir)


def check_given(config: DataConfig, given: Iterable[str]) -> None:
    """Refuse settings that were given for data that does not take them.

    A configuration may have them from other data.

    Args:
        config: with them.
        given: their names.

    Raises:
        InvalidArgument: with the first one.
    """
    if "data.data_dir" in given and config.data_dir and dataset_kind(config.name) != "tfds":
        raise InvalidArgument(
            f"--data-dir is where TFDS finds prepared data, and {config.name} is no TFDS dataset. "
            "Leave it out."
        )
    if "data.layout" in given and config.layout != "auto" and not holds_arrays(config.name):
        raise InvalidArgument(
            f"data.layout gives the axes of an array file, and {config.name} is none. Leave it out."
        )


def check_columns(config: DataConfig) -> None:
    """Refuse a small table that no schema can be made of.

    Raises:
        InvalidArgument: a description of columns that cannot be used.
        InvalidData: columns that are not clear, or that do not fit their description.
    """
    from tfvae import tables
    from tfvae.schema import Schema

    path = Path(config.name)
    if path.is_file() and path.stat().st_size < _SOON_READ and is_table(path):
        Schema.inferred(tables.read(path), config.columns, config.condition)


def check_data_dir(path: str | Path) -> None:
    """Refuse a folder of prepared data that is not there."""
    if not Path(path).is_dir():
        raise InvalidData(f"The data_dir {path} is not a folder.")
