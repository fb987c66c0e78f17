"""Measures of a trained model, which share nothing with the training loss but log w."""

from tfvae.evaluation.annealed import AnnealedLogLikelihood, annealed_importance_sampling
from tfvae.evaluation.codes import CodeLogLikelihood, code_log_likelihood, code_measures
from tfvae.evaluation.diagnosis import Diagnosis, GradientMeasures, diagnose
from tfvae.evaluation.exact import ExactLogLikelihood, exact_log_likelihood
from tfvae.evaluation.free_posterior import FreePosterior, fit_posterior
from tfvae.evaluation.gaps import AmortizationGap, amortization_gap
from tfvae.evaluation.importance import LogLikelihood, log_likelihood
from tfvae.evaluation.imputation import Imputation, impute
from tfvae.evaluation.information import (
    MutualInformation,
    active_units,
    mutual_information,
    posterior_means,
)
from tfvae.evaluation.outliers import corrupted, typicality
from tfvae.evaluation.results import in_units
from tfvae.evaluation.scores import Scores, score, threshold

__all__ = [
    "AmortizationGap",
    "AnnealedLogLikelihood",
    "CodeLogLikelihood",
    "Diagnosis",
    "ExactLogLikelihood",
    "FreePosterior",
    "GradientMeasures",
    "Imputation",
    "LogLikelihood",
    "MutualInformation",
    "Scores",
    "active_units",
    "amortization_gap",
    "annealed_importance_sampling",
    "code_log_likelihood",
    "code_measures",
    "corrupted",
    "diagnose",
    "exact_log_likelihood",
    "fit_posterior",
    "impute",
    "in_units",
    "log_likelihood",
    "mutual_information",
    "posterior_means",
    "score",
    "threshold",
    "typicality",
]
