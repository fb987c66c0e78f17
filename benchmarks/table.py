"""A VAE on a small table beside plain models of scikit-learn, on the same test rows.

    python benchmarks/table.py --seeds 4

The seed decides which rows are test rows. Every model sees the same training rows, standardized by
their statistics; the number of components or factors of a plain one is what the validation rows
like best, and the VAE keeps the weights of the epoch that they like best. Log-densities are in nats
of standardized units.
"""

import argparse
import json
import warnings
from pathlib import Path

import keras
import matplotlib
import numpy as np
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import FactorAnalysis
from sklearn.mixture import GaussianMixture

import tfvae
from tfvae import recipes, runs

matplotlib.use("Agg")
from matplotlib import pyplot as plt

RESULTS = Path(__file__).parent / "results" / "table.json"
FIGURE = Path(__file__).parents[1] / "docs" / "images" / "table-wine.png"
MEASUREMENTS = {"data.columns": {"cultivar": "ignored"}}


def gaussian(train, validation, test):
    """A normal distribution with the full covariance of the training rows."""
    model = GaussianMixture(1, reg_covar=1e-6, random_state=0).fit(train)
    return float(model.score(test)), "1"


def shrunk_gaussian(train, validation, test):
    """The same with the shrinkage of Ledoit and Wolf."""
    return LedoitWolf().fit(train).score(test), ""


def mixture(train, validation, test):
    """A mixture of normals, the number and the shape of the covariances by the validation rows."""
    found = [
        GaussianMixture(count, covariance_type=kind, reg_covar=1e-3, random_state=0).fit(train)
        for count in range(1, 9)
        for kind in ("full", "tied", "diag")
    ]
    best = max(found, key=lambda model: model.score(validation))
    return best.score(test), f"{best.n_components} {best.covariance_type}"


def factor_analysis(train, validation, test):
    """Factor analysis, the number of factors by the validation rows."""
    found = [FactorAnalysis(count).fit(train) for count in range(1, 10)]
    best = max(found, key=lambda model: model.score(validation))
    return best.score(test), str(best.n_components)


class KeepBest(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the highest bound on the validation rows."""

    best, weights = -np.inf, None

    def on_epoch_end(self, epoch, logs=None):
        """Look at the epoch."""
        if -logs.get("val_loss", np.inf) > self.best:
            self.best, self.weights = -logs["val_loss"], self.model.get_weights()


def vae(config, splits):
    """The recipe `table-wine`."""
    model = runs.build_model(config, splits)
    keep, settings = KeepBest(), config.training
    model.fit(
        splits.train.batches(settings.batch_size, settings.seed),
        validation_data=splits.validation.dataset(settings.batch_size),
        epochs=settings.epochs,
        validation_freq=10,
        callbacks=[keep],
        verbose=0,
    )
    model.set_weights(keep.weights)
    found = tfvae.log_likelihood(model, splits.test, num_samples=2000, progress=False)
    return found.mean, str(config.model.latent_size)


PLAIN = {
    "normal, full covariance": gaussian,
    "normal, Ledoit–Wolf": shrunk_gaussian,
    "Gaussian mixture": mixture,
    "factor analysis": factor_analysis,
}


def measure(seed, epochs):
    """Return {model: (log p of a test row, what was chosen)} of one split."""
    changes = {**MEASUREMENTS, "training.seed": seed}
    config = recipes.load("table-wine").override(
        changes | ({"training.epochs": epochs} if epochs else {})
    )
    splits = runs.load_data(config)
    parts = [part.numpy() for part in (splits.train, splits.validation, splits.test)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {name: score(*parts) for name, score in PLAIN.items()}
    return found | {"VAE (table-wine)": vae(config, splits)}


def draw(scores, path):
    """Draw log p of a test row for every model, a dot for each split and the mean."""
    figure, axis = plt.subplots(figsize=(7, 2.6), layout="constrained")
    names = list(next(iter(scores.values())))
    for place, name in enumerate(reversed(names)):
        values = [of[name][0] for of in scores.values()]
        axis.plot(values, [place] * len(values), "o", alpha=0.4, color="tab:blue")
        axis.plot(np.mean(values), place, "|", markersize=18, markeredgewidth=2, color="black")
    axis.set_yticks(range(len(names)), list(reversed(names)))
    axis.set_xlabel("log p of a test row, nats (standardized columns); a dot for each split")
    axis.grid(alpha=0.3, axis="x")
    figure.savefig(path, dpi=110)


def main():
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--epochs", type=int, help="Fewer than in the recipe, to try it.")
    arguments = parser.parse_args()
    scores = {}
    for seed in range(arguments.seeds):
        scores[seed] = measure(seed, arguments.epochs)
        print(seed, {name: round(float(value), 3) for name, (value, _) in scores[seed].items()})
    names = list(next(iter(scores.values())))
    last = np.array([of[names[-1]][0] for of in scores.values()])
    for name in names:
        values = np.array([of[name][0] for of in scores.values()])
        better = last - values
        error = better.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        chosen = ", ".join(of[name][1] for of in scores.values())
        beside = f"VAE − it {better.mean():+.3f} ± {error:.3f}"
        print(f"{name:<26}{values.mean():8.3f}   {beside}   {chosen}")
    RESULTS.write_text(json.dumps(scores, indent=2) + "\n")
    draw(scores, FIGURE)


if __name__ == "__main__":
    main()
