"""`tfvae export`: a file for LiteRT, C, TensorFlow or ONNX, verified against Keras."""

import tempfile
from pathlib import Path

import click

from tfvae import paths
from tfvae._plain import files
from tfvae.errors import InvalidArgument
from tfvae.tools.common import finish, json_option, load_training_part, output_option, run_argument

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
@click.option("--signature", help="The function in an ONNX file; default: the one that decodes.")
@output_option("RUN/decoder.tflite, RUN/decoder-int8.tflite, RUN/saved_model, ...")
@click.option(
    "--tolerance", type=float, default=1e-4, show_default=True, help="Allowed error against Keras."
)
@click.option(
    "--report/--no-report",
    default=True,
    show_default=True,
    help="Measure a tflite, and write RUN/decoder.md with a picture.",
)
@json_option
def export(
    run, format_name, quantize, calibration, io, signature, output, tolerance, report, as_json
):
    """Export a RUN (or a .keras file) with the signatures decode, encode, sample, parameters.

    A model with codes has decode_codes in place of decode. The file is loaded back and run against
    Keras on test images before it appears. Writes an entry into report.json beside it.
    """
    _check(format_name, quantize, signature)
    paths.check_model(run)
    output = output or _default_output(run, format_name, quantize, signature)
    files.check_writable_folder(output.parent, output)
    files.read_report(output.parent)
    load_training_part()
    from tfvae import export as library
    from tfvae.runs import open_model
    from tfvae.runs.evaluate import export_examples

    model, config = open_model(run)
    test, training, y = export_examples(config, 200, calibration, model)
    if format_name == "saved_model":
        values = library.saved_model(model, output, test, tolerance)
    elif format_name == "onnx":
        values = library.onnx(model, output, test, tolerance, signature)
    else:
        options = (test, tolerance, quantize, training, io == "integer")
        if format_name == "c-header":
            values = _write_header(library, model, output, options)
        else:
            values = _write_tflite(library, model, output, options, y, report)
    finish(values, as_json, _lines(values))


def _check(format_name, quantize, signature):
    if quantize != "none" and format_name not in ("tflite", "c-header"):
        raise InvalidArgument(
            f"--quantize is for the formats tflite and c-header; {format_name} holds float32."
        )
    if signature is not None and format_name != "onnx":
        raise InvalidArgument(
            f"--signature chooses the function of an ONNX file; {format_name} holds them all."
        )


def _default_output(run, format_name, quantize, signature):
    folder = run if run.is_dir() else run.parent
    if format_name == "saved_model":
        return folder / "saved_model"
    stem = "encoder" if signature == "encode" else "decoder"
    return folder / f"{stem}{'' if quantize == 'none' else f'-{quantize}'}{_ENDINGS[format_name]}"


def _write_tflite(library, model, output, options, y, report):
    values = library.litert(model, output, *options)
    if not report:
        return values
    x = options[0]
    if model.condition is None:
        y = None
    if x is None or (y is None and model.condition is not None):  # of the model's own images
        y = None if model.condition is None else model.condition.example(64).numpy()
        x = model.sample(64, condition=y).numpy()
    return library.report(model, output, x, values, y)


def _write_header(library, model, output, options):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "decoder.tflite"
        values = library.litert(model, file, *options)
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
