"""Do two worker processes train as one process does with the whole batch, and go on when one dies?

    python benchmarks/workers.py
    python benchmarks/workers.py --families vae vqvae-ema --steps 20 --json workers.json
    python benchmarks/workers.py --families --recipes vae-digits

Every family is trained on scikit-learn's digits twice, from the same weights: by one process, and
by two on this machine that talk over loopback, each with half of every batch of 40. The loss so far
is compared after each step, and so are all weights and codebooks at the end. Exit status 1 if one
of them differs by more than float rounding makes of it; see TOLERANCES.

Then each of some recipes is trained by two workers of `tfvae train`, once in one go, and once so
that one of them is killed in the middle of an epoch (`kill -9`), worker 1 of the first recipe,
worker 0 of the next. The other has to end by itself, with an error. Both are started again with
--resume, and the weights have to be those of the first run, bit for bit; TensorFlow has one thread
for a sum then, since the sums of several may differ in their last bits.
"""

import argparse
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np

BATCH_SIZE, SEED = 40, 0
# Of the loss in the first 20 steps and in all, relative; of weights, see `_difference`. Rounding
# grows from step to step. Where it decides a bit that is drawn, the nearer of two codes, or whether
# a code is dead, the trainings part from there on, as they would after any other change of a bit.
TOLERANCES = {"smooth": (1e-5, 1e-4, 5e-3), "discrete": (1e-5, 5e-2, np.inf)}
SMOOTH = (
    "vae",
    "averaged-weights",
    "iwae",
    "flow-posterior",
    "full-normal",
    "beta-tcvae",
    "info-vae",
    "transformer-prior",
    "pixelcnn-prior",
)


def vae(objective="elbo", num_samples=1, posterior="diagonal_normal", prior=None, **settings):
    """Return a VAE of 16 latents, and the options of its data."""
    import tfvae

    posterior = tfvae.posteriors.get(posterior)
    return tfvae.VAE(
        tfvae.networks.dense_encoder((8, 8, 1), posterior.params_size(16), hidden=(64,)),
        tfvae.networks.dense_decoder(16, (8, 8, 1), hidden=(64,)),
        posterior=posterior,
        prior=prior,
    ), {"objective": objective, "num_samples": num_samples, **settings}


def vqvae(kind, **options):
    """Return a VQ-VAE."""
    import tfvae

    quantizer = tfvae.quantizers.get(kind, **options)
    size = quantizer.embedding_dim
    return tfvae.VQVAE(
        tfvae.networks.residual_encoder((8, 8, 1), size, filters=16, num_downsamplings=1),
        quantizer,
        tfvae.networks.residual_decoder((4, 4, size), 1, filters=16, num_upsamplings=1),
        likelihood="bernoulli",
    ), {}


def code_prior(name, **options):
    """Return a prior over the pixels of digits as codes of 17 values."""
    import tfvae

    return tfvae.code_priors.get(name, codebook_size=17, **options), {}


EMA = {"num_embeddings": 32, "embedding_dim": 8}
FAMILIES = {
    "vae": lambda: vae(),
    "averaged-weights": lambda: vae(),
    "iwae": lambda: vae("iwae", 5, estimator="dreg"),
    "flow-posterior": lambda: vae(posterior="flow", prior="flow"),
    "full-normal": lambda: vae(posterior="full_normal", prior="mixture"),
    "beta-tcvae": lambda: vae("beta_tcvae"),
    "info-vae": lambda: vae("info_vae"),
    "score-function": lambda: vae(posterior="bernoulli", estimator="score_function"),
    "moving-average": lambda: vae(posterior="bernoulli", estimator="moving_average"),
    "nvil": lambda: vae(posterior="bernoulli", estimator="nvil"),
    "vimco": lambda: vae("iwae", 5, posterior="bernoulli", estimator="vimco"),
    "disarm": lambda: vae(posterior="bernoulli", estimator="disarm"),
    "rebar": lambda: vae(posterior="bernoulli", estimator="rebar"),
    "relax": lambda: vae(posterior="bernoulli", estimator="relax"),
    "gumbel-softmax": lambda: vae(posterior="bernoulli", estimator="gumbel_softmax"),
    "vqvae-ema": lambda: vqvae("ema", initializer="kmeans", threshold_ema_dead_code=2.0, **EMA),
    "vqvae-vq": lambda: vqvae("vq", threshold_ema_dead_code=2.0, **EMA),
    "vqvae-residual": lambda: vqvae("residual", quantizer="ema", num_quantizers=2, dropout=0.5),
    "vqvae-gumbel": lambda: vqvae("gumbel", **EMA),
    "vqvae-lfq": lambda: vqvae("lfq", embedding_dim=6),
    "vqvae-fsq": lambda: vqvae("fsq", levels=[5, 5, 5]),
    "transformer-prior": lambda: code_prior("transformer", num_layers=1, hidden_size=32),
    "pixelcnn-prior": lambda: code_prior("pixelcnn"),
}


def train(family, steps, strategy):
    """Return the loss after each step, and the weights in the end."""
    import keras

    import tfvae

    class Losses(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.values, self.clocks = [], []

        def on_train_batch_end(self, batch, logs=None):
            self.values.append(float(logs["loss"]))
            self.clocks.append((time.perf_counter(), time.process_time()))

    digits = tfvae.data.load("digits").train.numpy()
    if family.endswith("-prior"):
        digits = np.round(16 * digits[..., 0]).astype(np.int32)
    elif "vqvae" not in family:
        digits = (digits > 0.5).astype(np.float32)
    batches = tfvae.data.shuffled_batches(digits, BATCH_SIZE, SEED)
    keras.utils.set_random_seed(SEED)
    with strategy.scope():
        model, settings = FAMILIES[family]()
        average = {"use_ema": True, "ema_momentum": 0.9} if family == "averaged-weights" else {}
        model.compile(tfvae.optimizers.Adam(1e-3, **average), **settings)
    losses = Losses()
    epochs = -(-steps // batches.num_batches)
    model.fit(
        batches,
        epochs=epochs,
        steps_per_epoch=steps if epochs == 1 else None,
        callbacks=[losses],
        verbose=0,
    )
    # After the first step, which waits for the graph.
    per_step = np.subtract(losses.clocks[-1], losses.clocks[0]) / max(1, len(losses.clocks) - 1)
    kept = [*model.variables, *(model.optimizer._model_variables_moving_average if average else [])]
    weights = {f"{n} {w.path}": np.asarray(w) for n, w in enumerate(kept)}
    return {"losses": np.array(losses.values), "per_step": per_step, **weights}


def child(families, steps, out):
    """Train the families in this process, a worker if TF_CONFIG is set."""
    import tfvae

    strategy = tfvae.distribute.strategy("multiworker" if "TF_CONFIG" in os.environ else "")
    out.mkdir(exist_ok=True)
    for family in families:
        np.savez(out / f"{family}.npz", **train(family, steps, strategy))


def environments(count):
    """Return the environment of each of so many workers on this machine."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    workers = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    tasks = [{"type": "worker", "index": number} for number in range(count)]
    configs = [json.dumps({"cluster": {"worker": workers}, "task": task}) for task in tasks]
    return [{**os.environ, "TF_CONFIG": config} for config in configs]


def run_together(command, count, **options):
    """Start a command on so many workers, or alone for one; return the processes."""
    alone = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    each = environments(count) if count > 1 else [alone]
    return [
        subprocess.Popen([*map(str, command), str(number)], env=env, **options)
        for number, env in enumerate(each)
    ]


TRAIN = [
    "--distribute",
    "multiworker",
    "--epochs",
    "3",
    "--batch-size",
    "20",
    "--set",
    "training.checkpoint_minutes=0.001",
]
TOOL = (
    "import sys, tensorflow as tf; tf.config.threading.set_intra_op_parallelism_threads(1); "
    "from tfvae.tools.main import main; sys.argv = sys.argv[:-1]; main()"
)


def train_run(run, *options, recipe=None):
    """Start two workers on a run; return the processes."""
    source = ["--recipe", recipe] if recipe else ["--resume"]
    command = [sys.executable, "-c", TOOL, "train", *source, "--run-dir", run, *options]
    return run_together(command, 2, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for(started):
    """Return the exit statuses of processes, and what they said."""
    said = [process.communicate(timeout=600)[1] for process in started]
    return [process.returncode for process in started], said


def kill(recipe, victim, folder):
    """Return what became of a run that lost a worker, beside one that was left alone."""
    straight, killed = folder / f"{recipe}-straight", folder / f"{recipe}-killed"
    statuses, said = wait_for(train_run(straight, *TRAIN, recipe=recipe))
    if any(statuses):
        sys.exit("\n".join(said))
    workers = train_run(killed, *TRAIN, recipe=recipe)
    pattern = "epoch-0000[1-9]-batch-*[1-9]*.zip"  # in the middle of an epoch after the first
    while not any((killed / "checkpoints").glob(pattern)):
        if any(process.poll() is not None for process in workers):
            sys.exit("\n".join(wait_for(workers)[1]))
        time.sleep(0.01)
    workers[victim].kill()
    start = time.perf_counter()
    statuses, said = wait_for(workers)
    seconds = time.perf_counter() - start
    kept = sorted(path.stem for path in (killed / "checkpoints").glob("*.zip"))[-1]
    resumed, said_then = wait_for(train_run(killed))
    same = not any(resumed) and weights_of(straight) == weights_of(killed)
    ended = statuses[1 - victim] == 1 and "Another worker" in said[1 - victim]
    return {
        "recipe": recipe,
        "killed": victim,
        "the_other_ended_after": seconds if ended else None,
        "resumed_from": kept,
        "said": [] if same and ended else [*said, *said_then],
        "same": same and ended,
    }


def weights_of(run):
    """Return the bytes of all weights of a run's model, by name."""
    found = {}

    def take(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = item[()].tobytes()

    with zipfile.ZipFile(run / "model.keras") as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(content) as weights:
        weights.visititems(take)
    return found


def main():
    """Run, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--families", nargs="*", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--recipes", nargs="*", default=["vae-digits", "vqvae-digits"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("number", nargs="?", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.families, options.steps, Path(f"{options.child}-{options.number}"))
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--steps", options.steps, "--child"]
        for count in (1, 2) if options.families else ():
            started = run_together(
                [*command, f"{folder}/{count}", "--families", *options.families, "--"], count
            )
            for process in started:
                if process.wait():
                    sys.exit("A worker failed.")
        rows = [compare(family, Path(folder)) for family in options.families]
        print_table(rows)
        kills = [kill(r, 1 - n % 2, Path(folder)) for n, r in enumerate(options.recipes)]
    for row in kills:
        print(json.dumps(row))
    if options.json:
        options.json.write_text(json.dumps({"families": rows, "kills": kills}, indent=1))
    sys.exit(any(not row["same"] for row in [*rows, *kills]))


def compare(family, folder):
    """Return the largest differences between one process and each of two workers."""
    one, *workers = (
        dict(np.load(folder / name / f"{family}.npz")) for name in ("1-0", "2-0", "2-1")
    )
    names = [name for name in one if name not in ("losses", "per_step")]
    floats = [name for name in names if one[name].dtype.kind == "f"]
    agree = all(np.array_equal(workers[0][name], workers[1][name]) for name in names)
    counters = [name for name in names if name not in floats]
    apart = np.abs(workers[0]["losses"] / one["losses"] - 1)
    loss = np.max(apart)
    weights = max(_difference(workers[0][name], one[name]) for name in floats)
    of_start, of_loss, of_weights = TOLERANCES["smooth" if family in SMOOTH else "discrete"]
    same = agree and max(apart[:20]) < of_start and loss < of_loss and weights < of_weights
    same &= all(np.array_equal(workers[0][name], one[name]) for name in counters)
    return {
        "family": family,
        "steps": len(one["losses"]),
        "first_losses": float(max(apart[:20])),
        "loss": float(loss),
        "weights": float(weights),
        "workers_agree": bool(agree),
        "same": bool(same),
        "milliseconds": [1e3 * each["per_step"][0] for each in (one, workers[0])],
        "processor_milliseconds": [
            1e3 * sum(each["per_step"][1] for each in group) for group in ([one], workers)
        ],
    }


def _difference(values, expected):
    """Return the largest difference, in units of the largest value where that is above 1."""
    return np.max(np.abs(values - expected), initial=0) / max(1.0, np.max(np.abs(expected)))


def print_table(rows):
    """Print what was measured."""
    print(
        "| family | steps | loss, first 20 steps | loss | weights | both workers bit-equal "
        "| ms a step, one and two | processor ms, one and both |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        agree = "yes" if row["workers_agree"] else "NO"
        verdict = "" if row["same"] else " DIFFERS"
        print(
            f"| {row['family']} | {row['steps']} | {row['first_losses']:.1e} | {row['loss']:.1e} "
            f"| {row['weights']:.1e} "
            f"| {agree}{verdict} | {' and '.join(f'{t:.0f}' for t in row['milliseconds'])} "
            f"| {' and '.join(f'{t:.0f}' for t in row['processor_milliseconds'])} |"
        )


if __name__ == "__main__":
    main()
