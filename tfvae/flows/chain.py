"""Compositions of flows."""

from collections.abc import Sequence

import keras

from tfvae._plain.checks import whole
from tfvae.errors import InvalidArgument, unknown_name
from tfvae.flows.flow import REGISTRY, Flow, build_flow
from tfvae.flows.linear import Linear
from tfvae.flows.permutation import ORDERS, Permutation


@keras.saving.register_keras_serializable("tfvae")
class FlowChain(Flow):
    """z = f_L(… f_2(f_1(u))), with log|det ∂z/∂u| = Σ_l log|det ∂f_l|; each sees the context.

    Args:
        flows: f_1, …, f_L, `Flow` objects or their names.

    Raises:
        InvalidArgument: there is none.
    """

    def __init__(self, flows: Sequence[str | Flow], **kwargs):
        flows = [REGISTRY.get(flow) for flow in flows]
        if not flows:
            raise InvalidArgument("A FlowChain of no flows; expected at least one.")
        super().__init__(**{"dtype": flows[0].dtype_policy, **kwargs})
        self.flows = flows
        self.forward_is_parallel = all(flow.forward_is_parallel for flow in self.flows)
        self.inverse_is_parallel = all(flow.inverse_is_parallel for flow in self.flows)

    def build(self, event_shape, context_size=0):
        super().build(event_shape, context_size)
        for flow in self.flows:
            build_flow(flow, event_shape, context_size)

    def _forward(self, u, context):
        return _through([flow._forward for flow in self.flows], u, context)

    def _inverse(self, z, context):
        return _through([flow._inverse for flow in reversed(self.flows)], z, context)

    def get_config(self):
        flows = [keras.saving.serialize_keras_object(flow) for flow in self.flows]
        return {**super().get_config(), "flows": flows}

    @classmethod
    def from_config(cls, config):
        return cls(**{k: keras.saving.deserialize_keras_object(v) for k, v in config.items()})


def _through(transforms, x, context):
    total = None
    for transform in transforms:
        x, log_det = transform(x, context)
        total = log_det if total is None else total + log_det
    return x, total


def stack(
    name: str, num_layers: int = 4, mixing: str | None = None, seed: int = 0, **options
) -> FlowChain:
    """Return `num_layers` flows of one kind, with the units mixed between any two of them.

    Args:
        name: of a flow.
        num_layers: how many of it.
        mixing: what is between two of them: "reverse", "rotate" or "random" permutations, or a
            "linear" map, which starts as a permutation; by default the permutation that suits the
            flow, its attribute `order`.
        seed: decides the random permutations.
        options: of the flows.

    Raises:
        InvalidArgument: no such flow, option or mixing.
    """
    layers = [REGISTRY.get(name, **options) for _ in range(whole("num_layers", num_layers))]
    suiting = layers[0].order
    mixing = suiting if mixing is None else mixing
    if mixing not in (*ORDERS, "linear"):
        raise unknown_name("mixing", mixing, (*ORDERS, "linear"))
    flows = layers[:1]
    for number, layer in enumerate(layers[1:], start=1):
        between = Linear(suiting) if mixing == "linear" else Permutation(mixing, seed + number)
        flows += [between, layer]
    return FlowChain(flows)
