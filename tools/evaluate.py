"""`tfvae evaluate`: the log-likelihood of the test split, and its parts."""

import click

from tfvae import data_paths, paths
from tfvae._plain import files
from tfvae.tools.common import (
    data_assignments,
    data_dir_option,
    dataset_option,
    finish,
    json_option,
    load_training_part,
    run_argument,
    seed_option,
    table,
)


@click.command(short_help="Measure log p(x) of the test data.")
@run_argument
@click.option(
    "--num-samples", type=click.IntRange(min=1), help="Number of importance samples; default 5000."
)
@click.option(
    "--num-examples", type=click.IntRange(min=0), help="Number of test examples; 0 for all."
)
@dataset_option
@data_dir_option
@seed_option
@json_option
def evaluate(run, num_samples, num_examples, dataset, data_dir, seed, as_json):
    """Measure a RUN (or a .keras file, with --dataset) on the test split.

    Writes the section "evaluation" of RUN/report.json; with other data than the run's own, the
    section "evaluation of DATA".
    """
    assignments = data_assignments(dataset, data_dir)
    data_paths.check_data(paths.config_of(run, assignments).data)
    if run.is_dir():
        files.read_report(run)
    load_training_part()
    from tfvae import outputs
    from tfvae.runs import evaluate
    from tfvae.runs.evaluate import load_run

    model, config, splits = load_run(run, assignments)
    values = evaluate(
        model,
        splits,
        num_samples or config.evaluation.num_samples,
        config.evaluation.num_examples if num_examples is None else num_examples,
        seed,
    )
    noun = outputs.noun(model.schema, model.x_shape)
    finish(values, as_json, table(values, noun))  # before anything can hinder the report
    if run.is_dir():
        own = paths.read_run_config(run).data.name
        other = "" if config.data.name == own else f" of {config.data.name}"
        files.update_report(run, f"evaluation{other}", values)
