"""Decoding one image on LiteRT, beside Keras and beside ONNX Runtime, from the same weights.

    pip install -e '.[benchmark]'
    python benchmarks/ondevice.py RUN [RUN ...]

A RUN is a finished one of `tfvae train`. LiteRT runs the file of `tfvae export`, its graph for a
batch of one; ONNX Runtime the file of `tfvae export --format onnx`; Keras `predict_on_batch` of a
model that decodes. Times are of one call from Python, inputs and outputs copied. The programs take
turns in one process, a round after the other; the ratio is of the medians of a round.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter

from tfvae import export
from tfvae.export import signatures
from tfvae.runs import open_model

CALLS = 300


class Decoding(keras.Model):
    """The decoder of a model of tfvae, as a Keras model."""

    def __init__(self, offered, signature):
        super().__init__(name="decoding")
        self.model = offered.model
        self.function = offered.functions[signature].python_function

    def call(self, inputs):
        return self.function(inputs)["image"]


def litert_call(path, signature, name, value, threads):
    runner = Interpreter(str(path), num_threads=threads).get_signature_runner(signature + "_1")
    return lambda: runner(**{name: value})["image"]


def onnx_call(path, name, value, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {name: value})[0]


def median_ms(call):
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def programs(model, folder):
    """Return {(program, threads): call}, all of which decode the same latents or codes."""
    offered = signatures.of(model)
    signature = next(iter(offered.functions))
    ((name, values),) = offered.inputs(None)[signature].items()
    value = values[:1]
    export.litert(model, folder / "decoder.tflite")
    export.onnx(model, folder / "decoder.onnx")
    decoding = Decoding(offered, signature)
    calls = {("Keras", "any"): lambda: decoding.predict_on_batch(value)}
    for threads in (1, 2):
        file = folder / "decoder.tflite"
        calls["LiteRT", threads] = litert_call(file, signature, name, value, threads)
        calls["ONNX Runtime", threads] = onnx_call(folder / "decoder.onnx", name, value, threads)
    images = {key: np.asarray(call()) for key, call in calls.items()}
    for key, image in images.items():
        np.testing.assert_allclose(image, images["Keras", "any"], atol=1e-4, err_msg=str(key))
    return calls


def compare(run, rounds):
    model, _ = open_model(run)
    with tempfile.TemporaryDirectory() as folder:
        calls = programs(model, Path(folder))
        for call in calls.values():
            median_ms(call)
        measured = [{key: median_ms(call) for key, call in calls.items()} for _ in range(rounds)]
    print(Path(run).name)
    for key in calls:
        times = [row[key] for row in measured]
        print(f"  {key[0]:<14}{key[1]!s:>4} threads {statistics.median(times):9.4f} ms")
    for threads in (1, 2):
        for other, count in (("Keras", "any"), ("ONNX Runtime", threads)):
            ratios = [row["LiteRT", threads] / row[other, count] for row in measured]
            print(
                f"  LiteRT with {threads} / {other}: {statistics.median(ratios):.3f} "
                f"({min(ratios):.3f} to {max(ratios):.3f})",
                flush=True,
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    for run in options.runs:
        compare(run, options.rounds)


if __name__ == "__main__":
    main()
