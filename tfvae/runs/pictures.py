"""The pictures of a run."""

import math

import matplotlib
import numpy as np
import tensorflow as tf

from tfvae.evaluation import posterior_means
from tfvae.images import grid, is_picture, save_grid
from tfvae.models import CodeModel
from tfvae.runs import arrays, tables
from tfvae.runs.figures import save as _save

matplotlib.use("Agg")
from matplotlib import pyplot as plt

_NATS = "nats per example"
_CURVES = {"elbo": _NATS, "reconstruction": _NATS, "kl": _NATS}
_CODE_CURVES = {"reconstruction": _NATS, "quantization": _NATS, "perplexity": "codes"}
PRIOR_CURVES = {"loss": _NATS, "bits_per_code": "bits per code"}
_WHOLE_RANGE = ("kl", "perplexity")


def draw(run, model, splits, history) -> None:
    """Write curves.png, reconstructions.png, samples.png and a picture of the latents.

    The picture of the latents is latent.png, or usage.png for a model of codes; a model with a
    condition has no latent.png, and its samples show one condition after the other. For a table the
    files are those of `tfvae.runs.tables.draw`, for vectors and series those of
    `tfvae.runs.arrays.draw`. Other data that is no picture, grey or RGB, cannot be shown.
    """
    codes = isinstance(model, CodeModel)
    needs_y = model.trains_on_condition
    curves(history, run.path / "curves.png", _CODE_CURVES if codes else _CURVES)
    if codes:
        y = splits.test.conditions_of(model, 0, 1000) if needs_y else None
        usage(model, splits.test.numpy(0, 1000), run.path / "usage.png", y)
    if model.schema is not None and not codes:
        tables.draw(run, model, splits, some_conditions(model, splits, 2000))
    elif splits.kind in ("vector", "series"):
        arrays.draw(run, model, splits, some_conditions(model, splits, 1000))
    if splits.kind != "image" or not is_picture(splits.shape):
        return
    y = splits.test.conditions_of(model, 0, 32) if needs_y else None
    reconstructions(model, splits.test.numpy(0, 32), run.path / "reconstructions.png", y)
    some = some_conditions(model, splits)
    save_grid(model.sample(64, condition=some).numpy(), run.path / "samples.png")
    if codes or needs_y:
        return
    show = latent if model.latent_kinds[0] == "continuous" else switches
    show(model, splits.test.numpy(0, 1000), run.path / "latent.png")


def some_conditions(model, splits, count: int = 64):
    """Return conditions to draw images of: every label in turn, or those of test images."""
    if model.condition is None:
        return None
    if model.condition.num_classes:
        return model.condition.example(count)
    y = splits.test.conditions_of(model)
    return np.resize(y, (count, *y.shape[1:]))


def curves(history: list[dict], path, units: dict[str, str]) -> None:
    """Draw metrics over epochs, training and validation; `units` names them."""
    size = (4 * len(units), 3.5)
    figure, axes = plt.subplots(1, len(units), figsize=size, layout="constrained", squeeze=False)
    axes = axes[0]
    epochs = [row["epoch"] for row in history]
    for axis, (name, unit) in zip(axes, units.items(), strict=True):
        for prefix, label in (("", "training"), ("val_", "validation")):
            if prefix + name in history[0]:
                axis.plot(epochs, [row[prefix + name] for row in history], label=label)
        # The high losses of the first epochs would flatten the rest of the curve.
        values = [row[p + name] for row in history for p in ("", "val_") if p + name in row]
        if len(history) > 5:
            low, high = np.percentile(values, [0, 100] if name in _WHOLE_RANGE else [4, 96])
            margin = 0.1 * (high - low) + 1e-6
            axis.set_ylim(low - margin, high + margin)
        axis.set(title=name, xlabel="epoch", ylabel=unit)
        axis.grid(alpha=0.3)
    axes[0].legend()
    _save(figure, path)


def usage(model, x: np.ndarray, path, condition=None) -> None:
    """Draw how often each code occurs over images, most frequent first, for every codebook."""
    figure, axis = plt.subplots(figsize=(8, 3.5), layout="constrained")
    counts = [
        np.bincount(np.ravel(part), minlength=model.codebook_size)
        for part in model.by_codebook(model.encode(x, condition))
    ]
    for number, count in enumerate(counts, start=1):
        p = np.sort(count / count.sum())[::-1]
        perplexity = np.exp(-np.sum(p[p > 0] * np.log(p[p > 0])))
        name = f"codebook {number}: " if len(counts) > 1 else ""
        axis.plot(p, label=f"{name}perplexity {perplexity:.0f}, {np.mean(p > 0):.0%} used")
    axis.axhline(1 / model.codebook_size, color="0.6", linewidth=1, label="all alike")
    axis.set(
        title=f"codes of {len(x)} test images",
        xlabel="code, most frequent first",
        ylabel="frequency",
        yscale="log",
    )
    axis.grid(alpha=0.3)
    axis.legend()
    _save(figure, path)


def diagnosis(result, path) -> None:
    """Draw bias and variance of the gradient of every estimator, one column for each objective."""
    names = list(result.reference)
    size = (1 + 4.5 * len(names), 7)
    figure, axes = plt.subplots(2, len(names), figsize=size, layout="constrained", squeeze=False)
    for column, objective in enumerate(names):
        rows = [row for row in result.rows if row.objective == objective]
        labels = [row.estimator for row in rows]
        place = np.arange(len(rows))
        above, below = axes[0, column], axes[1, column]
        errors = [2 * row.bias_standard_error for row in rows]
        above.errorbar(place, [row.bias for row in rows], errors, fmt="o", capsize=3)
        above.axhline(0, color="0.6", linewidth=1)
        above.set(title=f"{objective}, K = {rows[0].num_samples}" if rows else objective)
        noisy = [(n, row.variance) for n, row in enumerate(rows) if row.variance > 0]
        if noisy:
            below.bar(*zip(*noisy, strict=True))
            below.set_yscale("log")
        for axis in (above, below):
            axis.set_xticks(place, labels, rotation=60, ha="right", fontsize=8)
            axis.grid(alpha=0.3, axis="y")
    axes[0, 0].set_ylabel("bias of the direction ± 2 standard errors")
    axes[1, 0].set_ylabel("variance of the gradient")
    _save(figure, path)


def reconstructions(model, x: np.ndarray, path, condition=None) -> None:
    """Draw images in odd rows, and under each its reconstruction."""
    columns = min(16, len(x))
    if condition is None:
        decoded = model.predict(x, verbose=0)
    else:
        decoded = model(x, condition=condition).numpy()
    blanks = np.full((-len(x) % columns, *x.shape[1:]), 0.5, np.float32)
    rows = [
        np.concatenate([part, blanks]).reshape(-1, columns, *x.shape[1:]) for part in (x, decoded)
    ]
    save_grid(np.stack(rows, axis=1).reshape(-1, *x.shape[1:]), path, columns)


def latent(model, x: np.ndarray, path) -> None:
    """Draw the latent space: a map of decoded images for two dimensions, traversals otherwise.

    Traversals move one coordinate from −3 to 3, the others at 0, for the eight coordinates whose
    posterior means vary most over the data. Of several stochastic layers, the lowest is shown.
    """
    steps = np.linspace(-3, 3, 15, dtype=np.float32)
    size = math.prod(model.layer_shapes[0])
    if size == 2:
        z = np.stack(np.meshgrid(steps, -steps), axis=-1).reshape(-1, 2)
        names = None
    else:
        most = np.argsort(-posterior_means(model, x, progress=False)[:, :size].var(axis=0))[:8]
        z = np.zeros((len(most), len(steps), size), np.float32)
        z[np.arange(len(most)), :, most] = steps
        z = z.reshape(-1, size)
        names = [f"z[{unit}]" for unit in most]
    upper = np.zeros((len(z), math.prod(model.latent_shape) - size), np.float32)
    images = _decoded(model, np.concatenate([z, upper], axis=1))
    ticks = [0, 7, 14], ["−3", "0", "3"]
    if names is None:
        rows, labels = [0, 7, 14], ("z[0]", "z[1]")
        _labelled(images, len(steps), ticks, (rows, ["3", "0", "−3"]), labels, path)
    else:
        rows = list(range(len(names)))
        label = "value of one latent, the others at 0", ""
        _labelled(images, len(steps), ticks, (rows, names), label, path)


def switches(model, x: np.ndarray, path) -> None:
    """Draw the effect of discrete latents: images decoded with one latent at each of its values.

    A row is a latent, the eight whose posterior means vary most over the data; side by side are its
    values, and then the same for the next image, the other latents at the mode of q(z|x). Of
    several stochastic layers, the lowest is shown.
    """
    shape = model.layer_shapes[0]
    bits = model.latent_kinds[0] == "bernoulli"
    values = np.array([[0.0], [1.0]]) if bits else np.eye(shape[-1])
    width = values.shape[1]
    means = posterior_means(model, x, progress=False)
    variance = means[:, : math.prod(shape)].var(axis=0)
    most = np.argsort(-variance.reshape(-1, width).sum(axis=1))[:8]
    h = model.bottom_up(tf.constant(x[: max(1, 16 // len(values))]))
    layers, _ = model.infer(h, lambda number, q: (q.mode(), None))
    modes = model.join([layer.z for layer in layers]).numpy()
    z = np.tile(
        modes.reshape(1, len(modes), 1, -1), (len(most), 1, len(values), 1)
    )  # latent that is switched, image, value, D
    for row, unit in enumerate(most):
        z[row, :, :, unit * width : (unit + 1) * width] = values
    columns = len(modes) * len(values)
    starts = [i * len(values) for i in range(len(modes))]
    _labelled(
        _decoded(model, z.reshape(len(most) * columns, -1)),
        columns,
        (starts, [f"image {i + 1}" for i in range(len(modes))]),
        (list(range(len(most))), [f"z[{unit}]" for unit in most]),
        ("one latent at each of its values, the others as encoded", ""),
        path,
    )


def _decoded(model, z):
    return model.decode(z.reshape(-1, *model.latent_shape)).numpy()


def _labelled(images, columns, column_names, row_names, labels, path):
    """Draw images in a grid whose columns and rows, given by number, have names."""
    picture = grid(images, columns)
    figure, axis = plt.subplots(
        figsize=(8, 8 * picture.shape[0] / picture.shape[1] + 0.4), layout="constrained"
    )
    axis.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255)
    width, height = picture.shape[1] / columns, picture.shape[0] / (len(images) // columns)
    axis.set_xticks([width * (i + 0.5) for i in column_names[0]], column_names[1])
    axis.set_yticks([height * (i + 0.5) for i in row_names[0]], row_names[1])
    axis.set(xlabel=labels[0], ylabel=labels[1])
    _save(figure, path)
