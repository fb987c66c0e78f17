"""Weights of a `.tflite` in float16, for half the size of the file; it computes in float32."""

import numpy as np

from tfvae.ondevice import flatfile

_FEWEST_VALUES = 16
# The operators that take weights, biases and tables. Other constants are few and stay float32; they
# include the numbers that make the noise, so that samples of a seed stay the same.
_TAKERS = (
    "BATCH_MATMUL",
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "EMBEDDING_LOOKUP",
    "FULLY_CONNECTED",
    "GATHER",
    "TRANSPOSE_CONV",
)
_LARGEST = float(np.finfo(np.float16).max)


def halved(content: bytes) -> bytes:
    """Return the file with its float32 weights in float16, and DEQUANTIZE behind each.

    Values beyond ±65504 become these. LiteRT turns the weights back once, when it starts.
    """
    model, schema = flatfile.parse(content)
    dequantize = _operator_code(model, schema)
    halves = {}
    for graph in model.subgraphs:
        for number in _weights(graph, model, schema):
            tensor = graph.tensors[number]
            if tensor.buffer not in halves:
                halves[tensor.buffer] = _add_buffer(model, schema, tensor.buffer)
            graph.tensors.append(_half_of(tensor, halves[tensor.buffer], schema))
            tensor.buffer = 0
            operator = schema.OperatorT()
            operator.opcodeIndex = dequantize
            operator.inputs = np.int32([len(graph.tensors) - 1])
            operator.outputs = np.int32([number])
            graph.operators.insert(0, operator)
    left = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    for number in set(halves) - left:
        model.buffers[number].data = None
    return flatfile.pack(model)


def _weights(graph, model, schema):
    """Return the numbers of the constants that only operators with weights take."""
    takers = {getattr(schema.BuiltinOperator, name) for name in _TAKERS}
    taken, elsewhere = set(), set(graph.outputs)
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex].builtinCode
        (taken if code in takers else elsewhere).update(operator.inputs)
    return sorted(n for n in taken - elsewhere - {-1} if _is_large(graph.tensors[n], model, schema))


def _is_large(tensor, model, schema):
    data = model.buffers[tensor.buffer].data
    is_float = tensor.type == schema.TensorType.FLOAT32
    return data is not None and is_float and len(data) >= 4 * _FEWEST_VALUES


def _operator_code(model, schema):
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = 3  # the one that takes float16
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _add_buffer(model, schema, number):
    values = np.frombuffer(np.ascontiguousarray(model.buffers[number].data), np.float32)
    buffer = schema.BufferT()
    buffer.data = values.clip(-_LARGEST, _LARGEST).astype(np.float16).view(np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def _half_of(tensor, buffer, schema):
    half = schema.TensorT()
    half.shape, half.type, half.buffer = tensor.shape, schema.TensorType.FLOAT16, buffer
    half.hasRank = tensor.hasRank
    return half
