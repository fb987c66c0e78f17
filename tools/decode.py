"""`tfvae decode`: images from a `.tflite`, with LiteRT and NumPy alone."""

from pathlib import Path

import click

from tfvae.errors import InvalidArgument, InvalidData
from tfvae.tools.common import finish, image_lines, json_option, seed_option


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--sample", "num", type=click.IntRange(min=1), help="Draw this many images.")
@click.option("--latents", type=click.Path(path_type=Path), help="Decode the latents in an .npy.")
@seed_option
@click.option("--temperature", type=float, default=1.0, show_default=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default="samples.png",
    show_default=True,
    help="One picture, or an .npy of all images.",
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@json_option
def decode(model, num, latents, seed, temperature, output, threads, as_json):
    """Decode with MODEL, a .tflite file of `tfvae export` (or the run that holds it).

    Needs no TensorFlow: pip install 'tfvae[decode]'.
    """
    if (num is None) == (latents is None):
        raise InvalidArgument("Give either --sample N or --latents FILE.npy.")
    from tfvae.images import save
    from tfvae.ondevice import Decoder
    from tfvae.quiet import quiet_stderr

    with quiet_stderr():
        path = model / "decoder.tflite" if model.is_dir() else model
        decoder = Decoder.from_file(path, threads)
        z = None if latents is None else _read_latents(latents)
        images = decoder.decode(z) if num is None else decoder.sample(num, seed, temperature)
    save(images, output)
    values = {"path": str(output), "num_images": len(images)}
    finish(values, as_json, image_lines(values))


def _read_latents(path):
    import numpy as np

    try:
        return np.load(path, allow_pickle=False)
    except Exception as error:  # NumPy and zipfile raise many kinds on a damaged file
        raise InvalidData(f"{path} cannot be read as an .npy array: {error}") from None
