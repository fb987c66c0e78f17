"""The figures and the rows of a run on a table."""

import numpy as np

from tfvae import outputs, tables
from tfvae.runs import arrays, figures

_MOST_ROWS = 2000
_MOST_NUMBERS = 10**8  # of draws at once


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
    of_data, of_samples = schema.decode(data), schema.decode(samples)
    shown = schema.in_x[: figures.MOST_PANELS]
    panels = {c.name: (of_data[c.name], of_samples[c.name], c.categories) for c in shown}
    figures.columns(panels, run.path / "columns.png", schema.size)
    figures.correlations(list(panels), data, samples, run.path / "correlations.png")
    if model.latent_kinds[0] == "continuous":
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


def latent(model, splits, path) -> None:
    """Draw the posterior means of training rows.

    The colours are those of the condition, of the column with the fewest categories, or of the
    first column.
    """
    data, y, means = arrays.encoded(model, splits.train)
    given = model.schema.condition
    if given is not None and y is not None:
        names = [given.categories[label] for label in y]
        figures.latent_map(means, path, given.name, names, given.categories)
        return
    with_levels = [column for column in model.schema.in_x if column.categories]
    column = min(with_levels, key=lambda c: len(c.categories), default=model.schema.in_x[0])
    values = model.schema.decode(data)[column.name]
    figures.latent_map(means, path, column.name, values, column.categories)
