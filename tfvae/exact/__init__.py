"""Exact log p(x): enumeration of small discrete latents, and the linear-Gaussian closed form."""

from tfvae.exact.closed_form import LinearGaussian, linear_gaussian
from tfvae.exact.enumeration import (
    MAX_STATES,
    check_num_states,
    latent_states,
    log_joint,
    num_latent_states,
    states_by_layer,
)

__all__ = [
    "MAX_STATES",
    "LinearGaussian",
    "check_num_states",
    "latent_states",
    "linear_gaussian",
    "log_joint",
    "num_latent_states",
    "states_by_layer",
]
