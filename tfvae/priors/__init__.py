"""Priors p(z): one a file, one contract (`Prior`)."""

from tfvae.priors.prior import PRIORS, Prior
from tfvae.priors.standard_normal import StandardNormal

get = PRIORS.get

__all__ = ["PRIORS", "Prior", "StandardNormal", "get"]
