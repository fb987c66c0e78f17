"""Published figures beside ours: trainings by name, and the table of docs/results.md.

    python benchmarks/quality.py list
    python benchmarks/quality.py run static-k1 --data-dir PREPARED --runs-dir runs/quality
    python benchmarks/quality.py check static-k1 --data-dir PREPARED --runs-dir runs/quality
    python benchmarks/quality.py table

`run` trains an entry of quality.toml, or goes on with it where it was stopped, measures all test
images by importance sampling in float32, a thousand at a time, and writes
benchmarks/results/NAME.json. With `--seed N` it does so for another seed, as NAME-seed-N. An entry
that starts from the weights of another one comes after it. `check` measures 100 test images a
second time, by annealed importance sampling. `table` writes what the files hold into
docs/results.md, between two marks; with `--check` it fails where the page holds anything else.

Models are trained on the training data alone, and settings are chosen by the validation data;
nothing looks at the test data before a training is over.
"""

import argparse
import json
import os
import platform
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results", HERE.parent / "docs" / "results.md"
MARKS = "<!-- Written by benchmarks/quality.py table: -->\n", "<!-- Up to here. -->\n"
# Of an entry, in its results.
KEPT = ("what", "recipe", "data", "model", "initial", "settings", "published", "source")
BLOCK = 1000  # test images that are measured before the figures are kept


def entries() -> dict[str, dict]:
    """Return what quality.toml holds, with the defaults filled in."""
    with (HERE / "quality.toml").open("rb") as file:
        found = tomllib.load(file)
    defaults = {"samples": 5000, "settings": {}, "model": {}, "data": {}, "initial": ""}
    defaults |= {"published": None, "source": None}
    return {name: defaults | entry for name, entry in found.items()}


def config_of(entry, data_dir, seed, jit_compile=False, initial_weights=""):
    """Return the complete configuration of an entry."""
    from tfvae import recipes

    sections = {"training": entry["settings"], "model": entry["model"], "data": entry["data"]}
    settings = {
        f"{section}.{key}": value for section, own in sections.items() for key, value in own.items()
    }
    if data_dir:
        settings["data.data_dir"] = str(Path(data_dir).resolve())
    settings |= {
        "training.seed": seed,
        "training.jit_compile": jit_compile,
        "training.initial_weights": initial_weights,
    }
    return recipes.load(entry["recipe"]).override(settings)


def label(name, seed) -> str:
    """Return what the run and the results of an entry are called."""
    return name if seed == 0 else f"{name}-seed-{seed}"


def run_of(name, arguments):
    """Return the run directory of an entry."""
    from tfvae import runs

    return runs.RunDirectory(Path(arguments.runs_dir) / label(name, arguments.seed))


def machine() -> str:
    """Return the graphics card, or the processor and how many of its cores this process may use."""
    import tensorflow as tf

    for device in tf.config.list_physical_devices("GPU")[:1]:
        return tf.config.experimental.get_device_details(device)["device_name"]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    models = (
        [
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ]
        if Path("/proc/cpuinfo").exists()
        else []
    )
    return f"{cores} core{'s' * (cores > 1)} of {(models or [platform.machine()])[0]}"


def run(name, arguments):
    """Train and measure an entry, or go on where that was stopped."""
    from tfvae import runs

    entry, directory = entries()[name], run_of(name, arguments)
    initial = run_of(entry["initial"], arguments).path.resolve() if entry["initial"] else ""
    config = config_of(
        entry, arguments.data_dir, arguments.seed, arguments.jit_compile, str(initial)
    )
    splits = runs.load_data(config)
    if not directory.model_file.is_file():
        resume = directory.config_file.is_file()
        runs.train(config, directory.path, resume=resume, splits=splits)
    model, _ = runs.open_model(directory.path)
    values = {
        "name": label(name, arguments.seed),
        **{key: entry[key] for key in KEPT},
        "seed": arguments.seed,
        "test": measure(model, splits.test.numpy(), entry["samples"], directory.path),
        "training": training(directory, model),
        "initial_trainings": initial_trainings(name, arguments),
        "machine": machine(),
        "note": arguments.note,
    }
    write(values)
    print(json.dumps(values["test"], indent=2))


def measure(model, x, samples, path) -> dict:
    """Return the figures of all test images; every block that is done is kept in the run."""
    import numpy as np

    from tfvae.evaluation import log_likelihood

    kept = path / f"measured-{samples}.json"
    blocks = json.loads(kept.read_text()) if kept.is_file() else []
    for start in range(len(blocks) * BLOCK, len(x), BLOCK):
        result = log_likelihood(model, x[start : start + BLOCK], num_samples=samples, seed=start)
        columns = result.per_example, result.reconstruction, result.kl
        sizes = result.effective_sample_size
        blocks.append([column.tolist() for column in (*columns, sizes)])
        temporary = kept.with_suffix(".part")
        temporary.write_text(json.dumps(blocks))
        temporary.replace(kept)
    log_p, reconstruction, kl, sizes = (
        np.concatenate(parts) for parts in zip(*blocks, strict=True)
    )
    return {
        "nll": -float(log_p.mean()),
        "standard_error": float(log_p.std(ddof=1) / np.sqrt(len(log_p))),
        "num_samples": samples,
        "num_examples": len(log_p),
        "elbo": -float((reconstruction + kl).mean()),
        "kl": float(kl.mean()),
        "effective_sample_size": float(sizes.mean()),
    }


def training(directory, model) -> dict:
    """Return how long the training took, and the validation bound against the seconds."""
    from tfvae.runs import callbacks

    rows = callbacks.read_history(directory)
    seconds, curve = 0.0, []
    for row in rows:
        seconds += row["seconds"]
        curve.append([round(seconds, 1), round(row["val_elbo"], 3)])
    thinned = curve[:: max(1, len(curve) // 40)]
    return {
        "seconds": round(seconds, 1),
        "epochs": len(rows),
        "steps": model.steps_made,
        "parameters": model.count_params(),
        "seconds_and_validation_elbo": [*thinned, curve[-1]],
    }


def initial_trainings(name, arguments) -> list[dict]:
    """Return how long the trainings took that an entry goes on from, the first one first."""
    from tfvae.runs import callbacks

    initial = entries()[name]["initial"]
    if not initial:
        return []
    rows = callbacks.read_history(run_of(initial, arguments))
    own = {"seconds": round(sum(row["seconds"] for row in rows), 1), "epochs": len(rows)}
    return [*initial_trainings(initial, arguments), own]


def check(name, arguments):
    """Measure 100 test images by annealed importance sampling, beside importance sampling."""
    from tfvae import runs
    from tfvae.evaluation import annealed_importance_sampling, log_likelihood

    entry, written = entries()[name], label(name, arguments.seed)
    config = config_of(entry, arguments.data_dir, arguments.seed)
    x = runs.load_data(config).test.numpy(0, 100)
    model, _ = runs.open_model(run_of(name, arguments).path)
    annealed = annealed_importance_sampling(model, x)
    sampled = log_likelihood(model, x, num_samples=entry["samples"])
    values = json.loads((RESULTS / f"{written}.json").read_text())
    values["check"] = {
        "num_examples": len(x),
        "nll": -sampled.mean,
        "annealed_nll": -annealed.mean,
    }
    write(values)
    print(json.dumps(values["check"], indent=2))


def write(values):
    """Write the results of an entry."""
    from tfvae._plain.files import write_json

    write_json(RESULTS / f"{values['name']}.json", values)


def measured() -> dict[str, dict]:
    """Return the results there are, by the name of their file."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}


def table() -> str:
    """Return the table, in Markdown: every entry in the order of quality.toml, with its seeds."""
    results = measured()
    lines = [
        "| entry | model | published | source | ours | ELBO | samples | epochs | training "
        "| machine |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in entries().items():
        found = [r for key, r in results.items() if key == name or key.startswith(f"{name}-seed-")]
        for values in sorted(found, key=lambda values: values["seed"]) or [None]:
            lines.append(row(name, entry, values))
    return "\n".join([*lines, ""])


def row(name, entry, values) -> str:
    """Return a line of the table; of an entry that was not run, what was published alone."""
    published = f"{entry['published']:.2f}" if entry["published"] else ""
    source = entry["source"] or ""
    if values is None:
        return f"| `{name}` | {entry['what']} | {published} | {source} | not run | | | | | |"
    test = values["test"]
    figure = f"{test['nll']:.2f} ± {test['standard_error']:.2f}"
    if published and test["nll"] <= entry["published"]:
        figure = f"**{figure}**"
    seconds = sum(part["seconds"] for part in parts(values))
    hours, minutes = divmod(round(seconds / 60), 60)
    cells = [
        f"`{values['name']}`",
        values["what"],
        published,
        source,
        figure,
        f"{test['elbo']:.2f}",
        f"{test['num_samples']:,}",
        epochs_of(values),
        f"{hours} h {minutes:02d} min" if hours else f"{minutes} min",
        values["machine"] + (f", {values['note']}" if values["note"] else ""),
    ]
    return f"| {' | '.join(cells)} |"


def parts(values) -> list[dict]:
    """Return the trainings that an entry has behind it, in their order, its own the last."""
    return [*values["initial_trainings"], values["training"]]


def epochs_of(values) -> str:
    """Return how many epochs an entry was trained for, as 400 + 40 after one with 400."""
    return " + ".join(str(part["epochs"]) for part in parts(values))


def page_with(marks, text) -> str:
    """Return docs/results.md with a text between two marks."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(marks[0])
    _, mark, after = rest.partition(marks[1])
    if not mark:
        sys.exit(f"{PAGE} does not hold the two marks {marks} that the table stands between.")
    return before + marks[0] + text + marks[1] + after


def commands_of(doc):
    """Return a parser for a script with a table on the page, and its commands; `table` is one."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("table").add_argument("--check", action="store_true")
    return parser, commands


def write_page(marks, text, check):
    """Write a text between two marks of docs/results.md, or fail where it is not there already."""
    page = page_with(marks, text)
    if not check:
        PAGE.write_text(page, encoding="utf-8")
    elif page != PAGE.read_text(encoding="utf-8"):
        sys.exit(f"{PAGE} does not hold what {RESULTS} say: run this without --check.")


def main():
    parser, commands = commands_of(__doc__)
    commands.add_parser("list")
    for command in ("run", "check"):
        sub = commands.add_parser(command)
        sub.add_argument("names", nargs="+", choices=entries())
        sub.add_argument("--data-dir", help="where TFDS finds prepared data")
        sub.add_argument("--runs-dir", default="runs/quality")
        sub.add_argument("--seed", type=int, default=0)
        sub.add_argument("--note", default="", help="of the machine, for the table")
    commands.choices["run"].add_argument(
        "--jit-compile", action="store_true", help="compile the steps by XLA"
    )
    arguments = parser.parse_args()
    if arguments.command == "list":
        results = measured()
        for name, entry in entries().items():
            ours = f"{results[name]['test']['nll']:.2f}" if name in results else "not run"
            print(f"{name:24}{entry['published'] or '':>8}  {ours:>8}  {entry['what']}")
    elif arguments.command == "table":
        write_page(MARKS, table(), arguments.check)
    else:
        for name in arguments.names:
            {"run": run, "check": check}[arguments.command](name, arguments)


if __name__ == "__main__":
    main()
