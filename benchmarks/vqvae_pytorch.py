"""The CIFAR VQ-VAE beside PyTorch with `vector-quantize-pytorch`: time of a step, and its result.

    pip install -e '.[benchmark]'
    python benchmarks/vqvae_pytorch.py step
    python benchmarks/vqvae_pytorch.py training --data-dir DATA --steps 10000
    python benchmarks/vqvae_pytorch.py training --data-dir DATA --quantizers ema fsq residual

Both have the network of the recipe vqvae-cifar10: two stride-2 convolutions, two residual blocks
each way, EMA with K = 512, D = 64, β = 0.25 and decay 0.99, a start by k-means, dead codes started
anew, Adam with the recipe's learning rates, float32. Each program is a process of its own. "step"
times batches of 64 from memory: tfvae through `fit` as `tfvae train` runs it; PyTorch eager and
compiled, with its fused Adam and without the start and the revival, which do not compile. The
programs take turns, and the table has medians and the ratio of each round. "training" runs batches
of 32 and measures squared error over variance, perplexity and the codes used on the training and
test images (`--splits`), whole sets. It does so for each of the quantizers that are named. All have
512 codes: a table of EMA, 8 × 8 × 8 values of FSQ, or three levels of 8 codes of a residual one.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time

import numpy as np
from timing import median_and_range

K, D, BETA, DECAY, LEARNING_RATE, DEAD = 512, 64, 0.25, 0.99, 1e-3, 0.4
LEVELS = (8, 8, 8)  # K codes, as digits
EPOCHS = 7  # of the recipe: its learning rate falls to 0 over so many
STEP_BATCH, TRAINING_BATCH = 64, 32
NUM_IMAGES = 6_400


def torch_quantizer(name, options):
    """Return a quantizer of 512 codes, and the number of channels that it takes."""
    from vector_quantize_pytorch import FSQ, ResidualVQ, VectorQuantize

    options = {"dim": D, "decay": DECAY, "commitment_weight": BETA, **options}
    if name == "fsq":
        return FSQ(list(LEVELS)), len(LEVELS)
    if name == "residual":
        count, size = len(LEVELS), LEVELS[0]
        return ResidualVQ(num_quantizers=count, codebook_size=size, **options), D
    return VectorQuantize(codebook_size=K, **options), D


def tfvae_options(name) -> dict:
    """Return what is changed in the recipe, whose quantizer is EMA, for another of 512 codes."""
    from tfvae import recipes

    if name == "fsq":
        return {"model.quantizer": name, "model.quantizer_options": {"levels": list(LEVELS)}}
    if name == "residual":
        ema = recipes.load("vqvae-cifar10").model.quantizer_options
        level = {"name": "ema", **ema, "num_embeddings": LEVELS[0]}
        options = {"quantizer": level, "num_quantizers": len(LEVELS)}
        return {"model.quantizer": name, "model.quantizer_options": options}
    return {}


def torch_model(variance, quantizer="ema", **quantizer_options):
    import torch
    from torch import nn

    torch.manual_seed(0)
    made, channels = torch_quantizer(quantizer, quantizer_options)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                nn.ReLU(), nn.Conv2d(128, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 128, 1)
            )

        def forward(self, x):
            return x + self.net(x)

    def stack():
        return [Block(), Block(), nn.ReLU()]

    class VQVAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(
                nn.Conv2d(3, 64, 4, 2, 1),
                nn.ReLU(),
                nn.Conv2d(64, 128, 4, 2, 1),
                nn.ReLU(),
                nn.Conv2d(128, 128, 3, padding=1),
                nn.ReLU(),
                *stack(),
                nn.Conv2d(128, channels, 1),
            )
            self.quantizer = made
            self.decoder = nn.Sequential(
                nn.Conv2d(channels, 128, 3, padding=1),
                *stack(),
                nn.ConvTranspose2d(128, 64, 4, 2, 1),
                nn.ReLU(),
                nn.ConvTranspose2d(64, 3, 4, 2, 1),
            )

        def forward(self, x):
            z = self.encoder(x).permute(0, 2, 3, 1).flatten(1, 2)
            quantized, codes, *commitment = self.quantizer(z)  # FSQ has no loss
            grid = quantized.unflatten(1, (8, 8)).permute(0, 3, 1, 2)
            squared_error = ((self.decoder(grid) - x) ** 2).mean()
            return squared_error / variance + sum(c.sum() for c in commitment), squared_error, codes

    return VQVAE()


def tfvae_model(splits, batch_size, quantizer="ema"):
    from tfvae import recipes
    from tfvae.runs import build_model

    settings = {"training.batch_size": batch_size, **tfvae_options(quantizer)}
    return build_model(recipes.load("vqvae-cifar10").override(settings), splits)


def random_splits():
    from tfvae.data import Examples, Splits

    pixels = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 32, 32, 3), np.uint8)
    images = Examples(pixels, 255.0)
    return Splits("random", images, images, images)


def step_tfvae(options):
    import keras

    splits = random_splits()
    model = tfvae_model(splits, STEP_BATCH)
    batches = splits.train.batches(STEP_BATCH)
    seconds = []

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            seconds.append(time.perf_counter() - self.start)

    model.fit(batches, epochs=options.epochs + 1, verbose=0, callbacks=[Clock()])
    return statistics.median(seconds[1:]) / (NUM_IMAGES // STEP_BATCH)


def step_torch(options, compiled):
    import torch

    x = torch.tensor(random_splits().train.values).permute(0, 3, 1, 2).contiguous()
    model = torch_model(0.06)
    step = torch.compile(model) if compiled else model
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, fused=True)
    seconds = []
    for _ in range(options.epochs + 1):
        start = time.perf_counter()
        for index in torch.randperm(NUM_IMAGES).split(STEP_BATCH):
            optimizer.zero_grad(set_to_none=True)
            step(x[index].float() / 255)[0].backward()
            optimizer.step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:]) / (NUM_IMAGES // STEP_BATCH)


def load_data(options):
    import tfvae

    return tfvae.data.load(options.dataset, options.data_dir)


def measures(squared_errors, codes, x):
    """Return the figures of a whole set, from the squared error of each value and all codes.

    A residual quantizer has a code for each of its levels, on the last axis; together they are one.
    """
    if codes.shape[-1] == len(LEVELS):  # the grid itself has 8 × 8 codes
        codes = np.ravel_multi_index(np.moveaxis(codes, -1, 0), LEVELS)
    p = np.bincount(np.ravel(codes), minlength=K) / np.size(codes)
    return {
        "mse_over_variance": float(np.mean(squared_errors) / x.var(dtype=np.float64)),
        "perplexity": float(np.exp(-np.sum(p[p > 0] * np.log(p[p > 0])))),
        "codes_used": int(np.sum(p > 0)),
    }


def train_tfvae(options):
    splits = load_data(options)
    model = tfvae_model(splits, TRAINING_BATCH, options.quantizers[0])
    batches = splits.train.batches(TRAINING_BATCH)
    left, epoch, per_epoch = options.steps, 0, batches.num_batches
    start = time.perf_counter()
    while left:
        steps = min(left, per_epoch)
        batches.start_at(epoch)
        model.fit(batches.take(steps), verbose=0)
        epoch += 1
        left -= steps
    seconds = time.perf_counter() - start
    results = {"seconds": seconds}
    for name in options.splits:
        x = getattr(splits, name).numpy()
        codes = np.concatenate([model.encode(x[i : i + 500]) for i in range(0, len(x), 500)])
        errors = (model.predict(x, batch_size=500, verbose=0) - x) ** 2
        results[name] = measures(errors, codes, x)
    return results


def train_torch(options):
    import torch
    import vector_quantize_pytorch  # noqa: F401 (after TensorFlow, its import fails)

    splits = load_data(options)
    data = {
        name: torch.tensor(getattr(splits, name).values).permute(0, 3, 1, 2)
        for name in ("train", "test")
    }
    # Eager: PyTorch 2.13 does not compile the quantizer with these options.
    started = {"kmeans_init": True, "threshold_ema_dead_code": DEAD}
    model = torch_model(splits.train.numpy().var(), options.quantizers[0], **started)
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, fused=True)
    total = EPOCHS * (len(data["train"]) // TRAINING_BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    done, start = 0, time.perf_counter()
    while done < options.steps:
        order = torch.randperm(len(data["train"]))
        for index in order[: len(order) // TRAINING_BATCH * TRAINING_BATCH].split(TRAINING_BATCH):
            optimizer.zero_grad(set_to_none=True)
            model(data["train"][index].float() / 255)[0].backward()
            optimizer.step()
            schedule.step()
            done += 1
            if done == options.steps:
                break
    results = {"seconds": time.perf_counter() - start}
    model.eval()
    for name in options.splits:
        pixels = data[name]
        with torch.no_grad():
            parts = [model(part.float() / 255)[1:] for part in pixels.split(500)]
        errors = [float(error) for error, _ in parts]
        codes = np.concatenate([codes.numpy() for _, codes in parts])
        results[name] = measures(errors, codes, getattr(splits, name).numpy())
    return results


PROGRAMS = {
    "step": {
        "tfvae": step_tfvae,
        "torch eager": lambda options: step_torch(options, compiled=False),
        "torch compiled": lambda options: step_torch(options, compiled=True),
    },
    "training": {"tfvae": train_tfvae, "torch": train_torch},
}


def measure(program, options, quantizer="ema"):
    command = [sys.executable, __file__, options.what, "--program", program]
    command += ["--quantizers", quantizer, "--splits", *options.splits]
    for name in ("epochs", "steps", "dataset", "data_dir"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{program} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare_steps(options):
    programs = PROGRAMS["step"]
    rounds = [{name: measure(name, options) for name in programs} for _ in range(options.rounds)]
    for name in programs:
        print(f"{name:<15}{1e3 * statistics.median(r[name] for r in rounds):8.1f} ms a step")
    ratios = [min(r["torch eager"], r["torch compiled"]) / r["tfvae"] for r in rounds]
    print(f"the faster PyTorch over tfvae, by round: median {median_and_range(ratios)}")


def compare_training(options):
    for quantizer, name in itertools.product(options.quantizers, PROGRAMS["training"]):
        result = measure(name, options, quantizer)
        print(f"{quantizer}, {name}: {options.steps} steps in {result['seconds']:.0f} s")
        for split in options.splits:
            values = result[split]
            print(
                f"  {split:<6}MSE/variance {values['mse_over_variance']:.4f}  perplexity "
                f"{values['perplexity']:.0f}  codes used {values['codes_used']} of {K}",
                flush=True,
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=PROGRAMS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=1, help="timed epochs of 100 steps")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument(
        "--quantizers", nargs="+", default=["ema"], choices=["ema", "fsq", "residual"]
    )
    parser.add_argument("--splits", nargs="+", default=["train", "test"], choices=["train", "test"])
    parser.add_argument("--dataset", default="cifar10", help="of TFDS; images of 32×32")
    parser.add_argument("--data-dir", default="")
    parser.add_argument("--program", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.what == "step" and options.quantizers != ["ema"]:
        parser.error("--quantizers is for `training`; `step` times EMA, as in the recipe")
    if options.program:
        print(json.dumps(PROGRAMS[options.what][options.program](options)))
    elif options.what == "step":
        compare_steps(options)
    else:
        compare_training(options)


if __name__ == "__main__":
    main()
