"""The complete configuration of a run, as dataclasses and as TOML."""

import dataclasses
import math
import tomllib
import typing
from pathlib import Path

from tfvae._plain.cluster import STRATEGIES
from tfvae._plain.files import read_text
from tfvae.errors import InvalidArgument, InvalidFile, unknown_name
from tfvae.registry import names_in_source


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What `tfvae.data.load` is called with.

    An empty `data_dir` is TFDS's own default. `resize` and `crop` are [height, width], or [] for
    images as they are. `condition` names the labels or vectors that the model is given; none if
    it is empty. Data of at most `memory_gb` 10⁹ bytes is held in memory. `columns` says what the
    columns of a table are where that is not what is inferred: `{quality = "ordinal"}`. `missing`
    says that NaN in an array file is a missing value, as an empty cell of a table is.
    `standardize` gives the values of vectors and series the mean 0 and the scale 1.
    """

    name: str = "digits"
    data_dir: str = ""
    binarization: str = "none"
    download: bool = False
    layout: str = "auto"
    kind: str = "auto"
    columns: dict = dataclasses.field(default_factory=dict)
    missing: bool = False
    standardize: bool = False
    resize: tuple[int, ...] = ()
    crop: tuple[int, ...] = ()
    condition: str = ""
    memory_gb: float = 1.0


# The networks of each family of models; "auto" is chosen by the shape of the images.
_NETWORKS = {
    "vae": ("dense", "conv", "transformer"),
    "ladder": ("dense", "residual"),
    "vqvae": ("residual",),
    "vqvae2": ("residual",),
}
_CHOICES = dict.fromkeys(name for names in _NETWORKS.values() for name in (*names, "auto"))

# Of the settings that not every model reads: the families, or the networks of a family, that do.
_WITH_LATENTS = ("vae", "ladder")
_OF_CODES = ("vqvae", "vqvae2")
_READ_BY = {
    "model.hidden": ("vae auto", "vae dense", "vae conv"),
    "model.units": ("vae auto", "vae conv"),
    "model.activation": ("vae", "ladder dense"),
    "model.latent_size": _WITH_LATENTS,
    "model.upper_latent_sizes": _WITH_LATENTS,
    "model.upper_hidden": ("vae",),
    "model.posterior": ("vae",),
    "model.posterior_options": ("vae",),
    "model.num_categories": ("vae",),
    "model.prior": _WITH_LATENTS,
    "model.prior_options": _WITH_LATENTS,
    "model.quantizer": _OF_CODES,
    "model.quantizer_options": _OF_CODES,
    "model.embedding_dim": _OF_CODES,
    "training.objective": _WITH_LATENTS,
    "training.objective_options": _WITH_LATENTS,
    "training.estimator": _WITH_LATENTS,
    "training.estimator_options": _WITH_LATENTS,
    "training.num_samples": _WITH_LATENTS,
    "training.beta": _WITH_LATENTS,
    "training.kl_warmup_steps": _WITH_LATENTS,
    "training.kl": _WITH_LATENTS,
    "training.free_bits": _WITH_LATENTS,
}


def _unread(model: dict) -> list[str]:
    """Return the settings that a model of this family and network does not read."""
    kinds = {model["family"], f"{model['family']} {model['network']}"}
    return [key for key, readers in _READ_BY.items() if kinds.isdisjoint(readers)]


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The networks and distributions.

    `family` is "vae", "ladder", "vqvae" or "vqvae2". A VAE's `network` is "dense", with layers as
    wide as `hidden` says (none for affine maps), or "conv", with `hidden` filters and a dense layer
    of `units`, for images and series; with "auto" and an empty `hidden`, these are chosen by the
    shape of the images. "transformer" is for series and tokens, with `network_options` as in
    `tfvae.networks.transformer_encoder`. All networks take the `network_options` {dropout = 0.1},
    say.
    There are `latent_size` latents; with the posterior "categorical" each takes
    `num_categories` values. `upper_latent_sizes` are stochastic layers above these, from the bottom
    up, and `upper_hidden` the widths of the dense layers between two of them. An empty `prior` is
    the one that fits the posterior. The three `..._options` are constructor arguments. The
    `activation` is one of Keras's, or, of dense layers, "gated".

    A "ladder" draws z_1, …, z_L from the top down, with `latent_size` and `upper_latent_sizes`
    latents in each, and `network_options` as in `tfvae.networks.dense_ladder`, or with the network
    "residual" as in `residual_ladder`, where the sizes are channels of grids.

    The families "vqvae" and "vqvae2" have the network "residual", with `network_options` as in
    `tfvae.networks.residual_encoder`, and the `quantizer` of that name with `quantizer_options`; it
    gets the `embedding_dim`, where it does not decide that itself. The network "auto" is the same,
    and chooses how often the images are halved. "vqvae2" has a second grid of codes, of half the
    height and width.
    """

    family: str = "vae"
    network: str = "dense"
    network_options: dict = dataclasses.field(default_factory=dict)
    latent_size: int = 50
    hidden: tuple[int, ...] = (200, 200)
    units: int = 256
    activation: str = "tanh"
    upper_latent_sizes: tuple[int, ...] = ()
    upper_hidden: tuple[int, ...] = ()
    posterior: str = "diagonal_normal"
    posterior_options: dict = dataclasses.field(default_factory=dict)
    num_categories: int = 0
    prior: str = ""
    prior_options: dict = dataclasses.field(default_factory=dict)
    quantizer: str = "ema"
    quantizer_options: dict = dataclasses.field(default_factory=dict)
    embedding_dim: int = 64
    likelihood: str = "bernoulli"
    likelihood_options: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """What `compile` and `fit` are called with.

    An empty `estimator` is the usual one of the objective; the two `..._options` are constructor
    arguments. `optimizer` is "adam", tfvae's Adam with a fused kernel, or the name of any Keras
    optimizer; `epsilon` is that of Adam and its kin. `schedule` is

    - "constant";
    - "cosine", which ends at zero;
    - "iwae": `learning_rate` · 10^(−i/7) for the i-th of eight stages, i = 0, …, 7, of 3^i passes
      over the data each, 3280 in all; with fewer `epochs` all stages are shorter in proportion
      (Burda et al. 2016, sec. 5).

    The learning rate rises linearly from 0 over the first `learning_rate_warmup_steps`. With an
    `ema_momentum` m above 0, an average w̄ ← m w̄ + (1 − m) w follows the weights from step to step;
    validation is of the average, and it takes the place of the weights when training ends.

    With a `patience` above 0, training ends once the validation loss has not fallen for so many
    epochs, or after the last, and the weights are those of the epoch where it was lowest.

    A training starts from the `initial_weights` of a trained model, a run or a `.keras` file, where
    they are given, and from random ones otherwise.

    A checkpoint is kept every `checkpoint_minutes`, and of a prior over codes as well.
    """

    objective: str = "elbo"
    objective_options: dict = dataclasses.field(default_factory=dict)
    estimator: str = ""
    estimator_options: dict = dataclasses.field(default_factory=dict)
    num_samples: int = 1
    beta: float = 1.0
    kl_warmup_steps: int = 0
    kl: str = "auto"
    free_bits: float = 0.0
    epochs: int = 50
    batch_size: int = 100
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    epsilon: float = 1e-7
    schedule: str = "constant"
    learning_rate_warmup_steps: int = 0
    ema_momentum: float = 0.0
    patience: int = 0
    initial_weights: str = ""
    seed: int = 0
    precision: str = "float32"
    steps_per_execution: int = 20
    jit_compile: bool = False
    checkpoint_minutes: float = 5.0
    distribute: str = ""


@dataclasses.dataclass(frozen=True)
class CodePriorConfig:
    """What `tfvae train-prior` fits to the codes of a trained VQ-VAE.

    `name` is "categorical", "pixelcnn" or "transformer", `options` are its constructor arguments.
    The learning rate falls to zero by a cosine. `distribute` is as in the section "training".
    """

    name: str = "transformer"
    options: dict = dataclasses.field(default_factory=dict)
    epochs: int = 20
    batch_size: int = 100
    learning_rate: float = 1e-3
    seed: int = 0
    distribute: str = ""


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What `log_likelihood` is called with; `num_examples` 0 means the whole test split."""

    num_samples: int = 5000
    num_examples: int = 0


# Of a size or a count; what is multiplied of two of them is still a number of 64 bits.
_LARGEST = 10**9


@dataclasses.dataclass(frozen=True)
class Config:
    """A run: what it is called, and its sections."""

    name: str = "run"
    description: str = ""
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    code_prior: CodePriorConfig = CodePriorConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    def __post_init__(self):
        training = self.training
        positive = {
            "model.latent_size": self.model.latent_size,
            "model.units": self.model.units,
            "training.num_samples": training.num_samples,
            "training.epochs": training.epochs,
            "training.batch_size": training.batch_size,
            "training.learning_rate": training.learning_rate,
            "training.epsilon": training.epsilon,
            "training.steps_per_execution": training.steps_per_execution,
            "training.checkpoint_minutes": training.checkpoint_minutes,
            "evaluation.num_samples": self.evaluation.num_samples,
            "model.embedding_dim": self.model.embedding_dim,
            "code_prior.epochs": self.code_prior.epochs,
            "code_prior.batch_size": self.code_prior.batch_size,
            "code_prior.learning_rate": self.code_prior.learning_rate,
        }
        for name in ("hidden", "upper_latent_sizes", "upper_hidden"):
            sizes = getattr(self.model, name)
            positive |= {f"model.{name}[{i}]": size for i, size in enumerate(sizes)}
        for name in ("resize", "crop"):
            size = getattr(self.data, name)
            positive |= {f"data.{name}[{i}]": number for i, number in enumerate(size)}
            if len(size) not in (0, 2):
                raise InvalidArgument(
                    f"data.{name} is {list(size)}; expected a height and a width, like [64, 64]."
                )
        for key, value in positive.items():
            if not (value > 0 and math.isfinite(value)):
                raise InvalidArgument(f"{key} is {value!r}; expected a number above 0.")
            if isinstance(value, int) and value > _LARGEST:
                raise InvalidArgument(f"{key} is {value!r}; expected at most {_LARGEST:,}.")
        for section in ("training", "code_prior"):
            seed = getattr(self, section).seed
            if not 0 <= seed < 2**32:
                raise InvalidArgument(
                    f"{section}.seed is {seed!r}; expected a whole number from 0 to 2^32 − 1."
                )
        for name in ("learning_rate_warmup_steps", "patience"):
            if getattr(training, name) < 0:
                raise InvalidArgument(
                    f"training.{name} is {getattr(training, name)!r}; expected a number of at "
                    "least 0."
                )
        if not 0 <= training.ema_momentum < 1:
            raise InvalidArgument(
                f"training.ema_momentum is {training.ema_momentum!r}; expected a number from 0 to "
                "below 1, such as 0.999, or 0 for no average."
            )
        if not self.data.memory_gb >= 0:
            raise InvalidArgument(
                f"data.memory_gb is {self.data.memory_gb!r}; expected a number of at least 0."
            )
        if training.distribute and training.jit_compile:
            raise InvalidArgument(
                f"training.jit_compile is true with training.distribute = {training.distribute!r}; "
                "XLA compiles no step that sums over devices. Leave one of them out."
            )
        if self.evaluation.num_examples < 0:
            raise InvalidArgument(
                f"evaluation.num_examples is {self.evaluation.num_examples!r}; expected a number "
                "of test images, or 0 for all."
            )
        choices = {
            "data.binarization": (self.data.binarization, ("none", "static", "dynamic")),
            "data.layout": (self.data.layout, ("auto", "NHW", "NHWC", "NCHW")),
            "data.kind": (self.data.kind, ("auto", "image", "vector", "series", "tokens")),
            "model.family": (self.model.family, ("vae", "ladder", "vqvae", "vqvae2")),
            "model.network": (self.model.network, tuple(_CHOICES)),
            "training.schedule": (training.schedule, ("constant", "cosine", "iwae")),
            "training.distribute": (training.distribute, ("", *STRATEGIES)),
            "code_prior.distribute": (self.code_prior.distribute, ("", *STRATEGIES)),
            "training.precision": (
                training.precision,
                ("float32", "mixed_bfloat16", "mixed_float16"),
            ),
        }
        for key, (value, valid) in choices.items():
            if value not in valid:
                raise unknown_name(key, value, valid)
        self._check_model()
        self._check_read()
        if self.model.prior_options and not self.model.prior:
            raise InvalidArgument(
                f"model.prior_options is {self.model.prior_options!r}, but no prior is named that "
                "would take them; set model.prior."
            )
        if training.estimator_options and not training.estimator:
            raise InvalidArgument(
                f"training.estimator_options is {training.estimator_options!r}, but no estimator "
                "is named that would take them; set training.estimator."
            )

    def _check_model(self):
        model = self.model
        if model.network == "auto":
            if model.family == "ladder":
                raise InvalidArgument(
                    'model.network is "auto", which a "ladder" does not have; expected "dense" or '
                    '"residual".'
                )
            if model.family == "vae" and model.hidden:
                raise InvalidArgument(
                    f'model.hidden is {list(model.hidden)} with network = "auto", which chooses it '
                    'by the shape of the images; expected [], or network = "dense" or "conv".'
                )
        elif model.network not in _NETWORKS[model.family]:
            expected = (f"{' or '.join(n)} with {family!r}" for family, n in _NETWORKS.items())
            raise InvalidArgument(
                f"model.network is {model.network!r} with family = {model.family!r}; expected "
                f"{', '.join(expected)}."
            )
        categorical = model.posterior == "categorical"
        if categorical and model.num_categories < 2:
            raise InvalidArgument(
                f"model.num_categories is {model.num_categories!r}; expected at least 2 with "
                'posterior = "categorical".'
            )
        if model.num_categories and not categorical:
            raise InvalidArgument(
                f"model.num_categories is {model.num_categories!r}, but latents of the posterior "
                f"{model.posterior!r} have no categories; expected 0."
            )
        if model.network == "conv" and not model.hidden:
            raise InvalidArgument(
                "model.hidden is []; expected the filters of at least one layer with network = "
                '"conv".'
            )

    def _check_read(self):
        """Refuse settings that would be ignored."""
        model = self.model
        for key in _unread(dataclasses.asdict(model)):
            section, _, name = key.partition(".")
            value = getattr(getattr(self, section), name)
            if value != getattr(_DEFAULTS[section], name):
                also = "; its networks have model.network_options" * (section == "model")
                raise InvalidArgument(
                    f"{key} is {value!r}, but a model of family = {model.family!r} with network = "
                    f"{model.network!r} does not read it. Leave it out{also}."
                )

    def override(self, assignments: dict) -> "Config":
        """Return the configuration with `{"section.key": value}` replaced.

        What a model of another family or with another network does not read, and is not replaced
        here, becomes the default.

        Raises:
            InvalidArgument: a key that does not exist, a value of the wrong type, or one that the
                model does not read.
        """
        values = dataclasses.asdict(self)
        for key, value in assignments.items():
            section, dot, field = key.partition(".")
            if section not in values or not isinstance(values[section], dict):
                known = [name for name in _sections(values) if not dot and key in values[name]]
                if known:
                    raise InvalidArgument(
                        f"{key!r} names no section; expected section.key. Did you mean "
                        f"{' or '.join(repr(f'{name}.{key}') for name in known)}?"
                    )
                raise unknown_name("section", section, _sections(values))
            name, dot, inner = field.partition(".")
            if dot and isinstance(values[section].get(name), dict):  # of a table or of options
                values[section][name] = {**values[section][name], inner: value}
                continue
            if field not in values[section]:
                known = [f"{section}.{name}" for name in values[section]]
                raise unknown_name("setting", key, known)
            values[section][field] = value
        if {"model.family", "model.network"} & set(assignments):
            given = {".".join(key.split(".")[:2]) for key in assignments}
            for key in _unread(values["model"]):
                section, _, name = key.partition(".")
                if key not in given:
                    values[section][name] = getattr(_DEFAULTS[section], name)
        return from_dict(values)

    def to_toml(self) -> str:
        """Return the configuration as TOML, every setting included."""
        import tomli_w

        return tomli_w.dumps(_without_tuples(dataclasses.asdict(self)))


_DEFAULTS = {"model": ModelConfig(), "training": TrainingConfig()}

# Settings that a training may have others of when it is resumed.
_RESUMED_WITH = (
    "data.data_dir",
    "data.download",
    "data.memory_gb",
    "training.epochs",
    "training.steps_per_execution",
    "training.jit_compile",
    "training.checkpoint_minutes",
    "training.distribute",
    "code_prior.epochs",
    "code_prior.distribute",
)


def check_resumed(before: Config, now: Config, sections: tuple[str, ...], what: str) -> None:
    """Refuse settings that would make a training that is resumed another one.

    Args:
        before: the configuration with which it began.
        now: that with which it is to go on.
        sections: those that the training reads.
        what: what is resumed, for the message.

    Raises:
        InvalidArgument: with the names of the settings.
    """
    changed = []
    for section in sections:
        old, new = (dataclasses.asdict(getattr(config, section)) for config in (before, now))
        keys = {f"{section}.{name}": name for name in new if new[name] != old[name]}
        changed += [
            f"{key} (from {old[name]!r} to {new[name]!r})"
            for key, name in keys.items()
            if key not in _RESUMED_WITH
        ]
    if changed:
        raise InvalidArgument(
            f"{what} that is resumed cannot change {', '.join(changed)}; only --epochs, "
            "--data-dir, --distribute and what says how fast it is. Start a new one."
        )


# Settings that name a part, and the kind of part.
_PARTS = {
    "training.objective": "objective",
    "training.estimator": "estimator",
    "model.posterior": "posterior",
    "model.prior": "prior",
    "model.likelihood": "likelihood",
    "model.quantizer": "quantizer",
    "code_prior.name": "code prior",
}


def check_names(config: Config) -> None:
    """Refuse names of parts that tfvae does not bring, without importing the parts.

    Not called for a configuration that is trained from Python, which may have parts of its own.

    Raises:
        InvalidArgument: an unknown name.
    """
    known = names_in_source()
    for setting, kind in _PARTS.items():
        section, _, field = setting.partition(".")
        name = getattr(getattr(config, section), field)
        if name and name not in known[kind]:
            raise unknown_name(kind, name, known[kind])


def from_dict(values: dict) -> Config:
    """Return the configuration in nested dictionaries, as they are read from TOML.

    Raises:
        InvalidArgument: a key that does not exist or a value of the wrong type.
    """
    return _build(Config, values, "")


def load_config(path: str | Path) -> Config:
    """Read a configuration from a TOML file; settings that it does not name keep their defaults.

    Raises:
        InvalidFile: the file is missing or not TOML.
        InvalidArgument: a key that does not exist or a value of the wrong type.
    """
    try:
        return from_dict(tomllib.loads(read_text(path)))
    except InvalidArgument:
        raise
    except OSError as error:
        raise InvalidFile(f"Cannot read {path}: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:  # more kinds of ValueError than TOMLDecodeError
        raise InvalidFile(f"{path} is not a TOML file: {error}.") from None


def parse_assignment(text: str) -> tuple[str, object]:
    """Return (key, value) of "section.key=value"; the value is read as TOML, or else as text.

    Raises:
        InvalidArgument: there is no "=" in it.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise InvalidArgument(f"{text!r} is not an assignment; expected section.key=value.")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def _build(cls, values, prefix):
    fields = typing.get_type_hints(cls)
    for key in values:
        if key not in fields:
            raise unknown_name("setting", prefix + key, [prefix + name for name in fields])
    arguments = {}
    for key, value in values.items():
        if dataclasses.is_dataclass(fields[key]):
            if not isinstance(value, dict):
                raise InvalidArgument(f"{key} is {value!r}; expected a section, [{key}].")
            arguments[key] = _build(fields[key], value, f"{prefix}{key}.")
        else:
            arguments[key] = _convert(value, fields[key], prefix + key)
    return cls(**arguments)


def _convert(value, kind, key):
    if kind is float and type(value) is int:
        return float(value)
    if kind == tuple[int, ...]:
        if isinstance(value, (list, tuple)) and all(type(v) is int for v in value):
            return tuple(value)
        raise InvalidArgument(f"{key} is {value!r}; expected a list of numbers, like [200, 200].")
    if type(value) is not kind:
        raise InvalidArgument(f"{key} is {value!r}; expected a value of type {kind.__name__}.")
    return value


def _sections(values):
    return [name for name, value in values.items() if isinstance(value, dict)]


def _without_tuples(value):
    if isinstance(value, dict):
        return {key: _without_tuples(v) for key, v in value.items()}
    return list(value) if isinstance(value, tuple) else value
