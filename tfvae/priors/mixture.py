"""A mixture of normals with learned components."""

import math

import keras
import tensorflow as tf

from tfvae._plain.checks import integer, positive, whole
from tfvae.distributions.normal_mixture import NormalMixture
from tfvae.errors import InvalidArgument
from tfvae.priors.prior import REGISTRY, Prior


@REGISTRY.register("mixture")
class MixturePrior(Prior):
    """p(z) = Σ_c w_c N(z; μ_c, diag(σ_c²)) with learned weights, locations and scales.

    The locations start as normal draws, so that components differ; σ starts at 1 and stays within
    [1/max_scale, max_scale], so that no component can collapse onto one z. At temperature T a
    component is drawn with weights in proportion to w_c^(1/T), and then μ_c + T·σ_c·ε: T = 0 gives
    the mean of the heaviest component.

    Source: Dilokthanakul et al. 2016, "Deep unsupervised clustering with Gaussian mixture
    variational autoencoders"; Tomczak and Welling 2018, "VAE with a VampPrior", sec. 4.3 (MoG).

    Args:
        num_components: C.
        spread: standard deviation of the locations at the start.
        max_scale: bound of σ, above 1.
        seed: decides where the locations start.
    """

    def __init__(
        self,
        num_components: int = 10,
        spread: float = 1.0,
        max_scale: float = 10.0,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_components = whole("num_components", num_components)
        self.spread = positive("spread", spread)
        self.max_scale = positive("max_scale", max_scale)
        if max_scale <= 1:
            raise InvalidArgument(f"`max_scale` is {max_scale!r}; expected a number above 1.")
        self.seed = integer("seed", seed)

    def build(self, latent_shape):
        super().build(latent_shape)
        shape = (self.num_components, *self.latent_shape)
        start = keras.initializers.RandomNormal(stddev=self.spread, seed=self.seed)
        self.logits = self._add("logits", shape[:1])
        self.loc = self._add("loc", shape, start)
        self.raw_scale = self._add("raw_scale", shape)

    def _add(self, name, shape, start="zeros"):
        return self.add_weight(
            shape=shape, initializer=start, name=name, dtype="float32", autocast=False
        )

    def distribution(self):
        bound = math.log(self.max_scale)
        log_scale = bound * tf.tanh(tf.convert_to_tensor(self.raw_scale) / bound)
        return NormalMixture(
            tf.convert_to_tensor(self.logits), tf.convert_to_tensor(self.loc), log_scale
        )

    def get_config(self):
        names = ("num_components", "spread", "max_scale", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
