"""The complete configuration of a run, as dataclasses and as TOML."""

from tfvae.config.configuration import Config, from_dict, load_config
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
    "from_dict",
    "load_config",
]
