import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from tiers import LONG, nightly_but

import tfvae
from tfvae import conditions, networks
from tfvae.errors import InvalidArgument, InvalidData, TfvaeWarning
from tfvae.explore.checks import check
from tfvae.export import signatures
from tfvae.joint import sampler
from tfvae.ondevice import Decoder, inspect
from tfvae.random import fold_in, make_seed
from tfvae.tools.main import cli

pytestmark = pytest.mark.slow  # Compiles graphs of whole models.

SHAPE = (2, 2, 1)


@pytest.fixture(scope="module")
def stripes():
    """Return images whose bright row is their label, with disjoint classes, and the labels."""
    y = np.random.default_rng(0).integers(0, 2, 100)
    x = np.zeros((100, *SHAPE), np.float32)
    x[np.arange(100), y] = 1
    return x, y


def run(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def make(condition=2, prior=None, encoder=True, decoder=True, **options):
    size = condition if isinstance(condition, int) else condition[0]
    return tfvae.VAE(
        networks.dense_encoder(SHAPE, 4, (8,), condition_size=size * encoder),
        networks.dense_decoder(2, SHAPE, (8,), condition_size=size * decoder),
        prior=prior,
        condition=condition,
        **options,
    )


def randomized(model, seed=0, scale=0.5):
    """Give a model random weights, so that nothing in it is zero."""
    rng = np.random.default_rng(seed)
    model.set_weights(
        [scale * rng.normal(size=w.shape) if w.shape else w for w in model.get_weights()]
    )
    return model


class TestLinearGaussian:
    """z ~ N(a + A y, s²), x = w z + V y + b + σ ε: log p(x|y) is that of a normal.

    With its exact posterior, which is affine in x and y, every log-weight is log p(x|y).
    """

    SCALE = 0.5

    @pytest.fixture(scope="class")
    def solved(self):
        """Return the model, data, and the mean and covariance of p(x|y)."""
        rng = np.random.default_rng(1)
        w, v, b = rng.normal(size=(1, 4)), rng.normal(size=(3, 4)), rng.normal(size=4)
        a, to_mean, raw = rng.normal(size=1), rng.normal(size=(3, 1)), 0.3
        model = tfvae.VAE(
            networks.dense_encoder(SHAPE, 2, (), condition_size=3),
            networks.dense_decoder(1, SHAPE, (), condition_size=3),
            prior="conditional_normal",
            likelihood=tfvae.likelihoods.Normal(scale=self.SCALE),
            condition=(3,),
        )
        s = np.log1p(np.exp(raw + np.log(np.e - 1)))
        variance = 1 / (1 / s**2 + (w @ w.T).item() / self.SCALE**2)
        gain = variance * w.T / self.SCALE**2  # posterior mean: (x − V y − b) gain + (a + A y) c
        c = variance / s**2
        raw_q = np.log(np.expm1(np.sqrt(variance))) - np.log(np.e - 1)
        zeros = np.zeros((7, 1))
        kernel_q = np.concatenate([np.concatenate([gain, c * to_mean - v @ gain]), zeros], 1)
        bias_q = np.array([(c * a - b @ gain).item(), raw_q])
        model.encoder.set_weights([kernel_q, bias_q])
        model.decoder.set_weights([np.concatenate([w, v]), b])
        kernel_p = np.concatenate([to_mean, np.zeros((3, 1))], 1)
        model.prior.set_weights([kernel_p, np.array([a.item(), raw])])
        y = rng.normal(size=(6, 3)).astype(np.float32)
        x = rng.normal(size=(6, *SHAPE)).astype(np.float32)
        mean = (a + y @ to_mean) @ w + y @ v + b
        return model, x, y, mean, s**2 * w.T @ w + self.SCALE**2 * np.eye(4)

    @staticmethod
    def expected(x, mean, covariance):
        error = x.reshape(len(x), -1) - mean
        quadratic = np.sum(error * np.linalg.solve(covariance, error.T).T, -1)
        return -0.5 * (quadratic + np.linalg.slogdet(2 * np.pi * covariance)[1])

    def test_every_log_weight_is_log_p_of_x_given_y(self, solved):
        model, x, y, *normal = solved
        expected = self.expected(x, *normal)
        weights = model.log_weights(x, 3, condition=y)
        np.testing.assert_allclose(weights, np.tile(expected, (3, 1)), rtol=1e-4, atol=1e-4)
        assert np.abs(model.log_weights(x, 1, condition=y[::-1]) - expected).max() > 1

    @pytest.mark.usefixtures("eagerly")
    def test_log_likelihood_is_exact_from_arrays_and_from_batches(self, solved):
        model, x, y, *normal = solved
        expected = self.expected(x, *normal)
        batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
        for data, condition in ((x, y), (batches, None)):
            found = tfvae.log_likelihood(
                model, data, num_samples=4, progress=False, condition=condition
            )
            np.testing.assert_allclose(found.per_example, expected, rtol=1e-4, atol=1e-4)

    def test_the_bound_of_evaluate_is_tight(self, solved):
        model, x, y, *normal = solved
        model.compile("sgd", kl="exact", num_samples=2000)  # the KL in closed form
        elbo = model.evaluate(x, y, verbose=0, return_dict=True)["elbo"]
        # The reconstruction term is sampled: 0.03 is above 4 standard errors of it.
        assert elbo == pytest.approx(self.expected(x, *normal).mean(), abs=0.03)


@pytest.mark.parametrize(
    "prior",
    nightly_but(
        ["flow", "autoregressive", "conditional_normal"], "autoregressive", "conditional_normal"
    ),
)
def test_p_of_z_given_y_integrates_to_one(prior):
    model = randomized(make(3, prior, decoder=False), scale=0.15)
    line = np.linspace(-12, 12, 120)
    grid = np.stack(np.meshgrid(line, line), -1).reshape(-1, 1, 2).astype(np.float32)
    p = model.p_z(condition=[0, 1, 2])
    alone = model.p_z(condition=1)
    assert alone.batch_shape == (1,)
    np.testing.assert_allclose(alone.log_prob(grid)[:, 0], p.log_prob(grid)[:, 1], rtol=1e-5)
    density = np.exp(p.log_prob(grid).numpy().astype(np.float64))
    area = (line[1] - line[0]) ** 2
    np.testing.assert_allclose(density.sum(0) * area, 1, atol=0.01)
    assert np.abs(density[:, 0] - density[:, 1]).sum() * area > 0.1


def test_exact_enumeration_is_given_the_condition(stripes):
    x, y = stripes
    model = tfvae.VAE(
        networks.dense_encoder(SHAPE, 2, (8,), condition_size=2),
        networks.dense_decoder(2, SHAPE, (8,), condition_size=2),
        posterior="bernoulli",
        condition=2,
    )
    model = randomized(model)
    model.compile("sgd", objective="exact")
    states = tfvae.exact.latent_states(model)[:, None]
    log_joint = model.log_joint(x, tf.constant(states), condition=y)
    expected = tf.reduce_logsumexp(log_joint, 0).numpy().mean()
    assert -model.evaluate(x, y, batch_size=100, verbose=0)[0] == pytest.approx(expected, rel=1e-5)


class TestLearning:
    @pytest.mark.parametrize(
        ("encoder", "decoder", "prior"),
        nightly_but(
            [(True, True, None), (False, False, "conditional_normal"), (False, False, "flow")],
            (True, True, None),
        ),
    )
    def test_classes_of_disjoint_data_are_generated_by_their_labels(
        self, stripes, tmp_path, encoder, decoder, prior
    ):
        x, y = stripes
        model = make(2, prior, encoder, decoder)
        model.compile(keras.optimizers.Adam(0.02 if prior == "flow" else 0.05))
        passes = 60 if prior == "flow" else 30
        model.fit(np.tile(x, (passes, 1, 1, 1)), np.tile(y, passes), verbose=0)
        labels = np.arange(40) % 2
        rows = model.sample(40, condition=labels).numpy()[..., 0].mean(-1)
        assert np.mean(rows.argmax(-1) == labels) > 0.95
        np.testing.assert_array_equal(  # a label for all is that label for each
            model.sample(4, condition=1), model.sample(4, condition=[1] * 4)
        )
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(
            model.sample(4, condition=[0, 1, 1, 0]), loaded.sample(4, condition=[0, 1, 1, 0])
        )
        assert loaded.condition.config() == 2
        twin = model.copy()
        np.testing.assert_array_equal(
            model.encode(x[:4], condition=y[:4]), twin.encode(x[:4], condition=y[:4])
        )

    def test_labels_in_every_form_are_one(self, stripes):
        x, y = stripes
        model = randomized(make())
        model.compile("sgd", run_eagerly=True)
        expected = model.evaluate(x, y, batch_size=50, verbose=0)
        batches = tf.data.Dataset.from_tensor_slices((x, y.astype(np.uint8))).batch(50)
        assert model.evaluate(batches, verbose=0) == pytest.approx(expected)
        column = y[:, None].astype(np.int64)
        assert model.evaluate(x, column, batch_size=50, verbose=0) == pytest.approx(expected)
        predicted = model.predict(batches, verbose=0)
        np.testing.assert_allclose(predicted, model(x, condition=y), rtol=1e-5, atol=1e-6)

    def test_without_a_condition_y_is_ignored(self, stripes):
        x, y = stripes
        model = tfvae.VAE(networks.dense_encoder(SHAPE, 4), networks.dense_decoder(2, SHAPE))
        model.compile("sgd", run_eagerly=True)
        with pytest.warns(TfvaeWarning, match="`fit` got y, which nothing uses"):
            model.fit(x, y + 7, verbose=0)
        assert "condition" not in model.get_config()
        with pytest.raises(InvalidArgument, match="has none"):
            model.sample(2, condition=1)
        with pytest.raises(InvalidArgument, match="got a condition and has none"):
            tfvae.log_likelihood(model, x, num_samples=2, progress=False, condition=y)


class TestHierarchy:
    """Two layers of two bits, whose p(x|y) is a sum over 16 states."""

    @pytest.fixture(scope="class")
    def model(self):
        def network(make, shape, size):
            return make(shape, size, (4,), condition_size=2)

        return randomized(
            tfvae.HierarchicalVAE(
                [
                    network(networks.dense_encoder, SHAPE, 2),
                    network(networks.dense_encoder, (2,), 2),
                ],
                [
                    network(networks.dense_decoder, 2, SHAPE),
                    network(networks.dense_decoder, 2, (2,)),
                ],
                posteriors="bernoulli",
                condition=2,
            ),
            scale=1.0,
        )

    @pytest.mark.usefixtures("eagerly")
    def test_log_likelihood_is_that_of_the_condition(self, model, tmp_path):
        states = tf.constant(tfvae.exact.latent_states(model))[:, None]
        images = np.array(list(np.ndindex(2, 2, 2, 2)), np.float32).reshape(-1, *SHAPE)
        by_label = [
            tf.reduce_logsumexp(model.log_joint(images, states, condition=label), 0).numpy()
            for label in range(2)
        ]
        np.testing.assert_allclose(np.exp(by_label).sum(-1), 1, rtol=1e-5)
        assert np.abs(by_label[0] - by_label[1]).max() > 0.1
        labels = np.arange(len(images)) % 2
        found = tfvae.log_likelihood(
            model, images, num_samples=3000, progress=False, condition=labels
        )
        error = found.per_example - np.array(by_label)[labels, np.arange(len(images))]
        assert np.all(np.abs(error) < 5 * found.sampling_error + 1e-4)
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        again = [m.sample(4, condition=[0, 1, 0, 1]) for m in (model, loaded)]
        np.testing.assert_array_equal(*again)

    @pytest.mark.nightly
    def test_a_device_draws_what_keras_draws(self, model, tmp_path):
        tfvae.export.litert(model, tmp_path / "decoder.tflite")
        device = Decoder.from_file(tmp_path / "decoder.tflite")
        drawn = device.sample(6, seed=2, condition=[0, 1, 0, 1, 0, 1])
        expected = model.sample(6, seed=2, condition=[0, 1, 0, 1, 0, 1])
        np.testing.assert_allclose(drawn, expected, rtol=1e-5, atol=1e-5)


def affine(inputs, kernels, bias):
    """Return the network Σ inputs · kernels + bias, of one input or several."""
    last = keras.layers.Dense(len(bias))
    tensors = [keras.Input((size,)) for size in inputs]
    joined = keras.layers.Concatenate()(tensors) if len(tensors) > 1 else tensors[0]
    network = keras.Model(tensors if len(tensors) > 1 else tensors[0], last(joined))
    last.set_weights([np.concatenate(kernels).reshape(-1, len(bias)), np.asarray(bias)])
    return network


def raw_scale(scale):
    """Return what a network gives for a scale."""
    return np.log(np.expm1(scale)) - np.log(np.e - 1)


class TestLadder:
    """z₂ ~ N(a + A y, s₂²), z₁ ~ N(b z₂ + B y, s₁²), x = w z₁ + V y + σ ε: p(x|y) is normal.

    With the exact posteriors, which are affine in x, y and z₂, every log-weight is log p(x|y).
    """

    SCALE, S1, S2 = 0.5, 0.7, 1.3

    @pytest.fixture(scope="class", params=nightly_but(["residual", "precision"], "residual"))
    def solved(self, request):
        form, rng = request.param, np.random.default_rng(1)
        variance, c = self.SCALE**2, 3
        w, v = rng.normal(size=(1, 4)), rng.normal(size=(c, 4))
        b, to_z1 = 0.8, rng.normal(size=(c, 1))
        a, to_z2 = 0.3, rng.normal(size=(c, 1))
        # q(z₁|z₂, x, y)
        v1 = 1 / (1 / self.S1**2 + (w @ w.T).item() / variance)
        gain = v1 * w.T / variance
        if form == "residual":  # μ_p + gain (x − V y − w μ_p)
            shrunk = (w @ gain).item()
            kernels = [gain, [[-shrunk * b]], -v @ gain - shrunk * to_z1]
            low = affine((4, 1, c), self.with_scale(kernels), [0, raw_scale(np.sqrt(v1) / self.S1)])
        else:  # N((x − V y) wᵀ/|w|², σ²/|w|²)
            norm = (w @ w.T).item()
            kernels = [w.T / norm, -v @ w.T / norm]
            bias = [0, raw_scale(self.SCALE / np.sqrt(norm))]
            low = affine((4, c), self.with_scale(kernels), bias)
        # q(z₂|x, y)
        noise = self.S1**2 * w.T @ w + variance * np.eye(4)
        to_x = np.linalg.solve(noise, b * w.T)
        v2 = 1 / (1 / self.S2**2 + (b * w @ to_x).item())
        shift = v2 * (to_z2 / self.S2**2 - (to_z1 @ w + v) @ to_x)
        bias = [v2 * a / self.S2**2, raw_scale(np.sqrt(v2))]
        top = affine((4, c), self.with_scale([v2 * to_x, shift]), bias)
        middle = affine((1, c), self.with_scale([[[b]], to_z1]), [0, raw_scale(self.S1)])
        data = keras.Input((4,))
        encoder = keras.Model(data, [keras.layers.Identity()(data) for _ in range(2)])
        down = [
            affine((1, 1, c), [w, np.zeros((1, 4)), v], np.zeros(4)),
            affine((1,), [[[1.0]]], [0.0]),
        ]
        model = tfvae.LadderVAE(
            encoder,
            [low, top],
            [middle],
            down,
            prior="conditional_normal",
            form=form,
            likelihood=tfvae.likelihoods.Normal(self.SCALE),
            condition=(c,),
        )
        model.prior.set_weights([self.with_scale([to_z2])[0], np.array([a, raw_scale(self.S2)])])
        y = rng.normal(size=(5, c)).astype(np.float32)
        x = rng.normal(size=(5, 4)).astype(np.float32)
        mean = (b * (a + y @ to_z2) + y @ to_z1) @ w + y @ v
        covariance = noise + (b * self.S2) ** 2 * w.T @ w
        return model, x, y, TestLinearGaussian.expected(x, mean, covariance)

    @staticmethod
    def with_scale(kernels):
        """Return kernels of a mean with a column of zeros, those of the scale."""
        return [np.concatenate([kernel, np.zeros((len(kernel), 1))], 1) for kernel in kernels]

    def test_every_log_weight_is_log_p_of_x_given_y(self, solved):
        model, x, y, expected = solved
        weights = model.log_weights(x, 3, condition=y)
        np.testing.assert_allclose(weights, np.tile(expected, (3, 1)), rtol=1e-4, atol=1e-4)
        assert np.abs(model.log_weights(x, 1, condition=y[::-1]) - expected).max() > 1
        found = tfvae.log_likelihood(model, x, num_samples=4, progress=False, condition=y)
        np.testing.assert_allclose(found.per_example, expected, rtol=1e-4, atol=1e-4)
        assert model.uses_of_condition == {"encode", "decode", "sample"}

    def test_a_sample_is_the_image_of_its_condition(self, solved):
        model, _, y, _ = solved
        first = model.sample(1, seed=3, condition=y[0])
        np.testing.assert_allclose(model.sample(5, seed=3, condition=y)[:1], first, rtol=1e-5)
        assert np.abs(model.sample(1, seed=3, condition=y[1]) - first).max() > 0.1


class TestCodes:
    """Two codes of three values, whose p(x|y) is a sum over nine."""

    @pytest.fixture(scope="class")
    def model(self):
        def network(shape, output_shape):
            inputs = [keras.Input(shape), keras.Input((2,))]
            joined = keras.layers.Concatenate()([keras.layers.Flatten()(inputs[0]), inputs[1]])
            values = keras.layers.Dense(math.prod(output_shape))(joined)
            return keras.Model(inputs, keras.layers.Reshape(output_shape)(values))

        keras.utils.set_random_seed(0)
        quantizer = tfvae.quantizers.get("vq", num_embeddings=3, embedding_dim=2)
        networks = network((4,), (2, 2)), network((2, 2), (4,))
        model = tfvae.VQVAE(
            networks[0], quantizer, networks[1], likelihood="bernoulli", condition=2
        )
        prior = tfvae.code_priors.get("categorical", codebook_size=3, num_classes=2)
        model.prior = prior
        rng = np.random.default_rng(0)
        for weight in [*model.trainable_variables, *prior.trainable_variables]:
            weight.assign(rng.normal(size=weight.shape))
        return model

    @pytest.mark.usefixtures("eagerly")
    def test_the_bound_is_the_term_of_the_encoder_in_the_sum(self, model):
        images = np.array(list(np.ndindex(2, 2, 2, 2)), np.float32)
        codes = np.array(list(np.ndindex(3, 3)), np.int32)
        for label in range(2):
            row = tf.one_hot([label], 2)
            vectors = model.quantizer.lookup(codes)
            params = model.decoder([vectors, tf.repeat(row, 9, 0)]).numpy().astype(np.float64)
            log_x = images @ params.T - np.log1p(np.exp(params)).sum(-1)
            terms = log_x + model.prior.log_prob(codes, label).numpy()
            np.testing.assert_allclose(np.exp(terms).sum(), 1, rtol=1e-5)
            encoded = model.encoder([tf.constant(images), tf.repeat(row, 16, 0)])
            own = model.quantizer(encoded).codes.numpy() @ [3, 1]
            expected = terms[np.arange(16), own]
            measured = tfvae.log_likelihood(model, images, condition=label, progress=False)
            np.testing.assert_allclose(measured.per_example, expected, rtol=1e-5)
            assert np.all(measured.per_example <= np.log(np.exp(terms).sum(1)) + 1e-6)
        other = tfvae.log_likelihood(model, images, condition=0, progress=False)
        assert np.abs(other.per_example - measured.per_example).max() > 0.1

    def test_a_file_of_codes_holds_the_labels(self, model):
        x = np.array(list(np.ndindex(2, 2, 2, 2)), np.float32)
        y = np.arange(16) % 2
        compressed = tfvae.codec.compress(model, x, condition=y)
        expected = model.decode(compressed.codes, condition=y)
        np.testing.assert_array_equal(tfvae.codec.decompress(model, compressed.content), expected)
        pairs = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
        assert tfvae.codec.compress(model, pairs).content == compressed.content
        with pytest.raises(InvalidArgument, match="got none"):
            tfvae.codec.compress(model, x)

    def test_classes_are_of_networks_and_prior_alike(self, model):
        with pytest.raises(InvalidArgument, match="The prior has 3 classes, but the condition"):
            model.prior = tfvae.code_priors.get("categorical", codebook_size=3, num_classes=3)
        of_vectors = tfvae.VQVAE(
            networks.residual_encoder((4, 4, 1), 2, 4, 1, 0, condition_size=3),
            "ema",
            networks.residual_decoder((2, 2, 2), 1, 4, 1, 0),
            condition=(3,),
        )
        with pytest.raises(InvalidArgument, match=r"vector of 3 numbers\. Use a prior without"):
            of_vectors.prior = tfvae.code_priors.get(
                "categorical", codebook_size=512, num_classes=3
            )
        with pytest.raises(InvalidArgument, match="a prior with `num_classes=`"):
            tfvae.VQVAE(
                networks.residual_encoder((4, 4, 1), 2, 4, 1, 0),
                "ema",
                networks.residual_decoder((2, 2, 2), 1, 4, 1, 0),
                condition=2,
            )


GRID = (4, 4, 1)


def ladder(make, *arguments):
    parts = make(GRID, *arguments, condition_size=3)
    return tfvae.LadderVAE(*parts, prior="conditional_normal", condition=3)


def vqvae():
    model = tfvae.VQVAE(
        networks.residual_encoder(GRID, 2, 4, 1, 1, 4, condition_size=3),
        tfvae.quantizers.get("ema", num_embeddings=8, embedding_dim=2),
        networks.residual_decoder((2, 2, 2), 1, 4, 1, 1, 4, condition_size=3),
        likelihood="bernoulli",
        condition=3,
    )
    return with_prior(model)


def vqvae2():
    shapes = (GRID, (2, 2, 4))
    model = tfvae.HierarchicalVQVAE(
        [networks.residual_encoder(s, None, 4, 1, 1, 4, condition_size=3) for s in shapes],
        [tfvae.quantizers.get("ema", num_embeddings=8, embedding_dim=2) for _ in range(2)],
        [
            networks.residual_decoder((2, 2, 2 + 4), 1, 4, 1, 1, 4, condition_size=3),
            networks.residual_decoder((1, 1, 2), 4, 4, 1, 1, 4, condition_size=3),
        ],
        likelihood="bernoulli",
        condition=3,
    )
    return with_prior(model)


def with_prior(model):
    model.prior = tfvae.code_priors.get("categorical", codebook_size=8, num_classes=3)
    return model


FAMILIES = {
    "ladder of vectors": lambda: ladder(networks.dense_ladder, GRID, (3, 2), 8),
    "ladder of grids": lambda: ladder(networks.residual_ladder, 1, (1, 2), (2, 1), 4),
    "VQVAE": vqvae,
    "HierarchicalVQVAE": vqvae2,
}


@pytest.fixture(scope="module", params=nightly_but(FAMILIES, "VQVAE"))
def family(request):
    keras.utils.set_random_seed(1)
    model = FAMILIES[request.param]()
    rng = np.random.default_rng(0)
    prior = model.prior.trainable_variables if "VQ" in request.param else []
    for weight in [*model.trainable_variables, *prior]:
        weight.assign(0.3 * rng.normal(size=weight.shape))
    model.compile("adam")
    return model


class TestFamilies:
    X = np.random.default_rng(0).integers(0, 2, (12, *GRID)).astype(np.float32)
    Y = np.arange(12) % 3

    @pytest.mark.usefixtures("eagerly")
    def test_it_is_fitted_and_measured_with_labels_in_any_form(self, family):
        model = family.copy()
        model.compile("adam")
        model.fit(self.X, self.Y, validation_data=(self.X, self.Y), batch_size=6, verbose=0)
        batches = tf.data.Dataset.from_tensor_slices((self.X, self.Y)).batch(6)
        model.fit(batches, verbose=0)
        expected = model.evaluate(self.X, self.Y, batch_size=6, verbose=0)
        assert model.evaluate(batches, verbose=0) == pytest.approx(expected)
        predicted = model.predict(batches, verbose=0)
        np.testing.assert_allclose(predicted, model(self.X, condition=self.Y), atol=1e-5)
        measured = [
            tfvae.log_likelihood(model, x, num_samples=3, progress=False, condition=y).per_example
            for x, y in ((self.X, self.Y), (batches, None))
        ]
        np.testing.assert_allclose(*measured, rtol=1e-5)
        for y, error, message in (
            (None, InvalidArgument, "none beside `x`"),
            (self.Y + 1, InvalidData, "labels from 1 to 3"),
            (self.Y.astype(float), InvalidData, "expected integers"),
        ):
            with pytest.raises(error, match=message):
                model.fit(self.X, y, verbose=0)
        for call in (model.encode, lambda x: model.sample(2), lambda x: tfvae.diagnose(model, x)):
            with pytest.raises(InvalidArgument, match=r"got none|expected a model with latents"):
                call(self.X)

    def test_a_file_keeps_the_condition(self, family, tmp_path):
        family.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert loaded.condition.config() == 3
        one, each = (family.sample(4, condition=y) for y in (1, [1] * 4))
        np.testing.assert_array_equal(one, each)
        np.testing.assert_array_equal(one, loaded.sample(4, condition=1))
        assert np.abs(family.sample(4, condition=2) - one).max() > 1e-3

    @pytest.mark.nightly
    def test_exports_have_the_input(self, family, tmp_path):
        close = {"rtol": 1e-4, "atol": 1e-5}
        path = tmp_path / "decoder.tflite"
        decodes = "decode" if isinstance(family, tfvae.LadderVAE) else "decode_codes"
        tfvae.export.litert(family, path, signatures=[decodes, "encode", "parameters"])
        device, y = Decoder.from_file(path), self.Y
        encoded = device.encode(self.X, condition=y)
        np.testing.assert_allclose(encoded, family.encode(self.X, condition=y), **close)
        decode = device.decode if device.code_shape is None else device.decode_codes
        decoded = decode(encoded, condition=y)
        np.testing.assert_allclose(decoded, family.decode(encoded, condition=y), **close)
        with pytest.raises(InvalidArgument, match="got no labels"):
            decode(encoded)
        check(path.read_bytes())
        quality = tfvae.export.quality(family, device, self.X, 4, condition=y)
        assert abs(quality["log_likelihood_change"]) < 1e-3
        one, each = (
            tfvae.export.quality(family, device, self.X, 4, condition=y) for y in (1, [1] * 12)
        )
        assert one == each
        tfvae.export.c_header(path, tmp_path / "decoder.h")
        assert "takes condition" in (tmp_path / "decoder.h").read_text()

    @pytest.mark.nightly
    def test_a_device_draws_what_keras_draws(self, family, tmp_path):
        path, y = tmp_path / "sample.tflite", self.Y
        tfvae.export.litert(family, path, signatures=["sample"])
        drawn = Decoder.from_file(path).sample(12, seed=3, condition=y)
        expected = family.sample(12, seed=3, condition=y)
        np.testing.assert_allclose(drawn, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def of_codes(rng):
    """A model of codes, the inputs of an export to be compared, codes, and their labels."""
    model, y = with_prior(vqvae()), np.arange(5, dtype=np.int32) % 3
    given = {"x": rng.uniform(size=(5, *model.x_shape)).astype(np.float32), "condition": y}
    return model, given, np.arange(20, dtype=np.int32).reshape(5, 2, 2) % 8, y


def test_a_saved_model_of_codes_has_the_input(of_codes, tmp_path):
    model, given, codes, y = of_codes
    tfvae.export.saved_model(model, tmp_path / "saved", **given, signatures=["decode_codes"])
    served = tf.saved_model.load(str(tmp_path / "saved")).signatures["decode_codes"]
    image = served(codes=tf.constant(codes), condition=tf.constant(y))["image"]
    np.testing.assert_allclose(image, model.decode(codes, condition=y), atol=1e-5)


@pytest.mark.nightly
def test_onnx_has_the_input(of_codes, tmp_path):
    model, given, codes, y = of_codes
    runtime = pytest.importorskip("onnxruntime")
    tfvae.export.onnx(model, tmp_path / "decoder.onnx", **given)
    session = runtime.InferenceSession(tmp_path / "decoder.onnx")
    (image,) = session.run(None, {"codes": codes, "condition": y})
    np.testing.assert_allclose(image, model.decode(codes, condition=y), atol=1e-5)


@pytest.mark.parametrize(
    "name", nightly_but(["ladder of vectors", "ladder of grids"], "ladder of vectors")
)
def test_without_weights_for_it_a_condition_changes_nothing(name):
    """The ladder is that without a condition, whose weights are all the others."""
    conditional = FAMILIES[name]()
    make, arguments = {
        "ladder of vectors": (networks.dense_ladder, (GRID, (3, 2), 8)),
        "ladder of grids": (networks.residual_ladder, (1, (1, 2), (2, 1), 4)),
    }[name]
    plain = tfvae.LadderVAE(*make(GRID, *arguments))
    rng = np.random.default_rng(0)
    ours = iter([w for w in conditional.trainable_variables if not is_of_prior(conditional, w)])
    for weight in plain.trainable_variables:
        value = 0.5 * rng.normal(size=weight.shape)
        weight.assign(value)
        while True:
            other = next(ours)
            if other.shape == weight.shape:
                other.assign(value)
                break
            if other.shape[1:] == weight.shape[1:] and other.shape[0] == weight.shape[0] + 3:
                other.assign(np.concatenate([value, np.zeros((3, *weight.shape[1:]))]))
                break
            other.assign(np.zeros(other.shape))
    x = TestFamilies.X
    found = conditional.log_weights(x, 2, condition=TestFamilies.Y)
    np.testing.assert_allclose(found, plain.log_weights(x, 2), rtol=1e-5)


def is_of_prior(model, weight):
    return any(weight is other for other in model.prior.trainable_variables)


class TestRefusals:
    @pytest.fixture(scope="class")
    def compiled(self):
        model = make()
        model.compile("sgd")
        return model

    @pytest.mark.parametrize(
        ("y", "error", "message"),
        [
            (None, InvalidArgument, "there is none beside `x`"),
            (np.arange(100), InvalidData, "labels from 0 to 99; expected each to be a label from"),
            (np.full(100, -1), InvalidData, "labels from -1 to -1"),
            (np.zeros(100), InvalidData, "float64; expected integers"),
            (np.zeros(99, int), InvalidData, r"shape \(99,\); expected \[100\]"),
            (np.zeros((100, 2), int), InvalidData, r"shape \(100, 2\)"),
            (np.array(["a"] * 100), InvalidData, "holds string"),
        ],
    )
    def test_labels_that_do_not_fit_are_refused_before_the_first_step(
        self, compiled, stripes, y, error, message
    ):
        for use in (compiled.fit, compiled.evaluate):
            with pytest.raises(error, match=message):
                use(stripes[0], y, verbose=0)
        assert compiled.steps_made == 0

    def test_a_later_batch_ends_the_epoch_in_an_error(self, compiled, stripes):
        x, y = stripes
        later = tf.data.Dataset.from_tensor_slices((x, np.where(np.arange(100) > 70, 2, y)))
        with pytest.raises(InvalidData, match="condition other than a label from 0 to 1"):
            compiled.fit(later.batch(20), verbose=0)

    @pytest.mark.parametrize("y", [[np.nan, 0.0], [np.inf, 0.0]])
    def test_vectors_that_are_not_finite_are_refused(self, stripes, y):
        model = make((2,))
        model.compile("sgd")
        with pytest.raises(InvalidData, match="infinite or not a number"):
            model.fit(stripes[0], np.array([y] * 100), verbose=0)

    def test_values_that_float32_does_not_hold_are_counted(self, stripes):
        y = np.array([[1e300, 0.0]] * 100)
        with pytest.raises(InvalidData, match="holds 100 values that, in float32, are infinite"):
            tfvae.score(make((2,)), stripes[0], num_samples=5, condition=y, progress=False)

    def test_conditions_are_given_once_and_examples_have_no_weights(self, stripes):
        x, y = stripes
        pairs = tf.data.Dataset.from_tensor_slices((x, y)).batch(20)
        with pytest.raises(InvalidArgument, match=r"beside the examples .* and in `condition`"):
            tfvae.log_likelihood(make(2), pairs, num_samples=2, progress=False, condition=1)
        plain = tfvae.VAE(networks.dense_encoder(SHAPE, 4), networks.dense_decoder(2, SHAPE))
        weighted = tf.data.Dataset.from_tensor_slices((x, y, np.ones(len(x)))).batch(20)
        with pytest.raises(InvalidArgument, match="has weights beside its examples"):
            tfvae.log_likelihood(make(2), weighted, num_samples=2, progress=False)
        with pytest.raises(InvalidArgument, match="has weights beside its examples"):
            tfvae.active_units(plain, weighted)

    def test_one_vector_is_no_condition_of_all_the_data(self):
        model = make((4,))
        model.compile("sgd")
        with pytest.raises(InvalidData, match=r"expected \[4, 4\]"):
            model.fit(np.zeros((4, *SHAPE)), np.zeros(4), verbose=0)

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda m, x: m.sample(3), "this call got none"),
            (lambda m, x: m.decode(np.zeros((3, 2))), "this call got none"),
            (lambda m, x: m.predict(x), "none beside `x`"),
            (lambda m, x: tfvae.log_likelihood(m, x, num_samples=2), "this call got none"),
            (lambda m, x: tfvae.diagnose(m, x), "this call got none"),
            (lambda m, x: tfvae.fit_jointly(m, x), "this call got none"),
        ],
    )
    def test_a_condition_that_is_missing_is_named(self, compiled, stripes, call, message):
        with pytest.raises(InvalidArgument, match=message):
            call(compiled, stripes[0])

    @pytest.mark.parametrize(
        ("parts", "message"),
        [
            ({"encoder": False, "decoder": False}, "no part of the model takes it"),
            ({"prior": "vamp"}, "VampPrior is made of"),
            ({"condition": True}, "at least 2 classes"),
            ({"condition": 1}, "at least 2 classes"),
            ({"condition": (0,)}, "width of at least 1"),
        ],
    )
    def test_a_model_that_cannot_be_is_refused(self, parts, message):
        with pytest.raises(InvalidArgument, match=message):
            make(**parts)

    def test_networks_of_another_width_are_refused(self):
        encoder = networks.dense_encoder(SHAPE, 4, (8,), condition_size=3)
        decoder = networks.dense_decoder(2, SHAPE, (8,))
        with pytest.raises(InvalidArgument, match="expected 2 inputs"):
            tfvae.VAE(encoder, decoder, condition=2)
        with pytest.raises(InvalidArgument, match="give the model `condition=`"):
            tfvae.VAE(encoder, decoder)

    def test_a_prior_of_conditions_alone_needs_one(self):
        with pytest.raises(InvalidArgument, match="the model has none"):
            tfvae.VAE(
                networks.dense_encoder(SHAPE, 4),
                networks.dense_decoder(2, SHAPE),
                prior="conditional_normal",
            )
        with pytest.raises(InvalidArgument, match="expected a number of classes"):
            conditions.get("label")


class TestExport:
    @pytest.mark.parametrize(
        ("condition", "prior", "decoder", "taken_by"),
        [
            (3, "conditional_normal", True, {"decode", "encode", "sample"}),
            pytest.param(3, None, True, {"decode", "encode", "sample"}, marks=LONG),
            pytest.param((3,), "flow", True, {"decode", "encode", "sample"}, marks=LONG),
            pytest.param(3, "conditional_normal", False, {"encode", "sample"}, marks=LONG),
        ],
    )
    def test_a_device_draws_what_keras_draws(
        self, tmp_path, condition, prior, decoder, taken_by, rng
    ):
        model = randomized(make(condition, prior, decoder=decoder))
        y = np.arange(5) % 3 if condition == 3 else rng.normal(size=(5, 3)).astype(np.float32)
        kept = ["decode", "encode", "sample"]
        tfvae.export.litert(model, tmp_path / "decoder.tflite", signatures=kept)
        device = Decoder.from_file(tmp_path / "decoder.tflite")
        assert device.num_classes == (3 if condition == 3 else 0)
        assert device.condition_size == (0 if condition == 3 else 3)
        close = {"rtol": 1e-5, "atol": 1e-5}
        drawn = device.sample(5, seed=3, condition=y)
        np.testing.assert_allclose(drawn, model.sample(5, seed=3, condition=y), **close)
        one = device.sample(1, seed=3, condition=y[1])  # the graph for one
        np.testing.assert_allclose(one, model.sample(1, seed=3, condition=y[1]), **close)
        z, x = rng.normal(size=(5, 2)).astype(np.float32), rng.uniform(size=(5, *SHAPE))
        encoded = device.encode(x, condition=y)
        np.testing.assert_allclose(encoded, model.encode(x, condition=y), **close)
        given = {"condition": y} if decoder else {}
        np.testing.assert_allclose(device.decode(z, **given), model.decode(z, condition=y), **close)
        signatures = inspect(tmp_path / "decoder.tflite").signatures
        found = {
            s for s, info in signatures.items() if "condition" in [i.name for i in info.inputs]
        }
        assert found & {"decode", "encode", "sample"} == taken_by
        with pytest.raises(InvalidArgument, match="got no"):
            device.sample(2)
        wrong = 3 if condition == 3 else np.zeros(2)
        with pytest.raises(InvalidData, match="expected"):
            device.sample(2, condition=wrong)
        check((tmp_path / "decoder.tflite").read_bytes())

    @pytest.mark.nightly
    def test_integers_keep_a_vector(self, tmp_path, rng):
        """The range of y is that of the training examples; images within 0.05 of Keras's."""
        model = randomized(make((3,)))
        x = rng.integers(0, 2, (60, *SHAPE)).astype(np.float32)
        y = rng.normal(size=(60, 3)).astype(np.float32)
        path = tmp_path / "decoder.tflite"
        given = {"condition": y[:16], "calibration_condition": y}
        options = {
            "quantize": "int8",
            "integer_io": True,
            "signatures": ["decode", "encode", "parameters"],
        }
        tfvae.export.litert(model, path, x[:16], calibration=x, **options, **given)
        device, z = Decoder.from_file(path), np.zeros((60, 2), np.float32)
        expected = model.decode(z, condition=y).numpy()
        assert np.ptp(expected, axis=0).min() > 0.2
        np.testing.assert_allclose(device.decode(z, condition=y), expected, atol=0.05)
        quality = tfvae.export.quality(model, device, x, condition=y)
        assert abs(quality["log_likelihood_change"]) < 0.1

    @pytest.mark.usefixtures("eagerly")
    @pytest.mark.parametrize("condition", [3, (3,)])
    def test_files_are_checked_and_calibrated_with_the_conditions_of_the_examples(
        self, condition, rng
    ):
        model = make(condition)
        y = np.arange(70, dtype=np.int32) % 2
        y = y if condition == 3 else rng.normal(size=(70, 3)).astype(np.float32)
        x = rng.integers(0, 2, (70, *SHAPE)).astype(np.float32)
        offered = signatures.of(model)
        inputs = offered.inputs(x, y)
        for name in ("decode", "encode", "sample", "parameters"):
            np.testing.assert_array_equal(inputs[name]["condition"], y[:64])
        batches = offered.calibration(x, y)
        found = np.concatenate([batch["condition"] for batch in batches["decode"]])
        np.testing.assert_array_equal(found, np.concatenate([y, y]))
        latents = np.concatenate([batch["latents"] for batch in batches["decode"]])
        for rows in (slice(0, 50), slice(50, 70)):  # the latents are of these conditions too
            infer = model.inference(x[rows], condition=y[rows])
            seed = fold_in(make_seed(8), rows.start)
            expected = model.join(infer(sampler(1, seed)).z)[0]
            np.testing.assert_allclose(latents[rows], expected, rtol=1e-5)
        drawn, _ = model.draw(make_seed(8), tf.range(70), condition=y)
        np.testing.assert_allclose(latents[70:], drawn, rtol=1e-5)
        any_ones = offered.inputs(None)["decode"]["condition"]
        assert len(np.unique(any_ones, axis=0)) == (3 if condition == 3 else 16)
        assert condition == 3 or np.abs(any_ones).min() > 0

    def test_what_does_not_fit_is_refused(self, tmp_path, rng):
        path, model = tmp_path / "a.tflite", make((3,))
        x, y = np.zeros((4, *SHAPE), np.float32), np.ones((4, 3), np.float32)
        for given in ({}, {"calibration": x}):
            with pytest.raises(InvalidArgument, match=r"range.*calibration_condition="):
                tfvae.export.litert(model, path, quantize="int8", **given)
        for given in ({"condition": y}, {"calibration_condition": y}):
            with pytest.raises(InvalidArgument, match="there are none"):
                tfvae.export.litert(model, path, **given)
        for write in (tfvae.export.litert, tfvae.export.saved_model):
            with pytest.raises(InvalidData, match=r"shape \(4, 2\)"):
                write(model, path, x, condition=y[:, :2])
            for wrong in (x[:0], x[:, :1], np.full(x.shape, 255, np.uint8)):
                with pytest.raises(InvalidData, match="`x`"):
                    write(model, path, wrong)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.nightly
    def test_a_saved_model_has_the_input(self, tmp_path):
        model = randomized(make(3))
        tfvae.export.saved_model(model, tmp_path / "saved")
        served = tf.saved_model.load(str(tmp_path / "saved")).signatures["decode"]
        z = np.ones((3, 2), np.float32)
        image = served(latents=tf.constant(z), condition=tf.constant([2, 0, 1]))["image"]
        np.testing.assert_allclose(image, model.decode(z, condition=[2, 0, 1]), rtol=1e-5)


class TestRuns:
    @staticmethod
    def trained(folder):
        config = folder.with_suffix(".toml")
        config.write_text('[data]\nname = "digits"\n')
        settings = [
            *("data.condition=label", "data.binarization=static", "model.hidden=[8]"),
            *("model.latent_size=2", "model.prior=conditional_normal", "training.epochs=1"),
            *("training.batch_size=500", "training.steps_per_execution=1"),
        ]
        arguments = [word for setting in settings for word in ("--set", setting)]
        assert run("train", "--config", config, "--run-dir", folder, *arguments).exit_code == 0
        return folder

    @pytest.mark.usefixtures("eagerly")
    def test_a_run_of_the_command_line_is_given_its_labels(self, tmp_path):
        folder = self.trained(tmp_path / "run")
        assert {"samples.png", "reconstructions.png"} <= {p.name for p in folder.iterdir()}
        model = keras.saving.load_model(folder / "model.keras")
        assert model.condition.config() == 10
        assert model.uses_of_condition == {"encode", "decode", "sample"}
        output = tmp_path / "threes.npy"
        result = run("sample", folder, "--num", 5, "--condition", 3, "--output", output)
        assert result.exit_code == 0
        np.testing.assert_array_equal(np.load(output), model.sample(5, condition=3))
        assert run("sample", folder, "--condition", 10).exit_code != 0
        assert run("evaluate", folder, "--num-samples", 5, "--num-examples", 20).exit_code == 0
        report = json.loads((folder / "report.json").read_text())
        assert report["evaluation"]["active_units"] <= 2

    @pytest.mark.nightly
    def test_a_run_of_the_command_line_is_diagnosed_and_exported_with_its_labels(self, tmp_path):
        folder = self.trained(tmp_path / "run")
        options = ["--num-draws", 20, "--estimators", "pathwise", "--batch-size", 4]
        assert run("diagnose", folder, "--objectives", "elbo", *options).exit_code == 0
        report = json.loads((folder / "report.json").read_text())
        assert report["diagnosis"]["batch_size"] == 4
        assert run("export", folder, "--signature", "decode").exit_code == 0
        assert Decoder.from_file(folder / "decode.tflite").num_classes == 10

    @pytest.mark.nightly
    def test_a_run_of_codes_is_given_its_labels_throughout(self, tmp_path):
        folder, config = tmp_path / "run", tmp_path / "config.toml"
        config.write_text('[data]\nname = "digits"\n')
        settings = [
            *("data.condition=label", "data.binarization=static", "model.family=vqvae"),
            *("model.network=residual", "training.epochs=1", "model.embedding_dim=4"),
            "model.network_options={filters=4,num_downsamplings=1,num_blocks=0}",
            *("code_prior.name=categorical", "code_prior.epochs=1"),
            "model.quantizer_options={num_embeddings=8}",
        ]
        arguments = [word for setting in settings for word in ("--set", setting)]
        ran = run("train", "--config", config, "--run-dir", folder, *arguments)
        assert ran.exit_code == 0, ran.output
        assert run("train-prior", folder).exit_code == 0
        model = keras.saving.load_model(folder / "model.keras")
        assert model.condition.config() == 10
        assert model.uses_of_condition == {"encode", "decode", "sample"}
        assert model.prior.num_classes == 10
        assert run("evaluate", folder, "--num-examples", 20).exit_code == 0
        assert run("reconstruct", folder, "-n", 4).exit_code == 0
        assert run("export", folder).exit_code == 0
        assert (folder / "decoder.md").is_file()
        output, device = tmp_path / "a.npy", folder / "decoder.tflite"
        assert run("decode", device, "--sample", 3, "--condition", 7, "-o", output).exit_code == 0
        expected = model.sample(3, condition=7)
        np.testing.assert_allclose(np.load(output), expected, atol=1e-5)
        assert run("sample", folder, "-n", 3, "--condition", 7, "-o", output).exit_code == 0
        np.testing.assert_array_equal(np.load(output), expected)
        assert run("encode", folder, "-n", 5).exit_code == 0
        codes, labels = tmp_path / "codes.npy", tmp_path / "labels.npy"
        found = tfvae.codec.decompress_codes(model, folder / "codes.npz")
        np.save(codes, found)
        np.save(labels, np.arange(5) % 10)
        arguments = ("--codes", codes, "--condition", labels, "-o", output)
        assert run("decode", device, *arguments).exit_code == 0
        expected = model.decode(found, condition=np.arange(5) % 10)
        np.testing.assert_allclose(np.load(output), expected, atol=1e-5)
        compressed = ("decode", folder, "--codes", folder / "codes.npz", "-o", output)
        assert run(*compressed).exit_code == 0
        refused = run(*compressed, "--condition", 3)
        assert "holds the conditions of its examples" in str(refused.exception)

    @pytest.mark.parametrize(
        "settings",
        [
            {"model.family": "ladder", "model.upper_latent_sizes": [2]},
            {"model.family": "vqvae2", "model.network": "residual"},
        ],
    )
    def test_every_family_is_built_for_the_labels(self, settings):
        config = tfvae.config.Config().override({"data.condition": "label", **settings})
        model = tfvae.runs.build_model(config, tfvae.data.load("digits", condition="label"))
        assert model.uses_of_condition == {"encode", "decode", "sample"}

    def test_labels_lie_beside_their_images(self, tmp_path):
        """Every pixel of an image is its label, in every split and batch."""
        labels = np.arange(40) % 7
        pixels = np.tile(labels[:, None, None, None], (1, 4, 4, 1)).astype(np.uint8)
        whole = {"x": pixels, "label": labels}
        parts = {}
        for number, name in enumerate(("train", "validation", "test")):
            parts[name] = pixels[number : 20 + number]
            parts[f"{name}_label"] = labels[number : 20 + number]
        for number, arrays in enumerate((whole, parts)):
            path = tmp_path / f"{number}.npz"
            np.savez(path, **arrays)
            splits = tfvae.data.load(str(path), condition="label")
            assert splits.condition == 7
            for images in (splits.train, splits.validation, splits.test):
                for batches in (images.dataset(3), images.batches(3)):
                    for x, y in batches:
                        np.testing.assert_allclose(x[:, 0, 0, 0] * 255, y, rtol=1e-5)

    @pytest.mark.parametrize(
        ("label", "message"),
        [
            (np.arange(39), "expected 40 labels"),
            (np.full(40, -1), "labels from -1"),
            (np.full((40, 2), np.nan), "infinite or not a number"),
            (np.zeros(40), "float64 of shape"),
        ],
    )
    def test_labels_that_are_none_are_refused(self, tmp_path, label, message):
        np.savez(tmp_path / "a.npz", x=np.zeros((40, 4, 4, 1), np.uint8), label=label)
        with pytest.raises(InvalidData, match=message):
            tfvae.data.load(str(tmp_path / "a.npz"), condition="label")
        with pytest.raises(InvalidData, match="has no array class, which"):
            tfvae.data.load(str(tmp_path / "a.npz"), condition="class")
        with pytest.raises(InvalidData, match="'label' alone"):
            tfvae.data.load("digits", condition="class")


@pytest.mark.parametrize(
    ("kind", "y", "expected"),
    [
        (3, np.int64(2), np.full(4, 2, np.int32)),
        (3, np.arange(4, dtype=np.uint8) % 3, np.array([0, 1, 2, 0], np.int32)),
        ((2,), [1, 2], np.tile(np.float32([1, 2]), [4, 1])),
        ((2,), np.arange(8.0).reshape(4, 2), np.arange(8, dtype=np.float32).reshape(4, 2)),
    ],
)
def test_each_example_has_its_condition_in_the_type_of_the_signature(kind, y, expected):
    part = conditions.Conditional()
    part.condition = conditions.get(kind)
    found = part.condition_of_each(y, 4)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
