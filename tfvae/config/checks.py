"""The values that settings may have, and those that go together."""

import math

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
    training = config.training
    positive = {
        "model.latent_size": config.model.latent_size,
        "model.units": config.model.units,
        "training.num_samples": training.num_samples,
        "training.epochs": training.epochs,
        "training.batch_size": training.batch_size,
        "training.learning_rate": training.learning_rate,
        "training.epsilon": training.epsilon,
        "training.steps_per_execution": training.steps_per_execution,
        "training.checkpoint_minutes": training.checkpoint_minutes,
        "evaluation.num_samples": config.evaluation.num_samples,
        "model.embedding_dim": config.model.embedding_dim,
        "code_prior.epochs": config.code_prior.epochs,
        "code_prior.batch_size": config.code_prior.batch_size,
        "code_prior.learning_rate": config.code_prior.learning_rate,
    }
    for name in ("hidden", "upper_latent_sizes", "upper_hidden"):
        sizes = getattr(config.model, name)
        positive |= {f"model.{name}[{i}]": size for i, size in enumerate(sizes)}
    for name in ("resize", "crop"):
        size = getattr(config.data, name)
        positive |= {f"data.{name}[{i}]": number for i, number in enumerate(size)}
        if len(size) not in (0, 2):
            raise InvalidArgument(
                f"data.{name} is {list(size)}; expected a height and a width, like [64, 64]."
            )
    for key, value in positive.items():
        if not (value > 0 and math.isfinite(value)):
            raise InvalidArgument(f"{key} is {value!r}; expected a number above 0.")
        if isinstance(value, int) and value > _LARGEST:
            raise InvalidArgument(f"{key} is {value!r}; expected at most {_LARGEST:,}.")
    for section in ("training", "code_prior"):
        seed = getattr(config, section).seed
        if not 0 <= seed < 2**32:
            raise InvalidArgument(
                f"{section}.seed is {seed!r}; expected a whole number from 0 to 2^32 − 1."
            )
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
    if not config.data.memory_gb >= 0:
        raise InvalidArgument(
            f"data.memory_gb is {config.data.memory_gb!r}; expected a number of at least 0."
        )
    if training.distribute and training.jit_compile:
        raise InvalidArgument(
            f"training.jit_compile is true with training.distribute = {training.distribute!r}; "
            "XLA compiles no step that sums over devices. Leave one of them out."
        )
    if config.evaluation.num_examples < 0:
        raise InvalidArgument(
            f"evaluation.num_examples is {config.evaluation.num_examples!r}; expected a number "
            "of test images, or 0 for all."
        )
    choices = {
        "data.binarization": (config.data.binarization, ("none", "static", "dynamic")),
        "data.layout": (config.data.layout, ("auto", "NHW", "NHWC", "NCHW")),
        "data.kind": (config.data.kind, ("auto", "image", "vector", "series", "tokens")),
        "model.family": (config.model.family, ("vae", "ladder", "vqvae", "vqvae2")),
        "model.network": (config.model.network, tuple(_CHOICES)),
        "training.schedule": (training.schedule, ("constant", "cosine", "iwae")),
        "training.distribute": (training.distribute, ("", *STRATEGIES)),
        "code_prior.distribute": (config.code_prior.distribute, ("", *STRATEGIES)),
        "training.precision": (
            training.precision,
            ("float32", "mixed_bfloat16", "mixed_float16"),
        ),
    }
    for key, (value, valid) in choices.items():
        if value not in valid:
            raise unknown_name(key, value, valid)
    _check_model(config.model)
    check_read(config)
    if config.model.prior_options and not config.model.prior:
        raise InvalidArgument(
            f"model.prior_options is {config.model.prior_options!r}, but no prior is named that "
            "would take them; set model.prior."
        )
    if training.estimator_options and not training.estimator:
        raise InvalidArgument(
            f"training.estimator_options is {training.estimator_options!r}, but no estimator "
            "is named that would take them; set training.estimator."
        )


def _check_model(model):
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
    if model.network == "conv" and not model.hidden:
        raise InvalidArgument(
            'model.hidden is []; expected the filters of at least one layer with network = "conv".'
        )
