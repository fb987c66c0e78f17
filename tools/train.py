"""`tfvae train`: the training of a recipe, a TOML file or data into a run directory."""

import shutil
from pathlib import Path

import click

from tfvae import config, data_paths, paths, recipes
from tfvae._plain import files
from tfvae.config.names import check_names
from tfvae.config.resumed import check_resumed
from tfvae.errors import InvalidArgument, command
from tfvae.tools.common import (
    assignments_of,
    begin_together,
    finish,
    json_option,
    say,
    setting_options,
)

_RUNS = "runs"  # where runs are that have no --run-dir

# Plain flags for the settings that are changed most: flag, setting, type, help.
_FLAGS = {
    "dataset": ("data.name", str, "'digits', a TFDS name, or a path."),
    "data_dir": ("data.data_dir", str, "Folder of prepared TFDS data."),
    "objective": ("training.objective", str, "The bound: elbo, iwae, miwae, renyi, ..."),
    "estimator": ("training.estimator", str, "Of the gradient; default: one that fits the bound."),
    "num_samples": ("training.num_samples", int, "Samples of z for each example."),
    "epochs": ("training.epochs", int, "Passes over the training data."),
    "patience": ("training.patience", int, "End after so many epochs without a better one."),
    "initial_weights": ("training.initial_weights", str, "Start from those of a run or .keras."),
    "batch_size": ("training.batch_size", int, "Examples in a step."),
    "learning_rate": ("training.learning_rate", float, "Of the optimizer."),
    "seed": ("training.seed", int, "Decides all random numbers."),
    "distribute": ("training.distribute", str, "mirrored, for all GPUs here, or multiworker."),
}


@click.command(short_help="Train a model on a recipe or on your own data.")
@click.argument("source", required=False, metavar="[RECIPE|DATA|FILE.toml]")
@click.option("--recipe", help="Name of a recipe; see `tfvae recipes`.")
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path), help="TOML file of a recipe."
)
@setting_options(_FLAGS, "SECTION.KEY=VALUE", "Any setting, such as model.latent_size=16")
@click.option("--download", is_flag=True, help="Let TFDS download what is not prepared.")
@click.option(
    "--run-dir", type=click.Path(path_type=Path), help="Default: runs/RECIPE, numbered if taken."
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue the run in --run-dir from its last checkpoint, at the very batch.",
)
@json_option
def train(source, recipe, config_file, settings, run_dir, resume, download, as_json, **flags):
    """Train a model; every setting of the recipe can be overridden.

    The argument is a recipe, a TOML file, or data: the path of a table (.csv, .parquet, .h5ad), of
    a folder of images, or of an .npy or .npz file. Data is trained on with --recipe, by default the
    recipe for its kind: vae-table, vae-cells, vae-images, vae-vectors, vae-counts, vae-series or
    vae-tokens.

    Writes into the run directory: config.toml, model.keras, history.csv, report.json, curves.png,
    reconstructions.png, samples.png, latent.png, checkpoints/ and tensorboard/; for a table
    reconstructions.csv, samples.csv, columns.png, correlations.png and latent.png; for vectors and
    series samples.png, and reconstructions.png or correlations.png.

    With --patience N, training ends once the validation loss has not fallen for N epochs, and the
    weights are those of the best epoch. With --initial-weights RUN, it starts from those of a
    trained model.

    A checkpoint is written every training.checkpoint_minutes (5). Ctrl-C and SIGTERM finish the
    step, write one more and end the training, SIGTERM with exit status 0.
    """
    # All that needs no TensorFlow is checked before its import, which takes seconds.
    flags["download"] = download or None
    assignments = assignments_of({**_FLAGS, "download": ("data.download",)}, flags, settings)
    if resume:
        resolved = _resumed(run_dir, source or recipe or config_file, assignments)
    else:
        base, named = _chosen(source, recipe, config_file, assignments)
        if named and "data.name" in assignments:
            raise InvalidArgument(
                f"Two sets of data are named: {source} and {assignments['data.name']}. Give one."
            )
        resolved = base.override(paths.naming_data(named | assignments))
        if run_dir is not None:
            paths.check_new_run(run_dir)
    files.check_writable_folder(run_dir or Path(_RUNS))
    if run_dir is not None:
        files.read_report(run_dir)
    check_names(resolved)
    data_paths.check_data(resolved.data)
    data_paths.check_given(resolved.data, assignments)
    data_paths.check_columns(resolved.data)
    if resolved.training.initial_weights and not resume:
        paths.check_model(resolved.training.initial_weights)
    writes = begin_together(resolved.training.distribute, run_dir)
    from tfvae.runs import RunDirectory, load_data, train

    splits = load_data(resolved)
    claimed = None if run_dir else RunDirectory.unused(_RUNS, resolved.name)
    run_dir = run_dir or claimed
    if writes:
        say(f"{resolved.name}: training on {resolved.data.name}, writing to {run_dir}")
        say(_sizes(splits))
        if splits.schema is not None:
            say(_table(splits.schema))
    try:
        run = train(resolved, run_dir, resume=resume, splits=splits)
    except BaseException:
        if claimed and not (claimed / "config.toml").exists():  # it did not begin
            shutil.rmtree(claimed, ignore_errors=True)
        raise
    if not writes:
        values = {"run_dir": str(run.path), "epochs": resolved.training.epochs}
        finish(values, as_json, ["Trained. Worker 0 writes the run."])
        return
    done = files.read_report(run.path)["training"]
    lines = [f"Trained. Everything is in {run.path}; next: {command('evaluate', run.path)}"]
    if resolved.training.patience:
        kept = f"The weights are those of epoch {done['epoch']}, the best of {done['epochs']}."
        lines.insert(0, kept)
    finish({"run_dir": str(run.path), "epochs": done["epochs"]}, as_json, lines)


def _chosen(source, recipe, config_file, assignments):
    """Return the configuration that is named, and the settings that go with it."""
    kind = "nothing" if source is None else recipes.stands_for(source)[0]
    named = {"recipe": recipe, "config": config_file}
    if kind in named and (recipe or config_file):
        raise InvalidArgument(
            f"Two things to train are named: {source} and {recipe or config_file}. Give one."
        )
    if kind == "data" and not (recipe or config_file):
        of_data = {key: value for key, value in assignments.items() if key.startswith("data.")}
        given = config.Config().override(of_data).data
        recipe = recipes.for_data(source, given)
        also = "; --recipe vqvae-images is the one with codes" * (recipe == "vae-images")
        say(f"The recipe for {source} is {recipe}{also}.")
    recipe = source if kind == "recipe" else recipe
    config_file = source if kind == "config" else config_file
    if recipe and config_file:
        raise InvalidArgument(f"Got --recipe {recipe} and --config {config_file}. Give one.")
    if recipe is None and config_file is None:
        raise InvalidArgument(
            "Say what to train: the path of your data (tfvae train path/to/pictures), a recipe "
            "(tfvae train vae-digits; `tfvae recipes` lists them) or a TOML file. "
            "--dataset goes with a recipe: tfvae train vae-mnist --dataset DATA."
        )
    base = recipes.load(recipe) if recipe else config.load_config(config_file)
    return base, {"data.name": source} if kind == "data" else {}


def _sizes(splits):
    """Return what was read, for a user to see that it was taken for what it is."""
    from tfvae.kinds import plural

    parts = [f"{len(getattr(splits, part)):,} {part}" for part in ("train", "validation", "test")]
    if splits.schema is not None:
        return f"rows: {', '.join(parts)}; {len(splits.schema)} columns"
    return f"{plural(splits.kind)}: {', '.join(parts)}; {_SHAPES[splits.kind](*splits.shape)}"


def _table(schema):
    """Return the columns of a table, so many as a screen shows, and how to say otherwise."""
    from tfvae.schema import TYPES

    lines = str(schema).splitlines()
    if len(lines) > _MOST_COLUMNS:
        lines = [*lines[:_MOST_COLUMNS], f"… and {len(lines) - _MOST_COLUMNS} more"]
    how = "Other types: --set data.columns.NAME=TYPE, with TYPE one of " + ", ".join(TYPES)
    return "\n".join([*(f"  {line}" for line in lines), how + "."])


def _picture(height, width, channels):
    colour = {1: "grey", 3: "in colour"}.get(channels, f"with {channels} channels")
    return f"{height}×{width} pixels, {colour}"


_MOST_COLUMNS = 30
_SHAPES = {
    "image": _picture,
    "vector": lambda *sizes: f"{'×'.join(map(str, sizes))} values",
    "series": lambda steps, values: f"{steps} steps, {values} values each",
    "tokens": lambda length: f"{length} tokens each",
}


def _resumed(run_dir, other_source, assignments):
    if run_dir is None or other_source:
        raise InvalidArgument("--resume takes the run's own configuration: give --run-dir alone.")
    before = paths.read_run_config(run_dir)
    resolved = before.override(assignments)
    check_resumed(before, resolved, ("data", "model", "training"), "A run")
    return resolved
