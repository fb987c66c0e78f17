"""The figures and the rows of a run on a table."""

import math

import matplotlib
import numpy as np

from tfvae import outputs, tables
from tfvae.evaluation import posterior_means
from tfvae.files import atomic

matplotlib.use("Agg")
from matplotlib import pyplot as plt

_MOST_PANELS = 24
_MOST_BARS = 12
_MOST_ROWS = 2000
_MOST_NUMBERS = 10**8  # of draws at once
_DATA, _SAMPLES = "0.6", "tab:blue"


def draw(run, model, splits, condition=None) -> None:
    """Write columns.png, correlations.png and latent.png, samples.csv and reconstructions.csv.

    Args:
        run: the `RunDirectory`.
        model: the trained model.
        splits: its data.
        condition: what to draw samples of, `[N]`, for a model with a condition.
    """
    schema = model.schema
    width = model.likelihood.draw_width(schema.size)
    count = max(64, min(_MOST_ROWS, _MOST_NUMBERS // width))
    condition = None if condition is None else condition[:count]
    samples = model.sample(count, condition=condition).numpy()
    first = None if condition is None else condition[:64]
    outputs.save(samples[:64], run.path / "samples.csv", model, first)
    x, y = splits.test.numpy(0, 64), splits.test.conditions_of(model, 0, 64)
    reconstructions(model, x, run.path / "reconstructions.csv", y)
    data = splits.train.sample(_MOST_ROWS)
    columns(schema, data, samples, run.path / "columns.png")
    correlations(schema, data, samples, run.path / "correlations.png")
    if model.latent_kinds[0] == "continuous" and model.condition is None:
        latent(model, splits, run.path / "latent.png")


def reconstructions(model, x: np.ndarray, path, condition=None) -> None:
    """Write a CSV with each column of the rows x, and beside it the reconstructed one."""
    decoded = model(x, condition=condition) if condition is not None else model(x)
    given = model.schema.decode(x, condition)
    back = model.schema.decode(np.asarray(decoded), condition)
    both = {}
    for name, values in given.items():
        both[name] = values
        if model.schema[name].in_x:
            both[f"{name} (reconstructed)"] = back[name]
    tables.write_csv(both, path)


def columns(schema, data: np.ndarray, samples: np.ndarray, path) -> None:
    """Draw the histogram of each column of training rows beside that of samples."""
    shown = schema.in_x[:_MOST_PANELS]
    wide = min(4, len(shown))
    high = math.ceil(len(shown) / wide)
    size = (3.2 * wide, 2.4 * high)
    figure, axes = plt.subplots(high, wide, figsize=size, layout="constrained", squeeze=False)
    of_data, of_samples = schema.decode(data), schema.decode(samples)
    for column, axis in zip(shown, axes.ravel(), strict=False):
        both = of_data[column.name], of_samples[column.name]
        if column.categories:
            _bars(axis, column.categories, *both)
        else:
            _histogram(axis, *both)
        axis.set_title(column.name, fontsize=9)
        axis.set_yticks([])
        axis.tick_params(labelsize=7)
    for axis in axes.ravel()[len(shown) :]:
        axis.axis("off")
    axes[0, 0].legend(fontsize=7)
    more = len(schema.in_x) - len(shown)
    if more:
        figure.suptitle(f"the first {len(shown)} columns; {more} more are not shown", fontsize=9)
    _save(figure, path)


def _bars(axis, categories, data, samples):
    shown = categories[:_MOST_BARS]
    place = np.arange(len(shown))
    for values, shift, colour, label in (
        (data, -0.2, _DATA, "data"),
        (samples, 0.2, _SAMPLES, "samples"),
    ):
        share = [np.mean([value == category for value in values]) for category in shown]
        axis.bar(place + shift, share, 0.4, color=colour, label=label)
    axis.set_xticks(place, [str(category)[:8] for category in shown])


def _histogram(axis, data, samples):
    data, samples = (np.asarray(values, np.float64) for values in (data, samples))
    data = data[np.isfinite(data)]
    low, high = np.percentile(data, [0, 100])
    margin = 0.05 * (high - low) + 1e-9
    bins = np.linspace(low - margin, high + margin, 25)
    axis.hist(data, bins, density=True, color=_DATA, label="data")
    axis.hist(samples, bins, density=True, histtype="step", color=_SAMPLES, label="samples")


def correlations(schema, data: np.ndarray, samples: np.ndarray, path) -> None:
    """Draw the correlations of the columns in training rows, in samples, and their difference."""
    names = [column.name for column in schema.in_x][:_MOST_PANELS]
    if len(names) < 2:
        return
    found = [_correlation(values[:, : len(names)]) for values in (data, samples)]
    panels = {"data": found[0], "samples": found[1], "samples − data": found[1] - found[0]}
    side = 2 + 0.22 * len(names)
    figure, axes = plt.subplots(1, 3, figsize=(3 * side, side + 0.5), layout="constrained")
    for axis, (title, matrix) in zip(axes, panels.items(), strict=True):
        image = axis.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
        axis.set_title(title, fontsize=9)
        axis.set_xticks(range(len(names)), names, rotation=90, fontsize=6)
        axis.set_yticks(range(len(names)), names if axis is axes[0] else [], fontsize=6)
    figure.colorbar(image, ax=axes, shrink=0.8)
    _save(figure, path)


def _correlation(x):
    """Return the correlations of the rows without missing values; 0 of what does not vary."""
    x = x[np.isfinite(x).all(axis=1)]
    if len(x) < 2:
        return np.zeros((x.shape[1], x.shape[1]))
    centered = x - x.mean(axis=0)
    scale = np.maximum(centered.std(axis=0), 1e-12)
    return np.clip((centered / scale).T @ (centered / scale) / len(x), -1, 1)


def latent(model, splits, path) -> None:
    """Draw the posterior means of training rows on their two principal axes.

    The colours are those of the column with the fewest categories, or of the first column.
    """
    data = splits.train.sample(_MOST_ROWS)
    means = posterior_means(model, data)
    centered = means - means.mean(axis=0)
    _, _, axes_of_means = np.linalg.svd(centered, full_matrices=False)
    plane = centered @ axes_of_means[:2].T
    if plane.shape[1] == 1:
        plane = np.concatenate([plane, np.zeros_like(plane)], axis=1)
    with_levels = [column for column in model.schema.in_x if column.categories]
    column = min(with_levels, key=lambda c: len(c.categories), default=model.schema.in_x[0])
    values = model.schema.decode(data)[column.name]
    figure, axis = plt.subplots(figsize=(6, 5), layout="constrained")
    if column.categories:
        for category in column.categories[:_MOST_BARS]:
            here = np.array([value == category for value in values])
            axis.scatter(*plane[here].T, s=10, label=str(category))
        axis.legend(title=column.name, fontsize=8)
    else:
        dots = axis.scatter(*plane.T, s=10, c=np.asarray(values, np.float64))
        figure.colorbar(dots, label=column.name)
    axis.set(
        title=f"means of q(z|x) of {len(data)} training rows",
        xlabel="first principal axis of z",
        ylabel="second",
    )
    axis.grid(alpha=0.3)
    _save(figure, path)


def _save(figure, path):
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)
