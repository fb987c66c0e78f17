"""The contract of a gradient estimator, and what the families share."""

from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

from tfvae import objectives
from tfvae.errors import InvalidArgument
from tfvae.objectives import LogWeightTerms
from tfvae.registry import Registry

REGISTRY = Registry("estimator")
get = REGISTRY.get


class Estimate(NamedTuple):
    """What an estimator returns.

    Attributes:
        surrogate: `[B]`; its value is the objective's, its gradient the estimator's.
        terms: the parts of the log-weights it used, for the metrics.
        statistics: what `Estimator.update` takes, or None.
    """

    surrogate: tf.Tensor
    terms: LogWeightTerms
    statistics: tf.Tensor | None = None


class Estimator(keras.layers.Layer):
    """A gradient estimator; a Keras layer, so that what it learns is trained and saved.

    A subclass implements `estimate`, and says in class attributes what it fits:

    Attributes:
        latents: the kinds of latents whose gradient it gives.
        linear_only: whether the objective must be a mean of log-weights.
        min_samples: the smallest K.
        is_unbiased: whether its expectation is the gradient of the objective.
        takes_exact_kl: whether KL(q‖p) may be exact where the objective is linear.
    """

    latents = ("continuous", "bernoulli", "categorical")
    linear_only = False
    min_samples = 1
    is_unbiased = True
    takes_exact_kl = False

    def estimate(
        self, objective: Callable, model, x, num_samples: int, beta, seed, training: bool
    ) -> Estimate:
        """Return the surrogate of a batch x `[B, *x_shape]`, inside the caller's gradient tape.

        Args:
            objective: `[K, B] -> [B]`.
            model: a `LatentVariableModel`.
            x: the batch.
            num_samples: K.
            beta: weight of the KL term.
            seed: `[2]` int32.
            training: whether the networks run in training mode, and the estimator's own parts are
                trained.
        """
        raise NotImplementedError

    def prepare(self, model) -> None:
        """Add the weights of the estimator, for a model that is built and compiled with it."""
        self.built = True

    def update(self, statistics: tf.Tensor) -> None:
        """Take in the statistics of a batch; called once a training step, after the gradient."""

    @classmethod
    def misfit(cls, kinds, objective, num_samples: int) -> str | None:
        """Return why it does not fit the latents, objective or K; None if it does."""
        wrong = sorted(set(kinds) - set(cls.latents))
        if wrong:
            return f"it does not give the gradient of {' or '.join(wrong)} latents"
        wanted = getattr(objective, "estimator", None)
        if wanted and REGISTRY.part(wanted) is not cls:
            return f"the objective {wanted!r} goes with the estimator {wanted!r} alone"
        if cls.linear_only and not objectives.is_linear(objective):
            return "it needs an objective that is a mean of log-weights, such as 'elbo'"
        if num_samples < cls.min_samples:
            return f"it needs num_samples of at least {cls.min_samples}, got {num_samples}"
        return None

    def check(self, kinds, objective, num_samples: int) -> None:
        """Refuse what the estimator does not fit.

        Raises:
            InvalidArgument: with the estimators that do fit.
        """
        reason = self.misfit(kinds, objective, num_samples)
        if reason is None:
            return
        fitting = names(lambda cls: cls.misfit(kinds, objective, num_samples) is None)
        raise InvalidArgument(
            f"The estimator {registered_name(type(self))!r} does not fit: {reason}. "
            f"Estimators that fit: {', '.join(fitting) or 'none'}."
        )


def names(predicate: Callable[[type[Estimator]], bool] = lambda cls: True) -> list[str]:
    """Return the names of the registered estimators whose class satisfies `predicate`."""
    return [name for name in REGISTRY.names() if predicate(REGISTRY.part(name))]


def registered_name(cls: type[Estimator]) -> str:
    """Return the name of an estimator's class."""
    return next((n for n in REGISTRY.names() if REGISTRY.part(n) is cls), cls.__name__)


def zero(tensor: tf.Tensor) -> tf.Tensor:
    """Return 0 with the gradient of `tensor`: what changes a gradient and no value."""
    return tensor - tf.stop_gradient(tensor)


def coefficients(objective: Callable, log_weights: tf.Tensor) -> tf.Tensor:
    """Return ∂ objective / ∂ log w_k, `[K, B]`, as constants."""
    log_weights = tf.stop_gradient(log_weights)
    with tf.GradientTape() as tape:
        tape.watch(log_weights)
        total = tf.reduce_sum(objectives.for_encoder(objective)(log_weights))
    return tf.stop_gradient(tape.gradient(total, log_weights))


def by_sample(objective: Callable, log_weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the learning signal of each sample, `[K, B]`, and the encoder's objective, `[B]`.

    The signal is log w_k/K for a mean of log-weights, since the other samples do not depend on z_k;
    for any other objective it is the objective itself.
    """
    objective = objectives.for_encoder(objective)
    total = objective(log_weights)
    if objectives.is_linear(objective):
        return log_weights / tf.cast(tf.shape(log_weights)[0], tf.float32), total
    return tf.broadcast_to(total, tf.shape(log_weights)), total


def draw_layers(chain, num_samples: int, seeds) -> tuple[list, list, list]:
    """Draw the stochastic layers of a discrete chain from the bottom up.

    Returns:
        The distribution of each layer, its noise, and its value.
    """
    layers, noises, values = [], [], []
    for number in range(chain.num_layers):
        layers.append(chain.layer(number, values))
        # The samples are an axis of the first layer's draws, and of the others' batch.
        noises.append(layers[-1].draw_noise(() if number else (num_samples,), seeds[number]))
        values.append(layers[-1].harden(layers[-1].perturb(noises[-1])))
    return layers, noises, values


def replace_one(log_weights: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Return the log-weights with sample k replaced by `others[k]`, for every k: `[K, K, B]`.

    The first axis is the samples of the objective, the second which one was replaced.
    """
    same = tf.eye(tf.shape(log_weights)[0], dtype=tf.bool)[:, :, tf.newaxis]
    return tf.where(same, others[tf.newaxis], log_weights[:, tf.newaxis])


def of_each(objective: Callable, log_weights: tf.Tensor) -> tf.Tensor:
    """Return the objective over the first axis of `[K, N, B]`, as `[N, B]`."""
    shape = tf.shape(log_weights)
    return tf.reshape(objective(tf.reshape(log_weights, [shape[0], -1])), shape[1:])
