"""Comparison of an exported file with Keras."""

from collections.abc import Callable

import numpy as np

from tfvae.errors import ExportError
from tfvae.export.contract import SINGLE, Agreement, Signatures

# The least PSNR in dB of the images of a quantized export against those of Keras.
LOWEST_PSNR = 20.0
_ONE_ROW_IN = 50  # may differ in a value that rounding decides on


def check_parity(
    signatures: Signatures,
    run: Callable,
    x: np.ndarray | None,
    tolerance: float | None,
    path,
    y: np.ndarray | None = None,
) -> dict:
    """Run every signature of an export on held-out inputs and compare with Keras.

    Images, latents and moments may differ by the tolerance. Codes are integers and must be equal,
    except where rounding decides between two codes that are nearly equally good:

    - in `encode`, for vectors that have the other code too once they are moved by the tolerance
      (see `code_ties`);
    - in `sample`, in one draw of fifty. The images of such draws are not compared, since all codes
      after the first difference differ.

    Categories and counts of a table must be equal too, except in one row of fifty.

    Args:
        signatures: of what was exported.
        run: (signature, inputs) → outputs by name, from the exported file.
        x: held-out examples, or None to use samples.
        tolerance: allowed error, absolute for values up to 1 and relative beyond. None for a
            quantized export: its loss is measured, and it is refused only if the PSNR of the
            images of `decode` is below 20 dB.
        path: of the export, for the message.
        y: conditions of x, `[N, ...]`; None for labels in turn, or vectors that differ.

    Returns:
        `errors`, the largest absolute error of each signature, `max_abs_error`, the largest of all,
        where images are decoded `mean_abs_error` and `psnr` of these (in dB; None if they are the
        same), and, where there are codes, `code_flips`, how many differ from those of Keras.

    Raises:
        ExportError: an output differs by more, with the figures.
    """
    errors, flips, images, decides = {}, [], None, signatures.model.likelihood.draws_values
    inputs = signatures.inputs(x, y)
    for name in signatures.functions:
        expected = signatures.in_keras(name, inputs[name])
        actual = run(name, inputs[name])
        rows = slice(None)
        if "codes" in expected:
            found = _agreement(signatures, name, inputs[name], expected, actual, tolerance)
            if found.problem is not None:
                problem = f"in signature {name!r}, {found.problem}"
                raise _not_reproduced(path, problem, "Report the model's layers.")
            flips.append(found.flips)
            rows = found.rows
        elif decides and tolerance is not None and "image" in expected:
            rows = _decided_alike(actual["image"], expected["image"], tolerance)
        floats = {key: value for key, value in expected.items() if key != "codes"}
        errors[name] = max(
            (
                _error(path, name, key, actual[key][rows], value[rows], tolerance)
                for key, value in floats.items()
            ),
            default=0.0,
        )
        if name in ("decode", "decode_codes"):
            images = actual["image"], expected["image"]
    report = {"max_abs_error": max(errors.values()), "errors": errors}
    if images is not None:
        report |= _image_errors(*images)
    quality = report.get("psnr")
    if tolerance is None and quality is not None and quality < LOWEST_PSNR:
        raise _not_reproduced(
            path,
            f"its images have a PSNR of {quality:.1f} dB against those of Keras; expected "
            f"at least {LOWEST_PSNR:.0f}",
            "Use a quantization of more bits, or more examples to calibrate with.",
        )
    return {**report, "code_flips": sum(flips)} if flips else report


def psnr(mean_squared_error: float, peak: float = 1.0) -> float | None:
    """Return the peak signal-to-noise ratio in dB; None if there is no error."""
    if mean_squared_error == 0:
        return None
    return float(10 * np.log10(peak**2 / mean_squared_error))


def _image_errors(actual, expected):
    """Return mean absolute error and PSNR; the peak is 1, or the range of images beyond [0, 1]."""
    difference = actual.astype(np.float64) - expected
    peak = max(1.0, float(np.ptp(expected)))
    return {
        "mean_abs_error": float(np.mean(np.abs(difference))),
        "psnr": psnr(np.mean(difference**2), peak),
    }


def _agreement(signatures, name, inputs, expected, actual, tolerance):
    if tolerance is not None:
        batched = name.removesuffix(SINGLE)
        return signatures.agreement(batched, inputs, expected, actual, tolerance)
    same = expected["codes"] == actual["codes"]
    return Agreement(np.all(same, axis=tuple(range(1, same.ndim))), int(np.sum(~same)))


def _decided_alike(actual, expected, tolerance):
    """Return the rows to compare: all but the few in which rounding led to another value."""
    size = tuple(range(1, expected.ndim))
    limit = tolerance * max(1.0, float(np.abs(expected).max(initial=0.0)))
    same = np.all(np.abs(actual - expected) <= limit, axis=size)
    return same if np.sum(~same) <= max(1, len(same) // _ONE_ROW_IN) else slice(None)


def _error(path, signature, output, actual, expected, tolerance):
    """Return the largest error of an output, if it is small enough."""
    error = float(np.max(np.abs(actual - expected), initial=0.0))
    limit = np.inf
    if tolerance is not None:
        limit = tolerance * max(1.0, float(np.abs(expected).max(initial=0.0)))
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
