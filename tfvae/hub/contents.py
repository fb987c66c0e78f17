"""What of a run lies on the Hub: the model as Keras reads it from there, and what belongs to it."""

import dataclasses
import re
import shutil
import zipfile
from pathlib import Path, PureWindowsPath

from tfvae import paths
from tfvae._plain import files, untrusted
from tfvae.config import Config
from tfvae.errors import InvalidFile

# The members of a `.keras` file, for which `keras.saving.load_model("hf://...")` looks.
MODEL = ("config.json", "metadata.json", "model.weights.h5")
NEEDED = (*MODEL, "config.toml")
# The pictures that commands write into a run. One beside an export has the name of that.
PICTURES = frozenset(
    f"{name}.png"
    for name in (
        "columns",
        "correlations",
        "curves",
        "decoded",
        "diagnosis",
        "latent",
        "prior-curves",
        "reconstructions",
        "samples",
        "samples-uniform",
        "usage",
    )
)
_OTHERS = re.compile(r"README\.md|report\.json|[A-Za-z0-9][\w.-]*\.(?:png|tflite)")


def is_shared(name: str) -> bool:
    """Whether a file of this name is written to the Hub, and read from there."""
    return name in NEEDED or _OTHERS.fullmatch(name) is not None


def made_of_model(report: dict) -> set[str]:
    """Return the names of pictures and `.tflite` files that tfvae makes of the model of a report.

    Args:
        report: of a run, whose section "exports" names the exports.
    """
    names = report.get("exports", {})
    exports = {name for name in names if name.endswith(".tflite") and is_shared(name)}
    return PICTURES | exports | {f"{name.removesuffix('.tflite')}.png" for name in exports}


def collect(run: Path, folder: Path) -> tuple[Config, dict]:
    """Copy what is shared of a run into a folder; return its configuration and its report.

    Raises:
        InvalidFile: there is no finished run, or its model has files beside its weights.
    """
    paths.check_model(run)
    config, report = _without_paths(paths.read_run_config(run)), _plain(files.read_report(run))
    _unpack(run / "model.keras", folder)
    # Exports that the report does not name are of the model before another training.
    for path in (run / name for name in sorted(made_of_model(report))):
        if path.is_file():
            shutil.copy(path, folder)
    (folder / "config.toml").write_text(config.to_toml(), encoding="utf-8")
    files.write_json(folder / "report.json", report)
    return config, report


def make_run(folder: Path) -> None:
    """Turn a folder of what is shared into a run.

    Raises:
        InvalidFile: a configuration, a report or a model that cannot be used.
        InvalidArgument: a setting that does not exist.
    """
    config = _without_paths(paths.read_run_config(folder))
    (folder / "config.toml").write_text(config.to_toml(), encoding="utf-8")
    files.read_report(folder)
    model = folder / "model.keras"
    with zipfile.ZipFile(model, "w") as archive:
        for name in MODEL:
            archive.write(folder / name, name)
            (folder / name).unlink()
    untrusted.check_model_file(model)


def _unpack(model, folder):
    untrusted.check_model_file(model)
    with zipfile.ZipFile(model) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        if set(names) != set(MODEL):
            raise InvalidFile(
                f"{model} holds {', '.join(sorted(set(names) ^ set(MODEL)))}, and the Hub gets "
                f"{', '.join(MODEL)} alone. Save the model without layers that keep files."
            )
        archive.extractall(folder, MODEL)


def _without_paths(config):
    """Return a configuration that says nothing of the machine, and loads no data by itself."""
    data = dataclasses.replace(
        config.data, name=_last_part(config.data.name), data_dir="", download=False
    )
    initial_weights = _last_part(config.training.initial_weights)
    training = dataclasses.replace(config.training, initial_weights=initial_weights)
    return dataclasses.replace(config, data=data, training=training)


def _last_part(path):
    # Windows splits at both separators, and a run may come from there.
    return PureWindowsPath(path).name if "/" in path or "\\" in path else path


def _plain(report):
    """Return a report that names data and exports by the last part of their paths alone."""
    exports = {
        name: {**values, "path": _last_part(values["path"])} if "path" in values else values
        for name, values in report.get("exports", {}).items()
    }
    plain = {}
    for section, values in report.items():
        plain[_of_last_part(section, plain)] = values
    return {**plain, "exports": exports} if exports else plain


def _of_last_part(section, taken):
    """Return the name of a section, such as "evaluation of /home/me/other.npy", without folders.

    Where it is taken, as by data of the same name in another folder, a number is added.
    """
    what, of, data = section.partition(" of ")
    name = plain = what + of + _last_part(data)
    number = 1
    while name in taken:
        number += 1
        name = f"{plain} ({number})"
    return name
