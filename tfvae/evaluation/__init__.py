"""Measures of a trained model, on their own path: nothing is shared with the loss but log w."""

from tfvae.evaluation.importance import LogLikelihood, log_likelihood
from tfvae.evaluation.information import active_units, posterior_means

__all__ = ["LogLikelihood", "active_units", "log_likelihood", "posterior_means"]
