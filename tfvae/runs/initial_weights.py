"""The weights of a trained model as the start of another training."""

from pathlib import Path

from tfvae.errors import InvalidArgument
from tfvae.models import CodeModel, GenerativeModel
from tfvae.runs.directory import open_model


def start_from(path: str | Path, model: GenerativeModel) -> None:
    """Set the weights of a model to those of a trained one, for `training.initial_weights`.

    A prior that was fitted to the codes of a VQ-VAE stays behind, for the codes will change.

    Args:
        path: a finished run, or a `.keras` file.
        model: built, of the same networks, posterior and prior, or quantizer.

    Raises:
        InvalidFile: there is no finished run or model, or it is damaged.
        InvalidArgument: the path is a `.tflite` file, or the weights have other shapes than those
            of `model`.
    """
    trained, _ = open_model(path)
    if type(trained) is not type(model):
        kinds = f"it is a {type(trained).__name__}, this a {type(model).__name__}"
        raise _do_not_fit(path, kinds)
    source, target = _weights(trained), _weights(model)
    for theirs, ours in zip(source, target, strict=False):
        if _described(theirs) != _described(ours):
            raise _do_not_fit(path, f"it has {_described(theirs)}, this {_described(ours)}")
    if len(source) != len(target):
        raise _do_not_fit(path, f"it has {len(source)} arrays of weights, this {len(target)}")
    for theirs, ours in zip(source, target, strict=True):
        ours.assign(theirs)


def _weights(model):
    """Return what the training of a model sets, in the order in which layers were made."""
    fitted_apart = model.prior.variables if isinstance(model, CodeModel) else []
    others = {id(variable) for variable in (model.step, *fitted_apart)}
    return [variable for variable in model.weights_to_copy() if id(variable) not in others]


def _described(variable):
    return f"a {variable.name} of the shape {tuple(variable.shape)}"


def _do_not_fit(path, difference):
    recipe = f"{path}/config.toml" if Path(path).is_dir() else "the configuration of its run"
    return InvalidArgument(
        f"training.initial_weights is {str(path)!r}, a model of another kind than the one to be "
        f"trained: {difference}. Expected the same networks, latents, prior or quantizer, and "
        f"likelihood; to train that model further, name {recipe} as what to train."
    )
