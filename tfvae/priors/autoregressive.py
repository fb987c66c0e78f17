"""A prior in which each unit is conditioned on those before it."""

from tfvae.priors.flow import FlowPrior
from tfvae.priors.prior import REGISTRY


@REGISTRY.register("autoregressive")
class AutoregressivePrior(FlowPrior):
    """p(z) = Π_d p(z_d | z_1, …, z_{d−1}), by masked autoregressive flows over N(0, I).

    With one layer each conditional is normal; every further layer, in the opposite order of units,
    makes them richer. The density is one pass through each layer, a draw a loop of D passes.

    Source: Papamakarios et al. 2017, "Masked autoregressive flow for density estimation"; Chen et
    al. 2017, "Variational lossy autoencoder", sec. 3.2.

    Args:
        num_layers: flows, with the order of the units reversed from one to the next.
        hidden: widths of the hidden layers of their networks.
        flow_options: other arguments of `tfvae.flows.MaskedAutoregressive`.
    """

    def __init__(
        self,
        num_layers: int = 2,
        hidden: tuple[int, ...] = (64, 64),
        flow_options: dict | None = None,
        **kwargs,
    ):
        super().__init__("masked_autoregressive", num_layers, hidden, None, flow_options, **kwargs)

    def get_config(self):
        config = super().get_config()
        return {name: value for name, value in config.items() if name != "flow"}
