"""Distributions that TFP lacks, and what tfvae asks of any distribution."""

from tfvae.distributions.factory import Factory
from tfvae.distributions.latents import (
    BernoulliLatent,
    CategoricalLatent,
    DiscreteLatent,
    all_states,
    num_states,
)
from tfvae.distributions.protocol import (
    differentiable_sample,
    draw,
    kl_by_unit,
    log_prob_by_level,
    log_prob_by_unit,
    log_prob_by_value,
    of_whole_batch,
    representative,
    sample_and_log_prob,
)

__all__ = [
    "BernoulliLatent",
    "CategoricalLatent",
    "DiscreteLatent",
    "Factory",
    "all_states",
    "differentiable_sample",
    "draw",
    "kl_by_unit",
    "log_prob_by_level",
    "log_prob_by_unit",
    "log_prob_by_value",
    "num_states",
    "of_whole_batch",
    "representative",
    "sample_and_log_prob",
]
