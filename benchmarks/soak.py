"""A soak of the gradient estimators: does any of them turn a model into NaN that another would not?

    python benchmarks/soak.py
    python benchmarks/soak.py --estimators rebar relax --precisions float32 --json soak.json

Every estimator trains affine networks on scikit-learn's digits, thresholded to bits, in batches of
100: with SGD and Adam at three learning rates each, in float32 and mixed precision. Discrete
estimators have 20 bits (8 where all states are enumerated), the others 20 normals.

The table gives minus the ELBO, in nats per example, over the last quarter of the steps; "model"
where the references for the same latents, DisARM and enumeration or pathwise estimators, are not
finite at that setting either; and "NOT FINITE" where the estimator is to blame, with exit status 1.
"""

import argparse
import json
import sys
import time

import keras
import numpy as np
import tensorflow as tf

import tfvae

BATCH_SIZE, SIZE, EPOCHS = 100, 20, 4
RATES = {"sgd": (1e-3, 1e-2, 1e-1), "adam": (1e-3, 1e-2, 1e-1)}
OPTIMIZERS = {"sgd": keras.optimizers.SGD, "adam": tfvae.optimizers.Adam}
PRECISIONS = ("float32", "mixed_bfloat16")
REFERENCES = {"bernoulli": ("disarm", "exact"), "diagonal_normal": ("pathwise", "dreg")}
SIZES = {"exact": 8}


def digits():
    """Return bits `[N, 64]`."""
    pixels = tfvae.data.load("digits").train.numpy()
    return (pixels.reshape(len(pixels), -1) > 0.5).astype(np.float32)


def posterior_of(estimator):
    """Return the name of the posterior that an estimator is tried on: bits where it takes them."""
    latents = tfvae.estimators.REGISTRY.part(estimator).latents
    return "bernoulli" if "bernoulli" in latents else "diagonal_normal"


def fits(estimator, objective):
    """Return whether an estimator gives the gradient of an objective of enough samples."""
    posteriors = [tfvae.posteriors.get(posterior_of(estimator))]
    cls, objective = tfvae.estimators.REGISTRY.part(estimator), tfvae.objectives.get(objective)
    return cls.misfit(posteriors, objective, 2) is None


def affine(inputs, outputs):
    return keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(outputs)])


def make_model(estimator, optimizer, precision, pixels, steps, objective="elbo", num_samples=1):
    """Return a compiled model, ready to train."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(precision)
    size = SIZES.get(estimator, SIZE)
    posterior = tfvae.posteriors.get(posterior_of(estimator))
    model = tfvae.VAE(
        affine(pixels, posterior.params_size(size)), affine(size, pixels), posterior=posterior
    )
    model.compile(
        OPTIMIZERS[optimizer](),
        objective=objective,
        estimator=estimator,
        num_samples=max(num_samples, tfvae.estimators.REGISTRY.part(estimator).min_samples),
        steps_per_execution=min(50, steps // EPOCHS),
    )
    model.optimizer.build(model.trainable_variables)
    return model


def state_of(model):
    return [*model.variables, *model.estimator.variables, *model.optimizer.variables]


def soak(estimator, optimizer, precision, x, steps, rates=None, **bound):
    """Yield a row for each learning rate; the graph is traced once."""
    batches = tf.data.Dataset.from_tensor_slices(x).shuffle(len(x), seed=0).repeat()
    batches = batches.batch(BATCH_SIZE, drop_remainder=True)
    model = make_model(estimator, optimizer, precision, x.shape[1], steps, **bound)
    start = [variable.numpy() for variable in state_of(model)]
    for rate in rates or RATES[optimizer]:
        for variable, value in zip(state_of(model), start, strict=True):
            variable.assign(value)
        model.optimizer.learning_rate = rate
        began = time.perf_counter()
        options = {"epochs": EPOCHS, "steps_per_epoch": steps // EPOCHS, "verbose": 0}
        history = model.fit(batches, shuffle=False, **options)
        values = [np.asarray(variable, np.float64) for variable in state_of(model)]
        elbo = history.history["elbo"]
        yield {
            "estimator": estimator,
            "optimizer": optimizer,
            "rate": rate,
            "precision": precision,
            "finite": all(np.all(np.isfinite(v)) for v in [*values, elbo]),
            "loss": -elbo[-1],
            "largest_weight": max(float(np.max(np.abs(w))) for w in model.trainable_variables),
            "seconds": time.perf_counter() - began,
        }


def blame(rows):
    """Say of each row whether it is "finite", the "model" diverges, or it is "NOT FINITE" alone."""

    def setting(row):
        return row["optimizer"], row["rate"], row["precision"]

    finite = {(row["estimator"], *setting(row)): row["finite"] for row in rows}
    for row in rows:
        references = REFERENCES[posterior_of(row["estimator"])]
        others = [finite.get((name, *setting(row))) for name in references]
        of_model = False in others and True not in others
        row["verdict"] = "finite" if row["finite"] else "model" if of_model else "NOT FINITE"
    return rows


def table(rows):
    """Return a line for each estimator and precision, a column for each optimizer and rate."""
    columns = list(dict.fromkeys((row["optimizer"], row["rate"]) for row in rows))
    lines = [f"{'estimator':22}{'precision':16}" + "".join(f"{o:>7} {r:<5g}" for o, r in columns)]
    for name, precision in dict.fromkeys((row["estimator"], row["precision"]) for row in rows):
        cells = {
            (row["optimizer"], row["rate"]): f"{row['loss']:.2f}"
            if row["verdict"] == "finite"
            else row["verdict"]
            for row in rows
            if (row["estimator"], row["precision"]) == (name, precision)
        }
        body = "".join(f"{cells.get(column, ''):>13}" for column in columns)
        lines.append(f"{name:22}{precision:15}{body}")
    return "\n".join(lines)


def main():
    names = tfvae.estimators.names()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--estimators", nargs="+", choices=names, default=names)
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rates", type=float, nargs="+", help="instead of those of each optimizer")
    parser.add_argument("--objective", default="elbo")
    parser.add_argument("--num-samples", type=int, default=1)
    parser.add_argument("--json", help="file for the rows")
    options = parser.parse_args()
    x, rows = digits(), []
    bound = {"objective": options.objective, "num_samples": options.num_samples}
    fitting = [name for name in options.estimators if fits(name, options.objective)]
    for precision in options.precisions:
        for name in fitting:
            for optimizer in OPTIMIZERS:
                steps, rates = options.steps, options.rates
                rows += soak(name, optimizer, precision, x, steps, rates, **bound)
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    rows = blame(rows)
    print(table(rows))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=1)
    sys.exit(any(row["verdict"] == "NOT FINITE" for row in rows))


if __name__ == "__main__":
    main()
