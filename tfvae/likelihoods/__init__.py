"""Families of p(x|z). One family a file."""

from tfvae.likelihoods.bernoulli import Bernoulli
from tfvae.likelihoods.beta import Beta
from tfvae.likelihoods.categorical import Categorical
from tfvae.likelihoods.censored_normal import CensoredNormal
from tfvae.likelihoods.columns import Columns
from tfvae.likelihoods.continuous_bernoulli import ContinuousBernoulli
from tfvae.likelihoods.likelihood import REGISTRY, Likelihood, get
from tfvae.likelihoods.log_normal import LogNormal
from tfvae.likelihoods.logistic_mixture import DiscretizedLogisticMixture
from tfvae.likelihoods.negative_binomial import NegativeBinomial
from tfvae.likelihoods.normal import Normal
from tfvae.likelihoods.ordinal import Ordinal
from tfvae.likelihoods.poisson import Poisson
from tfvae.likelihoods.student_t import StudentT
from tfvae.likelihoods.truncated_normal import TruncatedNormal
from tfvae.likelihoods.von_mises import VonMises
from tfvae.likelihoods.zero_inflated import ZeroInflatedNegativeBinomial

__all__ = [
    "REGISTRY",
    "Bernoulli",
    "Beta",
    "Categorical",
    "CensoredNormal",
    "Columns",
    "ContinuousBernoulli",
    "DiscretizedLogisticMixture",
    "Likelihood",
    "LogNormal",
    "NegativeBinomial",
    "Normal",
    "Ordinal",
    "Poisson",
    "StudentT",
    "TruncatedNormal",
    "VonMises",
    "ZeroInflatedNegativeBinomial",
    "get",
]
