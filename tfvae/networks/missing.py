"""Layers by which a network takes missing values."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("tfvae")
class ZeroImputation(layers.Layer):
    """x `[B, ..., C]` with NaN for what is missing → `[B, ..., 2 C]`: zeros there, and the mask.

    The mask is 1 for an observed value and 0 for a missing one: without it a network would not know
    a missing value from an observed 0.

    Source: Mattei and Frellsen 2019, "MIWAE: deep generative modelling and imputation of incomplete
    data sets", sec. 2.3, for the zeros; Collier, Nazabal and Williams 2020, "VAEs in the presence
    of missing data", for the mask.

    Args:
        append_mask: whether the mask follows; else `[B, ..., C]`.
    """

    def __init__(self, append_mask: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.append_mask = append_mask

    def call(self, inputs):
        """Return the values, and the mask."""
        missing = ops.isnan(inputs)
        values = ops.where(missing, ops.zeros_like(inputs), inputs)
        if not self.append_mask:
            return values
        mask = ops.cast(ops.logical_not(missing), values.dtype)
        return ops.concatenate([values, mask], axis=-1)

    def compute_output_shape(self, input_shape):
        """Return the shape of the output."""
        return (*input_shape[:-1], input_shape[-1] * (1 + self.append_mask))

    def get_config(self):
        """Return the constructor arguments."""
        return {**super().get_config(), "append_mask": self.append_mask}
