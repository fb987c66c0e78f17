"""The contract of a gradient estimator, and functions that the families share."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfvae import objectives
from tfvae.bound import Bound, LogWeightTerms
from tfvae.errors import InvalidArgument
from tfvae.joint import Infer
from tfvae.registry import Registry

REGISTRY = Registry("estimator")
get = REGISTRY.get


class Estimate(NamedTuple):
    """What an estimator returns.

    Attributes:
        surrogate: `[B]`, with the value of the bound and the gradient of the estimator.
        terms: the parts of the log-weights it used, for the metrics.
        statistics: what `Estimator.update` takes, or None.
        penalty: what the objective subtracts for the batch as a whole, `[B]`, which the surrogate
            already contains; None for nothing.
    """

    surrogate: tf.Tensor
    terms: LogWeightTerms
    statistics: object | None = None
    penalty: tf.Tensor | None = None


class Estimator(keras.layers.Layer):
    """A gradient estimator, as a Keras layer, so that its weights are saved with the model.

    An estimator decides how the layers of a pass are drawn and how its terms are weighted; it never
    sees a network. A subclass implements `estimate`, and says in class attributes what it fits:

    Attributes:
        latents: the kinds of latents whose gradient it gives.
        linear_only: whether the objective must be a mean of log-weights.
        min_samples: the smallest K.
        is_unbiased: whether its expectation is the gradient of the objective, for the encoder up to
            a positive factor.
        takes_exact_kl: whether KL(q‖p) may be exact where the objective is linear.
        needs_log_prob: whether it asks for log q(z|x) of a z that is held fixed, which an inverse
            autoregressive posterior does not give.
        takes_betas: whether β may differ from layer to layer.
        takes_penalty: whether it differentiates what an objective subtracts for a whole batch.
    """

    latents = ("continuous", "bernoulli", "categorical")
    linear_only = False
    min_samples = 1
    is_unbiased = True
    takes_exact_kl = False
    needs_log_prob = True
    takes_betas = True
    takes_penalty = False

    def estimate(
        self, bound: Bound, infer: Infer, context: tf.Tensor, seed: tf.Tensor, training: bool
    ) -> Estimate:
        """Return the surrogate of a batch, inside the caller's gradient tape.

        Args:
            bound: what is estimated.
            infer: the pass over the batch, from a `draw` (see `tfvae.joint`) to a `Joint`; it may
                be called several times.
            context: the batch x, `[B, *x_shape]`, for baselines that depend on it.
            seed: `[2]` int32.
            training: whether the estimator's own parts are trained.
        """
        raise NotImplementedError

    def prepare(self, model: keras.Model, bound: Bound) -> None:
        """Add the weights of the estimator, for a built model and the bound that `compile` sets."""
        self.built = True

    def is_prepared_for(self, **shapes: tuple) -> bool:
        """Whether the weights are made; they are of these shapes.

        Raises:
            InvalidArgument: they were made for a model of other shapes.
        """
        if self.built and self._shapes != shapes:
            raise InvalidArgument(
                f"The estimator {registered_name(type(self))!r} has weights for a model of "
                f"{_shapes(self._shapes)}; here it is {_shapes(shapes)}. Make another one for this "
                "model."
            )
        self._shapes = shapes
        return self.built

    def update(self, statistics: Any) -> None:
        """Take in the statistics of a batch; called once a training step, after the gradient."""

    @classmethod
    def misfit(cls, posteriors: Sequence, objective: Callable, num_samples: int) -> str | None:
        """Return why the estimator does not fit the posteriors, objective or K; None if it does."""
        wrong = sorted({posterior.kind for posterior in posteriors} - set(cls.latents))
        if wrong:
            return f"it does not give the gradient of {' or '.join(wrong)} latents"
        unknown = [p for p in posteriors if not p.has_log_prob]
        two_gradients = objectives.for_encoder(objective) is not objective
        if unknown and (cls.needs_log_prob or two_gradients):
            return (
                f"it needs log q(z|x) of a z that is held fixed, and {type(unknown[0]).__name__} "
                "gives it only of what it draws"
            )
        wanted = getattr(objective, "estimator", None)
        if wanted and REGISTRY.part(wanted) is not cls:
            return f"the objective {wanted!r} goes with the estimator {wanted!r} alone"
        if objectives.penalty(objective) is not None:
            if not cls.takes_penalty:
                return "the objective has a penalty on the whole batch, which it does not take"
            if len(posteriors) > 1:
                return (
                    "the objective's penalty is on the aggregate posterior of one stochastic "
                    f"layer, and the model has {len(posteriors)}"
                )
        if cls.linear_only and not objectives.is_linear(objective):
            return "it needs an objective that is a mean of log-weights, such as 'elbo'"
        if num_samples < cls.min_samples:
            return f"it needs num_samples of at least {cls.min_samples}, got {num_samples}"
        return None

    def check(self, posteriors: Sequence, objective: Callable, num_samples: int) -> None:
        """Refuse what the estimator does not fit.

        Raises:
            InvalidArgument: with the estimators that do fit.
        """
        reason = self.misfit(posteriors, objective, num_samples)
        if reason is None:
            return
        fitting = names(lambda cls: cls.misfit(posteriors, objective, num_samples) is None)
        raise InvalidArgument(
            f"The estimator {registered_name(type(self))!r} does not fit: {reason}. "
            f"Estimators that fit: {', '.join(fitting) or 'none'}."
        )


def _shapes(shapes):
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())


def names(predicate: Callable[[type[Estimator]], bool] = lambda cls: True) -> list[str]:
    """Return the names of the registered estimators whose class satisfies `predicate`."""
    return [name for name in REGISTRY.names() if predicate(REGISTRY.part(name))]


def registered_name(cls: type[Estimator]) -> str:
    """Return the name of an estimator's class."""
    return next((n for n in REGISTRY.names() if REGISTRY.part(n) is cls), cls.__name__)


def objective_gradient(objective: Callable, log_weights: tf.Tensor) -> tf.Tensor:
    """Return ∂L/∂ log w_k of the encoder's objective L, `[K, B]`, as constants."""
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


class Drawn(NamedTuple):
    """A layer of discrete latents as it was drawn: z = harden(perturb(noise)).

    Attributes:
        q: its distribution, with logits.
        noise: uniforms in (0, 1), `[K, B, *shape]`.
        z: its value.
        sample_shape: `(K,)` for the layer drawn first, `()` for the others, whose q has K in its
            batch.
    """

    q: object
    noise: tf.Tensor
    z: tf.Tensor
    sample_shape: tuple[int, ...]


def discrete_sampler(num_samples: int, seeds) -> tuple[Callable, dict[int, Drawn]]:
    """Return a `draw` of K samples of discrete layers, and what it has drawn, in order, by layer.

    Args:
        num_samples: K, an axis of the first layer's draws and of the others' batch.
        seeds: function from a layer's number to its seed.
    """
    drawn = {}

    def draw(number, q):
        sample_shape = () if drawn else (num_samples,)
        noise = q.draw_noise(sample_shape, seeds(number))
        z = q.harden(q.perturb(noise))
        drawn[number] = Drawn(q, noise, z, sample_shape)
        return z, q.log_prob(z)

    return draw, drawn


def of_layer(values: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Return values `[K, B]` with as many axes as `like` `[K, B, ...]`."""
    ones = tf.ones(len(like.shape) - 2, tf.int32)
    return tf.reshape(values, tf.concat([tf.shape(values), ones], 0))


def sum_event(values: tf.Tensor) -> tf.Tensor:
    """Return values `[K, B, ...]` summed over the axes after the batch, `[K, B]`."""
    return tf.reduce_sum(values, axis=list(range(2, len(values.shape))))


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
