"""Examples with missing values."""

import keras
import numpy as np
import tensorflow as tf

from tfvae import distributions, random
from tfvae.distributions import tfd
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.likelihoods.likelihood import REGISTRY, Likelihood, get
from tfvae.likelihoods.missingness import MISSINGNESS, Missingness


@REGISTRY.register("observed")
class Observed(Likelihood):
    """log p(x_obs|z) = Σ_d log p(x_d|z) over the observed values d, under another likelihood.

    A value of x that is NaN is missing: it is left out of the sum, and its parameters get a
    gradient of exactly zero. Bounds and measures are then those of the observed values: with the
    objective "iwae" this is MIWAE. It is the likelihood of data that is missing at random: whether
    a value is missing may depend on the observed values, but not on the missing ones.

    The encoder has to take NaN: the networks of `tfvae.networks` do with `missing=True`, others
    begin with `tfvae.networks.ZeroImputation()`. Samples and reconstructions are complete.

    If whether a value is missing depends on the value itself, a model p(s|x) of the mask s is
    needed, `missingness`. The missing values are then drawn from p(x|z) for each z, and log
    p(x_obs|z) + log p(s|x_obs, x_mis) takes the place of log p(x_obs|z): with the objective "iwae"
    this is not-MIWAE.

    Source: Mattei and Frellsen 2019, "MIWAE: deep generative modelling and imputation of incomplete
    data sets", eq. 4; Ipsen, Mattei and Frellsen 2021, "not-MIWAE: deep generative modelling with
    missing not at random data", eq. 5.

    Args:
        likelihood: of complete examples, a name or an object.
        options: constructor arguments of a likelihood that is given by name.
        missingness: one of `tfvae.likelihoods.MISSINGNESS.names()`, or a
            `tfvae.likelihoods.Missingness`; None where values are missing at random.

    Raises:
        InvalidArgument: a likelihood under which no single value can be left out.
    """

    def __init__(
        self,
        likelihood: str | Likelihood = "normal",
        options: dict | None = None,
        missingness: str | Missingness | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.likelihood = get(likelihood, **(options or {}))
        self.missingness = None if missingness is None else MISSINGNESS.get(missingness)
        if self.likelihood.missing_unit is None:
            raise InvalidArgument(
                f"{self.likelihood!r} takes no example with missing values, because the density of "
                "each value depends on the others. Leave out a size factor, give a mixture over "
                "several channels a model of its own, or put Observed around all columns."
            )

    def complete(self):
        return self.likelihood

    @property
    def num_levels(self):
        return self.likelihood.num_levels

    @property
    def is_density(self):
        return self.likelihood.is_density

    @property
    def draws_values(self):
        return self.likelihood.draws_values

    def draw_width(self, channels):
        return self.likelihood.draw_width(channels)

    @property
    def unbounded(self):
        """The unbounded parameters of the likelihood of complete examples."""
        return self.likelihood.unbounded

    @property
    def support(self):
        return self.likelihood.support

    @property
    def missing_unit(self):
        """None: its values may be missing already."""
        return None

    def build(self, params_shape):
        if not self.likelihood.built:  # a loaded one is
            self.likelihood.build(params_shape)
        if self.missingness is not None:
            trial = self.likelihood.distribution(tf.zeros([1, *params_shape]), 1)
            if trial.reparameterization_type != tfd.FULLY_REPARAMETERIZED:
                raise InvalidArgument(
                    "`missingness` draws missing values within the bound, and the draws of "
                    f"{self.likelihood!r} have no gradient. Use a density such as 'normal', "
                    "'student_t' or 'log_normal', or leave `missingness` out."
                )
            if not self.missingness.built:
                self.missingness.build(self.event_shape(params_shape))
        super().build(params_shape)

    def params_size(self, channels):
        return self.likelihood.params_size(channels)

    def event_shape(self, params_shape):
        return self.likelihood.event_shape(params_shape)

    def check(self, x, name="x"):
        """Refuse data whose observed values have no meaning, and rows without an observed value."""
        missing = np.isnan(x)
        rows = np.flatnonzero(missing.reshape(len(x), -1).all(axis=1))
        if len(rows):
            more = f", nor in {len(rows) - 1} others" if len(rows) > 1 else ""
            raise InvalidData(
                f"`{name}` has no observed value in row {rows[0]}{more}: all are NaN. Expected at "
                "least one in every row; leave such rows out."
            )
        apart = np.flatnonzero(self._apart(missing).numpy().reshape(len(x), -1).any(axis=1))
        if len(apart):
            raise InvalidData(
                f"`{name}` has a site in row {apart[0]} of which some channels are missing and "
                f"others are not, but under {type(self.likelihood).__name__} the channels of a "
                "site depend on each other; expected all or none of them to be missing."
            )
        # By the smallest observed value, so that a message says only what is in the data.
        smallest = np.fmin.reduce(x, axis=0)
        usual = np.where(np.isnan(smallest), self.placeholder(x.shape[-1]), smallest)
        self.likelihood.check(np.where(missing, usual, x), name)

    def takes(self, x):
        missing = tf.math.is_nan(x)
        some = tf.reduce_any(~missing, axis=list(range(1, len(x.shape))))
        fits = tf.reduce_all(some) & ~tf.reduce_any(self._apart(missing))
        return fits & self.likelihood.takes(self.filled(x))

    def _apart(self, missing):
        """Return the sites of which some channels are missing and others are not."""
        if self.likelihood.missing_unit == "value":
            return tf.zeros(tf.shape(missing)[:1], tf.bool)
        return tf.reduce_any(missing, axis=-1) & ~tf.reduce_all(missing, axis=-1)

    def expected(self):
        return f"{self.likelihood.expected()} NaN is a missing value; every row needs another one."

    def off_levels(self, x):
        return self.likelihood.off_levels(self.filled(tf.constant(x, tf.float32)).numpy())

    def placeholder(self, channels):
        return self.likelihood.placeholder(channels)

    def filled(self, x):
        """Return x with a value in place of each that is missing: one that the support holds."""
        usual = tf.constant(self.placeholder(x.shape[-1]), tf.float32)
        return tf.where(tf.math.is_nan(x), usual, x)

    def weigh(self, p_x, x, seed=None):
        """Return log p(x_obs|z), with log p(s|x) of a drawn x beside it if there is `missingness`.

        Raises:
            InvalidArgument: there is, and no seed to draw by.
        """
        if self.missingness is None:
            return p_x.log_prob(x), x
        if seed is None:
            raise InvalidArgument(
                "The likelihood has a model of the mask, so that log p(x|z) itself has no closed "
                "form: it is estimated by draws of missing values. Use tfvae.log_likelihood or "
                "tfvae.impute, which make them."
            )
        missing = tf.math.is_nan(x)
        drawn, _ = distributions.sample_and_log_prob(p_x.complete, [], _seed_of_missing(seed))
        completed = tf.where(missing, drawn, x)
        return p_x.log_prob(x) + self.missingness.log_prob(missing, completed), completed

    def distribution(self, params, batch_ndims):
        return _Observed(self.likelihood.distribution(params, batch_ndims), self.filled)

    def get_config(self):
        parts = {"likelihood": self.likelihood, "missingness": self.missingness}
        own = {name: keras.saving.serialize_keras_object(part) for name, part in parts.items()}
        return own | super().get_config()


def _seed_of_missing(seed):
    """Return the seed of what is drawn beside the latents of `seed`."""
    # Of two words that no layer of latents has.
    return random.fold_in(seed, int(random.Stream.IMPUTE), 0)


class _Observed(tfd.Distribution):
    """A distribution of complete examples, with the density of the observed values of others."""

    def __init__(self, complete, filled):
        self.complete, self._filled = complete, filled
        super().__init__(
            dtype=tf.float32,
            reparameterization_type=complete.reparameterization_type,
            validate_args=False,
            allow_nan_stats=True,
            name="Observed",
        )

    def _batch_shape(self):
        return self.complete.batch_shape

    def _batch_shape_tensor(self):
        return self.complete.batch_shape_tensor()

    def _event_shape(self):
        return self.complete.event_shape

    def _event_shape_tensor(self):
        return self.complete.event_shape_tensor()

    def log_prob_by_value(self, x):
        """Return log p of each value, 0 of a missing one, `[..., *event]`."""
        # The missing ones are replaced before log p, since the gradient of what `tf.where` leaves
        # out is 0 times its derivative: it must not be infinite or NaN.
        by_value = distributions.log_prob_by_value(self.complete, self._filled(x))
        return tf.where(tf.math.is_nan(x), 0.0, by_value)

    def _log_prob(self, x):
        axes = list(range(-len(self.event_shape), 0))
        return tf.reduce_sum(self.log_prob_by_value(x), axis=axes)

    def _sample_n(self, n, seed=None):
        return self.complete.sample(n, seed=seed)

    def _mean(self):
        return self.complete.mean()

    def representative(self):
        """Return what stands for complete examples."""
        return distributions.representative(self.complete)

    def draw(self, seed, index, temperature=1.0):
        """Return draws number `index` of complete examples."""
        return distributions.draw(self.complete, seed, index, temperature)
