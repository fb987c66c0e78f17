"""`tfvae export`: a file for LiteRT, C, TensorFlow or ONNX, verified against Keras."""

import tempfile
from pathlib import Path

import click

from tfvae import paths
from tfvae._plain import files
from tfvae.errors import InvalidArgument, TfvaeError
from tfvae.tools.common import (
    check_no_use,
    finish,
    json_option,
    load_training_part,
    output_option,
    run_argument,
)

_ENDINGS = {"tflite": ".tflite", "c-header": ".h", "saved_model": "", "onnx": ".onnx"}
_QUANTIZATIONS = ("none", "float16", "dynamic", "int8", "int16x8", "int4")


@click.command(short_help="Write a decoder for devices.")
@run_argument
@click.option(
    "--format",
    "format_name",
    type=click.Choice(list(_ENDINGS)),
    default="tflite",
    show_default=True,
)
@click.option(
    "--quantize",
    type=click.Choice(_QUANTIZATIONS),
    default="none",
    show_default=True,
    help="Quantization of a tflite or c-header.",
)
@click.option(
    "--calibration",
    type=click.IntRange(min=1),
    default=500,
    show_default=True,
    help="Training images that set the ranges of int8 and int16x8.",
)
@click.option(
    "--io",
    type=click.Choice(["float", "integer"]),
    default="float",
    show_default=True,
    help="Type of the inputs and outputs of int8 and int16x8.",
)
@click.option(
    "--signature",
    "signatures",
    multiple=True,
    help="A function that the export is to have, such as decode; may be given several times. "
    "Default: all, and in an ONNX file, which holds one, that which decodes.",
)
@output_option("RUN/decoder.tflite, RUN/decoder-int8.tflite, RUN/saved_model, ...")
@click.option(
    "--tolerance", type=float, default=1e-4, show_default=True, help="Allowed error against Keras."
)
@click.option(
    "--report/--no-report",
    default=None,
    help="Measure a tflite, and write RUN/decoder.md with a picture.  [default: report, of a "
    "tflite with all functions]",
)
@json_option
def export(
    run, format_name, quantize, calibration, io, signatures, output, tolerance, report, as_json
):
    """Export a RUN (or a .keras file) with the signatures decode, encode, sample, parameters.

    A model with codes has decode_codes in place of decode. The file is loaded back and run against
    Keras on test images before it appears. Writes an entry into report.json beside it.
    """
    _check(format_name, quantize, signatures, io, report)
    paths.check_model(run)
    output = output or _default_output(run, format_name, quantize, signatures)
    if format_name == "saved_model":
        files.check_writable_folder(output.parent, output)
    else:
        files.check_writable(output)
    files.read_report(output.parent)
    load_training_part()
    from tfvae import export as library
    from tfvae.runs import open_model
    from tfvae.runs.evaluate import export_examples

    model, config = open_model(run)
    (x, y), training = export_examples(config, 200, calibration, model)
    options = {"condition": y, "tolerance": tolerance, "signatures": signatures or None}
    if format_name == "saved_model":
        values = library.saved_model(model, output, x, **options)
    elif format_name == "onnx":
        (options["signature"],) = options.pop("signatures") or [None]
        values = library.onnx(model, output, x, **options)
    else:
        options |= {"quantize": quantize, "integer_io": io == "integer"}
        options |= {"calibration": training[0], "calibration_condition": training[1]}
        if format_name == "c-header":
            values = _write_header(library, model, output, x, options)
        else:
            values = library.litert(model, output, x, **options)
            if report or (report is None and not signatures):
                values = _report(library, model, output, x, y, values)
    finish(values, as_json, _lines(values))


def _check(format_name, quantize, signatures, io, report):
    if quantize != "none" and format_name not in ("tflite", "c-header"):
        raise InvalidArgument(
            f"--quantize is for the formats tflite and c-header; {format_name} holds float32."
        )
    if len(signatures) > 1 and format_name == "onnx":
        raise InvalidArgument(
            f"An ONNX file holds one function; got {', '.join(signatures)}. Write a file for each."
        )
    if report and signatures:
        raise InvalidArgument(
            "The report measures all functions of a file, and --signature chooses some. Leave out "
            "one of the two."
        )
    if quantize not in ("int8", "int16x8"):
        check_no_use(("calibration",), "sets the ranges of int8 and int16x8 alone")
    if quantize != "none":
        check_no_use(("tolerance",), f"is for files of float32, not {quantize}")
    if io == "integer" and format_name not in ("tflite", "c-header"):
        check_no_use(("io",), f"is for the formats tflite and c-header, not {format_name}")
    if report and format_name != "tflite":
        check_no_use(("report",), f"is of a tflite, and not of the format {format_name}")


def _default_output(run, format_name, quantize, signatures):
    """Return where an export is written: that of some signatures beside that of all of them."""
    folder = run if run.is_dir() else run.parent
    chosen = "-".join(dict.fromkeys(signatures))
    if format_name == "saved_model":
        return folder / (chosen or "saved_model")
    if format_name == "onnx":  # of one signature, whichever it is
        stem = {"encode": "encoder", "parameters": "parameters"}.get(chosen, "decoder")
    else:
        stem = chosen or "decoder"
    return folder / f"{stem}{'' if quantize == 'none' else f'-{quantize}'}{_ENDINGS[format_name]}"


def _report(library, model, output, x, y, values):
    if x is None or (y is None and model.condition is not None):  # of the model's own images
        y = None if model.condition is None else model.condition.example(64).numpy()
        x = model.sample(64, condition=y).numpy()
    return library.report(model, output, x, values, y)


def _write_header(library, model, output, x, options):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "decoder.tflite"
        try:
            values = library.litert(model, file, x, **options)
        except TfvaeError as error:  # of the header, which is what was asked for
            raise type(error)(str(error).replace(str(file), str(output))) from None
        library.c_header(file, output)
    values = {**values, "path": str(output)}
    files.update_report(output.parent, "exports", {output.name: values})
    return values


def _lines(values):
    lines = [
        f"{values['path']}: {values['bytes']:,} bytes, "
        f"largest error against Keras {values['max_abs_error']:.2g}"
    ]
    if values.get("code_flips"):
        lines.append(f"codes that are others than in Keras: {values['code_flips']}")
    if "quality" in values:
        lines += _quality_lines(values)
    left_out = values.get("left_out", {}).items()
    return lines + [f"without {name}: {reason}" for name, reason in left_out]


def _quality_lines(values):
    found = values["quality"]
    change = found["psnr_change"]
    yield f"log p(x) {found['log_likelihood']:.3f} nats, {found['log_likelihood_change']:+.4f}"
    yield "reconstruction PSNR " + ("the same" if change is None else f"{change:+.2f} dB")
    yield f"decode latency {values['decode_latency_ms']:.3f} ms (batch 1, one thread)"
    yield f"report in {Path(values['path']).with_suffix('.md')}"
