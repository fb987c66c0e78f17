"""The names of parts in a configuration."""

from tfvae.config.configuration import Config
from tfvae.errors import unknown_name
from tfvae.registry import names_in_source

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
