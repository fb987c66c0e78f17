"""Rate and distortion of a VQ-VAE as a codec, beside JPEG and WebP.

    python benchmarks/rate_distortion.py run runs/vq-mnist
    python benchmarks/rate_distortion.py table

`run` takes the run of a VQ-VAE of images with a fitted prior, compresses the first test images with
it, and with JPEG and WebP at several qualities. It writes benchmarks/results/rate-distortion.json
and two pictures for the data of the run; other data keeps its figures. `table` writes what the file
holds into docs/results.md, between two marks; with `--check` it fails where the page holds anything
else.

Files of single small images consist mostly of their header. Every codec is therefore measured in
two ways:

- many: all images in one file. JPEG and WebP get a sheet of them, without gaps.
- alone: every image in a file of its own. Of JPEG and WebP the size of a black image of the same
  quality is subtracted, which is the header and, in their favour, also the few bits that say that
  every block is black. Of a VQ-VAE it is the stream of codes without the header, in
  whole words of 32 bits.
"""

import functools
import io
import json
import math
from pathlib import Path

import matplotlib
import numpy as np
import quality
from PIL import Image

from tfvae.images import grid, save_grid

matplotlib.use("Agg")
from matplotlib import pyplot as plt

MARKS = "<!-- Written by benchmarks/rate_distortion.py table: -->\n", "<!-- Up to here. -->\n"
FILE, FIGURES = "rate-distortion.json", Path(__file__).parents[1] / "docs" / "images"
QUALITIES = (1, 5, 10, 20, 30, 50, 70, 90)
SIDE, ALONE = 50, 200  # images in a row of the sheet, and how many the VQ-VAE compresses alone
SHOWN, TICKS = 16, (0.2, 0.3, 0.5, 1, 2, 3, 5)  # images in a row of the picture, bits per pixel


def jpeg(picture, level, small=False) -> bytes:
    """Return a JPEG file. Its tables of codes are the usual ones, unless it is to be `small`."""
    if not small:
        return _saved(picture, "JPEG", quality=level)
    files = [
        _saved(picture, "JPEG", quality=level, optimize=True, progressive=progressive)
        for progressive in (False, True)
    ]
    return min(files, key=len)


def webp(picture, level, small=False) -> bytes:
    """Return a lossy WebP file."""
    return _saved(picture, "WEBP", quality=level, method=6)


CODECS = {"JPEG": jpeg, "WebP": webp}


def _saved(picture, name, **options):
    file = io.BytesIO()
    Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture).save(
        file, name, **options
    )
    return file.getvalue()


def opened(content, channels) -> np.ndarray:
    """Return the picture in a file, `[H, W, C]`."""
    with Image.open(io.BytesIO(content)) as image:
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def sheet(images) -> np.ndarray:
    """Return `[N, H, W, C]` images uint8 as one picture of N^½ × N^½ of them."""
    return grid(images / 255, math.isqrt(len(images)), gap=0)


def cut(picture, shape) -> np.ndarray:
    """Return the images of a sheet; `shape` is that of one."""
    height, width, channels = shape
    side = len(picture) // height
    rows = picture.reshape(side, height, side, width, channels).transpose(0, 2, 1, 3, 4)
    return rows.reshape(-1, *shape)


def many(encode, images, level):
    """Return bits per pixel of one file of all images, and the images in it."""
    content = encode(sheet(images), level, small=True)
    decoded = cut(opened(content, images.shape[-1]), images.shape[1:])
    return 8 * len(content) / _pixels(images), decoded


def alone(encode, images, level):
    """Return bits per pixel of a file for each image, less that of a black one, and the images."""
    files = [encode(image, level) for image in images]
    black = len(encode(np.zeros_like(images[0]), level))
    size = sum(map(len, files)) - black * len(images)
    return 8 * size / _pixels(images), np.stack([opened(f, images.shape[-1]) for f in files])


def _pixels(images):
    return math.prod(images.shape[:3])


def compared(images, bits, decoded) -> dict:
    """Return a point: bits per pixel, and how near decoded images are."""
    from tfvae.codec import quality as nearness

    return {"bits": bits} | nearness(images / 255, decoded / 255)


def of_model(model, images):
    """Return the figures of a VQ-VAE, and the images that it decodes, `[N, H, W, C]` uint8."""
    from tfvae import codec

    x = (images / 255).astype(np.float32)
    compressed = codec.compress(model, x)
    decoded = np.rint(255 * np.clip(codec.decode(model, compressed.codes), 0, 1)).astype(np.uint8)
    singles = [codec.compress(model, one[np.newaxis]) for one in x[:ALONE]]
    single = sum(part.stream_bytes for part in singles)
    point = functools.partial(compared, images, decoded=decoded)
    uniform = math.prod(model.code_shape) * math.log2(model.codebook_size)
    values = {
        "many": point(compressed.bits_per_pixel),
        "alone": point(8 * single / _pixels(images[:ALONE])),
        "uniform": point(uniform / _pixels(images[:1])),
    }
    return values, decoded


def measure(model, images):
    """Return the figures of all codecs, and what they decode: {name: (level, images)}."""
    values, decoded = of_model(model, images)
    values = {"num_images": len(images), "VQ-VAE": values}
    shown = {"VQ-VAE": (None, decoded)}
    for name, encode in CODECS.items():
        values[name], best = [], math.inf
        for level in QUALITIES:
            ways = {}
            for way in (many, alone):
                bits, found = way(encode, images, level)
                ways[way.__name__] = compared(images, bits, found)
            values[name].append({"quality": level} | ways)
            away = abs(ways["alone"]["bits"] - values["VQ-VAE"]["alone"]["bits"])
            if away < best:  # the level at which it takes about as much as the VQ-VAE
                best, shown[name] = away, (level, found)
    return values, shown


def run(arguments):
    """Measure runs, draw, and write the results."""
    from tfvae import runs
    from tfvae._plain.files import write_json

    path = quality.RESULTS / FILE
    results = json.loads(path.read_text()) if path.is_file() else {}
    for folder in arguments.runs:
        directory = runs.RunDirectory(folder)
        config, model = directory.read_config(), directory.load_model()
        images = np.rint(255 * runs.load_data(config).test.numpy(0, SIDE**2)).astype(np.uint8)
        values, shown = measure(model, images)
        name = config.data.name
        results[name] = about(config, model) | values
        draw(values, FIGURES / f"rate-distortion-{name}.png")
        show(images, shown, FIGURES / f"rate-distortion-{name}-images.png")
    write_json(path, results)


def about(config, model) -> dict:
    """Return what the page says of a model and its training."""
    return {
        "recipe": config.name,
        "epochs": config.training.epochs,
        "prior": config.code_prior.name,
        "prior_options": config.code_prior.options,
        "prior_epochs": config.code_prior.epochs,
        "parameters": model.count_params(),
    }


def draw(values, path):
    """Draw PSNR over bits per pixel."""
    figure, axis = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for name, colour in zip(CODECS, ("tab:orange", "tab:green"), strict=True):
        for way, line, label in (("many", "-", "one file"), ("alone", "--", "a file for each")):
            points = [(row[way]["bits"], row[way]["psnr"]) for row in values[name]]
            axis.plot(*zip(*points, strict=True), line, marker=".", color=colour,
                      label=f"{name}, {label}")  # fmt: skip
    model = values["VQ-VAE"]
    labels = {"many": "with its prior, one file", "alone": "with its prior, a file for each",
              "uniform": "its codes as they are"}  # fmt: skip
    for (way, label), marker in zip(labels.items(), "*od", strict=True):
        axis.plot(model[way]["bits"], model[way]["psnr"], marker, color="tab:blue",
                  markersize=9, label=f"VQ-VAE, {label}", linestyle="none")  # fmt: skip
    axis.set(xscale="log", xlabel="bits per pixel", ylabel="PSNR, dB")
    axis.set_xticks(TICKS, map(str, TICKS))
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=100)
    plt.close(figure)
    with Image.open(path) as image:
        few = image.convert("RGB").quantize(64)
    few.save(path, optimize=True)


def show(images, shown, path):
    """Draw images, and under each what the codecs make of it."""
    rows = [images, *(found for _, found in shown.values())]
    save_grid(np.concatenate([row[:SHOWN] for row in rows]) / 255, path, SHOWN)
    with Image.open(path) as image:
        few = image.convert("RGB").quantize(128)
    few.save(path, optimize=True)


def bits_at(rows, way, psnr) -> float | None:
    """Return the bits per pixel at which a codec has this PSNR, between two of its qualities.

    None where it lies outside of them.
    """
    points = sorted((row[way]["psnr"], row[way]["bits"]) for row in rows)
    levels, bits = np.transpose(points)
    if not levels[0] <= psnr <= levels[-1]:
        return None
    return float(np.exp(np.interp(psnr, levels, np.log(bits))))


def table() -> str:
    """Return the tables of all data, in Markdown."""
    results = json.loads((quality.RESULTS / FILE).read_text())
    return "\n".join(line for name, values in results.items() for line in of_data(name, values))


def of_data(name, values):
    """Return the lines about one data set."""
    model = values["VQ-VAE"]
    options = ", ".join(f"{key} = {value}" for key, value in values["prior_options"].items())
    lines = [
        f"`{name}`, {values['num_images']:,} test images; epochs of `{values['recipe']}`: "
        f"{values['epochs']}; of its prior, a `{values['prior']}`"
        f"{f' ({options})' if options else ''}: {values['prior_epochs']}; "
        f"{values['parameters']:,} weights in all.",
        "",
        "| codec | many: bits/pixel | PSNR | SSIM | alone: bits/pixel | PSNR | SSIM |",
        "|---|---|---|---|---|---|---|",
        f"| VQ-VAE with its prior | {_cells(model['many'])} | {_cells(model['alone'])} |",
        f"| VQ-VAE, codes as they are | {_cells(model['uniform'])} | {_cells(model['uniform'])} |",
    ]
    for codec in CODECS:
        for row in values[codec]:
            cells = f"{_cells(row['many'])} | {_cells(row['alone'])}"
            lines.append(f"| {codec}, quality {row['quality']} | {cells} |")
    said = [
        f"- {codec}, {way}: {_beside(values[codec], way, model[way])}"
        for codec in CODECS
        for way in ("many", "alone")
    ]
    return [*lines, "", "For the PSNR of the VQ-VAE the others take, interpolated:", "", *said, ""]


def _cells(point):
    return f"{point['bits']:.3f} | {point['psnr']:.2f} | {point['ssim']:.3f}"


def _beside(rows, way, model):
    """Say how many bits a codec takes for the PSNR of the VQ-VAE."""
    bits = bits_at(rows, way, model["psnr"])
    if bits is not None:
        return f"{bits:.3f} bits/pixel, {bits / model['bits']:.2f} times as many"
    above = model["psnr"] < rows[0][way]["psnr"]
    nearest = rows[0 if above else -1][way]
    return (
        f"every quality that was tried is {'above' if above else 'below'} it; the nearest takes "
        f"{nearest['bits']:.3f} bits/pixel, {nearest['bits'] / model['bits']:.2f} times as many"
    )


def main():
    parser, commands = quality.commands_of(__doc__)
    commands.add_parser("run").add_argument("runs", nargs="+", help="folders of runs")
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments)
    else:
        quality.write_page(MARKS, table(), arguments.check)


if __name__ == "__main__":
    main()
