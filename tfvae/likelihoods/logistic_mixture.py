"""Levels under a mixture of logistics."""

from typing import ClassVar

from tfvae._plain.checks import whole
from tfvae.distributions.images import LogisticMixtureImage
from tfvae.likelihoods.likelihood import REGISTRY, Likelihood, check_levels


@REGISTRY.register("discretized_logistic_mixture")
class DiscretizedLogisticMixture(Likelihood):
    """Levels under a mixture of logistics, with channels coupled inside each component.

    Component k gives channel c of a pixel the mass that a logistic of scale s_kc and location
    μ_kc + Σ_{c'<c} a_kcc' x_c' puts on the bin of the level, the outer bins taking the tails.
    Parameters for a pixel of C channels: K logits, then C·K locations, C·K log-scales, and
    K·C(C−1)/2 coefficients before tanh.

    Source: Salimans et al. 2017, "PixelCNN++", sec. 2.1 and 2.2; the mass of a bin is computed
    without cancellation, so without the paper's fallback to the density at the centre. It is that
    of a scale of at least 1/(12 (L − 1)) on [−1, 1], for L levels.

    Args:
        num_components: K.
        num_levels: how many values; 256 for 8-bit images.
    """

    is_density = False
    missing_unit = "site"
    # Locations, which may be bounded, lie in the first two thirds, whatever the channels.
    unbounded: ClassVar = {"log-scales and coefficients": (2 / 3, 1)}

    def __init__(self, num_components: int = 5, num_levels: int = 256, **kwargs):
        super().__init__(**kwargs)
        self.num_components = whole("num_components", num_components)
        self.num_levels = check_levels(num_levels)

    def params_size(self, channels):
        return self.num_components * (1 + 2 * channels + channels * (channels - 1) // 2)

    def distribution(self, params, batch_ndims):
        *_, channels = self.event_shape(params.shape[batch_ndims:])
        return LogisticMixtureImage(
            params, batch_ndims, channels, self.num_components, self.num_levels
        )

    def get_config(self):
        own = {"num_components": self.num_components, "num_levels": self.num_levels}
        return own | super().get_config()
