"""Draws of single values, from noise of `tfvae.random` by operators that LiteRT has."""

import math

import tensorflow as tf

from tfvae import random
from tfvae.distributions import tfd
from tfvae.distributions.normal_cdf import inverse_log_ndtr, log_ndtr

# Where rejection is exact but for a chance below 1e-7 that no attempt is accepted.
_ATTEMPTS_OF_GAMMA = 6  # of which each is accepted with a probability of at least 0.95
_ATTEMPTS_OF_VON_MISES = 16  # 0.65
_TABULATED = 64.0  # Poisson rates up to which the masses are summed
_MOST_TABULATED = int(_TABULATED + 8.0 * math.sqrt(_TABULATED) + 20.0)
NUMBERS_OF_COUNT = 4 * _MOST_TABULATED  # what the draw of a count takes in memory at most


def normal(distribution, seed, index, shape, temperature):
    """Return μ + T·σ·ε."""
    noise = tf.reshape(random.normal(seed, index, math.prod(shape)), [-1, *shape])
    return distribution.mean() + temperature * distribution.stddev() * noise


def log_normal(distribution, seed, index, shape, temperature):
    """Return exp(μ + T·σ·ε)."""
    return tf.exp(normal(distribution.distribution, seed, index, shape, temperature))


def student_t(distribution, seed, index, shape, temperature):
    """Return μ + T·σ·t, with t = √(ν (u^(−2/ν) − 1)) cos(2πv) of two uniforms.

    Source: Bailey 1994, "Polar generation of random variates with the t-distribution".
    """
    size = math.prod(shape)
    u, v = tf.split(random.uniform(seed, index, 2 * size), 2, axis=-1)
    u, v = (tf.reshape(part, [-1, *shape]) for part in (u, v))
    df = tf.convert_to_tensor(distribution.df)
    exponent = -2.0 / df * tf.math.log(u)
    # e^a − 1, whose digits cancel where a is small: of a large ν, where t is nearly normal.
    series = exponent * (1.0 + exponent / 2.0 * (1.0 + exponent / 3.0))
    radius = tf.sqrt(df * tf.where(exponent < 1e-2, series, tf.exp(exponent) - 1.0))
    t = radius * tf.cos(2.0 * math.pi * v)
    return distribution.loc + temperature * distribution.scale * t


def poisson(distribution, seed, index, shape, temperature):
    """Return Poisson counts; see `_poisson`."""
    u, v, w = tf.unstack(_uniforms(seed, index, shape, 3)[0])
    return _poisson(tf.math.log(distribution.rate_parameter()), u, _normal(v, w))


def negative_binomial(distribution, seed, index, shape, temperature):
    """Return negative binomial counts: Poisson counts whose rate is μ/r · G, G ~ Gamma(r, 1)."""
    logits = distribution.logits_parameter()  # log μ/r
    r = tf.convert_to_tensor(distribution.total_count) + tf.zeros_like(logits)
    given, noise = _uniforms(seed, index, shape, 3, _NOISE_OF_GAMMA)
    u, v, w = tf.unstack(given)
    return _poisson(logits + _log_gamma(r, noise), u, _normal(v, w))


def beta(distribution, seed, index, shape, temperature):
    """Return m + T·(x − m), m the mean and x = G/(G + H) of two gamma variables."""
    a, b = distribution.concentration1, distribution.concentration0
    of_a, of_b = _uniforms(seed, index, shape, *[_NOISE_OF_GAMMA] * 2)
    x = tf.sigmoid(_log_gamma(a, of_a) - _log_gamma(b, of_b))
    mean = distribution.mean()
    return tf.clip_by_value(mean + temperature * (x - mean), 1e-30, 1.0 - 1e-7)


def continuous_bernoulli(distribution, seed, index, shape, temperature):
    """Return m + T·(x − m), m the mean and x by inversion of the distribution function."""
    logits = distribution.logits_parameter()
    u = _uniforms(seed, index, shape, 1)[0][0]
    slope = -tf.maximum(tf.abs(logits), 1e-3)  # of the log-density, turned so that it falls
    falling = tf.math.log(1.0 + u * (tf.exp(slope) - 1.0)) / slope
    x = tf.clip_by_value(tf.where(logits > 0.0, 1.0 - falling, falling), 0.0, 1.0)
    mean = distribution.mean()
    return tf.clip_by_value(mean + temperature * (x - mean), 0.0, 1.0)


def truncated_normal(distribution, seed, index, shape, temperature):
    """Return m + T·(x − m), m the mean and x by inversion in whichever tail it lies."""
    u = _uniforms(seed, index, shape, 1)[0][0]
    low, high = ((e - distribution.loc) / distribution.scale for e in _ends(distribution))
    shares = tf.math.log(1.0 - u), tf.math.log(u)

    def log_mass(ends):
        first, second = (log_ndtr(e) + s for e, s in zip(ends, shares, strict=True))
        most = tf.maximum(first, second)
        return most + tf.math.log(tf.exp(first - most) + tf.exp(second - most))

    below, above = log_mass((low, high)), log_mass((-low, -high))
    is_lower = below < above
    half = inverse_log_ndtr(tf.where(is_lower, below, above))
    x = distribution.loc + distribution.scale * tf.where(is_lower, half, -half)
    mean = distribution.mean()
    x = mean + temperature * (tf.clip_by_value(x, *_ends(distribution)) - mean)
    return tf.clip_by_value(x, *_ends(distribution))


def von_mises(distribution, seed, index, shape, temperature):
    """Return μ + T·θ in [−π, π], θ about 0 with concentration κ.

    By rejection from a wrapped Cauchy distribution; above κ = 1000, where they agree to 1 in 10⁴,
    θ is normal.

    Source: Best and Fisher 1979, "Efficient simulation of the von Mises distribution".
    """
    concentration = tf.convert_to_tensor(distribution.concentration)
    within = tf.clip_by_value(concentration, 1e-6, 1e3)
    r = 1.0 + tf.sqrt(1.0 + 4.0 * within**2)
    rho = (r - tf.sqrt(2.0 * r)) / (2.0 * within)
    s = tf.where(within < 0.02, 1.0 / within, (1.0 + rho**2) / (2.0 * rho))
    u, v, others = _uniforms(seed, index, shape, *[_ATTEMPTS_OF_VON_MISES] * 2, 3)
    side, first, second = tf.unstack(others)
    kappa, s = (part[tf.newaxis] + tf.zeros_like(u) for part in (within, s))
    z = tf.cos(math.pi * u)
    w = (1.0 + s * z) / (s + z)
    y = kappa * (s - w)
    cosine = _first(tf.math.log(y / v) + 1.0 - y >= 0.0, w)
    angle = tf.atan2(tf.sqrt(tf.maximum(1.0 - cosine**2, 0.0)), cosine)
    narrow = tf.abs(_normal(first, second)) / tf.sqrt(tf.maximum(concentration, 1.0))
    angle = tf.where(concentration > 1e3, narrow, angle)
    x = distribution.loc + temperature * tf.where(side < 0.5, -angle, angle)
    return tf.clip_by_value(x - 2.0 * math.pi * tf.round(x / (2.0 * math.pi)), -math.pi, math.pi)


def _ends(distribution):
    return distribution.low, distribution.high


def _uniforms(seed, index, shape, *counts):
    """Return independent uniforms, `[count, N, *shape]` for each count."""
    u = random.uniform(seed, index, sum(counts) * math.prod(shape))
    u = tf.reshape(u, [-1, sum(counts), *shape])
    return tf.split(tf.stack(tf.unstack(u, axis=1)), counts)


def _first(is_accepted, values):
    """Return the first of the values `[attempts, ...]` that is accepted."""
    accepted = tf.cast(is_accepted, tf.float32)
    is_first = accepted * tf.cast(tf.cumsum(accepted, axis=0) < 1.5, tf.float32)
    return tf.reduce_sum(is_first * values, axis=0)


def _normal(u, v):
    """Return standard normals of two uniforms, after Box and Muller."""
    return tf.sqrt(-2.0 * tf.math.log(u)) * tf.cos(2.0 * math.pi * v)


_NOISE_OF_GAMMA = 1 + 3 * _ATTEMPTS_OF_GAMMA


def _log_gamma(shape, noise):
    """Return log G, G ~ Gamma(shape, 1), of `_NOISE_OF_GAMMA` uniforms.

    Source: Marsaglia and Tsang 2000, "A simple method for generating gamma variables".
    """
    boost, u, v, w = tf.split(noise, [1, *[_ATTEMPTS_OF_GAMMA] * 3])
    is_small = shape < 1.0
    d = tf.where(is_small, shape + 1.0, shape) - 1.0 / 3.0
    x, each = _normal(u, v), d[tf.newaxis] + tf.zeros_like(u)
    root = 1.0 + x / tf.sqrt(9.0 * each)
    log_cube = 3.0 * tf.math.log(tf.maximum(root, 1e-10))
    excess = 0.5 * x**2 + each - each * tf.exp(log_cube) + each * log_cube
    found = _first((root > 0.0) & (tf.math.log(w) < excess), log_cube)
    smaller = tf.math.log(boost[0]) / tf.where(is_small, shape, 1.0)
    return tf.math.log(d) + found + tf.where(is_small, smaller, 0.0)


def _poisson(log_rate, u, normal):
    """Return Poisson counts of a rate of any size, of a uniform and a standard normal.

    By inversion up to a rate of 64; above, by an expansion of the quantile in the normal one, whose
    error is of the order of rate^(−3/2) counts.

    Source: Giles 2016, "Algorithm 955: approximation of the inverse Poisson cumulative distribution
    function".
    """
    log_rate = tf.maximum(log_rate, -80.0)
    rate, w = tf.exp(log_rate), normal
    root = tf.sqrt(tf.maximum(rate, _TABULATED))
    quantile = rate + root * w + (1.0 / 3.0 + w**2 / 6.0) - (w / 36.0 + w**3 / 72.0) / root
    quantile += (-8.0 / 405.0 + 7.0 * w**2 / 810.0 + w**4 / 270.0) / root**2
    is_small = rate <= _TABULATED
    small = tf.where(is_small, log_rate, 0.0)
    return tf.where(is_small, _inverted(small, u), tf.maximum(tf.floor(quantile), 0.0))


def _inverted(log_rate, u):
    """Return how many k have P(x ≤ k) < u, for Poisson rates of at most 64."""
    rate = tf.exp(log_rate)
    largest = tf.reduce_max(rate + 8.0 * tf.sqrt(rate)) + 20.0  # which no such u is beyond
    k = tf.range(1.0, tf.minimum(largest, _MOST_TABULATED))
    log_p = log_rate[..., tf.newaxis] * k - tf.cumsum(tf.math.log(k)) - rate[..., tf.newaxis]
    masses = tf.concat([tf.exp(-rate)[..., tf.newaxis], tf.exp(log_p)], -1)
    # The last one is not counted: it is the largest there is, however it was rounded.
    below = tf.cumsum(masses, axis=-1)[..., :-1] < u[..., tf.newaxis]
    return tf.reduce_sum(tf.cast(below, tf.float32), axis=-1)


# How values of TFP's distributions are drawn: a function of the distribution of single values, the
# seed, the numbers of the draws, the shape of one and the temperature, which counts do not have.
_DRAWS = {
    tfd.Normal: normal,
    tfd.LogNormal: log_normal,
    tfd.StudentT: student_t,
    tfd.Poisson: poisson,
    tfd.NegativeBinomial: negative_binomial,
    tfd.Beta: beta,
    tfd.ContinuousBernoulli: continuous_bernoulli,
    tfd.TruncatedNormal: truncated_normal,
    tfd.VonMises: von_mises,
}


def of_values(distribution, seed, index, shape, temperature):
    """Return draws of single values, `[N, *shape]`; None where it is not known how.

    A distribution of another kind has a method `draw_values(seed, index, shape, temperature)`.
    """
    if hasattr(distribution, "draw_values"):
        return distribution.draw_values(seed, index, shape, temperature)
    draws = next((_DRAWS[kind] for kind in _DRAWS if isinstance(distribution, kind)), None)
    return None if draws is None else draws(distribution, seed, index, shape, temperature)
