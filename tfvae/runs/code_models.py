"""Models of codes of a configuration: VQ-VAEs of one grid or two, and their quantizers."""

import inspect

import keras

from tfvae import likelihoods, networks, quantizers
from tfvae.config import ModelConfig
from tfvae.models import VQVAE, HierarchicalVQVAE
from tfvae.networks.ranks import convolutions
from tfvae.runs.model_parts import call_network, check_units, condition_size, output_bias


def vqvae(config, splits) -> VQVAE:
    """Return a model of one grid of codes, of images or series of any size."""
    options = config.model
    likelihood = likelihoods.get(options.likelihood, **options.likelihood_options)
    check_units(likelihood, splits)
    quantizer = _quantizer(options, config.training.seed)
    network = dict(options.network_options)
    padding = _padding(splits.shape, network.get("num_downsamplings", 2))
    padded = tuple(n + sum(ends) for n, ends in zip(splits.shape, (*padding, (0, 0)), strict=True))
    size = condition_size(splits)
    encoder = call_network(
        networks.residual_encoder,
        padded,
        quantizer.embedding_dim,
        condition_size=size,
        options=network,
    )
    latent_shape = encoder.output_shape[1:]
    decoder = _residual_decoder(latent_shape, network, likelihood, splits)
    if padded != splits.shape:
        kinds = convolutions(splits.shape)
        ends = padding[0] if len(padding) == 1 else padding
        encoder = _after(kinds.pad(ends), encoder, splits.shape, size)
        decoder = _after(decoder, kinds.crop(ends), latent_shape, size)
    return VQVAE(
        encoder,
        quantizer,
        decoder,
        likelihood=likelihood,
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


def vqvae2(config, splits) -> HierarchicalVQVAE:
    """Return a model of a grid of codes above another one."""
    options = config.model
    likelihood = likelihoods.get(options.likelihood, **options.likelihood_options)
    bottom, top = (_quantizer(options, config.training.seed + n) for n in range(2))
    network = dict(options.network_options)
    given = {"condition_size": condition_size(splits)}
    first = call_network(networks.residual_encoder, splits.shape, None, **given, options=network)
    *grid, channels = first.output_shape[1:]
    once = {**network, "num_downsamplings": 1}
    second = call_network(networks.residual_encoder, (*grid, channels), None, **given, options=once)
    upper = second.output_shape[1:3]
    between = {**network, "num_upsamplings": 1}
    between.pop("num_downsamplings", None)
    shape = (*upper, top.embedding_dim)
    above = call_network(networks.residual_decoder, shape, channels, **given, options=between)
    joined = (*grid, bottom.embedding_dim + channels)
    decoder = _residual_decoder(joined, network, likelihood, splits)
    return HierarchicalVQVAE(
        [first, second],
        [bottom, top],
        [decoder, above],
        likelihood=likelihood,
        seed=config.training.seed,
        condition=splits.condition,
    )


def _residual_decoder(latent_shape, network, likelihood, splits):
    options = dict(network)
    if "num_downsamplings" in options:
        options["num_upsamplings"] = options.pop("num_downsamplings")
    channels = likelihood.params_size(splits.shape[-1])
    bias = output_bias(likelihood, splits, per_channel=True)
    given = {"bias": bias, "condition_size": condition_size(splits)}
    return call_network(networks.residual_decoder, latent_shape, channels, **given, options=options)


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
