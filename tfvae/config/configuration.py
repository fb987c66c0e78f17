"""A configuration as a whole: its sections, other values of them, and its text in TOML."""

import dataclasses
import tomllib
import typing
from pathlib import Path

from tfvae._plain.files import read_text
from tfvae.config.checks import check
from tfvae.config.readers import unread
from tfvae.config.sections import (
    DEFAULTS,
    CodePriorConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    TrainingConfig,
)
from tfvae.errors import InvalidArgument, InvalidFile, unknown_name


@dataclasses.dataclass(frozen=True)
class Config:
    """A run: what it is called, and its sections."""

    name: str = "run"
    description: str = ""
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    code_prior: CodePriorConfig = dataclasses.field(default_factory=CodePriorConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)

    def __post_init__(self):
        check(self)

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
            for key in unread(values["model"]):
                section, _, name = key.partition(".")
                if key not in given:
                    values[section][name] = getattr(DEFAULTS[section], name)
        return from_dict(values)

    def to_toml(self) -> str:
        """Return the configuration as TOML, every setting included.

        Raises:
            InvalidArgument: options that TOML has no way to write, such as None or an object.
        """
        import tomli_w

        values = _without_tuples(dataclasses.asdict(self))
        for section in _sections(values):
            for name, value in values[section].items():
                try:
                    tomli_w.dumps({name: value})
                except TypeError as error:
                    raise InvalidArgument(
                        f"{section}.{name} is {value!r}, which config.toml cannot hold: {error}. "
                        "Expected numbers, texts, lists and tables of these."
                    ) from None
        return tomli_w.dumps(values)


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
