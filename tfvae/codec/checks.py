"""Checks that the lossy and the lossless codec share."""

from pathlib import Path

from tfvae.errors import InvalidArgument, InvalidData, InvalidFile

_ENDING = ".npz"


def condition_in_file(model, condition, count, name):
    """Return the conditions in a file, or refuse a file of another model.

    Raises:
        InvalidFile: it holds other conditions than the model has.
    """
    try:
        return model.condition_of_each(condition, count)
    except (InvalidArgument, InvalidData) as error:
        raise InvalidFile(f"{name} does not hold the conditions of this model: {error}") from None


def check_path(path) -> None:
    """Refuse a path with another ending than that of files of codes; None is no path.

    Raises:
        InvalidArgument: with the ending.
    """
    if path is not None and Path(path).suffix.lower() != _ENDING:
        raise InvalidArgument(
            f"Cannot write codes to {path}; expected a name that ends in {_ENDING}."
        )


def check_built(model) -> None:
    """Refuse a model that has no weights yet.

    Raises:
        InvalidArgument: with how it gets them.
    """
    if not model.built:
        raise InvalidArgument(
            f"{model.name} has no weights yet, since it waits for the shape of its data; expected "
            "the model that encodes or has encoded the images. Fit it or load it first."
        )
