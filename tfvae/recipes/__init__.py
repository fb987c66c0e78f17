"""Recipes: named, complete configurations, each a TOML file of this folder."""

from importlib import resources
from pathlib import Path

from tfvae.config import Config, DataConfig, load_config
from tfvae.data_paths import dataset_kind, holds_cells, holds_whole_numbers, is_table, kind_of_data
from tfvae.errors import InvalidArgument, command, unknown_name

__all__ = ["load", "names", "text"]

# The recipe for the user's own data, by its kind.
_FOR = {
    "image": "vae-images",
    "table": "vae-table",
    "cells": "vae-cells",
    "vector": "vae-vectors",
    "counts": "vae-counts",
    "series": "vae-series",
    "tokens": "vae-tokens",
}


def names() -> list[str]:
    """Return the names of all recipes."""
    files = resources.files(__name__).iterdir()
    return sorted(file.name[:-5] for file in files if file.name.endswith(".toml"))


def text(name: str) -> str:
    """Return the TOML of a recipe, as a start for your own.

    Raises:
        InvalidArgument: no recipe has that name.
    """
    if name not in names():
        raise unknown_name("recipe", name, names())
    return resources.files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8")


def load(name: str) -> Config:
    """Return the configuration of a recipe.

    Raises:
        InvalidArgument: no recipe has that name.
    """
    text(name)
    with resources.as_file(resources.files(__name__).joinpath(f"{name}.toml")) as path:
        return load_config(path)


def for_data(source: str, data: DataConfig) -> str:
    """Return the name of the recipe for the user's own data, by its kind.

    Raises:
        InvalidData: it is none, or may be of several kinds.
    """
    if holds_cells(source):
        return _FOR["cells"]
    if is_table(source):
        return _FOR["table"]
    kind = kind_of_data(source, data.layout, data.kind)
    return _FOR["counts" if kind == "vector" and holds_whole_numbers(source) else kind]


def stands_for(source: str) -> tuple[str, str]:
    """Return what a word of the command line names: ("recipe" | "config" | "data", source).

    A recipe goes before a file or folder of the same name, whose path may begin with "./".

    Raises:
        InvalidArgument: nothing of that name, or a run.
        InvalidData: a file that is no dataset, or a path that leads nowhere.
    """
    path = Path(source)
    if source in names():
        return "recipe", source
    if path.suffix == ".toml":
        return "config", source
    if path.is_dir() and (path / "config.toml").is_file():
        raise InvalidArgument(
            f"{source} is a run, not data. Continue it with "
            f"`{command('train', '--resume', '--run-dir', source)}`."
        )
    if dataset_kind(source) in ("folder", "arrays", "shard", "table"):
        return "data", source
    error = unknown_name("recipe", source, names())
    nowhere = "" if path.exists() else f" There is no file or folder {source} either."
    raise InvalidArgument(
        f"{error}{nowhere} Or give the path of a table (.csv, .parquet), of a folder of images, of "
        "an .npy or .npz file, or of a .toml file; other data goes with --recipe NAME --dataset "
        "DATA."
    )
