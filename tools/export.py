"""`tfvae export`: a SavedModel or a LiteRT file, verified against Keras."""

import click

from tfvae.tools.common import finish, json_option, load_training_part, output_option, run_argument

_DEFAULT_NAMES = {"tflite": "decoder.tflite", "saved_model": "saved_model"}


@click.command()
@run_argument
@click.option(
    "--format",
    "format_name",
    type=click.Choice(list(_DEFAULT_NAMES)),
    default="tflite",
    show_default=True,
)
@output_option("RUN/decoder.tflite or RUN/saved_model")
@click.option(
    "--tolerance", type=float, default=1e-4, show_default=True, help="Allowed error against Keras."
)
@json_option
def export(run, format_name, output, tolerance, as_json):
    """Export a RUN (or a .keras file) with the signatures decode, encode and sample.

    A model with codes has decode_codes in place of decode. The file is loaded back and run against
    Keras on test images before it appears. Writes an entry into report.json beside it.
    """
    load_training_part()
    from tfvae import export as library
    from tfvae.runs import held_out_examples, open_model

    model, config = open_model(run)
    output = output or (run if run.is_dir() else run.parent) / _DEFAULT_NAMES[format_name]
    write = library.litert if format_name == "tflite" else library.saved_model
    values = write(model, output, held_out_examples(config), tolerance)
    finish(values, as_json, _lines(values))


def _lines(values):
    lines = [
        f"{values['path']}: {values['bytes']:,} bytes, "
        f"largest error against Keras {values['max_abs_error']:.2g}"
    ]
    if values.get("code_flips"):
        lines.append(f"codes decided by rounding: {values['code_flips']}")
    left_out = values.get("left_out", {}).items()
    return lines + [f"without {name}: {reason}" for name, reason in left_out]
