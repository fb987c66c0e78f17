"""Export to LiteRT (`.tflite`), with builtin operators only and a description inside."""

import re
import tempfile
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfvae.errors import ExportError, InvalidFile
from tfvae.export import signatures
from tfvae.export.contract import Signatures
from tfvae.export.parity import check_parity
from tfvae.files import atomic, update_report
from tfvae.ondevice import Decoder, operators
from tfvae.ondevice.flatfile import FORMAT_VERSION, embed
from tfvae.quiet import quiet_stderr


def litert(model, path: str | Path, x: np.ndarray | None = None, tolerance: float = 1e-4) -> dict:
    """Write a `.tflite` with the signatures of the model, and verify it.

    A `VAE` or `HierarchicalVAE` gets `decode`, `encode` and `sample`, a `VQVAE` or
    `HierarchicalVQVAE` `decode_codes`, `encode` and `sample`; see `LatentSignatures` and
    `CodeSignatures`. Any batch size; float32, and int32 codes. The file is loaded back into LiteRT
    and run against Keras before it appears at `path`; it carries its own description, so
    `tfvae.ondevice.Decoder` needs no other file. `report.json` beside it gets an entry of what is
    returned.

    A prior that LiteRT cannot draw from leaves the file without `sample`, and the reason in it.

    Args:
        model: trained, of any precision; it is exported in float32.
        path: file to write; what is there is replaced.
        x: held-out examples `[N, *x_shape]` to verify with; samples of the model if None.
        tolerance: see `tfvae.export.parity.check_parity`.

    Returns:
        `path`, `bytes`, what `check_parity` returns, `operators`, `left_out`, the reason for each
        signature that is not there, and `decode_latency_ms`, the median of a batch of 1 on one
        thread of this machine.

    Raises:
        InvalidArgument: the model is of no kind that can be exported, or is not built.
        ExportError: the model needs an operator that LiteRT does not have, or the written file
            does not reproduce the model.
        InvalidFile: there is a folder at `path`.
    """
    path = Path(path)
    if path.is_dir():
        raise InvalidFile(f"{path} is in the way: it is a folder. Choose another path.")
    offered = signatures.of(model, on_device=True)
    content = _convert(offered)
    content = embed(content, describe(offered))
    with quiet_stderr():
        decoder = Decoder(content, name=str(path))
        parity = check_parity(
            offered, lambda name, inputs: decoder.run(name, **inputs), x, tolerance, path
        )
    with atomic(path) as temporary:
        temporary.write_bytes(content)
    report = {
        "path": str(path),
        "bytes": len(content),
        **parity,
        "operators": operators(content),
        "left_out": offered.left_out,
        "decode_latency_ms": decoder.decode_latency(),
    }
    update_report(path.parent, "exports", {path.name: report})
    return report


def describe(offered: Signatures) -> dict:
    """Return what a decoder must know of the model and its signatures, as plain data."""
    model = offered.model
    likelihood = keras.saving.serialize_keras_object(model.likelihood)
    return {
        "format": FORMAT_VERSION,
        "tfvae_version": version("tfvae"),
        "model": type(model).__name__,
        **offered.shapes(),
        "image_shape": list(model.x_shape),
        "image_range": [0.0, 1.0] if model.likelihood.num_levels else None,
        "likelihood": {"name": likelihood["class_name"], **likelihood["config"]},
        "signatures": list(offered.functions),
        "left_out": offered.left_out,
    }


class _NotConverted(ExportError):
    """The converter refused; the message is what a sentence about the model goes on with."""


def _convert(offered: Signatures) -> bytes:
    """Return the `.tflite`, without `sample` if that is what keeps the model from LiteRT."""
    try:
        return _converted(offered)
    except _NotConverted as error:
        offered.leave_out("sample", f"the prior {error}")
    try:
        return _converted(offered)
    except _NotConverted as error:
        raise ExportError(
            f"The model cannot run on LiteRT: it {error}. Replace the layers that use it."
        ) from None


def _converted(offered):
    with tempfile.TemporaryDirectory() as folder, quiet_stderr():
        signatures.write_saved_model(offered, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=list(offered.functions)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            return converter.convert()
        except Exception as error:  # the converter's own class is private
            names = ", ".join(sorted(set(re.findall(r"\btf\.([A-Z]\w*)", str(error)))))
            if names:
                reason = f"needs {names}, which LiteRT does not have as a builtin operator"
            else:
                reason = f"does not convert: {str(error).strip().splitlines()[0]}"
            raise _NotConverted(reason) from None
