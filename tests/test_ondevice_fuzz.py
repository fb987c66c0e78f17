"""Thousands of damaged files: each is refused by name, and none ends the process or hangs it."""

import json
import resource
import subprocess
import sys

import numpy as np
import pytest

from tfvae.errors import InvalidFile
from tfvae.ondevice import benchmark, flatfile

NUM_FILES = 3000
NUM_SEALED = 24
SECONDS_A_FILE = 5.0
BYTES_OF_MEMORY = 6 * 2**30


def mutate(content, rng):
    """Return a file with one kind of damage; the tree, at the end, is met as often as weights."""
    data = bytearray(content)
    size = len(data)
    start = int(rng.integers(0, size)) if rng.random() < 0.5 else int(rng.integers(size // 2, size))
    length = int(rng.integers(1, 200))
    kind = rng.integers(0, 8)
    if kind == 0:  # one byte
        data[start] ^= int(rng.integers(1, 256))
    elif kind == 1:  # many bytes
        for place in rng.integers(0, size, length):
            data[place] = int(rng.integers(0, 256))
    elif kind == 2:  # cut
        del data[max(start, 1) :]
    elif kind == 3:  # a part that is zero
        data[start : start + length] = bytes(len(data[start : start + length]))
    elif kind == 4:  # a part that is there twice
        data[start:start] = data[start : start + length]
    elif kind == 5:  # parts that change places
        other = int(rng.integers(0, size - 200))
        one, two = data[start : start + 200], data[other : other + 200]
        data[other : other + len(one)], data[start : start + len(two)] = one, two
    elif kind == 6:  # an offset or a length of four bytes
        place = start // 4 * 4
        value = int(rng.choice([0, 1, 2**31 - 1, 2**32 - 1, size, 2**20]))
        data[place : place + 4] = value.to_bytes(4, "little")
    else:  # the description
        place = content.rindex(b'"sha256"') - int(rng.integers(0, 250))
        data[place : place + 3] = rng.integers(32, 127, 3).astype(np.uint8).tobytes()
    return bytes(data)


# Runs in a process of its own, which what it tests must not end.
LOADER = """
import json, sys, time
import numpy as np
from collections import Counter
sys.path.insert(0, sys.argv[2])
from test_ondevice_fuzz import NUM_FILES, SECONDS_A_FILE, mutate
from tfvae.errors import InvalidFile, TfvaeError
from tfvae.ondevice import Decoder, inspect

content = open(sys.argv[1], "rb").read()
rng, outcomes, slowest = np.random.default_rng(0), Counter(), 0.0
for number in range(NUM_FILES):
    damaged = mutate(content, rng)
    start = time.perf_counter()
    if number % 4 == 0:
        try:
            inspect(damaged)
            outcomes["read"] += 1
        except InvalidFile:
            outcomes["not read"] += 1
    try:
        Decoder(damaged).sample(1)
        outcomes["unchanged" if damaged == content else "DAMAGED BUT RUN"] += 1
    except InvalidFile:
        outcomes["refused"] += 1
    slowest = max(slowest, time.perf_counter() - start)
print(json.dumps({"outcomes": outcomes, "slowest": slowest}))
"""


@pytest.mark.slow
def test_thousands_of_damaged_files_are_refused_and_none_ends_the_process(
    device_content, tmp_path, request
):
    (tmp_path / "decoder.tflite").write_bytes(device_content)
    command = [sys.executable, "-c", LOADER, tmp_path / "decoder.tflite", request.path.parent]

    def limit_memory():
        resource.setrlimit(resource.RLIMIT_AS, (BYTES_OF_MEMORY, BYTES_OF_MEMORY))

    done = subprocess.run(
        command, capture_output=True, text=True, timeout=500, preexec_fn=limit_memory
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    outcomes = found["outcomes"]
    print(found)
    assert "DAMAGED BUT RUN" not in outcomes
    assert outcomes["refused"] + outcomes.get("unchanged", 0) == NUM_FILES
    assert outcomes["refused"] > 0.95 * NUM_FILES
    # Reading finds out less than the digest does: most damage is in the numbers of weights.
    assert outcomes["read"] > 0
    assert outcomes["not read"] > 0
    assert found["slowest"] < SECONDS_A_FILE


@pytest.mark.slow
def test_damage_that_is_sealed_anew_is_contained(device_content, tmp_path):
    rng, outcomes, names = np.random.default_rng(1), [], []
    for number in range(NUM_SEALED):
        path = tmp_path / f"{number}.tflite"
        try:
            path.write_bytes(flatfile.sealed(mutate(device_content, rng)))
        except IndexError:  # no description is left
            path.write_bytes(mutate(device_content, rng))
        try:
            result = benchmark(path, batch_sizes=(1,), num_threads=(1,), seconds=0.001)
            outcomes.append("run")
            assert result.bytes == path.stat().st_size
        except InvalidFile as error:
            message = str(error)
            outcomes.append("crash" if "by signal" in message else "refused")
            names.append(path.name in message)
    print({name: outcomes.count(name) for name in set(outcomes)})
    assert all(names)
    assert outcomes.count("run") > 0
    assert outcomes.count("refused") > 0
