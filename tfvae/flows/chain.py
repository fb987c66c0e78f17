"""Compositions of flows."""

import keras
import tensorflow as tf

from tfvae.errors import InvalidArgument
from tfvae.flows.flow import REGISTRY, Flow


@REGISTRY.register("chain")
class Chain(Flow):
    """z = f_n(… f_1(u)), whose log |det| is the sum of those of its parts.

    Args:
        flows: f_1, …, f_n, each a `Flow` or its name.
    """

    def __init__(self, flows, **kwargs):
        super().__init__(**kwargs)
        self.flows = [REGISTRY.get(flow) for flow in flows]
        if not self.flows:
            raise InvalidArgument("A chain of flows got none; expected at least one.")

    @property
    def has_fast_forward(self):
        """Whether every part has a fast forward."""
        return all(flow.has_fast_forward for flow in self.flows)

    @property
    def has_fast_inverse(self):
        """Whether every part has a fast inverse."""
        return all(flow.has_fast_inverse for flow in self.flows)

    def build(self, size, context_size=0):  # noqa: D102
        for flow in self.flows:
            if not flow.built:
                flow.build(size, context_size)
        super().build(size, context_size)

    def forward(self, u, context=None):  # noqa: D102
        total = tf.zeros_like(u[..., 0])
        for flow in self.flows:
            u, log_det = flow.forward(u, context)
            total += log_det
        return u, total

    def inverse(self, z, context=None):  # noqa: D102
        total = tf.zeros_like(z[..., 0])
        for flow in reversed(self.flows):
            z, log_det = flow.inverse(z, context)
            total += log_det
        return z, total

    def get_config(self):  # noqa: D102
        parts = [keras.saving.serialize_keras_object(flow) for flow in self.flows]
        return {**super().get_config(), "flows": parts}

    @classmethod
    def from_config(cls, config):  # noqa: D102
        flows = [keras.saving.deserialize_keras_object(flow) for flow in config["flows"]]
        return cls(**{**config, "flows": flows})
