"""Normalizing flows, one family to a file; contract: `Flow`."""

from tfvae.flows.affine_coupling import AffineCoupling
from tfvae.flows.chain import FlowChain, stack
from tfvae.flows.flow import REGISTRY, Flow, build_flow
from tfvae.flows.linear import Linear
from tfvae.flows.masked_autoregressive import InverseAutoregressive, MaskedAutoregressive
from tfvae.flows.permutation import Permutation
from tfvae.flows.spline_coupling import SplineCoupling

get = REGISTRY.get

__all__ = [
    "REGISTRY",
    "AffineCoupling",
    "Flow",
    "FlowChain",
    "InverseAutoregressive",
    "Linear",
    "MaskedAutoregressive",
    "Permutation",
    "SplineCoupling",
    "build_flow",
    "get",
    "stack",
]
