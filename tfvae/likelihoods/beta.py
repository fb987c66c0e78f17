"""Beta densities."""

import tensorflow as tf

from tfvae.distributions import tfd
from tfvae.distributions.factory import independent
from tfvae.likelihoods.likelihood import REGISTRY, Likelihood
from tfvae.likelihoods.scales import WithScale
from tfvae.likelihoods.support import interval


@REGISTRY.register("beta")
class Beta(WithScale, Likelihood):
    """x_d ~ Beta(m φ + ε, (1 − m) φ + ε), m = sigmoid(logit_d): shares and rates inside (0, 1).

    ε = 10⁻³ keeps the parameters away from 0. But for it, the mean is m and the variance
    m (1 − m) / (1 + φ).

    Args:
        precision: φ.

            - A number: fixed.
            - "shared": one trained number for all values and examples, from 1.
            - "by_value": a trained number for each value (column, gene, pixel), from 1.
            - "learned": the network emits it, softplus(raw + log(e − 1)), behind the logits on
              the last axis.
    """

    def __init__(self, precision: float | str = "learned", **kwargs):
        super().__init__(precision, "precision", **kwargs)
        self.unbounded = {"logits": (0, 1 / self.params_per_channel)}

    @property
    def support(self):
        return interval(0.0, 1.0, is_open=True)._replace(
            remedy="Move values off the ends, as (x (N − 1) + 1/2) / N does for N examples, or use "
            "likelihood='continuous_bernoulli', which takes 0 and 1."
        )

    def distribution(self, params, batch_ndims):
        (logits,), precision = self.split(params)
        a, b = (1e-3 + tf.sigmoid(sign * logits) * precision for sign in (1.0, -1.0))
        return independent(_Beta(a, b), batch_ndims)


class _Beta(tfd.Beta):
    """Whose samples stay inside (0, 1), where rounding would take them to an end."""

    def _sample_n(self, n, seed=None):
        return tf.clip_by_value(super()._sample_n(n, seed), 1e-30, 1.0 - 1e-7)
