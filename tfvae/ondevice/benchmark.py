"""Time and memory of a `.tflite` file on this machine."""

import dataclasses
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tfvae.errors import InvalidArgument, InvalidFile, unknown_name
from tfvae.ondevice import flatfile, inspection

_SECONDS = 0.25  # for one cell of the table
_FEWEST, _MOST = 5, 1000  # calls timed for it
_TIMEOUT = 600  # seconds for all that takes time beside the cells
_LONGEST = 1e6  # seconds that a process can be waited for


@dataclasses.dataclass(frozen=True)
class Latency:
    """Times of one call of a signature, in milliseconds: inputs copied in, outputs copied out.

    Attributes:
        median: half of the calls were faster.
        p95: 95% of the calls were faster.
        calls: how many were timed.
    """

    median: float
    p95: float
    calls: int


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What `benchmark` measured.

    Attributes:
        bytes: size of the file.
        latency_ms: {signature: {batch size: {threads: Latency}}}. A signature of fixed sizes is
            there with its own batch size, which is 0 where none of its inputs has a batch.
        arena_bytes: {signature: {batch size: bytes}}, the most memory that its values take at one
            time, without the weights, in LiteRT's own arena. Delegates are not counted, nor are
            the bodies of loops.
        failed: {signature: reason}, what this machine could not run.
    """

    bytes: int
    latency_ms: dict[str, dict[int, dict[int, Latency]]]
    arena_bytes: dict[str, dict[int, int]]
    failed: dict[str, str]

    def as_dict(self) -> dict:
        """Return all fields as plain data."""
        return dataclasses.asdict(self)


def benchmark(
    file: str | Path | bytes,
    signatures: tuple[str, ...] = (),
    batch_sizes: tuple[int, ...] = (1, 16),
    num_threads: tuple[int, ...] = (1, 2),
    seconds: float = _SECONDS,
) -> Benchmark:
    """Time the signatures of any `.tflite`, in a child process.

    Some damaged files make LiteRT end the process; here that only raises an error.

    Args:
        file: a path, or the bytes of a file.
        signatures: which ones; all if empty.
        batch_sizes: of those that take any.
        num_threads: of the interpreter.
        seconds: how long one signature is timed at one batch size with so many threads, for 5 to
            1,000 calls.

    Raises:
        InvalidFile: the file cannot be read, is damaged, or LiteRT cannot run any of it.
        InvalidArgument: a signature that is not there, a batch size or number of threads below 1,
            no time.
    """
    content, name = flatfile.read(file)
    info = inspection.inspect(file)
    _check(info, name, signatures, batch_sizes, num_threads, seconds)
    options = {
        "signatures": list(signatures or info.signatures),
        "batch_sizes": list(batch_sizes),
        "num_threads": list(num_threads),
        "seconds": seconds,
    }
    answer = _in_a_child(content, options, name)
    latency = {
        signature: {
            int(batch): {int(threads): Latency(**cell) for threads, cell in row.items()}
            for batch, row in rows.items()
        }
        for signature, rows in answer["latency_ms"].items()
    }
    if not any(latency.values()):
        reasons = "; ".join(f"{key}: {why}" for key, why in answer["failed"].items())
        raise InvalidFile(f"LiteRT cannot run {name}. {reasons}")
    arena = {
        signature: {int(batch): size for batch, size in sizes.items()}
        for signature, sizes in answer["arena_bytes"].items()
    }
    return Benchmark(len(content), latency, arena, answer["failed"])


def timed(call: Callable, seconds: float = _SECONDS) -> Latency:
    """Return how long a call takes; the first ones, which warm up, do not count."""
    start = time.perf_counter()
    call()
    first = time.perf_counter() - start
    calls = int(np.clip(seconds / max(first, 1e-6), _FEWEST, _MOST))
    for _ in range(calls // 10):
        call()
    times = np.empty(calls)
    for number in range(calls):
        start = time.perf_counter()
        call()
        times[number] = time.perf_counter() - start
    median, p95 = 1e3 * np.percentile(times, [50, 95])
    return Latency(float(median), float(p95), calls)


def example_inputs(signature: inspection.SignatureInfo, batch_size: int) -> dict[str, np.ndarray]:
    """Return zeros for the inputs of a signature, of this batch size where it takes any."""
    return {
        tensor.name: np.zeros([batch_size if n < 0 else n for n in tensor.shape], tensor.dtype)
        for tensor in signature.inputs
    }


def _check(info, name, signatures, batch_sizes, num_threads, seconds):
    if not info.signatures:
        raise InvalidFile(
            f"{name} has no signatures, so there is nothing to call by name. Convert it anew from "
            "a SavedModel with signatures."
        )
    for signature in signatures:
        if signature not in info.signatures:
            raise unknown_name("signature", signature, info.signatures)
    for what, values in (("batch_sizes", batch_sizes), ("num_threads", num_threads)):
        if not values or min(values) < 1:
            raise InvalidArgument(f"`{what}` is {values}; expected numbers of at least 1.")
    if not seconds > 0:
        raise InvalidArgument(f"`seconds` is {seconds}; expected a number above 0.")


def _in_a_child(content, options, name):
    # It imports the same modules as this process, none from the working directory.
    cells = math.prod(len(options[key]) for key in ("signatures", "batch_sizes", "num_threads"))
    timeout = min(_TIMEOUT + 2 * options["seconds"] * cells, _LONGEST)
    command = [sys.executable, "-P", "-m", __name__, json.dumps(options)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        done = subprocess.run(
            command,
            input=content,
            env=environment,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InvalidFile(
            f"LiteRT did not finish with {name} in {timeout:,.1f} s. Time fewer signatures, "
            "smaller batches, or each for less time (--seconds); `tfvae export --no-report` times "
            "none."
        ) from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        how = f"by signal {-done.returncode}" if done.returncode < 0 else f"with {lines[-1]!r}"
        raise InvalidFile(f"{name} is damaged: LiteRT ended {how}. Export or copy it again.")
    return json.loads(done.stdout.decode().splitlines()[-1])


def _measure(content, options):
    """Return the answer of the child, as plain data."""
    info = inspection.inspect(content)
    latency, arena, failed = {}, {}, {}
    for name in options["signatures"]:
        signature = info.signatures[name]
        takes_any = any(n < 0 for tensor in signature.inputs for n in tensor.shape)
        batch_sizes = options["batch_sizes"] if takes_any else [_own_batch(signature)]
        try:
            latency[name] = {
                batch: _by_threads(content, signature, name, batch, options)
                for batch in batch_sizes
            }
            arena[name] = {
                batch: _arena(content, example_inputs(signature, batch), name)
                for batch in batch_sizes
            }
        # Also more than there is memory for, and types that NumPy has no zeros of.
        except (RuntimeError, ValueError, MemoryError, TypeError) as error:
            failed[name] = (str(error).strip().splitlines() or ["unknown"])[0]
    return {"latency_ms": latency, "arena_bytes": arena, "failed": failed}


def _own_batch(signature):
    sizes = [tensor.shape[0] for tensor in signature.outputs if tensor.shape]
    return sizes[0] if sizes else 0


def _by_threads(content, signature, name, batch, options):
    interpreter = flatfile.litert_part("interpreter").Interpreter
    inputs = example_inputs(signature, batch)
    cells = {}
    for threads in options["num_threads"]:
        engine = interpreter(model_content=content, num_threads=threads)
        runner = engine.get_signature_runner(name)
        cells[threads] = dataclasses.asdict(
            timed(lambda runner=runner: runner(**inputs), options["seconds"])
        )
    return cells


def _arena(content, inputs, name):
    """Return how many bytes the values of a signature take in memory, by their places after a run.

    Values that are not needed at the same time share memory in the arena, so the result is the
    size of the union of all places.
    """
    module = flatfile.litert_part("interpreter")
    plain = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    engine = module.Interpreter(model_content=content, experimental_op_resolver_type=plain)
    runner = engine.get_signature_runner(name)
    runner(**inputs)
    wrapper, graph = engine._interpreter, runner._subgraph_index
    arrays = []  # all are kept: a scalar is a copy, whose address must not be given to the next one
    # Without the temporary ones that kernels add after these: asking for them crashes LiteRT.
    for tensor in inspection.variables(content, graph):
        try:
            arrays.append(np.asarray(wrapper.tensor(engine, tensor, graph)))
        except ValueError:  # never computed: folded away, or of no type that NumPy has
            continue
    return _union((a.ctypes.data, a.ctypes.data + a.nbytes) for a in arrays)


def _union(places):
    """Return the length of a union of intervals."""
    total, reached = 0, 0
    for start, end in sorted(places):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total


if __name__ == "__main__":
    print(json.dumps(_measure(sys.stdin.buffer.read(), json.loads(sys.argv[1]))))
