"""Checks whether a `.tflite` can run in a browser."""

from tfvae.errors import InvalidFile
from tfvae.ondevice import inspect, read_description

_TYPES = ("float32", "int32")  # of the tensors that LiteRT's JavaScript passes


def check(content: bytes, name: str = "the model") -> dict:
    """Return the description of a `.tflite`, after checking that a browser can run it.

    Args:
        content: the bytes of the file.
        name: what to call it in messages.

    Raises:
        InvalidFile: it is foreign or damaged, has no signatures for a batch of one, or has inputs
            or outputs of a type that a browser cannot pass.
    """
    description = read_description(content, name)
    signatures = inspect(content).signatures
    decode = "decode_codes_1" if "code_shape" in description else "decode_1"
    if decode not in signatures:
        raise InvalidFile(
            f"{name} has no signature {decode!r}: in a browser, LiteRT runs only signatures of "
            "fixed sizes, which this version of tfvae writes. Export it again: tfvae export RUN."
        )
    for signature, info in signatures.items():
        for tensor in (*info.inputs, *info.outputs):
            if tensor.dtype not in _TYPES:
                raise InvalidFile(
                    f"{name} has {tensor.dtype} numbers in {tensor.name!r} of {signature!r}; in a "
                    f"browser, LiteRT passes only {' and '.join(_TYPES)}. Export it again with "
                    "inputs and outputs that are floats; the weights may be integers."
                )
    return description


def conditioned(content: bytes) -> list[str]:
    """Return the signatures for any batch that take a condition."""
    return [
        signature
        for signature, info in inspect(content).signatures.items()
        if not signature.endswith("_1") and any(t.name == "condition" for t in info.inputs)
    ]
