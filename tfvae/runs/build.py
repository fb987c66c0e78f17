"""The compiled model of a configuration."""

import inspect
import itertools
import math
from functools import partial

import keras
import numpy as np

from tfvae import (
    conditions,
    data,
    estimators,
    likelihoods,
    networks,
    objectives,
    posteriors,
    priors,
    quantizers,
)
from tfvae._plain import memory
from tfvae.config import Config, ModelConfig, TrainingConfig
from tfvae.errors import InvalidArgument
from tfvae.likelihoods.counts import Counts
from tfvae.likelihoods.support import REALS
from tfvae.models import VAE, VQVAE, GenerativeModel, HierarchicalVAE, HierarchicalVQVAE, LadderVAE
from tfvae.optimizers import Adam, WarmUp
from tfvae.runs.weights import bounded_weights

_SAMPLE_FOR_BIAS = 10_000


def build_model(config: Config, splits: data.Splits) -> GenerativeModel:
    """Return the compiled model of a configuration, for images of the shape of `splits`.

    Raises:
        InvalidArgument: names, options or sizes that do not exist or do not go together.
    """
    config = with_networks(config, splits.shape)
    training = config.training
    keras.utils.set_random_seed(training.seed)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(training.precision)
    too_large = (
        "The weights of the model would take {size} of memory or more, and {most} can be had. "
        "Make its layers smaller (--set model.hidden=[200,200] and the like)."
    )
    try:
        with bounded_weights(memory.limit(), InvalidArgument, too_large):
            model = _MODELS[config.model.family](config, splits)
    finally:
        keras.config.set_dtype_policy(policy)
    model.compile(
        _optimizer(training, splits),
        steps_per_execution=training.steps_per_execution,
        jit_compile=training.jit_compile,
        **(_bound(training) if config.model.family in ("vae", "ladder") else {}),
    )
    return model


def with_networks(config: Config, shape: tuple[int, ...]) -> Config:
    """Return the configuration with the networks chosen that are "auto", for examples of a shape.

    In a VAE, images of up to 16×16 pixels get dense networks; larger ones are halved by
    convolutions until they are at most 8×8, with 32 filters, then 64, 128, 256; other data gets
    dense networks. A VQ-VAE halves images to a grid of at most 16×16 codes, at least once, and
    series to at most 32 codes, at least twice.

    Raises:
        InvalidArgument: a VQ-VAE of data other than images and series, or a ladder or a VQ-VAE-2
            with convolutions of data other than images.
    """
    model = config.model
    of_vae = {1: ("transformer",), 2: ("conv", "transformer"), 3: ("conv", "auto")}
    fitting = of_vae[len(shape)] if model.family == "vae" else ("residual", "auto")
    if model.network == "auto" and model.family == "vae" and len(shape) != 3:
        return config.override({"model.network": "dense", "model.hidden": [256, 256]})
    series = model.family == "vqvae" and len(shape) == 2
    if model.network != "dense" and (
        model.network not in fitting or (model.family != "vae" and len(shape) != 3 and not series)
    ):
        others = [name for name in of_vae[len(shape)] if name != "auto"]
        raise InvalidArgument(
            f"The examples have the shape {shape}, and model.network = {model.network!r} of "
            f"family = {model.family!r} is for others. Use --set model.network=dense with the "
            f'family "vae" or "ladder", or, with "vae", {" or ".join(others)}.'
        )
    if model.network != "auto":
        return config
    if series:
        return _with_halvings(config, max(2, math.ceil(math.log2(shape[0] / 32))))
    side = max(shape[:2])
    if model.family == "vae":
        halvings = math.ceil(math.log2(side / 8))
        filters = [min(32 * 2**level, 256) for level in range(halvings)]
        kind, hidden = ("conv", filters) if side > 16 else ("dense", [256, 256])
        return config.override({"model.network": kind, "model.hidden": hidden})
    return _with_halvings(config, max(1, math.ceil(math.log2(side / 16))))


def _with_halvings(config, halvings):
    options = {"num_downsamplings": halvings} | config.model.network_options
    return config.override({"model.network": "residual", "model.network_options": options})


def _bound(training: TrainingConfig) -> dict:
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


def _likelihood(config: Config, splits):
    """Return the likelihood of a configuration, for the columns of a table or for tokens."""
    options = config.model
    given = dict(options.likelihood_options)
    if options.likelihood == "columns" and "blocks" not in given:
        if splits.schema is None:
            raise InvalidArgument(
                f'model.likelihood is "columns", but {splits.name!r} is no table. Name another one '
                "with --set model.likelihood, or give `blocks` in model.likelihood_options."
            )
        given["blocks"] = splits.schema.blocks()
    if splits.kind == "tokens" and options.likelihood == "categorical":
        given = {"num_levels": _num_tokens(splits), **given}
    if given.get("size_factor") is not None:
        given.setdefault("target_sum", _usual_total(splits))
    likelihood = likelihoods.get(options.likelihood, **given)
    _check_units(likelihood, splits)
    if splits.kind != "image" and options.likelihood not in ("columns", "observed"):
        # In a product, of whose values samples are draws, and not means.
        likelihood = likelihoods.Columns([(likelihood, splits.shape[-1])])
    if (splits.has_missing or config.data.missing) and not _is_incomplete(likelihood):
        return likelihoods.Observed(likelihood)
    return likelihood


def _vae(config, splits):
    options = config.model
    likelihood = _likelihood(config, splits)
    posterior = posteriors.get(options.posterior, **options.posterior_options)
    encoders, decoders = _networks(options, posterior, likelihood, splits)
    common = {"likelihood": likelihood, "seed": config.training.seed}
    common["prior"] = None
    if options.prior:
        common["prior"] = priors.get(options.prior, **options.prior_options)
    common["condition"] = splits.condition
    common |= {"schema": splits.schema, "standardization": splits.standardization}
    if options.upper_latent_sizes:
        return HierarchicalVAE(encoders, decoders, posteriors=posterior, **common)
    return VAE(*encoders, *decoders, posterior=posterior, **common)


def _ladder(config, splits):
    options = config.model
    likelihood = _likelihood(config, splits)
    network = {"form": "residual", **options.network_options}
    common = {"condition_size": _condition_size(splits), "options": network}
    common["missing"] = _is_incomplete(likelihood)
    if options.network == "residual":
        parts = _call(
            networks.residual_ladder,
            splits.shape,
            likelihood.params_size(splits.shape[-1]),
            _latent_sizes(options),
            bias=_bias(likelihood, splits, per_channel=True),
            **common,
        )
    else:
        parts = _call(
            networks.dense_ladder,
            splits.shape,
            _params_shape(likelihood, splits.shape),
            _latent_sizes(options),
            activation=_activation(options.activation),
            bias=_bias(likelihood, splits, per_channel=False),
            **common,
        )
    prior = priors.get(options.prior or "standard_normal", **options.prior_options)
    return LadderVAE(
        *parts,
        prior=prior,
        form=network["form"],
        likelihood=likelihood,
        seed=config.training.seed,
        condition=splits.condition,
        schema=splits.schema,
        standardization=splits.standardization,
    )


def _vqvae(config, splits):
    options = config.model
    likelihood = likelihoods.get(options.likelihood, **options.likelihood_options)
    _check_units(likelihood, splits)
    quantizer = _quantizer(options, config.training.seed)
    network = dict(options.network_options)
    padding = _padding(splits.shape, network.get("num_downsamplings", 2))
    padded = tuple(n + sum(ends) for n, ends in zip(splits.shape, (*padding, (0, 0)), strict=True))
    size = _condition_size(splits)
    encoder = _call(
        networks.residual_encoder,
        padded,
        quantizer.embedding_dim,
        condition_size=size,
        options=network,
    )
    latent_shape = encoder.output_shape[1:]
    decoder = _residual_decoder(latent_shape, network, likelihood, splits)
    if padded != splits.shape:
        series = len(padding) == 1
        pad = keras.layers.ZeroPadding1D if series else keras.layers.ZeroPadding2D
        crop = keras.layers.Cropping1D if series else keras.layers.Cropping2D
        ends = padding[0] if series else padding
        encoder = _after(pad(ends), encoder, splits.shape, size)
        decoder = _after(decoder, crop(ends), latent_shape, size)
    return VQVAE(
        encoder,
        quantizer,
        decoder,
        likelihood,
        seed=config.training.seed,
        condition=splits.condition,
        standardization=splits.standardization,
    )


def _padding(shape, halvings):
    """Return the rows and columns, or steps, to add on either side before they can be halved.

    None are added if the number of halvings is invalid or would leave no pixel: the network then
    raises the error.
    """
    factor = 2**halvings if isinstance(halvings, int) and halvings > 0 else 1
    factor = factor if factor <= max(shape[:-1]) else 1
    missing = [-n % factor for n in shape[:-1]]
    return tuple((n // 2, n - n // 2) for n in missing)


def _after(first, second, input_shape, condition_size):
    """Return the network of one layer or network after another; the network has the condition."""
    value = inputs = keras.Input(input_shape)
    given = [keras.Input((condition_size,), name="condition")] if condition_size else []
    for part in (first, second):
        takes = given and isinstance(part, keras.Model)
        value = part([value, *given] if takes else value)
    name = next(part.name for part in (first, second) if isinstance(part, keras.Model))
    return keras.Model([inputs, *given] if given else inputs, value, name=name)


def _vqvae2(config, splits):
    options = config.model
    likelihood = likelihoods.get(options.likelihood, **options.likelihood_options)
    bottom, top = (_quantizer(options, config.training.seed + n) for n in range(2))
    network = dict(options.network_options)
    given = {"condition_size": _condition_size(splits)}
    first = _call(networks.residual_encoder, splits.shape, None, **given, options=network)
    *grid, channels = first.output_shape[1:]
    once = {**network, "num_downsamplings": 1}
    second = _call(networks.residual_encoder, (*grid, channels), None, **given, options=once)
    upper = second.output_shape[1:3]
    between = {**network, "num_upsamplings": 1}
    between.pop("num_downsamplings", None)
    shape = (*upper, top.embedding_dim)
    above = _call(networks.residual_decoder, shape, channels, **given, options=between)
    joined = (*grid, bottom.embedding_dim + channels)
    decoder = _residual_decoder(joined, network, likelihood, splits)
    return HierarchicalVQVAE(
        [first, second],
        [bottom, top],
        [decoder, above],
        likelihood,
        seed=config.training.seed,
        condition=splits.condition,
    )


def _residual_decoder(latent_shape, network, likelihood, splits):
    options = dict(network)
    if "num_downsamplings" in options:
        options["num_upsamplings"] = options.pop("num_downsamplings")
    channels = likelihood.params_size(splits.shape[-1])
    bias = _bias(likelihood, splits, per_channel=True)
    given = {"bias": bias, "condition_size": _condition_size(splits)}
    return _call(networks.residual_decoder, latent_shape, channels, **given, options=options)


def _quantizer(options: ModelConfig, seed):
    """Return the quantizer of a configuration, which gives it those of its arguments it takes."""
    given = dict(options.quantizer_options)
    if isinstance(given.get("quantizer"), dict):  # of a wrapper: {name = ..., options...}
        inner = dict(given["quantizer"])
        given["quantizer"] = _quantizer_of(inner.pop("name", "ema"), inner, options, seed)
    return _quantizer_of(options.quantizer, given, options, seed)


def _quantizer_of(name, given, options, seed):
    defaults = {"embedding_dim": options.embedding_dim, "seed": seed}
    if name in quantizers.REGISTRY.names():
        takes = inspect.signature(quantizers.REGISTRY.part(name)).parameters
        given = {k: v for k, v in defaults.items() if k in takes} | given
    return quantizers.get(name, **given)


def _call(function, *args, options, **kwargs):
    """Call a network function with the options of a configuration, or say what it takes."""
    try:
        return function(*args, **kwargs, **options)
    except TypeError:
        known = list(inspect.signature(function).parameters)[2:]
        raise InvalidArgument(
            f"model.network_options is {options!r}; expected names among {', '.join(known)}."
        ) from None


def _check_units(likelihood, splits):
    """Refuse to standardize values that the likelihood needs in their own units."""
    if splits.standardization is not None and likelihood.complete().support != REALS:
        raise InvalidArgument(
            f"The {type(likelihood).__name__} likelihood needs values in their own units, but "
            "data.standardize is true. Add --set data.standardize=false, or train with another "
            "likelihood."
        )


def _usual_total(splits):
    """Return the median total of training examples, which samples are to have."""
    return max(1.0, float(np.median(splits.train.sample(_SAMPLE_FOR_BIAS).sum(axis=-1))))


def _num_tokens(splits):
    return int(splits.train.max_value) + 1


def _features(likelihood, splits):
    """Return the features of columns, tokens or counts for an encoder; None for other data."""
    if splits.kind == "tokens":
        return [_num_tokens(splits)] * splits.shape[0]
    if len(splits.shape) == 1 and isinstance(_of_values(likelihood), Counts):
        return ["count"] * splits.shape[0]
    return None if splits.schema is None else splits.schema.features()


def _networks(config: ModelConfig, posterior, likelihood, splits):
    """Return encoders and decoders, one of each for a stochastic layer, from the bottom up."""
    activation = _activation(config.activation)
    shapes = [_latent_shape(config, size) for size in _latent_sizes(config)]
    params = [_params_shape(posterior, shape) for shape in shapes]
    x_params = _params_shape(likelihood, splits.shape)
    bias = _bias(likelihood, splits, per_channel=config.network == "conv")
    size = _condition_size(splits)
    options = {"activation": activation, "condition_size": size}
    if config.network == "transformer":
        options = {"condition_size": size}
        make_encoder = partial(_call, networks.transformer_encoder, options=config.network_options)
        make_decoder = partial(_call, networks.transformer_decoder, options=config.network_options)
    elif config.network == "conv":
        options |= {"filters": config.hidden, "units": config.units}
        make_encoder, make_decoder = networks.conv_encoder, networks.conv_decoder
    else:
        options |= {"hidden": config.hidden}
        make_encoder, make_decoder = networks.dense_encoder, networks.dense_decoder
    of_x = {"missing": _is_incomplete(likelihood)}
    for_x = {"bias": bias}
    if config.network == "dense":
        of_x["features"] = _features(likelihood, splits)
    elif config.network == "transformer":
        of_x["num_tokens"] = _num_tokens(splits) if splits.kind == "tokens" else 0
        for_x = {"num_steps": splits.shape[0]}
    encoders = [make_encoder(splits.shape, _plain(params[0]), **options, **of_x)]
    decoders = [make_decoder(_plain(shapes[0]), x_params, **for_x, **options)]
    between = {
        "hidden": config.upper_hidden,
        "activation": activation,
        "condition_size": size,
    }
    for below, above in itertools.pairwise(range(len(shapes))):
        encoders.append(networks.dense_encoder(shapes[below], _plain(params[above]), **between))
        decoders.append(networks.dense_decoder(_plain(shapes[above]), params[below], **between))
    return encoders, decoders


def _is_incomplete(likelihood):
    """Return whether examples may have missing values."""
    return isinstance(likelihood, likelihoods.Observed)


def _condition_size(splits):
    """Return the width of the vectors that networks are given of the condition; 0 without one."""
    given = conditions.get(splits.condition)
    return 0 if given is None else given.size


def _bias(likelihood, splits, per_channel):
    """Return the initial bias of the decoder's output, None for zeros."""
    of_values = _of_values(likelihood)
    if isinstance(of_values, likelihoods.Bernoulli):
        return networks.logit_bias(splits.train.mean(_SAMPLE_FOR_BIAS)[None], per_channel)
    if isinstance(of_values, Counts) and len(splits.shape) == 1:
        bias = networks.log_bias(splits.train.mean(_SAMPLE_FOR_BIAS))
        return np.pad(bias, (0, likelihood.params_size(len(bias)) - len(bias)))
    return None


def _of_values(likelihood):
    """Return the likelihood that all values of an example have; None where they differ."""
    likelihood = likelihood.complete()
    if not isinstance(likelihood, likelihoods.Columns):
        return likelihood
    return likelihood.likelihoods[0] if len(likelihood.likelihoods) == 1 else None


def _latent_sizes(config):
    return (config.latent_size, *config.upper_latent_sizes)


def _latent_shape(config, size):
    return (size, config.num_categories) if config.num_categories else (size,)


def _params_shape(factory, shape):
    return (*shape[:-1], factory.params_size(shape[-1]))


def _plain(shape):
    """Return a shape of one axis as a number, as the networks of vectors take it."""
    return shape[0] if len(shape) == 1 else shape


def _activation(name):
    if name == networks.GATED:
        return name
    try:
        return keras.activations.get(name)
    except ValueError:
        raise InvalidArgument(
            f"Unknown activation {name!r}; expected one of Keras, such as 'tanh', 'relu', 'gelu' "
            "or 'silu'."
        ) from None


def learning_rate(config: TrainingConfig, splits):
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


def _optimizer(config: TrainingConfig, splits):
    options = {"learning_rate": learning_rate(config, splits)}
    if config.ema_momentum:
        options |= {"use_ema": True, "ema_momentum": config.ema_momentum}
    if config.optimizer == "adam":
        return Adam(epsilon=config.epsilon, **options)
    try:
        optimizer = keras.optimizers.get({"class_name": config.optimizer, "config": options})
    except (ValueError, TypeError):
        raise InvalidArgument(
            f"Unknown optimizer {config.optimizer!r}; expected 'adam' or the name of a Keras "
            "optimizer, such as 'sgd', 'rmsprop', 'adamw' or 'lion'."
        ) from None
    if config.epsilon != TrainingConfig.epsilon:
        if not hasattr(optimizer, "epsilon"):
            raise InvalidArgument(
                f"training.epsilon is {config.epsilon!r}, but the optimizer {config.optimizer!r} "
                f"has none; expected {TrainingConfig.epsilon!r}, the default."
            )
        optimizer.epsilon = config.epsilon
    return optimizer


_MODELS = {"vae": _vae, "ladder": _ladder, "vqvae": _vqvae, "vqvae2": _vqvae2}
