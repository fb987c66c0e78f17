"""Gradient estimators of expectations over q(z|x), one family to a file."""

from tfvae.estimators.antithetic import DisARM
from tfvae.estimators.control_variates import REBAR, RELAX
from tfvae.estimators.enumeration import Enumeration
from tfvae.estimators.estimator import (
    REGISTRY,
    Estimate,
    Estimator,
    get,
    names,
    registered_name,
)
from tfvae.estimators.pathwise import DoublyReparameterized, Pathwise, StickingTheLanding
from tfvae.estimators.relaxations import GumbelSoftmax, StraightThrough
from tfvae.estimators.score_function import (
    NVIL,
    RLOO,
    VIMCO,
    MovingAverage,
    ScoreFunction,
)

__all__ = [
    "NVIL",
    "REBAR",
    "REGISTRY",
    "RELAX",
    "RLOO",
    "VIMCO",
    "DisARM",
    "DoublyReparameterized",
    "Enumeration",
    "Estimate",
    "Estimator",
    "GumbelSoftmax",
    "MovingAverage",
    "Pathwise",
    "ScoreFunction",
    "StickingTheLanding",
    "StraightThrough",
    "get",
    "names",
    "registered_name",
]
