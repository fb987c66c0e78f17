"""A VAE as an estimator of scikit-learn, for pipelines and grid searches.

Scikit-learn's rules hold: the constructor takes names and numbers without checking them, the names
of fitted attributes end in an underscore, and X is a table `[N, D]`.
"""

import contextlib
import inspect
import random
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from tfvae import likelihoods, networks
from tfvae._plain.checks import positive, whole
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.evaluation import score
from tfvae.likelihoods.support import REALS
from tfvae.models import VAE
from tfvae.optimizers import Adam

_STEPS_AT_ONCE = 100
_ROWS_AT_ONCE = 256  # always equally many, so that a row has the same result in any call


class VAETransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A VAE of the rows of a table: latents, log p(x), and rows from latents.

    Columns of real numbers are standardized with the mean and the standard deviation of the
    training rows. All results are in the units of X, log p(x) included.

    NaN in X is a missing value: where `missing` allows for them, the likelihood is that of the
    observed values, see `tfvae.likelihoods.Observed`. Rows from latents are complete.

    Args:
        latent_size: how many latents each row has.
        hidden: widths of the hidden layers of the encoder; the decoder has them in reverse order.
        likelihood: one of `tfvae.likelihoods.REGISTRY.names()`.
        likelihood_options: its constructor arguments, a dictionary, such as
            `{"blocks": [("normal", 3), ("bernoulli", 2)]}` for "columns". By default those of the
            likelihood itself, but for a `scale`, which is "by_value": trained, one for each column.
        prior: one of `tfvae.priors.REGISTRY.names()` over continuous latents.
        objective: one of `tfvae.objectives.REGISTRY.names()`.
        num_samples: K of the objective, samples of z for each row in a training step.
        beta: weight of the KL in the objective; at 1 it bounds log p(x).
        num_steps: training steps, above 100 rounded up to a multiple of it. The number of passes
            over the data follows from it, so that small tables are trained as long as large ones.
        batch_size: rows in a training step; of a smaller table, all.
        learning_rate: of Adam in the first step; it falls to 0 along a cosine.
        num_score_samples: importance samples for each row, of `score_samples` and `score`.
        missing: whether rows may have missing values; "auto" if the training rows have some. With
            True every fold of a cross-validation takes them, whichever rows it is trained on.
        random_state: an integer for results that are the same in every call, a NumPy
            `RandomState`, or None for NumPy's own.

    Attributes:
        model_: the `tfvae.VAE`, for all that this library does: measures, export, imputation. Its
            x are the standardized rows.
        mean_: what was subtracted of each column, `[D]`; 0 where a column was left as it is.
        scale_: what each was then divided by, `[D]`; 1 where a column was left as it is.
        takes_missing_: whether rows may have missing values.
        loss_curve_: the loss, in nats per row, averaged over each 100 steps.
        n_features_in_, feature_names_in_: as everywhere in scikit-learn.

    Source: Kingma and Welling 2014, "Auto-encoding variational Bayes".
    """

    def __init__(
        self,
        latent_size: int = 2,
        *,
        hidden: tuple[int, ...] = (64,),
        likelihood: str = "normal",
        likelihood_options: dict | None = None,
        prior: str = "standard_normal",
        objective: str = "elbo",
        num_samples: int = 1,
        beta: float = 1.0,
        num_steps: int = 2000,
        batch_size: int = 50,
        learning_rate: float = 3e-3,
        num_score_samples: int = 200,
        missing: str | bool = "auto",
        random_state: int | np.random.RandomState | None = None,
    ):
        self.latent_size = latent_size
        self.hidden = hidden
        self.likelihood = likelihood
        self.likelihood_options = likelihood_options
        self.prior = prior
        self.objective = objective
        self.num_samples = num_samples
        self.beta = beta
        self.num_steps = num_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.num_score_samples = num_score_samples
        self.missing = missing
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> "VAETransformer":
        """Train on the rows of X, `[N, D]`; y is ignored.

        Raises:
            ValueError: an argument of the constructor that cannot be used, or data outside of the
                likelihood's support.
        """
        X = self._rows(X, reset=True)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        likelihood = self._likelihood()
        missing = np.isnan(X)
        self.takes_missing_ = self._takes_missing(bool(missing.any()))
        if missing.all(axis=0).any():
            raise InvalidData(
                f"Column {missing.all(axis=0).argmax()} of X has no observed value: all are NaN. "
                "Leave it out."
            )
        if self.takes_missing_:
            likelihood = likelihoods.Observed(likelihood)
        self.mean_, self.scale_ = _statistics(X, likelihood)
        x = self._standardized(X)
        likelihood.check(x, "X")
        with _seeded(seed):
            self.model_ = self._model(likelihood, X.shape[1], seed)
        steps = whole("num_steps", self.num_steps)
        at_once = min(steps, _STEPS_AT_ONCE)
        epochs = -(-steps // at_once)
        batch_size = min(whole("batch_size", self.batch_size), len(x))
        rate = keras.optimizers.schedules.CosineDecay(
            positive("learning_rate", self.learning_rate), epochs * at_once
        )
        self.model_.compile(
            Adam(rate), objective=self.objective, num_samples=self.num_samples, beta=self.beta
        )
        history = self.model_.fit(
            _batches(x, batch_size, epochs * at_once, seed),
            epochs=epochs,
            steps_per_epoch=at_once,
            shuffle=False,  # they are
            verbose=0,
        )
        self.loss_curve_ = np.array(history.history["loss"])
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the mean of q(z|x) of each row, `[N, latent_size]`."""
        X = self._rows(X)
        return _row_by_row(self.model_.encode, self._standardized(X)).astype(X.dtype)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Return the rows that latents `[N, latent_size]` stand for, the means of p(x|z).

        For a column of categories it is the most probable one.
        """
        check_is_fitted(self)
        X = check_array(X, dtype=[np.float64, np.float32])
        if X.shape[1] != self._n_features_out:
            raise InvalidArgument(
                f"X has {X.shape[1]} columns; expected the {self._n_features_out} latents that "
                "`transform` gives."
            )
        x = _row_by_row(self.model_.decode, X.astype(np.float32))
        return (x * self.scale_ + self.mean_).astype(X.dtype)

    def score_samples(self, X: Any) -> np.ndarray:
        """Return an estimate of log p(x) of each row, in nats, `[N]`; see `tfvae.score`.

        Of columns of real numbers it is a density, in the units of X.
        """
        X = self._rows(X)
        x = self._standardized(X)
        # The same noise for every call, so that scores differ by the rows alone.
        scores = score(
            self.model_,
            x,
            num_samples=self.num_score_samples,
            seed=self.model_.seed,
            progress=False,
        )
        return scores.log_likelihood - np.where(np.isnan(X), 0.0, np.log(self.scale_)).sum(axis=1)

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean of `score_samples`; y is ignored. A grid search maximizes it."""
        return float(np.mean(self.score_samples(X)))

    @property
    def _n_features_out(self):
        return self.model_.latent_shape[0]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _rows(self, X, reset=False):
        """Return a checked table of floats."""
        if not reset:
            check_is_fitted(self)
        floats = [np.float64, np.float32]
        X = validate_data(self, X, reset=reset, dtype=floats, ensure_all_finite="allow-nan")
        if not reset and not self.takes_missing_ and np.isnan(X).any():
            raise InvalidData(
                "X has missing values (NaN), but the training rows had no missing values, so the "
                "model takes none. Fit it with `missing=True`."
            )
        return X

    def _takes_missing(self, are_missing):
        if self.missing not in ("auto", True, False):
            raise InvalidArgument(f"`missing` is {self.missing!r}; expected 'auto', True or False.")
        if are_missing and not self.missing:
            raise InvalidData(
                "X has missing values (NaN), but `missing` is False. Leave these rows out, or set "
                "it to True or 'auto'."
            )
        return are_missing if self.missing == "auto" else bool(self.missing)

    def _standardized(self, X):
        return ((X - self.mean_) / self.scale_).astype(np.float32)

    def _likelihood(self):
        options = self.likelihood_options
        if options is None:
            registry = likelihoods.REGISTRY
            known = (
                registry.part(self.likelihood) if self.likelihood in registry.names() else object
            )
            scaled = "scale" in inspect.signature(known).parameters
            options = {"scale": "by_value"} if scaled else {}
        return likelihoods.get(self.likelihood, **options)

    def _model(self, likelihood, width, seed):
        latent_size = whole("latent_size", self.latent_size)
        widths = self.hidden if np.ndim(self.hidden) else [self.hidden]
        hidden = [whole("hidden", units) for units in widths]
        missing = self.takes_missing_
        encoder = networks.dense_encoder((width,), 2 * latent_size, hidden, missing=missing)
        params_size = likelihood.params_size(width)
        decoder = networks.dense_decoder(latent_size, (params_size,), hidden[::-1])
        return VAE(encoder, decoder, prior=self.prior, likelihood=likelihood, seed=seed)


def _statistics(X, likelihood):
    """Return what to subtract from each column and to divide it by, `[D]` float64 each."""
    real = _real_columns(likelihood, X.shape[1])
    # In powers of two of the largest value, which are exact: its square may overflow or vanish.
    _, power = np.frexp(np.nanmax(np.abs(X), axis=0))
    small = np.ldexp(X, -power)
    mean = np.where(real, np.ldexp(np.nanmean(small, axis=0, dtype=np.float64), power), 0.0)
    scale = np.where(real, np.ldexp(np.nanstd(small, axis=0, dtype=np.float64), power), 1.0)
    # A constant column has a deviation of 0, or of what rounding made of it.
    least = 10 * np.finfo(X.dtype).eps * np.abs(mean)
    return mean, np.where(scale > least, scale, 1.0)


def _real_columns(likelihood, width):
    """Return for each column whether its likelihood is over all real numbers, `[D]`."""
    likelihood = likelihood.complete()
    if isinstance(likelihood, likelihoods.Columns):
        pairs = zip(likelihood.likelihoods, likelihood.sizes, strict=True)
        return np.concatenate([_real_columns(part, size) for part, size in pairs])
    return np.full(width, likelihood.is_density and likelihood.support == REALS)


def _batches(x, batch_size, num_steps, seed):
    """Return batches to train on: one pass over all rows after the other, each in its own order."""
    rng = np.random.default_rng(seed)
    passes = -(-num_steps * batch_size // len(x))
    order = np.concatenate([rng.permutation(len(x)) for _ in range(passes)])
    order = order[: num_steps * batch_size].reshape(num_steps, batch_size)
    with tf.device("CPU"):
        x = tf.constant(x)  # an input of the map; an array would be a constant of its graph
    batches = tf.data.Dataset.from_tensor_slices(order)
    return batches.map(lambda rows: tf.gather(x, rows)).prefetch(2)


def _row_by_row(function, rows):
    """Return the output of a network for rows, each independent of the rows beside it."""
    results = []
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[start : start + _ROWS_AT_ONCE]
        filled = np.zeros((_ROWS_AT_ONCE, *rows.shape[1:]), np.float32)
        filled[: len(part)] = part
        results.append(np.asarray(function(tf.constant(filled)))[: len(part)])
    return np.concatenate(results)


@contextlib.contextmanager
def _seeded(seed):
    """Have Keras draw its weights from a seed, and leave the state of Python's generator alone."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
