"""The joint pass: the stochastic layers of a model in one pass over a batch, and their draws.

A model knows the order in which its layers are drawn and what each is conditioned on; see
`LatentVariableModel.infer` and `generate`. The caller of a pass decides how a layer is drawn, by a
function

    draw(number, q) -> z, log_q        in `infer`,
    draw(number, p) -> z               in `generate`,

called once for each layer in the order of the pass, where layer `number` is z_{number + 1} of the
papers: number 0 is the layer next to x. A `draw` serves one pass.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from tfvae import distributions
from tfvae.distributions import tfd
from tfvae.random import fold_in


class StochasticLayer(NamedTuple):
    """One stochastic layer of one pass, z_l.

    Attributes:
        p: p(z_l | the layers that generate it).
        z: its value, `[K, B, *shape]`; in a pass that generates, `[N, *shape]`.
        q: q(z_l | x, the layers drawn before); None in a pass that generates.
        log_q: log q(z_l | …), `[K, B]`, from the call that drew z.
        p_sees_later: whether p is conditioned on layers that were drawn after z_l, as with a
            bottom-up q. Then KL(q‖p) at fixed p is not the expectation of log q − log p.
    """

    p: tfd.Distribution
    z: tf.Tensor
    q: tfd.Distribution | None = None
    log_q: tf.Tensor | None = None
    p_sees_later: bool = False

    def log_p(self) -> tf.Tensor:
        """Return log p(z_l | …), `[K, B]`."""
        return self.p.log_prob(self.z)

    def kl_by_unit(self) -> tf.Tensor | None:
        """Return KL(q‖p) given the layers drawn before, `[1 or K, B, U]`; None if unknown."""
        if self.p_sees_later:
            return None
        kl = distributions.kl_by_unit(self.q, self.p)
        return kl if kl is None or len(kl.shape) == 3 else kl[tf.newaxis]


class Joint(NamedTuple):
    """The result of one pass over a batch x.

    Attributes:
        layers: the stochastic layers, z_1 first.
        log_likelihood: log p(x|z), `[K, B]`.
        p_x: p(x|z) itself, batch shape `[K, B]`.
        x: the examples, `[B, *x_shape]`; where missing values were drawn, with these,
            `[K, B, *x_shape]`.
        x_params: the parameters of p(x|z), `[K, B, *params_shape]`.
    """

    layers: tuple[StochasticLayer, ...]
    log_likelihood: tf.Tensor
    p_x: tfd.Distribution | None = None
    x: tf.Tensor | None = None
    x_params: tf.Tensor | None = None

    @property
    def z(self) -> list[tf.Tensor]:
        """The values of the layers."""
        return [layer.z for layer in self.layers]

    def log_q(self) -> tf.Tensor:
        """Return log q(z|x) = Σ_l log q(z_l | …), `[K, B]`."""
        return sum(layer.log_q for layer in self.layers)

    def log_p(self) -> tf.Tensor:
        """Return log p(z) = Σ_l log p(z_l | …), `[K, B]`."""
        return sum(layer.log_p() for layer in self.layers)


# What an estimator is given: the pass over its batch, as a function of how layers are drawn.
Infer = Callable[[Callable], Joint]


def _in_order(first: Callable, later: Callable) -> Callable:
    """Return the draw that calls `first` for the layer that is drawn first, `later` for others."""
    drawn = []

    def draw(number, distribution):
        drawn.append(number)
        return (first if len(drawn) == 1 else later)(number, distribution)

    return draw


def sampler(num_samples: int, seed: tf.Tensor) -> Callable:
    """Return the draw of K independent samples from q; z keeps its derivative where it has one.

    The samples are an axis of the first layer's draws, and of the others' batch.
    """

    def first(number, q):
        return distributions.sample_and_log_prob(q, [num_samples], seed)

    def later(number, q):
        return distributions.sample_and_log_prob(q, [], fold_in(seed, number))

    return _in_order(first, later)


def ancestral(num_samples: int | Sequence[int], seed: tf.Tensor) -> Callable:
    """Return the draw, for `generate`, of samples from p; `num_samples` may be several axes.

    Where p is a batch, as p(z|y) is, the last of these axes are its own.
    """

    def first(number, p):
        axes = tf.reshape(num_samples, [-1])
        return p.sample(axes[: axes.shape[0] - len(p.batch_shape)], seed=seed)

    def later(number, p):
        return p.sample(seed=fold_in(seed, number))

    return _in_order(first, later)


def replay(
    values: Mapping[int, tf.Tensor] | Sequence[tf.Tensor], otherwise: Callable | None = None
) -> Callable:
    """Return the draw that gives layers their values; `otherwise` draws those without one."""

    def draw(number, q):
        if isinstance(values, Mapping) and number not in values:
            return otherwise(number, q)
        return values[number], q.log_prob(values[number])

    return draw


def values_of(values: Sequence[tf.Tensor]) -> Callable:
    """Return the draw, for `generate`, that gives layers their values."""
    return lambda number, p: values[number]


def representatives(number: int, q: tfd.Distribution) -> tuple[tf.Tensor, None]:
    """Draw the point that represents q, its mean if it has one: the `draw` of `encode`."""
    return distributions.representative(q), None
