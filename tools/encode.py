"""`tfvae encode`: images as a file of codes."""

from pathlib import Path

import click

from tfvae import files, paths
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.tools.common import (
    condition_of,
    condition_option,
    finish,
    json_option,
    load_training_part,
    output_option,
    run_argument,
)


@click.command()
@run_argument
@click.argument("images", type=click.Path(path_type=Path), required=False)
@click.option("-n", "--num", type=click.IntRange(min=1), help="Images, from the first; or all.")
@condition_option
@output_option("RUN/codes.npz")
@json_option
def encode(run, images, num, condition, output, as_json):
    """Write IMAGES as codes of a RUN (or a .keras file), entropy-coded with its prior.

    The model is a VQ-VAE. IMAGES is a folder of images in the order of their names, or an .npy or
    .npz file of one array; by default it is the test split of RUN. The way back is
    `tfvae decode RUN --codes FILE`. A model with a condition takes that of the test split from RUN,
    and that of IMAGES from --condition.
    """
    condition = condition_of(condition)
    paths.check_model(run)
    if images is None and not run.is_dir():
        raise InvalidArgument(
            f"{run} is a model without a run, hence without data. Name the IMAGES to encode."
        )
    if images is not None and not images.exists():
        raise InvalidData(f"There is no file or folder {images}.")
    output = output or (run if run.is_dir() else run.parent) / "codes.npz"
    files.check_writable(output)
    load_training_part()
    from tfvae import codec, data
    from tfvae.config import DataConfig
    from tfvae.runs import load_data, open_model

    model, config = open_model(run)
    if images is None:
        split = load_data(config).test
    else:  # read as the run read its own
        own = DataConfig() if config is None else config.data
        split = data.read_examples(
            images, own.layout, own.resize, own.crop, own.memory_gb, own.kind
        )
    x = split.numpy(0, num)
    if condition is None:
        condition = split.conditions_of(model, 0, num)
    compressed = codec.compress(model, x, output, condition, progress=True)
    values = {
        "path": str(output),
        **compressed.summary(),
        **codec.quality(x, codec.decode(model, compressed.codes, compressed.condition)),
    }
    finish(values, as_json, _lines(values))


def _lines(values):
    psnr = "exact" if values["psnr"] is None else f"{values['psnr']:.2f} dB"
    rows = {
        "size": f"{values['bytes']:,} bytes, {values['bits_per_pixel']:.4f} bits/pixel",
        "prior": f"{values['prior_bits']:,.0f} bits, coded in {8 * values['stream_bytes']:,}",
        "PSNR": psnr,
        "SSIM": f"{values['ssim']:.4f}",
    }
    head = f"{values['num_images']} images in {values['path']}"
    return [head, *(f"{name:<16}{value}" for name, value in rows.items())]
