"""Export to TensorFlow's SavedModel."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfvae._plain.files import atomic, check_writable_folder, read_report, update_report
from tfvae.errors import InvalidFile
from tfvae.export.contract import checked_condition
from tfvae.export.parity import check_parity
from tfvae.export.signatures import of, write_saved_model
from tfvae.models import GenerativeModel


def saved_model(
    model: GenerativeModel,
    path: str | Path,
    x: np.ndarray | None = None,
    *,
    condition: np.ndarray | int | None = None,
    signatures: Collection[str] | None = None,
    tolerance: float = 1e-4,
) -> dict:
    """Write a SavedModel with the signatures of the model, and verify it.

    The signatures are those of `tfvae.export.litert`, the first one being the default too. The
    SavedModel works with `tf.saved_model.load` alone, without tfvae or Keras. The returned values
    are also written to `report.json` beside it.

    Args:
        model: trained, of any precision; it is exported in float32.
        path: folder to write; a SavedModel that is there is replaced.
        x: held-out examples `[N, *x_shape]` to verify with; samples of the model if None.
        condition: y of x, labels `[N]` or vectors `[N, C]` or one for all, of a model with a
            condition; if None, labels in turn, or vectors that differ.
        signatures: the names of those that the SavedModel is to have; all if None.
        tolerance: the largest error of an output against Keras, absolute up to 1 and relative
            beyond. Codes must be equal but where rounding decides between two that are as good.

    Returns:
        `path`, `bytes`, the errors against Keras (`errors` by signature, `max_abs_error`,
        `mean_abs_error`, `psnr`, `code_flips`), and `left_out`, the reason for each signature that
        is not there.

    Raises:
        InvalidArgument: the model is of no kind that can be exported, or is not built; no such
            signature; a condition that is not wanted, or without x.
        InvalidData: examples that the model does not take, or conditions that do not fit.
        ExportError: the written model does not reproduce the Keras one.
        InvalidFile: there is something else at `path`.
    """
    path = Path(path)
    if path.exists() and not (path / "saved_model.pb").is_file():
        raise InvalidFile(f"{path} is in the way: it is not a SavedModel. Choose another path.")
    check_writable_folder(path.parent, path)
    read_report(path.parent)
    offered = of(model, names=signatures)
    y = checked_condition(model, x, condition)
    with atomic(path) as temporary:
        write_saved_model(offered, temporary)
        loaded = tf.saved_model.load(str(temporary))

        def run(name, inputs):
            tensors = {key: tf.constant(value) for key, value in inputs.items()}
            return {k: v.numpy() for k, v in loaded.signatures[name](**tensors).items()}

        parity = check_parity(offered, run, x, tolerance, path, y)
        size = sum(file.stat().st_size for file in temporary.rglob("*") if file.is_file())
    report = {"path": str(path), "bytes": size, **parity, "left_out": offered.left_out}
    update_report(path.parent, "exports", {path.name: report})
    return report
