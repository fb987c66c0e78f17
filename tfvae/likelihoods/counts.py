"""Distributions of counts whose means may scale with an example's total."""

import tensorflow as tf

from tfvae import distributions
from tfvae._plain.checks import choice, positive
from tfvae.distributions import tfd
from tfvae.distributions.draws import NUMBERS_OF_COUNT
from tfvae.distributions.factory import independent
from tfvae.errors import InvalidArgument
from tfvae.likelihoods.likelihood import Likelihood
from tfvae.likelihoods.support import COUNTS

SIZE_FACTORS = ("total",)
LARGEST_LOG_MEAN = 20.0


class Counts(Likelihood):
    """Counts x_d with means μ_d = exp(parameter), or with a size factor for each example.

    With `size_factor="total"`, μ = s(x) · softmax(parameters), where s(x) = Σ_d x_d is the total of
    the example, as in single-cell models: z explains the composition of the total and not its size.
    With zeros in excess, these are the means of the counts before the zeros. In samples and
    reconstructions, where there is no x, s is `target_sum`.

    In log p, s is a covariate, as if it were measured beside x: for each s there is a distribution
    of all counts. With s = s(x) the number is neither log p(x) nor log p(x) given the total, since
    its exponential sums to 1 neither over all x nor over those of one total. It compares models
    with a size factor with each other, but not with models without one.

    Source: Lopez et al. 2018, "Deep generative modeling for single-cell transcriptomics".

    Args:
        size_factor: None or "total".
        target_sum: s in samples, with a size factor.
    """

    is_density = False

    def __init__(self, size_factor: str | None = None, target_sum: float = 1e4, **kwargs):
        super().__init__(**kwargs)
        self.size_factor = (
            None if size_factor is None else choice("size_factor", size_factor, SIZE_FACTORS)
        )
        self.target_sum = positive("target_sum", target_sum)
        if size_factor is None and target_sum != 1e4:
            raise InvalidArgument(
                f"`target_sum` is {target_sum!r} and `size_factor` is None, so that nothing is "
                "scaled to it. Set size_factor='total', or leave `target_sum` out."
            )

    @property
    def missing_unit(self):
        """None with a size factor: without all of its values an example has no total."""
        return "value" if self.size_factor is None else None

    @property
    def support(self):
        return COUNTS

    def draw_width(self, channels):
        return NUMBERS_OF_COUNT * channels

    def of_means(self, log_mean, batch_ndims: int, make) -> tfd.Distribution:
        """Return the distribution of counts with these means, or with shares of s as means.

        Args:
            log_mean: `[batch..., *event]`.
            batch_ndims: how many axes of it are batch.
            make: from log μ to a distribution of single counts.
        """
        if self.size_factor is None:
            log_mean = tf.minimum(log_mean, LARGEST_LOG_MEAN)
            return independent(make(log_mean), batch_ndims)
        axes = list(range(batch_ndims, len(log_mean.shape)))
        log_shares = log_mean - tf.reduce_logsumexp(log_mean, axis=axes, keepdims=True)
        return _OfTotal(log_shares, batch_ndims, make, self.target_sum)

    def get_config(self):
        own = {"size_factor": self.size_factor, "target_sum": self.target_sum}
        return own | super().get_config()


class _OfTotal(tfd.Distribution):
    """Counts with means μ that are shares of the total of the x whose log p is computed."""

    def __init__(self, log_shares, batch_ndims, make, target_sum):
        self._log_shares, self._batch_ndims = log_shares, batch_ndims
        self._make, self._target_sum = make, target_sum
        super().__init__(
            dtype=tf.float32,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            name="CountsOfTotal",
        )

    def _batch_shape(self):
        return self._log_shares.shape[: self._batch_ndims]

    def _batch_shape_tensor(self):
        return tf.shape(self._log_shares)[: self._batch_ndims]

    def _event_shape(self):
        return self._log_shares.shape[self._batch_ndims :]

    def _event_shape_tensor(self):
        return tf.shape(self._log_shares)[self._batch_ndims :]

    def _given(self, total):
        return self._make(self._log_shares + tf.math.log(total))

    def log_prob_by_value(self, x):
        """Return log p of each count with the total of x as the covariate, `[..., *event]`."""
        axes = list(range(-len(self.event_shape), 0))
        total = tf.maximum(tf.reduce_sum(x, axis=axes, keepdims=True), 1.0)  # of an empty example
        return self._given(total).log_prob(x)

    def _log_prob(self, x):
        axes = list(range(-len(self.event_shape), 0))
        return tf.reduce_sum(self.log_prob_by_value(x), axis=axes)

    def _sample_n(self, n, seed=None):
        return self._given(self._target_sum).sample(n, seed=seed)

    def _mean(self):
        return self._given(self._target_sum).mean()

    def draw(self, seed, index, temperature=1.0):
        """Return draws number `index`, of counts about shares of `target_sum`."""
        counts = independent(self._given(self._target_sum), self._batch_ndims)
        return distributions.draw(counts, seed, index, temperature)
