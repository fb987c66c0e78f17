"""The look of the figures: one quiet style, readable on a phone, by day and by night."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import matplotlib as mpl
from cycler import cycler
from matplotlib_inline.backend_inline import set_matplotlib_formats

BLUE, ORANGE, GREEN, RED, PURPLE, GREY = (
    "#3b7dd8",
    "#e08a1e",
    "#2a9d7f",
    "#d1495b",
    "#8d6cc9",
    "#8a8f98",
)
_INK = "#737a85"  # legible on white and on black

mpl.rcParams.update(
    {
        "axes.edgecolor": _INK,
        "axes.grid": True,
        "axes.labelcolor": _INK,
        "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, RED, PURPLE, GREY]),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlecolor": _INK,
        "axes.titlesize": 10.5,
        "figure.constrained_layout.use": True,
        "figure.figsize": (5.4, 3.3),
        "font.size": 10.5,
        "grid.alpha": 0.18,
        "image.cmap": "Blues",
        "image.interpolation": "nearest",
        "legend.fontsize": 9.5,
        "legend.frameon": False,
        "legend.labelcolor": _INK,
        "lines.linewidth": 2.0,
        "savefig.transparent": True,
        "text.color": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
    }
)
set_matplotlib_formats("svg")


def show_images(axis, images, columns, vmin=-0.15, vmax=1.0, cmap="Blues"):
    """Draw images `[N, H, W]` as a grid with gaps on one axis, row by row."""
    import numpy as np

    images = np.asarray(images, float)
    count, height, width = images.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for number, image in enumerate(images):
        top, left = divmod(number, columns)
        top, left = top * (height + 1), left * (width + 1)
        sheet[top : top + height, left : left + width] = image
    axis.imshow(sheet, vmin=vmin, vmax=vmax, cmap=cmap)
    axis.axis("off")
