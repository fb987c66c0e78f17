"""`tfvae recipes`: the list of recipes, or one recipe as TOML."""

import click

from tfvae.tools.common import finish, json_option


@click.command(short_help="List the recipes, or print one.")
@click.argument("name", required=False)
@json_option
def recipes(name, as_json):
    """List the recipes, or print the TOML of one, to start your own from."""
    from tfvae import recipes as library

    if name is not None:
        finish({"name": name, "toml": library.text(name)}, as_json, [library.text(name).rstrip()])
        return
    found = {known: library.load(known).description for known in library.names()}
    width = max(map(len, found)) + 2
    lines = [f"{known:<{width}}{description}" for known, description in found.items()]
    finish({"recipes": found}, as_json, lines)
