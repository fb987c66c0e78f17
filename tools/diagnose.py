"""`tfvae diagnose`: a comparison of gradient estimators on the model of a run."""

import click

from tfvae import data_paths, paths
from tfvae._plain import files
from tfvae.errors import InvalidArgument
from tfvae.tools.common import (
    data_assignments,
    data_dir_option,
    dataset_option,
    finish,
    json_option,
    load_training_part,
    run_argument,
    seed_option,
)


@click.command(short_help="Compare gradient estimators on a model.")
@run_argument
@click.option("--estimators", help="Names, separated by commas; default: all that fit.")
@click.option("--objectives", default="elbo,iwae", show_default=True, help="As --estimators.")
@click.option("--num-samples", type=click.IntRange(min=1), default=4, show_default=True, help="K.")
@click.option(
    "--num-draws",
    type=click.IntRange(min=20),
    default=400,
    show_default=True,
    help="Number of gradients drawn for each row, rounded up to a multiple of 20.",
)
@click.option(
    "--num-warmup",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    help="Number of steps that first train baselines and control variates.",
)
@click.option("--batch-size", type=click.IntRange(min=1), default=50, show_default=True)
@dataset_option
@data_dir_option
@seed_option
@json_option
def diagnose(
    run,
    estimators,
    objectives,
    num_samples,
    num_draws,
    num_warmup,
    batch_size,
    dataset,
    data_dir,
    seed,
    as_json,
):
    """Compare gradient estimators on the model of RUN (or a .keras file, with --dataset).

    For a batch of training images, it measures each estimator's gradient in the weights of q(z|x):
    its scale and the bias of its direction, relative to the exact gradient or the mean of many
    draws, and its variance, signal-to-noise ratio and time.

    Writes diagnosis.png into RUN, and the section "diagnosis" of RUN/report.json.
    """
    assignments = data_assignments(dataset, data_dir)
    config = paths.config_of(run, assignments)
    if run.is_dir() and config.model.family in ("vqvae", "vqvae2"):
        raise InvalidArgument(
            f"{run} holds a VQ-VAE, which has no gradient estimators to compare: its gradient goes "
            "straight through the codes. Expected a run of a model with latents, such as a VAE."
        )
    data_paths.check_data(config.data)
    if run.is_dir():
        files.read_report(run)
    estimators = _names(estimators, "--estimators")
    objectives = tuple(_names(objectives, "--objectives"))
    load_training_part()
    from tfvae.evaluation import diagnose
    from tfvae.runs import pictures
    from tfvae.runs.evaluate import load_run

    model, _, splits = load_run(run, assignments)
    result = diagnose(
        model,
        splits.train.numpy(0, batch_size),
        condition=splits.train.conditions_of(model, 0, batch_size),
        names=estimators,
        objective_names=objectives,
        num_samples=num_samples,
        num_draws=num_draws,
        num_warmup=num_warmup,
        seed=seed,
    )
    values = result.summary()
    finish(values, as_json, _lines(result))  # before anything can hinder the files
    if run.is_dir():
        files.update_report(run, "diagnosis", values)
        pictures.diagnosis(result, run / "diagnosis.png")


def _names(text, option):
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise InvalidArgument(f"{option} is empty; expected names separated by commas.")
    return names


def _lines(result):
    lines = [
        f"{'objective':<10}{'estimator':<22}{'scale':>8}  {'± error':<9}{'bias':>8}  {'± error':<9}"
        f"{'variance':>10}{'SNR':>8}{'ms/step':>9}"
    ]
    lines += [
        f"{row.objective:<10}{row.estimator:<22}"
        f"{row.scale:>8.3f}  ± {row.scale_standard_error:<7.3f}"
        f"{row.bias:>8.3f}  ± {row.bias_standard_error:<7.3f}"
        f"{row.variance:>10.3g}{row.snr:>8.2f}{row.ms_per_step:>9.2f}"
        for row in result.rows
    ]
    references = ", ".join(f"{name}: {kind}" for name, kind in result.reference.items())
    return [
        *lines,
        f"Scale and bias are relative to the reference gradient ({references}); the bias is what "
        "the best scale leaves.",
    ]
