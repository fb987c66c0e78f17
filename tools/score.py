"""`tfvae score`: a table of log p(x) of each example of a file, and the anomalies in it."""

from pathlib import Path

import click

from tfvae import paths
from tfvae._plain import files
from tfvae.errors import InvalidArgument
from tfvae.tools.common import (
    beside,
    check_there,
    condition_of,
    condition_option,
    finish,
    json_option,
    load_training_part,
    output_option,
    run_argument,
    seed_option,
)


@click.command(short_help="Give log p(x) of each example, and find anomalies.")
@run_argument
@click.argument("examples", metavar="[FILE]", type=click.Path(path_type=Path), required=False)
@click.option(
    "-n",
    "--num",
    type=click.IntRange(min=1),
    help="Number of examples, from the first on; default: all.",
)
@click.option("--num-samples", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option(
    "--false-alarm-rate",
    type=click.FloatRange(0.0, 1.0, min_open=True),
    help="Call an example an anomaly if at most this share of the validation data scores lower.",
)
@click.option(
    "--by-value",
    type=click.Path(path_type=Path),
    help="Also write an .npy with what each value adds to the reconstruction term, in nats.",
)
@condition_option
@output_option("RUN/scores.csv")
@seed_option
@json_option
def score(
    run, examples, num, num_samples, false_alarm_rate, by_value, condition, output, seed, as_json
):
    """Score the examples in FILE by a RUN (or a .keras file): log p(x) of each, in a CSV.

    FILE is a table, a folder of images, or an .npy or .npz file of one array; by default it is
    the test split of RUN. The table also has its standard error, the ELBO, reconstruction and KL,
    all for the data in its own units. A model with a condition takes that of the test split from
    RUN, and that of FILE from --condition.
    """
    condition = condition_of(condition)
    paths.check_model(run)
    if not run.is_dir() and (examples is None or false_alarm_rate is not None):
        what = "its test split" if examples is None else "the validation data that a rate is of"
        raise InvalidArgument(f"{run} is a model without a run, hence without {what}.")
    check_there(examples)
    output = output or beside(run, "scores.csv")
    for path in filter(None, (output, by_value)):
        files.check_writable(path)
    load_training_part()
    from tfvae import evaluation
    from tfvae.evaluation.scores import check_rate
    from tfvae.runs import load_data, open_model, scores
    from tfvae.runs.evaluate import of_data

    model, config = open_model(run)
    if by_value is not None:
        scores.check_shares(model, by_value)
    needs_splits = examples is None or false_alarm_rate is not None
    splits = load_data(config, model) if needs_splits else None
    read = scores.read_as_run
    missing = model.likelihood.complete() is not model.likelihood
    given = None if examples is None else read(examples, config, model, missing)
    split = splits.test if given is None else given
    split = split if num is None else split.first(num)
    measure = {"num_samples": num_samples, "seed": seed}
    limit = None
    if false_alarm_rate is not None:
        check_rate(false_alarm_rate, len(splits.validation))
        ordinary = evaluation.score(model, splits.validation, **measure)
        ordinary = of_data(ordinary, model, splits.validation)
        limit = evaluation.threshold(ordinary.log_likelihood, false_alarm_rate)
    found = evaluation.score(model, split, condition=condition, **measure)
    found = of_data(found, model, split)
    names = scores.names_of(examples, split)
    scores.write_table(output, found, names, limit, model.schema)
    if by_value is not None:
        scores.write_shares(by_value, found)
    values = {"path": str(output), **found.summary()}
    if limit is not None:
        values |= {
            "threshold": limit,
            "false_alarm_rate": false_alarm_rate,
            "num_anomalies": int((found.log_likelihood < limit).sum()),
            "num_validation": len(splits.validation),
        }
    finish(values, as_json, _lines(values))


def _lines(values):
    """Return what to print of the scores."""
    count = values["num_examples"]
    rows = {
        "log p(x)": f"{values['log_likelihood']:.3f} nats on average, from "
        f"{values['lowest']:.3f} to {values['highest']:.3f}",
    }
    if values.get("mean_standard_error") is not None:
        rows["standard error"] = f"{values['mean_standard_error']:.3f} nats on average"
    if "threshold" in values:
        rows["threshold"] = (
            f"{values['threshold']:.3f} nats, from {values['num_validation']} examples of the "
            f"validation data: at most {values['false_alarm_rate']:.1%} of such ones lie below"
        )
        rows["anomalies"] = f"{values['num_anomalies']} of {count} examples"
    head = f"Scores of {count} examples in {values['path']}"
    return [head, *(f"{name:<16}{value}" for name, value in rows.items())]
