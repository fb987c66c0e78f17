"""log p(x) against enumeration in NumPy and the linear-Gaussian closed form."""

import itertools
import json
import math

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
import tensorflow_probability as tfp
from eager import without_graphs
from tiers import nightly_but

import tfvae
from tfvae import evaluation
from tfvae.errors import InvalidArgument, InvalidData

tfd = tfp.distributions
X_SIZE = 4
SHAPES = {"bernoulli": (3,), "categorical": (2, 3)}


def discrete_vae(kind, latent_shape=None, likelihood="bernoulli"):
    """A VAE with random weights that are not small, and a prior that is not uniform."""
    latent_shape = latent_shape or SHAPES[kind]
    rng = np.random.default_rng(5)
    size = int(np.prod(latent_shape))
    reshape = keras.layers.Reshape
    encoder = keras.Sequential(
        [keras.Input((X_SIZE,)), keras.layers.Dense(size), reshape(latent_shape)]
    )
    decoder = keras.Sequential(
        [keras.Input(latent_shape), reshape((size,)), keras.layers.Dense(X_SIZE)]
    )
    model = tfvae.VAE(encoder, decoder, posterior=kind, likelihood=likelihood)
    for weight in model.trainable_variables:
        weight.assign(rng.normal(size=weight.shape))
    logits = np.linspace(-1, 0.8, num=size).reshape(latent_shape)
    model.prior.logits.assign(logits)
    return model


def numpy_log_joint(model, x):
    """Return every state `[S, D]` and log p(x, z), `[S, N]`, by NumPy."""
    kernel, bias = (w.astype(np.float64) for w in model.decoder.get_weights())
    logits = np.asarray(model.prior.logits, np.float64)
    if model.posterior.kind == "bernoulli":
        states = np.array(list(itertools.product([0, 1], repeat=logits.size)), np.float64)
        log_prior = states @ logits.ravel() - np.sum(np.log1p(np.exp(logits)))
    else:
        rows, columns = logits.shape
        index = np.array(list(itertools.product(range(columns), repeat=rows)))
        states = np.eye(columns)[index].reshape(len(index), -1)
        log_prior = states @ scipy.special.log_softmax(logits, axis=-1).ravel()
    pixels = (states @ kernel + bias)[:, np.newaxis]
    log_likelihood = np.sum(x * pixels - np.log1p(np.exp(pixels)), axis=-1)
    return states, log_likelihood + log_prior[:, np.newaxis]


def binary_x(count, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (count, X_SIZE)).astype("f4")


@pytest.mark.parametrize(
    ("kind", "batch_size", "chunk"),
    nightly_but(
        [(k, *sizes) for k in SHAPES for sizes in ((100, 2**23), (4, 2**23), (3, 30), (1, 1))],
        *(("bernoulli", 100, 2**23), ("bernoulli", 1, 1), ("categorical", 3, 30)),
    ),
)
def test_discrete_latents_are_enumerated(kind, batch_size, chunk, monkeypatch):
    monkeypatch.setattr(evaluation.enumeration, "CHUNK_SIZE", chunk)
    model, x = discrete_vae(kind), binary_x(11)
    measured = tfvae.exact_log_likelihood(model, x, batch_size=batch_size)
    _, log_joint = numpy_log_joint(model, x)
    expected = scipy.special.logsumexp(log_joint, axis=0)
    np.testing.assert_allclose(measured.per_example, expected, atol=1e-5)


@pytest.mark.parametrize("kind", SHAPES)
def test_the_probabilities_of_all_images_sum_to_one(kind):
    x = np.array(list(itertools.product([0, 1], repeat=X_SIZE)), "f4")
    measured = tfvae.exact_log_likelihood(discrete_vae(kind), x)
    assert np.sum(np.exp(measured.per_example)) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("kind", nightly_but(SHAPES, "categorical"))
def test_importance_sampling_of_discrete_latents_agrees(kind):
    model, x = discrete_vae(kind), binary_x(10)
    exact = tfvae.exact_log_likelihood(model, x).per_example
    measured = tfvae.log_likelihood(model, x, num_samples=5000, progress=False)
    assert np.all(measured.sampling_error < 0.2)
    assert np.all(np.abs(measured.per_example - exact) <= 4 * measured.sampling_error)


@pytest.mark.parametrize("kind", nightly_but(SHAPES, "bernoulli"))
def test_the_true_discrete_posterior_as_proposal_has_no_variance(kind):
    model, x = discrete_vae(kind), binary_x(25)
    states, _ = numpy_log_joint(model, x[:1])
    values = tf.constant(states.reshape(-1, *model.latent_shape), tf.float32)
    measured = tfvae.log_likelihood(
        model, x, num_samples=50, progress=False, proposal=lambda x: TruePosterior(model, x, values)
    )
    exact = tfvae.exact_log_likelihood(model, x).per_example
    np.testing.assert_allclose(measured.per_example, exact, atol=1e-4)
    np.testing.assert_allclose(measured.effective_sample_size, 50, rtol=1e-4)


class TruePosterior:
    """p(z|x) over all states: anything that is sampled and has a log-density is a proposal."""

    def __init__(self, model, x, values):
        log_joint = model.log_joint(x, values[:, tf.newaxis])
        self._index = tfd.Categorical(tf.transpose(log_joint))
        self._values = values
        self.batch_shape, self.event_shape = self._index.batch_shape, model.latent_shape

    def sample(self, count, seed):
        return tf.gather(self._values, self._index.sample(count, seed=seed))

    def log_prob(self, z):
        size = math.prod(self.event_shape)
        z = tf.reshape(z, [*tf.unstack(tf.shape(z)[:2]), 1, size])
        same = tf.reduce_all(tf.equal(z, tf.reshape(self._values, [-1, size])), axis=-1)
        return self._index.log_prob(tf.argmax(tf.cast(same, tf.int32), axis=-1))


def test_the_linear_gaussian_model_has_a_closed_form(linear_gaussian):
    measured = tfvae.exact_log_likelihood(linear_gaussian.vae(), linear_gaussian.x, batch_size=3)
    np.testing.assert_allclose(
        measured.per_example, linear_gaussian.log_p(linear_gaussian.x), atol=1e-5
    )
    assert measured.num_values == 5


def test_a_shared_scale_counts_as_it_is_now(linear_gaussian):
    fixed = linear_gaussian.vae()
    likelihood = tfvae.likelihoods.Normal(scale="shared")
    model = tfvae.VAE(fixed.encoder, fixed.decoder, likelihood=likelihood)
    raw = np.log(np.expm1(linear_gaussian.scale - 1e-6)) - np.log(np.e - 1)
    likelihood.raw_scale.assign(raw)
    measured = tfvae.exact_log_likelihood(model, linear_gaussian.x)
    expected = linear_gaussian.log_p(linear_gaussian.x)
    np.testing.assert_allclose(measured.per_example, expected, atol=1e-5)


def test_several_layers_have_no_closed_form():
    """All maps are affine; p(z_1), whose mean is the bias of the upper decoder, is not N(0, I)."""
    dense = lambda inputs, units: keras.Sequential(  # noqa: E731
        [keras.Input((inputs,)), keras.layers.Dense(units)]
    )
    model = tfvae.HierarchicalVAE(
        [dense(5, 4), dense(2, 4)],
        [dense(2, 5), dense(2, 4)],
        likelihood=tfvae.likelihoods.Normal(scale=1.0),
    )
    assert tfvae.exact.linear_gaussian(model) is None


def test_memory_does_not_grow_with_the_number_of_states(monkeypatch):
    """2^8 states, at most 6 × 10 × 4 numbers in one tensor of decoder outputs."""
    monkeypatch.setattr(evaluation.enumeration, "CHUNK_SIZE", 240)
    model, x = discrete_vae("bernoulli", (8,), "normal"), binary_x(10)
    assert states_at_a_time(model, x, monkeypatch) == 6


@pytest.mark.parametrize(("classes", "numbers_of_a_state"), [(0, 50), (2, 10 * 50)])
def test_memory_does_not_grow_with_hidden_layers(classes, numbers_of_a_state, monkeypatch):
    """A layer of 50 has a row for each state, and given conditions for each of 10 examples too."""
    monkeypatch.setattr(evaluation.enumeration, "CHUNK_SIZE", 12 * numbers_of_a_state)
    model = tfvae.VAE(
        tfvae.networks.dense_encoder((X_SIZE,), 8, hidden=()),
        tfvae.networks.dense_decoder(8, (X_SIZE,), hidden=(50,), condition_size=classes),
        posterior="bernoulli",
        condition=classes or None,
    )
    y = np.arange(10) % 2 if classes else None
    assert states_at_a_time(model, binary_x(10), monkeypatch, condition=y) == 12


def states_at_a_time(model, x, monkeypatch, **options):
    """Return how many states `exact_log_likelihood` decodes at once, of 2^8 in all."""
    seen = []
    log_joint_terms = model.log_joint_terms

    def watched(x, z, *arguments):
        seen.append(z.shape[0])
        return log_joint_terms(x, z, *arguments)

    monkeypatch.setattr(model, "log_joint_terms", watched)
    with without_graphs():
        measured = tfvae.exact_log_likelihood(model, x, **options)
    assert sum(seen) == 256
    assert np.all(np.isfinite(measured.per_example))
    return max(seen)


def test_a_dataset_gives_what_its_array_gives():
    model, x = discrete_vae("bernoulli"), binary_x(11)
    dataset = tf.data.Dataset.from_tensor_slices((x, np.arange(11))).batch(4)
    np.testing.assert_allclose(
        tfvae.exact_log_likelihood(model, dataset, batch_size=3).per_example,
        tfvae.exact_log_likelihood(model, x).per_example,
        atol=1e-6,
    )


def test_the_summary_and_the_text_have_the_means():
    values = np.array([-1.0, -2.0, -6.0])
    measured = evaluation.ExactLogLikelihood(values, num_values=4)
    summary = measured.summary()
    assert summary == {
        "log_likelihood": pytest.approx(-3.0),
        "standard_error": pytest.approx(np.std(values, ddof=1) / np.sqrt(3)),
        "bits_per_dim": pytest.approx(3 / np.log(2) / 4),
        "num_examples": 3,
    }
    assert json.loads(json.dumps(summary)) == summary
    assert str(measured).startswith("log p(x) = -3.000 ± 1.528 nats")
    assert evaluation.ExactLogLikelihood(values[:1], 4).summary()["standard_error"] is None


def test_what_has_no_closed_form_is_refused(make_vae, images):
    with pytest.raises(InvalidArgument, match=r"no closed form.*tfvae\.log_likelihood"):
        tfvae.exact_log_likelihood(make_vae(), images)


def test_too_many_states_are_refused():
    model = discrete_vae("bernoulli", (17,))
    with pytest.raises(InvalidArgument, match=r"131,072.*65,536"):
        tfvae.exact_log_likelihood(model, binary_x(2))


def test_bad_sizes_and_data_are_refused():
    model = discrete_vae("bernoulli")
    with pytest.raises(InvalidArgument, match=r"`batch_size` is 0; .*at least 1"):
        tfvae.exact_log_likelihood(model, binary_x(2), batch_size=0)
    with pytest.raises(InvalidData, match="empty"):
        tfvae.exact_log_likelihood(model, binary_x(0))
