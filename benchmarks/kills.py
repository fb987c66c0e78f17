"""Killed twenty times, does a training end as one that nothing interrupted?

    python benchmarks/kills.py
    python benchmarks/kills.py --cases vae --kills 8 --json kills.json

A VAE with dynamic binarization, one with a flow prior, a VQ-VAE with moving averages whose dead
codes are revived, and a prior over codes are trained on scikit-learn's digits for six epochs in one
go; and again with `kill -9` at random moments, of which four are while a checkpoint is being
written, and two in a row without progress between. Weights, optimizer and history of both have to
be the same, bit for bit. Exit status 1 if any is not, or if there were not the kills that are told.

Every process is forked from one that has imported TensorFlow and done nothing with it, which saves
seconds. TensorFlow has one thread in it: the sums of several may differ in their last bits.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from tfvae.checkpoints import Checkpoints
from tfvae.runs.callbacks import read_history
from tfvae.runs.directory import TrainingDirectory

EPOCHS, BATCHES = 6, 71
INTERVAL = 0.1  # seconds between checkpoints, since epochs are short here
WRITING, IN_A_ROW, WITHIN_AN_EPOCH = 4, 2, 8
TRAINING = {
    "training.epochs": EPOCHS,
    "training.batch_size": 20,  # of 1,437 images
    "training.steps_per_execution": 2,  # BATCHES is no multiple of it
    "training.checkpoint_minutes": INTERVAL / 60,
}
BITS = {
    "data.binarization": "dynamic",
    "model.likelihood": "bernoulli",
    "model.likelihood_options": {},
}
CODES = {
    "model.network_options": {"filters": 16, "num_downsamplings": 1, "num_blocks": 1},
    "model.quantizer_options": {
        "num_embeddings": 64,
        "initializer": "kmeans",
        "threshold_ema_dead_code": 1.0,
    },
    "model.embedding_dim": 8,
}
PRIOR = {
    "code_prior.name": "transformer",
    "code_prior.options": {"num_layers": 1, "hidden_size": 32, "num_heads": 2, "dropout": 0.1},
    "code_prior.epochs": EPOCHS,
    "code_prior.batch_size": 20,
}
# Recipe, settings, and whether it is the prior over the codes of such a run that is looked at.
CASES = {
    "vae": ("vae-digits", {**TRAINING, **BITS, "training.kl_warmup_steps": 200}, False),
    "flow-prior": ("vae-digits", {**TRAINING, **BITS, "model.prior": "flow"}, False),
    "vqvae-ema": ("vqvae-digits", {**TRAINING, **CODES}, False),
    "code-prior": ("vqvae-digits", {**TRAINING, **CODES, **PRIOR, "training.epochs": 1}, True),
}


def work(case, of_codes, folder, progress, log):
    """Train or go on, in a process of its own.

    `progress` is (whether it has begun, the calls it has begun, the epoch, the batch).
    """
    with open(log, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import tensorflow as tf

    from tfvae import recipes, runs

    tf.config.threading.set_intra_op_parallelism_threads(1)

    class Telling(runs.callbacks.History):
        def on_epoch_begin(self, epoch, logs=None):
            super().on_epoch_begin(epoch, logs)
            progress[0], progress[2] = 1, epoch

        def on_train_batch_begin(self, batch, logs=None):
            if self.model.train_function.__name__ != "pass_over":  # the batches made before
                progress[1], progress[3] = progress[1] + 1, batch

    runs.callbacks.History = Telling
    runs.pictures.draw = lambda *_: None
    config = recipes.load(CASES[case][0]).override(CASES[case][1])
    files = training(folder, of_codes)
    resume = files.config_file.is_file()
    if of_codes:
        runs.train_prior(folder, None if resume else config, resume=resume, progress=False)
    else:
        runs.train(config, folder, resume=resume, progress=False)


def training(folder, of_codes):
    """Return the directory of what is trained."""
    return TrainingDirectory(folder / "code-prior" if of_codes else folder)


class Process:
    """One process that trains, until it ends or is killed."""

    def __init__(self, context, case, of_codes, folder):
        self.progress = context.Array("q", 4)
        self.checkpoints = training(folder, of_codes).checkpoints
        self.log = folder.with_suffix(".log")
        arguments = (case, of_codes, folder, self.progress, self.log)
        self.process = context.Process(target=work, args=arguments)
        self.process.start()

    def wait(self):
        """Wait for its end."""
        self.process.join()
        if self.process.exitcode:
            said = self.log.read_text()[-1500:]
            raise SystemExit(f"A process that was not killed failed: {said}")

    def killed(self, kind, steps):
        """Kill it so many calls on, or at the next checkpoint that it writes then; say how it was.

        Returns:
            What is told of a kill, or None if it had ended before.
        """
        while not self.progress[0] or self.progress[1] < steps:
            if not self.process.is_alive():
                return None
            time.sleep(0.0005)
        begun = time.time()
        if kind == "writing":
            while not self._strays():
                if not self.process.is_alive():
                    return None
        elif kind == "random":
            time.sleep(random.uniform(0, 0.02))
        self.process.kill()
        now = time.time()
        self.process.join()
        kept = [file.stat().st_mtime for file in self.checkpoints.path.glob("*.zip")]
        return {
            "kind": kind,
            "epoch": self.progress[2],
            "batch": self.progress[3],
            "writing": bool(self._strays()),
            "kept": list(self.checkpoints.last()),
            "seconds_lost": now - max([*kept, 0.0 if steps else begun]),
        }

    def _strays(self):
        folder = self.checkpoints.path
        return [path for path in folder.glob(".epoch*")] if folder.is_dir() else []


def kill_often(context, case, of_codes, folder, kills):
    """Train in a folder, killed so many times; return what is told of each kill."""
    kinds = ["writing"] * WRITING + ["random"] * (kills - WRITING - IN_A_ROW)
    random.shuffle(kinds)
    row = random.randrange(3, len(kinds))
    kinds[row:row] = ["no progress"] * IN_A_ROW
    told = []
    for number, kind in enumerate(kinds):
        epoch, batch = training(folder, of_codes).checkpoints.last()
        left = EPOCHS * BATCHES - epoch * BATCHES - batch
        most = max(1, left // (kills - number + 1))  # in calls of two steps: room for all the kills
        steps = 0 if kind == "no progress" else random.randint(1, most)
        kill = Process(context, case, of_codes, folder).killed(kind, steps)
        if kill is None:
            break
        told.append(kill)
        print(f"  {number + 1:2}: {kill}", file=sys.stderr, flush=True)
    Process(context, case, of_codes, folder).wait()
    return told


def differences(one, other, of_codes):
    """Return what differs between two finished runs."""
    found = []
    kept = [Checkpoints(training(f, of_codes).checkpoints.path).load() for f in (one, other)]
    for part in ("model", "optimizer"):
        pair = [tree["variables"][part] for _, tree in kept]
        if len(pair[0]) != len(pair[1]) or not all(map(same, *pair)):
            found.append(f"{part} variables of the last checkpoint")
    if not all(map(same, *map(weights, (one, other)))):
        found.append("weights of model.keras")
    rows = [history(training(folder, of_codes)) for folder in (one, other)]
    if rows[0] != rows[1]:
        found.append("history")
    if [row["epoch"] for row in rows[1]] != list(range(1, EPOCHS + 1)):
        found.append("epochs in the history")
    left = [str(path) for path in other.rglob(".*") if path.is_dir()]
    return found + ([f"temporary files {left}"] if left else [])


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def weights(folder):
    """Return the weights in model.keras."""
    values = []
    with tempfile.TemporaryDirectory() as unpacked:
        shutil.unpack_archive(folder / "model.keras", unpacked, "zip")
        with h5py.File(Path(unpacked) / "model.weights.h5") as file:
            file.visititems(
                lambda _, item: values.append(np.asarray(item)) if hasattr(item, "dtype") else None
            )
    return values


def history(files):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_history(files)]


def run_case(context, case, kills, work_folder):
    """Return what is told of a case."""
    of_codes = CASES[case][2]
    straight, killed = work_folder / f"{case}-straight", work_folder / f"{case}-killed"
    if of_codes:
        Process(context, case, False, straight).wait()
        shutil.copytree(straight, killed)
    Process(context, case, of_codes, straight).wait()
    told = kill_often(context, case, of_codes, killed, kills)
    report = json.loads((killed / "report.json").read_text())
    return {
        "case": case,
        "kills": len(told),
        "within_an_epoch": sum(0 < kill["batch"] < BATCHES - 1 for kill in told),
        "while_writing": sum(kill["writing"] for kill in told),
        "without_progress": sum(a["kept"] == b["kept"] for a, b in itertools.pairwise(told)),
        "most_seconds_lost": round(max(kill["seconds_lost"] for kill in told), 3),
        "checkpoints": report["code_prior" if of_codes else "training"]["checkpoints"],
        "differences": differences(straight, killed, of_codes),
    }


def enough(row, kills):
    """Return whether there were the kills that are told."""
    return (
        row["kills"] == kills
        and row["while_writing"] >= WRITING
        and row["without_progress"] >= 1
        and row["within_an_epoch"] >= min(WITHIN_AN_EPOCH, kills // 2)
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", help="file for the rows")
    options = parser.parse_args()
    random.seed(options.seed)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tfvae.runs"])
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case in options.cases:
            print(case, file=sys.stderr, flush=True)
            rows.append(run_case(context, case, options.kills, Path(folder)))
    names = ("case", "kills", "within_an_epoch", "while_writing", "without_progress")
    print("".join(f"{name:>18}" for name in (*names, "most_seconds_lost", "differences")))
    for row in rows:
        cells = [*(row[name] for name in names), row["most_seconds_lost"]]
        print(
            "".join(f"{cell!s:>18}" for cell in [*cells, ", ".join(row["differences"]) or "none"])
        )
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1))
    sys.exit(any(row["differences"] or not enough(row, options.kills) for row in rows))


if __name__ == "__main__":
    main()
