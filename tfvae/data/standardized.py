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

    It may round no value of a column or channel by more than 1/128 of the range of all.

    Raises:
        InvalidData: it does.
    """
    values = splits.train.values
    if values.dtype != np.float64:
        return
    low = high = rounding = np.nan
    for part in in_parts(values):
        rows = part.reshape(-1, part.shape[-1])
        with np.errstate(over="ignore"):
            lost = np.abs(rows - rows.astype(np.float32))
        low, high = np.fmin(low, np.fmin.reduce(rows)), np.fmax(high, np.fmax.reduce(rows))
        rounding = np.fmax(rounding, np.fmax.reduce(lost))
    coarse = np.flatnonzero((low < high) & (128 * rounding > high - low))
    if len(coarse):
        column = coarse[0]
        raise InvalidData(
            f"Column {column} of the last axis of {splits.name} goes from {low[column]:.12g} to "
            f"{high[column]:.12g}, and float32, in which models compute, rounds its values by up "
            f"to {rounding[column]:.3g}. Standardize the values: standardize=True in Python, --set "
            "data.standardize=true on the command line."
        )


def with_units(examples: Examples, standardization: Standardization) -> Examples:
    """Return examples as x, by statistics that are known."""
    values = examples.values
    if isinstance(values, np.ndarray):
        values = standardization.standardized(values)
    else:
        values = StandardizedSource(values, standardization)
    return dataclasses.replace(examples, values=values, standardization=standardization)
