"""What a prior, a posterior or a ladder adds to a training step: processor time on one thread.

    python benchmarks/latents.py priors
    python benchmarks/latents.py posteriors
    python benchmarks/latents.py ladders

VAE 784-200-200-50, tanh, Bernoulli likelihood, float32, K = 1, batch 100, fused Adam; ladders have
the same widths. All models take turns in one process, and each round's time is divided by that of
the first model in the same round. The table gives the median milliseconds of a step and the median
ratio.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import keras
import numpy as np
import tensorflow as tf

import tfvae
from tfvae import networks

BATCH_SIZE, PIXELS, LATENTS, STEPS = 100, 784, 50, 20


def vae(prior="standard_normal", posterior="diagonal_normal", **options):
    def make():
        q = tfvae.posteriors.get(posterior, **options.get("q", {}))
        p = tfvae.priors.get(prior, **options.get("p", {}))
        encoder = networks.dense_encoder((PIXELS,), q.params_size(LATENTS))
        decoder = networks.dense_decoder(LATENTS, (PIXELS,))
        return tfvae.VAE(encoder, decoder, prior=p, posterior=q)

    return make


def ladder(sizes, form):
    def make():
        parts = networks.dense_ladder((PIXELS,), (PIXELS,), sizes, hidden=200, form=form)
        return tfvae.LadderVAE(*parts, form=form)

    return make


def hierarchy(lower, upper):
    def make():
        encoders = [networks.dense_encoder((PIXELS,), 2 * lower)]
        encoders += [networks.dense_encoder((lower,), 2 * upper)]
        decoders = [networks.dense_decoder(lower, (PIXELS,))]
        decoders += [networks.dense_decoder(upper, (2 * lower,))]
        return tfvae.HierarchicalVAE(encoders, decoders)

    return make


MODELS = {
    "priors": {
        "standard_normal": vae(),
        "the same, kl='monte_carlo'": vae(),
        "mixture, 10": vae("mixture"),
        "mixture, 500": vae("mixture", p={"num_components": 500}),
        "vamp, 50": vae("vamp", p={"num_components": 50}),
        "vamp, 500": vae("vamp"),
        "autoregressive, 2 layers": vae("autoregressive"),
        "flow, affine_coupling, 4 layers": vae("flow"),
        "the same, hidden=(64,)": vae("flow", p={"hidden": (64,)}),
        "the same, mixing='linear'": vae("flow", p={"mixing": "linear"}),
        "flow, spline_coupling, 2 layers": vae(
            "flow", p={"flow": "spline_coupling", "num_layers": 2}
        ),
        "autoregressive, 1 layer": vae("autoregressive", p={"num_layers": 1}),
    },
    "posteriors": {
        "diagonal_normal": vae(),
        "diagonal_normal, exp_half": vae(q={"scale": "exp_half"}),
        "full_normal": vae(posterior="full_normal"),
        "flow, affine_coupling, 4 layers": vae(posterior="flow"),
        "iaf, 2 layers": vae(posterior="iaf"),
    },
    "ladders": {
        "VAE": vae(),
        "HierarchicalVAE, 50 and 25": hierarchy(50, 25),
        "LadderVAE, residual, 50 and 25": ladder((50, 25), "residual"),
        "LadderVAE, precision, 50 and 25": ladder((50, 25), "precision"),
        "LadderVAE, residual, 50, 25 and 10": ladder((50, 25, 10), "residual"),
    },
}


def repeated(name, make):
    """Return a graph of several training steps, so that the return to Python does not count."""
    keras.utils.set_random_seed(0)
    model = make()
    kl = "monte_carlo" if "monte_carlo" in name else "auto"
    model.compile(tfvae.optimizers.Adam(1e-4), kl=kl)
    model.optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(0)
    x = tf.constant((rng.random((BATCH_SIZE, PIXELS)) < 0.13).astype("f4"))

    def step(number):
        model.train_step((x,))
        return (number + 1,)

    @tf.function(autograph=False)
    def run():
        tf.while_loop(lambda number: number < STEPS, step, (0,), parallel_iterations=1)
        return model.step.value

    run()
    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=MODELS)
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    runs = {name: repeated(name, make) for name, make in MODELS[arguments.table].items()}
    times = {name: [] for name in runs}
    for _ in range(arguments.rounds):
        for name, run in runs.items():
            start = time.process_time()
            run().numpy()
            times[name].append(1e3 * (time.process_time() - start) / STEPS)
    base = next(iter(times.values()))
    for name, values in times.items():
        ratio = statistics.median(a / b for a, b in zip(values, base, strict=True))
        print(f"{name:<36}{statistics.median(values):>8.2f} ms{ratio:>8.2f}")


if __name__ == "__main__":
    main()
