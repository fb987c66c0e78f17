"""The contract of a posterior family."""

from tfvae.distributions.factory import Factory
from tfvae.registry import Registry

REGISTRY = Registry("posterior")
get = REGISTRY.get


class Posterior(Factory):
    """A family of q(z|x), a Keras layer that turns an encoder's output into a distribution.

    The distribution samples and gives log-densities; what else is asked of it stands in
    `tfvae.distributions.protocol`.

    Attributes:
        kind: what its values are, "continuous", "bernoulli" (0 or 1) or "categorical" (one-hot
            along the last axis). Estimators go by it.
        has_log_prob: whether log q(z|x) of any z is had at the price of one pass through the
            networks. An inverse autoregressive flow knows it only of what it has drawn.
    """

    kind = "continuous"
    has_log_prob = True
