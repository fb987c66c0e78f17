"""Normalizing flows: invertible maps with a known volume. One family a file."""

from tfvae.flows.affine_coupling import AffineCoupling
from tfvae.flows.chain import Chain
from tfvae.flows.flow import REGISTRY, Flow, get
from tfvae.flows.linear import Linear
from tfvae.flows.masked_autoregressive import MaskedAutoregressive
from tfvae.flows.permutation import Permutation
from tfvae.flows.spline_coupling import SplineCoupling
from tfvae.flows.stack import STACKED, stack

__all__ = [
    "REGISTRY",
    "STACKED",
    "AffineCoupling",
    "Chain",
    "Flow",
    "Linear",
    "MaskedAutoregressive",
    "Permutation",
    "SplineCoupling",
    "get",
    "stack",
]
