"""Coupling by monotone rational-quadratic splines."""

import math
from collections.abc import Callable

import tensorflow as tf

from tfvae._plain.checks import positive, whole
from tfvae.errors import InvalidArgument
from tfvae.flows.coupling import Coupling
from tfvae.flows.flow import REGISTRY

# Durkan et al.'s bounds, which keep the spline and its inverse smooth.
_MIN_BIN = 1e-3  # as a share of the interval
_MIN_DERIVATIVE = 1e-3
_TINY = 1e-30  # keeps the derivative of a square root finite


@REGISTRY.register("spline_coupling")
class SplineCoupling(Coupling):
    """z₁ = u₁,  z₂ = g(u₂; θ(u₁)): in each unit a monotone spline on [−B, B], beyond it identity.

    g is a quotient of two quadratics in each of K bins; a layer can make several modes of one,
    which an affine one cannot. The flow starts at the identity. Where all latents lie outside
    [−B, B] it does nothing: mix with "linear" maps, which can rescale.

    Source: Durkan et al. 2019, "Neural spline flows", sec. 3.1. (TFP's RationalQuadraticSpline
    searches its bins by an operator that LiteRT does not have.)

    Args:
        hidden: widths of the hidden layers of the network θ.
        activation: of these layers.
        num_bins: K.
        bound: B.
    """

    def __init__(
        self,
        hidden: tuple[int, ...] = (64, 64),
        activation: str | Callable = "tanh",
        num_bins: int = 8,
        bound: float = 5.0,
        **kwargs,
    ):
        super().__init__(hidden, activation, **kwargs)
        self.num_bins = whole("num_bins", num_bins)
        self.bound = positive("bound", bound)
        self.params_per_unit = 3 * self.num_bins - 1
        if not 2 <= self.num_bins < 1.0 / _MIN_BIN:
            raise InvalidArgument(
                f"`num_bins` is {num_bins}; expected 2, with which a spline can first bend, to "
                f"{1 / _MIN_BIN - 1:.0f}."
            )

    def _transform(self, u, params):
        return self._spline(_forward_in_bin, 0, u, params)

    def _transform_back(self, z, params):
        return self._spline(_inverse_in_bin, 1, z, params)

    def _spline(self, in_bin, side, x, params):
        """Return g or g⁻¹, which see x on side 0 or 1 of the knots, and its log-derivative."""
        inside = tf.abs(x) < self.bound
        # What is outside is computed at the middle, so that its gradient is a number, and dropped.
        safe = tf.where(inside, x, tf.zeros_like(x))
        shape = tf.concat([tf.shape(params)[:-1], [x.shape[-1], self.params_per_unit]], 0)
        raw = tf.split(tf.reshape(params, shape), [self.num_bins] * 2 + [self.num_bins - 1], -1)
        lefts, sizes = zip(*(_bins(part, self.bound) for part in raw[:2]), strict=True)
        y, log_derivative = in_bin(safe, *_at(safe, side, lefts, sizes, _derivatives(raw[2])))
        return tf.where(inside, y, x), tf.where(inside, log_derivative, tf.zeros_like(x))

    def get_config(self):
        return {**super().get_config(), "num_bins": self.num_bins, "bound": self.bound}


def _bins(raw, bound):
    """Return the left ends and the sizes of the K bins that fill [−bound, bound], `[..., M, K]`."""
    num_bins = raw.shape[-1]
    share = _MIN_BIN + (1.0 - _MIN_BIN * num_bins) * tf.nn.softmax(raw)
    sizes = 2.0 * bound * share
    return tf.cumsum(sizes, -1, exclusive=True) - bound, sizes


def _derivatives(raw):
    """Return the derivatives at the knots, `[..., M, K + 1]`: 1 at the ends, and where raw = 0."""
    at_zero = math.log(math.expm1(1.0 - _MIN_DERIVATIVE))
    inner = _MIN_DERIVATIVE + tf.nn.softplus(raw + at_zero)
    return tf.pad(inner, [[0, 0]] * (len(raw.shape) - 1) + [[1, 1]], constant_values=1.0)


def _at(x, side, lefts, sizes, derivatives):
    """Return x_k, y_k, w_k, h_k, δ_k and δ_{k+1} of the bin that each x is in, `[..., M]`.

    The bin is chosen by a product with 0 and 1, for LiteRT has no search and no batched gather.
    """
    reached = tf.cast(x[..., tf.newaxis] >= lefts[side][..., 1:], x.dtype)  # [..., M, K − 1]
    first = tf.ones_like(x)[..., tf.newaxis]
    chosen = tf.concat([first, reached], -1) - tf.concat([reached, 0.0 * first], -1)
    numbers = [*lefts, *sizes, derivatives[..., :-1], derivatives[..., 1:]]
    return [tf.reduce_sum(chosen * number, -1) for number in numbers]


def _forward_in_bin(u, x_k, y_k, w_k, h_k, d_k, d_next):
    """Eq. 4 of the paper; θ is the place within the bin, s its slope."""
    s, theta = h_k / w_k, tf.clip_by_value((u - x_k) / w_k, 0.0, 1.0)
    numerator = h_k * (s * theta**2 + d_k * theta * (1.0 - theta))
    denominator = s + (d_next + d_k - 2.0 * s) * theta * (1.0 - theta)
    return y_k + numerator / denominator, _log_derivative(theta, s, d_k, d_next)


def _inverse_in_bin(z, x_k, y_k, w_k, h_k, d_k, d_next):
    """Eq. 6 to 8 of the paper: the root of a θ² + b θ + c that lies within the bin.

    Of its two forms, (√(b² − 4ac) − b) / 2a and −2c / (√(b² − 4ac) + b), each is used where it
    adds: the difference would lose all digits where a derivative is far from the slope.
    """
    s, height = h_k / w_k, z - y_k
    bend = d_next + d_k - 2.0 * s
    a = h_k * (s - d_k) + height * bend
    b = h_k * d_k - height * bend
    c = -s * height
    root = tf.sqrt(tf.maximum(b**2 - 4.0 * a * c, _TINY))
    falls = b < 0.0  # then a > 0
    one = tf.ones_like(b)
    first = (root - b) / (2.0 * tf.where(falls, a, one))
    second = -2.0 * c / tf.where(falls, one, root + b)
    theta = tf.clip_by_value(tf.where(falls, first, second), 0.0, 1.0)
    return x_k + theta * w_k, -_log_derivative(theta, s, d_k, d_next)


def _log_derivative(theta, s, d_k, d_next):
    """Eq. 5 of the paper, its logarithm."""
    rest = 1.0 - theta
    numerator = s**2 * (d_next * theta**2 + 2.0 * s * theta * rest + d_k * rest**2)
    denominator = s + (d_next + d_k - 2.0 * s) * theta * rest
    return tf.math.log(numerator) - 2.0 * tf.math.log(denominator)
