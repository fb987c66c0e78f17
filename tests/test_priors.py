import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tfvae import priors
from tfvae.distributions import all_states
from tfvae.errors import InvalidArgument
from tfvae.posteriors import DiagonalNormal
from tfvae.random import make_seed

# Those of independent units; see also test_priors_flow.py and test_posteriors.py.
INDEPENDENT = ("bernoulli", "categorical", "standard_normal")


@pytest.fixture(params=INDEPENDENT)
def build(request, rng):
    """Return a function that builds the prior for a shape of latents, its weights not at 0."""

    def build(latent_shape):
        prior = priors.get(request.param)
        prior.build(latent_shape)
        prior.set_weights([rng.normal(size=weight.shape) for weight in prior.weights])
        return prior

    return build


class TestEveryPrior:
    @pytest.mark.parametrize("latent_shape", [(3,), (2, 2, 3)])
    def test_shapes(self, build, latent_shape):
        prior = build(latent_shape)
        z = prior.draw(make_seed(0), tf.range(5))
        assert z.shape == (5, *latent_shape)
        assert prior.log_prob(z).shape == (5,)
        assert prior.log_prob(tf.stack([z, z])).shape == (2, 5)

    def test_density_integrates_to_one(self, build):
        prior = build((2, 2))
        if prior.kind == "continuous":
            axis = np.linspace(-6, 6, 41, dtype=np.float32)
            values = np.stack(np.meshgrid(*[axis] * 4), axis=-1).reshape(-1, 2, 2)
            cell = (axis[1] - axis[0]) ** 4
        else:
            values, cell = all_states(prior.kind, (2, 2)), 1.0
        np.testing.assert_allclose(np.exp(prior.log_prob(values)).sum() * cell, 1, rtol=1e-4)

    def test_log_prob_is_that_of_the_distribution(self, build):
        prior = build((3,))
        z = prior.draw(make_seed(0), tf.range(5))
        np.testing.assert_array_equal(prior.log_prob(z), prior.distribution().log_prob(z))

    def test_samples_have_the_moments_of_the_distribution(self, build, assert_mean):
        prior = build((2,))
        z = prior.draw(make_seed(3), tf.range(20_000)).numpy()
        reference = prior.distribution().sample(200_000, seed=make_seed(4)).numpy()
        for power in (1, 2):
            assert_mean(z**power, (reference**power).mean(axis=0))

    def test_a_draw_depends_on_the_seed_and_its_index_only(self, build):
        prior = build((20, 3))
        z = prior.draw(make_seed(5), tf.range(10)).numpy()
        alone = prior.draw(make_seed(5), tf.constant([7]))
        np.testing.assert_allclose(alone[0], z[7], rtol=0, atol=1e-6)
        other = prior.draw(make_seed(6), tf.range(10)).numpy()
        assert len(np.unique(np.concatenate([z, other]), axis=0)) == 20

    def test_samples_are_the_same_in_every_mode(self, build, mode):
        prior = build((3,))
        draw = mode(lambda seed, index: prior.draw(seed, index, 0.7))
        arguments = make_seed(5), tf.range(4)
        np.testing.assert_allclose(draw(*arguments), prior.draw(*arguments, 0.7), atol=1e-6)

    def test_temperature_narrows_the_spread(self, build):
        prior = build((3, 2))
        spread = [
            prior.draw(make_seed(5), tf.range(200), t).numpy().std(axis=0).mean()
            for t in (0.0, 0.5, 1.0)
        ]
        assert spread[0] == 0
        assert spread[1] < spread[2]

    def test_a_temperature_may_be_an_array_without_axes(self, build):
        prior = build((3, 2))
        expected = prior.sample(3, temperature=0.5)
        for half in (np.array(0.5), np.float32(0.5), tf.constant(0.5)):
            np.testing.assert_array_equal(prior.sample(3, temperature=half), expected)
        with pytest.raises(InvalidArgument, match="`temperature` is "):
            prior.sample(3, temperature=np.array([0.5, 0.5]))

    def test_temperature_zero_gives_the_mode(self, build):
        prior = build((3, 2))
        z = prior.draw(make_seed(5), tf.range(1), 0.0)
        np.testing.assert_array_equal(z[0], prior.distribution().mode())

    def test_config_round_trip_through_keras(self, build):
        prior = build((3,))
        config = keras.saving.serialize_keras_object(prior)
        restored = keras.saving.deserialize_keras_object(config)
        if not restored.built:
            restored.build((3,))
        assert type(restored) is type(prior)
        assert [w.shape for w in restored.weights] == [w.shape for w in prior.weights]


def test_standard_normal_is_the_standard_normal(rng):
    prior = priors.StandardNormal()
    prior.build((2, 3))
    z = rng.normal(size=(4, 2, 3)).astype(np.float32)
    expected = scipy.stats.norm.logpdf(z).sum(axis=(1, 2))
    np.testing.assert_allclose(prior.log_prob(z), expected, rtol=1e-5)
    warm, cool = (prior.draw(make_seed(1), tf.range(4), t) for t in (1.0, 0.25))
    np.testing.assert_allclose(cool, 0.25 * warm, rtol=1e-6)


def test_kl_to_the_standard_normal_is_the_closed_form(rng, assert_mean):
    prior = priors.StandardNormal()
    prior.build((3,))
    params = rng.normal(size=(2, 6)).astype(np.float32)
    q = DiagonalNormal()(params)
    mean, sigma = params[:, :3], np.log1p(np.exp(params[:, 3:] + np.log(np.e - 1)))
    expected = 0.5 * np.sum(mean**2 + sigma**2 - 1 - 2 * np.log(sigma), axis=1)
    np.testing.assert_allclose(q.kl_divergence(prior.distribution()), expected, rtol=1e-4)
    z = q.sample(20_000, seed=make_seed(1))
    assert_mean(q.log_prob(z) - prior.log_prob(z), expected)
