"""`tfvae explore`: a page on this machine that runs an exported model in the browser."""

import contextlib
import json
import sys
import tempfile
import webbrowser
from pathlib import Path

import click

from tfvae import paths
from tfvae.errors import InvalidArgument, TfvaeError
from tfvae.tools.common import json_option, load_training_part, say

_NUM_EXAMPLES = 16


@click.command(short_help="Explore a model in the browser.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Default: a free one.")
@click.option(
    "--open/--no-open",
    "open_browser",
    default=None,
    help="Open the page in the browser; default: if standard output is a terminal.",
)
@json_option
def explore(model, port, open_browser, as_json):
    """Explore MODEL, a .tflite file of `tfvae export` or a RUN, on a page in the browser.

    The page moves latents or paints codes, draws from the prior, encodes drawings and interpolates;
    the file itself computes everything in the browser. A .keras file, or a RUN whose decoder.tflite
    is missing or older than its model, is exported first. Ctrl-C ends the command.
    """
    from tfvae.explore import Server, check_runtime

    content = _exported_before(model)
    _check_kind(model, content)
    check_runtime()
    if content is None:
        content = _exported(model)
        _check_kind(model, content)
    examples, conditions = _examples(model)
    with Server(content, str(model), examples, port, conditions) as server:
        if as_json:
            click.echo(json.dumps({"url": server.url}))
        say(f"{model} is at {server.url} until Ctrl-C")
        if sys.stdout.isatty() if open_browser is None else open_browser:
            webbrowser.open(server.url)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


def _exported_before(path):
    """Return the bytes of a `.tflite` file, or of that in a run if it is as new as the model."""
    from tfvae.ondevice import flatfile

    if path.suffix == ".tflite":
        return flatfile.read(path)[0]
    exported, model = path / "decoder.tflite", path / "model.keras"
    if exported.is_file() and not _is_older(exported, model):
        return flatfile.read(exported)[0]
    return None


def _check_kind(path, content):
    """Refuse what cannot be shown, before anything is loaded or exported."""
    if content is not None:
        from tfvae.ondevice import flatfile

        description = flatfile.read_description(content, str(path))
        is_table, shape = "schema" in description, description["image_shape"]
    else:
        paths.check_model(path)
        is_table, shape = paths.stored_schema(path) is not None, None  # known once it is exported
    if shape is not None and len(shape) != 3 and not is_table:
        raise InvalidArgument(
            f"{path} is a model of arrays of shape {tuple(shape)}, and the page shows images "
            "alone, of shape (height, width, channels); `tfvae sample` writes draws of it."
        )
    if is_table:
        raise InvalidArgument(
            f"{path} is a model of a table, and the page shows images alone; `tfvae sample` writes "
            "rows of it, and the run has columns.png, correlations.png and latent.png."
        )


def _is_older(exported, model):
    """Whether the model was written after its export, as `tfvae train-prior` does."""
    return model.is_file() and exported.stat().st_mtime < model.stat().st_mtime


def _exported(path):
    """Return the bytes of an export that is not kept."""
    paths.check_model(path)
    load_training_part()
    from tfvae import export
    from tfvae.runs import open_model

    say("Exporting …")
    model, _ = open_model(path)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "decoder.tflite"
        export.litert(model, file)
        return file.read_bytes()


def _examples(path):
    """Return test images of a run and their conditions, or None and say why."""
    if not path.is_dir():
        return None, None
    try:
        load_training_part()
        from tfvae.runs import RunDirectory, load_data

        test = load_data(RunDirectory(path).read_config()).test.first(_NUM_EXAMPLES)
        return test.numpy(), test.conditions
    except TfvaeError as error:
        say(f"Without test images: {error}")
        return None, None
