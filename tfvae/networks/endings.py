"""The last activation of a network, and the parameters that it cannot produce."""

import warnings
from typing import NamedTuple

from tfvae.errors import TfvaeWarning

# Activations, and layers and operators of these names, that give no large numbers of one sign.
_BOUNDED = frozenset(
    {
        "celu",
        "elu",
        "exp",
        "exponential",
        "gelu",
        "hardsigmoid",
        "hardsilu",
        "hardswish",
        "hardtanh",
        "logsigmoid",
        "mish",
        "relu",
        "relu6",
        "selu",
        "sigmoid",
        "silu",
        "softmax",
        "softplus",
        "softsign",
        "sparsemax",
        "sparseplus",
        "sparsesigmoid",
        "squareplus",
        "swish",
        "tanh",
    }
)
# Layers and operators that move numbers, but do not change them, by the beginning of their names.
_MOVING = (
    "cropping",
    "dropout",
    "expanddims",
    "flatten",
    "gaussiannoise",
    "identity",
    "permute",
    "repeatvector",
    "reshape",
    "spatialdropout",
    "squeeze",
    "transpose",
    "upsampling",
)


class Ending(NamedTuple):
    """An activation that is the last to compute a part of a network's output.

    Attributes:
        activation: its name.
        layer: the name of its layer.
        part: where its part of the last axis begins and ends, from 0 to 1.
    """

    activation: str
    layer: str
    part: tuple[float, float]


def warn_if_bounded(network, factory, role: str) -> None:
    """Warn where an activation bounds parameters that may be any real number.

    Args:
        network: a Keras model; of a subclassed one nothing is known, and nothing said.
        factory: of the distribution whose parameters it gives; see `Factory.unbounded`.
        role: what the network is, for the message.
    """
    for activation, layer, part in endings(network):
        for what, place in factory.unbounded.items():
            if _plain(activation) in _BOUNDED and part[0] < place[1] and place[0] < part[1]:
                kind = type(factory).__name__
                warnings.warn(
                    f"The {role} ends in the activation {activation!r} (layer {layer!r}), which "
                    f"bounds its output, but that output holds the {what} of {kind}, any real "
                    f"numbers, from which {kind} makes valid parameters itself. Make the layer "
                    "linear, with activation=None. (Bounded means are right for "
                    "likelihood='normal'.)",
                    TfvaeWarning,
                    stacklevel=3,
                )
                return


def endings(network) -> list[Ending]:
    """Return the activations that compute a network's output last, through layers that reshape it.

    Where its last axis is joined from several tensors, each has its own. An output that is computed
    otherwise, by a linear layer or one of unknown kind, has none.
    """
    outputs = getattr(network, "outputs", None) or []
    return _endings(outputs[0], (0.0, 1.0)) if len(outputs) == 1 else []


def _endings(tensor, part):
    """Return the endings of a tensor that is a part of the output."""
    operation, node_index, _ = tensor._keras_history
    if hasattr(operation, "layers"):  # a model in the model
        inner = getattr(operation, "outputs", None) or []
        return _endings(inner[0], part) if len(inner) == 1 else []
    name = _activation(operation)
    if name is not None and name != "linear":
        return [Ending(name, operation.name, part)]
    inputs = operation._inbound_nodes[node_index].input_tensors
    kind = _plain(type(operation).__name__)
    if kind == "concatenate":
        return _of_joined(operation, inputs, tensor, part)
    if kind != "activation" and not kind.startswith(_MOVING):
        return []
    found = _endings(inputs[0], part)
    if kind in ("permute", "transpose") or inputs[0].shape[-1] != tensor.shape[-1]:
        # Only of what covers all of the tensor it is known which part of the output it is.
        return [ending for ending in found if ending.part == part]
    return found


def _of_joined(operation, inputs, tensor, part):
    """Return the endings of tensors that are joined on the last axis."""
    sizes = [joined.shape[-1] for joined in inputs]
    if operation.axis not in (-1, len(tensor.shape) - 1) or None in sizes:
        return []
    found, before = [], 0
    for joined, size in zip(inputs, sizes, strict=True):
        ends = before / sum(sizes), (before + size) / sum(sizes)
        found += _endings(joined, tuple(part[0] + (part[1] - part[0]) * end for end in ends))
        before += size
    return found


def _activation(operation):
    """Return the name of what an operation applies last, or None where that is no activation."""
    operation = getattr(operation, "layer", operation)  # of a wrapper, such as TimeDistributed
    function = getattr(operation, "activation", None)
    if function is not None:
        return getattr(function, "__name__", type(function).__name__)
    kind = type(operation).__name__
    is_leaky = bool(getattr(operation, "negative_slope", False))
    return kind if _plain(kind) in _BOUNDED and not is_leaky else None


def _plain(name):
    return name.lower().replace("_", "")
