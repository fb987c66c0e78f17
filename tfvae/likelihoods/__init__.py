"""Families of p(x|z), one to a file."""

from tfvae.likelihoods.bernoulli import Bernoulli
from tfvae.likelihoods.beta import Beta
from tfvae.likelihoods.categorical import Categorical
from tfvae.likelihoods.censored_normal import CensoredNormal
from tfvae.likelihoods.columns import Columns
from tfvae.likelihoods.continuous_bernoulli import ContinuousBernoulli
from tfvae.likelihoods.likelihood import REGISTRY, Likelihood, get
from tfvae.likelihoods.log_normal import LogNormal
from tfvae.likelihoods.logistic_mixture import DiscretizedLogisticMixture
from tfvae.likelihoods.missingness import (
    MISSINGNESS,
    LinearMasking,
    Missingness,
    SelfMasking,
)
from tfvae.likelihoods.negative_binomial import NegativeBinomial
from tfvae.likelihoods.normal import Normal
from tfvae.likelihoods.observed import Observed
from tfvae.likelihoods.ordinal import Ordinal
from tfvae.likelihoods.poisson import Poisson
from tfvae.likelihoods.student_t import StudentT
from tfvae.likelihoods.truncated_normal import TruncatedNormal
from tfvae.likelihoods.von_mises import VonMises
from tfvae.likelihoods.zero_inflated import ZeroInflatedNegativeBinomial

__all__ = [
    "MISSINGNESS",
    "REGISTRY",
    "Bernoulli",
    "Beta",
    "Categorical",
    "CensoredNormal",
    "Columns",
    "ContinuousBernoulli",
    "DiscretizedLogisticMixture",
    "Likelihood",
    "LinearMasking",
    "LogNormal",
    "Missingness",
    "NegativeBinomial",
    "Normal",
    "Observed",
    "Ordinal",
    "Poisson",
    "SelfMasking",
    "StudentT",
    "TruncatedNormal",
    "VonMises",
    "ZeroInflatedNegativeBinomial",
    "get",
]
