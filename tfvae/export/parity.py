"""Proof that an exported file computes what Keras computes."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfvae.errors import ExportError
from tfvae.export.contract import SINGLE, Signatures


def check_parity(
    signatures: Signatures, run: Callable, x: np.ndarray | None, tolerance: float, path
) -> dict:
    """Run every signature of an export on held-out inputs and compare with Keras.

    Images, latents and moments may differ by the tolerance. Codes are integers and must be equal,
    but for rounding, which decides between two codes that are as good as equal:

    - in `encode`, vectors that have the other code too once they are moved by the tolerance (see
      `code_ties`);
    - in `sample`, one draw in fifty. The images of such draws are not compared: after its first
      other code a draw goes on as another one.

    Args:
        signatures: of what was exported.
        run: (signature, inputs) → outputs by name, from the exported file.
        x: held-out examples, or None to use samples.
        tolerance: allowed error, absolute for values up to 1 and relative beyond.
        path: of the export, for the message.

    Returns:
        `errors`, the largest absolute error of each signature, `max_abs_error`, the largest of all,
        and, where there are codes, `code_flips`, how many were decided by rounding.

    Raises:
        ExportError: an output differs by more, with the figures.
    """
    errors, flips = {}, []
    inputs = signatures.inputs(x)
    for name, function in signatures.functions.items():
        expected = _in_keras(function, inputs[name])
        actual = run(name, inputs[name])
        rows = slice(None)
        if "codes" in expected:
            found = signatures.agreement(
                name.removesuffix(SINGLE), inputs[name], expected, actual, tolerance
            )
            if found.problem is not None:
                problem = f"in signature {name!r}, {found.problem}"
                raise _not_reproduced(path, problem, "Report the model's layers.")
            flips.append(found.flips)
            rows = found.rows
        floats = {key: value for key, value in expected.items() if key != "codes"}
        errors[name] = max(
            (
                _error(path, name, key, actual[key][rows], value[rows], tolerance)
                for key, value in floats.items()
            ),
            default=0.0,
        )
    report = {"max_abs_error": max(errors.values()), "errors": errors}
    return {**report, "code_flips": sum(flips)} if flips else report


def _in_keras(function, inputs):
    """Return the outputs of a signature by name, as arrays."""
    # Eagerly: the graph is what was exported.
    function = function.python_function
    outputs = function(**{key: tf.constant(value) for key, value in inputs.items()})
    return {key: value.numpy() for key, value in outputs.items()}


def _error(path, signature, output, actual, expected, tolerance):
    """Return the largest error of an output, if it is small enough."""
    error = float(np.max(np.abs(actual - expected)))
    limit = tolerance * max(1.0, float(np.abs(expected).max()))
    if not error <= limit:  # also when it is not a number
        raise _not_reproduced(
            path,
            f"output {output!r} of signature {signature!r} differs from Keras by {error:.3g}; "
            f"expected at most {limit:.3g}",
            "Report the model's layers, or raise the tolerance if an error of this size is "
            "acceptable.",
        )
    return error


def _not_reproduced(path, problem, advice):
    return ExportError(
        f"{path} does not reproduce the model: {problem}. Nothing was kept. {advice}"
    )
