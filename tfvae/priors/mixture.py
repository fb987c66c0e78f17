"""A mixture of Gaussians as the prior."""

import keras
import tensorflow as tf

from tfvae.checks import not_negative, positive, whole
from tfvae.distributions.factory import softplus_scale
from tfvae.distributions.normal_mixture import NormalMixture
from tfvae.priors.prior import REGISTRY, Prior


@REGISTRY.register("mixture")
class MixturePrior(Prior):
    """p(z) = Σ_c w_c Π_d N(z_d; μ_cd, σ_cd²) with learned weights, means and scales.

    The means start apart, at draws of N(0, spread²), for components that start alike stay alike.

    Source: Dilokthanakul et al. 2016, "Deep unsupervised clustering with Gaussian mixture
    variational autoencoders"; Tomczak and Welling 2018, "VAE with a VampPrior", sec. 4 (MoG).

    Args:
        num_components: C.
        spread: the standard deviation of the means at the start.
        min_scale: the least σ: without it a component may collapse to a point.
        seed: of the means at the start.
    """

    def __init__(
        self,
        num_components: int = 50,
        spread: float = 1.0,
        min_scale: float = 0.05,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_components = whole("num_components", num_components)
        self.spread = not_negative("spread", spread)
        self.min_scale, self.seed = positive("min_scale", min_scale), seed

    def build(self, latent_shape):  # noqa: D102
        def weight(name, shape, start="zeros"):
            return self.add_weight(
                shape=shape, initializer=start, name=name, dtype="float32", autocast=False
            )

        shape = (self.num_components, *latent_shape)
        start = keras.initializers.RandomNormal(stddev=max(self.spread, 1e-12), seed=self.seed)
        self.loc = weight("loc", shape, start)
        self.raw_scale = weight("raw_scale", shape)
        self.logits = weight("logits", (self.num_components,))
        super().build(latent_shape)

    def distribution(self):  # noqa: D102
        return NormalMixture(
            tf.convert_to_tensor(self.logits),
            tf.convert_to_tensor(self.loc),
            self.min_scale + (1.0 - self.min_scale) * softplus_scale(self.raw_scale.value),
        )

    def get_config(self):  # noqa: D102
        own = {"num_components": self.num_components, "spread": self.spread}
        own |= {"min_scale": self.min_scale, "seed": self.seed}
        return {**super().get_config(), **own}
