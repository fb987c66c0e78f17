"""The meaning of names and paths, found without TensorFlow so that errors come early."""

import json
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path

from tfvae._plain import files, memory, untrusted
from tfvae.config import Config, DataConfig, load_config
from tfvae.config.locations import BUNDLED, with_absolute_paths
from tfvae.errors import InvalidArgument, InvalidData, InvalidFile, command

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
_SOON_READ = 10 << 20  # bytes of a table that is read before TensorFlow is there


def stored_schema(path: str | Path):
    """Return the `Schema` that a model was saved with, of a run or a `.keras` file, or None.

    Only what is needed for a name or a refusal: a file that cannot be read has none here.
    """
    from tfvae.schema import Schema  # `--help` works without NumPy

    path = Path(path)
    file = path / "model.keras" if path.is_dir() else path
    try:
        with zipfile.ZipFile(file) as archive:
            info = archive.getinfo("config.json")
            memory.check_unpacked(str(file), info.file_size, file.stat().st_size)
            config = json.loads(archive.read(info))["config"]
        return Schema.from_config(config["schema"]) if config.get("schema") else None
    except Exception:  # zipfile and json raise many kinds; opening the model says what is wrong
        return None


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


def read_run_config(path: str | Path) -> Config:
    """Read the config.toml of a run.

    Raises:
        InvalidFile: there is no run, or its configuration is damaged.
    """
    file = Path(path) / "config.toml"
    if not file.is_file():
        raise InvalidFile(
            f"{path} is not a run: it has no config.toml. Expected a folder written by "
            "`tfvae train`."
        )
    return load_config(file)


def check_new_run(path: str | Path) -> None:
    """Refuse a folder that holds a run already, or a part of one.

    Raises:
        InvalidFile: it does.
    """
    path = Path(path)
    if (path / "config.toml").exists():
        raise InvalidFile(
            f"{path} already holds a run. Continue it with --resume, or choose another --run-dir."
        )
    names = ("model.keras", "checkpoints/epoch-*.zip", "checkpoints/epoch-*.keras")
    left = next((found for name in names for found in path.glob(name)), None)
    if left is not None:
        raise InvalidFile(
            f"{path} holds what is left of a run: there is {left.name}, and no config.toml. Move "
            "it away, or choose another --run-dir."
        )


def check_model(path: str | Path) -> None:
    """Refuse what is neither a run that has finished nor a `.keras` file.

    Raises:
        InvalidFile: there is nothing, no run, or one that has not finished.
        InvalidArgument: a `.tflite` file.
    """
    path = Path(path)
    if path.is_dir():
        read_run_config(path)
        if not (path / "model.keras").is_file():
            raise InvalidFile(
                f"The run in {path} has not finished. Continue it with "
                f"`{command('train', '--resume', '--run-dir', path)}`."
            )
    elif not path.exists():
        raise InvalidFile(f"There is no run or model {path}.")
    elif path.suffix == ".tflite":
        raise InvalidArgument(f"{path} is a .tflite file; use `tfvae decode` for it.")
    else:
        check_model_file(path)


def decoder_of(path: str | Path) -> Path:
    """Return the path of a `.tflite`: `decoder.tflite` of a run, or that of the file itself.

    A folder that is no run, and has a `decoder.tflite` alone as on a device, has that one.

    Raises:
        InvalidFile: there is none, or the one in the run is not of its model: its report does not
            name it, as after another training.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    file = path / "decoder.tflite"
    if not file.is_file():
        others = sorted(other.name for other in path.glob("*.tflite"))
        make = "Make it with `tfvae export`"
        name = f", or name one of its files: {', '.join(others)}" if others else ""
        raise InvalidFile(f"{path} has no decoder.tflite. {make}{name}.")
    is_run = any((path / name).is_file() for name in ("config.toml", "model.keras"))
    if is_run and file.name not in files.read_report(path).get("exports", {}):
        raise InvalidFile(
            f"{file} is not of the model in {path}: report.json does not name it, since the model "
            f"was trained after this export, or the file is from elsewhere. Export it with `tfvae "
            "export`, or name the file itself."
        )
    return file


def check_model_file(path: str | Path) -> None:
    """Refuse what is no `.keras` file.

    Raises:
        InvalidFile: it is missing, truncated, or something else.
    """
    path = Path(path)
    if not path.is_file():
        raise InvalidFile(f"There is no model {path}.")
    if path.suffix != ".keras" or not zipfile.is_zipfile(path):
        raise InvalidFile(
            f"{path} is not a .keras file, or is truncated. Expected a file that `model.save` "
            "or `tfvae train` wrote."
        )


def naming_data(assignments: dict) -> dict:
    """Return settings with which a configuration forgets what a run saw of its own data.

    Args:
        assignments: settings that are replaced; other data is named where "data.name" is.
    """
    return ({"data.full_range": False} if "data.name" in assignments else {}) | assignments


def config_of(path: str | Path, assignments: dict) -> Config:
    """Return the configuration of a run, or of a `.keras` file, with settings replaced.

    Paths in it are absolute. A name that the run has is that of a TFDS dataset, whatever file or
    folder of this name is here.

    Args:
        path: the run, or the file.
        assignments: `{"data.name": ...}`; a file needs at least that one.

    Raises:
        InvalidFile: there is no finished run or no model.
        InvalidArgument: a file without a dataset.
    """
    check_model(path)
    if Path(path).is_dir():
        config = read_run_config(path).override(naming_data(assignments))
        config = with_absolute_paths(config, assignments)
        check_given(config.data, assignments)
        return config
    if "data.name" not in assignments:
        raise InvalidArgument(f"{path} is a model without a run: name its data with --dataset.")
    config = with_absolute_paths(Config().override(assignments))
    check_given(config.data, assignments)
    return config
