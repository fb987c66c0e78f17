"""Damaged files, by the thousand, in processes of their own: this file is also the program there.

Nothing that is damaged may do more than raise an error of tfvae: no crash, no other error, no loop
without end, no memory without bounds.
"""

import collections
import json
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tfvae.errors import InvalidFile, TfvaeError
from tfvae.ondevice import Decoder, benchmark, flatfile, inspect

# How many files: together half a minute of two busy cores.
SMALL = 2400  # of a file with three signatures, 300 of each kind of damage
WHOLE = 48  # of one with all signatures
DESCRIPTIONS = 300  # sound files, with a right digest, whose description is off
SEALED = 24  # given a right digest after the damage, and run by LiteRT in a child each

SECONDS = 3  # of processor time that one file may take; a sound one takes 0.01 to 0.1
MEMORY = 200 << 20  # that all of them may add to that of the process

WORDS = (0, 1, 2, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFC, 0xFFFFFFFF)
VALUES = (
    None,
    True,
    0,
    -1,
    3,
    1e300,
    "",
    "x",
    [],
    [0],
    [3],
    [-2],
    [2.5],
    ["a"],
    [4, 4, 2],
    {},
    [[]],
)


class Hang(BaseException):
    """A file took too long; no `except Exception` holds it up."""


def flip_one(content, rng):
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))


def flip_many(content, rng):
    for place in rng.integers(len(content), size=rng.integers(2, 50)):
        content[place] = rng.integers(256)


def cut(content, rng):
    del content[rng.integers(len(content)) :]


def zero(content, rng):
    start, size = rng.integers(len(content)), rng.integers(1, 200)
    content[start : start + size] = bytes(len(content[start : start + size]))


def double(content, rng):
    start, size = rng.integers(len(content)), rng.integers(1, 200)
    content[start:start] = content[start : start + size]


def swap(content, rng):
    size = int(rng.integers(4, 100))
    one, other = sorted(rng.choice(len(content) // size, 2, replace=False) * size)
    block = content[one : one + size]
    content[one : one + size] = content[other : other + size]
    content[other : other + size] = block


def change_word(content, rng):
    """Put another number where a length or an offset may be."""
    place = 4 * int(rng.integers(len(content) // 4))
    content[place : place + 4] = int(rng.choice(WORDS)).to_bytes(4, "little")


def move_word(content, rng):
    """Make a length or an offset a little, or much, more."""
    place = 4 * int(rng.integers(len(content) // 4))
    word = int.from_bytes(content[place : place + 4], "little")
    word += int(rng.choice([-8, -4, -1, 1, 4, 8, 1 << 8, 1 << 16, 1 << 24]))
    content[place : place + 4] = (word % (1 << 32)).to_bytes(4, "little")


DAMAGE = (flip_one, flip_many, cut, zero, double, swap, change_word, move_word)


def damaged(content, count, seed):
    """Yield the name of a kind of damage and the bytes of a file that has it, in turn."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        kind = DAMAGE[number % len(DAMAGE)]
        changed = bytearray(content)
        kind(changed, rng)
        yield kind.__name__, bytes(changed)


def redescribed(content, count, seed):
    """Yield what is off, and a sound file whose description is off in one or two entries."""
    rng = np.random.default_rng(seed)
    described = flatfile.read_description(content)
    keys = [*described, "code_shape", "codebook_size", "num_classes"]
    for _ in range(count):
        text = dict(described)
        for key in rng.choice(keys, rng.integers(1, 3), replace=False):
            if rng.random() < 0.2:
                text.pop(key, None)
            else:
                text[str(key)] = VALUES[rng.integers(len(VALUES))]
        model, _ = flatfile.parse(content)
        (entry,) = [m for m in model.metadata if m.name == flatfile.METADATA_NAME]
        data = json.dumps(text).encode()
        model.buffers[entry.buffer].data = np.frombuffer(data, np.uint8)
        packed = flatfile.pack(model)
        is_whole = described["sha256"].encode() in data
        yield "description", flatfile.sealed(packed) if is_whole else packed


def rewired(content, count, seed):
    """Yield a file that can be read, and says nonsense in one to three places of its tree."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        model, _ = flatfile.parse(content)
        for _ in range(rng.integers(1, 4)):
            graph = model.subgraphs[rng.integers(len(model.subgraphs))]
            operator = graph.operators[rng.integers(len(graph.operators))]
            tensor = graph.tensors[rng.integers(len(graph.tensors))]
            places = rng.integers(-2, len(graph.tensors) + 3, 3, np.int32)
            match rng.integers(6):
                case 0:
                    operator.inputs = places[: len(operator.inputs)]
                case 1:
                    operator.outputs = places[:1]
                case 2:
                    operator.opcodeIndex = int(rng.integers(len(model.operatorCodes)))
                case 3:
                    tensor.shape = rng.integers(-1, 100_000, rng.integers(5), np.int32)
                case 4:
                    tensor.buffer = int(rng.integers(len(model.buffers)))
                case 5:
                    tensor.type = int(rng.integers(18))
        yield "rewired", flatfile.pack(model)


def only(content, names):
    """Return a file with these signatures alone, and the buffers that they need."""
    model, _ = flatfile.parse(content)
    model.signatureDefs = [s for s in model.signatureDefs if s.signatureKey.decode() in names]
    model.subgraphs = [model.subgraphs[s.subgraphIndex] for s in model.signatureDefs]
    for number, signature in enumerate(model.signatureDefs):
        signature.subgraphIndex = number
    users = [*(t for graph in model.subgraphs for t in graph.tensors), *model.metadata]
    needed = sorted({0} | {user.buffer for user in users})
    for user in users:
        user.buffer = needed.index(user.buffer)
    model.buffers = [model.buffers[number] for number in needed]
    return flatfile.sealed(flatfile.pack(model))


# In the process of its own.


def outcome(action):
    """Return "done", or the name of the error that an action raised."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        action()
    except TfvaeError as error:
        return type(error).__name__
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:300]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "done"


def use(content):
    """Load a file and call what it has, as a program would."""
    decoder = Decoder(content)
    if decoder.latent_shape is not None:
        decoder.decode(np.zeros((2, *decoder.latent_shape)))
    if decoder.code_shape is not None:
        decoder.decode_codes(np.zeros((2, *decoder.code_shape), np.int32))
    decoder.encode(np.zeros((1, *decoder.image_shape)))
    if "sample" in inspect(content).signatures:
        decoder.sample(2)


def read_all(folder):
    """Use, inspect and parse every damaged file; return how often each ended in which way."""
    whole = (folder / "whole.tflite").read_bytes()
    small = (folder / "small.tflite").read_bytes()
    files = [
        ("sound", small),
        ("sound", whole),
        *damaged(small, SMALL, seed=0),
        *damaged(whole, WHOLE, seed=1),
        *redescribed(small, DESCRIPTIONS, seed=2),
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    found, slowest = collections.Counter(), 0.0
    for number, (kind, content) in enumerate(files):
        print(number, kind, file=sys.stderr, flush=True)
        kind = "sound" if content in (whole, small) else kind  # zeros may meet zeros
        for action in (use, inspect, flatfile.parse):
            start = time.process_time()
            how = outcome(lambda action=action, content=content: action(content))
            slowest = max(slowest, time.process_time() - start)
            found[f"{kind} {action.__name__}: {how}"] += 1
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return {"found": found, "files": len(files), "slowest": slowest, "memory": after - before}


def run_sealed(folder):
    """Run files with LiteRT that are damaged, that our reader takes, and whose digest is right."""
    module = sys.modules["tfvae.ondevice.benchmark"]
    module._TIMEOUT = 20
    whole = (folder / "small.tflite").read_bytes()
    files = [
        *_taken(damaged(whole, 10_000, seed=3), whole, SEALED // 2),
        *_taken(rewired(whole, 10_000, seed=4), whole, SEALED // 2),
    ]

    def measure(number):
        print(number, files[number][0], file=sys.stderr, flush=True)
        try:
            benchmark(files[number][1], ("decode_1",), (1,), (1,), seconds=1e-6)
        except InvalidFile as error:
            for sign in ("ended by signal", "did not finish", "ended with", "cannot run"):
                if sign in str(error):
                    return sign
            return "refused"
        except BaseException as error:
            return f"{type(error).__name__}: {error}"[:300]
        return "done"

    with ThreadPoolExecutor(2) as pool:
        return {"found": collections.Counter(pool.map(measure, range(len(files))))}


def _taken(files, whole, count):
    """Yield the first of the files that our reader takes and whose digest can be renewed."""
    for kind, content in files:
        try:
            content = flatfile.sealed(content)
            is_taken = content != whole and "decode_1" in inspect(content).signatures
        except (InvalidFile, IndexError):
            continue
        if is_taken:
            yield kind, content
            count -= 1
        if not count:
            return


def _stop(number, frame):
    raise Hang


if __name__ == "__main__":
    from pathlib import Path

    signal.signal(signal.SIGPROF, _stop)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))  # the children inherit it
    work = {"read": read_all, "run": run_sealed}[sys.argv[1]]
    print(json.dumps(work(Path(sys.argv[2]))))


# The tests.


@pytest.fixture(scope="module")
def folder(device_content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    small = only(device_content, ("decode", "decode_1", "encode_1"))
    assert Decoder(small).decode([[0.0, 1.0]]).shape == (1, 4, 4, 1)
    (folder / "whole.tflite").write_bytes(device_content)
    (folder / "small.tflite").write_bytes(small)
    return folder


def in_a_process(work, folder):
    command = [sys.executable, __file__, work, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"status {done.returncode} after {done.stderr[-2000:]}"
    result = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(result, indent=1))
    return result


@pytest.mark.slow
@pytest.mark.nightly
def test_damaged_files_are_errors_of_tfvae_and_nothing_else(folder):
    result = in_a_process("read", folder)
    assert result["files"] == 2 + SMALL + WHOLE + DESCRIPTIONS
    ways = collections.defaultdict(set)
    for key in result["found"]:
        who, how = key.split(": ", 1)
        ways[tuple(who.split())].add(how)
    kinds = {kind.__name__ for kind in DAMAGE}
    for (kind, action), found in ways.items():
        if kind == "sound":
            assert found == {"done"}
        elif kind in kinds and action == "use":
            assert found == {"InvalidFile"}, "the digest lets nothing through"
        else:
            # A description that speaks of codes where there are latents asks for other calls.
            other = {"InvalidArgument"} if action == "use" else set()
            assert found <= {"done", "InvalidFile"} | other, (kind, action)
    assert {kind for kind, _ in ways} >= kinds | {"description", "sound"}
    assert any("done" in ways[kind, "inspect"] for kind in kinds)  # damage that only a digest sees
    assert result["slowest"] < SECONDS
    assert result["memory"] < MEMORY


@pytest.mark.slow
@pytest.mark.nightly
def test_damage_that_litert_runs_into_is_an_error_of_the_benchmark(folder):
    found = in_a_process("run", folder)["found"]
    ways = {"done", "refused", "ended by signal", "ended with", "cannot run", "did not finish"}
    assert set(found) <= ways
    assert sum(found.values()) == SEALED
