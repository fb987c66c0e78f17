"""The settings that not every model reads, and the models that do."""

import dataclasses

from tfvae.config.sections import DEFAULTS
from tfvae.errors import InvalidArgument

# Of the settings that not every model reads: the families, or the networks of a family, that do.
_WITH_LATENTS = ("vae", "ladder")
_OF_CODES = ("vqvae", "vqvae2")
READ_BY = {
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


def unread(model: dict) -> list[str]:
    """Return the settings that a model of this family and network does not read."""
    kinds = {model["family"], f"{model['family']} {model['network']}"}
    return [key for key, readers in READ_BY.items() if kinds.isdisjoint(readers)]


def check_read(config) -> None:
    """Refuse settings that would be ignored.

    Args:
        config: a `Config`.

    Raises:
        InvalidArgument: a setting other than its default that the model does not read.
    """
    model = config.model
    for key in unread(dataclasses.asdict(model)):
        section, _, name = key.partition(".")
        value = getattr(getattr(config, section), name)
        if value != getattr(DEFAULTS[section], name):
            also = "; its networks have model.network_options" * (section == "model")
            raise InvalidArgument(
                f"{key} is {value!r}, but a model of family = {model.family!r} with network = "
                f"{model.network!r} does not read it. Leave it out{also}."
            )
