"""The model card: what a model is, what it was trained on, and what was measured, as Markdown."""

from pathlib import Path

import tfvae
from tfvae.config import Config

# Measures of a run in the order of the table, and what they are called there.
_MEASURES = {
    "log_likelihood": "test log p(x), nats",
    "bits_per_dim": "bits/dim",
    "elbo": "ELBO, nats",
    "reconstruction": "reconstruction, nats",
    "kl": "KL, nats",
    "rate": "codes, nats",
    "mse": "squared error",
    "psnr": "PSNR, dB",
    "perplexity": "perplexity of the codes",
    "active_units": "active units",
}
_PICTURES = {
    "samples.png": "Drawn from the prior",
    "reconstructions.png": "Test examples, and under each its reconstruction",
    "latent.png": "What the latents change",
    "curves.png": "The bound over the epochs",
}


def model_card(name: str, config: Config, report: dict, folder: Path, license_id: str) -> str:
    """Return the text of README.md.

    Args:
        name: of the repository, "user/name".
        config: of the run.
        report: of the run.
        folder: what is beside the card.
        license_id: an identifier that the Hub knows, such as "apache-2.0".
    """
    there = {path.name for path in folder.iterdir()}
    parts = [
        _front_matter(config, there, license_id),
        f"# {name.split('/')[1]}\n\n{config.description}\n",
        _training(config, report),
        _measured(report.get("evaluation", {})),
        _use(name, config.data.condition, there, report.get("exports", {})),
        _exports(report.get("exports", {}), there),
        *(f"![{text}]({file})\n\n{text}.\n" for file, text in _PICTURES.items() if file in there),
        f"Written by tfvae {tfvae.__version__}.\n",
    ]
    return "\n".join(part for part in parts if part)


def _front_matter(config, there, license_id):
    tags = ["tfvae", "generative-model", config.model.family]
    tags += ["tflite"] if any(name.endswith(".tflite") for name in there) else []
    lines = "".join(f"- {tag}\n" for tag in tags)
    return f"---\nlibrary_name: keras\nlicense: {license_id}\ntags:\n{lines}---\n"


def _training(config, report):
    done = report.get("training", {})
    rows = {
        "data": config.data.name,
        "binarization": config.data.binarization,
        "condition": config.data.condition,
        "likelihood": config.model.likelihood,
        "objective": config.training.objective if config.model.family != "vqvae" else "",
        "epochs": done.get("epochs", config.training.epochs),
        "steps": done.get("steps", ""),
        "batch size": config.training.batch_size,
        "parameters": f"{done['parameters']:,}" if "parameters" in done else "",
        "seed": config.training.seed,
        "initial weights": config.training.initial_weights,
    }
    shown = {key: value for key, value in rows.items() if value not in ("", "none", None)}
    return "## Training\n\n" + _table(("", ""), shown.items())


def _measured(values):
    rows = [
        (text, _number(values[key], values.get("standard_error") if position == 0 else None))
        for position, (key, text) in enumerate(_MEASURES.items())
        if isinstance(values.get(key), int | float)
    ]
    if not rows:
        return ""
    of = (
        f"of {values['num_examples']:,} test examples"
        if "num_examples" in values
        else "of test data"
    )
    with_samples = (
        f", {values['num_samples']:,} samples for each" if "num_samples" in values else ""
    )
    note = f"Means {of}{with_samples}; ± is the standard error.\n"
    return "## Measured\n\n" + _table(("", ""), rows) + "\n" + note


def _use(name, condition, there, exports):
    """Return the commands that draw; those of a model with a condition are given one, Y."""
    keyword, flag = (", condition=Y", " --condition Y") if condition else ("", "")
    python = (
        "```python\nimport keras\nimport tfvae\n\n"
        f'model = keras.saving.load_model("hf://{name}")\nx = model.sample(16{keyword})\n```\n'
    )
    folder = name.split("/")[1]
    shell = f"```\ntfvae pull hf://{name} {folder}\ntfvae sample {folder}{flag}\n"
    decoder = exports.get("decoder.tflite", {})
    draws = "decoder.tflite" in there and "sample" not in decoder.get("left_out", {})
    if draws:
        shell += f"tfvae decode {folder}/decoder.tflite --sample 64{flag}\n"
    last = "; the last command needs no TensorFlow" if draws else ""
    given = f" Y is the `{condition}` of what is drawn." if condition else ""
    return f"## Use\n\n{python}\n{shell}```\n\nThis needs `tfvae[hub]`{last}.{given}\n"


def _exports(exports, there):
    rows = []
    for file, values in exports.items():
        if file in there:
            loss = values.get("quality", {})
            change = loss.get("log_likelihood_change")
            lost = "" if change is None else _number(change, loss.get("standard_error"))
            rows.append((f"[`{file}`]({file})", f"{values['bytes']:,}", values["quantize"], lost))
    head = ("file", "bytes", "quantized", "change of log p(x), nats")
    return "## For devices\n\n" + _table(head, rows) if rows else ""


def _number(value, error=None):
    text = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    return text if error is None else f"{value:.3f} ± {error:.3f}"


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def _cell(value):
    return str(value).replace("|", "\\|").replace("\n", " ")
