"""Functions that the commands share: options, output, and the late import of TensorFlow."""

import json
from pathlib import Path

import click
from click.core import ParameterSource

from tfvae import paths
from tfvae._plain import checks, cluster, untrusted
from tfvae.config.configuration import parse_assignment
from tfvae.errors import InvalidArgument, InvalidData, MissingDependency

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on standard output."
)
run_argument = click.argument("run", type=click.Path(path_type=Path))
seed_option = click.option("--seed", type=int, default=0, show_default=True)
temperature_option = click.option(
    "--temperature",
    type=float,
    callback=lambda _, __, value: checks.temperature(value),
    default=1.0,
    show_default=True,
    help="Scales the spread of the prior: below 1 typical examples, above 1 unusual ones.",
)
num_option = click.option(
    "-n",
    "--num",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Number of examples.",
)
dataset_option = click.option(
    "--dataset", help="'digits', a TFDS name, or a path; default: the run's own data."
)
condition_option = click.option(
    "--condition",
    help="Label, or numbers such as 0.5,1, for all examples, or an .npy or .npz of one for each; "
    "for a model with a condition.",
)
data_dir_option = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Folder of prepared TFDS data."
)


def setting_options(flags: dict, metavar: str, what: str):
    """Return what gives a command plain flags for settings, and --set for all others.

    Args:
        flags: of each flag, by its name, the setting, the type and the help.
        metavar: of --set.
        what: what --set takes, for the help.
    """

    def give(command):
        text = f"{what}; may be repeated, and the last one of a setting counts."
        of_set = {"multiple": True, "metavar": metavar, "help": text}
        command = click.option("--set", "settings", **of_set)(command)
        for name, (_, kind, text) in reversed(flags.items()):
            option = click.option(f"--{name.replace('_', '-')}", name, type=kind, help=text)
            command = option(command)
        return command

    return give


def assignments_of(flags: dict, given: dict, settings: tuple[str, ...]) -> dict:
    """Return the settings that flags and --set replace, those that were given.

    Args:
        flags: as in `setting_options`.
        given: the values of the flags, None for those that were not given.
        settings: the texts of --set, of which the last one of a setting counts.

    Raises:
        InvalidArgument: a text of --set that is no assignment, or that contradicts a flag.
    """
    named = {name: value for name, value in given.items() if value is not None}
    others = dict(parse_assignment(text) for text in settings)
    for name, value in named.items():
        key = flags[name][0]
        if key in others and others[key] != value:
            flag = f"--{name.replace('_', '-')}" + (f" {value}" if value is not True else "")
            raise InvalidArgument(f"Got {flag} and --set {key}={others[key]}. Give one.")
    return {flags[name][0]: value for name, value in named.items()} | others


def output_option(default: str):
    """Return the option --output with a default that the help names."""
    return click.option(
        "-o", "--output", type=click.Path(path_type=Path), help=f"Default: {default}."
    )


def condition_of(text: str | None):
    """Return what --condition says: a label, a vector, or an array of one for each image; or None.

    Raises:
        InvalidArgument: it is none of these.
        InvalidData: a file that cannot be read.
    """
    if text is None:
        return None
    if text.endswith((".npy", ".npz")):
        return read_array(text)
    try:
        whole = text.strip().lstrip("-").isdigit()
        return int(text) if whole else [float(number) for number in text.split(",")]
    except ValueError:
        raise InvalidArgument(
            f"--condition is {text!r}; expected a label, such as 3, numbers, such as 0.5,1, or an "
            ".npy or .npz file of one array."
        ) from None


def read_array(path):
    """Return the array in an .npy file, or in an .npz file of one.

    Raises:
        InvalidData: it cannot be read.
    """
    import numpy as np

    try:
        untrusted.check_arrays(path, str(path))
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            if len(loaded.files) == 1:
                return loaded[loaded.files[0]]
        found = ", ".join(loaded.files) or "nothing"
        raise InvalidData(f"{path} holds {found}; expected an .npy or .npz file of one array.")
    except InvalidData:
        raise
    except Exception as error:  # NumPy and zipfile raise many kinds on a damaged file
        raise InvalidData(f"{path} cannot be read as an array: {error}") from None


def load_training_part() -> None:
    """Import TensorFlow, quietly, inside the verb that needs it.

    Raises:
        MissingDependency: tfvae is installed without its training part.
    """
    from tfvae._plain.quiet import import_tensorflow

    try:
        import_tensorflow()
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"This command needs the package {error.name!r}, which is not installed. Install tfvae "
            "with its training part: pip install 'tfvae[train]'."
        ) from error


def begin_together(name: str, run_dir) -> bool:
    """Make the strategy of a training, before anything else; return whether this process writes.

    Raises:
        InvalidArgument: a single device, TF_CONFIG is missing or malformed, or no folder is named
            that all workers write to.
    """
    if name == "multiworker":
        cluster.this_worker()
        if run_dir is None:
            raise InvalidArgument(
                "Several workers need --run-dir, the same folder for all, on a file system that "
                "all of them see."
            )
    load_training_part()
    from tfvae import distribute

    return distribute.is_chief(distribute.strategy(name))


def say(message: str) -> None:
    """Print for people, on standard error."""
    click.echo(message, err=True)


def finish(values: dict, as_json: bool, lines: list[str]) -> None:
    """Print the result: JSON on standard output, or lines for people."""
    click.echo(json.dumps(values) if as_json else "\n".join(lines))


def written(path, count: int, schema, shape) -> tuple[dict, list[str]]:
    """Return what to print of a file of examples: as JSON, and as lines for people."""
    from tfvae import outputs

    noun = outputs.noun(schema, shape)
    values = {"path": str(path), f"num_{noun}": count}
    return values, [f"{count} {noun} in {path}"]


def check_no_use(names: tuple[str, ...], reason: str) -> None:
    """Refuse options of the command line that would do nothing.

    Args:
        names: of parameters of the command.
        reason: what they are for, which completes a sentence after the name of the option.

    Raises:
        InvalidArgument: one was given.
    """
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = next(p.opts[0] for p in context.command.params if p.name == name)
            raise InvalidArgument(f"{option} {reason}. Leave it out.")


def beside(run: Path, name: str) -> Path:
    """Return the path of a file in a run directory, or beside a `.keras` file."""
    return (run if run.is_dir() else run.parent) / name


def check_there(examples: Path | None) -> None:
    """Refuse a file or folder of examples that is not there, before TensorFlow is imported.

    Raises:
        InvalidData: with its path.
    """
    if examples is not None and not examples.exists():
        raise InvalidData(f"There is no file or folder {examples}.")


def kind_of_run(run: Path) -> str:
    """Return what the examples of a run are; "image" of a file alone, which does not say so."""
    kind = paths.read_run_config(run).data.kind if run.is_dir() else "auto"
    return "image" if kind == "auto" else kind


def data_assignments(dataset, data_dir) -> dict:
    """Return the settings that --dataset and --data-dir replace, those that were given."""
    given = {"data.name": dataset, "data.data_dir": data_dir and str(data_dir)}
    return {key: value for key, value in given.items() if value is not None}


def table(values: dict, noun: str = "images") -> list[str]:
    """Return the measures of a model as lines of a short table.

    Args:
        values: what `tfvae.runs.evaluate` returned.
        noun: what the examples are called; bits per dimension are shown of images alone.
    """
    rows = [*_bound_rows(values, noun)]
    rows += _code_rows(values, noun) if "code_usage" in values else []
    return [f"{name:<16}{value}" for name, value in rows]


def _bound_rows(values, noun):
    if "log_likelihood" not in values:
        why = "none: p(x|codes) is a density, and codes of real values have no log p(x)"
        return [("test log p(x)", why)]
    error = values["standard_error"]
    spread = "unknown" if error is None else f"{error:.3f}"
    bits = f"   {values['bits_per_dim']:.4f} bits/dim" if noun == "images" else ""
    rows = [("test log p(x)", f"{values['log_likelihood']:.3f} ± {spread} nats{bits}")]
    if "uniform_log_likelihood" in values:
        uniform = f"{values['uniform_log_likelihood']:.3f} nats"
        bits = f"{values['uniform_bits_per_dim']:.4f} bits/dim"
        rows.append(("uniform prior", f"{uniform}   {bits}"))
    names = {"elbo": "ELBO", "reconstruction": "reconstruction", "kl": "KL", "rate": "codes"}
    rows += [(name, f"{values[key]:.3f} nats") for key, name in names.items() if key in values]
    if "num_samples" in values:
        effective = f"effective {values['effective_sample_size']:.0f}"
        measured = f"{values['num_samples']} samples ({effective})"
        if "active_units" in values:
            rows.append(("active units", f"{values['active_units']}"))
        rows += [
            ("measured with", f"{measured} for each of {values['num_examples']} {noun}"),
        ]
    return rows


def _code_rows(values, noun):
    relative, psnr = values["mse_over_variance"], values["psnr"]
    error = f"{values['mse']:.5f}"
    error += "" if relative is None else f" ({relative:.4f} of the variance)"
    error += "" if psnr is None else f", PSNR {psnr:.2f} dB"
    return [
        ("squared error", error),
        ("perplexity", f"{values['perplexity']:.1f}, {values['code_usage']:.1%} of codes used"),
        ("measured with", f"{values['num_examples']} {noun}"),
    ]
