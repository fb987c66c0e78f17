"""Distribution factories for posteriors and likelihoods, and the distributions over images."""

from tfvae.distributions.factories import (
    LIKELIHOODS,
    POSTERIORS,
    Bernoulli,
    Categorical,
    DiagonalNormal,
    DiscretizedLogisticMixture,
    Factory,
    Likelihood,
    Normal,
)

__all__ = [
    "LIKELIHOODS",
    "POSTERIORS",
    "Bernoulli",
    "Categorical",
    "DiagonalNormal",
    "DiscretizedLogisticMixture",
    "Factory",
    "Likelihood",
    "Normal",
]
