"""`tfvae pull`: a run from the Hugging Face Hub."""

from pathlib import Path

import click

from tfvae.tools.common import finish, json_option


@click.command(short_help="Fetch a run from the Hugging Face Hub.")
@click.argument("address")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--revision", help="A branch, a tag or a commit; default: the newest commit.")
@json_option
def pull(address, folder, revision, as_json):
    """Read a run that `tfvae push` wrote to hf://user/name into a new FOLDER.

    No code from it is run.
    """
    from tfvae import hub

    hub.pull(address, folder, revision)
    finish({"address": address, "run": str(folder)}, as_json, [f"{address} is in {folder}"])
