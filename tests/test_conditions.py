import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner

import tfvae
from tfvae import conditions, networks
from tfvae.errors import InvalidArgument, InvalidData, InvalidFile
from tfvae.explore.checks import check
from tfvae.ondevice import Decoder, inspect
from tfvae.tools.main import cli

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
        prior,
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
            "conditional_normal",
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

    def test_log_likelihood_is_exact_from_arrays_and_from_batches(self, solved):
        model, x, y, *normal = solved
        expected = self.expected(x, *normal)
        batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
        for data, condition in ((x, y), (batches, None)):
            found = tfvae.log_likelihood(model, data, 4, progress=False, condition=condition)
            np.testing.assert_allclose(found.per_example, expected, rtol=1e-4, atol=1e-4)

    def test_the_bound_of_evaluate_is_tight(self, solved):
        model, x, y, *normal = solved
        model.compile("sgd", kl="exact", num_samples=2000)  # the KL in closed form
        elbo = model.evaluate(x, y, verbose=0, return_dict=True)["elbo"]
        # The reconstruction term is sampled: 0.03 is above 4 standard errors of it.
        assert elbo == pytest.approx(self.expected(x, *normal).mean(), abs=0.03)


@pytest.mark.parametrize("prior", ["flow", "autoregressive", "conditional_normal"])
def test_p_of_z_given_y_integrates_to_one(prior):
    model = randomized(make(3, prior, decoder=False), scale=0.15)
    line = np.linspace(-12, 12, 300)
    grid = np.stack(np.meshgrid(line, line), -1).reshape(-1, 1, 2).astype(np.float32)
    p = model.p_z(condition=[0, 1, 2])
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
        [(True, True, None), (False, False, "conditional_normal"), (False, False, "flow")],
    )
    def test_classes_of_disjoint_data_are_generated_by_their_labels(
        self, stripes, tmp_path, encoder, decoder, prior
    ):
        x, y = stripes
        model = make(2, prior, encoder, decoder)
        model.compile(keras.optimizers.Adam(0.02 if prior == "flow" else 0.05))
        epochs = 60 if prior == "flow" else 30
        model.fit(x, y, epochs=epochs, verbose=0, validation_data=(x, y))
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
        model.compile("sgd")
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
        model.compile("sgd")
        model.fit(x, y + 7, verbose=0)
        assert "condition" not in model.get_config()
        with pytest.raises(InvalidArgument, match="has none"):
            model.sample(2, condition=1)
        with pytest.raises(InvalidArgument, match="made without"):
            tfvae.log_likelihood(model, x, 2, progress=False, condition=y)


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
        found = tfvae.log_likelihood(model, images, 3000, progress=False, condition=labels)
        error = found.per_example - np.array(by_label)[labels, np.arange(len(images))]
        assert np.all(np.abs(error) < 5 * found.sampling_error + 1e-4)
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        again = [m.sample(4, condition=[0, 1, 0, 1]) for m in (model, loaded)]
        np.testing.assert_array_equal(*again)

    def test_a_device_draws_what_keras_draws(self, model, tmp_path):
        tfvae.export.litert(model, tmp_path / "decoder.tflite")
        device = Decoder.from_file(tmp_path / "decoder.tflite")
        drawn = device.sample(6, seed=2, condition=[0, 1, 0, 1, 0, 1])
        expected = model.sample(6, seed=2, condition=[0, 1, 0, 1, 0, 1])
        np.testing.assert_allclose(drawn, expected, rtol=1e-5, atol=1e-5)

    def test_a_ladder_refuses_a_condition(self):
        with pytest.raises(InvalidArgument, match="LadderVAE takes no `condition`"):
            tfvae.LadderVAE(None, [None], [], [None], condition=2)


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
            (lambda m, x: tfvae.log_likelihood(m, x, 2), "this call got none"),
            (lambda m, x: tfvae.diagnose(m, x), "`diagnose` takes no condition"),
            (lambda m, x: tfvae.exact_log_likelihood(m, x), "takes no condition"),
            (lambda m, x: tfvae.annealed_importance_sampling(m, x), "takes no condition"),
            (lambda m, x: tfvae.fit_posterior(m, x), "takes no condition"),
            (lambda m, x: tfvae.fit_jointly(m, x), "takes no condition"),
            (lambda m, x: tfvae.amortization_gap(m, x), "takes no condition"),
            (lambda m, x: tfvae.mutual_information(m, x), "takes no condition"),
            (lambda m, x: tfvae.active_units(m, x), "takes no condition"),
        ],
    )
    def test_a_condition_that_is_missing_or_not_supported_is_named(
        self, compiled, stripes, call, message
    ):
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
                "conditional_normal",
            )
        with pytest.raises(InvalidArgument, match="expected a number of classes"):
            conditions.get("label")


class TestExport:
    @pytest.mark.parametrize(
        ("condition", "prior", "decoder", "taken_by"),
        [
            (3, None, True, {"decode", "encode", "sample"}),
            ((3,), "flow", True, {"decode", "encode", "sample"}),
            (3, "conditional_normal", False, {"encode", "sample"}),
        ],
    )
    def test_a_device_draws_what_keras_draws(
        self, tmp_path, condition, prior, decoder, taken_by, rng
    ):
        model = randomized(make(condition, prior, decoder=decoder))
        y = np.arange(5) % 3 if condition == 3 else rng.normal(size=(5, 3)).astype(np.float32)
        tfvae.export.litert(model, tmp_path / "decoder.tflite")
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
        with pytest.raises(InvalidFile, match="takes a condition"):
            check((tmp_path / "decoder.tflite").read_bytes())

    def test_a_saved_model_has_the_input(self, tmp_path):
        model = randomized(make(3))
        tfvae.export.saved_model(model, tmp_path / "saved")
        served = tf.saved_model.load(str(tmp_path / "saved")).signatures["decode"]
        z = np.ones((3, 2), np.float32)
        image = served(latents=tf.constant(z), condition=tf.constant([2, 0, 1]))["image"]
        np.testing.assert_allclose(image, model.decode(z, condition=[2, 0, 1]), rtol=1e-5)


class TestRuns:
    def test_a_run_of_the_command_line_is_given_its_labels(self, tmp_path):
        folder, config = tmp_path / "run", tmp_path / "config.toml"
        config.write_text('[data]\nname = "digits"\n')
        settings = [
            *("data.condition=label", "data.binarization=static", "model.hidden=[8]"),
            *("model.latent_size=2", "model.prior=conditional_normal", "training.epochs=1"),
        ]
        arguments = [word for setting in settings for word in ("--set", setting)]
        assert run("train", "--config", config, "--run-dir", folder, *arguments).exit_code == 0
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
        assert run("export", folder).exit_code == 0
        assert Decoder.from_file(folder / "decoder.tflite").num_classes == 10

    def test_codes_take_no_condition(self):
        config = tfvae.config.Config().override(
            {"data.condition": "label", "model.family": "vqvae", "model.network": "auto"}
        )
        with pytest.raises(InvalidArgument, match="model family 'vae'"):
            tfvae.runs.build_model(config, tfvae.data.load("digits", condition="label"))

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
            epoch = tf.Variable(0, dtype=tf.int64)
            for images in (splits.train, splits.validation, splits.test):
                for batches in (images.dataset(3), images.batches(3, 0, epoch)):
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
