"""A VAE on tables, counts and series beside plain models, on the same test examples.

    python benchmarks/table.py wine --seeds 4
    python benchmarks/table.py counts --seeds 4
    python benchmarks/table.py series --seeds 4     # needs tfvae[series]

The seed decides which examples are test examples. Every model sees the same training ones; the
number of components or factors of a plain one is what the validation examples like best, and the
VAE keeps the weights of the epoch that they like best. Values are in nats per example:
log-densities of standardized values, and log-probabilities of counts.
"""

import argparse
import json
import warnings
from pathlib import Path
from typing import NamedTuple

import keras
import matplotlib
import numpy as np
import scipy.optimize
import scipy.special
import scipy.stats
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import FactorAnalysis
from sklearn.mixture import GaussianMixture

import tfvae
from tfvae import recipes, runs

matplotlib.use("Agg")
from matplotlib import pyplot as plt

RESULTS = Path(__file__).parent / "results"
FIGURES = Path(__file__).parents[1] / "docs" / "images"


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
    counts = [n for n in (*range(1, 10), 12, 16, 24, 32, 40) if n < train.shape[1]]
    found = [FactorAnalysis(count).fit(train) for count in counts]
    best = max(found, key=lambda model: model.score(validation))
    return best.score(test), str(best.n_components)


def independent_poisson(train, validation, test):
    """A Poisson distribution of each value."""
    return _poisson(test, np.maximum(train.mean(0), 1e-3)).sum(1).mean(), ""


def independent_negative_binomial(train, validation, test):
    """A negative binomial distribution of each value, both parameters by maximum likelihood."""
    total = 0.0
    for column, held_out in zip(train.T, test.T, strict=True):
        mean = max(column.mean(), 1e-3)

        def loss(log_r, column=column, mean=mean):
            return -_negative_binomial(column, mean, np.exp(log_r)).mean()

        log_r = scipy.optimize.minimize_scalar(loss, bounds=(-8, 8), method="bounded").x
        total += _negative_binomial(held_out, mean, np.exp(log_r)).mean()
    return total, ""


def independent_categories(train, validation, test):
    """The frequency of each count from 0 to 16, of each value by itself, one more of each."""
    levels = np.arange(17)
    frequencies = (train[:, :, np.newaxis] == levels).sum(0) + 1.0
    log_p = np.log(frequencies / frequencies.sum(1, keepdims=True))
    chosen = np.take_along_axis(log_p[np.newaxis], test.astype(int)[:, :, np.newaxis], -1)
    return chosen.sum((1, 2)).mean(), ""


def poisson_mixture(train, validation, test):
    """A mixture of independent Poisson distributions by EM, their number by the validation rows."""
    found = [_fit_poisson_mixture(train, count) for count in (10, 20, 40, 80, 120)]
    best = max(found, key=lambda model: _of_mixture(validation, *model).mean())
    return _of_mixture(test, *best).mean(), str(len(best[0]))


def factor_analysis_of_counts(train, validation, test):
    """Factor analysis of counts plus uniform noise in [0, 1): a lower bound on log P(counts).

    Theis, van den Oord and Bethge 2016, "A note on the evaluation of generative models", sec. 3.1.
    """
    rng = np.random.default_rng(0)
    train, validation, test = (
        part + rng.uniform(size=part.shape) for part in (train, validation, test)
    )
    found = [FactorAnalysis(count).fit(train) for count in (10, 20, 30, 40)]
    best = max(found, key=lambda model: model.score(validation))
    return best.score(test), str(best.n_components)


def _poisson(x, mean):
    return scipy.stats.poisson.logpmf(x, mean)


def _negative_binomial(x, mean, r):
    return scipy.stats.nbinom.logpmf(x, r, r / (r + mean))


def _of_mixture(x, log_weights, means):
    """Return log p(x) of the rows under a mixture of Poisson distributions."""
    parts = x @ np.log(means).T - means.sum(1) - scipy.special.gammaln(x + 1).sum(1, keepdims=True)
    return scipy.special.logsumexp(parts + log_weights, axis=1)


def _fit_poisson_mixture(x, count, steps=100):
    rng = np.random.default_rng(0)
    means = 0.5 * x[rng.choice(len(x), count, replace=False)] + 0.5 * x.mean(0) + 1e-2
    log_weights = np.full(count, -np.log(count))
    for _ in range(steps):
        parts = x @ np.log(means).T - means.sum(1) + log_weights
        shares = scipy.special.softmax(parts, axis=1)
        totals = shares.sum(0) + 1e-9
        means = (shares.T @ x + 0.1 * x.mean(0)) / (totals + 0.1)[:, np.newaxis] + 1e-4
        log_weights = np.log(totals / totals.sum())
    return log_weights, means


class KeepBest(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the highest bound on the validation rows."""

    best, weights = -np.inf, None

    def on_epoch_end(self, epoch, logs=None):
        """Look at the epoch."""
        if -logs.get("val_loss", np.inf) > self.best:
            self.best, self.weights = -logs["val_loss"], self.model.get_weights()


def vae(config, splits):
    """The VAE of a configuration."""
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
    found = tfvae.log_likelihood(model, splits.test, num_samples=500, progress=False)
    return found.mean, str(config.model.latent_size)


class Task(NamedTuple):
    """What is compared: plain models, and settings of a recipe by the name of a VAE, the last."""

    recipe: str
    plain: dict
    vaes: dict
    label: str


OF_NUMBERS = {
    "normal, full covariance": gaussian,
    "normal, Ledoit–Wolf": shrunk_gaussian,
    "Gaussian mixture": mixture,
    "factor analysis": factor_analysis,
}
OF_COUNTS = {
    "independent Poisson": independent_poisson,
    "independent negative binomial": independent_negative_binomial,
    "independent frequencies of 0 to 16": independent_categories,
    "Poisson mixture": poisson_mixture,
    "factor analysis, dequantized": factor_analysis_of_counts,
}
TASKS = {
    "wine": Task(
        "table-wine",
        OF_NUMBERS,
        {"VAE (table-wine)": {"data.columns": {"cultivar": "ignored"}}},
        "log p of a test row, nats (standardized columns)",
    ),
    "counts": Task(
        "counts-digits",
        OF_COUNTS,
        {
            "VAE, negative binomial": {"model.likelihood": "negative_binomial"},
            "VAE, categorical over 0 to 16": {
                "data.kind": "image",
                "model.likelihood": "categorical",
                "model.likelihood_options": {"num_levels": 17},
            },
            "VAE, Poisson (counts-digits)": {},
        },
        "log P of the 64 counts of a test digit, nats",
    ),
    "series": Task(
        "series-vowels",
        OF_NUMBERS,
        {"VAE (series-vowels)": {}},
        "log p of a test series, nats (standardized values)",
    ),
}


def measure(task, seed, epochs):
    """Return {model: (log p of a test example, what was chosen)} of one split."""
    scores = {}
    for name, changes in task.vaes.items():
        given = {**changes, "training.seed": seed} | ({"training.epochs": epochs} if epochs else {})
        config = recipes.load(task.recipe).override(given)
        splits = runs.load_data(config)
        if not scores:
            parts = (splits.train, splits.validation, splits.test)
            parts = [part.numpy().reshape(len(part), -1).astype(np.float64) for part in parts]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                scores = {name: score(*parts) for name, score in task.plain.items()}
        scores[name] = vae(config, splits)
    return scores


def draw(scores, path, label):
    """Draw log p of a test row for every model, a dot for each split and the mean."""
    names = list(next(iter(scores.values())))
    figure, axis = plt.subplots(figsize=(7, 0.6 + 0.4 * len(names)), layout="constrained")
    for place, name in enumerate(reversed(names)):
        values = [of[name][0] for of in scores.values()]
        axis.plot(values, [place] * len(values), "o", alpha=0.4, color="tab:blue")
        axis.plot(np.mean(values), place, "|", markersize=18, markeredgewidth=2, color="black")
    axis.set_yticks(range(len(names)), list(reversed(names)))
    axis.set_xlabel(f"{label}; a dot for each split")
    axis.set_ylim(-0.5, len(names) - 0.5)
    axis.grid(alpha=0.3, axis="x")
    figure.savefig(path, dpi=110)


def main():
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--epochs", type=int, help="Fewer than in the recipe, to try it.")
    arguments = parser.parse_args()
    task, scores = TASKS[arguments.task], {}
    for seed in range(arguments.seeds):
        scores[seed] = measure(task, seed, arguments.epochs)
        found = {name: round(float(value), 3) for name, (value, _) in scores[seed].items()}
        print(seed, found, flush=True)
    names = list(next(iter(scores.values())))
    last = np.array([of[names[-1]][0] for of in scores.values()])
    for name in names:
        values = np.array([of[name][0] for of in scores.values()])
        better = last - values
        error = better.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        chosen = ", ".join(of[name][1] for of in scores.values())
        beside = f"VAE − it {better.mean():+.3f} ± {error:.3f}"
        print(f"{name:<40}{values.mean():8.3f}   {beside}   {chosen}")
    name = f"table-{arguments.task}"
    (RESULTS / f"{name}.json").write_text(json.dumps(scores, indent=2) + "\n")
    draw(scores, FIGURES / f"{name}.png", task.label)


if __name__ == "__main__":
    main()
