"""How well scores tell examples from elsewhere: the area under the ROC curve (AUROC).

    python benchmarks/outliers.py [table] [digits] [noisy] [photo]

trains VAEs on data that comes with scikit-learn, scores held-out examples and outliers, and prints
the table of docs/scores.md: 1 is a score that ranks every ordinary example above every outlier, 0.5
one that tells nothing, and below 0.5 one that prefers the outliers.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_sample_image
from sklearn.feature_extraction.image import extract_patches_2d
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import tfvae
from tfvae.evaluation import corrupted, typicality
from tfvae.sklearn import VAETransformer

LEVELS = 17  # of the digits
PICTURES = {
    "latent_size": 8,
    "hidden": (128,),
    "likelihood": "categorical",
    "likelihood_options": {"num_levels": LEVELS},
    "random_state": 0,
}
OUTLIERS = 200
REGRETS = 60  # examples of each kind whose posterior is fitted


def photo_patches(name, count=2000, shrink=4):
    """Return 8×8 grey patches of one of scikit-learn's two photos, in the digits' levels."""
    photo = load_sample_image(name).mean(axis=-1) / 255
    height, width = (size // shrink for size in photo.shape)
    photo = photo[: height * shrink, : width * shrink]
    small = photo.reshape(height, shrink, width, shrink).mean(axis=(1, 3))
    patches = extract_patches_2d(small, (8, 8), max_patches=count, random_state=0)
    return np.round(patches.reshape(-1, 64) * (LEVELS - 1)) / (LEVELS - 1)


def changed(x, rng):
    """Return pictures made of pictures `[N, 64]`, by the names of what was done."""
    quarter = np.round(x * (LEVELS - 1) / 4) / (LEVELS - 1)
    return {
        "pixels shuffled": x[:, rng.permutation(64)],
        "a quarter of the contrast": quarter,
        "one grey": np.repeat(rng.integers(0, LEVELS, (len(x), 1)) / (LEVELS - 1), 64, axis=1),
    }


def pictures(trained_on, x, others, steps):
    """Yield rows (data, outliers, AUROC by score) of a model of pictures `[N, 64]`."""
    rng = np.random.default_rng(0)
    train, rest = train_test_split(x, test_size=2 * OUTLIERS, random_state=0)
    validation, test = rest[:OUTLIERS], rest[OUTLIERS:]
    vae = VAETransformer(**PICTURES, num_steps=steps).fit(train)
    background = VAETransformer(**PICTURES, num_steps=steps)
    background.fit(corrupted(train, 0.2, levels=LEVELS))
    ordinary = vae.score_samples(validation)

    def scores(x):
        log_p = vae.score_samples(x)
        return {
            "log p(x)": log_p,
            "typicality": typicality(log_p, ordinary),
            "ratio": log_p - background.score_samples(x),
            "regret": -regret(vae.model_, x[:REGRETS].astype("f4")),
        }

    inliers = scores(test)
    for name, outliers in {**others, **changed(test, rng)}.items():
        yield trained_on, name, areas(inliers, scores(outliers[:OUTLIERS]))


def regret(model, x):
    """Return what a posterior of its own would gain each example: Xiao, Yan and Amit 2020."""
    fitted = tfvae.fit_posterior(model, x, num_steps=300, num_fresh_samples=500, progress=False)
    return fitted.per_example - fitted.encoder_bound


def table(steps):
    """Yield the rows of a table whose outliers are its own rows with all columns shuffled."""
    rng = np.random.default_rng(0)
    train, rest = train_test_split(load_breast_cancer().data, test_size=0.5, random_state=0)
    scaler = StandardScaler().fit(train)
    train, rest = scaler.transform(train), scaler.transform(rest)
    validation, test = np.array_split(rest, 2)
    vae = VAETransformer(8, num_steps=steps, random_state=0).fit(train)
    background = VAETransformer(8, num_steps=steps, random_state=0).fit(corrupted(train, 0.5))
    gaussian = GaussianMixture(1, reg_covar=1e-3, random_state=0).fit(train)
    mixture = GaussianMixture(3, reg_covar=1e-3, random_state=0).fit(train)
    ordinary = vae.score_samples(validation)

    def scores(x):
        log_p = vae.score_samples(x)
        return {
            "log p(x)": log_p,
            "typicality": typicality(log_p, ordinary),
            "ratio": log_p - background.score_samples(x),
            "regret": -regret(vae.model_, ((x - vae.mean_) / vae.scale_).astype("f4")[:REGRETS]),
            "a Gaussian": gaussian.score_samples(x),
            "3 Gaussians": mixture.score_samples(x),
        }

    inliers = scores(test)
    one = test.copy()
    one[:, 0] = rng.permuted(one[:, 0])
    for name, x in {"all": rng.permuted(test, axis=0), "one": one}.items():
        yield "a table of 30 columns", f"{name} shuffled", areas(inliers, scores(x))


def areas(inliers, outliers):
    """Return the AUROC of each score, in which ordinary examples should be higher."""
    labels = {
        name: np.r_[np.ones(len(inliers[name])), np.zeros(len(outliers[name]))] for name in inliers
    }
    return {
        name: roc_auc_score(labels[name], np.r_[inliers[name], outliers[name]]) for name in inliers
    }


def noisy(x, rng):
    """Return pictures whose pixels are brighter by noise, of which none is the likeliest amount."""
    levels = np.round(x * (LEVELS - 1)) + rng.geometric(0.35, x.shape) - 1
    return np.minimum(levels, LEVELS - 1) / (LEVELS - 1)


def studies(steps):
    """Return the rows of each study by its name; nothing is computed before they are asked for."""
    digits = load_digits().images.reshape(-1, 64) / (LEVELS - 1)
    flower, china = photo_patches("flower.jpg"), photo_patches("china.jpg")
    with_noise = noisy(digits, np.random.default_rng(1))
    return {
        "table": table(steps),
        "digits": pictures("digits", digits, {"patches of a photo": flower}, steps),
        "noisy": pictures("noisy digits", with_noise, {"digits without noise": digits}, steps),
        "photo": pictures("patches of a photo", china, {"digits": digits}, steps),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="studies; all if none is named")
    parser.add_argument("--steps", type=int, default=1500)
    arguments = parser.parse_args()
    start = time.perf_counter()
    for name, rows in studies(arguments.steps).items():
        if arguments.names and name not in arguments.names:
            continue
        for number, (data, outliers, found) in enumerate(rows):
            if number == 0:
                print("| " + " | ".join(["trained on", "outliers", *found]) + " |")
            figures = [f"{area:.2f}" for area in found.values()]
            print("| " + " | ".join([data, outliers, *figures]) + " |", flush=True)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
