"""Bits of a black and white image: bits-back coding with a VAE beside general compressors.

    python benchmarks/lossless.py RUN... [--num N]

takes the test images of the first run, writes them with the model of each run, compares what comes
back, and prints the table of docs/codec.md. The compressors get one bit a pixel: gzip, bzip2 and xz
all images one after the other, PNG and WebP one picture of all of them in rows of 100.
"""

import argparse
import bz2
import gzip
import io
import lzma
import math
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image

from tfvae import codec
from tfvae.images import grid
from tfvae.runs import load_data, open_model

COLUMNS = 100


def general(x):
    """Return the sizes in bytes of binary images `[N, H, W, 1]` under general compressors."""
    packed = np.packbits(x.astype(np.uint8).reshape(len(x), -1), axis=1).tobytes()
    whole_rows = np.pad(x, [(0, -len(x) % COLUMNS), (0, 0), (0, 0), (0, 0)])
    picture = Image.fromarray(grid(whole_rows, COLUMNS, gap=0).squeeze(-1))
    webp = {"lossless": True, "quality": 100, "method": 6}
    return {
        "as they are": len(packed),
        "PNG, 1 bit, one picture": _size(picture.convert("1"), "PNG", optimize=True),
        "gzip": len(gzip.compress(packed, 9)),
        "WebP without loss, one picture": _size(picture.convert("RGB"), "WEBP", **webp),
        "xz": len(lzma.compress(packed, preset=9)),
        "bzip2": len(bz2.compress(packed)),
    }


def _size(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return len(file.getvalue())


def with_model(path, x):
    """Return what to print of images written with the model of a run."""
    model, _ = open_model(path)
    start = time.perf_counter()
    written = codec.compress_lossless(model, x)
    middle = time.perf_counter()
    same = np.array_equal(codec.decompress_lossless(model, written.content), x)
    end = time.perf_counter()
    parts = [x[n : n + 500] for n in range(0, len(x), 500)]
    elbo = np.concatenate([model.log_weights(part, 20).numpy().mean(0) for part in parts])
    count = len(x) * math.log(2)
    return [
        f"{path}: {8 * len(written.content) / len(x):.2f} bits",
        f"net {written.net_bits / len(x):.2f}",
        f"-ELBO {-elbo.sum() / count:.2f} ± {elbo.std() * math.sqrt(len(x)) / count:.2f} bits",
        f"initial bits {written.initial_bits} in all, exact: {same}",
        f"written in {middle - start:.0f} s, read in {end - middle:.0f} s",
    ]


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--num", type=int, help="test images; default: all")
    arguments = parser.parse_args()
    model, config = open_model(arguments.runs[0])
    x = load_data(config, model).test.numpy(0, arguments.num)
    for name, size in general(x).items():
        print(f"{name}: {8 * size / len(x):.1f} bits")
    for run in arguments.runs:
        print(*with_model(run, x), sep=", ", flush=True)


if __name__ == "__main__":
    main()
