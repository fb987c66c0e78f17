"""Hostile arguments, configurations, arrays and files by the thousand: what becomes of them?

    python benchmarks/fuzz.py
    python benchmarks/fuzz.py --kinds keras codes --files 200 --json fuzz.json

Every case may do one of two things: work, or raise an error of tfvae. Anything else fails: another
error, a crash of the process, more than 20 seconds of processor time, or memory beyond 2 GB above
that of the process before. Cases are functions of (--seed, kind, number).

Files are damaged in their bytes, or taken apart, changed inside and put together with right
checksums. Arrays and configurations are drawn by Hypothesis. Cases run in batches, in children that
are forked once TensorFlow is imported; a child that dies is named with its case, and another one
goes on behind it.
"""

import argparse
import collections
import contextlib
import hashlib
import io
import itertools
import json
import os
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import zipfile
import zlib
from pathlib import Path

import numpy as np

SECONDS, MEMORY, BATCH = 20, 2 << 30, 100
NO_LIMIT = resource.RLIM_INFINITY
WORDS = (0, 1, 2, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFC, 0xFFFFFFFF)
VALUES = (
    *(None, True, False, 0, 1, -1, 3, 64, 100_000, 10**9, 2**31, 10**30, 0.5, 1e300, -1e-300),
    *(float("nan"), float("inf"), "", "x", "../../x", "float32", "tfvae>VAE", "Dense", "\0"),
    *([], [0], [3], [-2], [2.5], ["a"], [4, 4, 2], [10**9, 10**9], {}, {"a": 1}, [[]]),
)


# Damage of bytes.


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
    if len(content) < 2 * size:
        return
    one, other = sorted(rng.choice(len(content) // size, 2, replace=False) * size)
    block = content[one : one + size]
    content[one : one + size] = content[other : other + size]
    content[other : other + size] = block


def change_word(content, rng):
    """Put another number where a length or an offset may be."""
    place = 4 * int(rng.integers(max(1, len(content) // 4)))
    content[place : place + 4] = int(rng.choice(WORDS)).to_bytes(4, "little")


def move_word(content, rng):
    """Make a length or an offset a little, or much, more."""
    place = 4 * int(rng.integers(max(1, len(content) // 4)))
    word = int.from_bytes(content[place : place + 4], "little")
    word += int(rng.choice([-8, -4, -1, 1, 4, 8, 1 << 8, 1 << 16, 1 << 24]))
    content[place : place + 4] = (word % (1 << 32)).to_bytes(4, "little")


DAMAGE = (flip_one, flip_many, cut, zero, double, swap, change_word, move_word)


def damaged(content, rng):
    """Return bytes with one kind of damage."""
    changed = bytearray(content)
    DAMAGE[rng.integers(len(DAMAGE))](changed, rng)
    return bytes(changed)


# Damage inside, with right checksums.


def replaced(tree, rng):
    """Return a JSON tree in which one to three entries are other values, or are not there."""
    tree = json.loads(json.dumps(tree))
    for _ in range(rng.integers(1, 4)):
        entries = list(_entries(tree))
        if entries:
            holder, key = entries[rng.integers(len(entries))]
            if isinstance(holder, dict) and rng.random() < 0.15:
                del holder[key]
            elif isinstance(holder[key], int | float) and rng.random() < 0.5:
                holder[key] = holder[key] * int(rng.choice([-1, 0, 2, 1000, 10**6, 10**9]))
            else:
                holder[key] = VALUES[rng.integers(len(VALUES))]
    return tree


def _entries(tree):
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in pairs:
        yield tree, key
        if isinstance(value, dict | list):
            yield from _entries(value)


def rezipped(content, rng):
    """Return an archive in which a member is damaged, lost or replaced; its checksums are right."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = list(members)[rng.integers(len(members))]
    kind = rng.integers(6)
    if kind == 0:
        del members[name]
    elif kind == 1:
        members[name] = bytes(int(rng.choice([0, 1, 10**6, 3 * 10**8], p=[0.4, 0.4, 0.18, 0.02])))
    elif kind == 2:
        members[name] = members[list(members)[rng.integers(len(members))]]
    elif name.endswith(".json"):
        members[name] = json.dumps(replaced(json.loads(members[name]), rng)).encode()
    elif name == "header.npy":  # of a file of codes
        fields = json.loads(np.load(io.BytesIO(members[name])).tobytes())
        file = io.BytesIO()
        text = json.dumps(replaced(fields, rng)).encode()
        np.save(file, np.frombuffer(text, np.uint8))
        members[name] = file.getvalue()
    elif name.endswith(".npy") and kind == 3:
        members[name] = reshaped(members[name], rng)
    else:
        members[name] = damaged(members[name] or b"\0", rng)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if kind % 2 else 0) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def checkpoint_forged(content, rng):
    """Return a checkpoint whose tree or one of whose arrays is other, with the right checksum."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
        mark = archive.comment.decode().rpartition(" ")[0]
    name = "tree.json" if rng.random() < 0.7 else list(members)[rng.integers(len(members))]
    if rng.random() < 0.05:
        members["tree.json"] = b"[" * int(rng.integers(1, 10**5))
    elif rng.random() < 0.1:
        del members[name]
    elif name == "tree.json":
        members[name] = json.dumps(replaced(json.loads(members[name]), rng)).encode()
    else:
        members[name] = damaged(members[name] or b"\0", rng)
    file, digest = io.BytesIO(), hashlib.sha256()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
            digest.update(data)
        archive.comment = f"{mark} {digest.hexdigest()}".encode()
    return file.getvalue()


def reshaped(content, rng):
    """Return an `.npy` that says it has another shape or type."""
    array = np.load(io.BytesIO(content))
    shape = tuple(int(n) for n in rng.choice([0, 1, 3, 8, 100, 10**6, 10**9], rng.integers(6)))
    types = [
        "|u1",
        "<f4",
        "<f8",
        "|b1",
        "<i8",
        "<c8",
        "|O",
        "|S5",
        "<U3",
        "<M8[s]",
        array.dtype.str,
    ]
    header = {"descr": types[rng.integers(len(types))], "fortran_order": bool(rng.integers(2))}
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {**header, "shape": shape})
    return file.getvalue() + array.tobytes()


def repacked_png(content, rng):
    """Return a PNG one of whose chunks is other, with the right checksum."""
    chunks, place = [], 8
    while place < len(content):
        (size,) = struct.unpack(">I", content[place : place + 4])
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + size]))
        place += 12 + size
    number = int(rng.integers(len(chunks)))
    kind, data = chunks[number]
    if kind == b"IHDR":
        sides = [int(n) for n in rng.choice([0, 1, 8, 30_000, 10**6, 2**31 - 1, 2**32 - 1], 2)]
        flags = rng.choice([data[8:], bytes(rng.integers(0, 17, 5).tolist())])
        data = struct.pack(">II", *sides) + bytes(flags)
    else:
        data = damaged(data or b"\0", rng)
    chunks[number] = (kind, data)
    packed = [
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks
    ]
    return content[:8] + b"".join(packed)


# What each kind of case is, and does. `Case.of(number)` is a name and a function to call.


class Kind:
    """Cases of one kind, in a folder of sound samples.

    Args:
        samples: the folder.
        work: a folder to write cases to.
        seed: of all cases.
    """

    ending = ""

    def __init__(self, samples: Path, work: Path, seed: int):
        self.samples, self.work, self.seed = samples, work, seed

    def rng(self, number):
        kind = zlib.crc32(type(self).__name__.encode())
        return np.random.default_rng([self.seed, kind, number])

    def sound(self, number):
        """Return the bytes of a sound file."""
        return (self.samples / f"sample{self.ending}").read_bytes()

    def change(self, content, rng):
        """Return the bytes of a hostile one."""
        return damaged(content, rng) if rng.random() < 0.5 else rezipped(content, rng)

    def run(self, number):
        """Make a case and use it."""
        path = self.work / f"case{self.ending}"
        path.write_bytes(self.change(self.sound(number), self.rng(number)))
        self.use(path)

    def use(self, path):
        """Read the file as a user would."""
        raise NotImplementedError

    def start(self):
        """Get ready, in a child."""


class Keras(Kind):
    ending = ".keras"

    def use(self, path):
        from tfvae import runs

        runs.load_model(path).sample(1)


class Arrays(Kind):
    ending = ".npz"

    def change(self, content, rng):
        if rng.random() < 0.2:
            return reshaped(_npy(content), rng)
        return super().change(content, rng)

    def use(self, path):
        from tfvae import data

        data.load(str(path))


class Codes(Kind):
    ending = ".codes.npz"

    def start(self):
        from tfvae import runs

        self.model = runs.load_model(self.samples / "vqvae.keras")

    def use(self, path):
        from tfvae import codec

        codec.decompress(self.model, path)


class CheckpointFiles(Kind):
    """The newest of two checkpoints is hostile; half of the time its checksum is right.

    A damaged one may change nothing, or be set aside for the one before: nothing else.
    """

    ending = ".zip"

    def start(self):
        self.model, self.data = small_training()
        self.model.fit(self.data, epochs=1, verbose=0)
        self.before = (self.samples / "before.zip").read_bytes()
        self.states = [flat_state(self.samples / name) for name in ("before.zip", "sample.zip")]

    def run(self, number):
        rng, content = self.rng(number), self.sound(number)
        forged = rng.random() < 0.5
        content = checkpoint_forged(content, rng) if forged else damaged(content, rng)
        folder = self.work / f"case{number}"
        folder.mkdir(parents=True)
        (folder / "epoch-00001-batch-00000002.zip").write_bytes(self.before)
        (folder / "epoch-00002-batch-00000000.zip").write_bytes(content)
        if not forged:
            self.use(folder)
        self.train(folder)

    def use(self, path):
        with tempfile.TemporaryDirectory() as copy:
            shutil.copytree(path, copy, dirs_exist_ok=True)
            assert flat_state(copy) in self.states, "another state than those that were kept"

    def train(self, folder):
        """Go on from it. A checkpoint that was set aside counts as refused."""
        from tfvae.callbacks import Resume

        self.model.fit(self.data, epochs=2, verbose=0, callbacks=[Resume(folder)])
        if list(folder.glob("*.damaged")):
            raise Refused("damaged")


class Tflite(Kind):
    ending = ".tflite"

    def change(self, content, rng):
        return damaged(content, rng)

    def use(self, path):
        from tfvae.errors import InvalidFile
        from tfvae.ondevice import Decoder, inspect

        with contextlib.suppress(InvalidFile):
            inspect(path)
        decoder = Decoder.from_file(path)
        decoder.decode(np.zeros((2, *decoder.latent_shape)))
        decoder.sample(2)


class Pictures(Kind):
    endings = (".png", ".jpg", ".gif", ".bmp", ".webp", ".tiff")

    def run(self, number):
        ending = self.endings[number % len(self.endings)]
        rng, content = self.rng(number), (self.samples / f"sample{ending}").read_bytes()
        structured = ending == ".png" and rng.random() < 0.7
        content = repacked_png(content, rng) if structured else damaged(content, rng)
        folder = self.work / "pictures"
        folder.mkdir(exist_ok=True)
        path = folder / f"case{ending}"
        path.write_bytes(content)
        try:
            self.use(folder)
        finally:
            path.unlink()

    def use(self, path):
        from tfvae import data

        data.read_examples(path, resize=(8, 8))


class ConfigFiles(Kind):
    ending = ".toml"

    def change(self, content, rng):
        import tomllib

        import tomli_w

        if rng.random() < 0.4:
            return damaged(content, rng)
        if rng.random() < 0.05:
            return b"a = " + b"[" * int(rng.integers(1, 10**5))
        tree = replaced(tomllib.loads(content.decode()), rng)
        return tomli_w.dumps(_without_none(tree)).encode()

    def use(self, path):
        from tfvae import config
        from tfvae.config.names import check_names

        check_names(config.load_config(path))


class Reports(Kind):
    ending = ".json"

    def change(self, content, rng):
        if rng.random() < 0.4:
            return damaged(content, rng)
        if rng.random() < 0.05:
            return b"[" * int(rng.integers(1, 10**5))
        return json.dumps(replaced(json.loads(content), rng)).encode()

    def use(self, path):
        from tfvae._plain import files

        report = path.with_name("report.json")
        os.replace(path, report)
        files.update_report(path.parent, "evaluation", {"elbo": -1.0})


class Arguments(Kind):
    """Vectors of the command line."""

    numbers = ("0", "1", "2", "-1", "1e9", "1000000000", "100000000000000000000", "nan", "x", "")
    paths = ("run", "vq", "nowhere", ".", "sample.keras", "sample.npz", "sample.tflite", "", "/")
    outputs = ("a.png", "a.npy", "a.gif", "nowhere/a.png", "run", "/dev/full", "sample.npz/a.png")
    settings = (
        "model.hidden=[1000000000]",
        "model.latent_size=100000000",
        "data.resize=[1000000,1000000]",
        "training.num_samples=100000000",
        "training.learning_rate=nan",
        "model.likelihood=x",
        "model.network_options={a=1}",
        "x",
        "a=b",
        "training.beta=[1]",
        "data.name=nowhere/x",
        "training.batch_size=100000000",
    )

    def options(self):
        """Return the options of each verb, and what their values are drawn from."""
        n, paths, outputs = self.numbers, self.paths, self.outputs
        drawn = {"-n": n, "--seed": n, "--temperature": n, "-o": outputs, "--json": None}
        data = {"--dataset": ("digits", *paths), "--data-dir": paths}
        return {
            "sample": {**drawn, "--condition": n},
            "reconstruct": {"-n": n, "-o": outputs, "--json": None, **data},
            "evaluate": {"--num-samples": n[:5], "--num-examples": n[1:3], **data},
            "diagnose": {"--estimators": ("x", "", "dreg,x"), "--num-draws": n[:1], **data},
            "encode": {"-n": n, "-o": ("a.npz", *outputs)},
            "decode": {"--sample": n, "--latents": paths, "--codes": paths, **drawn},
            "inspect": {"--json": None},
            "benchmark": {"--batch": n[3:], "--threads": n[3:], "--signature": n[8:]},
            "export": {"--format": n, "--quantize": n, "-o": outputs[4:], "--calibration": n[:1]},
            "train": {
                **{"--recipe": ("vae-digits", "vqvae-digits", "x"), "--set": self.settings},
                **{"--epochs": n[3:], "--batch-size": n[4:], "--num-samples": n[3:]},
                **{"--run-dir": ("run", "/dev/full/x", "sample.npz/x"), "--learning-rate": n},
            },
            "train-prior": {"--prior": n, "--epochs": n[3:], "--set": self.settings},
            "recipes": {"--json": None},
            "x": {},
        }

    def vector(self, number):
        """Return the arguments of a case."""
        rng, options = self.rng(number), self.options()
        verb = str(rng.choice(list(options)))
        known = list(options[verb])
        arguments = [verb]
        if verb not in ("train", "recipes", "x") or rng.random() < 0.3:
            arguments += [str(rng.choice(self.paths))] * int(
                rng.choice([0, 1, 2], p=[0.1, 0.8, 0.1])
            )
        for name in rng.choice(known, rng.integers(0, 4)) if known else ():
            values = options[verb][str(name)]
            arguments += [str(name)] if values is None else [str(name), str(rng.choice(values))]
        if verb == "export" and not {"--format", "--quantize"} & set(arguments):
            arguments += ["--format", "x"]  # a sound export takes longer than a case may
        if verb == "diagnose" and "--estimators" not in arguments:
            arguments += ["--estimators", "x"]  # and so does a sound table of all estimators
        if verb == "train" and "--run-dir" not in arguments:
            arguments += ["--run-dir", "sample.npz/x"]  # nothing is to be trained for long
        return arguments

    def run(self, number):
        import click

        from tfvae.tools.main import cli

        os.chdir(self.samples)
        try:
            cli.main(self.vector(number), standalone_mode=False)
        except click.ClickException as error:
            raise Refused(type(error).__name__) from None
        except SystemExit:
            raise Refused("SystemExit") from None


class Refused(Exception):
    """The command line was used in a way that it refuses."""


def configurations(seed, count, note):
    """Draw configurations, and see that they are refused or come back from TOML."""
    import dataclasses
    import tomllib
    import typing

    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from hypothesis import strategies as st

    from tfvae import config
    from tfvae.config.names import check_names

    junk = st.one_of(
        *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
        st.lists(st.one_of(st.integers(), st.floats(), st.text(max_size=5)), max_size=4),
        st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
    )
    plain = {int: st.integers(-2, 300), float: st.floats(), bool: st.booleans()}

    def section(cls):
        types = typing.get_type_hints(cls)
        fields = {}
        for field in dataclasses.fields(cls):
            default = getattr(cls(), field.name)
            right = plain.get(types[field.name], st.just(default))
            fields[field.name] = st.one_of(st.just(default), right, junk)
        return st.fixed_dictionaries({}, optional=fields)

    sections = {
        field.name: section(typing.get_type_hints(config.Config)[field.name])
        for field in dataclasses.fields(config.Config)
        if field.name not in ("name", "description")
    }
    whole = st.fixed_dictionaries({}, optional={**sections, "name": st.text(max_size=10)})

    @seeded(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(whole, st.dictionaries(st.text(max_size=5), junk, max_size=3)))
    def check(values):
        def action():
            made = config.from_dict(values)
            assert config.from_dict(tomllib.loads(made.to_toml())) == made
            check_names(made)

        note(values, action)

    check()


def arrays(seed, count, note):
    """Draw arrays, and give them to `data.load` and to a model."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as hnp

    from tfvae import data

    usual = st.sampled_from(["|u1", "<u2", "<f4", "<f8", "|b1"])
    kinds = usual | hnp.scalar_dtypes() | hnp.array_dtypes(max_size=2)
    side = st.integers(1, 8)
    pictures = st.tuples(st.integers(10, 20), side, side, st.sampled_from([1, 3]))
    shapes = pictures | hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=12)

    @seeded(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(hnp.arrays(kinds, shapes))
    def check(array):
        def action():
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "a.npy"
                np.save(path, array)
                data.load(str(path))

        note(f"{array.dtype} {array.shape}", action)

    check()


FILES = {
    "keras": Keras,
    "npz": Arrays,
    "codes": Codes,
    "checkpoint": CheckpointFiles,
    "tflite": Tflite,
    "pictures": Pictures,
    "config": ConfigFiles,
    "report": Reports,
}
DRAWN = {"configurations": configurations, "arrays": arrays}
KINDS = (*FILES, *DRAWN, "arguments")


def _npy(content):
    file = io.BytesIO()
    np.save(file, np.load(io.BytesIO(content))["x"])
    return file.getvalue()


def _without_none(tree):
    if isinstance(tree, dict):
        return {str(k): _without_none(v) for k, v in tree.items() if v is not None}
    if isinstance(tree, list):
        return [_without_none(value) for value in tree if value is not None]
    return tree


# Children.


class Hang(BaseException):
    """A case took too long; no `except Exception` holds it up."""


def outcome(action):
    """Return "worked", the name of the error of tfvae that an action raised, or what went wrong."""
    from tfvae.errors import TfvaeError

    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    # The system ends the process where no signal gets through.
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 5 * SECONDS, NO_LIMIT))
    try:
        action()
    except (TfvaeError, Refused) as error:
        return "refused", type(error).__name__
    except Hang:
        return "WRONG", f"more than {SECONDS} s"
    except BaseException as error:
        if os.environ.get("FUZZ_TRACEBACK"):
            traceback.print_exc(file=sys.__stderr__)
        text = (str(error).strip().splitlines() or [""])[0]
        return "WRONG", f"{type(error).__name__}: {text}"[:200]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "worked", ""


def _stop(number, frame):
    raise Hang


def in_child(action):
    """Fork, call `action(write)`, and yield what it writes, then how the child ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        status = 1
        try:
            signal.signal(signal.SIGPROF, _stop)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            silent = os.open(os.devnull, os.O_RDWR)
            os.dup2(silent, 1)
            if not os.environ.get("FUZZ_TRACEBACK"):
                os.dup2(silent, 2)
            with os.fdopen(writing, "w") as pipe:
                action(lambda *line: print(json.dumps(line), file=pipe, flush=True))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        for line in pipe:
            yield json.loads(line)
    yield ["ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]


def peak():
    """Return the memory that this process has had at most, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def run_batch(kind, numbers, write):
    """Run cases in this child: before each its number is written, behind it what became of it."""
    kind.work.mkdir(exist_ok=True)
    kind.start()
    before = peak()
    limit = before + 4 * MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit + (32 << 30), limit + (32 << 30)))
    for number in numbers:
        write("case", number)
        start = time.process_time()
        how, what = outcome(lambda number=number: kind.run(number))
        if peak() - before > MEMORY:
            how, what = "WRONG", f"{(peak() - before) >> 20} MB of memory"
            before = peak()
        write(how, what, time.process_time() - start, peak() - before)


def run_files(name, count, seed, samples, work):
    """Yield (how, what, seconds, memory, case) of each case."""
    kinds = {**FILES, "arguments": Arguments}
    kind = kinds[name](samples, work, seed)
    for start in range(0, count, BATCH):
        end = min(start + BATCH, count)
        while start < end:
            numbers, last = range(start, end), start - 1
            for how, *rest in in_child(lambda write, n=numbers: run_batch(kind, n, write)):
                if how == "case":
                    (last,) = rest
                elif how != "ended":
                    yield how, *rest, last
                elif rest[0]:
                    last = max(last, start)
                    yield "WRONG", f"the process ended with {rest[0]}", 0.0, 0, last
                    start = last + 1
                else:
                    start = end


def run_drawn(name, count, seed):
    """Yield (how, what, seconds, memory, case) of each case."""

    def work(write):
        before = peak()

        def note(case, action):
            start = time.process_time()
            how, what = outcome(action)
            write(how, what, time.process_time() - start, peak() - before, repr(case)[:300])

        DRAWN[name](seed, count, note)

    for how, *rest in in_child(work):
        if how != "ended":
            yield how, *rest
        elif rest[0]:
            yield "WRONG", f"the process ended with {rest[0]}", 0.0, 0, "the last one"


def small_training():
    """Return a compiled model, and data of three batches."""
    import keras

    import tfvae

    keras.utils.set_random_seed(0)
    shape, networks = (8, 8, 1), tfvae.networks
    model = tfvae.VAE(
        networks.dense_encoder(shape, 4, hidden=(8,)), networks.dense_decoder(2, shape, hidden=(8,))
    )
    # Children make a few steps each: a graph would take longer than all of them.
    model.compile(tfvae.optimizers.Adam(1e-3), run_eagerly=True)
    x = np.random.default_rng(0).integers(0, 2, (6, *shape)).astype(np.float32)
    return model, tfvae.data.shuffled_batches(x, 2)


def make_checkpoints(folder):
    """Write the last two of a training: within an epoch, and at its end."""
    from tfvae.callbacks import Resume

    model, data = small_training()
    model.fit(data, epochs=2, verbose=0, callbacks=[Resume(folder / "kept", minutes=1e-9)])
    before, newest = sorted((folder / "kept").glob("*.zip"))
    shutil.move(before, folder / "before.zip")
    shutil.move(newest, folder / "sample.zip")


def flat_state(path):
    """Return what the newest checkpoint of a folder, or that in a file, holds, as text."""
    from tfvae.checkpoints import Checkpoints

    with tempfile.TemporaryDirectory() as folder:
        if Path(path).is_file():
            shutil.copy(path, Path(folder) / "epoch-00000-batch-00000000.zip")
        _, tree = Checkpoints(folder if Path(path).is_file() else path).load()
    arrays = lambda value: [value.dtype.name, value.shape, value.tobytes().hex()]  # noqa: E731
    return json.dumps(tree, default=arrays)


def make_samples(folder):
    """Write a sound file of each kind, with small models; in a child, which may use TensorFlow."""
    from PIL import Image

    import tfvae
    from tfvae import codec, export, runs
    from tfvae._plain import files
    from tfvae.config import Config
    from tfvae.tools.main import cli

    rng = np.random.default_rng(0)
    shape, networks = (8, 8, 1), tfvae.networks
    model = tfvae.VAE(
        networks.dense_encoder(shape, 4, hidden=(8,)), networks.dense_decoder(2, shape, hidden=(8,))
    )
    model.compile(tfvae.optimizers.Adam(1e-3), objective="iwae", num_samples=2)
    model.optimizer.build(model.trainable_variables)
    vqvae = tfvae.VQVAE(
        networks.residual_encoder(shape, 4, 8, 1, 1, 4),
        tfvae.quantizers.get("ema", num_embeddings=16, embedding_dim=4),
        networks.residual_decoder((4, 4, 4), 1, 8, 1, 1, 4),
        likelihood="bernoulli",
    )
    vqvae.prior = tfvae.code_priors.get("categorical", codebook_size=16)
    vqvae.compile(tfvae.optimizers.Adam(1e-3))
    x = rng.random((40, *shape), np.float32)
    model.save(folder / "sample.keras")
    vqvae.save(folder / "vqvae.keras")
    codec.compress(vqvae, x, folder / "sample.codes.npz")
    np.savez_compressed(folder / "sample.npz", x=(255 * x).astype(np.uint8))
    export.litert(model, folder / "sample.tflite")
    make_checkpoints(folder)
    for ending in Pictures.endings:
        pixels = rng.integers(0, 256, (20, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"sample{ending}")
    config = Config().override({"model.hidden": [8], "model.latent_size": 2})
    vq_config = config.override({"model.family": "vqvae", "model.network": "residual"})
    (folder / "sample.toml").write_text(config.to_toml())
    files.update_report(folder, "evaluation", {"elbo": -2.0, "rows": [{"a": 1}, {"b": [1, 2]}]})
    os.replace(folder / "report.json", folder / "sample.json")
    for name, made, its in (("run", model, config), ("vq", vqvae, vq_config)):
        made.save(runs.RunDirectory.create(folder / name, its).model_file)
    assert cli is not None


def fuzz(kinds, num_files, num_vectors, seed, report=print):
    """Return a table {kind: counts} of what became of all cases, and a list of the failed ones."""
    import keras  # noqa: F401  (what children need is imported before they are forked)

    import tfvae.codec
    import tfvae.data
    import tfvae.export
    import tfvae.runs
    import tfvae.tools.main  # noqa: F401

    table, failed = {}, []
    with tempfile.TemporaryDirectory() as folder:
        samples = Path(folder) / "samples"
        samples.mkdir()
        *_, (_, status) = in_child(lambda write: make_samples(samples))
        assert status == 0, "the samples could not be made"
        for name in kinds:
            start = time.perf_counter()
            if name in DRAWN:
                cases = run_drawn(name, num_vectors, seed)
            else:
                count = num_vectors if name == "arguments" else num_files
                cases = run_files(name, count, seed, samples, Path(folder) / name)
            row = collections.Counter()
            slowest = largest = 0
            for how, what, seconds, memory, case in cases:
                row["cases"] += 1
                row[how] += 1
                slowest, largest = max(slowest, seconds), max(largest, memory)
                if how == "WRONG":
                    failed.append({"kind": name, "case": case, "what": what})
                    report(f"{name} {case}: {what}")
            row["slowest_s"], row["memory_mb"] = round(slowest, 1), largest >> 20
            row["minutes"] = round((time.perf_counter() - start) / 60, 1)
            table[name] = dict(row)
            report(f"{name}: {dict(row)}")
    return table, failed


def rows(table):
    """Return the table in Markdown."""
    yield "| kind | cases | worked | refused | anything else | slowest | memory added |"
    yield "|---|---|---|---|---|---|---|"
    for name, row in table.items():
        cells = [row.get(key, 0) for key in ("cases", "worked", "refused", "WRONG")]
        yield (
            f"| {name} | {' | '.join(f'{n:,}' for n in cells)} | {row['slowest_s']} s "
            f"| {row['memory_mb']} MB |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--files", type=int, default=2000, help="of each kind")
    parser.add_argument("--vectors", type=int, default=1500, help="of arguments and of each drawn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    log = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
    table, failed = fuzz(options.kinds, options.files, options.vectors, options.seed, log)
    if options.json:
        options.json.write_text(json.dumps({"table": table, "failed": failed}, indent=1))
    print("\n".join(itertools.chain(rows(table))))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
