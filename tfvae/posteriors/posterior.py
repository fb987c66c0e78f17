"""The contract of a posterior family."""

from tfvae.distributions.factory import Factory
from tfvae.errors import InvalidArgument
from tfvae.registry import Registry

REGISTRY = Registry("posterior")


class Posterior(Factory):
    """A family of q(z|x), a Keras layer that turns an encoder's output into a distribution.

    The distribution samples and gives log-densities; a method with the name of a function of
    `tfvae.distributions`, such as `kl_by_unit` or `representative`, is what that function calls.

    Attributes:
        kind: the kind of its values: "continuous", "bernoulli" (0 or 1) or "categorical" (one-hot
            along the last axis). It decides which estimators fit.
        has_log_prob: whether log q(z|x) of any z takes one pass through the networks. An inverse
            autoregressive flow knows it only for its own draws.
    """

    kind = "continuous"
    has_log_prob = True


def get(identifier: str | Posterior | None, **options) -> Posterior:
    """Return the posterior of a name, made with these options, or the given one.

    Raises:
        InvalidArgument: an unknown name or option, or an object without the attribute `kind`.
    """
    posterior = REGISTRY.get(identifier, **options)
    if not hasattr(posterior, "kind"):
        raise InvalidArgument(
            f"The posterior {posterior!r} does not say of what `kind` its values are, on which "
            "estimators and priors depend. Make it a subclass of tfvae.posteriors.Posterior."
        )
    return posterior
