"""Levels, each with a probability of its own."""

from typing import ClassVar

import numpy as np

from tfvae.distributions.images import CategoricalImage
from tfvae.likelihoods.likelihood import REGISTRY, Likelihood, check_levels


@REGISTRY.register("categorical")
class Categorical(Likelihood):
    """Each channel of each pixel takes one of `num_levels` values with its own softmax.

    Args:
        num_levels: how many values; 256 for 8-bit images.
    """

    is_density = False
    unbounded: ClassVar = {"logits": (0, 1)}

    def __init__(self, num_levels: int = 256, **kwargs):
        super().__init__(**kwargs)
        self.num_levels = check_levels(num_levels)
        self.params_per_channel = self.num_levels

    def num_categories(self, channels):
        return np.full(channels, self.num_levels)

    def distribution(self, params, batch_ndims):
        return CategoricalImage(params, batch_ndims, self.num_levels)

    def get_config(self):
        return {"num_levels": self.num_levels, **super().get_config()}
