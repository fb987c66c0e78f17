"""Throughput of a training step: `model.fit` of tfvae, a bare TensorFlow graph, and PyTorch.

    pip install -e '.[benchmark]'
    python benchmarks/training_step.py
    python benchmarks/training_step.py --precision bfloat16

Network: dense 784-200-200-50, tanh, Bernoulli likelihood, Adam, in float32, or with networks that
compute in bfloat16 from float32 weights; the ELBO at k = 1 (batch 100), the IWAE bound at k = 5
(batch 100) and k = 50 (batch 20). tfvae runs with what `tfvae train` uses by default; PyTorch with
its fused Adam, eager and compiled. The bare graph is the least that TensorFlow needs for these
steps: an epoch in one call, weights in plain variables, the fused kernel of Adam, no Keras, no
metrics, no look at the data. Every measurement is a process of its own, which warms up and then
times whole epochs; the programs take turns, and the table gives medians and the ratios of each
round's pairs.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from functools import partial

from timing import median_and_range

SETTINGS = {1: 100, 5: 100, 50: 20}
NUM_IMAGES = 50_000


def make_images():
    import numpy as np

    return (np.random.default_rng(0).random((NUM_IMAGES, 28, 28, 1)) < 0.13).astype(np.uint8)


def time_tfvae(k, epochs, precision):
    import keras

    import tfvae
    from tfvae.config import TrainingConfig

    if precision == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    batch_size = SETTINGS[k]
    images = tfvae.data.Examples(make_images())
    model = tfvae.VAE(
        tfvae.networks.dense_encoder((28, 28, 1), 100),
        tfvae.networks.dense_decoder(50, (28, 28, 1)),
    )
    model.compile(
        tfvae.optimizers.Adam(1e-3),
        objective="elbo" if k == 1 else "iwae",
        num_samples=k,
        steps_per_execution=TrainingConfig().steps_per_execution,
        jit_compile=TrainingConfig().jit_compile,
    )
    batches = images.batches(batch_size)
    seconds = []

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            seconds.append(time.perf_counter() - self.start)

    model.fit(batches, epochs=epochs + 1, verbose=0, callbacks=[Clock()])
    return statistics.median(seconds[1:]) / (NUM_IMAGES // batch_size)


def time_graph(k, epochs, precision):
    import tensorflow as tf

    batch_size, rate, beta_1, beta_2 = SETTINGS[k], 1e-3, 0.9, 0.999
    num_steps = NUM_IMAGES // batch_size
    images = tf.constant(make_images().reshape(NUM_IMAGES, 784))
    widths = [784, 200, 200, 100], [50, 200, 200, 784]
    weights = [
        [tf.Variable(tf.random.normal(shape, stddev=0.05)) for shape in ((n, m), (m,))]
        for sizes in widths
        for n, m in itertools.pairwise(sizes)
    ]
    variables = [variable for layer in weights for variable in layer]
    moments = [[tf.Variable(tf.zeros_like(v)) for v in variables] for _ in range(2)]

    def mlp(h, layers):
        h = tf.cast(h, precision)
        for number, (w, b) in enumerate(layers):
            h = tf.matmul(h, tf.cast(w, precision)) + tf.cast(b, precision)
            h = tf.tanh(h) if number < 2 else h
        return tf.cast(h, tf.float32)

    def loss(x):
        loc, raw = tf.split(mlp(x, weights[:3]), 2, -1)
        scale = tf.nn.softplus(raw) + 1e-6
        eps = tf.random.normal([k, batch_size, 50])
        z = loc + scale * eps
        logits = tf.reshape(mlp(tf.reshape(z, [-1, 50]), weights[3:]), [k, batch_size, 784])
        terms = tf.nn.softplus(logits) - x * logits
        log_px = -tf.reduce_sum(terms, -1)
        if k == 1:
            kl = tf.reduce_sum(0.5 * (loc**2 + scale**2 - 1.0) - tf.math.log(scale), -1)
            return tf.reduce_mean(kl - log_px[0])
        log_w = log_px + tf.reduce_sum(0.5 * (eps**2 - z**2) + tf.math.log(scale), -1)
        return tf.reduce_mean(tf.math.log(float(k)) - tf.reduce_logsumexp(log_w, 0))

    @tf.function  # AutoGraph makes a loop of the graph of the one below
    def epoch(done):
        order = tf.random.shuffle(tf.range(NUM_IMAGES))
        for number in tf.range(num_steps):
            rows = order[number * batch_size : (number + 1) * batch_size]
            x = tf.cast(tf.gather(images, rows), tf.float32)
            with tf.GradientTape() as tape:
                value = loss(x)
            step = done + tf.cast(number, tf.float32) + 1.0
            powers = tf.pow(beta_1, step), tf.pow(beta_2, step)
            gradients = tape.gradient(value, variables)
            for v, m, s, g in zip(variables, *moments, gradients, strict=True):
                tf.raw_ops.ResourceApplyAdam(
                    var=v.handle,
                    m=m.handle,
                    v=s.handle,
                    beta1_power=powers[0],
                    beta2_power=powers[1],
                    lr=rate,
                    beta1=beta_1,
                    beta2=beta_2,
                    epsilon=1e-7,
                    grad=g,
                )

    seconds = []
    for number in range(epochs + 1):
        start = time.perf_counter()
        epoch(tf.constant(float(number * num_steps)))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:]) / num_steps


def time_torch(k, epochs, precision, compiled):
    import math

    import torch
    from torch import nn
    from torch.nn import functional as F

    def mlp(n_in, n_out):
        return nn.Sequential(
            nn.Linear(n_in, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, n_out)
        )

    def network(layers, x):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            return layers(x).float()

    class Vae(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = mlp(784, 100), mlp(50, 784)

        def forward(self, x):
            loc, raw = network(self.encoder, x).chunk(2, -1)
            scale = F.softplus(raw) + 1e-6
            eps = torch.randn(k, *loc.shape)
            logits = network(self.decoder, loc + scale * eps)
            target = x.expand_as(logits)
            log_px = -F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(-1)
            if k == 1:
                kl = (0.5 * (loc**2 + scale**2 - 1) - scale.log()).sum(-1)
                return (kl - log_px[0]).mean()
            z = loc + scale * eps
            log_w = log_px + (0.5 * (eps**2 - z**2) + scale.log()).sum(-1)
            return (math.log(k) - torch.logsumexp(log_w, 0)).mean()

    batch_size = SETTINGS[k]
    images = torch.tensor(make_images()).reshape(NUM_IMAGES, 784)
    model = Vae()
    step = torch.compile(model) if compiled else model
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    seconds = []
    for _ in range(epochs + 1):
        start = time.perf_counter()
        for index in torch.randperm(NUM_IMAGES).split(batch_size):
            optimizer.zero_grad(set_to_none=True)
            step(images[index].float()).backward()
            optimizer.step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:]) / (NUM_IMAGES // batch_size)


PROGRAMS = {
    "tfvae": time_tfvae,
    "graph": time_graph,
    "torch eager": partial(time_torch, compiled=False),
    "torch compiled": partial(time_torch, compiled=True),
}


def measure(program, k, epochs, precision):
    command = [sys.executable, __file__, "--program", program, "--k", k, "--epochs", epochs]
    command += ["--precision", precision]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{program} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5, help="timed epochs of each process")
    parser.add_argument("--program", choices=PROGRAMS, help=argparse.SUPPRESS)
    parser.add_argument("--k", type=int, choices=SETTINGS)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    options = parser.parse_args()
    if options.program:
        time_program = PROGRAMS[options.program]
        print(json.dumps(time_program(options.k, options.epochs, options.precision)))
        return
    print(
        f"{'k':>3} {'batch':>5} "
        + " ".join(f"{name:>15}" for name in PROGRAMS)
        + "   PyTorch / tfvae   tfvae / graph"
    )
    for k in [options.k] if options.k else SETTINGS:
        rounds = [
            {name: measure(name, k, options.epochs, options.precision) for name in PROGRAMS}
            for _ in range(options.rounds)
        ]
        medians = {name: statistics.median(r[name] for r in rounds) for name in PROGRAMS}
        ratios = [min(r["torch eager"], r["torch compiled"]) / r["tfvae"] for r in rounds]
        cells = " ".join(f"{1e3 * medians[name]:12.2f} ms" for name in PROGRAMS)
        bare = [r["tfvae"] / r["graph"] for r in rounds]
        spreads = f"{median_and_range(ratios)}   {median_and_range(bare)}"
        print(f"{k:>3} {SETTINGS[k]:>5} {cells}   {spreads}", flush=True)
    print(
        "PyTorch / tfvae: the time of the faster PyTorch over tfvae's in the same round, median "
        "(range); tfvae / graph: tfvae's over that of the bare graph"
    )


if __name__ == "__main__":
    main()
