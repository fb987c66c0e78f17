"""The paths of runs and models, looked at without TensorFlow so that errors come early."""

import json
import zipfile
from pathlib import Path

from tfvae._plain import files, memory
from tfvae.config import Config, load_config
from tfvae.config.locations import with_absolute_paths
from tfvae.data_paths import check_given
from tfvae.errors import InvalidArgument, InvalidFile, command


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
