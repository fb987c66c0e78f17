"""The compiled model of a configuration."""

import math

import keras

from tfvae import data
from tfvae._plain import memory
from tfvae.config import Config
from tfvae.errors import InvalidArgument
from tfvae.models import GenerativeModel
from tfvae.runs.code_models import vqvae, vqvae2
from tfvae.runs.latent_models import ladder, vae
from tfvae.runs.optimization import bound_arguments, optimizer
from tfvae.runs.weights import bounded_weights

_MODELS = {"vae": vae, "ladder": ladder, "vqvae": vqvae, "vqvae2": vqvae2}


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
        optimizer(training, splits),
        steps_per_execution=training.steps_per_execution,
        jit_compile=training.jit_compile,
        **(bound_arguments(training) if config.model.family in ("vae", "ladder") else {}),
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
