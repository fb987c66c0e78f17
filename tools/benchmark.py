"""`tfvae benchmark`: time and memory of a `.tflite` on this machine."""

from pathlib import Path

import click

from tfvae.tools.common import finish, json_option


def _numbers(context, parameter, value):
    """Return the whole numbers in a list such as 1,16."""
    try:
        numbers = tuple(int(part) for part in value.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise click.BadParameter(f"{value!r} is no list of numbers of at least 1, such as 1,16.")
    return numbers


@click.command(short_help="Time a .tflite file on this machine.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--signature", "signatures", multiple=True, help="Time only this one; may be repeated."
)
@click.option(
    "--batch",
    default="1,16",
    show_default=True,
    callback=_numbers,
    help="Batch sizes to time, separated by commas.",
)
@click.option(
    "--threads",
    default="1,2",
    show_default=True,
    callback=_numbers,
    help="Numbers of threads to time, separated by commas.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=0.25,
    show_default=True,
    help="How long each signature is timed.",
)
@json_option
def benchmark(file, signatures, batch, threads, seconds, as_json):
    """Time the signatures of any FILE.tflite with LiteRT, and measure the memory that they take.

    Runs in a process of its own, so that a damaged file is an error and no crash. Needs no
    TensorFlow.
    """
    from tfvae.ondevice import benchmark as measure

    result = measure(file, signatures, batch, threads, seconds)
    finish(result.as_dict(), as_json, list(_lines(file, result)))


def _lines(file, result):
    yield f"{file}: {result.bytes:,} bytes"
    yield f"{'signature':<18}{'batch':>6}{'threads':>9}{'median':>12}{'95%':>12}{'memory':>14}"
    for name, batches in result.latency_ms.items():
        for batch, cells in batches.items():
            memory = f"{result.arena_bytes[name][batch]:,} B" if name in result.arena_bytes else ""
            for threads, cell in cells.items():
                yield (
                    f"{name:<18}{batch:>6}{threads:>9}{cell.median:>9.3f} ms{cell.p95:>9.3f} ms"
                    f"{memory:>14}"
                )
    yield from (f"{name} failed: {reason}" for name, reason in result.failed.items())
