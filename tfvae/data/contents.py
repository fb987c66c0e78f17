"""What tells data from other data that is as large: a few numbers of some of the examples.

They are the same whether the data is in memory or read as it is needed, and wherever it lies. Other
versions of what decodes pictures, or another order of sums, change their last digits, and a machine
that computes codes anew may get a few others; so they are compared within a tolerance.
"""

import json
import zlib

import numpy as np

from tfvae.data.source import Source, spread
from tfvae.schema import Schema
from tfvae.standardization import Standardization

_EXAMPLES = 100
_TOLERANCE = 1e-3  # of the mean size of all numbers
_MOST_OTHER = 0.1  # of the examples may differ by more


def contents_of(
    values: np.ndarray | Source,
    conditions: np.ndarray | None = None,
    schema: Schema | None = None,
    standardization: Standardization | None = None,
) -> dict:
    """Return what `alike` compares, in values of JSON.

    Args:
        values: `[N, ...]`, of which a hundred evenly spaced ones are read.
        conditions: `[N, ...]`, or None.
        schema: of the table that they are rows of, or None.
        standardization: of the values, or None.
    """
    index = spread(len(values), _EXAMPLES)
    return {
        "values": _sketch(values[index]),
        "conditions": [] if conditions is None else _sketch(conditions[index]),
        "units": _units(schema, standardization),
    }


def alike(one: dict, other: dict) -> bool:
    """Whether two results of `contents_of` are of the same data."""
    if set(one) != set(other) or one.get("units") != other.get("units"):
        return False
    return all(_close(one[key], other[key]) for key in one if key != "units")


def _sketch(examples):
    """Return two sums of each example, one of them with weights, as pairs."""
    rows = np.nan_to_num(np.asarray(examples, np.float64).reshape(len(examples), -1), nan=-2.0)
    weights = np.cos(np.arange(rows.shape[1]))
    return np.stack([rows.mean(1), (rows * weights).mean(1)], axis=1).tolist()


def _close(one, other):
    if len(one) != len(other):
        return False
    if not one:
        return True
    one, other = np.asarray(one), np.asarray(other)
    size = np.mean(np.abs(one) + np.abs(other)) / 2
    return np.mean(np.abs(one - other).max(axis=1) > _TOLERANCE * size) <= _MOST_OTHER


def _units(schema, standardization):
    """Return a checksum of what x stands for; rounded statistics are the same on any machine."""
    columns, statistics = [], []
    if schema is not None:
        columns = [[c.name, c.type, list(c.categories)] for c in schema.columns]
        statistics = [(c.mean, c.scale) for c in schema.in_x]
    if standardization is not None:
        statistics = zip(standardization.mean, standardization.scale, strict=True)
    rounded = [[round(m / s, 3) + 0.0, round(float(np.log(s)), 3) + 0.0] for m, s in statistics]
    return zlib.crc32(json.dumps([columns, rounded]).encode())
