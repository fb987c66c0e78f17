"""Likelihood-ratio (score-function) estimators, ∇ log q(z) · (f(z) − baseline), over K samples.

They need no derivative of z, so they fit any latent. Of an objective L, let f_k be the learning
signal of sample k, and signal_k = f_k − b_k, where the baseline b_k does not depend on z_k. Then

    E[Σ_k ∇ log q(z_k) · signal_k] = ∇_q E[L],

the derivative through the law of the samples, and the baselines differ in how much variance they
leave. For a mean of log-weights f_k = log w_k/K, since the other samples are independent of z_k;
for any other objective it is L for every k. The derivative of L through log q at fixed z is added.
"""

from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

from tfvae import objectives, replicas
from tfvae._plain.checks import below_one, whole
from tfvae.bound import Bound
from tfvae.errors import InvalidArgument
from tfvae.estimators.estimator import (
    REGISTRY,
    Estimate,
    Estimator,
    by_sample,
    objective_gradient,
    of_each,
    replace_one,
)
from tfvae.joint import Joint, sampler
from tfvae.optimizers import all_finite, assign_if
from tfvae.surrogates import gradient_only


class Centred(NamedTuple):
    """A learning signal less its baseline.

    Attributes:
        signal: `[K, B]`.
        statistics: what `update` takes, or None.
        own_loss: what the baseline's own weights minimize, `[B]`, or 0.
        scale: factor of the encoder's whole gradient.
    """

    signal: tf.Tensor
    statistics: tf.Tensor | None = None
    own_loss: tf.Tensor | float = 0.0
    scale: tf.Tensor | float = 1.0


@REGISTRY.register("score_function")
class ScoreFunction(Estimator):
    """The plain likelihood-ratio estimator, without a baseline (REINFORCE).

    Source: Williams 1992, "Simple statistical gradient-following algorithms"; Paisley, Blei and
    Jordan 2012, "Variational Bayesian inference with stochastic search", eq. 3.
    """

    def estimate(self, bound, infer, context, seed, training):
        joint = infer(fixed_sampler(bound.num_samples, seed))
        terms = bound.terms(joint)
        log_w = bound.log_weights(terms)
        centred = self.centre(bound.objective, log_w, signal(bound, log_w), context)
        surrogate = with_score(bound, joint, log_w, centred.signal, centred.scale)
        surrogate -= gradient_only(centred.own_loss)
        return Estimate(surrogate, terms, centred.statistics if training else None)

    def centre(
        self,
        objective: Callable,
        log_weights: tf.Tensor,
        learning_signal: tf.Tensor,
        context: tf.Tensor,
    ) -> Centred:
        """Return the signal less its baseline, and what comes with it.

        Args:
            objective: `[K, B] -> [B]`.
            log_weights: `[K, B]`.
            learning_signal: f, `[K, B]`, a constant.
            context: the batch x, for baselines that depend on it.
        """
        return Centred(learning_signal)


def fixed_sampler(num_samples: int, seed) -> Callable:
    """Return the draw of K samples that are constants; log q keeps its gradient at fixed z."""
    draw_sample = sampler(num_samples, seed)

    def draw(number, q):
        z = tf.stop_gradient(draw_sample(number, q)[0])
        return z, q.log_prob(z)

    return draw


def signal(bound: Bound, log_weights: tf.Tensor) -> tf.Tensor:
    """Return the learning signal f, `[K, B]`, as a constant."""
    return tf.stop_gradient(by_sample(bound.objective, log_weights)[0])


def with_score(bound: Bound, joint: Joint, log_weights, centred_signal, scale=1.0) -> tf.Tensor:
    """Return the surrogate `[B]` with the score term Σ_k signal_k ∇ log q(z_k), times `scale`.

    For a mean of log-weights, the derivative through log q at fixed z has expectation zero and is
    left out.
    """
    weighted_log_q = bound.weighted_log_q(joint)
    surrogate = bound.objective(log_weights + gradient_only(weighted_log_q))
    score = tf.stop_gradient(centred_signal) * joint.log_q()
    if not bound.is_linear:
        score -= objective_gradient(bound.objective, log_weights) * weighted_log_q
    return surrogate + gradient_only(scale * tf.reduce_sum(score, axis=0))


def _count(log_weights):
    return tf.cast(tf.shape(log_weights)[0], tf.float32)


class _RunningMoments:
    """Debiased moving averages of the signal's mean and square, as two weights of a layer."""

    def __init__(self, layer, decay):
        def weight(name):
            return layer.add_weight(
                shape=(),
                initializer="zeros",
                trainable=False,
                name=name,
                dtype="float32",
                aggregation="only_first_replica",
            )

        self._decay = decay
        self._first, self._second, self._weight = map(weight, ("mean", "square", "seen"))

    @property
    def mean(self):
        return tf.math.divide_no_nan(self._first.value, self._weight.value)

    @property
    def variance(self):
        square = tf.math.divide_no_nan(self._second.value, self._weight.value)
        return tf.maximum(square - self.mean**2, 0.0)

    def update(self, statistics):
        """Take in the sum, the sum of squares and the number of the signals of a batch.

        Where one of the signals is not finite, as in a step that overflows, the batch is left out.
        """
        (statistics,) = replicas.sums([statistics])
        total, squares, count = tf.unstack(statistics)
        new = (total / count, squares / count, 1.0)
        assign = assign_if(all_finite([statistics]))
        for variable, value in zip((self._first, self._second, self._weight), new, strict=True):
            assign(variable, self._decay * variable.value + (1.0 - self._decay) * value)


@REGISTRY.register("moving_average")
class MovingAverage(ScoreFunction):
    """The likelihood ratio with a moving average of the signal as the baseline.

    Source: Williams 1992, sec. 5 (reinforcement baseline); Mnih and Gregor 2014, sec. 2.3.

    Args:
        decay: of the moving average, between 0 and 1.
    """

    def __init__(self, decay: float = 0.99, **kwargs):
        super().__init__(**kwargs)
        self.decay = below_one("decay", decay)

    def prepare(self, model, bound):
        if not self.built:
            self._moments = _RunningMoments(self, self.decay)
            self.built = True

    def centre(self, objective, log_weights, learning_signal, context):
        scale = _scale(objective, log_weights)
        statistics = _moments_of(learning_signal / scale)
        return Centred(learning_signal - scale * self._moments.mean, statistics)

    def update(self, statistics):
        self._moments.update(statistics)

    def get_config(self):
        return {**super().get_config(), "decay": self.decay}


@REGISTRY.register("nvil")
class NVIL(ScoreFunction):
    """Neural variational inference: a learned baseline b(x), a moving average c, normalization.

    The signal is (f − b(x) − c) / max(1, s), where s is a moving estimate of the standard deviation
    of f − b − c. b is a network with one hidden layer, trained by least squares beside the model.
    Dividing by max(1, s) scales the encoder's gradient, which makes no difference to Adam; with
    `normalize=False` the estimator is unbiased in scale as well.

    Source: Mnih and Gregor 2014, "Neural variational inference and learning in belief networks",
    sec. 2.3 and algorithm 1.

    Args:
        hidden: units of b's hidden layer.
        decay: of the moving averages, between 0 and 1.
        normalize: whether to divide by max(1, s).
    """

    def __init__(self, hidden: int = 100, decay: float = 0.99, normalize: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.hidden = whole("hidden", hidden)
        self.decay = below_one("decay", decay)
        if not isinstance(normalize, bool):
            raise InvalidArgument(f"`normalize` is {normalize!r}; expected True or False.")
        self.normalize = normalize

    def prepare(self, model, bound):
        if self.is_prepared_for(x_shape=tuple(model.x_shape)):
            return
        self._moments = _RunningMoments(self, self.decay)
        self._network = keras.Sequential(
            [
                keras.Input(model.x_shape),
                keras.layers.Flatten(),
                keras.layers.Dense(self.hidden, activation="tanh"),
                keras.layers.Dense(1, kernel_initializer="zeros", dtype="float32"),
            ],
            name="baseline",
        )
        self.built = True

    def centre(self, objective, log_weights, learning_signal, context):
        scale = _scale(objective, log_weights)
        baseline = tf.cast(self._network(context)[:, 0], tf.float32)
        raw = learning_signal / scale
        statistics = _moments_of(raw - tf.stop_gradient(baseline))
        residual = raw - self._moments.mean - baseline
        deviation = 1.0
        if self.normalize:
            deviation = tf.maximum(1.0, tf.sqrt(self._moments.variance))
        # The least squares are in units of the deviation, so that their gradient stays moderate.
        own_loss = tf.reduce_mean((residual / deviation) ** 2, axis=0)
        return Centred(scale * tf.stop_gradient(residual), statistics, own_loss, 1.0 / deviation)

    def update(self, statistics):
        self._moments.update(statistics)

    def get_config(self):
        own = {"hidden": self.hidden, "decay": self.decay, "normalize": self.normalize}
        return {**super().get_config(), **own}


@REGISTRY.register("vimco")
class VIMCO(ScoreFunction):
    """Leave-one-out baselines for any objective of K ≥ 2 samples.

    The baseline of sample k is the objective with log w_k replaced by the mean of the other
    log-weights (the geometric mean of the other weights). For the ELBO this is "rloo".

    Source: Mnih and Rezende 2016, "Variational inference for Monte Carlo objectives", eq. 5 to 10.
    """

    min_samples = 2

    def centre(self, objective, log_weights, learning_signal, context):
        objective = objectives.for_encoder(objective)
        log_weights = tf.stop_gradient(log_weights)
        total = tf.reduce_sum(log_weights, axis=0)
        others = (total - log_weights) / (_count(log_weights) - 1.0)
        without = of_each(objective, replace_one(log_weights, others))
        return Centred(objective(log_weights) - without)


@REGISTRY.register("rloo")
class RLOO(VIMCO):
    """The leave-one-out estimator of the ELBO: the baseline is the mean of the other signals.

    Source: Kool, van Hoof and Welling 2019, "Buy 4 REINFORCE samples, get a baseline for free";
    Salimans and Knowles 2014.
    """

    linear_only = True


def _scale(objective, log_weights):
    """Return the factor from log w to the signal, by which baselines are in nats for any K."""
    linear = objectives.is_linear(objectives.for_encoder(objective))
    return 1.0 / _count(log_weights) if linear else 1.0


def _moments_of(values):
    # Sums, since a replica may have no examples of the last batch.
    count = tf.cast(tf.size(values), tf.float32)
    return tf.stop_gradient(tf.stack([tf.reduce_sum(values), tf.reduce_sum(values**2), count]))
