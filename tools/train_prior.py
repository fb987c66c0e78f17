"""`tfvae train-prior`: fit a prior to the codes of a trained VQ-VAE."""

import click

from tfvae.tools.common import (
    absolute_paths,
    finish,
    json_option,
    load_training_part,
    run_argument,
    say,
)

# Plain flags: flag, setting, type.
_FLAGS = {
    "prior": ("code_prior.name", str),
    "epochs": ("code_prior.epochs", int),
    "batch_size": ("code_prior.batch_size", int),
    "learning_rate": ("code_prior.learning_rate", float),
    "seed": ("code_prior.seed", int),
    "data_dir": ("data.data_dir", str),
}


@click.command("train-prior")
@run_argument
@click.option("--prior", help="categorical, pixelcnn or transformer; default: the run's.")
@click.option("--epochs", type=int)
@click.option("--batch-size", type=int)
@click.option("--learning-rate", type=float)
@click.option("--seed", type=int)
@click.option("--data-dir", help="Folder of prepared TFDS data.")
@click.option("--set", "settings", multiple=True, metavar="code_prior.KEY=VALUE")
@json_option
def train_prior(run, settings, as_json, **flags):
    """Fit a prior to the codes that the VQ-VAE of RUN gives its training images.

    The prior is saved inside RUN/model.keras, in place of the one before. Writes samples.png from
    it, samples-uniform.png for comparison, prior-curves.png, and the section "code_prior" of
    RUN/report.json.
    """
    load_training_part()
    from tfvae import config
    from tfvae.runs import RunDirectory, train_prior

    assignments = {_FLAGS[name][0]: value for name, value in flags.items() if value is not None}
    current = RunDirectory(run).read_config()
    if assignments.get("code_prior.name", current.code_prior.name) != current.code_prior.name:
        assignments["code_prior.options"] = {}  # those there are of another prior
    assignments |= dict(config.parse_assignment(text) for text in settings)
    resolved = current.override(absolute_paths(assignments))
    say(f"{resolved.name}: fitting the prior {resolved.code_prior.name!r} to the codes of {run}")
    values = train_prior(run, resolved)
    lines = [
        f"{'prior':<12}{values['val_loss']:.2f} nats per image, {values['bits_per_code']:.3f} bits "
        "per code (validation)",
        f"{'uniform':<12}{values['uniform']:.2f} nats per image",
        f"Saved in {run}/model.keras, of epoch {values['epoch']}; next: tfvae evaluate {run}",
    ]
    finish({"run_dir": str(run), **values}, as_json, lines)
