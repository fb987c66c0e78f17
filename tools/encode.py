"""`tfvae encode`: images, series or sound as a file of codes, or any examples without loss."""

from pathlib import Path

import click

from tfvae import paths
from tfvae._plain import files
from tfvae.errors import InvalidArgument
from tfvae.tools.common import (
    beside,
    check_there,
    condition_of,
    condition_option,
    finish,
    json_option,
    load_training_part,
    output_option,
    run_argument,
)


@click.command(short_help="Compress examples with a model.")
@run_argument
@click.argument("examples", metavar="[FILE]", type=click.Path(path_type=Path), required=False)
@click.option(
    "-n",
    "--num",
    type=click.IntRange(min=1),
    help="Number of examples, from the first on; default: all.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0.0, min_open=True),
    help="Steps of a series in a second, for the report of bits per second.",
)
@condition_option
@output_option("RUN/codes.npz")
@json_option
def encode(run, examples, num, rate, condition, output, as_json):
    """Write the examples in FILE with the model of a RUN (or a .keras file), entropy-coded.

    With a VQ-VAE they are written as codes, which is lossy; its prior decides the size. With a VAE
    of one layer and a likelihood of levels or counts ('bernoulli', 'categorical', 'poisson', ...)
    they are written by bits-back coding, which is lossless, in -ELBO/ln 2 bits each.

    FILE is a folder of images in the order of their names, an .npy or .npz file of one array, or,
    of a VQ-VAE of series, a .wav file; by default it is the test split of RUN. It is read as RUN
    reads its data: resized or binarized if that is. The way back is `tfvae decode RUN --codes
    FILE`. A model with a condition takes that of the test split from RUN, and that of FILE from
    --condition.
    """
    condition = condition_of(condition)
    paths.check_model(run)
    if examples is None and not run.is_dir():
        raise InvalidArgument(
            f"{run} is a model without a run, hence without data. Name the FILE to encode."
        )
    check_there(examples)
    output = output or beside(run, "codes.npz")
    files.check_writable(output)
    if examples is not None and examples.suffix.lower() == ".wav":
        if num is not None or rate is not None:
            option = "-n" if rate is None else "--rate"
            raise InvalidArgument(
                f"{examples} is a sound, encoded as a whole at its own rate: no {option}."
            )
        values = _encode_sound(run, examples, condition, output)
    else:
        values = _encode(run, examples, num, rate, condition, output)
    finish(values, as_json, _lines(values))


def _encode_sound(run, path, condition, output):
    from tfvae import sound

    given = sound.read(path)  # before TensorFlow, which takes seconds
    load_training_part()
    from tfvae import codec
    from tfvae.runs import open_model

    model, _ = open_model(run)
    compressed = codec.compress_sound(model, given, output, condition, progress=True)
    x = codec.windows_for(model, given)
    return _values(model, x, compressed, output)


def _encode(run, examples, num, rate, condition, output):
    load_training_part()
    from tfvae import codec
    from tfvae.models import CodeModel
    from tfvae.runs import load_data, open_model, scores

    model, config = open_model(run)
    lossless = not isinstance(model, CodeModel)
    if rate is not None and lossless:
        raise InvalidArgument(
            f"--rate is of codes, and a {type(model).__name__} writes examples without loss. Leave "
            "it out."
        )
    if rate is not None and len(model.x_shape) != 2:
        raise InvalidArgument("--rate is of series, and the model is one of images. Leave it out.")
    if examples is None:
        split = load_data(config, model).test
    else:
        split = scores.read_as_run(examples, config, model)
    x, of_split = split.numpy(0, num), split.conditions_of(model, 0, num)
    if condition is not None and of_split is not None:
        raise InvalidArgument(
            "The examples have conditions of their own, and --condition gives others; expected one "
            "of the two. Leave it out, or encode a file without conditions."
        )
    condition = of_split if condition is None else condition
    if lossless:
        compressed = codec.compress_lossless(model, x, output, condition, progress=True)
        return {"path": str(output), **compressed.summary()}
    compressed = codec.compress(model, x, output, condition, progress=True)
    values = _values(model, x, compressed, output)
    return (
        values if rate is None else values | {"bits_per_second": compressed.bits_per_second(rate)}
    )


def _values(model, x, compressed, output):
    from tfvae import codec, outputs

    values = {"path": str(output), **compressed.summary()}
    if len(model.x_shape) not in (2, 3):  # no measure of what else examples are
        return values
    decoded = codec.decode(model, compressed.codes, compressed.condition)
    both = (outputs.in_units(part, model) for part in (x, decoded))
    return {**values, **codec.quality(*both)}


def _lines(values):
    """Return what to print of a file of codes, or of one without loss."""
    if "elbo_bits" in values:
        return _lines_of_lossless(values)
    sites = {"images": "pixel", "series": "step", "examples": "example"}
    count, what, site = next(
        (values[f"num_{w}"], w, site) for w, site in sites.items() if f"num_{w}" in values
    )
    rows = {
        "size": f"{values['bytes']:,} bytes, {values[f'bits_per_{site}']:.4f} bits/{site}",
        "prior": f"{values['prior_bits']:,.0f} bits, coded in {8 * values['stream_bytes']:,}",
    }
    if "bits_per_second" in values:
        rows["rate"] = f"{values['bits_per_second']:,.0f} bits/s"
    for key in ("psnr", "snr"):
        if key in values:
            rows[key.upper()] = "exact" if values[key] is None else f"{values[key]:.2f} dB"
    if "ssim" in values:
        rows["SSIM"] = f"{values['ssim']:.4f}"
    if "seconds" in values:
        head = f"{values['seconds']:.2f} s of sound in {values['path']}"
    else:
        head = f"{count} {what} in {values['path']}"
    return [head, *(f"{name:<16}{value}" for name, value in rows.items())]


def _lines_of_lossless(values):
    count, what = next((n, key[4:]) for key, n in values.items() if key.startswith("num_"))
    net, elbo = values["net_bits"], values["elbo_bits"]
    rows = {
        "size": f"{values['bytes']:,} bytes, {values['bits_per_dim']:.4f} bits/dim, without loss",
        "net": f"{net:,} bits, {net / count:.2f} each; -ELBO is {elbo / count:.2f} bits each",
        "initial": f"{values['initial_bits']:,} bits more, to start the first examples with",
    }
    head = f"{count} {what} in {values['path']}"
    return [head, *(f"{name:<16}{value}" for name, value in rows.items())]
