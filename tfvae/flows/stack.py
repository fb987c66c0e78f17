"""The usual stacks: layers of one family with permutations between."""

from tfvae.checks import choice, whole
from tfvae.flows.chain import Chain
from tfvae.flows.flow import REGISTRY
from tfvae.flows.permutation import Permutation

STACKED = ("affine_coupling", "masked_autoregressive", "spline_coupling")


def stack(family: str, num_layers: int = 4, hidden=(128, 128), **options) -> Chain:
    """Return layers of one family of flows, with a permutation between one and the next.

    Couplings are permuted at random, so that every number is moved given every other after a few
    layers; autoregressive layers are reversed.

    Args:
        family: one of "affine_coupling", "masked_autoregressive", "spline_coupling".
        num_layers: how many.
        hidden: widths of the hidden layers of each.
        options: further arguments of the family.

    Raises:
        InvalidArgument: another family, or options that it does not take.
    """
    choice("flow", family, STACKED)
    flows = []
    for number in range(whole("num_layers", num_layers)):
        if number:
            is_coupling = family != "masked_autoregressive"
            # Reversing swaps the halves, which every second permutation of a few numbers must do.
            flows.append(Permutation(number if is_coupling and number % 2 == 0 else None))
        flows.append(REGISTRY.get(family, hidden=tuple(hidden), **options))
    return Chain(flows)
