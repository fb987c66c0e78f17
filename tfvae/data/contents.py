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

_RUNS = 10  # of neighbours, so that no more than two blocks are read for each
_IN_RUN = 10
_TOLERANCE = 1e-3
_MOST_OTHER = 0.1  # of the examples may differ by more


def contents_of(
    values: np.ndarray | Source,
    conditions: np.ndarray | None = None,
    schema: Schema | None = None,
    standardization: Standardization | None = None,
) -> dict:
    """Return what `alike` compares, in values of JSON.

    These are two means over the values of each example, one of them with weights, of its condition
    too; the mean and the scale of each column or channel; and a checksum of the names, types and
    categories of the columns.

    Args:
        values: `[N, ...]`, of which a hundred are read, one at a time: ten runs of ten neighbours,
            evenly spaced.
        conditions: `[N, ...]`, or None.
        schema: of the table that they are rows of, or None.
        standardization: of the values, or None.
    """
    index = _some(len(values))
    columns, statistics = [], []
    if schema is not None:
        columns = [[c.name, c.type, list(c.categories)] for c in schema.columns]
        statistics = [[c.mean, c.scale] for c in schema.in_x]
    if standardization is not None:
        statistics = np.stack([standardization.mean, standardization.scale], axis=1).tolist()
    return {
        "values": _sketch(values, index),
        "conditions": [] if conditions is None else _sketch(conditions, index),
        "columns": zlib.crc32(json.dumps(columns).encode()),
        "statistics": statistics,
    }


def alike(one: dict, other: dict) -> bool:
    """Whether two results of `contents_of` are of the same data.

    Nine tenths of the examples have to agree, each of their means to a thousandth of its median
    deviation over the examples; all columns, and all statistics to a thousandth of the scale.
    """
    if set(one) != set(other) or any(len(one[k]) != len(other[k]) for k in one if k != "columns"):
        return False
    sketches = all(_close(one[key], other[key]) for key in ("values", "conditions"))
    units = _same_units(one["statistics"], other["statistics"])
    return one["columns"] == other["columns"] and sketches and units


def _some(count):
    """Return the numbers of the examples that are looked at, ascending."""
    starts = spread(max(1, count - _IN_RUN + 1), _RUNS)
    return np.unique(np.minimum(np.add.outer(starts, np.arange(_IN_RUN)), count - 1))


def _sketch(array, index):
    """Return the mean of each example, and one with weights, as pairs."""
    weights = np.cos(np.arange(np.prod(array.shape[1:], dtype=int)))
    pairs = []
    for number in index:
        row = np.array(array[number], np.float64).reshape(-1)
        row[np.isnan(row)] = -2.0
        pairs.append([float(row.mean()), float(np.dot(row, weights)) / len(row)])
    return pairs


def _close(one, other):
    if not one:
        return True
    both = np.array([one, other])  # [2, n, 2]
    middle = np.median(both, axis=(0, 1))
    spreads = np.median(np.abs(both - middle), axis=(0, 1))
    rounding = np.finfo(np.float32).eps * np.abs(middle)  # what models cannot tell apart
    differs = np.abs(both[0] - both[1]) > _TOLERANCE * spreads + rounding
    return np.mean(differs.any(axis=1)) <= _MOST_OTHER


def _same_units(one, other):
    """Whether means differ by little of their scale, and scales by little of themselves."""
    if not one:
        return True
    (mean, scale), (other_mean, other_scale) = np.transpose(one), np.transpose(other)
    most = _TOLERANCE * np.minimum(scale, other_scale)
    return bool(np.all(np.abs([mean - other_mean, scale - other_scale]) <= most))
