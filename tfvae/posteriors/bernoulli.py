"""Independent bits."""

from typing import ClassVar

from tfvae.distributions.latents import BernoulliLatent
from tfvae.posteriors.posterior import REGISTRY, Posterior


@REGISTRY.register("bernoulli")
class IndependentBernoulli(Posterior):
    """q(z|x) = Π_d Bernoulli(z_d; sigmoid(logit_d)), z_d ∈ {0, 1}. Parameters: the logits."""

    kind = "bernoulli"
    unbounded: ClassVar = {"logits": (0, 1)}

    def distribution(self, params, batch_ndims):
        return BernoulliLatent(params, batch_ndims)
