"""`tfvae reconstruct`: test examples and their reconstructions."""

import click

from tfvae import data_paths, paths
from tfvae._plain import files
from tfvae.errors import InvalidArgument
from tfvae.tools.common import (
    beside,
    data_assignments,
    data_dir_option,
    dataset_option,
    finish,
    json_option,
    kind_of_run,
    load_training_part,
    num_option,
    output_option,
    run_argument,
    written,
)


@click.command(short_help="Draw test examples beside their reconstructions.")
@run_argument
@num_option
@dataset_option
@data_dir_option
@output_option("RUN/reconstructions.png, or reconstructions.csv of a table")
@json_option
def reconstruct(run, num, dataset, data_dir, output, as_json):
    """Draw test images of a RUN (or of --dataset) in odd rows, their reconstructions under them.

    For a table it writes a CSV in which each column stands beside its reconstruction. For series
    it writes a .png of their curves or an .npy, and for other data an .npy.
    """
    from tfvae import kinds, outputs

    assignments = data_assignments(dataset, data_dir)
    data_paths.check_data(paths.config_of(run, assignments).data)
    schema, kind = paths.stored_schema(run), kind_of_run(run)
    output = output or beside(run, f"reconstructions{outputs.default_ending(schema, kind)}")
    outputs.check_ending(output, schema)
    if schema is None and kind in ("vector", "tokens") and output.suffix.lower() != ".npy":
        raise InvalidArgument(
            f"Cannot write {output}; the reconstructions of {kinds.plural(kind)} are not drawn. "
            "Choose a name that ends in .npy."
        )
    files.check_writable(output)
    load_training_part()
    from tfvae.runs import arrays, pictures, tables
    from tfvae.runs.evaluate import load_run

    model, _, splits = load_run(run, assignments)
    x = splits.test.numpy(0, num)
    y = splits.test.conditions_of(model, 0, num)
    if output.suffix.lower() == ".npy":
        decoded = model(x, condition=y) if y is not None else model(x)
        outputs.save(decoded.numpy(), output, model)
    elif splits.kind == "series":
        arrays.reconstructions(model, x, output, y)
    else:
        (pictures if model.schema is None else tables).reconstructions(model, x, output, y)
    values, lines = written(output, len(x), model.schema, model.x_shape)
    finish(values, as_json, lines)
