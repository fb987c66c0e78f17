"""Export of a decoder or an encoder to ONNX, by Keras's own exporter."""

import tempfile
from pathlib import Path

import keras
import numpy as np

from tfvae._plain.files import atomic, check_writable, read_report, update_report
from tfvae._plain.quiet import quiet
from tfvae.errors import ExportError, MissingDependency, unknown_name
from tfvae.export import signatures
from tfvae.export.contract import checked_condition
from tfvae.export.parity import check_parity
from tfvae.models import GenerativeModel

# Noise is made of integer operators that the exporter does not know.
_LEFT_OUT = ("sample",)


def onnx(
    model: GenerativeModel,
    path: str | Path,
    x: np.ndarray | None = None,
    *,
    condition: np.ndarray | int | None = None,
    signature: str | None = None,
    tolerance: float = 1e-4,
) -> dict:
    """Write one signature of the model as an ONNX file, and verify it with ONNX Runtime.

    An ONNX file holds one function: by default the one that decodes. Its inputs and outputs have
    the names of `tfvae.export.litert`, and any batch size. There is no `sample`.

    Args:
        model: trained, of any precision; it is exported in float32.
        path: file to write; what is there is replaced.
        x: held-out examples `[N, *x_shape]` to verify with; samples of the model if None.
        condition: y of x, labels `[N]` or vectors `[N, C]` or one for all, of a model with a
            condition; if None, labels in turn, or vectors that differ.
        signature: "decode" or "decode_codes", "encode" or "parameters".
        tolerance: the largest error of an output against Keras, absolute up to 1 and relative
            beyond. Codes must be equal but where rounding decides between two that are as good.

    Returns:
        `path`, `bytes`, `signature`, and the errors against Keras (`errors` by signature,
        `max_abs_error`, `mean_abs_error`, `psnr`, `code_flips`).

    Raises:
        InvalidArgument: a model that cannot be exported, or a signature that it has not; a
            condition that is not wanted, or without x.
        InvalidData: examples that the model does not take, or conditions that do not fit.
        ExportError: the exporter does not know an operator, or the written file does not reproduce
            the model.
        InvalidFile: there is a folder at `path`.
        MissingDependency: `tf2onnx` or `onnxruntime` is not installed.
    """
    path = Path(path)
    check_writable(path)
    read_report(path.parent)
    runtime = _runtime()
    offered = signatures.of(model)
    y = checked_condition(model, x, condition)
    names = [name for name in offered.functions if name not in _LEFT_OUT]
    signature = names[0] if signature is None else signature
    if signature not in names:
        raise unknown_name("signature of an ONNX file", signature, names)
    for other in set(offered.functions) - {signature}:
        offered.leave_out(other, "an ONNX file holds one function")
    content = _written(offered, signature)
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]

    def run(_, inputs):
        return dict(zip(outputs, session.run(None, inputs), strict=True))

    parity = check_parity(offered, run, x, tolerance, path, y)
    with atomic(path) as temporary:
        temporary.write_bytes(content)
    report = {"path": str(path), "bytes": len(content), "signature": signature, **parity}
    update_report(path.parent, "exports", {path.name: report})
    return report


class _Network(keras.Model):
    """A function of tensors as a model, which is what Keras exports."""

    def __init__(self, model, function):
        super().__init__(name="network")
        self.model = model  # so that its weights are found
        self.function = function
        self.built = True

    def call(self, *inputs):
        return self.function(*inputs)


def _written(offered, signature):
    function = offered.functions[signature]
    network = _Network(offered.model, function.python_function)
    specs = [
        keras.InputSpec(shape=spec.shape, dtype=spec.dtype.name, name=spec.name)
        for spec in function.input_signature
    ]
    with tempfile.TemporaryDirectory() as folder, quiet():
        file = Path(folder) / "model.onnx"
        try:
            network.export(file, format="onnx", verbose=False, input_signature=specs)
        except ImportError as error:
            raise _missing(error) from error
        except Exception as error:  # tf2onnx raises many kinds
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ExportError(
                f"The signature {signature!r} cannot be written as ONNX: {reason}. Replace the "
                "layers that use it, or export to LiteRT."
            ) from None
        return file.read_bytes()


def _runtime():
    try:
        import onnxruntime
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise _missing(error) from error
    return onnxruntime


def _missing(error):
    return MissingDependency(
        f"Export to ONNX needs the package {error.name!r}, which is not installed: "
        "pip install 'tfvae[onnx]'."
    )
