"""The features of the columns of a table, for an encoder."""

import itertools
import numbers
from collections.abc import Sequence

import keras
from keras import layers, ops

from tfvae.errors import InvalidArgument

_NUMBERS = ("number", "count")


@keras.saving.register_keras_serializable("tfvae")
class ColumnFeatures(layers.Layer):
    """The numbers of columns as features: x `[B, ..., D]` → `[B, ..., F]`.

    Args:
        features: for each column, "number" (as it is), "count" (log(1 + x)), or a number L of
            categories, whose levels k / (L − 1) become L numbers, one of them 1. What
            `features()` of a `tfvae.data.Schema` returns. Missing values, NaN, become zeros.
        append_mask: whether a mask `[B, ..., D]` follows, 1 for an observed value and 0 for a
            missing one.

    Raises:
        InvalidArgument: a feature that is none of these.
    """

    def __init__(self, features: Sequence, append_mask: bool = False, **kwargs):
        # Half precision holds neither large counts nor the levels of many categories.
        super().__init__(autocast=False, **kwargs)
        self.features, self.append_mask = [_checked(each) for each in features], append_mask

    def call(self, x):
        """Return the features, side by side in the order of the columns."""
        x = ops.cast(x, keras.backend.result_type(self.compute_dtype, "float32"))
        parts, place = [], 0
        for feature, count in _runs(self.features):
            columns = x[..., place : place + count]
            place += count
            if isinstance(feature, int):
                level = columns[..., None] * (feature - 1)
                chosen = ops.abs(level - ops.arange(feature, dtype=x.dtype)) < 0.5
                shape = (*ops.shape(columns)[:-1], count * feature)
                parts.append(ops.reshape(ops.cast(chosen, x.dtype), shape))
                continue
            known = ops.where(ops.isnan(columns), ops.zeros_like(columns), columns)
            parts.append(ops.log1p(known) if feature == "count" else known)
        if self.append_mask:
            parts.append(ops.cast(ops.logical_not(ops.isnan(x)), x.dtype))
        joined = ops.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
        return ops.cast(joined, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """Return the shape of the output."""
        size = sum(feature if isinstance(feature, int) else 1 for feature in self.features)
        return (*input_shape[:-1], size + self.append_mask * len(self.features))

    def get_config(self):
        """Return the constructor arguments."""
        own = {"features": self.features, "append_mask": self.append_mask}
        return {**super().get_config(), **own}


def _checked(feature):
    """Return a feature, a number of categories as a Python integer, or refuse it."""
    if isinstance(feature, str) and feature in _NUMBERS:
        return feature
    whole = isinstance(feature, numbers.Integral) and not isinstance(feature, bool)
    if not whole or feature < 1:
        raise InvalidArgument(
            f"A column has the feature {feature!r}; expected 'number', 'count' or a number of "
            "categories of at least 1, as `features()` of a tfvae.data.Schema gives them."
        )
    return int(feature)


def _runs(features):
    """Yield (feature, how many columns that stand together have it)."""
    return ((feature, len(list(same))) for feature, same in itertools.groupby(features))
