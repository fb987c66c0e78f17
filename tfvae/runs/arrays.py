"""The figures of a run on vectors or series."""

import numpy as np

from tfvae import outputs
from tfvae.data.source import select, spread
from tfvae.models import CodeModel
from tfvae.runs import figures

_MOST = 1000


def draw(run, model, splits, condition=None) -> None:
    """Write samples.png, reconstructions.png of series, correlations.png of vectors, latent.png.

    Samples of vectors are histograms of their columns beside those of training examples, those of
    series are bands. There is no latent.png of a model of codes. All is in the units of the data.

    Args:
        run: the `RunDirectory`.
        model: the trained model.
        splits: its data.
        condition: what to draw samples of, `[N]`, for a model with a condition.
    """
    shown = splits.train.sample(_MOST)
    width = model.likelihood.draw_width(splits.shape[-1]) * max(1, splits.shape[0])
    count = max(32, min(_MOST, 10**8 // width))
    y = None if condition is None else condition[:count]
    drawn = model.sample(count, condition=y).numpy()
    samples(model, shown, drawn, run.path / "samples.png")
    x = splits.test.numpy(0, 32)
    y = splits.test.conditions_of(model, 0, 32)
    if splits.kind == "series":
        reconstructions(model, x, run.path / "reconstructions.png", y)
    else:
        flat = [part.reshape(len(part), -1) for part in (shown, drawn)]
        names = [str(n) for n in range(min(flat[0].shape[1], figures.MOST_PANELS))]
        figures.correlations(names, *flat, run.path / "correlations.png")
    if not isinstance(model, CodeModel) and model.latent_kinds[0] == "continuous":
        latent(model, splits, run.path / "latent.png")


def samples(model, data: np.ndarray, drawn: np.ndarray, path) -> None:
    """Draw samples beside data, both as the model has them: bands of series, histograms of vectors.

    Args:
        model: the model, for the units of the data.
        data: `[N, *x_shape]`.
        drawn: `[M, *x_shape]`.
        path: of the picture.
    """
    data, drawn = (outputs.in_units(part, model) for part in (data, drawn))
    if len(model.x_shape) == 2:
        figures.bands(data, drawn, path)
        return
    data, drawn = (part.reshape(len(part), -1) for part in (data, drawn))
    count = data.shape[1]
    shown = range(min(count, figures.MOST_PANELS))
    panels = {f"column {n}": (data[:, n], drawn[:, n], ()) for n in shown}
    figures.columns(panels, path, count)


def reconstructions(model, x: np.ndarray, path, condition=None) -> None:
    """Draw series and their reconstructions."""
    decoded = model(x, condition=condition) if condition is not None else model(x)
    figures.beside(*(outputs.in_units(np.asarray(part), model) for part in (x, decoded)), path)


def latent(model, splits, path) -> None:
    """Draw the posterior means of training examples, coloured by their labels where they have."""
    _, y, means = encoded(model, splits.train)
    if y is None or y.ndim > 1:
        figures.latent_map(means, path)
    else:
        figures.latent_map(means, path, "label", y, tuple(np.unique(y)))


def encoded(model, examples) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Return some examples, evenly spaced, their conditions, and their means of q(z|x)."""
    index = spread(len(examples), _MOST)
    x = examples.scaled(select(examples.values, index)[:])
    y = None if examples.conditions is None else examples.conditions[index]
    means = model.encode(x) if model.condition is None else model.encode(x, condition=y)
    return x, y, np.asarray(means).reshape(len(x), -1)
