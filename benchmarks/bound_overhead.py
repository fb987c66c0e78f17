"""What a bound and its gradient cost above the network: value and gradients at k = 50, batch 20.

    python benchmarks/bound_overhead.py

Network 784-200-200-50, tanh, Bernoulli likelihood, float32. In one process, in turns:

- "iwae", "elbo", ...: value and gradients of the objective with k = 50, estimators by name;
- "network, 50·B": forward and backward through encoder and decoder on 50·B images, for the sum of
  the decoder's outputs, without sampling and without a likelihood;
- "encoder B, decoder 50·B": the same with the encoder run once an image, all that a bound needs.

The table gives medians and each round's ratio to the two.
"""

import argparse
import statistics
import time

import keras
import numpy as np
import tensorflow as tf

import tfvae
from tfvae.random import fold_in, make_seed

K, BATCH_SIZE, PIXELS, LATENTS, STEPS = 50, 20, 784, 50, 20


def programs():
    keras.utils.set_random_seed(0)
    model = tfvae.VAE(
        tfvae.networks.dense_encoder((PIXELS,), 2 * LATENTS),
        tfvae.networks.dense_decoder(LATENTS, (PIXELS,)),
    )
    rng = np.random.default_rng(0)
    x = tf.constant((rng.random((BATCH_SIZE, PIXELS)) < 0.13).astype("f4"))
    many = tf.constant((rng.random((K * BATCH_SIZE, PIXELS)) < 0.13).astype("f4"))
    weights = model.trainable_variables

    def repeated(total):
        """Return a graph of several steps, so that the return to Python does not count."""

        def add(number, out):
            with tf.GradientTape() as tape:
                value = total(number)
            grads = tape.gradient(value, weights)
            # Something of every gradient, so that none is optimized away.
            return number + 1, out + value + sum(tf.reshape(g, [-1])[0] for g in grads)

        @tf.function(autograph=False)
        def run():
            start = tf.constant(0), tf.zeros([])
            return tf.while_loop(lambda number, _: number < STEPS, add, start)[1]

        return run

    def bound(objective, estimator):
        objective, estimator = tfvae.objectives.get(objective), tfvae.estimators.get(estimator)
        model.compile(objective=objective, estimator=estimator, num_samples=K)

        def total(number):
            seed = fold_in(make_seed(0), number)
            infer = model.inference(x, training=True)
            estimate = estimator.estimate(model.training_bound(), infer, x, seed, True)
            return -tf.reduce_mean(estimate.surrogate)

        run = repeated(total)
        run()  # traced while these settings hold
        return run

    def network(inputs):
        def total(number):
            loc = model.encoder(inputs)[:, :LATENTS] + 1e-9 * tf.cast(number, tf.float32)
            copies = K * BATCH_SIZE // inputs.shape[0]
            return tf.reduce_sum(model.decoder(tf.tile(loc, [copies, 1])))

        return repeated(total)

    return {
        "iwae": bound("iwae", "pathwise"),
        "elbo": bound("elbo", "pathwise"),
        "iwae, dreg": bound("iwae", "dreg"),
        "network, 50·B": network(many),
        "encoder B, decoder 50·B": network(x),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    runs = programs()
    times = {name: [] for name in runs}
    for number in range(rounds + 2):
        for name, run in runs.items():
            start = time.perf_counter()
            run().numpy()
            if number >= 2:
                times[name].append(1e3 * (time.perf_counter() - start) / STEPS)
    *_, full, least = runs
    print(f"{'':<26}{'ms':>8}{'/ network, 50·B':>18}{'/ encoder B, decoder 50·B':>28}")
    for name, values in times.items():
        ratios = [
            statistics.median(a / b for a, b in zip(values, times[base], strict=True))
            for base in (full, least)
        ]
        print(f"{name:<26}{statistics.median(values):>8.2f}{ratios[0]:>18.2f}{ratios[1]:>28.2f}")


if __name__ == "__main__":
    main()
