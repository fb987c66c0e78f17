"""Distribution factories: tensors that a network emits become `tfd.Distribution`s.

Networks emit tensors and models build distributions from them, so a distribution never crosses a
Keras layer boundary, and networks save and export unchanged. The last axis of the parameters holds
`params_size(channels)` numbers for each site; `batch_ndims` says how many leading axes are batch.
All arithmetic is in float32, whatever the precision policy of the networks.

Images are floats in [0, 1]; a likelihood over L levels reads pixel value v as level v·(L − 1).
"""

import math

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfvae.distributions.images import BernoulliImage, CategoricalImage, LogisticMixtureImage
from tfvae.distributions.latents import BernoulliLatent, CategoricalLatent
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.registry import Registry

tfd = tfp.distributions

POSTERIORS = Registry("posterior")
LIKELIHOODS = Registry("likelihood")


class Factory:
    """What every factory answers.

    Subclasses set `params_per_channel` (or override `params_size`) and implement `distribution`.

    Attributes:
        kind: of a posterior, what its values are: "continuous", "bernoulli" (0 or 1) or
            "categorical" (one-hot along the last axis). Estimators go by it.
    """

    params_per_channel = 1
    kind = "continuous"

    def params_size(self, channels: int) -> int:
        """Return how many parameters a site with this many channels needs."""
        return channels * self.params_per_channel

    def event_shape(self, params_shape) -> tuple[int, ...]:
        """Return the shape of one value, given that of its parameters (both without batch axes).

        Raises:
            InvalidArgument: the last axis does not hold parameters for a whole number of channels.
        """
        *sites, size = params_shape
        for channels in range(1, size + 1):
            if self.params_size(channels) >= size:
                break
        if self.params_size(channels) != size:
            raise InvalidArgument(
                f"A network that feeds {type(self).__name__} ends in an axis of size {size}; "
                f"expected params_size(channels): {self.params_size(1)} for 1 channel, "
                f"{self.params_size(2)} for 2, {self.params_size(3)} for 3."
            )
        return (*sites, channels)

    def distribution(self, params: tf.Tensor, batch_ndims: int) -> tfd.Distribution:
        """Return the distribution of values, for float32 parameters."""
        raise NotImplementedError

    def __call__(self, params: tf.Tensor, batch_ndims: int = 1) -> tfd.Distribution:
        """Return the distribution whose parameters are `params`, with `batch_ndims` batch axes."""
        return self.distribution(tf.cast(params, tf.float32), batch_ndims)

    def get_config(self) -> dict:
        """Return the constructor arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict):
        """Return the factory with these constructor arguments."""
        return cls(**config)

    def __repr__(self):
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


@POSTERIORS.register("diagonal_normal")
class DiagonalNormal(Factory):
    """q(z|x) = Π_d N(z_d; μ_d, σ_d²), σ = softplus(raw + log(e − 1)), so that raw = 0 gives σ = 1.

    The last axis of the parameters is μ, then raw.
    """

    params_per_channel = 2

    def distribution(self, params, batch_ndims):  # noqa: D102
        loc, raw_scale = tf.split(params, 2, axis=-1)
        return _independent(tfd.Normal(loc, _positive(raw_scale)), batch_ndims)


@POSTERIORS.register("bernoulli")
class IndependentBernoulli(Factory):
    """q(z|x) = Π_d Bernoulli(z_d; sigmoid(logit_d)), z_d ∈ {0, 1}. Parameters: the logits."""

    kind = "bernoulli"

    def distribution(self, params, batch_ndims):  # noqa: D102
        return BernoulliLatent(params, batch_ndims)


@POSTERIORS.register("categorical")
class IndependentCategorical(Factory):
    """q(z|x) = Π_d Categorical(z_d; softmax(logits_d)), z_d one-hot along the last axis.

    Parameters: the logits `[B, ..., C]`, each site of C categories one variable.
    """

    kind = "categorical"

    def distribution(self, params, batch_ndims):  # noqa: D102
        return CategoricalLatent(params, batch_ndims)


class Likelihood(Factory):
    """A factory for p(x|z).

    Attributes:
        num_levels: how many values a pixel can take; None for a density on the real line.
    """

    num_levels: int | None = None

    def check(self, x: np.ndarray, name: str = "x") -> None:
        """Refuse data to which this likelihood gives no meaning.

        Raises:
            InvalidData: `x` is not finite, or lies outside [0, 1] while pixels have levels.
        """
        if not np.all(np.isfinite(x)):
            raise InvalidData(
                f"`{name}` holds {np.count_nonzero(~np.isfinite(x))} values that are infinite or "
                "not a number; expected finite pixels. Clean the data first."
            )
        if self.num_levels and x.size and (x.min() < 0 or x.max() > 1):
            raise InvalidData(
                f"`{name}` has values from {x.min():g} to {x.max():g}; {self.expected()}"
            )

    def takes(self, x: tf.Tensor) -> tf.Tensor:
        """Return whether `check` would take the values of a float32 batch: a scalar, in a graph."""
        # Reductions alone: comparing every value would take several times as long. Under XLA, a
        # minimum and a maximum pass over NaN; a sum does not.
        is_finite = tf.math.is_finite(tf.reduce_sum(x))
        if not self.num_levels:
            return is_finite
        return is_finite & (tf.reduce_min(x) >= 0.0) & (tf.reduce_max(x) <= 1.0)

    def expected(self) -> str:
        """Return what `check` and `takes` want of data, and what to do with other data."""
        if self.num_levels:
            return (
                f"the {type(self).__name__} likelihood expects pixels in [0, 1]. Divide 8-bit "
                "images by 255, or use likelihood='normal'."
            )
        return f"the {type(self).__name__} likelihood expects finite pixels. Clean the data first."

    def off_levels(self, x: np.ndarray) -> float:
        """Return the fraction of values that are not one of the levels: 0 if all is well.

        A likelihood over levels is a probability only of data that lies on them; of grey pixels, a
        Bernoulli's "log-likelihood" is not one.
        """
        if not self.num_levels:
            return 0.0
        level = np.asarray(x, np.float32) * (self.num_levels - 1)
        return float(np.mean(np.abs(level - np.round(level)) > 1e-2))


@LIKELIHOODS.register("bernoulli")
class Bernoulli(Likelihood):
    """Binary pixels: p(x_d = 1 | z) = sigmoid(logit_d). Parameters: the logits."""

    num_levels = 2

    def distribution(self, params, batch_ndims):  # noqa: D102
        return BernoulliImage(params, batch_ndims)


@LIKELIHOODS.register("categorical")
class Categorical(Likelihood):
    """Each channel of each pixel takes one of `num_levels` values with its own softmax.

    Args:
        num_levels: how many values; 256 for 8-bit images.
    """

    def __init__(self, num_levels: int = 256):
        self.num_levels = _check_levels(num_levels)
        self.params_per_channel = self.num_levels

    def distribution(self, params, batch_ndims):  # noqa: D102
        return CategoricalImage(params, batch_ndims, self.num_levels)

    def get_config(self):  # noqa: D102
        return {"num_levels": self.num_levels}


@LIKELIHOODS.register("normal")
class Normal(Likelihood):
    """x_d ~ N(μ_d, σ²): a density, so log p(x) in nats is not comparable with discrete likelihoods.

    Args:
        scale: the fixed σ, or "learned": the network emits μ, then a raw scale, on the last axis,
            and σ_d = softplus(raw + log(e − 1)).
    """

    def __init__(self, scale: float | str = 1.0):
        if scale != "learned" and not (isinstance(scale, (int, float)) and scale > 0):
            raise InvalidArgument(f"`scale` is {scale!r}; expected a positive number or 'learned'.")
        self.scale = scale
        self.params_per_channel = 2 if scale == "learned" else 1

    def distribution(self, params, batch_ndims):  # noqa: D102
        if self.scale != "learned":
            return _independent(tfd.Normal(params, self.scale), batch_ndims)
        loc, raw_scale = tf.split(params, 2, axis=-1)
        return _independent(tfd.Normal(loc, _positive(raw_scale)), batch_ndims)

    def get_config(self):  # noqa: D102
        return {"scale": self.scale}


@LIKELIHOODS.register("discretized_logistic_mixture")
class DiscretizedLogisticMixture(Likelihood):
    """Levels under a mixture of logistics, with channels coupled inside each component.

    Component k gives channel c of a pixel the mass that a logistic of scale s_kc and location
    μ_kc + Σ_{c'<c} a_kcc' x_c' puts on the bin of the level, the outer bins taking the tails.
    Parameters for a pixel of C channels: K logits, then C·K locations, C·K log-scales, and
    K·C(C−1)/2 coefficients before tanh.

    Source: Salimans et al. 2017, "PixelCNN++", sec. 2.1 and 2.2; the mass of a bin is computed
    exactly, without the paper's fallback to the density at the centre.

    Args:
        num_components: K.
        num_levels: how many values; 256 for 8-bit images.
    """

    def __init__(self, num_components: int = 5, num_levels: int = 256):
        if num_components < 1:
            raise InvalidArgument(f"`num_components` is {num_components}; expected at least 1.")
        self.num_components = num_components
        self.num_levels = _check_levels(num_levels)

    def params_size(self, channels):  # noqa: D102
        return self.num_components * (1 + 2 * channels + channels * (channels - 1) // 2)

    def distribution(self, params, batch_ndims):  # noqa: D102
        *_, channels = self.event_shape(params.shape[batch_ndims:])
        return LogisticMixtureImage(
            params, batch_ndims, channels, self.num_components, self.num_levels
        )

    def get_config(self):  # noqa: D102
        return {"num_components": self.num_components, "num_levels": self.num_levels}


def _check_levels(num_levels):
    if num_levels < 2:
        raise InvalidArgument(f"`num_levels` is {num_levels}; expected at least 2.")
    return num_levels


def _independent(distribution, batch_ndims):
    return tfd.Independent(distribution, len(distribution.batch_shape) - batch_ndims)


def _positive(raw):
    return tf.nn.softplus(raw + math.log(math.e - 1.0)) + 1e-6
