"""LiteRT's CompiledModel beside its Interpreter, which `tfvae.ondevice.Decoder` runs on.

    python benchmarks/compiled_model.py FILE.tflite [FILE.tflite ...]

Times are processor times of one call on one thread, inputs and outputs copied, of the signatures
for a batch of one: a CompiledModel ends the process where a batch may have any size. The two take
turns, and the ratio is the median over pairs.
"""

import argparse
import time

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.interpreter import Interpreter

PAIRS, SECONDS = 60, 0.004


def calls(content, signature):
    """Return the two calls, after checking that they give the same values."""
    runner = Interpreter(model_content=content, num_threads=1).get_signature_runner(signature)
    rng = np.random.default_rng(0)
    inputs = {
        name: rng.integers(0, 2, detail["shape"]).astype(detail["dtype"])
        for name, detail in runner.get_input_details().items()
    }
    model = CompiledModel.from_buffer(content)
    named = model.get_signature_list()[signature]
    sources = {name: model.create_input_buffer_by_name(signature, name) for name in named["inputs"]}
    targets = {n: model.create_output_buffer_by_name(signature, n) for n in named["outputs"]}
    expected = runner(**inputs)

    def compiled():
        for name, buffer in sources.items():
            buffer.write(inputs[name])
        model.run_by_name(signature, sources, targets)
        return {
            name: np.reshape(
                buffer.read(expected[name].size, expected[name].dtype.type), expected[name].shape
            )
            for name, buffer in targets.items()
        }

    for name, values in compiled().items():
        np.testing.assert_allclose(values, expected[name], atol=1e-5)
    return lambda: runner(**inputs), compiled


def compare(path):
    with open(path, "rb") as file:
        content = file.read()
    signatures = Interpreter(model_content=content).get_signature_list()
    for signature in (name for name in signatures if name.endswith("_1")):
        interpreter, compiled = calls(content, signature)
        repeats = max(1, int(SECONDS / seconds(interpreter, 20)))
        pairs = []
        for number in range(PAIRS):
            order = (interpreter, compiled) if number % 2 else (compiled, interpreter)
            times = {call: seconds(call, repeats) for call in order}
            pairs.append((times[interpreter], times[compiled]))
        first, second = 1e3 * np.median(pairs, axis=0)
        low, ratio, high = np.percentile([b / a for a, b in pairs], [25, 50, 75])
        print(
            f"{path} {signature}: Interpreter {first:.4f} ms, CompiledModel {second:.4f} ms, "
            f"ratio {ratio:.2f} ({low:.2f} to {high:.2f})",
            flush=True,
        )


def seconds(call, repeats):
    start = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - start) / repeats


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+")
    for path in parser.parse_args().files:
        compare(path)


if __name__ == "__main__":
    main()
