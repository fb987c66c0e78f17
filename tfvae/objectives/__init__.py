"""Objectives: bounds on log p(x), and penalties on the aggregate posterior."""

from tfvae.objectives.bounds import CIWAE, MIWAE, PIWAE, Renyi, elbo, exact, iwae
from tfvae.objectives.mean_discrepancy import InfoVAE
from tfvae.objectives.objective import (
    REGISTRY,
    Objective,
    check,
    check_shape,
    for_encoder,
    get,
    is_linear,
    penalty,
    takes_log_joint,
)
from tfvae.objectives.total_correlation import BetaTCVAE

__all__ = [
    "CIWAE",
    "MIWAE",
    "PIWAE",
    "REGISTRY",
    "BetaTCVAE",
    "InfoVAE",
    "Objective",
    "Renyi",
    "check",
    "check_shape",
    "elbo",
    "exact",
    "for_encoder",
    "get",
    "is_linear",
    "iwae",
    "penalty",
    "takes_log_joint",
]
