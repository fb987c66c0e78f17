"""Figures of data that is no picture: columns, correlations, series, a map of the latents."""

import math
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from tfvae._plain.files import atomic

matplotlib.use("Agg")
from matplotlib import pyplot as plt

MOST_PANELS = 24
_MOST_BARS = 12
_MOST_CHANNELS = 6
_MOST_SERIES = 6
_DATA, _SAMPLES = "0.6", "tab:blue"


def columns(panels: dict[str, tuple], path: Path, num_columns: int) -> None:
    """Draw each column of training examples beside that of samples: a histogram, or bars.

    Args:
        panels: (values of the data, of the samples, categories) of the columns that are shown; no
            categories, (), where values are numbers.
        path: of the picture.
        num_columns: how many columns there are in all.
    """
    wide = min(4, len(panels))
    high = math.ceil(len(panels) / wide)
    size = (3.2 * wide, 2.4 * high)
    figure, axes = plt.subplots(high, wide, figsize=size, layout="constrained", squeeze=False)
    for (name, (data, samples, categories)), axis in zip(
        panels.items(), axes.ravel(), strict=False
    ):
        if len(categories):
            _bars(axis, categories, data, samples)
        else:
            _histogram(axis, data, samples)
        axis.set_title(name, fontsize=9)
        axis.set_yticks([])
        axis.tick_params(labelsize=7)
    for axis in axes.ravel()[len(panels) :]:
        axis.axis("off")
    axes[0, 0].legend(fontsize=7)
    _say_more(figure, len(panels), num_columns, "columns")
    save(figure, path)


def _say_more(figure, shown, count, noun):
    if count > shown:
        figure.suptitle(f"the first {shown} {noun}; {count - shown} more are not shown", fontsize=9)


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


def correlations(names: list[str], data: np.ndarray, samples: np.ndarray, path: Path) -> None:
    """Draw the correlations of the columns in training rows, in samples, and their difference."""
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
    save(figure, path)


def _correlation(x):
    """Return the correlations of the rows without missing values; 0 of what does not vary."""
    x = x[np.isfinite(x).all(axis=1)]
    if len(x) < 2:
        return np.zeros((x.shape[1], x.shape[1]))
    centered = x - x.mean(axis=0)
    scale = np.maximum(centered.std(axis=0), 1e-12)
    return np.clip((centered / scale).T @ (centered / scale) / len(x), -1, 1)


def latent_map(
    means: np.ndarray, path: Path, name: str = "", values: Any = None, categories: tuple = ()
) -> None:
    """Draw means of q(z|x) on their two principal axes, coloured by something known of x.

    Args:
        means: `[N, D]`.
        path: of the picture.
        name: the name of what the colours show; "" for one colour.
        values: `[N]`, the value of it for each example.
        categories: its values, where it has categories.
    """
    centered = means - means.mean(axis=0)
    _, _, axes_of_means = np.linalg.svd(centered, full_matrices=False)
    plane = centered @ axes_of_means[:2].T
    if plane.shape[1] == 1:
        plane = np.concatenate([plane, np.zeros_like(plane)], axis=1)
    figure, axis = plt.subplots(figsize=(6, 5), layout="constrained")
    if len(categories):
        for category in categories[:_MOST_BARS]:
            here = np.array([value == category for value in values])
            axis.scatter(*plane[here].T, s=10, label=str(category))
        axis.legend(title=name, fontsize=8)
    elif name:
        dots = axis.scatter(*plane.T, s=10, c=np.asarray(values, np.float64))
        figure.colorbar(dots, label=name)
    else:
        axis.scatter(*plane.T, s=10)
    axis.set(
        title=f"means of q(z|x) of {len(means)} training examples",
        xlabel="first principal axis of z",
        ylabel="second",
    )
    axis.grid(alpha=0.3)
    save(figure, path)


def bands(data: np.ndarray, samples: np.ndarray, path: Path) -> None:
    """Draw bands in which series of data and of samples lie at each step, a row for each channel.

    The bands hold the middle half and nine tenths of the series, the dark line is their median,
    the thin lines are some of them.

    Args:
        data: `[N, T, C]`, with NaN where values are missing.
        samples: `[M, T, C]`.
        path: of the picture.
    """
    count = min(data.shape[-1], _MOST_CHANNELS)
    size = (9, 0.6 + 2.2 * count)
    figure, axes = plt.subplots(count, 2, figsize=size, layout="constrained", squeeze=False)
    for channel in range(count):
        left, right = axes[channel]
        for axis, series, colour in ((left, data, "0.3"), (right, samples, _SAMPLES)):
            _band(axis, series[..., channel], colour)
            axis.grid(alpha=0.3)
            axis.tick_params(labelsize=7)
        ends = np.array([axis.get_ylim() for axis in (left, right)])
        for axis in (left, right):
            axis.set_ylim(ends[:, 0].min(), ends[:, 1].max())
        left.set_ylabel(f"channel {channel}" if data.shape[-1] > 1 else "value", fontsize=8)
    axes[0, 0].set_title(f"data ({len(data)} series)", fontsize=9)
    axes[0, 1].set_title(f"samples ({len(samples)})", fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("step", fontsize=8)
    _say_more(figure, count, data.shape[-1], "channels")
    save(figure, path)


def _band(axis, series, colour):
    known = series[:, ~np.isnan(series).all(axis=0)]
    low, q1, middle, q3, high = np.nanpercentile(known, [5, 25, 50, 75, 95], axis=0)
    steps = np.flatnonzero(~np.isnan(series).all(axis=0))
    axis.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    axis.fill_between(steps, q1, q3, color=colour, alpha=0.3, linewidth=0)
    axis.plot(steps, middle, color=colour, linewidth=1.8)
    for one in series[:_MOST_SERIES]:
        axis.plot(one, color=colour, linewidth=0.6, alpha=0.7)


def beside(series: np.ndarray, decoded: np.ndarray, path: Path) -> None:
    """Draw series and their reconstructions, with a row for each channel."""
    high, wide = min(series.shape[-1], _MOST_CHANNELS), min(len(series), _MOST_SERIES)
    size = (2.4 * wide + 0.6, 1.6 * high + 0.6)
    figure, axes = plt.subplots(
        high, wide, figsize=size, layout="constrained", squeeze=False, sharey="row"
    )
    for (channel, number), axis in np.ndenumerate(axes):
        axis.plot(series[number, :, channel], color="0.3", linewidth=1.2, label="data")
        again = decoded[number, :, channel]
        axis.plot(again, color=_SAMPLES, linewidth=1.2, label="reconstruction")
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=6)
    axes[0, 0].legend(fontsize=7)
    _say_more(figure, high, series.shape[-1], "channels")
    save(figure, path)


def save(figure: Any, path: Path) -> None:
    """Write a figure, whole or not at all, and forget it."""
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)
