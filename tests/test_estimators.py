import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfvae
from tfvae import estimators, objectives
from tfvae.errors import InvalidArgument
from tfvae.random import make_seed

tfd = tfp.distributions


@pytest.fixture
def model(linear_gaussian):
    model = linear_gaussian.vae()
    model.compile(kl="monte_carlo")
    return model


@pytest.mark.parametrize("beta", [1.0, 0.3])
@pytest.mark.parametrize("objective", objectives.REGISTRY.names())
@pytest.mark.parametrize("estimator", estimators.REGISTRY.names())
def test_the_surrogate_has_the_value_of_the_objective(
    linear_gaussian, model, estimator, objective, beta
):
    objective = objectives.get(objective)
    surrogate, terms = estimators.get(estimator)(
        objective, model, linear_gaussian.x, 6, beta, make_seed(2), training=True
    )
    assert terms.log_likelihood.shape == terms.kl.shape == (6, 4)
    np.testing.assert_allclose(surrogate, objective(terms.log_weights(beta)), rtol=1e-5)


@pytest.mark.parametrize("kl", ["monte_carlo", "exact"])
@pytest.mark.parametrize("estimator", estimators.REGISTRY.names())
def test_the_expected_gradient_of_the_elbo_is_the_analytic_one(
    linear_gaussian, model, assert_mean, estimator, kl
):
    """With respect to the encoder's bias and to both weights of the decoder."""
    model.compile(kl=kl)
    beta = 0.5
    weights = [model.encoder.trainable_variables[1], *model.decoder.trainable_variables]

    @tf.function
    def gradient(seed):
        with tf.GradientTape() as tape:
            surrogate, _ = estimators.get(estimator)(
                objectives.elbo, model, linear_gaussian.x, 10, beta, seed, training=True
            )
            total = tf.reduce_sum(surrogate)
        return tape.gradient(total, weights)

    draws = [gradient(make_seed(seed)) for seed in range(400)]
    expected = analytic_gradient(linear_gaussian, model, beta)
    for by_weight, exact in zip(zip(*draws, strict=True), expected, strict=True):
        assert_mean(np.stack(by_weight), exact)


def analytic_gradient(linear, model, beta):
    """Return d/d(encoder bias, decoder kernel, decoder bias) of Σ_b ELBO_β(x_b)."""
    mean, sigma = linear.q(model, linear.x)
    residual = linear.x - linear.b - mean @ linear.w.T
    precision = 1 / linear.scale**2
    for_mean = precision * residual @ linear.w - beta * mean
    squared_norms = np.sum(linear.w**2, axis=0)
    for_sigma = -precision * sigma * squared_norms - beta * (sigma - 1 / sigma)
    # dσ/draw of σ = softplus(u) is sigmoid(u) = 1 − e^−σ.
    for_raw = for_sigma * (1 - np.exp(-sigma))
    for_kernel = precision * (mean.T @ residual - np.sum(sigma**2, 0)[:, np.newaxis] * linear.w.T)
    return (
        np.concatenate([for_mean, for_raw], axis=1).sum(axis=0),
        for_kernel,
        precision * residual.sum(axis=0),
    )


def test_pathwise_refuses_a_posterior_that_cannot_be_reparameterized():
    class Bits(tfvae.distributions.Factory):
        def distribution(self, params, batch_ndims):
            return tfd.Independent(tfd.Bernoulli(params, dtype=tf.float32), 1, name="Bits")

    networks = [keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)]) for _ in range(2)]
    model = tfvae.VAE(*networks, posterior=Bits(), likelihood="normal")
    model.compile(kl="monte_carlo")
    with pytest.raises(InvalidArgument, match=r"Bits cannot. Use a Gaussian posterior"):
        estimators.pathwise(objectives.elbo, model, tf.zeros((2, 3)), 1, 1.0, make_seed(0), True)
