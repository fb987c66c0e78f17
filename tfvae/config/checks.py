"""The values that settings may have, and those that go together."""

import math

from tfvae._plain import float32
from tfvae._plain.cluster import STRATEGIES
from tfvae.config.readers import check_read
from tfvae.errors import InvalidArgument, unknown_name

# The networks of each family of models; "auto" is chosen by the shape of the images.
_NETWORKS = {
    "vae": ("dense", "conv", "transformer"),
    "ladder": ("dense", "residual"),
    "vqvae": ("residual",),
    "vqvae2": ("residual",),
}
_CHOICES = dict.fromkeys(name for names in _NETWORKS.values() for name in (*names, "auto"))

# Of a size or a count; what is multiplied of two of them is still a number of 64 bits.
_LARGEST = 10**9


def check(config) -> None:
    """Refuse values that no run can have.

    Args:
        config: a `Config`.

    Raises:
        InvalidArgument: with the name of the setting, and what was expected.
    """
    _check_data(config.data)
    _check_model(config.model)
    _check_training(config.training)
    _check_evaluation(config.evaluation)
    _check_code_prior(config.code_prior)
    check_read(config)
    _check_options("model.prior", config.model.prior_options, config.model.prior)
    _check_options(
        "training.estimator", config.training.estimator_options, config.training.estimator
    )


def _check_data(data):
    for name in ("resize", "crop"):
        size = getattr(data, name)
        if len(size) not in (0, 2):
            raise InvalidArgument(
                f"data.{name} is {list(size)}; expected a height and a width, like [64, 64]."
            )
        _check_sizes("data", name, size)
    if not data.memory_gb >= 0:
        raise InvalidArgument(
            f"data.memory_gb is {data.memory_gb!r}; expected a number of at least 0."
        )
    _check_choice("data.binarization", data.binarization, ("none", "static", "dynamic"))
    _check_choice("data.layout", data.layout, ("auto", "NHW", "NHWC", "NCHW"))
    _check_choice("data.kind", data.kind, ("auto", "image", "vector", "series", "tokens"))


def _check_model(model):
    _check_positive("model", model, ("latent_size", "units", "embedding_dim"))
    for name in ("hidden", "upper_latent_sizes", "upper_hidden"):
        _check_sizes("model", name, getattr(model, name))
    _check_choice("model.family", model.family, tuple(_NETWORKS))
    _check_choice("model.network", model.network, tuple(_CHOICES))
    _check_network(model)
    _check_categories(model)


def _check_training(training):
    _check_positive(
        "training",
        training,
        (
            "num_samples",
            "epochs",
            "batch_size",
            "learning_rate",
            "steps_per_execution",
            "checkpoint_minutes",
        ),
    )
    _check_seed("training", training.seed)
    for name in ("learning_rate_warmup_steps", "patience"):
        if getattr(training, name) < 0:
            raise InvalidArgument(
                f"training.{name} is {getattr(training, name)!r}; expected a number of at least 0."
            )
    if not 0 <= training.ema_momentum < 1:
        raise InvalidArgument(
            f"training.ema_momentum is {training.ema_momentum!r}; expected a number from 0 to "
            "below 1, such as 0.999, or 0 for no average."
        )
    if training.distribute and training.jit_compile:
        raise InvalidArgument(
            f"training.jit_compile is true with training.distribute = {training.distribute!r}; "
            "XLA compiles no step that sums over devices. Leave one of them out."
        )
    _check_choice("training.schedule", training.schedule, ("constant", "cosine", "iwae"))
    _check_choice("training.distribute", training.distribute, ("", *STRATEGIES))
    precisions = ("float32", "mixed_bfloat16", "mixed_float16")
    _check_choice("training.precision", training.precision, precisions)


def _check_evaluation(evaluation):
    _check_positive("evaluation", evaluation, ("num_samples",))
    if evaluation.num_examples < 0:
        raise InvalidArgument(
            f"evaluation.num_examples is {evaluation.num_examples!r}; expected a number "
            "of test images, or 0 for all."
        )


def _check_code_prior(code_prior):
    _check_positive("code_prior", code_prior, ("epochs", "batch_size", "learning_rate"))
    _check_seed("code_prior", code_prior.seed)
    _check_choice("code_prior.distribute", code_prior.distribute, ("", *STRATEGIES))


def _check_options(key, options, name):
    """Refuse options of a part that is not named; `key` is the setting of its name."""
    if options and not name:
        part = key.rpartition(".")[2]
        raise InvalidArgument(
            f"{key}_options is {options!r}, but no {part} is named that would take them; set {key}."
        )


def _check_positive(section, settings, names):
    for name in names:
        _check_size(f"{section}.{name}", getattr(settings, name))


def _check_sizes(section, name, sizes):
    for place, size in enumerate(sizes):
        _check_size(f"{section}.{name}[{place}]", size)


def _check_size(key, value):
    if not (value > 0 and math.isfinite(value)):
        raise InvalidArgument(f"{key} is {value!r}; expected a number above 0.")
    if isinstance(value, int) and value > _LARGEST:
        raise InvalidArgument(f"{key} is {value!r}; expected at most {_LARGEST:,}.")
    if value > float32.LARGEST:  # training computes in float32
        raise InvalidArgument(f"{key} is {value!r}; expected at most {float32.LARGEST:.2g}.")


def _check_seed(section, seed):
    if not 0 <= seed < 2**32:
        raise InvalidArgument(
            f"{section}.seed is {seed!r}; expected a whole number from 0 to 2^32 − 1."
        )


def _check_choice(key, value, valid):
    if value not in valid:
        raise unknown_name(key, value, valid)


def _check_network(model):
    if model.network == "auto":
        if model.family == "ladder":
            raise InvalidArgument(
                'model.network is "auto", which a "ladder" does not have; expected "dense" or '
                '"residual".'
            )
        if model.family == "vae" and model.hidden:
            raise InvalidArgument(
                f'model.hidden is {list(model.hidden)} with network = "auto", which chooses it '
                'by the shape of the images; expected [], or network = "dense" or "conv".'
            )
    elif model.network not in _NETWORKS[model.family]:
        expected = (f"{' or '.join(n)} with {family!r}" for family, n in _NETWORKS.items())
        raise InvalidArgument(
            f"model.network is {model.network!r} with family = {model.family!r}; expected "
            f"{', '.join(expected)}."
        )
    if model.network == "conv" and not model.hidden:
        raise InvalidArgument(
            'model.hidden is []; expected the filters of at least one layer with network = "conv".'
        )


def _check_categories(model):
    categorical = model.posterior == "categorical"
    if categorical and model.num_categories < 2:
        raise InvalidArgument(
            f"model.num_categories is {model.num_categories!r}; expected at least 2 with "
            'posterior = "categorical".'
        )
    if model.num_categories and not categorical:
        raise InvalidArgument(
            f"model.num_categories is {model.num_categories!r}, but latents of the posterior "
            f"{model.posterior!r} have no categories; expected 0."
        )
