"""Training on images that do not fit in memory: what the input costs, and how fast it resumes.

    python benchmarks/streaming.py --folder /tmp --figure docs/images/streaming.png

writes ten million random 32×32 images into an `.npy` file in `--folder` (10 GB), trains a small VAE
on them for one epoch, and in pairs on some steps with these images and with images in memory, with
large and with small batches, and deletes the file.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

BATCH, SMALL_BATCH, SHAPE = 1000, 100, (32, 32, 1)
IN_MEMORY = 100_000


def write_images(path, count):
    """Write an `.npy` file of random images, a part at a time."""
    rng = np.random.default_rng(0)
    array = np.lib.format.open_memmap(path, "w+", np.uint8, (count, *SHAPE))
    part = rng.integers(0, 256, (100_000, *SHAPE), np.uint8)
    for start in range(0, count, len(part)):
        stop = min(start + len(part), count)
        array[start:stop] = part[: stop - start]
        part = np.roll(part, 1, axis=1)
        array.flush()
    del array


class Memory:
    """Samples of the resident memory of this process, in GB, while a `with` block runs."""

    def __init__(self, seconds=0.25):
        import psutil

        self.process, self.seconds = psutil.Process(), seconds
        self.times, self.gigabytes, self.stop = [], [], threading.Event()

    def now(self):
        return self.process.memory_info().rss / 1e9

    def __enter__(self):
        self.start = time.perf_counter()
        self.thread = threading.Thread(target=self._sample)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()

    def _sample(self):
        while not self.stop.wait(self.seconds):
            self.times.append(time.perf_counter() - self.start)
            self.gigabytes.append(self.now())


def make_model():
    import keras

    import tfvae

    keras.utils.set_random_seed(0)
    encoder = tfvae.networks.dense_encoder(SHAPE, 2 * 16, hidden=(128,))
    decoder = tfvae.networks.dense_decoder(16, SHAPE, hidden=(128,))
    model = tfvae.VAE(encoder, decoder, likelihood="bernoulli")
    model.compile(tfvae.optimizers.Adam(1e-4), steps_per_execution=20)
    return model


def rate(model, batches, steps):
    """Return the images in a second, and the milliseconds of processor time for 1000 of them.

    They are those of the steps after the first 20.
    """
    import keras

    times, busy = [], []

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            times.append(time.perf_counter())
            busy.append(time.process_time())

    model.fit(batches.take(steps), verbose=0, callbacks=[Clock()])
    count = (steps - 20) * batches.identity["batch_size"]
    return count / (times[-1] - times[0]), 1e6 * (busy[-1] - busy[0]) / count


def compare(model, in_memory, streamed, batch_size, rounds):
    """Return the medians over pairs of an epoch's part in memory and one that is streamed."""
    held, read = in_memory.batches(batch_size), streamed.batches(batch_size)
    steps = min(held.num_batches, read.num_batches)
    model.fit(held.take(20), verbose=0)  # the graph is made
    pairs = np.array([[rate(model, each, steps) for each in (held, read)] for _ in range(rounds)])
    rates, busy = np.median(pairs, 0).T
    return {
        "images_per_second_in_memory": round(rates[0]),
        "images_per_second_streamed": round(rates[1]),
        "ratio_of_pairs": [round(b / a, 3) for a, b in pairs[..., 0]],
        "ratio_median_of_pairs": round(statistics.median(b / a for a, b in pairs[..., 0]), 3),
        "processor_ms_per_1000_images_in_memory": round(busy[0], 1),
        "processor_ms_per_1000_images_streamed": round(busy[1], 1),
    }


def first_batch(batches, first):
    """Return the seconds until an epoch gives its batch number `first`."""
    batches.start_at(0, first)
    start = time.perf_counter()
    next(iter(batches))
    seconds = time.perf_counter() - start
    batches.start_at(0)
    return seconds


def measure(path, rounds, figure):
    import warnings

    import tfvae

    warnings.simplefilter("ignore")
    memory = Memory()
    model = make_model()
    in_memory = tfvae.data.Examples(
        np.random.default_rng(0).integers(0, 256, (IN_MEMORY, *SHAPE), np.uint8), 255.0
    )
    model.fit(in_memory.batches(BATCH).take(20), verbose=0)
    baseline = memory.now()

    start = time.perf_counter()
    images = tfvae.data.load(str(path), memory_gb=0).train
    opened = time.perf_counter() - start

    compared = {
        f"batch_{size}": compare(model, in_memory, images, size, rounds)
        for size in (BATCH, SMALL_BATCH)
    }
    streamed = images.batches(BATCH)
    resumed = first_batch(streamed, int(0.9 * streamed.num_batches))

    with Memory() as samples:
        start = time.perf_counter()
        model.fit(streamed, verbose=0)
        epoch = time.perf_counter() - start
    if figure:
        draw(samples, baseline, path, figure)
    half = len(samples.gigabytes) // 2
    return {
        "images": int(np.load(path, mmap_mode="r").shape[0]),
        "file_gb": round(path.stat().st_size / 1e9, 2),
        "seconds_to_open": round(opened, 2),
        **compared,
        "seconds_to_first_batch_at_90_percent": round(resumed, 3),
        "epoch_seconds": round(epoch, 1),
        "epoch_batches": streamed.num_batches,
        "rss_gb_before_the_data": round(baseline, 3),
        "rss_gb_first_half_of_epoch": round(max(samples.gigabytes[:half]), 3),
        "rss_gb_second_half_of_epoch": round(max(samples.gigabytes[half:]), 3),
    }


def draw(samples, baseline, path, figure):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    drawn, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
    size = path.stat().st_size / 1e9
    axis.plot(samples.times, samples.gigabytes, label="while an epoch is trained")
    axis.axhline(baseline, color="0.6", label="before the data is opened")
    axis.axhline(size, color="C3", linestyle="--", label=f"size of the data, {size:.1f} GB")
    axis.set(xlabel="seconds", ylabel="resident memory, GB", ylim=(0, 1.1 * size))
    axis.grid(alpha=0.3)
    axis.legend()
    drawn.savefig(figure, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, default=None, help="where the file is written")
    parser.add_argument("--rounds", type=int, default=7, help="pairs of in memory and streamed")
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        write_images(folder / "images.npy", options.images)
        print(json.dumps(measure(folder / "images.npy", options.rounds, options.figure), indent=2))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
