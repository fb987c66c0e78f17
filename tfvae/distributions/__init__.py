"""Distribution factories for posteriors and likelihoods, and the distributions over images."""

from tfvae.distributions.factories import (
    LIKELIHOODS,
    POSTERIORS,
    Bernoulli,
    Categorical,
    DiagonalNormal,
    DiscretizedLogisticMixture,
    Factory,
    IndependentBernoulli,
    IndependentCategorical,
    Likelihood,
    Normal,
)
from tfvae.distributions.latents import (
    BernoulliLatent,
    CategoricalLatent,
    Chain,
    all_states,
    as_chain,
    num_states,
)

__all__ = [
    "LIKELIHOODS",
    "POSTERIORS",
    "Bernoulli",
    "BernoulliLatent",
    "Categorical",
    "CategoricalLatent",
    "Chain",
    "DiagonalNormal",
    "DiscretizedLogisticMixture",
    "Factory",
    "IndependentBernoulli",
    "IndependentCategorical",
    "Likelihood",
    "Normal",
    "all_states",
    "as_chain",
    "num_states",
]
