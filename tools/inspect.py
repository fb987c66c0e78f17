"""`tfvae inspect`: the content of a `.tflite`, without running it."""

from pathlib import Path

import click

from tfvae.tools.common import finish, json_option


@click.command(short_help="Show what a .tflite file holds.")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def inspect(file, as_json):
    """Print the signatures, shapes, operators and description of any FILE.tflite."""
    from tfvae.ondevice import inspect as read

    info = read(file)
    finish(info.as_dict(), as_json, list(_lines(file, info)))


def _lines(file, info):
    from tfvae.ondevice.flatfile import text

    yield f"{file}: {info.bytes:,} bytes"
    yield "constants: " + ", ".join(f"{size:,} bytes {kind}" for kind, size in info.weights.items())
    yield "operators: " + ", ".join(f"{name} {count}" for name, count in info.operators.items())
    for name, signature in info.signatures.items():
        yield f"{name} ({sum(signature.operators.values())} operators)"
        yield from (f"  takes {tensor}" for tensor in signature.inputs)
        yield from (f"  gives {tensor}" for tensor in signature.outputs)
    if info.description is None:
        yield "no description: not written by tfvae"
    else:
        for key, value in info.description.items():
            yield f"{text(key)}: {text(value) if isinstance(value, str) else value}"
