import keras
import numpy as np
import pytest
import tensorflow as tf

import tfvae
from tfvae import objectives
from tfvae.evaluation.gradient_draws import GradientDraws
from tfvae.random import Stream, fold_in


@pytest.mark.slow  # Compiles graphs of a whole model.
def test_groups_are_of_the_draws_of_their_numbers(linear_gaussian):
    model, x = linear_gaussian.vae(), tf.constant(linear_gaussian.x, tf.float32)
    draws = GradientDraws(model, x, None, objectives.elbo, "pathwise", 2, seed=0)
    means, mean_square, count = draws.groups(40, Stream.TEST)
    seeds = [fold_in(draws.seed, int(Stream.TEST), number) for number in range(40)]
    gradients = np.stack([draws.gradient(seed).numpy() for seed in seeds]).astype("f8")
    assert count == 40
    np.testing.assert_allclose(means, gradients.reshape(20, 2, -1).mean(1), rtol=1e-5, atol=1e-5)
    assert mean_square == pytest.approx(np.sum(gradients**2) / 40, rel=1e-5)


@pytest.mark.slow  # Compiles graphs of a whole model.
def test_what_an_estimator_learns_first_leaves_the_statistics_of_networks(rng):
    normalization = keras.layers.BatchNormalization()
    encoder = keras.Sequential([keras.Input((6,)), normalization, keras.layers.Dense(3)])
    decoder = keras.Sequential([keras.Input((3,)), keras.layers.Dense(6)])
    model = tfvae.VAE(encoder, decoder, posterior="bernoulli")
    x = tf.constant(rng.integers(0, 2, (10, 6)), tf.float32)
    draws = GradientDraws(model, x, None, objectives.elbo, "nvil", 2, seed=0)
    draws.warm_up(3)
    np.testing.assert_array_equal(normalization.moving_mean, np.zeros(6))
    np.testing.assert_array_equal(normalization.moving_variance, np.ones(6))
    assert draws.estimator._moments.mean < 0, "and not what it has learned"
