"""The logarithm of the normal distribution function, by operators that LiteRT has."""

import math

import tensorflow as tf

# Of P in erfc(x) ≈ t exp(−x² + P(t)), t = 1 / (1 + x/2), for x ≥ 0, from the highest power down.
_COEFFICIENTS = (
    0.17087277,
    -0.82215223,
    1.48851587,
    -1.13520398,
    0.27886807,
    -0.18628806,
    0.09678418,
    0.37409196,
    1.00002368,
    -1.26551223,
)


def log_ndtr(x: tf.Tensor) -> tf.Tensor:
    """Return log Φ(x), with a relative error of Φ of about 1e-6, also far in the lower tail.

    LiteRT has no error function, which TFP's is made of.

    Source: Press et al. 1992, "Numerical recipes in C", sec. 6.2, a Chebyshev fit of the
    complementary error function with a fractional error below 1.2e-7.
    """
    u = tf.abs(x) / math.sqrt(2.0)
    t = 1.0 / (1.0 + 0.5 * u)
    polynomial = tf.zeros_like(t)
    for coefficient in _COEFFICIENTS:
        polynomial = polynomial * t + coefficient
    log_tail = tf.math.log(0.5 * t) - u**2 + polynomial  # log Φ(−|x|)
    return tf.where(x < 0.0, log_tail, tf.math.log(1.0 - tf.exp(tf.minimum(log_tail, -0.5))))


def inverse_log_ndtr(log_p: tf.Tensor) -> tf.Tensor:
    """Return x with log Φ(x) = log p, for p up to 1/2, by Newton's method.

    It starts below the root, and approaches it from there, since log Φ is concave.
    """
    x = -tf.sqrt(-2.0 * log_p)
    for _ in range(6):
        log_mass = log_ndtr(x)
        x -= (log_mass - log_p) * tf.exp(log_mass - log_normal_density(x))
    return x


def log_normal_density(x: tf.Tensor) -> tf.Tensor:
    """Return log φ(x)."""
    return -0.5 * x**2 - 0.5 * math.log(2.0 * math.pi)
