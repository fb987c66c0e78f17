"""A stack of bits: what is popped can be pushed again, and popped symbols are draws."""

import numpy as np
import pytest
from scipy import special, stats

from tfvae.codec.bit_stack import Buckets, Continuous, Stack, Table


def test_what_is_popped_and_pushed_again_leaves_it_as_it_was(rng):
    words = rng.integers(1, 1 << 32, 500, dtype=np.uint32)
    stack = Stack(words)
    codes = [
        Table(5 * rng.normal(size=(40, 7))),
        Table(rng.normal(size=(10, 1))),
        Buckets(rng.normal(size=30), np.exp(3 * rng.normal(size=30)), 11),
        Buckets(20 * rng.normal(size=30), np.full(30, 1e-3), 12),
    ]
    popped = [code.pop(stack) for code in codes]
    assert len(stack.finish()[0]) < 495
    for code, symbols in list(zip(codes, popped, strict=True))[::-1]:
        code.push(stack, symbols)
    np.testing.assert_array_equal(stack.finish()[0], words)
    assert stack.ideal_bits == pytest.approx(0.0, abs=1e-6)


def test_popped_symbols_are_draws():
    """10^5 symbols: frequencies within 5 standard errors."""
    stack, p = Stack.of_random_bits(), np.array([0.6, 0.3, 0.1])
    stack.reserve(100_000)
    symbols = Table(np.tile(np.log(p), [100_000, 1])).pop(stack)
    share = np.bincount(symbols, minlength=3) / 1e5
    assert np.all(np.abs(share - p) < 5 * np.sqrt(p * (1 - p) / 1e5))


def test_the_masses_of_buckets_are_those_of_the_normal():
    """At precision 6, to 1e-6 of the mass."""
    loc, scale = np.array([0.0, 1.3, -2.0]), np.array([1.0, 0.2, 3.0])
    buckets = Buckets(loc, scale, 6)
    among = buckets._among()
    edges = stats.norm.ppf(np.arange(65) / 64)
    for j in (0, 5, 31, 40, 63):
        high, low = np.divmod(np.full(3, j), 8)
        mass = among[np.arange(3), high] * buckets._within(high)[np.arange(3), low]
        ends = (stats.norm.cdf(edges[k], loc, scale) for k in (j + 1, j))
        expected = next(ends) - next(ends)
        np.testing.assert_allclose(mass, expected, rtol=1e-6, atol=1e-12)


def test_a_bucket_stands_for_its_median():
    latents = Continuous((np.array([[1.0, -2.0]]), np.array([[1.0, 3.0]])), 2)
    quarters = np.repeat(np.arange(4)[:, np.newaxis], 2, axis=1)
    medians = stats.norm.ppf(np.array([1, 3, 5, 7]) / 8)[:, np.newaxis]
    expected = [1.0, -2.0] + [1.0, 3.0] * medians
    np.testing.assert_allclose(latents.values(quarters), expected, rtol=1e-6)


def test_the_buckets_of_a_mixture_are_those_of_the_normal_with_its_moments(rng):
    weights, loc, scale = np.array([0.5, 0.3, 0.2]), *rng.uniform(0.5, 3, (2, 3, 2))
    latents = Continuous((np.log(weights), loc, np.log(scale)), 2)
    mean = weights @ loc
    deviation = np.sqrt(weights @ (scale**2 + (loc - mean) ** 2))
    expected = mean + deviation * stats.norm.ppf(7 / 8)
    np.testing.assert_allclose(latents.values(np.array([[3, 3]]))[0], expected, rtol=1e-5)


def test_the_component_of_a_mixture_is_popped_by_its_probability_given_z(rng):
    """Then what a bucket costs is −log2 of its mass under the mixture, whatever was popped."""
    log_weights = np.log([0.5, 0.3, 0.2])
    loc, log_scale = rng.normal(size=(3, 2)), rng.uniform(-1, 1, (3, 2))
    latents = Continuous((log_weights, loc, log_scale), 10)
    symbols = rng.integers(0, 1 << 10, (7, 2))
    z = latents.values(symbols).astype(np.float64)[:, np.newaxis]
    joint = log_weights + stats.norm.logpdf(z, loc, np.exp(log_scale)).sum(-1)
    given = latents._responsibilities(symbols)
    np.testing.assert_allclose(given._p, special.softmax(joint, axis=1), rtol=1e-6)


def test_only_the_random_words_that_were_popped_stay():
    stack = Stack.of_random_bits()
    stack.reserve(1000)
    code = Table(np.zeros([10, 16]))
    code.push(stack, code.pop(stack))
    stream, initial_bits = stack.finish()
    assert 40 <= initial_bits <= 40 + 3 * 32
    assert 32 * len(stream) == initial_bits


def test_the_masses_of_buckets_far_above_are_those_far_below_mirrored():
    """Where the normal function is 1 to all digits, differences of it would be 0."""
    far = Buckets(np.array([12.0, -12.0]), np.ones(2), 6)
    for masses in (far._among(), far._within(np.array([7, 0])), far._within(np.array([3, 4]))):
        np.testing.assert_allclose(masses[1, ::-1], masses[0], rtol=1e-9)
        assert np.all(np.diff(masses[0]) > 0)


def test_random_words_that_were_popped_stay_though_a_later_pop_takes_fewer():
    stack = Stack.of_random_bits()
    stack.reserve(1000)
    for count in (100, 1):
        code = Table(np.zeros([count, 16]))
        code.push(stack, code.pop(stack))
    stream, initial_bits = stack.finish()
    assert 400 <= initial_bits <= 400 + 3 * 32
    assert 32 * len(stream) == initial_bits
