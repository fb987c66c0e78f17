import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from tiers import nightly_but

import tfvae
from tfvae.errors import InvalidArgument, InvalidData

pytestmark = pytest.mark.slow  # Compiles graphs of whole models.

tfd = tfp.distributions


@pytest.mark.nightly  # 1,000 steps
def test_decoder_and_free_posteriors_reach_the_maximum_of_probabilistic_pca():
    """Without an encoder: Tipping and Bishop 1999 know the maximum of the likelihood."""
    rng = np.random.default_rng(1)
    scale, x_size, latents = 0.5, 4, 2
    x = (rng.normal(size=(200, latents)) @ rng.normal(size=(latents, x_size)) * 1.5).astype("f4")
    x += scale * rng.normal(size=x.shape).astype("f4")
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    w = vectors[:, -latents:] * np.sqrt(values[-latents:] - scale**2)
    covariance = w @ w.T + scale**2 * np.eye(x_size)
    gaussian = tfd.MultivariateNormalFullCovariance(x.mean(0).astype("f8"), covariance)
    maximum = float(np.mean(gaussian.log_prob(x.astype("f8"))))

    keras.utils.set_random_seed(0)
    model = tfvae.VAE(
        keras.Sequential([keras.Input((x_size,)), keras.layers.Dense(2 * latents)]),
        keras.Sequential([keras.Input((latents,)), keras.layers.Dense(x_size)]),
        likelihood=tfvae.likelihoods.Normal(scale),
    )
    rate = keras.optimizers.schedules.CosineDecay(0.03, 1000)
    model.compile(tfvae.optimizers.Adam(rate), num_samples=10)
    encoder = model.encoder.get_weights()
    parameters, losses = tfvae.fit_jointly(model, x, epochs=500, batch_size=100)
    assert parameters.shape == (200, 4)
    exact = tfvae.exact.linear_gaussian(model).log_prob(x.astype("f8"))
    assert np.mean(exact) == pytest.approx(maximum, abs=0.04)
    assert maximum - 0.3 < -losses[-1] < maximum + 0.05  # a diagonal q need not reach it
    for before, after in zip(encoder, model.encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("estimator", nightly_but(["exact", "rloo", "nvil"], "rloo"))
def test_discrete_posteriors_find_which_state_made_each_example(estimator):
    x = np.repeat(np.eye(4, dtype="f4"), 10, axis=0)
    keras.utils.set_random_seed(2)
    model = tfvae.VAE(
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)]),
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)]),
        posterior="categorical",
    )
    model.compile(tfvae.optimizers.Adam(0.05), estimator=estimator, num_samples=4)
    parameters, losses = tfvae.fit_jointly(
        model, x, epochs=60, batch_size=20, learning_rate=0.1, init="encoder"
    )
    assert losses[-1] < 0.8 * losses[0]
    q = model.posterior(parameters)
    log_p = tfvae.exact_log_likelihood(model, x).per_example
    joint = tfvae.exact.log_joint(model, x, np.eye(4, dtype="f4")).numpy()
    best = np.exp(joint - log_p).argmax(axis=0)
    assert np.mean(np.argmax(q.mean(), axis=1) == best) > 0.9


@pytest.mark.usefixtures("eagerly")
def test_training_is_a_function_of_the_seed():
    """Whatever the seed of the model, and with layers that draw in training."""

    def train(seed, model_seed):
        model = tfvae.VAE(
            keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)]),
            keras.Sequential(
                [
                    keras.Input((2,)),
                    keras.layers.Dense(8),
                    keras.layers.Dropout(0.5, seed=model_seed),
                    keras.layers.Dense(3),
                ]
            ),
            seed=model_seed,
        )
        rng = np.random.default_rng(0)
        model.set_weights([rng.normal(size=weight.shape) for weight in model.get_weights()])
        model.compile("adam")
        x = np.eye(3, dtype="f4")
        parameters, losses = tfvae.fit_jointly(
            model, x, epochs=2, batch_size=2, inner_steps=1, seed=seed
        )
        return parameters, np.array(losses)

    for found, same, other in zip(train(1, 1), train(1, 2), train(2, 1), strict=True):
        np.testing.assert_array_equal(found, same)
        assert np.any(found != other)


@pytest.mark.parametrize("condition", nightly_but(["labels", "one for all"], "labels"))
def test_a_decoder_of_conditions_learns_their_examples(condition):
    """Where x is known given y, log p(x|y) of p(x|z, y) = N(x; y, σ²) is that of a normal at 0."""
    size = 4
    y = np.arange(20) % 2 if condition == "labels" else 1
    x = np.tile(np.reshape(y, (-1, 1)), (20 // np.size(y), size)).astype("f4")
    keras.utils.set_random_seed(0)
    model = tfvae.VAE(
        tfvae.networks.dense_encoder((size,), 2, condition_size=2),
        tfvae.networks.dense_decoder(1, (size,), hidden=(), condition_size=2),
        likelihood=tfvae.likelihoods.Normal(0.5),
        condition=2,
    )
    model.compile(tfvae.optimizers.Adam(0.05))
    _, losses = tfvae.fit_jointly(model, x, condition=y, epochs=150, batch_size=20)
    expected = size * (np.log(0.5) + 0.5 * np.log(2 * np.pi))
    assert np.mean(losses[-10:]) == pytest.approx(expected, abs=0.05)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("condition", [[1, 0, 0, 1, 1], 1])
def test_posteriors_start_at_those_of_the_encoder_given_the_conditions(condition):
    rng = np.random.default_rng(0)
    model = tfvae.VAE(
        tfvae.networks.dense_encoder((3,), 4, hidden=(), condition_size=2),
        tfvae.networks.dense_decoder(2, (3,), hidden=()),
        condition=2,
    )
    kernel, bias = rng.normal(size=(5, 4)), rng.normal(size=4)
    model.encoder.set_weights([kernel, bias])
    model.compile("adam")
    x = rng.integers(0, 2, (5, 3)).astype("f4")
    parameters, _ = tfvae.fit_jointly(
        model, x, condition=condition, epochs=1, learning_rate=0.0, init="encoder"
    )
    expected = x @ kernel[:3] + kernel[3 + np.array(condition)] + bias
    np.testing.assert_allclose(parameters, expected, rtol=1e-5)


class Table(keras.layers.Layer):
    """Logits that are looked up in a table: three of one row and two of the other."""

    def build(self, input_shape):
        self.table = self.add_weight(shape=(2,), initializer="zeros", name="table")

    def call(self, z):
        return 0.0 * z[:, :1] + tf.gather(self.table.value, [0, 0, 0, 1, 1])

    def compute_output_shape(self, input_shape):
        return (input_shape[0], 5)


@pytest.mark.usefixtures("eagerly")
def test_a_table_makes_the_step_of_the_sum_of_its_gradients():
    """The first step of Adam is of the learning rate, whatever the gradient."""
    model = tfvae.VAE(
        keras.Sequential([keras.Input((5,)), keras.layers.Dense(4)]),
        keras.Sequential([keras.Input((2,)), Table()]),
    )
    model.compile(keras.optimizers.Adam(0.01))
    x = np.array([[1, 1, 1, 0, 0]] * 4, "f4")
    tfvae.fit_jointly(model, x, epochs=1, inner_steps=1)
    np.testing.assert_allclose(model.decoder.layers[-1].table, [0.01, -0.01], rtol=1e-4)
    assert model.steps_made == 1


@pytest.mark.usefixtures("eagerly")
def test_pseudo_inputs_start_at_examples(rng):
    x = rng.integers(0, 2, (6, 5)).astype("f4")
    model = tfvae.VAE(
        keras.Sequential([keras.Input((5,)), keras.layers.Dense(4)]),
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(5)]),
        prior=tfvae.priors.VampPrior(3),
    )
    model.compile(keras.optimizers.SGD(0.0))
    tfvae.fit_jointly(model, x, epochs=1, inner_steps=1)
    found = model.prior.pseudo_inputs.numpy()
    assert {tuple(row) for row in found} <= {tuple(row) for row in x}


def test_bad_input_is_refused(make_vae, images):
    model = make_vae()
    with pytest.raises(InvalidArgument, match="compile"):
        tfvae.fit_jointly(model, images)
    model.compile("adam")
    with pytest.raises(InvalidArgument, match="`init` is 'zeros'"):
        tfvae.fit_jointly(model, images, init="zeros")
    with pytest.raises(InvalidArgument, match="`epochs` is 0"):
        tfvae.fit_jointly(model, images, epochs=0)
    with pytest.raises(InvalidData, match="shape"):
        tfvae.fit_jointly(model, images[:, :2])
    with pytest.raises(InvalidArgument, match="`learning_rate` is -1; expected a number of at lea"):
        tfvae.fit_jointly(model, images, learning_rate=-1)
    model.decoder.trainable = False
    with pytest.raises(InvalidArgument, match=r"nothing to learn.*all of them are frozen"):
        tfvae.fit_jointly(model, images)
    assert isinstance(model.step.value, tf.Variable)
