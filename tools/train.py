"""`tfvae train`: train a recipe or a TOML file into a run directory."""

from pathlib import Path

import click

from tfvae.errors import InvalidArgument
from tfvae.tools.common import (
    absolute_paths,
    finish,
    json_option,
    load_training_part,
    refuse_changes,
    say,
)

# Plain flags for the settings that are changed most: flag, setting, type.
_FLAGS = {
    "dataset": ("data.name", str),
    "data_dir": ("data.data_dir", str),
    "objective": ("training.objective", str),
    "estimator": ("training.estimator", str),
    "num_samples": ("training.num_samples", int),
    "epochs": ("training.epochs", int),
    "batch_size": ("training.batch_size", int),
    "learning_rate": ("training.learning_rate", float),
    "seed": ("training.seed", int),
}


def _flags(command):
    for name, (setting, kind) in reversed(_FLAGS.items()):
        command = click.option(
            f"--{name.replace('_', '-')}", name, type=kind, help=f"Sets {setting}."
        )(command)
    return command


@click.command()
@click.option("--recipe", help="Name of a recipe; see `tfvae recipes`.")
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path), help="A TOML file instead."
)
@_flags
@click.option("--download", is_flag=True, help="Let TFDS download what is not prepared.")
@click.option("--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE")
@click.option(
    "--run-dir", type=click.Path(path_type=Path), help="Default: runs/RECIPE, numbered if taken."
)
@click.option("--resume", is_flag=True, help="Continue the run in --run-dir.")
@json_option
def train(recipe, config_file, settings, run_dir, resume, download, as_json, **flags):
    """Train a model; every setting of the recipe can be overridden.

    Writes into the run directory: config.toml, model.keras, history.csv, report.json, curves.png,
    reconstructions.png, samples.png, latent.png, checkpoints/ and tensorboard/.
    """
    load_training_part()
    from tfvae import config
    from tfvae.runs import RunDirectory, train

    assignments = {_FLAGS[n][0]: value for n, value in flags.items() if value is not None}
    if download:
        assignments["data.download"] = True
    assignments |= dict(config.parse_assignment(text) for text in settings)
    assignments = absolute_paths(assignments)
    if resume:
        resolved = _resumed(run_dir, recipe or config_file, assignments)
    else:
        resolved = _chosen(recipe, config_file).override(assignments)
        run_dir = run_dir or RunDirectory.unused("runs", resolved.name)
    say(f"{resolved.name}: training on {resolved.data.name}, writing to {run_dir}")
    run = train(resolved, run_dir, resume=resume)
    values = {"run_dir": str(run.path), "epochs": resolved.training.epochs}
    lines = [f"Trained. Everything is in {run.path}; next: tfvae evaluate {run.path}"]
    finish(values, as_json, lines)


def _chosen(recipe, config_file):
    from tfvae import recipes
    from tfvae.config import load_config

    if (recipe is None) == (config_file is None):
        raise InvalidArgument(
            f"Give either --recipe ({', '.join(recipes.names())}) or --config FILE."
        )
    return recipes.load(recipe) if recipe else load_config(config_file)


def _resumed(run_dir, other_source, assignments):
    from tfvae.runs import RunDirectory

    if run_dir is None or other_source:
        raise InvalidArgument("--resume takes the run's own configuration: give --run-dir alone.")
    refuse_changes(assignments, {"training.epochs", "data.data_dir"}, "A run")
    return RunDirectory(run_dir).read_config().override(assignments)
