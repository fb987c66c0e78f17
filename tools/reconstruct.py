"""`tfvae reconstruct`: test images and what is left of them after encoding and decoding."""

import click

from tfvae import files, paths
from tfvae.tools.common import (
    data_assignments,
    data_dir_option,
    dataset_option,
    finish,
    image_lines,
    json_option,
    load_training_part,
    num_option,
    output_option,
    run_argument,
)


@click.command()
@run_argument
@num_option
@dataset_option
@data_dir_option
@output_option("RUN/reconstructions.png")
@json_option
def reconstruct(run, num, dataset, data_dir, output, as_json):
    """Draw test images of a RUN (or of --dataset) in odd rows, their reconstructions under them."""
    from tfvae import images

    assignments = data_assignments(dataset, data_dir)
    paths.check_data(paths.config_of(run, assignments).data)
    output = output or (run if run.is_dir() else run.parent) / "reconstructions.png"
    images.check_ending(output)
    files.check_writable(output)
    load_training_part()
    from tfvae.runs import load_run, pictures

    model, _, splits = load_run(run, assignments)
    x = splits.test.numpy(0, num)
    pictures.reconstructions(model, x, output, splits.test.conditions_of(model, 0, num))
    values = {"path": str(output), "num_images": len(x)}
    finish(values, as_json, image_lines(values))
