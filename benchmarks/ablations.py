"""Variants of a training beside its recipe, for equal times: what each change costs or gains.

    python benchmarks/ablations.py run static-k1 --seconds 240 --data-dir PREPARED
    python benchmarks/ablations.py run static-bits-nonlinear --seeds 1 --data-dir PREPARED
    python benchmarks/ablations.py table

`run` trains each of the variants below of an entry of quality.toml: its recipe without an
ingredient, or with another estimator. Each training is a process of one thread on a core of its
own, `--jobs` at a time; each variant is trained with `--seeds` seeds. Every training has about the
same time: 150 steps of a model that is thrown away say how long a step takes, and the schedule then
has as many epochs as fit into `--seconds`. What else the machine does makes these times differ, and
the table has the time that each took. The figures are those of validation images; the test images
are not looked at. A run that was stopped goes on with the trainings that are missing. `table`
writes the results into docs/results.md, between two marks for each entry, which are put there by
hand before its first table; with `--check` it fails where the page holds anything else.
"""

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import quality
import timing

from tfvae._plain.files import write_json

NUM_EXAMPLES, NUM_SAMPLES = 5000, 500  # of the validation images, and for each of them
TRIAL_STEPS = 50  # of each of the three short epochs that say how long a step takes

# What every variant starts from, in place of the entry's own: what it gains by them is seen alone.
BASE = {"training.kl_warmup_steps": 0, "training.precision": "float32"}

# Of one sample, beside the recipe of a belief network.
ESTIMATORS = ("nvil", "rebar", "relax", "moving_average", "gumbel_softmax", "straight_through")

# In place of another optimizer.
ADAM = {"training.optimizer": "adam", "training.optimizer_options": {}}

# In place of a setting: the value that the output bias of the decoder starts at.
BIAS = "bias"
# Of each entry, the variants by name and the settings that they change; the first is the recipe.
VARIANTS = {
    "static-k1": {
        "the recipe": {},
        "without averaged weights": {"training.ema_momentum": 0.0},
        "a constant learning rate": {"training.schedule": "constant"},
        "a learning rate of 1e-3": {"training.learning_rate": 1e-3},
        "batches of 20, a learning rate of 1e-3": {
            "training.batch_size": 20,
            "training.learning_rate": 1e-3,
        },
        "batches of 500, a learning rate of 4e-3": {
            "training.batch_size": 500,
            "training.learning_rate": 4e-3,
        },
        "an output bias of zero": {BIAS: 0.0},
        "a warm-up of the KL divergence over 5,000 steps": {"training.kl_warmup_steps": 5000},
    },
    "static-k1-muon": {
        "Muon, batches of 500, a learning rate of 1e-2": {},
        "Muon, batches of 500, a learning rate of 5e-3": {"training.learning_rate": 5e-3},
        "Muon, batches of 200, a learning rate of 6e-3": {
            "training.batch_size": 200,
            "training.learning_rate": 6e-3,
        },
        "Muon for all matrices": {
            "training.optimizer_options": {"weight_decay": 0.0, "adam_weight_decay": 0.0}
        },
        "Adam, batches of 500, a learning rate of 4e-3": ADAM | {"training.learning_rate": 4e-3},
        "Adam, batches of 100, a learning rate of 2e-3": ADAM
        | {
            "training.batch_size": 100,
            "training.learning_rate": 2e-3,
            "training.learning_rate_warmup_steps": 500,
            "training.ema_momentum": 0.999,
        },
    },
    "static-k50": {
        "the recipe": {},
        "in bfloat16": {"training.precision": "mixed_bfloat16"},
        "`pathwise` in place of `dreg`": {"training.estimator": "pathwise"},
        "without averaged weights": {"training.ema_momentum": 0.0},
        "a constant learning rate": {"training.schedule": "constant"},
        "a learning rate of 2e-3": {"training.learning_rate": 2e-3},
        "batches of 20": {"training.batch_size": 20},
        "k = 5": {"training.num_samples": 5},
    },
    "static-bits-nonlinear": {
        "`disarm`, a pair of samples": {},
        "`rloo`, K = 2": {"training.estimator": "rloo", "training.num_samples": 2},
        **{f"`{name}`, K = 1": {"training.estimator": name} for name in ESTIMATORS},
    },
}


def one(entry, variant, seed, seconds, data_dir) -> dict:
    """Train a variant for `seconds`, and measure it on validation images."""
    from tfvae import runs
    from tfvae.evaluation import log_likelihood

    settings = BASE | VARIANTS[entry][variant]
    bias = settings.pop(BIAS, None)
    config = quality.config_of(quality.entries()[entry], data_dir, seed).override(settings)
    splits = runs.load_data(config)
    _, durations = trained(config.override({"training.epochs": 3}), splits, bias, TRIAL_STEPS)
    steps = len(splits.train) / config.training.batch_size
    epochs = max(2, int(seconds / (steps * min(durations[1:]) / TRIAL_STEPS)))
    model, durations = trained(config.override({"training.epochs": epochs}), splits, bias)
    result = log_likelihood(
        model, splits.validation.numpy(0, NUM_EXAMPLES), num_samples=NUM_SAMPLES
    )
    return {
        "variant": variant,
        "seed": seed,
        "epochs": epochs,
        "seconds": round(sum(durations), 1),
        "nll": -result.mean,
        "elbo": -float((result.reconstruction + result.kl).mean()),
    }


def trained(config, splits, bias, steps_per_epoch=None):
    """Return a trained model, and the seconds of each epoch."""
    import keras

    from tfvae.runs.build import build_model

    model = build_model(config, splits)
    if bias is not None:
        weights = model.decoder.get_layer("params").bias
        weights.assign(bias + 0 * weights)
    times = [time.perf_counter()]
    clock = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: times.append(time.perf_counter())
    )
    batches = splits.train.batches(config.training.batch_size, config.training.seed)
    fit = {"epochs": config.training.epochs, "steps_per_epoch": steps_per_epoch, "verbose": 0}
    model.fit(batches, callbacks=[clock], **fit)
    return model, [end - start for start, end in itertools.pairwise(times)]


def run(arguments):
    """Train all variants, and write the results of the entry."""
    parts = Path(arguments.parts_dir) / arguments.entry
    parts.mkdir(parents=True, exist_ok=True)
    cores = SimpleQueue()
    for core in sorted(os.sched_getaffinity(0))[: arguments.jobs]:
        cores.put(core)
    wanted = [
        (variant, seed, parts / f"{index:02}-{seed}.json")
        for seed in range(arguments.seeds)
        for index, variant in enumerate(VARIANTS[arguments.entry])
    ]

    def train(task):
        variant, seed, file = task
        if file.is_file():
            return
        core = cores.get()
        command = ["taskset", "-c", str(core), sys.executable, __file__, "one", arguments.entry]
        command += ["--variant", variant, "--seed", str(seed), "--file", str(file)]
        command += ["--seconds", str(arguments.seconds)]
        command += ["--data-dir", arguments.data_dir] if arguments.data_dir else []
        try:
            subprocess.run(command, check=True, env=os.environ | timing.ONE_THREAD)
        finally:
            cores.put(core)

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(train, wanted))
    rows = [json.loads(file.read_text()) for *_, file in wanted]
    values = {
        "entry": arguments.entry,
        "seconds": arguments.seconds,
        "machine": arguments.machine or quality.machine(),
        "num_examples": NUM_EXAMPLES,
        "num_samples": NUM_SAMPLES,
        "rows": rows,
    }
    write_json(quality.RESULTS / f"ablations-{arguments.entry}.json", values)


def measured() -> list[str]:
    """Return the entries that there are results of."""
    return [name for name in VARIANTS if (quality.RESULTS / f"ablations-{name}.json").is_file()]


def marks(entry) -> tuple[str, str]:
    """Return what stands before and after the table of an entry on the page."""
    return (
        f"<!-- Written by benchmarks/ablations.py table, {entry}: -->\n",
        "<!-- Up to here. -->\n",
    )


def table(entry) -> str:
    """Return the table of an entry, in Markdown."""
    values = json.loads((quality.RESULTS / f"ablations-{entry}.json").read_text())
    return "\n".join(lines_of(values))


def lines_of(values):
    """Return the lines of the table of one entry."""
    by_variant = {}
    for row in sorted(values["rows"], key=lambda row: row["seed"]):
        by_variant.setdefault(row["variant"], {})[row["seed"]] = row
    recipe = by_variant[next(iter(VARIANTS[values["entry"]]))]
    lines = [
        f"`{values['entry']}`, each training on one thread and {values['machine']}:",
        "",
        "| | seeds | epochs | seconds | NLL | ELBO | difference of NLL |",
        "|---|---|---|---|---|---|---|",
    ]
    for variant, rows in sorted(by_variant.items(), key=lambda item: _mean(item[1], "nll")):
        epochs, seconds, nll, elbo = (
            _mean(rows, key) for key in ("epochs", "seconds", "nll", "elbo")
        )
        changes = [row["nll"] - recipe[seed]["nll"] for seed, row in rows.items()]
        change = f"{statistics.mean(changes):+.2f}{_error(changes)}"
        lines.append(
            f"| {variant} | {len(rows)} | {epochs:.0f} | {seconds:.0f} | {nll:.2f} | {elbo:.2f} "
            f"| {change if rows is not recipe else ''} |"
        )
    return [*lines, ""]


def _mean(rows, key):
    """Return the mean over the seeds of a variant."""
    return statistics.mean(row[key] for row in rows.values())


def _error(values):
    """Return the standard error of the mean over seeds, as text, where there are several."""
    if len(values) == 1:
        return ""
    return f" ± {statistics.stdev(values) / len(values) ** 0.5:.2f}"


def main():
    parser, commands = quality.commands_of(__doc__)
    for command in ("run", "one"):
        sub = commands.add_parser(command)
        sub.add_argument("entry", choices=VARIANTS)
        sub.add_argument("--seconds", type=float, default=240)
        sub.add_argument("--data-dir", help="where TFDS finds prepared data")
    sub = commands.choices["one"]
    sub.add_argument("--variant", required=True)
    sub.add_argument("--seed", type=int, required=True)
    sub.add_argument("--file", type=Path, required=True)
    sub = commands.choices["run"]
    sub.add_argument("--seeds", type=int, default=3)
    sub.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    sub.add_argument("--parts-dir", default="runs/ablations", help="of the finished trainings")
    sub.add_argument("--machine", help="what the table calls it, where that is not its processor")
    arguments = parser.parse_args()
    if arguments.command == "one":
        if arguments.variant not in VARIANTS[arguments.entry]:
            parser.error(f"--variant: expected one of {', '.join(VARIANTS[arguments.entry])}")
        given = arguments.entry, arguments.variant, arguments.seed, arguments.seconds
        write_json(arguments.file, one(*given, arguments.data_dir))
    elif arguments.command == "run":
        run(arguments)
    else:
        for entry in measured():
            quality.write_page(marks(entry), table(entry), arguments.check)


if __name__ == "__main__":
    main()
