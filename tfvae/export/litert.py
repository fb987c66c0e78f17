"""Export to LiteRT (`.tflite`), with builtin operators only and a description inside."""

import json
import re
import tempfile
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfvae.errors import ExportError, InvalidFile
from tfvae.export import signatures
from tfvae.export.parity import check_parity
from tfvae.files import atomic, update_report
from tfvae.ondevice import FILE_IDENTIFIER, METADATA_NAME, Decoder, operators
from tfvae.quiet import quiet_stderr

FORMAT_VERSION = 1


def litert(model, path: str | Path, x: np.ndarray | None = None, tolerance: float = 1e-4) -> dict:
    """Write a `.tflite` with the signatures `decode`, `encode` and `sample`, and verify it.

    Any batch size, float32. The file is loaded back into LiteRT and run against Keras before it
    appears at `path`; it carries its own description, so `tfvae.ondevice.Decoder` needs no other
    file. `report.json` beside it gets an entry of what is returned.

    Args:
        model: a trained `VAE`, of any precision; it is exported in float32.
        path: file to write; what is there is replaced.
        x: held-out examples `[N, *x_shape]` to verify with; samples of the model if None.
        tolerance: see `tfvae.export.parity.check_parity`.

    Returns:
        `path`, `bytes`, `max_abs_error`, `errors` by signature, `operators`, and
        `decode_latency_ms`, the median of a batch of 1 on one thread of this machine.

    Raises:
        ExportError: the model needs an operator that LiteRT does not have, or the written file
            does not reproduce the model.
        InvalidFile: there is a folder at `path`.
    """
    path = Path(path)
    if path.is_dir():
        raise InvalidFile(f"{path} is in the way: it is a folder. Choose another path.")
    model = signatures.float32_copy(model)
    content = _embed(_convert(model), describe(model))
    with quiet_stderr():
        decoder = Decoder(content, name=str(path))
        errors = check_parity(
            model, lambda name, inputs: decoder.run(name, **inputs), x, tolerance, path
        )
    with atomic(path) as temporary:
        temporary.write_bytes(content)
    report = {
        "path": str(path),
        "bytes": len(content),
        "max_abs_error": max(errors.values()),
        "errors": errors,
        "operators": operators(content),
        "decode_latency_ms": decoder.decode_latency(),
    }
    update_report(path.parent, "exports", {path.name: report})
    return report


def describe(model) -> dict:
    """Return what a decoder must know of the model, as plain data."""
    likelihood = keras.saving.serialize_keras_object(model.likelihood)
    return {
        "format": FORMAT_VERSION,
        "tfvae_version": version("tfvae"),
        "model": type(model).__name__,
        "latent_shape": list(model.latent_shape),
        "image_shape": list(model.x_shape),
        "image_range": [0.0, 1.0] if model.likelihood.num_levels else None,
        "likelihood": {"name": likelihood["class_name"], **likelihood["config"]},
        "signatures": list(signatures.NAMES),
    }


def _convert(model) -> bytes:
    with tempfile.TemporaryDirectory() as folder, quiet_stderr():
        signatures.write_saved_model(model, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=list(signatures.NAMES)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            return converter.convert()
        except Exception as error:  # the converter's own class is private
            found = re.findall(r"\btf\.([A-Z]\w*)", str(error))
            names = ", ".join(sorted(set(found))) or str(error).strip().splitlines()[0]
            raise ExportError(
                f"The model cannot run on LiteRT: it needs {names}, which LiteRT does not have "
                "as a builtin operator. Replace the layers that use it."
            ) from None


def _embed(content: bytes, description: dict) -> bytes:
    """Return the file with `description` as JSON in a metadata entry of its own."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(json.dumps(description).encode(), np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name = METADATA_NAME.decode()
    entry.buffer = len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(len(content) + 4096)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())
