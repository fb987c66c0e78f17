"""Models with latents of a configuration: VAEs of one layer or several, and ladders."""

import itertools
from functools import partial

import keras

from tfvae import networks, posteriors, priors
from tfvae.config import ModelConfig
from tfvae.errors import InvalidArgument
from tfvae.likelihoods.counts import Counts
from tfvae.models import VAE, HierarchicalVAE, LadderVAE
from tfvae.networks.dense import GATED
from tfvae.runs.model_parts import (
    call_network,
    condition_size,
    is_incomplete,
    likelihood_of,
    num_tokens,
    of_values,
    output_bias,
    params_shape,
)

_MAKERS = {
    "dense": (networks.dense_encoder, networks.dense_decoder),
    "conv": (networks.conv_encoder, networks.conv_decoder),
    "transformer": (networks.transformer_encoder, networks.transformer_decoder),
}


def vae(config, splits) -> VAE | HierarchicalVAE:
    """Return a model of one stochastic layer, or of a chain of several."""
    options = config.model
    likelihood = likelihood_of(config, splits)
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


def ladder(config, splits) -> LadderVAE:
    """Return a ladder of vectors or of grids."""
    options = config.model
    likelihood = likelihood_of(config, splits)
    network = {"form": "residual", **options.network_options}
    common = {"condition_size": condition_size(splits), "options": network}
    common["missing"] = is_incomplete(likelihood)
    if options.network == "residual":
        parts = call_network(
            networks.residual_ladder,
            splits.shape,
            likelihood.params_size(splits.shape[-1]),
            _latent_sizes(options),
            bias=output_bias(likelihood, splits, per_channel=True),
            **common,
        )
    else:
        parts = call_network(
            networks.dense_ladder,
            splits.shape,
            params_shape(likelihood, splits.shape),
            _latent_sizes(options),
            activation=_activation(options.activation),
            bias=output_bias(likelihood, splits, per_channel=False),
            **common,
        )
    prior = priors.get(options.prior or "standard_normal", **options.prior_options)
    return LadderVAE(
        *parts,
        prior=prior,
        likelihood=likelihood,
        form=network["form"],
        seed=config.training.seed,
        condition=splits.condition,
        schema=splits.schema,
        standardization=splits.standardization,
    )


def _networks(config: ModelConfig, posterior, likelihood, splits):
    """Return encoders and decoders, one of each for a stochastic layer, from the bottom up."""
    activation = _activation(config.activation)
    shapes = [_latent_shape(config, size) for size in _latent_sizes(config)]
    params = [params_shape(posterior, shape) for shape in shapes]
    x_params = params_shape(likelihood, splits.shape)
    bias = output_bias(likelihood, splits, per_channel=config.network == "conv")
    size = condition_size(splits)
    options = {"condition_size": size, "options": config.network_options}
    if config.network != "transformer":
        options["activation"] = activation
    if config.network == "conv":
        options |= {"filters": config.hidden, "units": config.units}
    elif config.network == "dense":
        options |= {"hidden": config.hidden}
    make_encoder, make_decoder = (partial(call_network, make) for make in _MAKERS[config.network])
    of_x = {"missing": is_incomplete(likelihood)}
    for_x = {"bias": bias}
    if config.network == "dense":
        of_x["features"] = _features(likelihood, splits)
    elif config.network == "transformer":
        of_x["num_tokens"] = num_tokens(splits) if splits.kind == "tokens" else 0
        for_x = {"num_steps": splits.shape[0]}
    encoders = [make_encoder(splits.shape, _plain(params[0]), **options, **of_x)]
    decoders = [make_decoder(_plain(shapes[0]), x_params, **for_x, **options)]
    between = {"hidden": config.upper_hidden, "activation": activation, "condition_size": size}
    between["dropout"] = config.network_options.get("dropout", 0.0)
    for below, above in itertools.pairwise(range(len(shapes))):
        encoders.append(networks.dense_encoder(shapes[below], _plain(params[above]), **between))
        decoders.append(networks.dense_decoder(_plain(shapes[above]), params[below], **between))
    return encoders, decoders


def _features(likelihood, splits):
    """Return the features of columns, tokens or counts for an encoder; None for other data."""
    if splits.kind == "tokens":
        return [num_tokens(splits)] * splits.shape[0]
    if len(splits.shape) == 1 and isinstance(of_values(likelihood), Counts):
        return ["count"] * splits.shape[0]
    return None if splits.schema is None else splits.schema.features()


def _latent_sizes(config):
    return (config.latent_size, *config.upper_latent_sizes)


def _latent_shape(config, size):
    return (size, config.num_categories) if config.num_categories else (size,)


def _plain(shape):
    """Return a shape of one axis as a number, as the networks of vectors take it."""
    return shape[0] if len(shape) == 1 else shape


def _activation(name):
    if name == GATED:
        return name
    try:
        return keras.activations.get(name)
    except ValueError:
        raise InvalidArgument(
            f"Unknown activation {name!r}; expected one of Keras, such as 'tanh', 'relu', 'gelu' "
            "or 'silu'."
        ) from None
