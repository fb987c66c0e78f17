import importlib
import json
import math
import subprocess
import types

import numpy as np
import pytest

from tfvae.errors import InvalidArgument, InvalidFile
from tfvae.ondevice import benchmark, inspect
from tfvae.ondevice.benchmark import Latency, example_inputs, timed

module = importlib.import_module("tfvae.ondevice.benchmark")
QUICK = {"batch_sizes": (1,), "num_threads": (1,), "seconds": 1e-6}


def with_fixed_shape(content, edited, shape):
    """Return y = x + 1 for x of this shape alone."""

    def fix(model, schema):
        names = (b"x", b"y")
        maps = model.signatureDefs[0].inputs + model.signatureDefs[0].outputs
        assert {m.name for m in maps} == set(names)
        for entry in maps:
            tensor = model.subgraphs[0].tensors[entry.tensorIndex]
            tensor.shape, tensor.shapeSignature = np.array(shape, np.int32), None

    return edited(content, fix)


@pytest.fixture(scope="module")
def measured(device_content):
    names = ("decode", "decode_1", "sample")
    return benchmark(device_content, names, (1, 3), (1, 2), seconds=0.002)


def test_there_is_a_time_for_each_signature_batch_and_number_of_threads(measured, device_content):
    assert measured.bytes == len(device_content)
    threads = {1, 2}
    shape = {
        name: {batch: set(row) for batch, row in rows.items()}
        for name, rows in measured.latency_ms.items()
    }
    assert shape == {
        "decode": {1: threads, 3: threads},
        "decode_1": {1: threads},  # its own batch, and no other
        "sample": {1: threads, 3: threads},
    }
    assert {name: set(sizes) for name, sizes in measured.arena_bytes.items()} == {
        "decode": {1, 3},
        "decode_1": {1},
        "sample": {1, 3},
    }
    assert measured.failed == {}


def test_times_are_positive_and_in_order(measured):
    cells = [
        cell
        for rows in measured.latency_ms.values()
        for row in rows.values()
        for cell in row.values()
    ]
    cells = [cell for cell in cells if 0 < cell.median <= cell.p95 < 1000 and cell.calls >= 5]
    assert len(cells) == 10


def test_all_of_it_is_plain_data(measured):
    plain = json.loads(json.dumps(measured.as_dict()))
    assert set(plain) == {"bytes", "latency_ms", "arena_bytes", "failed"}
    assert set(plain["latency_ms"]["decode_1"]["1"]["2"]) == {"median", "p95", "calls"}


def test_without_a_choice_all_signatures_are_timed(device_content):
    done = benchmark(device_content, **QUICK)
    assert set(done.latency_ms) == set(inspect(device_content).signatures)


@pytest.mark.parametrize("batch", [1, 2, 50])
def test_the_arena_of_a_sum_is_its_input_and_its_output(foreign_content, batch):
    done = benchmark(foreign_content, batch_sizes=(batch,), num_threads=(1,), seconds=1e-6)
    assert done.arena_bytes == {"serving_default": {batch: 2 * 4 * 3 * batch}}


def test_the_arena_of_dense_layers_reuses_the_place_of_the_hidden_values(device_content):
    # 2 latents stay; 16 parameters and 16 pixels take turns, the 8 hidden values lie where the
    # pixels come later.
    done = benchmark(device_content, ("decode_1",), **QUICK)
    assert done.arena_bytes == {"decode_1": {1: 4 * (2 + 16 + 16)}}


def test_the_arena_grows_in_proportion_with_the_batch(device_content):
    sizes = (16, 32, 64)
    done = benchmark(device_content, ("decode", "encode"), sizes, (1,), seconds=1e-6)
    for small, middle, large in map(dict.values, done.arena_bytes.values()):
        assert large - middle == 2 * (middle - small)
        assert middle - small >= 16 * 4 * (2 + 16)  # latents and pixels at the least


@pytest.mark.parametrize(("shape", "batch"), [((2, 3), 2), ((), 0)])
def test_a_signature_of_fixed_sizes_has_its_own_batch(foreign_content, edited, shape, batch):
    content = with_fixed_shape(foreign_content, edited, shape)
    done = benchmark(content, batch_sizes=(7, 9), num_threads=(1,), seconds=1e-6)
    assert set(done.latency_ms["serving_default"]) == {batch}
    assert done.arena_bytes == {"serving_default": {batch: 2 * 4 * math.prod(shape)}}


def test_inputs_are_zeros_of_the_right_type_and_shape(device_content):
    inputs = example_inputs(inspect(device_content).signatures["sample"], 5)
    given = {name: (array.shape, array.dtype.name) for name, array in inputs.items()}
    assert given == {
        "seed": ((2,), "int32"),
        "index": ((5,), "int32"),
        "temperature": ((), "float32"),
    }
    assert not any(array.any() for array in inputs.values())


class Clock:
    """Time that passes in calls alone."""

    def __init__(self, durations):
        self.now, self.calls, self.durations = 0.0, 0, durations

    def perf_counter(self):
        return self.now

    def call(self):
        self.now += self.durations[self.calls % len(self.durations)]
        self.calls += 1


@pytest.fixture
def clock(monkeypatch):
    """Return a function that makes the clock of the benchmark."""

    def make(*durations):
        clock = Clock(durations)
        fake = types.SimpleNamespace(perf_counter=clock.perf_counter)
        monkeypatch.setattr(module, "time", fake)
        return clock

    return make


@pytest.mark.parametrize(
    ("seconds", "calls"),
    [(0.25, 32), (1.0, 128), (1e-9, 5), (0.0, 5), (1e9, 1000), (math.inf, 1000)],
)
def test_seconds_bound_the_number_of_calls(clock, seconds, calls):
    clock = clock(1 / 128)
    assert timed(clock.call, seconds) == Latency(1000 / 128, 1000 / 128, calls)
    assert clock.calls == 1 + calls // 10 + calls  # the first, those that warm up, those timed


def test_the_median_and_the_95_percent_are_of_the_calls_timed(clock, rng):
    counted = rng.permutation(np.arange(1, 102)) / 128
    clock = clock(1 / 128, *[100.0] * 10, *counted)  # slow while it warms up
    assert timed(clock.call, 101 / 128) == Latency(1000 * 51 / 128, 1000 * 96 / 128, 101)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"signatures": ("decod",)}, "Unknown signature 'decod'.*Did you mean 'decode'"),
        ({"batch_sizes": (1, 0)}, r"`batch_sizes` is \(1, 0\); expected .* at least 1"),
        ({"batch_sizes": ()}, "`batch_sizes`"),
        ({"batch_sizes": (-3,)}, "`batch_sizes`"),
        ({"num_threads": (0,)}, r"`num_threads` is \(0,\)"),
        ({"num_threads": ()}, "`num_threads`"),
        ({"seconds": 0.0}, "`seconds` is 0.0; expected a number above 0"),
        ({"seconds": -1.0}, "`seconds`"),
        ({"seconds": math.nan}, "`seconds`"),
    ],
    ids=str,
)
def test_what_cannot_be_timed_is_refused(device_content, options, message):
    with pytest.raises(InvalidArgument, match=message):
        benchmark(device_content, **options)


def test_a_file_without_signatures_is_refused(foreign_content, edited, tmp_path):
    def leave_out(model, schema):
        model.signatureDefs = None

    (tmp_path / "a.tflite").write_bytes(edited(foreign_content, leave_out))
    with pytest.raises(InvalidFile, match=r"a\.tflite has no signatures"):
        benchmark(tmp_path / "a.tflite")


@pytest.mark.parametrize("junk", [b"", b"no model", b"PK\3\4" * 30])
def test_what_is_no_tflite_is_refused_by_name(tmp_path, junk):
    (tmp_path / "a.tflite").write_bytes(junk)
    with pytest.raises(InvalidFile, match=r"a\.tflite is not a \.tflite file"):
        benchmark(tmp_path / "a.tflite")


@pytest.mark.parametrize("name", ["nothing.tflite", "."])
def test_what_cannot_be_read_is_named(tmp_path, name):
    with pytest.raises(InvalidFile, match=f"Cannot read {tmp_path / name}"):
        benchmark(tmp_path / name)


# What the process of its own is for.


def break_decode(model, schema):
    (number,) = [s.subgraphIndex for s in model.signatureDefs if s.signatureKey == b"decode"]
    model.subgraphs[number].operators[-1].inputs = [10_000]


def test_a_signature_that_cannot_run_leaves_the_others(device_content, edited):
    done = benchmark(edited(device_content, break_decode), ("decode", "decode_1"), **QUICK)
    assert set(done.failed) == {"decode"}
    assert done.failed["decode"]
    assert set(done.latency_ms) == set(done.arena_bytes) == {"decode_1"}


def test_a_file_of_which_nothing_can_run_is_refused(device_content, edited):
    with pytest.raises(InvalidFile, match=r"LiteRT cannot run the model\. decode: \w+"):
        benchmark(edited(device_content, break_decode), ("decode",), **QUICK)


def test_a_batch_that_is_more_than_there_is_memory_for_is_no_damage(device_content):
    with pytest.raises(
        InvalidFile, match=r"LiteRT cannot run the model\. decode: Unable to allocate"
    ):
        benchmark(device_content, ("decode",), batch_sizes=(10**13,), num_threads=(1,))


def test_inputs_that_numpy_does_not_have_are_no_damage(foreign_content, edited):
    def take_text(model, schema):
        place = model.signatureDefs[0].inputs[0].tensorIndex
        model.subgraphs[0].tensors[place].type = schema.TensorType.STRING

    with pytest.raises(InvalidFile, match=r"cannot run the model\. serving_default: .*'string'"):
        benchmark(edited(foreign_content, take_text), **QUICK)


def child(tmp_path, monkeypatch, script):
    """Put a shell script in the place of the process of its own."""
    path = tmp_path / "child"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(module.sys, "executable", str(path))


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("kill -SEGV $$", "LiteRT ended by signal 11"),
        ("kill -ABRT $$", "LiteRT ended by signal 6"),
        ("echo first >&2; echo last words >&2; exit 3", "LiteRT ended with 'last words'"),
        ("exit 1", "LiteRT ended with 'no message'"),
    ],
)
def test_a_crash_of_litert_is_an_error_that_names_the_file(
    device_content, tmp_path, monkeypatch, script, message
):
    (tmp_path / "a.tflite").write_bytes(device_content)
    child(tmp_path, monkeypatch, script)
    with pytest.raises(InvalidFile, match=rf"a\.tflite is damaged: {message}"):
        benchmark(tmp_path / "a.tflite", ("decode",))


def test_litert_that_does_not_end_is_stopped(device_content, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_TIMEOUT", 0.5)
    child(tmp_path, monkeypatch, "exec sleep 60")
    with pytest.raises(InvalidFile, match=r"did not finish with the model in 0\.5 s"):
        benchmark(device_content, ("decode",), **QUICK)


def test_more_to_time_may_take_longer(device_content, monkeypatch):
    waited = []

    def stopped(*_, timeout, **__):
        waited.append(timeout)
        raise subprocess.TimeoutExpired("litert", timeout)

    monkeypatch.setattr(module.subprocess, "run", stopped)
    for seconds in (0.5, 100.0, 1e9):
        with pytest.raises(InvalidFile, match=r"did not finish.*--seconds.*--no-report"):
            benchmark(device_content, ("decode", "decode_1"), seconds=seconds)
    assert waited == [600 + 2 * 0.5 * 8, 600 + 2 * 100.0 * 8, 1e6]


def test_the_working_directory_is_not_imported_from(foreign_content, tmp_path, monkeypatch):
    for name in ("json", "numpy", "tfvae"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not this one')\n")
    monkeypatch.chdir(tmp_path)
    assert not {"", str(tmp_path)} & set(module.sys.path)
    assert benchmark(foreign_content, **QUICK).failed == {}


def test_the_arena_counts_places_that_overlap_or_lie_within_others_once():
    assert module._union([(20, 21), (0, 10), (8, 12), (2, 5), (0, 10)]) == 13
    assert module._union([]) == 0
