"""The start of a prior at training examples."""

import numpy as np

from tfvae import inputs
from tfvae.likelihoods import Likelihood
from tfvae.priors import Prior


def start_at_examples(prior: Prior, likelihood: Likelihood, x) -> None:
    """Give a prior the first of the training examples.

    Args:
        prior: one that has `num_examples_to_start`.
        likelihood: of the examples, which says what stands where a value is missing in all of them.
        x: an array, or a batched `tf.data.Dataset`.

    Raises:
        InvalidArgument: x is neither.
    """
    count = prior.num_examples_to_start
    who, parts = type(prior).__name__, []
    for part, _ in inputs.batches_to_start(x, None, who, "model.prior.start(examples)"):
        parts.append(np.asarray(part, np.float32))
        if sum(map(len, parts)) >= count:
            break
    first = np.concatenate(parts)[:count]
    if np.isnan(first).any():  # missing values start at the mean of the others
        observed = ~np.isnan(first)
        total, number = np.sum(first, 0, where=observed), observed.sum(0)
        usual = likelihood.placeholder(first.shape[-1])
        means = np.where(number, total / np.maximum(number, 1), usual)
        first = np.where(observed, first, means)
    prior.start(first)
