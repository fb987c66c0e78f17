"""Draws of single values, made of noise of `tfvae.random` and of operators that LiteRT has."""

import math

import tensorflow as tf

from tfvae import random
from tfvae.distributions import tfd

MOST_COUNT = 1023  # the largest count that is drawn


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
    radius = tf.sqrt(df * (tf.exp(-2.0 / df * tf.math.log(u)) - 1.0))
    t = radius * tf.cos(2.0 * math.pi * v)
    return distribution.loc + temperature * distribution.scale * t


def poisson(distribution, seed, index, shape, temperature):
    """Return Poisson counts, by inversion."""
    rate = distribution.rate_parameter()
    log_rate = tf.math.log(rate)[..., tf.newaxis]
    largest = rate + 8.0 * tf.sqrt(rate) + 20.0
    return _inverted(-rate, lambda k: log_rate, largest, seed, index, shape)


def negative_binomial(distribution, seed, index, shape, temperature):
    """Return negative binomial counts, by inversion."""
    logits, r = distribution.logits_parameter(), tf.convert_to_tensor(distribution.total_count)
    r = r + tf.zeros_like(logits)
    log_p = tf.math.log_sigmoid(logits)[..., tf.newaxis]
    mean_of_r = tf.exp(logits)  # μ / r; the tail falls by a factor of e in 1 + μ/r steps at most
    largest = r * mean_of_r + 8.0 * tf.sqrt(r * mean_of_r * (1.0 + mean_of_r))
    largest += 20.0 * (1.0 + mean_of_r)

    def log_growth(k):
        return log_p + tf.math.log(k + r[..., tf.newaxis])

    start = r * tf.math.log_sigmoid(-logits)
    return _inverted(start, log_growth, largest, seed, index, shape)


def _inverted(log_first, log_growth, largest, seed, index, shape):
    """Return how many k have P(x ≤ k) < u, at most `MOST_COUNT`.

    Args:
        log_first: log P(0), `[..., D]`.
        log_growth: from k = 0, 1, … to log((k + 1) P(k + 1) / P(k)), `[..., D, K]`.
        largest: beyond which no count is, of any u that there is, `[..., D]`.
        seed: `[2]` int32.
        index: `[N]` int32.
        shape: of one value.
    """
    u = tf.reshape(random.uniform(seed, index, math.prod(shape)), [-1, *shape])
    most = tf.minimum(tf.reduce_max(largest), float(MOST_COUNT))  # what is kept in memory at once
    k = tf.range(tf.math.ceil(most))
    steps = log_growth(k) - tf.math.log(k + 1.0)
    steps = steps + tf.zeros_like(log_first)[..., tf.newaxis]
    log_p = log_first[..., tf.newaxis] + tf.cumsum(steps, axis=-1)
    masses = tf.concat([tf.exp(log_first)[..., tf.newaxis], tf.exp(log_p)], -1)
    # The last one is not counted: it is the largest there is, however it was rounded.
    below = tf.cumsum(masses, axis=-1)[..., :-1] < u[..., tf.newaxis]
    return tf.reduce_sum(tf.cast(below, tf.float32), axis=-1)


# How values of TFP's distributions are drawn: a function of the distribution of single values, the
# seed, the numbers of the draws, the shape of one and the temperature, which counts do not have.
DRAWS = {
    tfd.Normal: normal,
    tfd.LogNormal: log_normal,
    tfd.StudentT: student_t,
    tfd.Poisson: poisson,
    tfd.NegativeBinomial: negative_binomial,
}
