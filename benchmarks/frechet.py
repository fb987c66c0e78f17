"""How far samples are from the data: a Fréchet distance, and pictures of the samples.

    python benchmarks/frechet.py run static-k1 static-vamp --data-dir PREPARED
    python benchmarks/frechet.py table

`run` takes runs that `benchmarks/quality.py run` has trained. It trains two small classifiers of
digits from fixed seeds, draws samples x from each model, and compares the features that each
classifier computes of them with those of the test images. It writes benchmarks/results/frechet.json
and a picture for each run; runs that are not named keep the figures that they have. `table` writes
what the file holds into docs/results.md, between two marks; with `--check` it fails where the page
holds anything else.

The classifiers are trained here, so the distances of one of them are comparable with each other
and with no published FID. The data without grey levels has no labels: the classifiers are trained
on the grey images that the data was made of, whose pixels are drawn anew in every epoch.
"""

import json
import statistics
from pathlib import Path

import numpy as np
import quality
import scipy.linalg

MARKS = "<!-- Written by benchmarks/frechet.py table: -->\n", "<!-- Up to here. -->\n"
FILE, FIGURES = "frechet.json", Path(__file__).parents[1] / "docs" / "images"
LABELLED, CLASSIFIERS, EPOCHS, FEATURES = "mnist", (0, 1), 4, 64
COUNT, BLOCK = 10_000, 1000  # samples, and how many of them are drawn at once
COLUMNS, GREYS = 16, 16  # of a picture
DATA, FLIPPED, ALONE = (
    "training images",
    "training images with 1% of the pixels flipped",
    "every pixel drawn by itself, at its frequency in the training images",
)


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean `[D]` and the covariance `[D, D]` of features `[N, D]`, in float64."""
    features = np.asarray(features, np.float64)
    return features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False))


def frechet_distance(first, second) -> float:
    """Return the squared Fréchet distance of two normal distributions (mean, covariance).

    ‖μ1 − μ2‖² + tr(S1 + S2 − 2 (S1 S2)^½). The trace of (S1 S2)^½ is the sum of the singular values
    of S1^½ S2^½, which are real where S1 or S2 has no inverse, too.
    Source: Dowson and Landau 1982, "The Fréchet distance between multivariate normal
    distributions"; of features: Heusel et al. 2017, "GANs trained by a two time-scale update rule
    converge to a local Nash equilibrium".
    """
    (mean, covariance), (other_mean, other) = first, second
    overlap = scipy.linalg.svdvals(_root(covariance) @ _root(other)).sum()
    distance = np.sum((mean - other_mean) ** 2) + np.trace(covariance) + np.trace(other)
    return float(distance - 2 * overlap)


def _root(covariance):
    """Return the symmetric square root of a covariance."""
    values, vectors = scipy.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def classifier(data_dir, seed):
    """Return the features of a classifier as a function of images, and its accuracy."""
    import keras

    from tfvae import data

    splits = data.load(LABELLED, data_dir, binarization="dynamic", condition="label")
    keras.utils.set_random_seed(seed)
    x = keras.Input(splits.shape)
    h = keras.layers.Conv2D(16, 3, 2, "same", activation="relu")(x)
    h = keras.layers.Conv2D(32, 3, 2, "same", activation="relu")(h)
    features = keras.layers.Dense(FEATURES, activation="relu")(keras.layers.Flatten()(h))
    model = keras.Model(x, keras.layers.Dense(splits.condition)(features))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    model.fit(splits.train.batches(100, seed), epochs=EPOCHS, verbose=0)
    _, accuracy = model.evaluate(splits.test.dataset(BLOCK), verbose=0)
    network = keras.Model(x, features)
    return lambda images: network.predict(images, batch_size=BLOCK, verbose=0), accuracy


def draws(model, count, seed):
    """Return means of p(x|z) for z ~ p(z), `[count, H, W, C]`, and pixels drawn with them."""
    blocks = [
        model.sample(min(BLOCK, count - start), seed=1000 * seed + start // BLOCK).numpy()
        for start in range(0, count, BLOCK)
    ]
    means = np.concatenate(blocks)
    return means, drawn(means, seed)


def drawn(means, seed):
    """Return pixels 0 or 1, each 1 with the probability that is given."""
    return (np.random.default_rng(seed).random(means.shape, np.float32) < means).astype("f4")


def references(splits, count) -> dict:
    """Return functions that make images without a model, by name."""
    train = splits.train.numpy()
    mean = train.mean(axis=0)

    def some(seed):
        start = seed * count % (len(train) - count + 1)
        return train[start : start + count]

    def flipped(seed):
        return np.abs(some(seed) - drawn(np.full((count, *splits.shape), 0.01), seed))

    def alone(seed):
        return drawn(np.broadcast_to(mean, (count, *splits.shape)), seed)

    return {DATA: some, FLIPPED: flipped, ALONE: alone}


def run(arguments):
    """Measure runs, draw their pictures, and write the results."""
    from tfvae import runs
    from tfvae._plain.files import write_json

    found = [classifier(arguments.data_dir, seed) for seed in CLASSIFIERS]
    networks, accuracies = zip(*found, strict=True)
    config = quality.config_of(quality.entries()[arguments.names[0]], arguments.data_dir, 0)
    splits = runs.load_data(config)
    test = splits.test.numpy()
    count = min(COUNT, len(test))
    targets = [moments(network(test)) for network in networks]

    def distances(images_of):
        """Return the distances, a list over the seeds of the images for each classifier."""
        rows = []
        for seed in range(arguments.seeds):
            images = images_of(seed)
            features = [moments(network(images)) for network in networks]
            rows.append(map(frechet_distance, features, targets))
        return [[round(one, 4) for one in column] for column in zip(*rows, strict=True)]

    path = quality.RESULTS / FILE
    values = json.loads(path.read_text()) if path.is_file() else {"runs": {}}
    values |= {"accuracies": accuracies, "num_examples": count}
    made = references(splits, count)
    values["references"] = {name: distances(images_of) for name, images_of in made.items()}
    for name in arguments.names:
        model, _ = runs.open_model(Path(arguments.runs_dir) / name)
        measured = quality.measured()[name]
        values["runs"][name] = {
            "what": measured["what"],
            "epochs": quality.epochs_of(measured),
            "nll": measured["test"]["nll"],
            "distances": distances(lambda seed, model=model: draws(model, count, seed)[1]),
        }
        picture(model, test, FIGURES / f"samples-{name}.png")
        print(name, values["runs"][name]["distances"], flush=True)
    write_json(path, values)


def picture(model, x, path):
    """Draw samples, reconstructions of x, and what lies between images of x.

    The rows are means of p(x|z), and under each the pixels that are drawn with it, twice; images,
    and under each its reconstruction; and two rows from one image to the next.
    """
    from PIL import Image

    from tfvae.images import save_grid

    means, pixels = draws(model, 2 * COLUMNS, 0)
    shown, ends = x[:COLUMNS], x[COLUMNS : COLUMNS + 3]
    rows = [
        *(means[:COLUMNS], pixels[:COLUMNS], means[COLUMNS:], pixels[COLUMNS:]),
        *(shown, model.decode(model.encode(shown)).numpy()),
        *(between(model, ends[:2]), between(model, ends[1:])),
    ]
    save_grid(np.concatenate(rows), path, COLUMNS)
    with Image.open(path) as image:
        few = image.convert("L").quantize(GREYS)
    few.save(path, optimize=True)


def between(model, ends):
    """Return two images `[2, H, W, C]`, and between them what a line between their z decodes to."""
    first, last = model.encode(ends).numpy()  # [D]
    share = np.linspace(0, 1, COLUMNS - 2, dtype=np.float32)[:, None]
    decoded = model.decode((1 - share) * first + share * last).numpy()
    return np.concatenate([ends[:1], decoded, ends[1:]])


def table() -> str:
    """Return the table, in Markdown: the nearest first."""
    values = json.loads((quality.RESULTS / FILE).read_text())
    rows = [(of, "", "", found) for of, found in values["references"].items()]
    rows += [
        (f"`{name}`: {row['what']}", f"{row['nll']:.2f}", row["epochs"], row["distances"])
        for name, row in values["runs"].items()
    ]
    lines = ["| images | NLL | epochs | Fréchet distance | of another classifier |"]
    lines.append("|---|---|---|---|---|")
    for name, nll, epochs, found in sorted(rows, key=lambda row: statistics.mean(row[-1][0])):
        distances = " | ".join(map(_with_error, found))
        lines.append(f"| {name} | {nll} | {epochs} | {distances} |")
    accuracies = " and ".join(f"{accuracy:.2%}" for accuracy in values["accuracies"])
    note = (
        f"{values['num_examples']:,} images against as many test images, the mean and its standard "
        f"error of {len(found[0])} such draws. The classifiers are right about {accuracies} of the "
        "test images."
    )
    return "\n".join([*lines, "", note, ""])


def _with_error(distances):
    error = statistics.stdev(distances) / len(distances) ** 0.5
    return f"{statistics.mean(distances):.2f} ± {error:.2f}"


def main():
    parser, commands = quality.commands_of(__doc__)
    sub = commands.add_parser("run")
    sub.add_argument("names", nargs="+", choices=quality.entries())
    sub.add_argument("--data-dir", help="where TFDS finds prepared data")
    sub.add_argument("--runs-dir", default="runs/quality")
    sub.add_argument("--seeds", type=int, default=4)
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments)
    else:
        quality.write_page(MARKS, table(), arguments.check)


if __name__ == "__main__":
    main()
