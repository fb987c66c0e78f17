"""Recipes: named, complete configurations, each a TOML file of this folder."""

from importlib import resources

from tfvae.config import Config, load_config
from tfvae.errors import unknown_name


def names() -> list[str]:
    """Return the names of all recipes."""
    files = resources.files(__name__).iterdir()
    return sorted(file.name[:-5] for file in files if file.name.endswith(".toml"))


def text(name: str) -> str:
    """Return the TOML of a recipe, to start an own one from.

    Raises:
        InvalidArgument: no recipe has that name.
    """
    if name not in names():
        raise unknown_name("recipe", name, names())
    return resources.files(__name__).joinpath(f"{name}.toml").read_text()


def load(name: str) -> Config:
    """Return the configuration of a recipe.

    Raises:
        InvalidArgument: no recipe has that name.
    """
    text(name)
    with resources.as_file(resources.files(__name__).joinpath(f"{name}.toml")) as path:
        return load_config(path)
