import types

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tfvae import random
from tfvae.random import Stream


def words(*values):
    return [tf.constant(np.array(v, np.uint32).astype(np.int32)) for v in values]


def unsigned(tensors):
    return [t.numpy().astype(np.uint32).tolist() for t in tensors]


# Random123's kat_vectors, "threefry2x32 20": counter, key, and what they give.
PUBLISHED = [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


def test_threefry_gives_the_published_vectors(mode):
    draw = mode(random.threefry2x32)
    for counter, key, expected in PUBLISHED:
        assert unsigned(draw(words(*key), words(*counter))) == list(expected)


def test_threefry_gives_the_same_bits_in_every_mode(rng, mode):
    key = words(*rng.integers(0, 2**32, 2))
    counter = words(*rng.integers(0, 2**32, (2, 1000)))
    in_mode = mode(random.threefry2x32)(key, counter)
    assert unsigned(in_mode) == unsigned(random.threefry2x32(key, counter))


def test_normal_is_the_same_in_every_mode(mode):
    seed, index = random.make_seed(5), tf.range(100)
    draws = mode(lambda s, i: random.normal(s, i, 7))(seed, index)
    np.testing.assert_allclose(draws, random.normal(seed, index, 7), rtol=0, atol=1e-6)


def test_a_row_of_normal_depends_on_the_seed_and_its_index_only():
    seed = random.make_seed(5)
    batch = random.normal(seed, tf.range(10), 6).numpy()
    for index in ([7], [3, 1, 3]):
        rows = random.normal(seed, tf.constant(index), 6)
        np.testing.assert_allclose(rows, batch[index], rtol=0, atol=1e-6)
    shorter = random.normal(seed, tf.range(10), 5)
    np.testing.assert_allclose(shorter, batch[:, :5], rtol=0, atol=1e-6)
    assert len(np.unique(batch)) == batch.size
    assert not np.any(random.normal(random.make_seed(6), tf.range(10), 6) == batch)


def test_a_million_normals_are_normal():
    rows = random.normal(random.make_seed(1), tf.range(1000), 1000).numpy().astype(np.float64)
    draws = rows.ravel()
    n = draws.size
    assert abs(draws.mean()) < 4 / np.sqrt(n)
    assert abs(draws.var() - 1) < 4 * np.sqrt(2 / n)
    assert abs(np.mean(draws**3)) < 4 * np.sqrt(15 / n)
    assert abs(np.mean(draws**4) - 3) < 4 * np.sqrt(96 / n)
    # The 0.1% critical value of Kolmogorov and Smirnov's statistic.
    assert scipy.stats.kstest(draws, "norm").statistic < 1.95 / np.sqrt(n)
    assert 4.5 < np.abs(draws).max() < 5.78


@pytest.mark.parametrize(
    ("first", "second"),
    [(np.s_[:, ::2], np.s_[:, 1::2]), (np.s_[:, :-2], np.s_[:, 2:]), (np.s_[:-1], np.s_[1:])],
    ids=["two of a pair", "neighbouring pairs", "neighbouring rows"],
)
@pytest.mark.parametrize("power", [1, 2])
def test_normals_are_uncorrelated(first, second, power):
    draws = random.normal(random.make_seed(2), tf.range(300), 300).numpy() ** power
    a, b = draws[first].ravel(), draws[second].ravel()
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(a.size)


def test_every_bit_of_the_seed_counts():
    seeds = [0, *(1 << bit for bit in range(64))]
    assert len({tuple(random.make_seed(seed).numpy()) for seed in seeds}) == 65
    draws = [random.normal(random.make_seed(seed), tf.range(1), 2).numpy()[0] for seed in seeds]
    assert len({tuple(draw) for draw in draws}) == 65
    streams = [random.stream_seed(seed, Stream.TRAIN, 0).numpy() for seed in seeds]
    assert len({tuple(stream) for stream in streams}) == 65


def test_stream_seeds_differ_by_seed_stream_and_step():
    seeds = {
        tuple(random.stream_seed(seed, stream, step).numpy())
        for seed in (0, 1)
        for stream in Stream
        for step in range(5)
    }
    assert len(seeds) == 2 * len(Stream) * 5


def test_seeds_of_replicas_differ_and_seeds_of_the_batch_do_not(monkeypatch):
    seed = random.stream_seed(0, Stream.TRAIN, 3)
    np.testing.assert_array_equal(random.seed_of_replica(seed), seed)
    second = types.SimpleNamespace(replica_id_in_sync_group=1, num_replicas_in_sync=2)
    monkeypatch.setattr(tf.distribute, "get_replica_context", lambda: second)
    np.testing.assert_array_equal(random.stream_seed(0, Stream.TRAIN, 3), seed)
    assert not np.array_equal(random.seed_of_replica(seed), seed)


def test_fold_in_takes_a_tensor_in_a_graph_as_it_takes_an_integer():
    seed = random.make_seed(9)
    folded = tf.function(lambda step: random.fold_in(seed, 4, step), autograph=False)(
        tf.constant(11, tf.int64)
    )
    np.testing.assert_array_equal(folded, random.fold_in(seed, 4, 11))


def test_fold_in_is_the_same_in_every_mode(mode):
    """TensorFlow's is not: XLA extends the sign of a word of the seed."""
    fold_in = mode(lambda s, d: random.fold_in(s, d, 9))
    for seed in ((5, 7), (-1, 2), (3, -4), (-(2**31), -1)):
        for data in (4, -4):
            folded = fold_in(tf.constant(seed), tf.constant(data))
            np.testing.assert_array_equal(folded, random.fold_in(tf.constant(seed), data, 9))


def test_fold_in_is_that_of_tensorflow_where_no_word_is_negative():
    seed = tf.constant([5, 7])
    np.testing.assert_array_equal(random.fold_in(seed, -3), tf.random.fold_in(seed, -3))


def test_words_and_uniforms_are_the_same_in_every_mode(mode):
    for draw in (random.words, random.stateless_uniform):
        in_mode = mode(lambda s, draw=draw: draw([3, 50], s))
        for seed in (tf.constant([5, 7]), tf.constant([-5, -7])):
            np.testing.assert_array_equal(in_mode(seed), draw([3, 50], seed))


def test_stateless_uniforms_are_uniform_and_never_at_an_end():
    draws = random.stateless_uniform([1000, 1000], random.make_seed(3)).numpy().astype("f8").ravel()
    assert 0 < draws.min() < draws.max() < 1
    np.testing.assert_array_equal(draws * 2**24 % 2, 1)
    assert scipy.stats.kstest(draws, "uniform").statistic < 1.95 / np.sqrt(draws.size)


def test_gumbel_noise_has_the_moments_of_gumbel_noise(assert_mean):
    noise = random.gumbel(random.uniform(random.make_seed(1), tf.range(20_000), 3)).numpy()
    assert_mean(noise, np.euler_gamma)
    assert_mean((noise - np.euler_gamma) ** 2, np.pi**2 / 6)


def test_stateless_normals_are_the_same_in_every_mode(mode):
    """Also where the shape is known to the graph alone."""
    seed, shapes = tf.constant([5, -7]), [(), (1,), (7, 3), (2, 3, 4)]

    def draw(seed):
        return [random.stateless_normal(tf.shape(tf.zeros(shape)), seed) for shape in shapes]

    for in_mode, shape in zip(mode(draw)(seed), shapes, strict=True):
        assert in_mode.shape == shape
        expected = random.stateless_normal(shape, seed)
        np.testing.assert_allclose(in_mode, expected, rtol=0, atol=2e-6)


def test_a_million_stateless_normals_are_normal_and_uncorrelated():
    draws = random.stateless_normal([1001, 999], random.make_seed(1)).numpy().astype("f8").ravel()
    assert scipy.stats.kstest(draws, "norm").statistic < 1.95 / np.sqrt(draws.size)
    half = (draws.size + 1) // 2  # the two of a pair
    for power in (1, 2):
        pairs = draws[: draws.size - half] ** power, draws[half:] ** power
        assert abs(np.corrcoef(*pairs)[0, 1]) < 4 / np.sqrt(half)
