"""The paths in a configuration."""

from collections.abc import Iterable
from pathlib import Path

from tfvae.config.configuration import Config

BUNDLED = ("digits", "wine", "vowels")  # data that scikit-learn and aeon bring


PATHS = ("data.data_dir", "data.name", "training.initial_weights")


def with_absolute_paths(config: Config, keys: Iterable[str] = PATHS) -> Config:
    """Return a configuration with absolute paths, so that it can be used from anywhere.

    What is no path of a file or folder stays, such as the name of a TFDS dataset.

    Args:
        config: with paths relative to the folder that the process is in.
        keys: of the settings that were given here; others of them stay as they are.
    """
    named = {key: _setting(config, key) for key in PATHS if key in keys}
    return config.override(
        {key: str(Path(value).resolve()) for key, value in named.items() if is_path(value)}
    )


def is_path(name: str) -> bool:
    """Whether a name that may be that of bundled or of TFDS data is one of a file or folder."""
    return bool(name) and name not in BUNDLED and Path(name).exists()


def _setting(config, key):
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)
