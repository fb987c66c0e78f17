"""The Keras layer behind an operator that LiteRT does not have, and the remedy for it."""

import re

import keras

# The converter says where an operator comes from: "Op:", "network/layer/name@__inference_decode_7".
_PLACE = re.compile(r'"(\w+):", "([^"@]+)@__inference_(\w+?)_\d+"')
_OPERATOR = re.compile(r"\btf\.([A-Z]\w*)")

_UNROLL = (
    "Make it with unroll=True, which puts its steps into the graph one after the other and leaves "
    "the weights as they are"
)
# By class of the layer, then by operator.
_REMEDIES = {
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional"), _UNROLL),
    "TensorListReserve": "LiteRT cannot loop over steps: unroll the loop",
    "Erf": "Use its approximation by tanh, as gelu with approximate=True does",
}


def operators_in(message: str) -> list[str]:
    """Return the names of the operators that a message of the converter rejects, sorted."""
    return sorted(set(_OPERATOR.findall(message)))


def is_of_prior(message: str) -> bool:
    """Whether the prior may use them: the message names no other signature as their source."""
    wanted = set(operators_in(message))
    places = _PLACE.findall(message)
    return all(name.startswith("sample") for operator, _, name in places if operator in wanted)


def layers_in(message: str, model) -> list[keras.layers.Layer]:
    """Return the layers of a model that brought the operators in a message of the converter.

    A layer is found by its name, which is a part of the names of its operators, with a number after
    it if the layer was called more than once.
    """
    by_name = {}
    for layer in model._flatten_layers(include_self=False):
        by_name.setdefault(layer.name, layer)
    wanted, found = set(operators_in(message)), {}
    for operator, place, _ in _PLACE.findall(message):
        if operator not in wanted:
            continue
        for part in reversed(place.split("/")[:-1]):  # the innermost first
            layer = by_name.get(part) or by_name.get(re.sub(r"_\d+$", "", part))
            if layer is not None and not isinstance(layer, keras.Model):
                found[layer.name] = layer
                break
    return list(found.values())


def remedy(operators: list[str], layers: list[keras.layers.Layer]) -> str:
    """Return the remedy, in a sentence or two."""
    if not layers:
        where = "Replace the layers that use it"
    else:
        named = ", ".join(f"{layer.name!r} ({type(layer).__name__})" for layer in layers)
        where = f"It comes from the layer{'s' if len(layers) > 1 else ''} {named}"
    keys = [cls.__name__ for layer in layers for cls in type(layer).__mro__] + operators
    known = next((_REMEDIES[key] for key in keys if key in _REMEDIES), None)
    if known is None:
        known = "Replace it" if layers else None
    advice = ". ".join(filter(None, (where, known)))
    return f"{advice}, or export a SavedModel, which holds every operator of TensorFlow."
