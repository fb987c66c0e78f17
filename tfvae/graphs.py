"""Graphs of functions of a model, which follow the parts that the model has now."""

import functools
import weakref
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

_KEPT = weakref.WeakKeyDictionary()  # of each model the graphs of its functions


class _Graphs(NamedTuple):
    """The graphs of one model, by function, and what they were traced for."""

    traced_for: tuple
    by_function: dict


def in_graph(function: Callable) -> Callable:
    """Return `function(model, *arguments)` as a graph for each model, traced when it is needed.

    A graph keeps the layers and variables that it was traced for, and their precision. It is traced
    anew once the model has others: another prior, a decoder with LoRA, quantized weights. New
    values of the same variables need no new graph. The graphs of a model go when the model does.

    Args:
        function: of a Keras layer or model, and of tensors; other arguments are traced for.
    """

    @functools.wraps(function)
    def call(model, *arguments):
        return _graph(function, model)(*arguments)

    return call


def _graph(function, model):
    """Return the graph of a function of a model as it is now."""
    layers = model._flatten_layers(include_self=False)
    parts = [*layers, *model.variables]
    precisions = [layer.dtype_policy.name for layer in layers]
    kept = _KEPT.get(model)
    if kept is None or not _same(kept.traced_for, parts, precisions):
        # Weak, since a part may refer to its model; and not ids, which are given out again.
        kept = _KEPT[model] = _Graphs(([weakref.ref(part) for part in parts], precisions), {})
    if function not in kept.by_function:
        this = weakref.ref(model)

        def traced(*arguments):
            return function(this(), *arguments)

        traced.__qualname__ = function.__qualname__  # in what TensorFlow says of it
        kept.by_function[function] = tf.function(traced, reduce_retracing=True, autograph=False)
    return kept.by_function[function]


def _same(traced_for, parts, precisions):
    """Whether a model has the parts that its graphs were traced for."""
    references, before = traced_for
    return (
        len(references) == len(parts)
        and all(reference() is part for reference, part in zip(references, parts, strict=True))
        and before == precisions
    )
