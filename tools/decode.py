"""`tfvae decode`: examples from a `.tflite`, with LiteRT and NumPy, or from a file of codes."""

from pathlib import Path

import click

from tfvae import paths
from tfvae._plain import files
from tfvae.errors import InvalidArgument
from tfvae.tools.common import (
    check_no_use,
    condition_of,
    condition_option,
    finish,
    json_option,
    load_training_part,
    read_array,
    seed_option,
    temperature_option,
    written,
)


@click.command(short_help="Draw or decode with a .tflite file, without TensorFlow.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--sample", "num", type=click.IntRange(min=1), help="Number of examples to draw.")
@click.option("--latents", type=click.Path(path_type=Path), help="Decode the latents in an .npy.")
@click.option(
    "--codes",
    type=click.Path(path_type=Path),
    help="Decode an .npz of `tfvae encode` with its run, or codes in an .npy with a .tflite.",
)
@seed_option
@temperature_option
@condition_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Default: samples.png, one picture; samples.csv of a table, samples.npy of other data. An "
    ".npy holds all values; a .wav is of the codes of a sound.",
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@json_option
def decode(model, num, latents, codes, seed, temperature, condition, output, threads, as_json):
    """Decode with MODEL, a .tflite file of `tfvae export` (or the run that holds it).

    Needs no TensorFlow: pip install 'tfvae[decode]'. A file of `tfvae encode` is the exception: its
    entropy code needs the model, so MODEL is the run (or .keras file) that it was written with. A
    VAE's file is lossless: name an .npy as --output to get the very examples back.
    """
    if sum(choice is not None for choice in (num, latents, codes)) != 1:
        raise InvalidArgument(
            "Give either --sample N, --latents FILE.npy or --codes FILE (.npz or .npy)."
        )
    if num is None:
        check_no_use(("seed", "temperature"), "is of --sample, and nothing is drawn here")
    if codes is not None and model.suffix.lower() != ".tflite":
        check_no_use(("threads",), "is of a .tflite, and files of codes are decoded by TensorFlow")
    if output is not None and output.suffix.lower() == ".wav":
        return _decode_sound(model, codes, condition, output, as_json)
    from tfvae import outputs

    if output is not None:
        if output.suffix.lower() != ".csv":
            outputs.check_ending(output, None)
        files.check_writable(output)
    condition = condition_of(condition)
    if codes is not None and _is_compressed(model, codes):
        _check_no_condition(condition, codes)
        decoded, source, condition = _decompress(model, codes)
    else:
        what = num, latents, codes, condition
        decoded, source = _decode_on_device(model, *what, seed, temperature, threads)
    if output is None:
        kind = "image" if len(decoded.shape) == 4 else "vector"
        output = Path(f"samples{outputs.default_ending(source.schema, kind)}")
        files.check_writable(output)
    outputs.save(decoded, output, source, condition)
    values, lines = written(output, len(decoded), source.schema, decoded.shape[1:])
    finish(values, as_json, lines)


def _decode_sound(model, codes, condition, output, as_json):
    """Write the sound in a file of codes, or say that a .wav comes from such a file alone."""
    if codes is None or not _is_compressed(model, codes):
        raise InvalidArgument(
            f"Cannot write {output}: sound comes from a file of codes that was encoded from a "
            ".wav. Give it with --codes FILE.npz, and the run that it was written with."
        )
    _check_no_condition(condition, codes)
    files.check_writable(output)
    paths.check_model(model)
    load_training_part()
    from tfvae import codec, sound
    from tfvae.runs import open_model

    decoded = codec.decompress_sound(open_model(model)[0], codes, progress=True)
    sound.write(decoded, output)
    values = {"path": str(output), "seconds": decoded.seconds, "rate": decoded.rate}
    finish(values, as_json, [f"{decoded.seconds:.2f} s of sound in {output}"])


def _check_no_condition(condition, codes):
    if condition is not None:
        raise InvalidArgument(f"{codes} holds the conditions of its examples: no --condition.")


def _is_compressed(model, codes):
    """Whether codes are a file of `tfvae encode` and not an array, or refuse those of this model.

    Raises:
        InvalidArgument: the model cannot decode such a file.
    """
    on_device, ending = model.suffix.lower() == ".tflite", codes.suffix.lower()
    compressed = ending == ".npz"
    if ending not in (".npz", ".npy"):
        raise InvalidArgument(
            f"{codes} is no file of codes; expected an .npz of `tfvae encode`, or an .npy of whole "
            "numbers."
        )
    if compressed and on_device:
        raise InvalidArgument(
            f"{codes} is entropy-coded with the model, which {model} cannot repeat. Give the run "
            "that it was written with: tfvae decode RUN --codes FILE.npz."
        )
    if not compressed and not on_device:
        raise InvalidArgument(
            f"{codes} holds codes as they are, which are decoded on the device. Give a .tflite "
            f"file of `tfvae export` in place of {model}: tfvae decode decoder.tflite --codes "
            "FILE.npy."
        )
    return compressed


def _decompress(model, codes):
    paths.check_model(model)
    load_training_part()
    from tfvae import codec
    from tfvae.models import CodeModel
    from tfvae.runs import open_model

    opened, _ = open_model(model)
    lossy = isinstance(opened, CodeModel)
    decompress = codec.decompress if lossy else codec.decompress_lossless
    return decompress(opened, codes, progress=True), opened, codec.condition_in(codes)


def _decode_on_device(model, num, latents, codes, condition, seed, temperature, threads):
    from tfvae._plain.quiet import quiet_stderr
    from tfvae.ondevice import Decoder

    with quiet_stderr():
        decoder = Decoder.from_file(paths.decoder_of(model), threads)
        if num is not None:
            decoded = decoder.sample(num, seed, temperature, condition)
        elif latents is not None:
            decoded = decoder.decode(read_array(latents), condition)
        else:
            decoded = decoder.decode_codes(read_array(codes), condition)
        return decoded, decoder
