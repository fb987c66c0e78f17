"""Splits of vectors and series whose values are standardized, by the training examples."""

import dataclasses

import numpy as np

from tfvae.data.examples import Examples
from tfvae.data.source import Source, in_parts
from tfvae.data.splits import SPLITS, Splits
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.kinds import plural
from tfvae.standardization import Standardization


class StandardizedSource(Source):
    """Examples that are standardized as they are read.

    Args:
        source: of the values.
        standardization: of the training examples.
    """

    def __init__(self, source: Source, standardization: Standardization):
        self.source, self.standardization = source, standardization
        self.name, self.kind, self.blocks = source.name, source.kind, source.blocks
        self.shape, self.dtype = source.shape, np.dtype(np.float32)

    def read(self, index):
        return self.standardization.standardized(self.source.read(index))

    def check(self, missing=False):
        self.source.check(missing)


def standardized(splits: Splits, standardize: bool | Standardization) -> Splits:
    """Return splits of x, by the statistics of the training examples where none are given.

    Raises:
        InvalidArgument: what is no vectors or series of one's own.
        InvalidData: values of which all are missing.
    """
    if splits.kind not in ("vector", "series"):
        raise InvalidArgument(
            f"{splits.name!r} holds {plural(splits.kind)}, and only vectors and series are "
            "standardized. Set data.standardize to false."
        )
    if not isinstance(standardize, Standardization):
        standardize = fitted(splits)
    parts = {name: with_units(getattr(splits, name), standardize) for name in SPLITS}
    return dataclasses.replace(splits, **parts)


def fitted(splits: Splits) -> Standardization:
    """Return the statistics of training examples; see `Standardization.fitted`."""
    return Standardization.fitted(in_parts(splits.train.values), splits.name)


def check_resolution(splits: Splits) -> None:
    """Refuse training examples whose differences are lost in float32, in which models compute.

    The values of a column or channel have to spread over 64 steps of float32 at their size.

    Raises:
        InvalidData: they do not.
    """
    values = splits.train.values
    if values.dtype != np.float64:
        return
    low = high = np.nan
    for part in in_parts(values):
        rows = part.reshape(-1, part.shape[-1])
        low, high = np.fmin(low, np.fmin.reduce(rows)), np.fmax(high, np.fmax.reduce(rows))
    largest = np.maximum(np.abs(low), np.abs(high))
    with np.errstate(over="ignore", invalid="ignore"):
        step = np.spacing(largest.astype(np.float32))
    coarse = np.flatnonzero((low < high) & ~(64 * step <= high - low))
    if len(coarse):
        column = coarse[0]
        raise InvalidData(
            f"Column {column} of the last axis of {splits.name} goes from {low[column]!r} to "
            f"{high[column]!r}, which float32 does not tell apart; models compute in float32. "
            "Standardize the values: standardize=True in Python, --set data.standardize=true on "
            "the command line."
        )


def with_units(examples: Examples, standardization: Standardization) -> Examples:
    """Return examples as x, by statistics that are known."""
    values = examples.values
    if isinstance(values, np.ndarray):
        values = standardization.standardized(values)
    else:
        values = StandardizedSource(values, standardization)
    return dataclasses.replace(examples, values=values, standardization=standardization)
