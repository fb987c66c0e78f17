"""The optimizer of a configuration, its learning rate, and the bound that it trains on."""

import inspect

import keras

from tfvae import estimators, objectives
from tfvae.config import TrainingConfig
from tfvae.errors import InvalidArgument
from tfvae.optimizers import Adam, WarmUp

# Arguments of every optimizer that have settings of their own.
_SETTINGS = {
    "learning_rate": "training.learning_rate",
    "use_ema": "training.ema_momentum",
    "ema_momentum": "training.ema_momentum",
}


def bound_arguments(training: TrainingConfig) -> dict:
    """Return the arguments of `compile` that a latent-variable model takes."""
    estimator = None
    if training.estimator:
        estimator = _part(estimators.REGISTRY, training.estimator, training.estimator_options)
    names = ("num_samples", "beta", "kl_warmup_steps", "kl", "free_bits")
    return {
        "objective": _part(objectives.REGISTRY, training.objective, training.objective_options),
        "estimator": estimator,
        **{name: getattr(training, name) for name in names},
    }


def _part(registry, name, options):
    """Return a part by name; a part that is a plain function takes no options."""
    part = registry.get(name, **options)
    if options and inspect.isfunction(part):
        raise InvalidArgument(f"The {registry.kind} {name!r} takes no options, but got {options}.")
    return part


def optimizer(config: TrainingConfig, splits):
    """Return the optimizer of a configuration.

    Raises:
        InvalidArgument: no such optimizer, or a setting that it does not have.
    """
    options = {"learning_rate": _learning_rate(config, splits)}
    if config.ema_momentum:
        options |= {"use_ema": True, "ema_momentum": config.ema_momentum}
    for name in config.optimizer_options.keys() & _SETTINGS.keys():
        raise InvalidArgument(
            f"training.optimizer_options has {name!r}; set {_SETTINGS[name]} in place of it."
        )
    make = Adam if config.optimizer == "adam" else _of_keras(config.optimizer)
    try:
        return make(**options, **config.optimizer_options)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(
            f"training.optimizer_options is {config.optimizer_options}, which the optimizer "
            f"{config.optimizer!r} does not take: {error}"
        ) from None


def _of_keras(name):
    """Return the class of a Keras optimizer."""
    try:
        return type(keras.optimizers.get(name))
    except (ValueError, TypeError, KeyError):  # KeyError: one that needs another inside of it
        raise InvalidArgument(
            f"Unknown optimizer {name!r}; expected 'adam' or the name of a Keras "
            "optimizer, such as 'sgd', 'rmsprop', 'adamw' or 'muon'."
        ) from None


def _learning_rate(config: TrainingConfig, splits):
    """Return the learning rate of every step, a number or a Keras schedule."""
    rate = config.learning_rate
    steps = config.epochs * (len(splits.train) // config.batch_size)
    if config.schedule == "iwae":
        rate = _published_schedule(rate, steps)
    elif config.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, max(1, steps))
    warmup = config.learning_rate_warmup_steps
    return WarmUp(rate, warmup) if warmup else rate


def _published_schedule(learning_rate, steps):
    """Return the eight stages of Burda et al. 2016, sec. 5, over so many steps."""
    ends = [round(steps * (3 ** (i + 1) - 1) / (3**8 - 1)) for i in range(7)]
    rates = [learning_rate * 10 ** (-i / 7) for i in range(8)]
    # Keras counts steps from 0, and a boundary is the last step of its stage.
    return keras.optimizers.schedules.PiecewiseConstantDecay([end - 1 for end in ends], rates)
