"""Normal densities."""

import tensorflow as tf
import tensorflow_probability as tfp

from tfvae.distributions.factory import independent, softplus_scale
from tfvae.errors import InvalidArgument
from tfvae.likelihoods.likelihood import REGISTRY, Likelihood

SCALES = ("learned", "shared")


@REGISTRY.register("normal")
class Normal(Likelihood):
    """x_d ~ N(μ_d, σ²): a density, so log p(x) in nats is not comparable with discrete likelihoods.

    Args:
        scale: σ.

            - A number: fixed.
            - "shared": one trained number for all values and examples, from 1. It is at its optimum
              where σ² is the mean squared error (Rybkin, Daniilidis and Levine 2021, "Simple and
              effective VAE training with calibrated decoders", sec. 3.2).
            - "learned": the network emits μ, then a raw scale, on the last axis.

            The last two are σ = softplus(raw + log(e − 1)).
    """

    def __init__(self, scale: float | str = 1.0, **kwargs):
        super().__init__(**kwargs)
        if scale not in SCALES and not (isinstance(scale, (int, float)) and scale > 0):
            raise InvalidArgument(
                f"`scale` is {scale!r}; expected a positive number, 'shared' or 'learned'."
            )
        self.scale = scale
        self.params_per_channel = 2 if scale == "learned" else 1
        self.unbounded = {"raw scale": (1 / 2, 1)} if scale == "learned" else {}

    def build(self, params_shape):  # noqa: D102
        if self.scale == "shared":
            self.raw_scale = self.add_weight(
                shape=(), initializer="zeros", name="raw_scale", autocast=False
            )
        super().build(params_shape)

    def distribution(self, params, batch_ndims):  # noqa: D102
        if self.scale == "learned":
            loc, raw = tf.split(params, 2, axis=-1)
            scale = softplus_scale(raw)
        else:
            loc, scale = params, self.current_scale()
        return independent(tfp.distributions.Normal(loc, scale), batch_ndims)

    def current_scale(self) -> float | tf.Tensor:
        """Return σ where it is one number: as it was given, or as it is now if it is shared."""
        if self.scale == "shared":
            return softplus_scale(tf.convert_to_tensor(self.raw_scale))
        return self.scale

    def get_config(self):  # noqa: D102
        return {"scale": self.scale}
