"""Proof that an exported file computes what Keras computes."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfvae.errors import ExportError
from tfvae.export import signatures


def check_parity(
    model, run: Callable, x: np.ndarray | None, tolerance: float, path
) -> dict[str, float]:
    """Run every signature of an export on held-out inputs and compare with Keras.

    Args:
        model: what was exported, computing in float32.
        run: (signature, inputs) → outputs by name, from the exported file.
        x: held-out examples, or None to use samples.
        tolerance: allowed error, absolute for values up to 1 and relative beyond.
        path: of the export, for the message.

    Returns:
        The largest absolute error of each signature.

    Raises:
        ExportError: an output is beyond the tolerance, with the figures.
    """
    errors = {}
    inputs = signatures.example_inputs(model, x)
    for name, (function, _) in signatures.functions(model).items():
        expected = function(**{key: tf.constant(value) for key, value in inputs[name].items()})
        actual = run(name, inputs[name])
        errors[name] = 0.0
        for output, value in expected.items():
            value = value.numpy()
            error = np.max(np.abs(actual[output] - value))
            errors[name] = max(errors[name], float(error))
            limit = tolerance * max(1.0, float(np.abs(value).max()))
            if not error <= limit:  # also when it is not a number
                raise ExportError(
                    f"{path} does not reproduce the model: output {output!r} of signature "
                    f"{name!r} differs from Keras by {error:.3g}; expected at most {limit:.3g}. "
                    "Nothing was kept. Report the model's layers, or raise the tolerance if "
                    "an error of this size is acceptable."
                )
    return errors
