"""The paths in a configuration."""

from pathlib import Path

from tfvae.config.configuration import Config

BUNDLED = ("digits", "wine", "vowels")  # data that scikit-learn and aeon bring


def with_absolute_paths(config: Config) -> Config:
    """Return a configuration with absolute paths, so that it can be used from anywhere.

    What is no path of a file or folder stays, such as the name of a TFDS dataset.
    """
    named = {
        "data.data_dir": config.data.data_dir,
        "data.name": config.data.name,
        "training.initial_weights": config.training.initial_weights,
    }
    return config.override(
        {
            key: str(Path(value).resolve())
            for key, value in named.items()
            if value and value not in BUNDLED and Path(value).exists()
        }
    )
