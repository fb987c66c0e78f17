"""The report of an exported `.tflite`: its content, its speed, and its loss by quantization."""

from pathlib import Path

import numpy as np

from tfvae._plain.files import atomic, read_report, update_report
from tfvae.export.quality import quality, reconstructions
from tfvae.images import is_picture, save_grid
from tfvae.models import GenerativeModel
from tfvae.ondevice import Decoder, benchmark, inspect

_QUALITY_EXAMPLES = 200
_COLUMNS = 16


def report(
    model: GenerativeModel,
    path: str | Path,
    x: np.ndarray,
    exported: dict | None = None,
    condition: np.ndarray | int | None = None,
) -> dict:
    """Measure a `.tflite`, and write a page about it with a picture beside it.

    `decoder.tflite` gets `decoder.md` and, if its images are grey or RGB, `decoder.png`; the
    returned values are added to its entry in `report.json`.

    Args:
        model: the model that the file was made from.
        path: of the file.
        x: test examples, `[N, *x_shape]`; the first 200 count.
        exported: what `tfvae.export.litert` returned; what `report.json` has of the file if None.
        condition: y of the examples, `[N, ...]`, or one for all, where the model has one.

    Returns:
        What `exported` has, `path`, `bytes` and `quantize`, and `quality` (see
        `tfvae.export.quality`; here log p is of the data that x stands for, in its own units, as
        `tfvae evaluate` measures it), `latency_ms`, `arena_bytes` and `failed` (see
        `tfvae.ondevice.benchmark`), and `signatures` and `weights` (see `tfvae.ondevice.inspect`).

    Raises:
        InvalidFile: the file cannot be read or run.
        InvalidArgument: a condition that is missing, or that is not wanted.
        InvalidData: examples that the model does not take, or conditions that do not fit.
    """
    path = Path(path)
    model.check_data(x, "x")
    y = model.condition_of_each(condition, len(x))
    x = np.asarray(x[:_QUALITY_EXAMPLES], np.float32)
    y = None if y is None else y[:_QUALITY_EXAMPLES]
    decoder = Decoder.from_file(path)
    info, timed = inspect(path), benchmark(path)
    if exported is None:
        exported = read_report(path.parent).get("exports", {}).get(path.name, {})
    values = {
        **exported,
        "path": str(path),
        "bytes": info.bytes,
        "quantize": decoder.description.get("quantize"),
        "quality": _in_units(quality(model, decoder, x, condition=y), model.log_jacobian(x)),
        **{k: v for k, v in timed.as_dict().items() if k != "bytes"},
        "signatures": info.as_dict()["signatures"],
        "weights": info.weights,
    }
    picture = None
    if is_picture(x.shape[1:]):
        picture = path.with_suffix(".png")
        _draw(model, decoder, x[:_COLUMNS], None if y is None else y[:_COLUMNS], picture)
    with atomic(path.with_suffix(".md")) as temporary:
        temporary.write_text(_page(path, info, timed, values, picture), encoding="utf-8")
    update_report(path.parent, "exports", {path.name: values})
    return values


def latency_rows(latency_ms: dict) -> list[list[str]]:
    """Return the rows of a table: signature, batch, threads, median and 95% in milliseconds."""
    return [
        [name, str(batch), str(threads), f"{cell.median:.3f}", f"{cell.p95:.3f}"]
        for name, batches in latency_ms.items()
        for batch, cells in batches.items()
        for threads, cell in cells.items()
    ]


def _in_units(found, log_jacobian):
    """Return what `quality` found of x with log p of the data; the change is that of both."""
    if log_jacobian is None:
        return found
    difference = float(log_jacobian.sum() / len(log_jacobian))
    return found | {"log_likelihood": found["log_likelihood"] + difference}


def _draw(model, decoder, x, y, path):
    """Draw test images, Keras's reconstructions, the file's, and ten times their difference."""
    own, keras = reconstructions(model, decoder, x, y)
    rows = np.concatenate([x, keras, own, 0.5 + 10 * (own - keras)])
    save_grid(rows, path, columns=len(x))


def _page(path, info, timed, values, picture):
    parts = [
        f"# {path.name}",
        _facts(info, values),
        "## What is lost\n\n" + _losses(values),
        "## Time\n\nMilliseconds of one call on this machine, inputs and outputs copied.\n\n"
        + _table(
            ["signature", "batch", "threads", "median", "95%"], latency_rows(timed.latency_ms)
        ),
        "## Memory\n\nBytes for the values of one call, beside the weights.\n\n"
        + _table(
            ["signature", "batch", "bytes"],
            [
                [name, str(batch), f"{size:,}"]
                for name, sizes in timed.arena_bytes.items()
                for batch, size in sizes.items()
            ],
        ),
        "## Signatures\n\n" + "\n".join(_signature_lines(info)),
    ]
    if picture is not None:
        parts.insert(
            3,
            f"![Test images and reconstructions]({picture.name})\n\n"
            "Row by row: test images, their reconstructions in Keras and from the file, and ten "
            "times the difference of the two around grey.",
        )
    return "\n\n".join(parts) + "\n"


def _facts(info, values):
    description = info.description or {}
    rows = [
        ["model", str(description.get("model"))],
        ["numbers", str(description.get("quantize"))],
        ["size", f"{info.bytes:,} bytes"],
        ["constants", ", ".join(f"{n:,} bytes {kind}" for kind, n in info.weights.items())],
        ["operators", ", ".join(f"{name} {n}" for name, n in info.operators.items())],
    ]
    if "max_abs_error" in values:
        rows += [
            ["largest error against Keras, all signatures", f"{values['max_abs_error']:.2g}"],
            ["mean error of decoded images", f"{values['mean_abs_error']:.2g}"],
            ["PSNR of decoded images against Keras", _decibels(values["psnr"])],
        ]
    left_out = description.get("left_out", {}).items()
    rows += [[f"without `{name}`", reason] for name, reason in left_out]
    rows += [[f"`{name}` failed", reason] for name, reason in values["failed"].items()]
    return _table(["", ""], rows)


def _losses(values):
    found = values["quality"]
    error = found["standard_error"]
    spread = "" if error is None else f" ± {error:.3f}"
    own, change = found["log_likelihood"], found["log_likelihood_change"]
    rows = [
        ["log p(x), nats", f"{own - change:.3f}", f"{own:.3f}", f"{change:+.4f}{spread}"],
        [
            "reconstruction error",
            f"{found['mse_keras']:.6f}",
            f"{found['mse']:.6f}",
            f"{found['mse'] - found['mse_keras']:+.6f}",
        ],
        [
            "reconstruction PSNR",
            _decibels(found["psnr_keras"]),
            _decibels(found["psnr"]),
            _decibels(found["psnr_change"], "+.2f"),
        ],
    ]
    table = _table(["", "Keras", "this file", "change"], rows)
    note = f"\n\nOf {found['num_examples']} test images."
    if "code_agreement" in found:
        note += f" {found['code_agreement']:.1%} of their codes are those of Keras."
    return table + note


def _decibels(value, form=".2f"):
    return "the same" if value is None else f"{value:{form}} dB"


def _signature_lines(info):
    for name, signature in info.signatures.items():
        inputs = "; ".join(map(str, signature.inputs))
        outputs = "; ".join(map(str, signature.outputs))
        yield f"- `{name}`: {inputs} → {outputs}"


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
