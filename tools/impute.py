"""`tfvae impute`: missing values of a file, filled in by a model."""

from pathlib import Path

import click

from tfvae import paths
from tfvae._plain import files
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
    written,
)


@click.command(short_help="Fill in missing values.")
@run_argument
@click.argument("examples", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--num-samples", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option(
    "--draws",
    type=click.IntRange(min=0),
    default=0,
    help="Number of draws of complete data to write too, for multiple imputation.",
)
@condition_option
@output_option("RUN/imputed.csv of a table, else RUN/imputed.npy")
@seed_option
@json_option
def impute(run, examples, num_samples, draws, condition, output, seed, as_json):
    """Fill in the missing values of FILE by the model of a RUN (or a .keras file).

    FILE is a table with empty cells, or an .npy or .npz file of one array with NaN. Each is
    replaced by its mean given what was observed, a category by the most probable one. With
    --draws 5, imputed-1.csv to imputed-5.csv hold draws in their place.
    """
    from tfvae import outputs

    condition = condition_of(condition)
    paths.check_model(run)
    schema = paths.stored_schema(run)
    output = output or beside(run, "imputed.npy" if schema is None else "imputed.csv")
    outputs.check_ending(output, schema)
    of_draws = [output.with_stem(f"{output.stem}-{n + 1}") for n in range(draws)]
    for path in (output, *of_draws):
        files.check_writable(path)
    check_there(examples)
    load_training_part()
    import numpy as np

    from tfvae import evaluation
    from tfvae.data.loading import read_table
    from tfvae.runs import open_model, scores

    model, config = open_model(run)
    given = scores.read_as_run(examples, config, model, missing=True)
    found = evaluation.impute(
        model, given, num_samples=num_samples, draws=draws, seed=seed, condition=condition
    )
    y = given.conditions if condition is None else condition
    as_it_is = None  # what was standardized does not come back to the last digit
    if model.schema is not None:
        as_it_is = read_table(examples)
    elif model.standardization is not None:
        as_it_is = scores.read_as_run(examples, config, missing=True).values[:]
    for path, values in zip((output, *of_draws), (found.values, *found.draws), strict=True):
        outputs.save(values, path, model, y, as_it_is)
    values, lines = written(output, len(given), model.schema, model.x_shape)
    values |= {
        "num_missing": int(np.isnan(given.numpy()).sum()),
        "effective_sample_size": float(found.effective_sample_size.mean()),
        "num_samples": num_samples,
        "draws": [str(path) for path in of_draws],
    }
    lines += [
        f"{'missing values':<16}{values['num_missing']}",
        f"{'measured with':<16}{num_samples} samples (effective "
        f"{values['effective_sample_size']:.0f}) for each",
        *(f"{'a draw in':<16}{path}" for path in of_draws),
    ]
    finish(values, as_json, lines)
