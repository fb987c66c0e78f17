"""Spline coupling: one half of a vector sets monotone rational-quadratic splines of the other."""

import math

import tensorflow as tf

from tfvae.checks import positive, whole
from tfvae.flows.flow import REGISTRY, Flow, join_context
from tfvae.flows.network import CouplingNetwork

# No bin is narrower than this share of the interval, no slope below it: inverses stay accurate.
_LEAST = 1e-3


@REGISTRY.register("spline_coupling")
class SplineCoupling(Flow):
    """z_a = u_a,  z_b = g(u_b; θ(u_a; h)), g a monotone rational-quadratic spline on [−R, R].

    The spline has M bins, each with a width, a height and slopes at its ends; outside of [−R, R] it
    is the identity. It starts as the identity everywhere.

    Source: Durkan, Bekasov, Murray and Papamakarios 2019, "Neural spline flows", eq. 4 to 8.

    Args:
        num_bins: M.
        bound: R.
        hidden: widths of the hidden layers of the network of θ.
        activation: of its hidden layers.
    """

    def __init__(
        self, num_bins: int = 8, bound: float = 5.0, hidden=(128, 128), activation="relu", **kwargs
    ):
        super().__init__(**kwargs)
        self.num_bins, self.bound = whole("num_bins", num_bins), positive("bound", bound)
        self.hidden, self.activation = tuple(hidden), activation

    def build(self, size, context_size=0):  # noqa: D102
        self._kept = size // 2
        self._moved = size - self._kept
        self.network = CouplingNetwork(
            self._kept + context_size,
            self._moved * (3 * self.num_bins - 1),
            self.hidden,
            self.activation,
            self.variable_dtype,
        )
        super().build(size, context_size)

    def forward(self, u, context=None):  # noqa: D102
        return self._couple(u, context, spline)

    def inverse(self, z, context=None):  # noqa: D102
        return self._couple(z, context, inverse_spline)

    def _couple(self, values, context, function):
        a, b = values[..., : self._kept], values[..., self._kept :]
        theta = self.network(join_context(a, context))
        shape = tf.concat([tf.shape(theta)[:-1], [self._moved, 3 * self.num_bins - 1]], 0)
        moved, log_slope = function(b, knots(tf.reshape(theta, shape), self.num_bins, self.bound))
        return tf.concat([a, moved], -1), tf.reduce_sum(log_slope, -1)

    def get_config(self):  # noqa: D102
        own = {"num_bins": self.num_bins, "bound": self.bound}
        own |= {"hidden": list(self.hidden), "activation": self.activation}
        return {**super().get_config(), **own}


def knots(theta, num_bins, bound):
    """Return the knots x, y and the slopes δ of splines, each `[..., D, M + 1]`.

    Args:
        theta: `[..., D, 3M − 1]`; zeros give the identity.
        num_bins: M.
        bound: R.
    """
    raw_widths, raw_heights, raw_slopes = tf.split(theta, [num_bins, num_bins, num_bins - 1], -1)
    x, y = (_positions(raw, num_bins, bound) for raw in (raw_widths, raw_heights))
    inner = _LEAST + (1.0 - _LEAST) * tf.nn.softplus(raw_slopes + math.log(math.e - 1.0))
    ends = tf.ones_like(inner[..., :1])
    return x, y, tf.concat([ends, inner, ends], -1)


def _positions(raw, num_bins, bound):
    shares = _LEAST + (1.0 - _LEAST * num_bins) * tf.nn.softmax(raw)
    inner = bound * (2.0 * tf.cumsum(shares, -1) - 1.0)[..., :-1]
    end = bound * tf.ones_like(shares[..., :1])
    return tf.concat([-end, inner, end], -1)


def spline(x, parameters):
    """Return g(x) and log g′(x), `[..., D]` (Durkan et al. 2019, eq. 4 and 5)."""
    inside, x_k, w, y_k, h, d_k, d_k1 = _bin(x, parameters, parameters[0])
    s = h / w
    xi = tf.clip_by_value((x - x_k) / w, 0.0, 1.0)
    denominator = s + (d_k1 + d_k - 2.0 * s) * xi * (1.0 - xi)
    y = y_k + h * (s * xi**2 + d_k * xi * (1.0 - xi)) / denominator
    return tf.where(inside, y, x), tf.where(
        inside, _log_slope(xi, s, d_k, d_k1, denominator), tf.zeros_like(x)
    )


def inverse_spline(y, parameters):
    """Return x = g⁻¹(y) and log dx/dy, `[..., D]` (Durkan et al. 2019, eq. 6 to 8)."""
    inside, x_k, w, y_k, h, d_k, d_k1 = _bin(y, parameters, parameters[1])
    s = h / w
    rise = tf.clip_by_value(y - y_k, 0.0, h)
    bend = d_k1 + d_k - 2.0 * s
    a = h * (s - d_k) + rise * bend
    b = h * d_k - rise * bend
    c = -s * rise
    root = tf.sqrt(tf.maximum(b**2 - 4.0 * a * c, 1e-12))
    xi = tf.clip_by_value(2.0 * c / (-b - root), 0.0, 1.0)
    denominator = s + bend * xi * (1.0 - xi)
    x = x_k + w * xi
    return tf.where(inside, x, y), tf.where(
        inside, -_log_slope(xi, s, d_k, d_k1, denominator), tf.zeros_like(y)
    )


def _log_slope(xi, s, d_k, d_k1, denominator):
    """Return the logarithm of eq. 5."""
    numerator = d_k1 * xi**2 + 2.0 * s * xi * (1.0 - xi) + d_k * (1.0 - xi) ** 2
    return 2.0 * tf.math.log(s) + tf.math.log(numerator) - 2.0 * tf.math.log(denominator)


def _bin(value, parameters, positions):
    """Return whether values lie inside, and corner, size and slopes of their bins, `[..., D]`."""
    x, y, slopes = parameters
    inside = (value > positions[..., 0]) & (value < positions[..., -1])
    # 1 at the last knot that lies below the value: a sum instead of a gather, which is what fuses.
    above = tf.cast(value[..., tf.newaxis] >= positions[..., 1:-1], value.dtype)  # [..., D, M − 1]
    first = tf.ones_like(above[..., :1])
    chosen = tf.concat([first, above], -1) - tf.concat([above, tf.zeros_like(first)], -1)

    def of_bin(knot):
        return tf.reduce_sum(chosen * knot, -1)

    return (
        inside,
        of_bin(x[..., :-1]),
        of_bin(x[..., 1:] - x[..., :-1]),
        of_bin(y[..., :-1]),
        of_bin(y[..., 1:] - y[..., :-1]),
        of_bin(slopes[..., :-1]),
        of_bin(slopes[..., 1:]),
    )
