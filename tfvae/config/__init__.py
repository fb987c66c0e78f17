"""The complete configuration of a run, as dataclasses and as TOML."""

from tfvae.config.configuration import Config, from_dict, load_config, parse_assignment
from tfvae.config.locations import with_absolute_paths
from tfvae.config.names import check_names
from tfvae.config.resumed import check_resumed
from tfvae.config.sections import (
    CodePriorConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    TrainingConfig,
)

__all__ = [
    "CodePriorConfig",
    "Config",
    "DataConfig",
    "EvaluationConfig",
    "ModelConfig",
    "TrainingConfig",
    "check_names",
    "check_resumed",
    "from_dict",
    "load_config",
    "parse_assignment",
    "with_absolute_paths",
]
