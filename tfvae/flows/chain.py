"""Compositions of flows."""

import keras

from tfvae.checks import whole
from tfvae.errors import InvalidArgument, unknown_name
from tfvae.flows.flow import REGISTRY, Flow, build_flow
from tfvae.flows.linear import Linear
from tfvae.flows.permutation import Permutation


@keras.saving.register_keras_serializable("tfvae")
class FlowChain(Flow):
    """z = f_L(… f_2(f_1(u))), with log|det ∂z/∂u| = Σ_l log|det ∂f_l|; each sees the context.

    Args:
        flows: f_1, …, f_L, `Flow` objects or their names.

    Raises:
        InvalidArgument: there is none.
    """

    def __init__(self, flows, **kwargs):
        super().__init__(**kwargs)
        self.flows = [REGISTRY.get(flow) for flow in flows]
        if not self.flows:
            raise InvalidArgument("A FlowChain of no flows; expected at least one.")
        self.forward_is_parallel = all(flow.forward_is_parallel for flow in self.flows)
        self.inverse_is_parallel = all(flow.inverse_is_parallel for flow in self.flows)

    def build(self, event_shape, context_size=0):  # noqa: D102
        super().build(event_shape, context_size)
        for flow in self.flows:
            build_flow(flow, event_shape, context_size)

    def _forward(self, u, context):
        return _through([flow._forward for flow in self.flows], u, context)

    def _inverse(self, z, context):
        return _through([flow._inverse for flow in reversed(self.flows)], z, context)

    def get_config(self):  # noqa: D102
        flows = [keras.saving.serialize_keras_object(flow) for flow in self.flows]
        return {**super().get_config(), "flows": flows}

    @classmethod
    def from_config(cls, config):  # noqa: D102
        return cls(**{k: keras.saving.deserialize_keras_object(v) for k, v in config.items()})


def _through(transforms, x, context):
    total = None
    for transform in transforms:
        x, log_det = transform(x, context)
        total = log_det if total is None else total + log_det
    return x, total


def stack(
    name: str, num_layers: int = 4, mixing: str = "reverse", seed: int = 0, **options
) -> Flow:
    """Return `num_layers` flows of one kind, with the units mixed between any two of them.

    Args:
        name: of a flow.
        num_layers: how many of it.
        mixing: what is between two of them: "reverse" the order of the units, which swaps the
            halves of a coupling; a random "permutation"; or a learned "linear" map, which starts at
            the reversal.
        seed: decides the random permutations.
        options: of the flows.

    Raises:
        InvalidArgument: no such flow, option or mixing.
    """
    between = {
        "reverse": lambda number: Permutation(),
        "permutation": lambda number: Permutation(seed + number),
        "linear": lambda number: Linear(),
    }
    if mixing not in between:
        raise unknown_name("mixing", mixing, between)
    flows = []
    for number in range(whole("num_layers", num_layers)):
        if number:
            flows.append(between[mixing](number))
        flows.append(REGISTRY.get(name, **options))
    return FlowChain(flows)
