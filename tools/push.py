"""`tfvae push`: a run on the Hugging Face Hub, with a model card."""

import click

from tfvae.tools.common import finish, json_option, run_argument


@click.command(short_help="Publish a run on the Hugging Face Hub.")
@run_argument
@click.argument("address")
@click.option("--private", is_flag=True, help="Make the repository private.")
@click.option(
    "--license",
    "license_id",
    default="unknown",
    show_default=True,
    help="License of the model, by its name on the Hub: apache-2.0, mit, other, ...",
)
@json_option
def push(run, address, private, license_id, as_json):
    """Write a RUN to hf://user/name: model, card, figures, pictures and .tflite files.

    It needs a token with write access (HF_TOKEN, or `hf auth login`). Keras opens the model by
    keras.saving.load_model("hf://user/name").
    """
    from tfvae import hub

    url = hub.push(run, address, private, license_id)
    finish({"run": str(run), "url": url}, as_json, [f"{run} is at {url}"])
