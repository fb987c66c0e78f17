"""`tfvae encode`: images as a file of codes."""

from pathlib import Path

import click

from tfvae.errors import InvalidArgument
from tfvae.tools.common import finish, json_option, load_training_part, output_option, run_argument


@click.command()
@run_argument
@click.argument("images", type=click.Path(path_type=Path), required=False)
@click.option("-n", "--num", type=click.IntRange(min=1), help="Images, from the first; or all.")
@output_option("RUN/codes.npz")
@json_option
def encode(run, images, num, output, as_json):
    """Write IMAGES as codes of a RUN (or a .keras file), entropy-coded with its prior.

    The model is a VQ-VAE. IMAGES is a folder of images in the order of their names, or an .npy or
    .npz file of one array; by default it is the test split of RUN. The way back is
    `tfvae decode RUN --codes FILE`.
    """
    load_training_part()
    from tfvae import codec
    from tfvae.runs import load_data, open_model

    model, config = open_model(run)
    if images is None and config is None:
        raise InvalidArgument(
            f"{run} is a model without a run, hence without data. Name the IMAGES to encode."
        )
    x = (load_data(config).test if images is None else _read(images)).numpy(0, num)
    output = output or (run if run.is_dir() else run.parent) / "codes.npz"
    compressed = codec.compress(model, x, output, progress=True)
    values = {
        "path": str(output),
        **compressed.summary(),
        **codec.quality(x, codec.decode(model, compressed.codes)),
    }
    finish(values, as_json, _lines(values))


def _read(path):
    """Return all images at a path, none of them split off."""
    from tfvae.data import Images, local

    if path.is_dir():
        pixels = local._read_folder(path)
    else:
        pixels = local._as_images(_read_array(path), str(path))
    return Images(pixels, local.stored_maximum(pixels))


def _read_array(path):
    import numpy as np

    from tfvae.errors import InvalidData

    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        arrays = {key: loaded[key] for key in loaded.files}
    except FileNotFoundError:
        raise InvalidData(f"There is no file or folder {path}.") from None
    except Exception as error:  # NumPy, zipfile and zlib raise many kinds on a damaged file
        raise InvalidData(
            f"{path} cannot be read as an array: {error}. Expected a folder of images, or an .npy "
            "or .npz file of one array."
        ) from None
    if len(arrays) != 1:
        raise InvalidData(
            f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}; expected one array of images."
        )
    return next(iter(arrays.values()))


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
