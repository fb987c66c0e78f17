"""`tfvae sample`: images, or rows of a table, from the prior, decoded by Keras."""

import click

from tfvae import paths
from tfvae._plain import files
from tfvae.tools.common import (
    beside,
    condition_of,
    condition_option,
    finish,
    json_option,
    kind_of_run,
    load_training_part,
    num_option,
    output_option,
    run_argument,
    seed_option,
    temperature_option,
    written,
)


@click.command(short_help="Draw new examples from a model.")
@run_argument
@num_option
@seed_option
@temperature_option
@condition_option
@output_option("RUN/samples.png, or samples.csv of a table")
@json_option
def sample(run, num, seed, temperature, condition, output, as_json):
    """Draw examples from a RUN (or a .keras file).

    Images are written as one picture, rows of a table as CSV with its columns and units; a name
    that ends in .npy gets the values as an array. Of vectors and series, one that ends in .png gets
    histograms of columns, or bands, beside those of as many training examples.
    """
    from tfvae import outputs

    paths.check_model(run)
    condition = condition_of(condition)
    schema = paths.stored_schema(run)
    output = output or beside(run, f"samples{outputs.default_ending(schema, kind_of_run(run))}")
    outputs.check_ending(output, schema)
    files.check_writable(output)
    load_training_part()
    from tfvae.runs import arrays, load_data, open_model

    model, config = open_model(run)
    x = model.sample(num, seed, temperature, condition=condition).numpy()
    if kind_of_run(run) in ("vector", "series") and output.suffix.lower() == ".png":
        data = load_data(config, model).train.sample(num)
        arrays.samples(model, data, x, output)
    else:
        outputs.save(x, output, model, condition)
    values, lines = written(output, num, model.schema, model.x_shape)
    finish(values, as_json, lines)
