"""Quantization of a `.tflite`: integer weights and, where asked for, integer activations.

`litert-quantizer` does the arithmetic. This module chooses what is quantized, and how:

| name | weights | values between the layers |
|---|---|---|
| "dynamic" | int8, a scale for each channel | float32, rounded to int8 inside a layer |
| "int4" | int4, a scale for each channel, clipped where that costs least (OCTAV) | likewise |
| "int8" | int8, a scale for each channel | int8, in ranges seen on examples |
| "int16x8" | int8, a scale for each channel | int16, likewise |

The last two quantize `sample` as "dynamic" does, with the same weights, because the generator of
the noise would lose its precision and loops cannot be calibrated. They also search for the nearest
code as "dynamic" does, because rounded distances choose other codes. Except in "int4", dense layers
have one scale for all their channels, which every runtime takes. Scales for blocks of weights are
not offered: LiteRT 2.3 has no kernel that runs them for batches of any size.

OCTAV: Sakr et al. 2022, "Optimal clipping and magnitude-aware differentiation for improved
quantization-aware training".
"""

import re

import numpy as np
from litert_quantizer import calibrator, qtyping, quantizer, recipe_manager
from litert_quantizer.algorithm_manager import AlgorithmName
from litert_quantizer.utils import qsv_utils, tfl_interpreter_utils

from tfvae._plain.quiet import quiet
from tfvae.errors import ExportError
from tfvae.ondevice import flatfile

BITS = {"int8": 8, "int16x8": 16}  # of the values between the layers, where there are ranges

_KINDS = qtyping.TFLOperationName
_WITH_WEIGHTS = ("FULLY_CONNECTED", "CONV_2D", "CONV_2D_TRANSPOSE", "DEPTHWISE_CONV_2D")
_LAST = ("FULLY_CONNECTED", "CONV_2D", "TRANSPOSE_CONV", "DEPTHWISE_CONV_2D")
_FOUR_BITS = ("FULLY_CONNECTED", "CONV_2D")  # that have such kernels; all others keep eight bits
_BETWEEN = (
    "ADD",
    "AVERAGE_POOL_2D",
    "CONCATENATION",
    "GELU",
    "LOGISTIC",
    "MAX_POOL_2D",
    "MEAN",
    "PAD",
    "RELU",
    "RESHAPE",
    "STRIDED_SLICE",
    "TANH",
    "TRANSPOSE",
)
_OF_NETWORKS = "^(?:decode|encode|parameters)"


def quantize(
    content: bytes,
    name: str,
    examples: dict[str, list[dict]],
    searches: tuple[str, ...] = (),
    mixed_parameters: bool = False,
    missing: bool = False,
    integer_io: bool = False,
) -> bytes:
    """Return a `.tflite` in integers.

    Args:
        content: of float32.
        name: see the table above.
        examples: {signature: inputs}, for "int8" and "int16x8"; the range of a value is the widest
            that occurs. Signatures without examples keep float32 between their layers.
        searches: names of layers that search a table of codes.
        mixed_parameters: whether the decoder's outputs are of several kinds, such as the means and
            the scales of a mixture: its last layer then gives float32 in every case.
        missing: whether examples may have missing values, NaN, which no integer stands for.
        integer_io: whether "int8" and "int16x8" take and return integers.

    Raises:
        ExportError: the quantizer does not take a graph, with its reason.
    """
    with quiet():
        content = _with_scopes(content)
        recipes = recipe_manager.RecipeManager()
        _fill(recipes, name, searches, integer_io)
        try:
            if mixed_parameters and name in BITS:
                _leave_parameters(recipes, content)
            if missing and name in BITS:
                _leave_missing(recipes, content)
            ranges = _ranges(content, recipes, examples) if name in BITS else None
            worker = quantizer.Quantizer(bytearray(content), recipes.get_quantization_recipe())
            return _with_shapes_of(content, bytes(worker.quantize(ranges).quantized_model))
        except Exception as error:  # the quantizer and LiteRT raise many kinds
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ExportError(
                f"The model cannot be quantized to {name!r}: {reason} Use another quantization, "
                "or replace the layers that use it."
            ) from None


def _fill(recipes, name, searches, integer_io):
    """Set how each operator is quantized, by its kind and by the name of its graph and layer.

    If several entries match an operator, the last one counts.
    """
    for kind in _WITH_WEIGHTS:
        recipes.add_dynamic_config(".*", _KINDS[kind], 8, _granularity(kind))
    for kind in _FOUR_BITS if name == "int4" else ():
        recipes.add_dynamic_config(".*", _KINDS[kind], 4, algorithm_key=AlgorithmName.OCTAV)
    if name in BITS:
        _add_static(recipes, BITS[name], integer_io)
    for layer in searches:
        recipes.add_dynamic_config(re.escape(layer), _KINDS.FULLY_CONNECTED, 8)


def _leave_parameters(recipes, content):
    """Keep the output of the decoder's last layer, and what is computed from it, in float32."""
    model, schema = flatfile.parse(content)
    last = _last_weights(model, schema)
    for graph in model.subgraphs:
        names = [flatfile.text(tensor.name) for tensor in graph.tensors]
        reached = set()
        for operator in graph.operators:  # in the order of their computation
            outputs = {n for n in operator.outputs if re.search(_OF_NETWORKS, names[n])}
            scope = _scope(operator, names)
            if outputs and _weights(operator, graph, model, schema) in last:
                reached |= outputs
                for kind in _WITH_WEIGHTS:
                    recipes.add_dynamic_config(scope, _KINDS[kind], 8)
            elif outputs and reached & set(operator.inputs):
                reached |= outputs
                _leave(recipes, scope)


def _leave_missing(recipes, content):
    """Keep what is computed of missing values in float32, since no integer stands for NaN.

    That is all that x leads to, up to a choice of another value or what is no real number.
    """
    model, schema = flatfile.parse(content)
    kinds, real = schema.BuiltinOperator, schema.TensorType.FLOAT32
    chooses = {kinds.SELECT, kinds.SELECT_V2}
    for signature in model.signatureDefs:
        graph = model.subgraphs[signature.subgraphIndex]
        names = [flatfile.text(tensor.name) for tensor in graph.tensors]
        reached = {m.tensorIndex for m in signature.inputs if flatfile.text(m.name) == "image"}
        for operator in graph.operators:  # in the order of their computation
            if not reached.intersection(operator.inputs):
                continue
            _leave(recipes, _scope(operator, names))
            if model.operatorCodes[operator.opcodeIndex].builtinCode not in chooses:
                reached |= {n for n in operator.outputs if graph.tensors[n].type == real}


def _leave(recipes, scope):
    """Keep the operators of a scope as they are."""
    recipes.add_quantization_config(
        scope, _KINDS.ALL_SUPPORTED, algorithm_key=AlgorithmName.NO_QUANTIZE
    )


def _scope(operator, names):
    """Return the regular expression by which a recipe finds one operator."""
    return f"^{re.escape(';'.join(names[n] for n in operator.outputs))};?$"


def _granularity(kind):
    sizes = qtyping.QuantGranularity
    return sizes.TENSORWISE if kind == "FULLY_CONNECTED" else sizes.CHANNELWISE


def _add_static(recipes, bits, integer_io):
    kinds = (*_WITH_WEIGHTS, *_BETWEEN, *(("INPUT", "OUTPUT") if integer_io else ()))
    for kind in kinds:
        recipes.add_static_config(_OF_NETWORKS, _KINDS[kind], bits, 8, _granularity(kind))
    # The ranges of tables are known, so also in loops.
    recipes.add_static_config(".*", _KINDS.GATHER, bits, 8)


def _last_weights(model, schema):
    """Return the weights, as `_weights` does, that parameters of p(x|z) come from directly.

    They are found behind the output of a signature that is made of these parameters; a file that
    only encodes or draws has none. These weights belong to several operators if the last layer
    became several, as a transposed convolution may.
    """
    made_of_them = (b"parameters", b"decode", b"decode_codes")
    signatures = [s for s in model.signatureDefs if s.signatureKey in made_of_them]
    if not signatures:
        return set()
    signature = min(signatures, key=lambda s: made_of_them.index(s.signatureKey))
    graph = model.subgraphs[signature.subgraphIndex]
    makers = {output: operator for operator in graph.operators for output in operator.outputs}
    found, pending = set(), [signature.outputs[0].tensorIndex]
    while pending:  # back to where there are weights
        tensor = pending.pop()
        if tensor not in makers or graph.tensors[tensor].type != schema.TensorType.FLOAT32:
            continue
        weights = _weights(makers[tensor], graph, model, schema)
        if weights is None:
            pending.extend(makers[tensor].inputs)
        else:
            found.add(weights)
    return found


def _weights(operator, graph, model, schema):
    """Return the bytes of the weights of an operator, which identify it in every graph."""
    code = model.operatorCodes[operator.opcodeIndex].builtinCode
    if code not in {getattr(schema.BuiltinOperator, kind) for kind in _LAST}:
        return None
    data = model.buffers[graph.tensors[operator.inputs[1]].buffer].data
    return None if data is None else data.tobytes()


def _with_scopes(content):
    """Return the file with the name of a graph before those of its values."""
    model, _ = flatfile.parse(content)
    names = {s.subgraphIndex: flatfile.text(s.signatureKey) for s in model.signatureDefs}
    for number, graph in enumerate(model.subgraphs):
        scope = names.get(number, "sample")  # the only ones with loops
        for tensor in graph.tensors:
            tensor.name = f"{scope}/{flatfile.text(tensor.name)}"
    return flatfile.pack(model, keep_names=True)


def _ranges(content, recipes, examples):
    """Return the least and the greatest of all values over examples, in the quantizer's format."""
    watcher = calibrator.Calibrator.__new__(calibrator.Calibrator, content)
    # LiteRT's default delegate computes no output that nothing takes, and the quantizer looks at
    # every one: where images are decoded, the scales of a likelihood are such an output.
    watcher._create_interpreter = _without_delegate
    watcher.__init__(bytearray(content), num_threads=2, qsv_update_func=qsv_utils.min_max_update)
    watcher.calibrate(examples, recipes)
    ranges = watcher.get_model_qsvs() | _ranges_of_tables(content)
    for found in ranges.values():
        for key, towards in (("min", np.floor), ("max", np.ceil)):
            if found.get(key) is not None:
                found[key] = _outward(found[key], towards)
    return ranges


def _without_delegate(content, num_threads):
    return tfl_interpreter_utils.create_tfl_interpreter(
        content, use_xnnpack=False, num_threads=num_threads
    )


def _ranges_of_tables(content):
    """Return the ranges of values that are looked up in constant tables, in loops too."""
    model, schema = flatfile.parse(content)
    ranges = {}
    for graph in model.subgraphs:
        for operator in graph.operators:
            if (
                model.operatorCodes[operator.opcodeIndex].builtinCode
                != schema.BuiltinOperator.GATHER
            ):
                continue
            table, found = graph.tensors[operator.inputs[0]], graph.tensors[operator.outputs[0]]
            data = model.buffers[table.buffer].data
            if data is not None and table.type == schema.TensorType.FLOAT32:
                values = np.frombuffer(np.ascontiguousarray(data), np.float32)
                for tensor in (table, found):
                    ends = np.float32([values.min(), values.max()]).reshape(
                        2, *[1] * len(tensor.shape)
                    )
                    ranges[flatfile.text(tensor.name)] = {"min": ends[0], "max": ends[1]}
    return ranges


def _with_shapes_of(before, after):
    """Restore the free sizes of inputs and outputs, which the quantizer makes fixed."""
    old, new = flatfile.parse(before)[0], flatfile.parse(after)[0]
    for was, now in zip(old.signatureDefs, new.signatureDefs, strict=True):
        graphs = old.subgraphs[was.subgraphIndex], new.subgraphs[now.subgraphIndex]
        shapes = {m.name: graphs[0].tensors[m.tensorIndex] for m in (*was.inputs, *was.outputs)}
        for entry in (*now.inputs, *now.outputs):
            graphs[1].tensors[entry.tensorIndex].shapeSignature = shapes[entry.name].shapeSignature
    return flatfile.pack(new)


def _outward(values, towards):
    """Round the ends of a range to 8 bits.

    The graphs of one network, for any batch and for one, then have the same ranges in spite of
    rounding, and so the same constants, which the file holds once.
    """
    mantissa, exponent = np.frexp(values)
    return np.ldexp(towards(256 * mantissa) / 256, exponent).astype(np.float32)
