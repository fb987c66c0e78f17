"""`tfvae sample`: images from the prior, decoded by Keras."""

import click

from tfvae import files, paths
from tfvae.tools.common import (
    condition_of,
    condition_option,
    finish,
    image_lines,
    json_option,
    load_training_part,
    num_option,
    output_option,
    run_argument,
    seed_option,
)


@click.command()
@run_argument
@num_option
@seed_option
@click.option("--temperature", type=float, default=1.0, show_default=True)
@condition_option
@output_option("RUN/samples.png")
@json_option
def sample(run, num, seed, temperature, condition, output, as_json):
    """Draw images from a RUN (or a .keras file) and write them as one picture, or as .npy."""
    from tfvae import images

    paths.check_model(run)
    condition = condition_of(condition)
    output = output or (run if run.is_dir() else run.parent) / "samples.png"
    images.check_ending(output)
    files.check_writable(output)
    load_training_part()
    from tfvae.runs import open_model

    model, _ = open_model(run)
    images.save(model.sample(num, seed, temperature, condition=condition).numpy(), output)
    values = {"path": str(output), "num_images": num}
    finish(values, as_json, image_lines(values))
