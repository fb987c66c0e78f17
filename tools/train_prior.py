"""`tfvae train-prior`: a prior fitted to the codes of a trained VQ-VAE."""

import click

from tfvae import data_paths, paths
from tfvae._plain import files
from tfvae.config.names import check_names
from tfvae.config.resumed import check_resumed
from tfvae.errors import InvalidArgument, command
from tfvae.tools.common import (
    assignments_of,
    begin_together,
    finish,
    json_option,
    run_argument,
    say,
    setting_options,
)

# Plain flags: flag, setting, type, help.
_FLAGS = {
    "prior": (
        "code_prior.name",
        str,
        "categorical, pixelcnn or transformer; default: the run's.",
    ),
    "epochs": ("code_prior.epochs", int, "Passes over the codes of the training data."),
    "batch_size": ("code_prior.batch_size", int, "Examples in a step."),
    "learning_rate": ("code_prior.learning_rate", float, "At the start; it falls to zero."),
    "seed": ("code_prior.seed", int, "Decides all random numbers."),
    "distribute": ("code_prior.distribute", str, "mirrored, for all GPUs here, or multiworker."),
    "data_dir": ("data.data_dir", str, "Folder of prepared TFDS data."),
}

# Further settings that may be given.
_OF_DATA = ("data.data_dir", "data.condition", "data.memory_gb", "training.checkpoint_minutes")


@click.command("train-prior", short_help="Fit a prior to the codes of a VQ-VAE.")
@run_argument
@setting_options(_FLAGS, "code_prior.KEY=VALUE", "Any setting of the prior")
@click.option(
    "--resume",
    is_flag=True,
    help="Continue the last fit of this run from its last checkpoint, at the very batch.",
)
@json_option
def train_prior(run, settings, resume, as_json, **flags):
    """Fit a prior to the codes that the VQ-VAE of RUN gives its training images.

    The prior is saved inside RUN/model.keras, in place of the one before. Writes samples.png from
    it, samples-uniform.png for comparison, prior-curves.png, the section "code_prior" of
    RUN/report.json, and in RUN/code-prior the checkpoints for --resume. Checkpoints, Ctrl-C and
    SIGTERM are as in `tfvae train`.
    """
    assignments = assignments_of(_FLAGS, flags, settings)
    other = [key for key in assignments if not key.startswith(("code_prior.", *_OF_DATA))]
    if other:
        raise InvalidArgument(
            f"{', '.join(other)} is no setting of a prior; expected code_prior.KEY=VALUE. Another "
            "prior is fitted to the data that RUN was trained on, with the model that it holds."
        )
    if run.is_file():
        raise InvalidArgument(
            f"{run} is a file; expected the folder of a run of a VQ-VAE, which says what data and "
            "which settings its prior is fitted with. A model alone has a prior from Python: "
            "tfvae.code_priors."
        )
    current = paths.config_of(run, {})
    if current.model.family in ("vae", "ladder"):
        raise InvalidArgument(
            f"{run} holds a VAE, whose latents are not codes: it is trained together with its "
            "prior. Expected a run of a VQ-VAE."
        )
    resolved = current.override(assignments) if resume else _with_own_options(current, assignments)
    check_names(resolved)
    data_paths.check_data(resolved.data)
    data_paths.check_given(resolved.data, assignments)
    files.read_report(run)
    fit = run / "code-prior"
    if resume and (fit / "config.toml").is_file():
        before = paths.read_run_config(fit)
        resolved = before.override(assignments)
        check_resumed(before, resolved, ("data", "code_prior"), "A fit")
    writes = begin_together(resolved.code_prior.distribute, run)
    from tfvae.runs import train_prior

    if writes:
        say(
            f"{resolved.name}: fitting the prior {resolved.code_prior.name!r} to the codes of {run}"
        )
    values = train_prior(run, resolved, resume)
    if not writes:
        finish({"run_dir": str(run)}, as_json, ["Fitted. Worker 0 writes the run."])
        return
    lines = [
        f"{'prior':<12}{values['val_loss']:.2f} nats per image, {values['bits_per_code']:.3f} bits "
        "per code (validation)",
        f"{'uniform':<12}{values['uniform']:.2f} nats per image",
        f"Saved in {run}/model.keras, of epoch {values['epoch']}; next: {command('evaluate', run)}",
    ]
    finish({"run_dir": str(run), **values}, as_json, lines)


def _with_own_options(current, assignments):
    """Return the configuration with the settings; another prior has options of its own."""
    if assignments.get("code_prior.name", current.code_prior.name) != current.code_prior.name:
        assignments = {"code_prior.options": {}} | assignments
    return current.override(assignments)
