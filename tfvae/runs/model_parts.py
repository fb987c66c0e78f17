"""Parts of models of every kind, from a configuration: likelihood, output bias, condition."""

import inspect

import numpy as np

from tfvae import conditions, likelihoods, networks
from tfvae.config import Config
from tfvae.errors import InvalidArgument, TfvaeError
from tfvae.likelihoods.counts import Counts
from tfvae.likelihoods.support import REALS

_SAMPLE_FOR_BIAS = 10_000
# Arguments of network functions that a run sets by the data.
_OWN = ("bias", "condition_size", "features", "missing", "name", "num_tokens")


def likelihood_of(config: Config, splits):
    """Return the likelihood of a configuration for the data, which may be tokens or incomplete.

    Raises:
        InvalidArgument: options that do not go with the data.
    """
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
        given = {"num_levels": num_tokens(splits), **given}
    if given.get("size_factor") is not None:
        given.setdefault("target_sum", _usual_total(splits))
    likelihood = likelihoods.get(options.likelihood, **given)
    check_units(likelihood, splits)
    if splits.kind != "image" and options.likelihood not in ("columns", "observed"):
        # In a product, of whose values samples are draws, and not means.
        likelihood = likelihoods.Columns([(likelihood, splits.shape[-1])])
    if (splits.has_missing or config.data.missing) and not is_incomplete(likelihood):
        return likelihoods.Observed(likelihood)
    return likelihood


def check_units(likelihood, splits):
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


def is_incomplete(likelihood):
    """Return whether examples may have missing values."""
    return isinstance(likelihood, likelihoods.Observed)


def of_values(likelihood):
    """Return the likelihood that all values of an example have; None where they differ."""
    likelihood = likelihood.complete()
    if not isinstance(likelihood, likelihoods.Columns):
        return likelihood
    return likelihood.likelihoods[0] if len(likelihood.likelihoods) == 1 else None


def num_tokens(splits):
    """Return how many different tokens there are, the padding included."""
    return int(splits.train.max_value) + 1


def condition_size(splits):
    """Return the width of the vectors that networks are given of the condition; 0 without one."""
    given = conditions.get(splits.condition)
    return 0 if given is None else given.size


def output_bias(likelihood, splits, per_channel):
    """Return the initial bias of the decoder's output, None for zeros."""
    values = of_values(likelihood)
    if isinstance(values, likelihoods.Bernoulli):
        return networks.logit_bias(splits.train.mean(_SAMPLE_FOR_BIAS)[None], per_channel)
    if isinstance(values, Counts) and len(splits.shape) == 1:
        bias = networks.log_bias(splits.train.mean(_SAMPLE_FOR_BIAS))
        return np.pad(bias, (0, likelihood.params_size(len(bias)) - len(bias)))
    return None


def params_shape(factory, shape):
    """Return the shape of the parameters of a distribution of this shape."""
    return (*shape[:-1], factory.params_size(shape[-1]))


def call_network(function, *args, options, **kwargs):
    """Call a network function with the options of a configuration, or say what it takes."""
    parameters = inspect.signature(function).parameters
    known = [name for name in list(parameters)[len(args) :] if name not in {*kwargs, *_OWN}]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise InvalidArgument(
            f"model.network_options names {', '.join(unknown)}; expected names among "
            f"{', '.join(known)}."
        )
    try:
        return function(*args, **kwargs, **options)
    except TfvaeError:
        raise
    except (TypeError, ValueError) as error:  # what Keras raises for values that it cannot use
        raise InvalidArgument(
            f"model.network_options is {options!r}, with which the network cannot be made: {error}"
        ) from error
