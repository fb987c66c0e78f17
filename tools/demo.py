"""`tfvae demo`: training, evaluation, export and decoding on bundled data."""

import time
from pathlib import Path

import click

from tfvae._plain.files import check_writable_folder, update_report
from tfvae.tools.common import finish, json_option, load_training_part, say, table


@click.command(short_help="Train, measure, export and decode in about a minute.")
@click.option(
    "--run-dir", type=click.Path(path_type=Path), help="Default: runs/demo, numbered if taken."
)
@json_option
def demo(run_dir, as_json):
    """Train a VAE on handwritten digits, measure it, export it, and decode on LiteRT.

    Takes about a minute, and downloads nothing.
    """
    start = time.perf_counter()
    check_writable_folder(run_dir or Path("runs"))
    load_training_part()
    from tfvae import export, recipes
    from tfvae._plain.quiet import quiet_stderr
    from tfvae.images import save_grid
    from tfvae.ondevice import Decoder
    from tfvae.runs import RunDirectory, evaluate, load_data, train

    config = recipes.load("vae-digits")
    splits = load_data(config)
    path = run_dir or RunDirectory.unused("runs", "demo")
    run = train(config, path, splits=splits)
    model = run.load_model()
    say("measuring the test split")
    measured = evaluate(model, splits, config.evaluation.num_samples)
    update_report(run.path, "evaluation", measured)
    say("exporting, and comparing with Keras")
    test = splits.test.numpy()
    saved_model = export.saved_model(model, run.path / "saved_model", test)
    exported = export.litert(model, run.path / "decoder.tflite", test)
    with quiet_stderr():
        images = Decoder.from_file(exported["path"]).sample(64)
    save_grid(images, run.path / "decoded.png")
    values = {
        **measured,
        **{key: exported[key] for key in ("path", "bytes", "max_abs_error", "operators")},
        "decode_latency_ms": exported["decode_latency_ms"],
        "saved_model_max_abs_error": saved_model["max_abs_error"],
        "run_dir": str(run.path),
        "seconds": round(time.perf_counter() - start, 1),
    }
    finish(values, as_json, _lines(values))


def _lines(values):
    rows = {
        ".tflite size": f"{values['bytes']:,} bytes",
        "decode latency": f"{values['decode_latency_ms']:.3f} ms (batch 1, one thread)",
        "parity error": f"{values['max_abs_error']:.2g} (LiteRT against Keras)",
        "run directory": f"{values['run_dir']}",
        "time": f"{values['seconds']:.0f} s",
    }
    return [*table(values), *(f"{name:<16}{value}" for name, value in rows.items())]
