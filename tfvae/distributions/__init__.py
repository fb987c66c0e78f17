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
from tfvae.distributions.flow import FlowDistribution
from tfvae.distributions.latents import (
    BernoulliLatent,
    CategoricalLatent,
    Chain,
    all_states,
    as_chain,
    num_states,
)
from tfvae.distributions.normal_mixture import NormalMixture

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
    "FlowDistribution",
    "IndependentBernoulli",
    "IndependentCategorical",
    "Likelihood",
    "Normal",
    "NormalMixture",
    "all_states",
    "as_chain",
    "num_states",
]
