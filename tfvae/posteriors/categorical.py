"""Independent one-hot vectors."""

from typing import ClassVar

from tfvae.distributions.latents import CategoricalLatent
from tfvae.posteriors.posterior import REGISTRY, Posterior


@REGISTRY.register("categorical")
class IndependentCategorical(Posterior):
    """q(z|x) = Π_d Categorical(z_d; softmax(logits_d)), z_d one-hot along the last axis.

    Parameters: the logits `[B, ..., C]`, each site of C categories one variable.
    """

    kind = "categorical"
    unbounded: ClassVar = {"logits": (0, 1)}

    def distribution(self, params, batch_ndims):
        return CategoricalLatent(params, batch_ndims)
