"""Missing values: what is left out is left out exactly, in every likelihood and measure."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiers import nightly_but

import tfvae
from tfvae import distributions, estimators, likelihoods, networks, objectives
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.ondevice import Decoder
from tfvae.random import make_seed

pytestmark = pytest.mark.slow  # Compiles graphs of whole models.

COMPLETE = [name for name in likelihoods.REGISTRY.names() if name not in ("columns", "observed")]
COMPILED = nightly_but([(name, True) for name in COMPLETE], ("negative_binomial", True))
TABLE = [("normal", 1), ("bernoulli", 1), ("categorical", 1, {"num_levels": 4}), ("log_normal", 1)]


def with_missing(x, rng, share=0.4):
    """Return x with NaN at a share of its values, and none wholly missing."""
    missing = rng.uniform(size=x.shape) < share
    missing.reshape(len(x), -1)[:, 0] = False
    return np.where(missing, np.nan, x).astype(np.float32)


def table_likelihood():
    return likelihoods.Observed(likelihoods.Columns(TABLE))


@pytest.fixture
def table(rng):
    """Forty rows of a table of four kinds of columns, of which some values are missing."""
    n = 40
    columns = [
        rng.normal(size=n),
        rng.integers(0, 2, n),
        rng.integers(0, 4, n) / 3,
        np.exp(rng.normal(size=n)),
    ]
    return with_missing(np.stack(columns, -1), rng)


def table_model(latents=2, **options):
    likelihood = table_likelihood()
    size = latents if "posterior" in options else 2 * latents
    return tfvae.VAE(
        networks.dense_encoder((4,), size, hidden=(8,), missing=True),
        networks.dense_decoder(latents, (likelihood.params_size(4),), hidden=(8,)),
        likelihood=likelihood,
        **options,
    )


class TestLikelihood:
    @pytest.mark.parametrize(
        ("name", "jit_compile"), [*((name, False) for name in COMPLETE), *COMPILED]
    )
    def test_what_is_missing_is_left_out_and_has_a_gradient_of_zero(self, name, jit_compile, rng):
        """Also where the parameters are extreme, so that the derivative of log p would be large."""
        complete = likelihoods.get(name)
        observed = likelihoods.Observed(complete)
        size = complete.params_size(1)
        params = tf.constant(rng.normal(0, 20, (5, 6, size)), tf.float32)
        x = complete(params / 20).sample(seed=make_seed(0)).numpy()
        missing = rng.uniform(size=x.shape) < 0.5
        x_obs = tf.constant(np.where(missing, np.nan, x))

        def log_p_and_gradient(params, x):
            with tf.GradientTape() as tape:
                tape.watch([params, x])
                log_p = observed(params).log_prob(x)
            return log_p, *tape.gradient(log_p, [params, x])

        if jit_compile:
            log_p_and_gradient = tf.function(log_p_and_gradient, jit_compile=True, autograph=False)
        log_p, by_params, by_x = log_p_and_gradient(params, x_obs)
        by_value = distributions.log_prob_by_value(complete(params), x)
        expected = np.where(missing, 0, by_value).sum((1, 2))
        np.testing.assert_allclose(log_p, expected, rtol=1e-4, atol=1e-4)
        assert np.all(by_params.numpy()[missing[..., 0]] == 0.0)
        assert np.any(by_params.numpy()[~missing[..., 0]] != 0.0)
        assert by_x is None or np.all(by_x.numpy()[missing] == 0.0)
        assert bool(observed.takes(x_obs)) or bool(np.any(missing.all(1)))

    # What is observed of incomplete values is as likely by every one of them, in the test above.
    @pytest.mark.parametrize(
        "name",
        nightly_but(COMPLETE, "normal", "negative_binomial", "discretized_logistic_mixture"),
    )
    def test_without_missing_values_it_is_the_likelihood_itself(self, name, rng):
        complete = likelihoods.get(name)
        params = rng.normal(size=(3, 4, complete.params_size(2))).astype(np.float32)
        x = complete(params).sample(seed=make_seed(0))
        d = likelihoods.Observed(complete)(params)
        expected = complete(params).log_prob(x)
        np.testing.assert_allclose(d.log_prob(x), expected, rtol=1e-5, atol=1e-4)
        np.testing.assert_array_equal(d.mean(), complete(params).mean())

    def test_columns(self, table, rng):
        likelihood = table_likelihood()
        likelihood.check(table)
        assert likelihood.takes(tf.constant(table))
        params = rng.normal(size=(40, likelihood.params_size(4))).astype(np.float32)
        by_value = distributions.log_prob_by_value(likelihood(params), table).numpy()
        assert np.all((by_value == 0) == np.isnan(table))
        parts = np.split(params, np.cumsum([1, 1, 4]), -1)
        for number, (name, _, *options) in enumerate(TABLE):
            part = likelihoods.get(name, **(options[0] if options else {}))
            rows = ~np.isnan(table[:, number])
            expected = part(parts[number][rows]).log_prob(table[rows, number : number + 1])
            np.testing.assert_allclose(by_value[rows, number], expected, rtol=1e-5)

    def test_round_trip(self):
        likelihood = likelihoods.Observed("student_t", {"df": 3.0})
        restored = likelihoods.Observed.from_config(likelihood.get_config())
        assert restored.get_config() == likelihood.get_config()
        assert restored.complete().df == 3.0

    def test_channels_that_depend_on_each_other_are_missing_together(self, rng):
        likelihood = likelihoods.Observed("discretized_logistic_mixture")
        x = np.full((3, 2, 2, 3), 0.2, np.float32)
        x[1, 0, 1] = np.nan
        likelihood.check(x)
        assert likelihood.takes(tf.constant(x))
        x[2, 0, 0, 1] = np.nan
        with pytest.raises(InvalidData, match="a site in row 2 of which some channels are missing"):
            likelihood.check(x)
        assert not likelihood.takes(tf.constant(x))

    @pytest.mark.parametrize(
        "complete",
        [
            likelihoods.Poisson(size_factor="total"),
            likelihoods.Columns([("discretized_logistic_mixture", 2)]),
            likelihoods.Observed("normal"),
        ],
        ids=repr,
    )
    def test_a_likelihood_whose_values_need_each_other_is_refused(self, complete):
        with pytest.raises(InvalidArgument, match="takes no example with missing values"):
            likelihoods.Observed(complete)

    def test_a_block_that_is_observed_is_refused(self):
        with pytest.raises(InvalidArgument, match="put it around all of them"):
            likelihoods.Columns([("observed", 2)])


class TestBadInput:
    def test_nan_is_refused_elsewhere_with_what_takes_it(self):
        with pytest.raises(InvalidData, match=r"likelihoods\.Observed\(\.\.\.\) around"):
            likelihoods.Normal().check(np.array([[0.0, np.nan]], np.float32))
        with pytest.raises(InvalidData, match=r"Clean the data first\.$"):
            likelihoods.Normal().check(np.array([[0.0, np.inf]], np.float32))

    def test_a_row_without_an_observed_value_is_named(self, table):
        table[[7, 9, 12]] = np.nan
        message = "`x` has no observed value in row 7, nor in 2 others"
        with pytest.raises(InvalidData, match=message):
            table_model().check_data(table)
        assert not table_likelihood().takes(tf.constant(table))

    def test_observed_values_are_still_checked(self, table):
        table[3, 3] = -1.0
        with pytest.raises(InvalidData, match=r"`x, column 3` has values from -1 to .*above 0"):
            table_likelihood().check(table)
        assert not table_likelihood().takes(tf.constant(table))
        table[3, 3] = np.inf
        with pytest.raises(InvalidData, match=r"`x, column 3` holds 1 values that are infinite"):
            table_likelihood().check(table)
        assert not table_likelihood().takes(tf.constant(table))

    def test_an_encoder_that_makes_nan_of_it_is_refused(self):
        likelihood = table_likelihood()
        decoder = networks.dense_decoder(2, (likelihood.params_size(4),))
        with pytest.raises(InvalidArgument, match="Build it with missing=True"):
            tfvae.VAE(networks.dense_encoder((4,), 4), decoder, likelihood=likelihood)

    def test_a_model_of_codes_is_refused(self):
        with pytest.raises(InvalidArgument, match="VQVAE takes no missing values"):
            tfvae.VQVAE(
                networks.residual_encoder((4, 4, 1), 2, 4, 1),
                tfvae.quantizers.get("ema", num_embeddings=4, embedding_dim=2),
                networks.residual_decoder((2, 2, 2), 1, 4, 1),
                likelihood=likelihoods.Observed("bernoulli"),
            )

    def test_a_batch_without_leave_to_miss_says_how_to_get_it(self, make_vae):
        model = make_vae("normal", (3,))
        model.compile("adam")
        x = np.ones((8, 3), np.float32)
        x[5, 1] = np.nan
        batches = tf.data.Dataset.from_tensor_slices(x).batch(4)
        with pytest.raises(
            InvalidData, match=r"For missing values, NaN, use likelihoods\.Observed"
        ):
            model.fit(batches, verbose=0)


class TestModels:
    def test_a_table_trains_saves_and_measures(self, table, eagerly, tmp_path):
        model = table_model()
        model.compile(
            tfvae.optimizers.Adam(1e-2), objective="iwae", num_samples=3, run_eagerly=True
        )
        losses = model.fit(table, epochs=3, batch_size=40, verbose=0).history["loss"]
        assert losses[-1] < losses[0]
        assert np.isfinite(model.evaluate(table, verbose=0)).all()
        assert np.isfinite(model.predict(table, verbose=0)).all()
        model.save(tmp_path / "table.keras")
        loaded = keras.saving.load_model(tmp_path / "table.keras")
        a, b = (
            tfvae.log_likelihood(m, table, num_samples=10, progress=False) for m in (model, loaded)
        )
        np.testing.assert_array_equal(a.per_example, b.per_example)
        assert a.num_values == pytest.approx(np.mean((~np.isnan(table)).sum(1)))
        assert np.isfinite(tfvae.mutual_information(model, table[:10]).mean)

    @pytest.mark.nightly
    def test_xla_takes_the_same_step(self, table):
        losses = []
        for jit_compile in (False, True):
            model = table_model()
            model.set_weights([0.1 + 0 * w for w in model.get_weights()])
            model.compile("sgd", jit_compile=jit_compile)
            losses.append([model.train_on_batch(table)[0] for _ in range(2)])
        np.testing.assert_allclose(*losses, rtol=1e-4)

    # An estimator that has a network of its own gives it x too.
    @pytest.mark.parametrize(
        ("objective", "estimator"),
        nightly_but(
            [
                *((name, None) for name in objectives.REGISTRY.names()),
                *(("elbo", name) for name in estimators.REGISTRY.names() if name != "exact"),
            ],
            *(("elbo", None), ("exact", None), ("beta_tcvae", None)),
            *(("elbo", "nvil"), ("elbo", "relax")),
        ),
    )
    def test_every_objective_and_estimator_takes_them(self, table, objective, estimator):
        part = estimators.REGISTRY.part(estimator or "pathwise")
        bits = "continuous" not in part.latents or objective == "exact"
        model = table_model(**({"latents": 3, "posterior": "bernoulli"} if bits else {}))
        model.compile("adam", objective, estimator, num_samples=10, run_eagerly=True)
        assert np.isfinite(model.train_on_batch(table)[0])
        assert all(np.all(np.isfinite(w)) for w in model.get_weights())

    @pytest.mark.nightly
    def test_the_networks_of_pictures(self, rng):
        x = with_missing(rng.integers(0, 2, (6, 8, 8, 1)), rng)
        likelihood = {"likelihood": likelihoods.Observed("bernoulli")}
        conv = networks.conv_encoder((8, 8, 1), 4, (4,), 8, missing=True)
        ladder = networks.residual_ladder((8, 8, 1), 1, (1, 1), (2, 2), 4, missing=True)
        vectors = networks.dense_ladder((8, 8, 1), (8, 8, 1), (2, 2), 4, missing=True)
        grid = networks.residual_encoder((8, 8, 1), 2, 4, 1, missing=True)
        models = [
            tfvae.VAE(conv, networks.conv_decoder(2, (8, 8, 1), (4,), 8), **likelihood),
            tfvae.VAE(grid, networks.residual_decoder((4, 4, 1), 1, 4, 1), **likelihood),
            tfvae.LadderVAE(*ladder, **likelihood),
            tfvae.LadderVAE(*vectors, **likelihood),
        ]
        for model in models:
            model.compile("adam")
            assert np.isfinite(model.train_on_batch(x)[0])

    def test_pseudo_inputs_start_at_means_of_what_is_observed(self, table):
        prior = tfvae.priors.VampPrior(4, bounds=None)
        model = table_model(prior=prior)
        model.compile("adam")
        table[:4, 1] = np.nan
        model.start_from_data(table, None)
        expected = table[:4].copy()
        expected[:, 1] = 0.0
        for column in (0, 2, 3):
            gaps = np.isnan(expected[:, column])
            expected[gaps, column] = np.nanmean(expected[:, column])
        np.testing.assert_allclose(prior.pseudo_inputs, expected, rtol=1e-6)

    @pytest.fixture
    def gaps(self, rng):
        """A model with random weights of numbers and classes, and rows with gaps."""
        features = ["number", 3, 3, "number"]
        encoder = networks.dense_encoder((4,), 4, (8,), missing=True, features=features)
        likelihood = likelihoods.Observed("normal", missingness="self_masking")
        model = tfvae.VAE(encoder, networks.dense_decoder(2, (4,), (8,)), likelihood=likelihood)
        for weight in model.trainable_variables:
            weight.assign(0.5 * rng.normal(size=weight.shape))
        x = np.concatenate([rng.normal(size=(60, 2)), rng.integers(0, 3, (60, 2)) / 2], axis=1)
        return model, with_missing(x[:, [0, 2, 3, 1]], rng, share=0.3)

    @pytest.mark.parametrize(
        ("quantize", "error"), nightly_but([("none", 1e-4), ("int8", 0.1)], ("none", 1e-4))
    )
    def test_a_file_of_a_table_takes_them(self, gaps, tmp_path, quantize, error):
        """Keras's codes of rows with gaps to 1e-4, and in int8 within 0.1, of 1.5."""
        model, x = gaps
        path = tmp_path / "a.tflite"
        options = {"quantize": quantize, "signatures": ["decode", "encode", "parameters"]}
        tfvae.export.litert(model, path, x, calibration=x, **options)
        decoder = Decoder.from_file(path)
        assert decoder.takes_missing
        np.testing.assert_allclose(decoder.encode(x), model.encode(x), atol=error)
        found = tfvae.export.quality(model, decoder, x, num_samples=8)
        assert abs(found["log_likelihood_change"]) < error
        lost = np.nanmean((model(x).numpy() - x) ** 2, axis=1).mean()
        assert found["mse_keras"] == pytest.approx(lost, rel=1e-5)
        with pytest.raises(InvalidData, match="infinite or not a number"):
            decoder.encode(np.full_like(x, np.inf))

    def test_a_file_of_integers_alone_is_refused(self, gaps, tmp_path):
        with pytest.raises(InvalidArgument, match=r"no integer stands for.*--io float"):
            tfvae.export.litert(gaps[0], tmp_path / "a.tflite", quantize="int8", integer_io=True)

    @pytest.mark.nightly
    def test_a_decoder_is_exported_as_without_them(self, rng, tmp_path):
        decoder = networks.dense_decoder(2, (4,), hidden=(8,))
        options = {"hidden": (8,)}
        files = []
        for missing in (False, True):
            keras.utils.set_random_seed(0)
            encoder = networks.dense_encoder((4,), 4, missing=missing, **options)
            likelihood = likelihoods.Observed("normal") if missing else "normal"
            model = tfvae.VAE(encoder, keras.models.clone_model(decoder), likelihood=likelihood)
            x = rng.normal(size=(5, 4)).astype(np.float32)
            x = with_missing(x, rng) if missing else x
            model.decoder.set_weights(decoder.get_weights())
            tfvae.export.litert(model, tmp_path / f"{missing}.tflite", x=x)
            files.append(Decoder.from_file(tmp_path / f"{missing}.tflite"))
        z = rng.normal(size=(3, 2)).astype(np.float32)
        np.testing.assert_array_equal(files[0].decode(z), files[1].decode(z))
        np.testing.assert_array_equal(files[0].sample(3, seed=1), files[1].sample(3, seed=1))
        assert files[0].description["likelihood"] == files[1].description["likelihood"]
        # The encoder's signature has the mask inside, and takes NaN.
        np.testing.assert_allclose(
            files[1].run("encode", image=x)["mean"], model.encode(x), rtol=1e-5
        )
