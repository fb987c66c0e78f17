"""The signatures of a model of any kind, and the SavedModel of them."""

from collections.abc import Collection

import tensorflow as tf

from tfvae.errors import InvalidArgument
from tfvae.export.code_signatures import CodeSignatures
from tfvae.export.contract import Signatures
from tfvae.export.latent_signatures import LatentSignatures
from tfvae.export.subpixel import SubpixelConv2D
from tfvae.models import CodeModel, LatentVariableModel
from tfvae.models.precision import config_in_float32, in_float32

# To export another kind of model, add its line here.
_TRANSPOSED = ("Conv2DTranspose", None)  # class and registered name of Keras's own layer
_KINDS = ((LatentVariableModel, LatentSignatures), (CodeModel, CodeSignatures))


def of(model, on_device: bool = False, names: Collection[str] | None = None) -> Signatures:
    """Return the signatures of a model; in float32, so of a copy if it computes in another type.

    Args:
        model: built.
        on_device: whether they are for LiteRT: with singles, and transposed convolutions in the
            form that runs fastest there.
        names: those that are asked for; all if None.

    Raises:
        InvalidArgument: no model of a kind that can be exported, or one that is not built; no
            signature of such a name.
    """
    for kind, signatures in _KINDS:
        if isinstance(model, kind):
            _check_built(model)
            exported = device_copy(model) if on_device else None
            return signatures(in_float32(model), exported, on_device, names)
    raise InvalidArgument(
        f"The model is {model!r}; expected one of tfvae, such as a VAE or a VQVAE."
    )


def device_copy(model):
    """Return a float32 copy of the model with every transposed convolution that can be rewritten.

    See `SubpixelConv2D`. Networks that are classes of their own are left as they are.
    """
    return model.copy(_with_subpixels(config_in_float32(model.get_config())))


def write_saved_model(signatures: Signatures, path) -> None:
    """Write a SavedModel with the signatures, the first one being the default too.

    It holds each function as it was traced, for these inputs alone: as a `tf.function` it would be
    traced a second time when it is written, and a third time when it is read.
    """
    module = tf.Module()
    traced = {name: f.get_concrete_function() for name, f in signatures.functions.items()}
    variables = (variable for function in traced.values() for variable in function.variables)
    module.variables_of_all = list({id(variable): variable for variable in variables}.values())
    for name, function in traced.items():
        setattr(module, name, function)
    default = next(iter(traced.values()))
    tf.saved_model.save(module, str(path), signatures={"serving_default": default, **traced})


def _check_built(model):
    if not model.built:
        raise InvalidArgument(
            "The model does not know the shape of its data yet, so there is nothing to export. "
            "Train it, or load its weights; `model.build((None, 28, 28, 1))` builds one."
        )


def _with_subpixels(config):
    """Replace the transposed convolutions in a Keras config; their weights stay the same."""
    if isinstance(config, dict):
        names = config.get("class_name"), config.get("registered_name")
        if names == _TRANSPOSED and SubpixelConv2D.replaces(config["config"]):
            return {**config, **SubpixelConv2D.address()}
        return {key: _with_subpixels(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_with_subpixels(value) for value in config)
    return config
