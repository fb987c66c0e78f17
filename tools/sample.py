"""`tfvae sample`: images from the prior, decoded by Keras."""

import click

from tfvae import paths
from tfvae.errors import InvalidArgument
from tfvae.tools.common import (
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
@click.option(
    "--condition", help="Label, or numbers such as 0.5,1: of all images; for a model with one."
)
@output_option("RUN/samples.png")
@json_option
def sample(run, num, seed, temperature, condition, output, as_json):
    """Draw images from a RUN (or a .keras file) and write them as one picture, or as .npy."""
    from tfvae import images

    paths.check_model(run)
    given = {} if condition is None else {"condition": _numbers(condition)}
    output = output or (run if run.is_dir() else run.parent) / "samples.png"
    images.check_ending(output)
    load_training_part()
    from tfvae.runs import open_model

    model, _ = open_model(run)
    images.save(model.sample(num, seed, temperature, **given).numpy(), output)
    values = {"path": str(output), "num_images": num}
    finish(values, as_json, image_lines(values))


def _numbers(text):
    """Return a whole number as a label, and anything else as a vector."""
    try:
        return (
            int(text) if text.strip().lstrip("-").isdigit() else [float(n) for n in text.split(",")]
        )
    except ValueError:
        raise InvalidArgument(
            f"--condition is {text!r}; expected a label, such as 3, or numbers, such as 0.5,1."
        ) from None
