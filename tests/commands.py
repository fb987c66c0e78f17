"""The command line in this process, and the tables that it writes, for the tests of runs."""

import csv
import json

from click.testing import CliRunner

from tfvae.tools.main import cli


def call(*arguments):
    """Run a verb in this process and return what it printed as JSON."""
    result = CliRunner().invoke(cli, [*map(str, arguments), "--json"], catch_exceptions=True)
    if result.exception is not None:
        raise result.exception
    return json.loads(result.stdout.splitlines()[-1])


def rows_of(path):
    """Return the rows of a CSV, each by its columns."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
