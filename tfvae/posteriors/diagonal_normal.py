"""Independent normals."""

from typing import ClassVar

import tensorflow as tf

from tfvae._plain.checks import choice
from tfvae.distributions.factory import independent, softplus_scale
from tfvae.distributions.latents import NormalLatent
from tfvae.posteriors.posterior import REGISTRY, Posterior

SCALES = ("softplus", "exp_half")


@REGISTRY.register("diagonal_normal")
class DiagonalNormal(Posterior):
    """q(z|x) = Π_d N(z_d; μ_d, σ_d²). The last axis of the parameters is μ, then raw.

    Args:
        scale: what raw is. "softplus": σ = softplus(raw + log(e − 1)), so that raw = 0 gives σ = 1;
            "exp_half": a log-variance, σ = exp(raw / 2), as Kingma and Welling 2014 have it.
    """

    params_per_channel = 2
    unbounded: ClassVar = {"raw scale": (1 / 2, 1)}

    def __init__(self, scale: str = "softplus", **kwargs):
        super().__init__(**kwargs)
        self.scale = choice("scale", scale, SCALES)

    def distribution(self, params, batch_ndims):
        loc, raw = tf.split(params, 2, axis=-1)
        scale = softplus_scale(raw) if self.scale == "softplus" else tf.exp(0.5 * raw)
        return independent(NormalLatent(loc, scale, batch_ndims), batch_ndims)

    def get_config(self):
        return {"scale": self.scale, **super().get_config()}
