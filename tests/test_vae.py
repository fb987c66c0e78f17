import math

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
import tensorflow_probability as tfp
from tiers import LONG, nightly_but

import tfvae
from tfvae import networks, objectives
from tfvae.bound import Bound
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.joint import sampler
from tfvae.random import make_seed

tfd = tfp.distributions


def weights(model):
    return np.concatenate([w.ravel() for w in model.get_weights()])


def fit(model, *data, epochs=1, batch_size=4, **options):
    return model.fit(*data, epochs=epochs, batch_size=batch_size, verbose=0, **options)


def measure(model, x, **options):
    return model.evaluate(x, verbose=0, return_dict=True, **options)


def narrow(model):
    """Make q(z|x) of two latents so narrow that every sample is its mean."""
    layer = model.encoder.get_layer("params")
    kernel, bias = layer.get_weights()
    kernel[:, 2:], bias[2:] = 0, -100
    layer.set_weights([kernel, bias])


@pytest.fixture(scope="module")
def trained(make_vae):
    """Return a function that builds a model, trains it in order, and gives all its weights."""

    def train(*data, vae=None, compiled=None, batch_size=6, **options):
        model = make_vae(**(vae or {}))
        model.compile(**{"run_eagerly": True, **(compiled or {})})
        fit(model, *data, shuffle=False, batch_size=batch_size, **options)
        return weights(model)

    return train


@pytest.fixture(scope="module")
def baseline(trained, images):
    return trained(images)


@pytest.fixture(scope="module")
def log_weights(linear_gaussian):
    """100,000 log-weights for each of 4 examples, with an arbitrary encoder."""
    return linear_gaussian.vae().log_weights(linear_gaussian.x, 100_000, seed=1).numpy()


class TestBounds:
    """A linear-Gaussian model: log p(x), the ELBO and p(z|x) are known."""

    def test_the_mean_weight_is_p_of_x(self, linear_gaussian, log_weights, assert_mean):
        assert log_weights.shape == (100_000, 4)
        log_p = linear_gaussian.log_p(linear_gaussian.x)
        assert_mean(np.exp(log_weights.astype(np.float64) - log_p), 1)

    def test_the_elbo_is_its_closed_form(self, linear_gaussian, log_weights, assert_mean):
        mean, sigma = linear_gaussian.q(linear_gaussian.vae(), linear_gaussian.x)
        x = linear_gaussian.x
        expected = linear_gaussian.expected_log_likelihood(mean, sigma, x)
        assert_mean(log_weights, expected - linear_gaussian.kl(mean, sigma))

    def test_iwae_rises_with_the_number_of_samples_to_log_p(
        self, linear_gaussian, log_weights, assert_mean
    ):
        log_p = linear_gaussian.log_p(linear_gaussian.x)
        means, errors = [], []
        for k in (1, 5, 50):
            repetitions = tf.transpose(log_weights.reshape(-1, k, 4), (1, 0, 2))
            bounds = tfvae.objectives.iwae(repetitions).numpy()
            means.append(bounds.mean(axis=0))
            errors.append(bounds.std(axis=0) / np.sqrt(len(bounds)))
        for lower in (0, 1):
            rise = means[lower + 1] - means[lower]
            assert np.all(rise > 4 * np.hypot(errors[lower], errors[lower + 1]))
        assert np.all(means[2] < log_p + 4 * errors[2])
        assert np.all(means[2] > log_p - 0.5)

    def test_every_weight_is_p_of_x_at_the_true_posterior(self, linear_gaussian):
        model = linear_gaussian.vae(encoder="posterior")
        log_weights = model.log_weights(linear_gaussian.x, 50)
        expected = np.broadcast_to(linear_gaussian.log_p(linear_gaussian.x), (50, 4))
        np.testing.assert_allclose(log_weights, expected, rtol=0, atol=1e-4)

    def test_log_weights_are_a_function_of_the_seed(self, linear_gaussian):
        model, x = linear_gaussian.vae(), linear_gaussian.x
        first, again, other = (model.log_weights(x, 3, seed).numpy() for seed in (1, 1, 2**40))
        np.testing.assert_array_equal(first, again)
        assert not np.any(first == other)


class TestKL:
    def test_exact_and_sampled_kl_are_the_closed_form(self, linear_gaussian, assert_mean):
        model, x = linear_gaussian.vae(), linear_gaussian.x
        expected = linear_gaussian.kl(*linear_gaussian.q(model, x))
        joint = model.inference(x)(sampler(20_000, make_seed(1)))
        by_unit = joint.layers[0].kl_by_unit()
        assert by_unit.shape == (1, 4, 2)
        np.testing.assert_allclose(np.sum(by_unit[0], axis=1), expected, rtol=1e-5)
        assert_mean(Bound(objectives.elbo).terms(joint).kl, expected)

    @pytest.mark.parametrize("kl", nightly_but(["auto", "exact", "monte_carlo"], "auto"))
    def test_evaluate_gives_the_closed_form(self, linear_gaussian, kl):
        x = np.repeat(linear_gaussian.x, 50, axis=0)
        model = linear_gaussian.vae()
        model.compile(kl=kl, num_samples=200, run_eagerly=True)
        metrics = measure(model, x)
        mean, sigma = linear_gaussian.q(model, linear_gaussian.x)
        expected_kl = linear_gaussian.kl(mean, sigma).mean()
        log_likelihood = linear_gaussian.expected_log_likelihood(mean, sigma, linear_gaussian.x)
        # log w varies by a few nats, so that the mean of 40,000 is known to a few hundredths.
        np.testing.assert_allclose(metrics["reconstruction"], -log_likelihood.mean(), atol=0.1)
        tolerance = 0.1 if kl == "monte_carlo" else 1e-4
        np.testing.assert_allclose(metrics["kl"], expected_kl, atol=tolerance)

    @pytest.mark.parametrize(
        ("objective", "kl", "uses_exact"),
        [
            ("elbo", "auto", True),
            ("elbo", "exact", True),
            ("elbo", "monte_carlo", False),
            ("iwae", "auto", False),
        ],
    )
    def test_auto_takes_the_closed_form_where_it_may(
        self, make_vae, images, objective, kl, uses_exact
    ):
        model = make_vae()
        model.compile(objective=objective, kl=kl, num_samples=3)
        joint = model.inference(images)(sampler(3, make_seed(0)))
        kl = model.validation_bound().terms(joint).kl
        assert kl.shape == (1 if uses_exact else 3, 12)

    def test_a_posterior_without_closed_form_is_sampled_or_refused(self, images):
        class Laplace(tfvae.posteriors.DiagonalNormal):
            def distribution(self, params, batch_ndims):
                loc, log_scale = tf.split(params, 2, axis=-1)
                return tfd.Independent(tfd.Laplace(loc, tf.exp(log_scale)), 1)

        encoder = networks.dense_encoder((4, 4, 1), 4, hidden=())
        decoder = networks.dense_decoder(2, (4, 4, 1), hidden=())
        model = tfvae.VAE(encoder, decoder, posterior=Laplace())
        model.compile(kl="auto")
        assert np.isfinite(measure(model, images)["loss"])
        with pytest.raises(InvalidArgument, match="in closed form"):
            model.compile(kl="exact")


class TestFreeBits:
    @pytest.mark.parametrize("free_bits", [0.0, 0.3, 2.0])
    def test_the_loss_counts_at_least_lambda_for_each_unit(self, linear_gaussian, free_bits):
        model, x = linear_gaussian.vae(), linear_gaussian.x
        model.compile(free_bits=free_bits, beta=0.5, num_samples=3, run_eagerly=True)
        metrics = measure(model, x)
        mean, sigma = linear_gaussian.q(model, x)
        by_unit = 0.5 * (mean**2 + sigma**2 - 1 - 2 * np.log(sigma))
        counted = np.maximum(by_unit, free_bits).sum(axis=1).mean()
        assert metrics["loss"] == pytest.approx(metrics["reconstruction"] + 0.5 * counted, rel=1e-5)
        assert metrics["kl"] == pytest.approx(by_unit.sum(axis=1).mean(), rel=1e-5)

    def test_a_unit_within_its_free_bits_has_no_gradient_of_the_kl(self, linear_gaussian):
        """With a decoder that ignores z, nothing but the KL could move the encoder."""
        model, x = linear_gaussian.vae(), linear_gaussian.x
        kernel, bias = model.decoder.get_weights()
        model.decoder.set_weights([0 * kernel, bias])
        before = model.encoder.get_weights()
        model.compile("sgd", free_bits=50.0, run_eagerly=True)
        model.fit(x, epochs=1, verbose=0)
        for a, b in zip(before, model.encoder.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.slow
class TestTraining:
    @pytest.mark.nightly  # below, graphs train as eager execution does, and that lowers the loss
    @pytest.mark.parametrize(
        ("likelihood", "options"),
        [
            ("bernoulli", {"optimizer": "rmsprop"}),
            ("categorical", {"objective": "iwae", "num_samples": 3}),
            ("normal", {"optimizer": tfvae.optimizers.Adam(), "beta": 0.5}),
            ("discretized_logistic_mixture", {"kl": "monte_carlo", "steps_per_execution": 3}),
        ],
    )
    def test_training_lowers_the_loss(self, make_vae, images, likelihood, options):
        model = make_vae(likelihood)
        model.compile(**options)
        model.optimizer.learning_rate = 0.05
        losses = fit(model, images, epochs=10).history["loss"]
        assert np.all(np.isfinite(losses))
        assert losses[-1] < 0.9 * losses[0]

    def test_metrics_of_training_and_validation(self, make_vae, images):
        model = make_vae()
        model.compile(objective="iwae", num_samples=5, run_eagerly=True)
        history = fit(model, images, validation_data=images[:5]).history
        names = {"loss", "elbo", "reconstruction", "kl"}
        assert set(history) == names | {f"val_{name}" for name in names}
        for prefix in ("", "val_"):
            loss, elbo, reconstruction, kl = (
                np.array(history[prefix + name])
                for name in ("loss", "elbo", "reconstruction", "kl")
            )
            np.testing.assert_allclose(elbo, -(reconstruction + kl), rtol=1e-5)
            assert np.all(loss < -elbo), "the IWAE bound is above the ELBO"

    @pytest.mark.parametrize(
        "likelihood",
        nightly_but(["bernoulli", "categorical", "normal", "poisson"], "bernoulli", "normal"),
    )
    def test_reconstruction_is_minus_the_log_likelihood(self, make_vae, images, likelihood):
        """At a posterior so narrow that every sample is its mean."""
        model = make_vae(likelihood)
        narrow(model)
        model.compile(run_eagerly=True)
        expected = -model.p_x_given_z(model.encode(images)).log_prob(images).numpy().mean()
        np.testing.assert_allclose(measure(model, images)["reconstruction"], expected, rtol=1e-5)

    def test_evaluate_gives_the_same_numbers_again(self, make_vae, images):
        model = make_vae()
        model.compile(run_eagerly=True)
        first = measure(model, images, batch_size=4)
        assert measure(model, images, batch_size=4) == first
        twice = measure(model, np.concatenate([images, images]), batch_size=12)
        assert twice["loss"] != pytest.approx(measure(model, images, batch_size=12)["loss"], 1e-4)

    def test_validation_leaves_training_as_it_was(self, trained, baseline, images):
        np.testing.assert_array_equal(trained(images, validation_data=images), baseline)

    @pytest.mark.parametrize(
        "form",
        nightly_but(
            ["labels", "none", "dataset", "dataset with labels"], "labels", "dataset with labels"
        ),
    )
    @pytest.mark.filterwarnings("ignore:`fit` got y, which nothing uses")
    def test_data_in_any_form_trains_alike(self, trained, baseline, images, form):
        labels = np.arange(12)
        dataset = tf.data.Dataset.from_tensor_slices
        data = {
            "labels": (images, labels),
            "none": (images, None),
            "dataset": (dataset(images).batch(6),),
            "dataset with labels": (dataset((images, labels)).batch(6),),
        }[form]
        options = {"batch_size": None} if "dataset" in form else {}
        np.testing.assert_array_equal(trained(*data, **options), baseline)

    @pytest.mark.parametrize("with_labels", nightly_but([False, True], False))
    @pytest.mark.filterwarnings("ignore:`fit` got y, which nothing uses")
    def test_examples_of_weight_zero_have_no_influence(
        self, trained, baseline, images, with_labels
    ):
        weight = np.tile([1.0, 1.0, 0.0, 0.0], 3)
        labels = np.zeros(12) if with_labels else None
        others = np.where(weight[:, None, None, None] == 0, 1 - images, images)
        weighted = trained(images, labels, sample_weight=weight)
        np.testing.assert_array_equal(trained(others, labels, sample_weight=weight), weighted)
        assert not np.array_equal(weighted, baseline)

    @pytest.mark.filterwarnings("ignore:`fit` got y, which nothing uses")
    def test_a_weight_scales_the_gradient(self, trained, images):
        """Plain gradient descent with weights of 3 is that with three times the step."""
        small, large = (
            {"optimizer": keras.optimizers.SGD(rate), "run_eagerly": True} for rate in (0.01, 0.03)
        )
        labels = np.zeros(12)
        weighted = trained(images, labels, compiled=small, sample_weight=np.full(12, 3.0))
        longer = trained(images, labels, compiled=large)
        np.testing.assert_allclose(weighted, longer, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("with_labels", nightly_but([False, True], True))
    def test_metrics_are_averages_by_weight(self, make_vae, images, with_labels):
        model = make_vae()
        model.compile(run_eagerly=True)
        weight = np.repeat([1.0, 0.0], 6)
        labels = np.zeros(12) if with_labels else None
        others = np.concatenate([images[:6], 1 - images[6:]])
        metrics, same = (
            measure(model, x, y=labels, sample_weight=weight) for x in (images, others)
        )
        assert metrics == same
        assert metrics != measure(model, images)

    def test_callbacks_see_the_metrics(self, make_vae, images):
        model = make_vae()
        model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
        stop = keras.callbacks.EarlyStopping("val_elbo", mode="max", patience=2)
        options = {"batch_size": 12, "validation_data": images, "callbacks": [stop]}
        history = fit(model, images, epochs=9, **options)
        assert len(history.epoch) == 3, "without progress it stops after the patience of 2"

    def test_steps_per_execution_changes_nothing(self, trained, rng):
        x = rng.integers(0, 2, (28, 4, 4, 1)).astype(np.float32)
        one = trained(x, batch_size=4)
        three = trained(x, batch_size=4, compiled={"run_eagerly": False, "steps_per_execution": 3})
        np.testing.assert_allclose(three, one, rtol=0, atol=1e-6)

    def test_xla_trains_as_eager_execution_does(self, make_vae, images):
        """At a posterior so narrow that the noise, which XLA draws differently, has no effect."""

        def train(**options):
            model = make_vae()
            narrow(model)
            model.compile(keras.optimizers.SGD(0.01), beta=0, **options)
            fit(model, images, shuffle=False, batch_size=6)
            return weights(model)

        np.testing.assert_allclose(
            train(jit_compile=True), train(run_eagerly=True), rtol=1e-3, atol=1e-4
        )

    def test_equal_seeds_train_identically(self, trained, baseline, images):
        np.testing.assert_array_equal(trained(images), baseline)

    @pytest.mark.parametrize("seed", nightly_but([1, 2**32], 2**32))
    def test_other_seeds_train_otherwise(self, trained, baseline, images, seed):
        assert not np.array_equal(trained(images, vae={"seed": seed}), baseline)

    @pytest.mark.parametrize(
        "optimizer",
        nightly_but(["sgd", "rmsprop", "adam", tfvae.optimizers.Adam], tfvae.optimizers.Adam),
    )
    def test_any_optimizer_moves_every_weight(self, make_vae, images, optimizer):
        model = make_vae()
        before = [w.numpy().copy() for w in model.trainable_weights]
        model.compile(optimizer() if callable(optimizer) else optimizer, run_eagerly=True)
        fit(model, images, batch_size=6)
        for weight, start in zip(model.trainable_weights, before, strict=True):
            assert np.all(np.isfinite(weight))
            assert not np.array_equal(weight, start), weight.path

    def test_gradients_are_accumulated_while_every_batch_is_counted(self, make_vae, images):
        model = make_vae()
        model.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2), run_eagerly=True)
        moved = []
        for _ in range(4):
            before = np.concatenate([w.numpy().ravel() for w in model.trainable_weights])
            model.train_on_batch(images)
            after = np.concatenate([w.numpy().ravel() for w in model.trainable_weights])
            moved.append(not np.array_equal(before, after))
        assert moved == [False, True, False, True]
        assert int(model.step) == 4

    def test_weight_decay_of_a_layer_is_part_of_the_loss(self, images):
        def train(regularizer):
            keras.utils.set_random_seed(1)
            encoder = networks.dense_encoder((4, 4, 1), 4, hidden=())
            dense = keras.layers.Dense(16, kernel_regularizer=regularizer)
            decoder = keras.Sequential([keras.Input((2,)), dense, keras.layers.Reshape((4, 4, 1))])
            model = tfvae.VAE(encoder, decoder)
            model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
            start = dense.kernel.numpy()
            model.train_on_batch(images)
            return start, dense.kernel.numpy()

        start, plain = train(None)
        _, decayed = train(keras.regularizers.L2(0.5))
        np.testing.assert_allclose(decayed, plain - 0.1 * start, rtol=1e-4, atol=1e-6)

    def test_mixed_precision_computes_in_half_and_stores_in_single(self, make_vae, images):
        keras.config.set_dtype_policy("mixed_bfloat16")
        model = make_vae()
        model.compile(tfvae.optimizers.Adam(0.05))
        assert model.encoder(images).dtype == tf.bfloat16
        losses = fit(model, images, epochs=10).history["loss"]
        assert losses[-1] < 0.9 * losses[0]
        assert {w.dtype for w in model.trainable_weights} == {"float32"}
        for tensor in (model.encode(images), model(images), model.log_weights(images, 2)):
            assert tensor.dtype == tf.float32
        assert np.all(np.isfinite(model.predict(images, verbose=0)))


class TestBeta:
    def test_beta_rises_to_its_final_value_over_the_warm_up(self, make_vae, images):
        model = make_vae()
        model.compile("sgd", beta=2.0, kl_warmup_steps=4, run_eagerly=True)
        betas = []
        for _ in range(6):
            model.reset_metrics()
            m = model.train_on_batch(images, return_dict=True)
            betas.append((m["loss"] - m["reconstruction"]) / m["kl"])
        np.testing.assert_allclose(betas, [0.5, 1, 1.5, 2, 2, 2], rtol=1e-3)

    @pytest.mark.parametrize("beta", nightly_but([0, 0.5, 2], 0.5))
    def test_validation_is_at_the_final_beta(self, make_vae, images, beta):
        model = make_vae()
        model.compile(beta=beta, kl_warmup_steps=100, run_eagerly=True)
        m = measure(model, images)
        assert m["kl"] > 0.01
        np.testing.assert_allclose(m["loss"], m["reconstruction"] + beta * m["kl"], rtol=1e-5)

    def test_the_warm_up_goes_on_where_it_was_after_another_compile(self, make_vae, images):
        model = make_vae()
        for beta in (0.25, 0.5, 0.75):
            model.compile("sgd", kl_warmup_steps=4, run_eagerly=True)
            m = model.train_on_batch(images, return_dict=True)
            np.testing.assert_allclose(m["loss"], m["reconstruction"] + beta * m["kl"], rtol=1e-5)


class TestOutputs:
    @pytest.mark.parametrize(
        ("likelihood", "x_shape"),
        [
            pytest.param("bernoulli", (4, 4, 1), marks=LONG),
            pytest.param("categorical", (4, 3, 2), marks=LONG),
            ("discretized_logistic_mixture", (4, 3, 3)),
            ("normal", (5,)),
        ],
    )
    def test_shapes_and_ranges(self, make_vae, rng, likelihood, x_shape):
        model = make_vae(likelihood, x_shape, latents=3)
        x = rng.integers(0, 2, (5, *x_shape)).astype(np.float32)
        z = model.encode(x)
        assert z.shape == (5, 3)
        np.testing.assert_allclose(z, model.encoder(x)[:, :3], rtol=1e-6)
        decoded = model.decode(z)
        predicted = model.predict(x, verbose=0)
        assert decoded.shape == predicted.shape == x.shape
        np.testing.assert_allclose(predicted, decoded, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(model(x), decoded, rtol=1e-6)
        assert model.sample(7).shape == (7, *x_shape)
        assert model.log_weights(x, 4).shape == (4, 5)
        by_sample = model.decode(tf.stack([z, z + 1]))
        np.testing.assert_allclose(by_sample[0], decoded, rtol=1e-5, atol=1e-6)
        if likelihood != "normal":
            assert 0 <= predicted.min() < predicted.max() <= 1

    @pytest.mark.parametrize("n", [2.5, "3", 0])
    def test_what_is_no_number_of_images_is_refused(self, make_vae, n):
        with pytest.raises(InvalidArgument, match=r"`n` is .*whole number of at least 1"):
            make_vae().sample(n)

    def test_the_first_images_of_a_longer_sample_are_those_of_a_shorter_one(self, make_vae):
        model = make_vae()
        long = model.sample(9, seed=2**40).numpy()
        np.testing.assert_allclose(model.sample(4, seed=2**40), long[:4], atol=1e-5)
        assert not np.any(np.isclose(model.sample(9, seed=0), long, atol=1e-6))

    def test_samples_are_decoded_latents_of_the_prior(self, make_vae):
        model = make_vae()
        z = tfvae.random.normal(make_seed(5), tf.range(3), 2)
        for temperature in (1.0, 0.5, 0.0):
            sample = model.sample(3, seed=5, temperature=temperature)
            np.testing.assert_allclose(sample, model.decode(temperature * z), atol=1e-6)

    @pytest.mark.parametrize("arguments", [{"n": 0}, {"n": 2, "temperature": -1.0}], ids=str)
    def test_samples_that_cannot_be_drawn_are_refused(self, make_vae, arguments):
        with pytest.raises(InvalidArgument, match=r"expected .*at least"):
            make_vae().sample(**arguments)

    def test_latents_may_have_several_axes(self, rng):
        x = rng.integers(0, 2, (6, 4, 4, 1)).astype(np.float32)
        conv, transpose = keras.layers.Conv2D, keras.layers.Conv2DTranspose
        encoder = keras.Sequential([keras.Input((4, 4, 1)), conv(2 * 3, 2, strides=2)])
        decoder = keras.Sequential([keras.Input((2, 2, 3)), transpose(1, 2, strides=2)])
        model = tfvae.VAE(encoder, decoder)
        model.compile(tfvae.optimizers.Adam(0.1), num_samples=2, run_eagerly=True)
        before = measure(model, x)
        fit(model, x, epochs=4, batch_size=6)
        after = measure(model, x)
        assert after["loss"] < before["loss"]
        assert model.latent_shape == (2, 2, 3)
        assert model.encode(x).shape == (6, 2, 2, 3)
        assert model.sample(3).shape == (3, 4, 4, 1)
        params = model.encoder(x).numpy().astype(np.float64)
        mean, sigma = params[..., :3], np.log1p(np.exp(params[..., 3:] + np.log(np.e - 1)))
        kl = 0.5 * np.sum(mean**2 + sigma**2 - 1 - 2 * np.log(sigma), axis=(1, 2, 3))
        np.testing.assert_allclose(after["kl"], kl.mean(), rtol=1e-4)

    def test_networks_without_an_input_shape_are_built_by_the_data(self, images):
        encoder = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)])
        decoder = keras.Sequential([keras.layers.Dense(16), keras.layers.Reshape((4, 4, 1))])
        model = tfvae.VAE(encoder, decoder)
        model.compile(run_eagerly=True)
        fit(model, images, batch_size=12)
        assert model.latent_shape == (2,)
        assert model.predict(images, verbose=0).shape == images.shape


class TestRefusals:
    @staticmethod
    def dense(input_shape, output_shape):
        layers = [keras.Input(input_shape), keras.layers.Flatten()]
        layers += [keras.layers.Dense(math.prod(output_shape)), keras.layers.Reshape(output_shape)]
        return keras.Sequential(layers)

    @pytest.mark.parametrize(
        ("encoder", "decoder", "likelihood", "message"),
        [
            ((5,), ((2,), (4, 4, 1)), "bernoulli", "axis of size 5.*2 for 1 channel, 4 for 2"),
            (
                (4,),
                ((3,), (4, 4, 1)),
                "bernoulli",
                r"of shape \(3,\).*given \(2,\).*params_size\(D\)",
            ),
            ((4,), ((2,), (4, 5, 1)), "bernoulli", r"output of shape \(4, 4, 1\)"),
            ((4,), ((2,), (16,)), "bernoulli", r"output of shape \(4, 4, 1\)"),
            ((4,), ((2,), (4, 4, 512)), "categorical", r"output of shape \(4, 4, 256\)"),
            ((4,), ((2,), (4, 4, 3)), "categorical", "axis of size 3.*256 for 1 channel"),
        ],
        ids=str,
    )
    def test_networks_that_do_not_fit(self, encoder, decoder, likelihood, message):
        networks = self.dense((4, 4, 1), encoder), self.dense(*decoder)
        with pytest.raises(InvalidArgument, match=message):
            tfvae.VAE(*networks, likelihood=likelihood)

    def test_an_encoder_with_two_outputs(self):
        x = keras.Input((4,))
        encoder = keras.Model(x, [keras.layers.Dense(2)(x), keras.layers.Dense(2)(x)])
        with pytest.raises(InvalidArgument, match=r"encoder has several outputs.*Concatenate"):
            tfvae.VAE(encoder, self.dense((2,), (4,)), likelihood="normal")

    def test_an_encoder_whose_output_has_no_fixed_size(self):
        encoder = keras.Sequential([keras.Input((None, None, 1)), keras.layers.Conv2D(4, 3)])
        with pytest.raises(InvalidArgument, match="all of known size but the batch"):
            tfvae.VAE(encoder, self.dense((2,), (4,)))

    @pytest.mark.parametrize("name", ["prior", "posterior", "likelihood"])
    def test_an_unknown_part(self, name):
        with pytest.raises(InvalidArgument, match=f"Unknown {name} 'normel'"):
            tfvae.VAE(self.dense((4,), (4,)), self.dense((2,), (4,)), **{name: "normel"})

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"loss": "mse"}, "got `loss`.*Use `objective="),
            ({"metrics": ["mae"]}, "got `metrics`"),
            ({"objective": "ewae"}, "Did you mean 'iwae'"),
            ({"estimator": "pathwize"}, "Did you mean 'pathwise'"),
            ({"num_samples": 0}, "`num_samples` is 0; expected a whole number of at least 1"),
            ({"num_samples": 1.5}, "`num_samples` is 1.5"),
            ({"num_samples": "5"}, "`num_samples` is '5'"),
            ({"beta": -1}, "`beta` is -1; expected a number of at least 0"),
            ({"beta": float("nan")}, "`beta` is nan"),
            ({"kl_warmup_steps": -1}, "`kl_warmup_steps` is -1"),
            ({"kl": "exakt"}, "`kl` is 'exakt'; expected one of auto, exact, monte_carlo"),
            ({"kl": "exact", "objective": "iwae"}, "linear in the log-weights.*Use kl='auto'"),
        ],
        ids=str,
    )
    def test_settings_of_compile(self, compiled, options, message):
        with pytest.raises(InvalidArgument, match=message):
            compiled.compile(**options)

    @pytest.fixture(scope="class")
    def compiled(self, make_vae):
        """One model for settings and data that it refuses before it has learned anything."""
        model = make_vae()
        model.compile()
        return model

    @pytest.mark.parametrize("method", ["fit", "evaluate", "validation_data", "validation tuple"])
    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (np.full((4, 4, 4, 1), np.nan), "64 values that are infinite or not a number"),
            (np.full((4, 4, 4, 1), 255, np.uint8), r"255; .* expects pixels in \[0, 1\]"),
            (np.full((4, 4, 4, 1), -0.5), r"from -0.5 to -0.5"),
            (np.zeros((0, 4, 4, 1)), "is empty; expected at least one example"),
            (np.zeros((4, 16)), r"shape \(16,\); the encoder takes \(4, 4, 1\)"),
        ],
        ids=["nan", "8 bits", "negative", "empty", "shape"],
    )
    def test_arrays(self, compiled, images, method, x, message):
        pair = (x, np.zeros(len(x)))
        call = {
            "fit": lambda: fit(compiled, x),
            "evaluate": lambda: compiled.evaluate(x),
            "validation_data": lambda: fit(compiled, images, validation_data=x),
            "validation tuple": lambda: fit(compiled, images, validation_data=pair),
        }[method]
        with pytest.raises(InvalidData, match=message):
            call()
        assert compiled.steps_made == 0


@pytest.mark.parametrize(
    ("objective", "shape"),
    [
        (tf.reduce_mean, r"\(\)"),
        (lambda log_w: log_w, r"\(3, 2\)"),
        (lambda log_w: log_w[:, 0], r"\(3,\)"),
    ],
)
def test_an_objective_without_a_number_for_each_example_is_refused(
    make_vae, images, objective, shape
):
    model = make_vae()
    model.compile("sgd", objective=objective, estimator="score_function", num_samples=3)
    with pytest.raises(InvalidArgument, match=rf"gives the shape {shape} .* expected \[B\]"):
        model.fit(images, verbose=0)
    assert model.steps_made == 0


def test_a_custom_objective_is_used(make_vae, images):
    """The power bound 2·log mean √w lies between IWAE and the ELBO."""

    def power(log_weights):
        samples = tf.cast(tf.shape(log_weights)[0], tf.float32)
        return 2 * (tf.reduce_logsumexp(log_weights / 2, axis=0) - tf.math.log(samples))

    losses = {}
    for objective in ("iwae", power, "elbo"):
        model = make_vae()
        model.compile(objective=objective, num_samples=20, kl="monte_carlo", run_eagerly=True)
        losses[objective] = measure(model, images)["loss"]
    assert losses["iwae"] < losses[power] < losses["elbo"]


def test_the_loss_of_iwae_is_the_log_of_the_mean_weight(make_vae, images):
    """Against the log-weights of another seed, over many samples."""
    model = make_vae()
    model.compile(objective="iwae", num_samples=2000, run_eagerly=True)
    log_weights = model.log_weights(images, 2000).numpy().astype(np.float64)
    expected = scipy.special.logsumexp(log_weights, axis=0) - np.log(2000)
    relative_error = np.exp(log_weights - expected).std(axis=0) / np.sqrt(2000)
    tolerance = 4 * np.sqrt(2 * np.sum(relative_error**2)) / len(images)
    np.testing.assert_allclose(measure(model, images)["loss"], -expected.mean(), atol=tolerance)


def test_validation_data_is_checked_wherever_it_stands_in_the_call(make_vae, images):
    model = make_vae()
    model.compile("adam")
    with pytest.raises(InvalidData, match="validation_data"):
        model.fit(images, None, 4, 1, 0, None, 0.0, (images[:, :2],))


@pytest.mark.parametrize("dtype", ["uint8", "float64", "int32"])
def test_log_joint_takes_numbers_of_any_type(make_vae, images, dtype):
    model, z = make_vae(), np.ones((3, len(images), 2))
    expected = model.log_joint(images, z.astype("f4"))
    found = model.log_joint(tf.constant(images.astype(dtype)), tf.constant(z, tf.float64))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("count", [0, 2.5])
def test_log_weights_are_of_one_sample_at_least(make_vae, images, count):
    with pytest.raises(InvalidArgument, match=r"`num_samples` is .*; expected a whole number"):
        make_vae().log_weights(images, count)
