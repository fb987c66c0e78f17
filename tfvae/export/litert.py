"""Export to LiteRT (`.tflite`), with builtin operators only and a description inside."""

import tempfile
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfvae._plain.files import atomic, check_writable, read_report, update_report
from tfvae._plain.quiet import quiet_stderr
from tfvae.errors import (
    ExportError,
    InvalidArgument,
    InvalidFile,
    MissingDependency,
    unknown_name,
)
from tfvae.export.contract import SINGLE, Signatures, checked_condition
from tfvae.export.culprits import is_of_prior, layers_in, operators_in, remedy
from tfvae.export.half import halved
from tfvae.export.parity import check_parity
from tfvae.export.signatures import of, write_saved_model
from tfvae.models import GenerativeModel
from tfvae.ondevice import Decoder, operators
from tfvae.ondevice.flatfile import FORMAT_VERSION, embed

QUANTIZATIONS = ("none", "float16", "dynamic", "int8", "int16x8", "int4")
_CALIBRATED = ("int8", "int16x8")


def litert(
    model: GenerativeModel,
    path: str | Path,
    x: np.ndarray | None = None,
    *,
    condition: np.ndarray | int | None = None,
    signatures: Collection[str] | None = None,
    tolerance: float = 1e-4,
    quantize: str = "none",
    calibration: np.ndarray | None = None,
    calibration_condition: np.ndarray | int | None = None,
    integer_io: bool = False,
) -> dict:
    """Write a `.tflite` with the signatures of the model, and verify it.

    A `VAE`, `HierarchicalVAE` or `LadderVAE` gets `decode`, `encode`, `sample` and `parameters`, a
    `VQVAE` or `HierarchicalVQVAE` `decode_codes` in place of `decode`. They take any batch size;
    each but `parameters` has a second version, with "_1" at the end of its name, for a batch of
    one. The file is loaded back into LiteRT and compared with Keras before it appears at `path`; it
    contains its own description, so `tfvae.ondevice.Decoder` needs no other file. The returned
    values are also written to `report.json` beside it.

    If LiteRT cannot draw from the prior, the file has no `sample`, and its description says why.

    A device that decodes and nothing else needs `signatures=["decode"]`: the file is then without
    the weights of the encoder.

    Args:
        model: trained, of any precision; what is not quantized is exported in float32.
        path: file to write; what is there is replaced.
        x: held-out examples `[N, *x_shape]` to verify with; samples of the model if None.
        condition: y of x, labels `[N]` or vectors `[N, C]` or one for all, of a model with a
            condition; if None, labels in turn, or vectors that differ.
        signatures: the names of those that the file is to have; all if None.
        tolerance: the largest error of an output against Keras, absolute up to 1 and relative
            beyond. Codes must be equal but where rounding decides between two that are as good.
            Of a quantized file it is not used: such a file is refused if the images that it decodes
            have a PSNR below 20 dB against those of Keras. A file without a signature that decodes
            is not checked in this way.
        quantize: "none"; "float16", weights of half the size; "dynamic", weights of 8 bits, or
            "int4" of 4 bits (OCTAV), with values between layers in float32; "int8" or "int16x8",
            weights of 8 bits and values between layers of 8 or 16 bits.
        calibration: training examples `[N, *x_shape]` whose values set the ranges of "int8" and
            "int16x8"; samples of the model if None. Half of what is decoded for it is drawn from
            q(z|x) of these, the other half from the prior.
        calibration_condition: y of `calibration`, likewise. "int8" and "int16x8" of a model whose
            condition is a vector need both, since no others have the ranges of these vectors.
        integer_io: whether "int8" and "int16x8" take and return integers in place of real numbers.

    Returns:
        `path`, `bytes`, `quantize`, the errors against Keras (`errors` by signature,
        `max_abs_error`, `mean_abs_error`, `psnr`, `code_flips`), `operators`, `left_out`, the
        reason for each signature that is not there, and `decode_latency_ms`, the median of a batch
        of 1 on one thread of this machine, where the file decodes.

    Raises:
        InvalidArgument: the model is of no kind that can be exported, or is not built; no such
            signature or quantization, or "int8" or "int16x8" of `sample` alone; integers in and out
            of one that has none; a condition that is missing, not wanted, or without its examples.
        InvalidData: examples that the model does not take, or conditions that do not fit.
        ExportError: the model needs an operator that LiteRT does not have, the quantizer does not
            take it, or the written file does not reproduce the model.
        InvalidFile: there is a folder at `path`.
    """
    path = Path(path)
    check_writable(path)
    read_report(path.parent)
    _check_options(quantize, integer_io)
    offered = of(model, on_device=True, names=signatures)
    if integer_io and offered.takes_missing():
        raise InvalidArgument(
            "The model takes missing values, NaN, which no integer stands for. Leave real numbers "
            "in and out: `integer_io=False`, or --io float."
        )
    y = checked_condition(model, x, condition)
    names = "calibration", "calibration_condition"
    calibration_y = checked_condition(model, calibration, calibration_condition, names)
    if quantize in _CALIBRATED:
        _check_ranges_of_condition(model, calibration_y)
        _check_has_ranges(offered, quantize)
    content = _convert(offered)
    if quantize == "float16":
        content = halved(content)
    elif quantize != "none":
        is_calibrated = quantize in _CALIBRATED
        examples = offered.calibration(calibration, calibration_y) if is_calibrated else {}
        kind = offered.searches(), offered.mixes_parameters(), offered.takes_missing()
        content = _quantizer()(content, quantize, examples, *kind, integer_io)
    content = embed(content, {**describe(offered), "quantize": quantize})
    with quiet_stderr():
        decoder = Decoder(content, str(path))
        allowed = tolerance if quantize == "none" else None
        parity = check_parity(offered, _runner(decoder, path), x, allowed, path, y)
    with atomic(path) as temporary:
        temporary.write_bytes(content)
    report = {
        "path": str(path),
        "bytes": len(content),
        "quantize": quantize,
        **parity,
        "operators": operators(content),
        "left_out": offered.left_out,
    }
    if offered.decodes():
        report["decode_latency_ms"] = decoder.decode_latency()
    update_report(path.parent, "exports", {path.name: report})
    return report


def describe(offered: Signatures) -> dict:
    """Return the description of the model and its signatures for a decoder, as plain data."""
    model = offered.model
    # The output of a decoder is complete, even if its training data had missing values.
    likelihood = keras.saving.serialize_keras_object(model.likelihood.complete())
    return {
        "format": FORMAT_VERSION,
        "tfvae_version": version("tfvae"),
        "model": type(model).__name__,
        **offered.shapes(),
        "image_shape": list(model.x_shape),
        **_units(model),
        **({"takes_missing": True} if offered.takes_missing() else {}),
        "image_range": [0.0, 1.0] if model.likelihood.num_levels else None,
        "likelihood": {"name": likelihood["class_name"], **likelihood["config"]},
        "signatures": list(offered.functions),
        "left_out": offered.left_out,
    }


def _units(model):
    """Return the schema or standardization that relates x to the data, as plain data."""
    parts = {"schema": model.schema, "standardization": model.standardization}
    found = {name: part.get_config() for name, part in parts.items() if part is not None}
    return found | ({"num_tokens": model.num_tokens} if model.num_tokens else {})


def _check_options(quantize, integer_io):
    if quantize not in QUANTIZATIONS:
        raise unknown_name("quantization", quantize, QUANTIZATIONS)
    if integer_io and quantize not in _CALIBRATED:
        raise InvalidArgument(
            f"Integers in and out go with the quantizations {' and '.join(_CALIBRATED)}, whose "
            f"ranges are known; got {quantize!r}."
        )
    if quantize not in ("none", "float16"):
        _quantizer()


def _check_ranges_of_condition(model, y):
    """Refuse to set ranges without the vectors that a model is conditioned on."""
    if model.condition is None or model.condition.num_classes or y is not None:
        return
    raise InvalidArgument(
        f"The model has a condition, {model.condition}, whose range has to be that of training "
        "examples. Give these with `calibration=` and theirs with `calibration_condition=`: on the "
        "command line, export a run whose data is there."
    )


def _check_has_ranges(offered, quantize):
    """Refuse to calibrate a file that samples and nothing else."""
    if {name.removesuffix(SINGLE) for name in offered.functions} == {"sample"}:
        raise InvalidArgument(
            f"{quantize!r} sets the ranges of the values between layers, and leaves `sample` as "
            "'dynamic' does. Use quantize='dynamic', or --quantize dynamic, for a file of `sample` "
            "alone, or let it have another signature."
        )


def _quantizer():
    """Return the function that quantizes the content of a file."""
    try:
        from tfvae.export.quantization import quantize  # takes seconds to import
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"Quantization needs the package {error.name!r}, which is not installed. Install tfvae "
            "with its training part: pip install 'tfvae[train]'."
        ) from error
    return quantize


def _runner(decoder, path):
    """Return the function that runs a signature of a file; its error says that none was kept."""

    def run(name, inputs):
        try:
            return decoder.run(name, **inputs)
        except InvalidFile as error:
            raise ExportError(
                f"{path} was not kept: LiteRT cannot run its signature {name!r}. {error}"
            ) from None

    return run


class _NotConverted(ExportError):
    """An error of the converter, whose message completes a sentence that begins with the model.

    Args:
        reason: the message.
        remedy: what to do.
        is_of_prior: whether only `sample` may need what the converter refused.
    """

    def __init__(self, reason: str, remedy: str, is_of_prior: bool):
        super().__init__(reason)
        self.remedy, self.is_of_prior = remedy, is_of_prior


def _convert(offered: Signatures) -> bytes:
    """Return the `.tflite`, without `sample` if only that cannot be converted."""
    try:
        return _converted(offered)
    except _NotConverted as error:
        if "sample" not in offered.functions or not error.is_of_prior:
            raise _refused(error) from None
        offered.leave_out("sample", f"the prior {error}")
        if not offered.functions:
            raise _refused(error) from None
    try:
        return _converted(offered)
    except _NotConverted as error:
        raise _refused(error) from None


def _refused(error):
    return ExportError(f"The model cannot run on LiteRT: it {error}. {error.remedy}")


def _converted(offered):
    with tempfile.TemporaryDirectory() as folder, quiet_stderr():
        write_saved_model(offered, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=list(offered.functions)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.exclude_conversion_metadata = True  # written in a second pass over the file
        try:
            return converter.convert()
        except Exception as error:  # the converter's own class is private
            message = str(error)
            names = operators_in(message)
            if names:
                needed = ", ".join(names)
                reason = f"needs {needed}, which LiteRT does not have as a builtin operator"
            else:
                reason = f"does not convert: {message.strip().splitlines()[0]}"
            advice = remedy(names, layers_in(message, offered.model))
            raise _NotConverted(reason, advice, is_of_prior(message)) from None
