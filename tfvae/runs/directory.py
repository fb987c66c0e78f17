"""The directory of a run, and the names of its files."""

import shutil
from pathlib import Path

import keras

from tfvae import paths
from tfvae._plain import memory, untrusted
from tfvae._plain.files import atomic, cannot_write, check_writable_folder
from tfvae.checkpoints import Checkpoints, Position
from tfvae.config import Config
from tfvae.config.locations import with_absolute_paths
from tfvae.errors import InvalidFile, TfvaeError
from tfvae.models import GenerativeModel
from tfvae.models.precision import HALF, in_float32
from tfvae.runs.weights import bounded_weights

_LONGEST_REASON = 300  # characters


class TrainingDirectory:
    """The files of a training by which it can be resumed.

    `config.toml`, `history.csv` and `checkpoints/`; and `last-good.keras`, the model of the last
    checkpoint, where a loss was not finite.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config_file = self.path / "config.toml"
        self.history_file = self.path / "history.csv"
        self.last_good_file = self.path / "last-good.keras"
        self.checkpoints = Checkpoints(self.path / "checkpoints")

    def write_config(self, config: Config) -> None:
        """Write config.toml, with absolute paths.

        Raises:
            InvalidArgument: options that TOML cannot hold.
            InvalidFile: another training is under way, with the configuration that is there, or
                the file cannot be written.
        """
        text = with_absolute_paths(config).to_toml()
        with self.checkpoints.in_use(), atomic(self.config_file) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def read_config(self) -> Config:
        """Read config.toml.

        Raises:
            InvalidFile: there is no run here, or its configuration is damaged.
        """
        return paths.read_run_config(self.path)

    def position(self) -> Position:
        """Return the position of the newest checkpoint, from which the training can continue.

        Raises:
            InvalidFile: they are of an earlier development version.
        """
        if any(self.checkpoints.path.glob("epoch-*.keras")):
            raise InvalidFile(
                f"{self.checkpoints.path} holds checkpoints of an earlier development version of "
                "tfvae. Go on with that version, or start a new run."
            )
        return self.checkpoints.last()


class RunDirectory(TrainingDirectory):
    """The files of one run.

    `config.toml`, `model.keras`, `history.csv`, `report.json`, `tensorboard/`, `checkpoints/`, the
    pictures `curves.png`, `reconstructions.png`, `samples.png` and `latent.png` (of a VQ-VAE
    `usage.png`), what `tfvae train-prior` and `tfvae export` write, and in `code-prior/` what the
    former keeps.
    """

    def __init__(self, path: str | Path):
        super().__init__(path)
        self.model_file = self.path / "model.keras"
        self.tensorboard = self.path / "tensorboard"
        self.code_prior = TrainingDirectory(self.path / "code-prior")

    @classmethod
    def create(cls, path: str | Path, config: Config) -> "RunDirectory":
        """Make the folder and write the configuration.

        Raises:
            InvalidArgument: options that TOML cannot hold.
            InvalidFile: the folder already holds a run or what is left of one, another training is
                under way there, or it cannot be made.
        """
        run = cls(path)
        paths.check_new_run(path)
        run.write_config(config)
        return run

    @classmethod
    def unused(cls, folder: str | Path, name: str) -> Path:
        """Make `folder`/`name`, or with a number added if something is there, and return its path.

        Of several processes that ask at once, each gets a folder of its own.

        Raises:
            InvalidFile: no folder can be made there.
        """
        folder, number = Path(folder), 1
        check_writable_folder(folder)
        path = folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(folder, error.strerror) from None
        while True:
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
                path = folder / f"{name}-{number}"
            else:
                return path

    def forget_code_prior(self) -> None:
        """Delete the unfinished fit that `tfvae train-prior --resume` would continue.

        Raises:
            InvalidFile: another training of this run, or of its prior, is under way.
        """
        with self.checkpoints.in_use():
            self.code_prior.config_file.unlink(missing_ok=True)  # without it, the rest is nothing
            if self.code_prior.path.exists():
                shutil.rmtree(self.code_prior.path)

    def load_model(self) -> GenerativeModel:
        """Load the trained model.

        Raises:
            InvalidFile: the run has not finished, or its file is damaged.
        """
        if self.config_file.is_file():
            paths.check_model(self.path)
        return load_model(self.model_file)


def load_model(path: str | Path, kind: type = GenerativeModel) -> GenerativeModel:
    """Load a model that tfvae saved.

    Args:
        path: a `.keras` file.
        kind: the class it should be of.

    Raises:
        InvalidFile: the file is missing, damaged, or holds something else.
    """
    path = Path(path)
    paths.check_model_file(path)
    untrusted.check_model_file(path)
    most = memory.unpacked_limit(path.stat().st_size)
    try:
        with bounded_weights(most, InvalidFile, untrusted.too_many_weights(path)):
            model = keras.saving.load_model(path)
    except TfvaeError:
        raise
    except Exception as error:  # Keras and zipfile raise many kinds
        raise InvalidFile(f"{path} cannot be loaded: {_reason(error)}") from None
    if not isinstance(model, kind):
        wanted = "model of tfvae, such as a VAE" if kind is GenerativeModel else kind.__name__
        raise InvalidFile(f"{path} holds a {type(model).__name__}; expected a {wanted}.")
    model.loaded_from = path
    return model


def _reason(error):
    """Return the first sentence of an error; one that ends in a colon goes on in the next line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = next((n for n, line in enumerate(lines) if not line.endswith(":")), len(lines))
    return " ".join(lines[: last + 1])[:_LONGEST_REASON] or type(error).__name__


def open_model(path: str | Path) -> tuple[GenerativeModel, Config | None]:
    """Return (model, configuration or None) of a run directory or of a `.keras` file.

    Networks that were trained in half precision compute in float32, as they do when exported: half
    precision moves log p(x) of an example by tenths of a nat.

    Raises:
        InvalidFile: there is neither.
        InvalidArgument: a `.tflite` file.
    """
    path = Path(path)
    paths.check_model(path)
    if path.is_dir():
        run = RunDirectory(path)
        return in_float32(run.load_model(), HALF), run.read_config()
    return in_float32(load_model(path), HALF), None
