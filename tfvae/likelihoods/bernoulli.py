"""Binary values."""

from typing import ClassVar

import numpy as np

from tfvae.distributions.images import BernoulliImage
from tfvae.likelihoods.likelihood import REGISTRY, Likelihood


@REGISTRY.register("bernoulli")
class Bernoulli(Likelihood):
    """Binary pixels: p(x_d = 1 | z) = sigmoid(logit_d). Parameters: the logits."""

    num_levels = 2
    is_density = False
    unbounded: ClassVar = {"logits": (0, 1)}

    def num_categories(self, channels):
        return np.full(channels, 2)

    def distribution(self, params, batch_ndims):
        return BernoulliImage(params, batch_ndims)
