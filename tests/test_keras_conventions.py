"""What Keras users do out of habit: it works, or is refused in words of their data."""

import contextlib
import io
import itertools
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from tiers import LONG, nightly_but

import tfvae
from tfvae.errors import InvalidArgument, InvalidData, TfvaeWarning
from tfvae.random import make_seed

pytestmark = pytest.mark.slow  # Compiles graphs of whole models.

SIZE, BATCH = 6, 4
X = np.random.default_rng(0).integers(0, 2, (12, SIZE)).astype("float32")
X.flags.writeable = False
BAD = X * 255


def network(inputs, outputs, **options):
    return keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(outputs, **options)])


def make_vae(cls=tfvae.VAE, compiled=None, encoder=None, decoder=None, **options):
    keras.utils.set_random_seed(0)
    encoder = network(SIZE, 4) if encoder is None else encoder
    model = cls(encoder, network(2, SIZE) if decoder is None else decoder, **options)
    model.compile("sgd", **(compiled or {}))
    return model


def make_vqvae(cls=tfvae.VQVAE, quantizer="vq", **options):
    keras.utils.set_random_seed(0)
    encoder = keras.Sequential(
        [keras.Input((SIZE,)), keras.layers.Dense(4), keras.layers.Reshape((2, 2))]
    )
    decoder = keras.Sequential(
        [keras.Input((2, 2)), keras.layers.Flatten(), keras.layers.Dense(SIZE)]
    )
    quantizer = tfvae.quantizers.get(quantizer, num_embeddings=4, embedding_dim=2)
    model = cls(encoder, quantizer, decoder, likelihood="bernoulli", **options)
    model.compile("sgd")
    return model


EAGER = {"run_eagerly": True}  # for one or two steps, quicker than to trace them


class Batches(keras.utils.PyDataset):
    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return len(self.x) // BATCH

    def __getitem__(self, index):
        return (self.x[index * BATCH :][:BATCH],)


def generate(x):
    for start in range(0, len(x), BATCH):
        yield (x[start : start + BATCH],)


def dataset(x):
    return tf.data.Dataset.from_tensor_slices(x).batch(BATCH)


def only_the_last_batch_bad(value=-1.0):
    x = X.copy()
    x[-1, 0] = value
    return x


KINDS = {
    "array": lambda x: x,
    "tensor": tf.constant,
    "dataset": dataset,
    "PyDataset": Batches,
    "generator": generate,
}


@pytest.fixture(scope="module")
def model():
    """One model for tests that train it, whose graphs are traced once."""
    return make_vae()


# Where the rank is unknown, so are the sizes.
UNKNOWN_SHAPES = [pytest.param((None, None), marks=LONG, id="sizes"), pytest.param(None, id="rank")]


class TestRanges:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
    def test_a_first_batch_out_of_range_is_refused_before_the_first_step(self, model, kind, method):
        before = model.get_weights()
        with pytest.raises(InvalidData, match=r"values from 0 to 255; .*\[0, 1\].*Divide"):
            getattr(model, method)(KINDS[kind](BAD), verbose=0)
        for a, b in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)

    @pytest.mark.parametrize("method", ["train_on_batch", "test_on_batch", "predict_on_batch"])
    def test_a_single_batch_is_checked(self, model, method):
        with pytest.raises(InvalidData, match="values from 0 to 255"):
            getattr(model, method)(BAD)

    @pytest.mark.parametrize("kind", KINDS)
    def test_validation_data_is_checked(self, model, kind):
        with pytest.raises(InvalidData, match="`validation_data` has values from 0 to 255"):
            model.fit(X, validation_data=KINDS[kind](BAD), verbose=0)

    @pytest.mark.parametrize("kind", ["dataset", "PyDataset", "generator"])
    @pytest.mark.parametrize("value", [-1.0, np.nan])
    def test_a_later_batch_ends_the_epoch_in_an_error(self, model, kind, value):
        data = KINDS[kind](only_the_last_batch_bad(value))
        with pytest.raises(InvalidData, match=r"1 of the batches .*\[0, 1\].*start again"):
            model.fit(data, verbose=0)
        model.evaluate(X, batch_size=BATCH, verbose=0)  # and it is forgotten then

    @pytest.mark.parametrize(
        "compiled",
        [
            pytest.param({"jit_compile": True}, marks=LONG),
            {"steps_per_execution": 2},
            {"run_eagerly": True},
        ],
        ids=lambda compiled: next(iter(compiled)),
    )
    def test_a_later_batch_is_seen_however_the_model_is_compiled(self, compiled):
        model = make_vae(compiled=compiled)
        with pytest.raises(InvalidData, match="1 of the batches"):
            model.fit(dataset(only_the_last_batch_bad()), verbose=0)

    def test_a_later_batch_is_seen_in_mixed_precision(self):
        keras.config.set_dtype_policy("mixed_bfloat16")
        with pytest.raises(InvalidData, match="1 of the batches"):
            make_vae(compiled=EAGER).fit(dataset(only_the_last_batch_bad()), verbose=0)

    def test_a_later_batch_of_validation_is_seen(self, model):
        with pytest.raises(InvalidData, match="1 of the batches"):
            model.fit(dataset(X), validation_data=dataset(only_the_last_batch_bad()), verbose=0)

    @pytest.mark.parametrize("shape", UNKNOWN_SHAPES)
    @pytest.mark.parametrize("make", nightly_but([make_vae, make_vqvae], make_vae))
    def test_sizes_that_a_dataset_does_not_know_are_those_of_the_model(self, make, shape):
        """What `tf.data.Dataset.from_generator` is often told, as map functions of Python do."""

        def told(x):
            spec = tf.TensorSpec(shape, tf.float32)
            batches = lambda: (batch for (batch,) in generate(x))  # noqa: E731
            return tf.data.Dataset.from_generator(batches, output_signature=spec)

        model, expected = make(), make()
        model.fit(told(X), verbose=0)
        expected.run_eagerly = True
        expected.fit(dataset(X), verbose=0)
        for weight, other in zip(model.get_weights(), expected.get_weights(), strict=True):
            np.testing.assert_allclose(weight, other, rtol=1e-5, atol=1e-6)
        predicted = model.predict(told(X), verbose=0)
        np.testing.assert_allclose(predicted, model(X), rtol=1e-5)
        with pytest.raises(InvalidData, match="examples of shape"):
            model.fit(told(X[:, :5]), verbose=0)

    @pytest.mark.parametrize("shape", UNKNOWN_SHAPES)
    def test_weights_of_unknown_sizes_are_one_for_each_example(self, shape):
        weights = np.arange(len(X), dtype="float32")[:, np.newaxis]  # [N, 1], as Keras has them
        y = np.zeros(len(X), "float32")

        def told():
            at = range(0, len(X), BATCH)
            parts = lambda: (tuple(a[i : i + BATCH] for a in (X, y, weights)) for i in at)  # noqa: E731
            spec = (tf.TensorSpec(shape, tf.float32), tf.TensorSpec(None, tf.float32))
            spec = (*spec, tf.TensorSpec(shape, tf.float32))
            return tf.data.Dataset.from_generator(parts, output_signature=spec)

        model, expected = make_vae(), make_vae(compiled=EAGER)
        model.fit(told(), verbose=0)
        expected.fit(X, sample_weight=weights[:, 0], batch_size=BATCH, shuffle=False, verbose=0)
        for weight, other in zip(model.get_weights(), expected.get_weights(), strict=True):
            np.testing.assert_allclose(weight, other, rtol=1e-5, atol=1e-6)

    def test_several_weights_for_an_example_are_refused(self, model):
        with pytest.raises(InvalidData, match=r"`sample_weight` has the shape \(None, 2\)"):
            model.fit(dataset((X, np.zeros(12), np.ones((12, 2)))), verbose=0)

    def test_no_counter_runs_ahead_where_data_of_unknown_length_ends(self):
        spec = (tf.TensorSpec((None, SIZE), tf.float32),)
        data = tf.data.Dataset.from_generator(lambda: generate(X), output_signature=spec)
        model = make_vqvae()
        model.fit(data, epochs=3, verbose=0)
        counters = model.step, model.quantizer.step, model.optimizer.iterations
        assert [int(counter) for counter in counters] == [9, 9, 9]

    def test_a_density_takes_any_finite_value(self):
        model = make_vae(likelihood="normal", compiled=EAGER)
        model.fit(dataset(X * 3 - 1), verbose=0)
        with pytest.raises(InvalidData, match=r"1 of the batches .*finite"):
            model.fit(dataset(only_the_last_batch_bad(np.inf)), verbose=0)

    def test_codes_of_a_later_batch_are_seen(self):
        codes = np.zeros((12, 3), "int32")
        prior = tfvae.code_priors.get("categorical", codebook_size=5)
        prior.compile("sgd", run_eagerly=True)
        prior.fit(dataset(codes), verbose=0)
        with pytest.raises(InvalidData, match="values from 0 to 5"):
            prior.fit(dataset(np.where(np.arange(3) == 0, 5, codes)), verbose=0)

    def test_a_generator_loses_no_batch(self, model):
        seen = []

        def watched():
            for batch in generate(X):
                seen.append(batch)
                yield batch

        steps = int(model.step)
        model.fit(watched(), verbose=0)
        assert len(seen) == 3
        assert int(model.step) - steps == 3  # and no step is counted where the data ends

    def test_the_count_of_refused_batches_is_no_weight(self, model):
        names = [weight.path.split("/")[-1] for weight in model.weights]
        assert names == ["step", "kernel", "bias", "kernel", "bias"]
        assert len(model.copy().get_weights()) == len(names)

    def test_grey_pixels_under_bernoulli_warn(self, model):
        with pytest.warns(TfvaeWarning, match="100% of the pixels are not among the 2 levels"):
            model.fit(np.full_like(X, 0.5), verbose=0, batch_size=BATCH)
        with pytest.warns(TfvaeWarning, match="Binarize"):
            model.fit(dataset(np.full_like(X, 0.5)), verbose=0)


class TestKindsOfData:
    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ({"image": X}, "a dict of 'image'.*x\\['image'\\]"),
            ([X, X], "a list of 2.*np.stack"),
            (tf.data.Dataset.from_tensors({"image": X, "label": X}), "a dict of 'image', 'label'"),
            (None, "`x` is missing"),
            ("digits", "a str"),
        ],
    )
    @pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
    def test_what_is_not_one_array_is_refused(self, model, data, message, method):
        with pytest.raises(InvalidArgument, match=message):
            getattr(model, method)(data)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (X[:, :3], r"shape \(3,\); the encoder takes \(6,\)\. Reshape"),
            (tf.data.Dataset.from_tensor_slices(X), r"\(6,\)\. It is a single .*\.batch\(32\)"),
            (X[:0], "empty"),
            (dataset(X).take(0), "empty"),
            (np.array([["a"] * SIZE]), "<U1 values"),
            (tf.ragged.constant([[0.0], [1.0, 1.0]]), "RaggedTensor"),
        ],
    )
    @pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
    def test_what_is_no_data_is_refused(self, model, data, message, method):
        with pytest.raises(InvalidData, match=message):
            getattr(model, method)(data)

    def test_a_weight_for_every_pixel_is_refused(self, model):
        with pytest.raises(InvalidData, match=r"`sample_weight` has the shape .*; expected \[B\]"):
            model.train_on_batch(X, sample_weight=np.ones_like(X))

    @pytest.mark.parametrize("shape", [(1,), (3,), ()])
    def test_another_number_of_weights_than_examples_is_refused(self, model, shape):
        """One weight would have weighed the whole batch, as if it were of each."""
        for method in (model.test_on_batch, model.train_on_batch):
            with pytest.raises(
                InvalidData, match=r"`sample_weight` has the shape .*; expected \[B"
            ):
                method(X, sample_weight=np.ones(shape, "float32"))

    @pytest.mark.parametrize(
        "y", [np.zeros(12), 1 - X, pytest.param({"label": np.zeros(12)}, marks=LONG)]
    )
    def test_labels_that_nothing_uses_are_warned_of_once(self, y):
        model = make_vae(compiled=EAGER)
        expected = "`fit` got y, which nothing uses: this VAE has no condition and no `additional"
        with pytest.warns(TfvaeWarning, match=expected) as warned:
            model.fit(X, y, epochs=2, verbose=0)
        (ours,) = [each for each in warned if each.category is TfvaeWarning]
        assert ours.filename == __file__

    def test_labels_that_something_uses_and_targets_that_are_x_are_not_warned_of(self):
        class OwnStep(tfvae.VAE):
            def train_step(self, data):
                return super().train_step(data)

        labels = np.arange(12) % 2
        with warnings.catch_warnings():
            warnings.simplefilter("error", TfvaeWarning)
            for y in (X, X.copy(), tf.constant(X)):
                make_vae(compiled=EAGER).fit(X, y, verbose=0)
            weights = {0: 1.0, 1: 2.0}
            make_vae(compiled=EAGER).fit(X, labels, class_weight=weights, verbose=0)
            make_vae(WithTerm, EAGER).fit(X, labels, verbose=0)
            make_vae(OwnStep, EAGER).fit(X, labels, verbose=0)
            make_vae(compiled=EAGER).fit(dataset((X, labels)), verbose=0)

    @pytest.mark.parametrize("value", nightly_but([np.nan, np.inf], np.nan))
    @pytest.mark.parametrize("of", ["array", "step", "evaluate", "validation", "first", "last"])
    def test_weights_that_are_not_finite_are_refused(self, value, of):
        model = make_vae(compiled=EAGER)
        weights = np.ones(12)
        weights[-1 if of == "last" else 0] = value
        data = dataset((X, np.zeros(12), weights))
        calls = {
            "array": lambda: model.fit(X, sample_weight=weights),
            "step": lambda: model.train_on_batch(X, sample_weight=weights),
            "evaluate": lambda: model.evaluate(X, sample_weight=weights),
            "validation": lambda: model.fit(X, validation_data=(X, None, weights)),
            "first": lambda: model.fit(data),
            "last": lambda: model.fit(data, verbose=0),
        }
        message = {"last": "1 of the batches .* began held weights that are not finite, or held"}
        expected = f"`sample_weight` holds {value}; expected finite numbers"
        with pytest.raises(InvalidData, match=message.get(of, expected)):
            calls[of]()
        assert model.steps_made == (3 if of == "last" else 0)

    def test_negative_weights_count_negatively(self):
        model, signs = make_vae(compiled=EAGER), np.where(np.arange(12) < 8, 1.0, -1.0)

        def kl(x, **options):
            return model.evaluate(x, **options, batch_size=12, return_dict=True, verbose=0)["kl"]

        # Of the closed form, which has no noise: (8 a − 4 b) / (8 − 4).
        expected = 2 * kl(X[:8]) - kl(X[8:])
        assert kl(X, sample_weight=signs) == pytest.approx(expected, rel=1e-5)

    def test_class_weight_needs_labels(self, model):
        for method in (model.fit, model.train_on_batch):
            with pytest.raises(InvalidArgument, match="label of each example"):
                method(X, class_weight={0: 1.0})
        with pytest.raises(InvalidArgument, match="label of each example"):
            model.fit(dataset(X), class_weight={0: 1.0})

    def test_weights_of_validation_count_without_labels(self):
        model, weights = make_vae(compiled=EAGER), np.arange(12) < 4
        history = model.fit(X, validation_data=(X, None, weights), batch_size=12, verbose=0)
        alone = model.evaluate(X[:4], batch_size=4, return_dict=True, verbose=0)
        # Other noise, for it depends on where an example stands in its batch.
        assert history.history["val_kl"][0] == pytest.approx(alone["kl"], rel=1e-5)


@keras.saving.register_keras_serializable("test_keras_conventions")
class WithTerm(tfvae.VAE):
    """Adds 10 to the loss of each example, and the norm of the decoder's bias, trained by it."""

    def additional_loss(self, x, y, training):
        label = 0.0 if y is None else tf.reshape(tf.cast(y, tf.float32), [-1])
        pull = tf.reduce_sum(self.decoder.layers[-1].bias - 1.0)
        return 10.0 + label + pull * tf.ones(tf.shape(x)[:1])


class WithAddLoss(tfvae.VAE):
    def bottom_up(self, x, training=False):
        self.add_loss(tf.constant(7.0))
        return super().bottom_up(x, training)


class WithPasses(tfvae.VAE):
    """Adds a constant in every pass."""

    def infer(self, h, draw, training=False, condition=None):
        self.add_loss(tf.constant(3.0))
        return super().infer(h, draw, training, condition)


class WithTermOfCodes(tfvae.VQVAE):
    def additional_loss(self, x, y, training):
        return tf.fill(tf.shape(x)[:1], 3.0)


class TestFit:
    def test_a_model_that_is_not_compiled_is_refused(self):
        with pytest.raises(ValueError, match="must call `compile"):
            make_vae().copy().fit(X)

    @pytest.mark.parametrize("make", [make_vae, make_vqvae])
    @pytest.mark.parametrize("method", ["fit", "train_on_batch"])
    def test_a_frozen_model_is_refused(self, make, method):
        model = make()
        model.trainable = False
        with pytest.raises(InvalidArgument, match=r"nothing to learn.*all of them are frozen"):
            getattr(model, method)(X)

    @pytest.mark.parametrize("method", ["fit", "train_on_batch"])
    def test_a_codebook_of_moving_averages_is_trained_between_frozen_networks(self, method):
        model = make_vqvae(quantizer="ema")
        model.run_eagerly = True
        model.encoder.trainable = model.decoder.trainable = False
        before = [weight.numpy() for weight in (*model.encoder.weights, *model.decoder.weights)]
        table = model.quantizer.table.numpy()
        getattr(model, method)(X)
        assert model.steps_made == 1
        assert np.any(model.quantizer.table.numpy() != table)
        after = (*model.encoder.weights, *model.decoder.weights)
        for weight, expected in zip(after, before, strict=True):
            np.testing.assert_array_equal(weight, expected)
        model.quantizer.trainable = False
        with pytest.raises(InvalidArgument, match="nothing to learn"):
            getattr(model, method)(X)

    def test_pseudo_inputs_start_at_what_validation_split_leaves(self):
        model = make_vae(prior=tfvae.priors.VampPrior(20))
        model.compile("sgd", run_eagerly=True)
        model.optimizer.learning_rate = 0.0
        model.fit(X, validation_split=0.5, verbose=0)
        np.testing.assert_array_equal(model.prior.pseudo_inputs[:6], X[:6])

    def test_pseudo_inputs_that_the_user_sets_stay(self, tmp_path):
        model = make_vae(prior=tfvae.priors.VampPrior(3))
        assert not model.prior.started
        model.prior.start(np.full((3, SIZE), 0.25))
        model.save(tmp_path / "model.keras")
        for same in (model, model.copy(), keras.saving.load_model(tmp_path / "model.keras")):
            same.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
            same.fit(X, verbose=0)
            np.testing.assert_array_equal(same.prior.pseudo_inputs, np.full((3, SIZE), 0.25))
        assert not tfvae.VAE.from_config(model.get_config()).prior.started

    def test_pseudo_inputs_start_at_the_batch_of_the_first_step(self):
        model = make_vae(prior=tfvae.priors.VampPrior(3))
        model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
        model.train_on_batch(X[4:])
        model.train_on_batch(X)
        model.fit(X, verbose=0)
        np.testing.assert_array_equal(model.prior.pseudo_inputs, X[4:7])

    @pytest.mark.parametrize("method", ["fit", "train_on_batch"])
    def test_no_two_pseudo_inputs_start_alike_where_there_are_few_examples(self, method):
        model = make_vae(prior=tfvae.priors.VampPrior(8))
        model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
        made_with = model.prior.pseudo_inputs.numpy()
        few = np.eye(SIZE, dtype="float32")[:3]
        getattr(model, method)(few)
        np.testing.assert_array_equal(model.prior.pseudo_inputs[:3], few)
        np.testing.assert_array_equal(model.prior.pseudo_inputs[3:], made_with[3:])
        assert len(np.unique(model.prior.pseudo_inputs, axis=0)) == 8
        assert model.prior.started

    def test_a_prior_that_is_not_built_has_not_started(self):
        assert not tfvae.priors.VampPrior(3).started

    def test_pseudo_inputs_cannot_start_at_a_generator(self):
        batches = (X for _ in range(2))
        with pytest.raises(InvalidArgument, match=r"starts at training examples.*got a generator"):
            make_vae(prior=tfvae.priors.VampPrior(3)).fit(batches, steps_per_epoch=1, verbose=0)

    def test_losses_of_an_encoder_that_is_called_twice_are_refused(self):
        regular = network(SIZE, 4, activity_regularizer="l2")
        with pytest.raises(InvalidArgument, match="VampPrior calls the encoder a second time"):
            make_vae(prior="vamp", encoder=regular).fit(X, verbose=0)
        of_weights = network(SIZE, 4, kernel_regularizer="l2")
        model = make_vae(prior="vamp", encoder=of_weights, compiled=EAGER)
        logs = model.train_on_batch(X, return_dict=True)
        assert logs["regularization"] > 0

    def test_no_pseudo_input_starts_at_an_example_that_validation_split_takes(self):
        model = make_vae(prior=tfvae.priors.VampPrior(12), compiled=EAGER)
        model.optimizer.learning_rate = 0.0
        model.fit(X, validation_split=0.5, verbose=0)
        np.testing.assert_array_equal(model.prior.pseudo_inputs[:6], X[:6])
        assert not np.any(np.all(model.prior.pseudo_inputs[6:] == X[6:], axis=1))


class TestLossTerms:
    def test_an_additional_loss_is_trained_measured_and_logged(self):
        with_term, without = make_vae(WithTerm, EAGER), make_vae(compiled=EAGER)
        logs = with_term.train_on_batch(X, return_dict=True)
        without.train_on_batch(X)
        assert logs["loss"] == pytest.approx(-logs["elbo"] + 10.0 - SIZE, rel=1e-5)
        assert logs["additional_loss"] == pytest.approx(10.0 - SIZE, rel=1e-5)
        bias, plain = (m.decoder.layers[-1].bias.numpy() for m in (with_term, without))
        np.testing.assert_allclose(bias, plain - 0.01, rtol=1e-4)  # SGD's learning rate
        labels = np.arange(12) % 2
        logs = with_term.evaluate(X, labels, return_dict=True, verbose=0)
        term = 10.5 + np.sum(bias - 1.0)
        assert logs["additional_loss"] == pytest.approx(term, rel=1e-5)
        assert logs["loss"] == pytest.approx(-logs["elbo"] + term, rel=1e-5)

    def test_free_posteriors_are_not_fitted_with_one(self):
        with pytest.raises(InvalidArgument, match="WithTerm adds a loss of its own"):
            tfvae.fit_jointly(make_vae(WithTerm), X)

    def test_weights_are_no_labels(self):
        weights = np.full(12, 2.0)
        model = make_vae(WithTerm, EAGER)
        logs = model.evaluate(X, sample_weight=weights, return_dict=True, verbose=0)
        assert logs["additional_loss"] == pytest.approx(10.0 - SIZE, rel=1e-5)

    def test_add_loss_counts_in_both_steps_and_after_a_new_trace(self):
        model = make_vae(WithAddLoss)
        for logs in (
            model.train_on_batch(X, return_dict=True),
            model.train_on_batch(X[:5], return_dict=True),
            model.test_on_batch(X, return_dict=True),
        ):
            assert logs["regularization"] == 7.0
            assert logs["loss"] == pytest.approx(-logs["elbo"] + 7.0, rel=1e-5)

    @pytest.mark.parametrize("estimator", ["sticking_the_landing", "dreg"])
    def test_losses_of_a_decoder_are_those_of_pathwise_gradients(self, estimator):
        """One pass has z with its gradient, and another holds it fixed; `pathwise` has one."""
        gradients = []
        for name in ("pathwise", estimator):
            keras.utils.set_random_seed(0)
            regular = network(2, SIZE, activity_regularizer=keras.regularizers.L2(10.0))
            model = make_vae(WithPasses, {"estimator": name}, decoder=regular)
            with tf.GradientTape() as tape:
                model._estimate(X, None, model.training_bound(), make_seed(1), training=True)
                total = tf.add_n(model.losses)
            weights = [w.value for w in model.encoder.trainable_variables]
            gradients.append([total, *tape.gradient(total, weights)])
        for gradient, expected in zip(*reversed(gradients), strict=True):
            assert np.linalg.norm(expected) > 1.0
            np.testing.assert_allclose(gradient, expected, rtol=1e-5)

    @pytest.mark.parametrize(
        "estimator",
        nightly_but(["score_function", "disarm", "rebar", "exact"], "score_function", "rebar"),
    )
    def test_losses_of_z_that_q_could_not_learn_are_refused(self, estimator):
        """Their gradient in q is a likelihood ratio, and they belong to no example."""
        options = {"posterior": "bernoulli", "encoder": network(SIZE, 2)}
        compiled = {"estimator": estimator, "run_eagerly": True}
        regular = network(2, SIZE, activity_regularizer="l2")
        with pytest.raises(InvalidArgument, match=f"estimator '{estimator}' draws z without a gra"):
            make_vae(compiled=compiled, decoder=regular, **options).train_on_batch(X)
        constant = make_vae(WithPasses, compiled, **options).train_on_batch(X, return_dict=True)
        assert constant["regularization"] == 3.0

    def test_losses_of_z_are_taken_where_q_is_not_trained(self):
        options = {"posterior": "bernoulli", "encoder": network(SIZE, 2)}
        regular = network(2, SIZE, activity_regularizer="l2")
        model = make_vae(
            compiled={"estimator": "vimco", "num_samples": 2, **EAGER}, decoder=regular, **options
        )
        model.encoder.trainable = False
        before = model.encoder.get_weights()
        assert model.train_on_batch(X, return_dict=True)["regularization"] > 0
        for weight, same in zip(model.encoder.get_weights(), before, strict=True):
            np.testing.assert_array_equal(weight, same)

    def test_a_model_of_codes_has_the_same_hook(self):
        model = make_vqvae(WithTermOfCodes)
        model.run_eagerly = True
        logs = model.train_on_batch(X, return_dict=True)
        expected = logs["reconstruction"] + logs["quantization"] + 3.0
        assert logs["loss"] == pytest.approx(expected, rel=1e-5)

    def test_a_term_that_is_not_per_example_is_refused(self):
        class Scalar(tfvae.VAE):
            def additional_loss(self, x, y, training):
                return tf.constant(1.0)

        with pytest.raises(InvalidArgument, match=r"returned the shape \(\); expected \[B\]"):
            make_vae(Scalar, {"run_eagerly": True}).train_on_batch(X)

    @pytest.mark.parametrize(
        "name", ["compute_loss", "compute_metrics", "q_z_given_x", "p_z", "p_x_given_z"]
    )
    def test_a_method_that_would_never_be_called_is_refused(self, name):
        cls = type("Mine", (tfvae.VAE,), {name: lambda self, *args, **kwargs: 0.0})
        with pytest.raises(InvalidArgument, match=f"Mine overrides `{name}`.*(Override|Give)"):
            make_vae(cls)


def test_a_subclass_may_have_layers_of_its_own():
    """A classifier of the mean latent beside the VAE, made after `super().__init__()`."""

    class Classified(tfvae.VAE):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.classifier = keras.layers.Dense(2)

        def additional_loss(self, x, y, training):
            logits = self.classifier(self.encode(x, training=training))
            labels = tf.reshape(tf.cast(y, tf.int32), [-1])
            return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)

    model = make_vae(Classified, {"run_eagerly": True})
    labels = (X[:, 0] > 0).astype("int32")
    before = model.evaluate(X, labels, return_dict=True, verbose=0)["additional_loss"]
    model.fit(X, labels, epochs=3, verbose=0)
    assert model.evaluate(X, labels, return_dict=True, verbose=0)["additional_loss"] < before
    assert any(w is model.classifier.kernel for w in model.trainable_weights)


class TestRegularization:
    @pytest.mark.parametrize("make", [make_vae, make_vqvae])
    def test_it_is_part_of_the_loss_and_shown(self, make):
        model = make()
        model.run_eagerly = True
        layer = model.decoder.layers[-1]
        layer.kernel.regularizer = keras.regularizers.L2(0.5)
        expected = 0.5 * np.sum(layer.kernel.numpy() ** 2)
        logs = model.evaluate(X, return_dict=True, verbose=0)
        assert logs["regularization"] == pytest.approx(expected, rel=1e-5)
        own = logs["reconstruction"] + logs.get("kl", 0) + logs.get("quantization", 0)
        assert logs["loss"] == pytest.approx(own + expected, rel=1e-5)
        assert "regularization" in model.fit(X, verbose=0).history

    def test_it_is_no_entry_where_there_is_none(self, model):
        assert "regularization" not in model.metrics_names

    def test_activity_counts(self):
        encoder = network(SIZE, 4, activity_regularizer=keras.regularizers.L2(0.1))
        model = make_vae(encoder=encoder)
        logs = model.test_on_batch(X, return_dict=True)
        expected = 0.1 * np.mean(np.sum(encoder(X).numpy() ** 2, axis=1))
        assert logs["regularization"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("make", nightly_but([make_vae, make_vqvae], make_vae))
def test_every_list_of_values_has_the_order_of_metrics_names(make):
    model = make()
    model.run_eagerly = True
    model.decoder.layers[-1].kernel.regularizer = keras.regularizers.L2(0.5)
    names = model.metrics_names
    assert names[0] == "loss"
    assert "regularization" in names
    for method in (model.test_on_batch, lambda x, **kw: model.evaluate(x, verbose=0, **kw)):
        values, logs = method(X), method(X, return_dict=True)
        assert values == [logs[name] for name in names]
    assert set(model.train_on_batch(X, return_dict=True)) == set(names)
    values = model.train_on_batch(X)
    terms = dict(zip(names, values, strict=True))
    own = terms["reconstruction"] + terms.get("kl", 0) + terms.get("quantization", 0)
    assert terms["loss"] == pytest.approx(own + terms["regularization"], rel=1e-5)


class TestMonitors:
    @pytest.mark.parametrize(
        "monitor",
        nightly_but(["val_elbo", "val_loss", "val_reconstruction"], "val_elbo", "val_loss"),
    )
    def test_the_better_direction_is_known(self, model, monitor, tmp_path):
        callbacks = [
            keras.callbacks.EarlyStopping(monitor, patience=0, restore_best_weights=True),
            keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", monitor, save_best_only=True),
            keras.callbacks.ReduceLROnPlateau(monitor),
        ]
        model.fit(X, validation_data=(X,), verbose=0, callbacks=callbacks, batch_size=12)
        expected = "max" if monitor == "val_elbo" else "min"
        assert [callback.mode for callback in callbacks] == [expected] * 3
        assert (tmp_path / "best.keras").exists()

    def test_training_goes_on_while_the_elbo_rises(self, model):
        stop = keras.callbacks.EarlyStopping("val_elbo", patience=0)
        rising = [-3.0, -2.0, -1.0, -2.0, -3.0]

        class Pretend(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                logs["val_elbo"] = rising[epoch]

        model.fit(X, epochs=5, verbose=0, callbacks=[Pretend(), stop], batch_size=12)
        assert stop.stopped_epoch == 3

    def test_a_metric_that_is_not_better_either_way_is_refused(self, model):
        stop = keras.callbacks.EarlyStopping("val_kl")
        with pytest.raises(InvalidArgument, match=r"EarlyStopping monitors 'val_kl'.*mode='min'"):
            model.fit(X, callbacks=stop, verbose=0)
        stop.mode = "min"
        model.fit(X, callbacks=stop, validation_data=(X,), verbose=0, batch_size=12)

    def test_models_of_codes_and_priors_know_theirs(self):
        assert make_vqvae().better["perplexity"] == "max"
        assert tfvae.code_priors.CodePrior.better["bits_per_code"] == "min"


class OfShapesUnknown(keras.Model):
    """A subclassed network without `compute_output_shape`."""

    def __init__(self, outputs, broken=False):
        super().__init__()
        self.dense, self.broken = keras.layers.Dense(outputs), broken

    def call(self, x):
        if self.broken:
            raise TypeError("no such luck")
        return tf.nn.relu(self.dense(x))


class SquaredNormal(tfvae.posteriors.Posterior):
    """exp of a normal: no mean is known to TFP."""

    params_per_channel = 2

    def distribution(self, params, batch_ndims):
        loc, raw = tf.split(params, 2, axis=-1)
        normal = tfp.distributions.Normal(loc, tf.exp(raw))
        flow = tfp.bijectors.Softplus()
        return tfp.distributions.Independent(
            tfp.distributions.TransformedDistribution(normal, flow), 1
        )


class TestNetworks:
    @pytest.mark.parametrize(
        "method",
        nightly_but(
            ["fit", "evaluate", "predict", "train_on_batch", "call"], "fit", "predict", "call"
        ),
    )
    def test_a_subclassed_encoder_needs_no_compute_output_shape(self, method):
        model = make_vae(encoder=OfShapesUnknown(4), compiled=EAGER)
        (model if method == "call" else getattr(model, method))(X)
        assert model.latent_shape == (2,)

    def test_what_fails_in_the_trial_is_said(self):
        with pytest.raises(InvalidArgument, match=r"(?s)encoder.*no such luck.*OfShapesUnknown"):
            make_vae(encoder=OfShapesUnknown(4, broken=True)).fit(X)

    def test_several_inputs_are_refused(self):
        inputs = [keras.Input((SIZE,)), keras.Input((1,))]
        joined = keras.layers.Dense(4)(keras.layers.Concatenate()(inputs))
        with pytest.raises(InvalidArgument, match=r"The encoder has 2 inputs.*expected one"):
            make_vae(encoder=keras.Model(inputs, joined))

    def test_a_posterior_without_a_mean_trains_and_says_why_it_does_not_predict(self):
        model = make_vae(posterior=SquaredNormal(), compiled=EAGER)
        model.fit(X, verbose=0)
        for method in (model.predict, model.encode):
            with pytest.raises(InvalidArgument, match=r"The mean of q\(z\|x\)"):
                method(X)

    @pytest.mark.parametrize("make", [make_vae, make_vqvae])
    def test_a_summary_calls_nothing_unbuilt(self, make):
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            make().summary(print_fn=lambda line: print(line))
        assert "encoder" in text.getvalue() or "sequential" in text.getvalue()
        assert "unbuilt" not in text.getvalue()


def train(model, steps, change=None, x=X):
    """Make single steps, with a change before each; return β or λ as the losses show it."""
    betas = []
    for step in range(steps):
        if change is not None:
            change(step)
        model.reset_metrics()
        logs = model.train_on_batch(x, return_dict=True)
        betas.append((logs["loss"] - logs["reconstruction"]) / logs["kl"])
    return betas


class Traced(tfvae.VAE):
    """Counts the graphs of its training step."""

    traces = 0

    def train_step(self, data):
        self.traces += 1
        return super().train_step(data)


def make_ladder(**compiled):
    """Two stochastic layers."""
    keras.utils.set_random_seed(0)
    model = tfvae.HierarchicalVAE(
        [network(SIZE, 6), network(3, 4)], [network(3, SIZE), network(2, 6)]
    )
    model.compile("sgd", **compiled)
    return model


class AtEveryEpoch(keras.callbacks.Callback):
    def __init__(self, change):
        super().__init__()
        self.change = change

    def on_epoch_begin(self, epoch, logs=None):
        self.change(self.model, epoch)


@keras.saving.register_keras_serializable("tests")
def halved_every_step(step):
    return 0.5 ** (tf.cast(step, tf.float32) + 1.0)


def betas_of(history):
    """Return β of each epoch, of training and of validation."""
    logs = {name: np.asarray(values) for name, values in history.history.items()}
    return [(logs[p + "loss"] - logs[p + "reconstruction"]) / logs[p + "kl"] for p in ("", "val_")]


class TestBeta:
    @pytest.mark.parametrize(
        "compiled",
        nightly_but(
            [{}, {"jit_compile": True}, {"steps_per_execution": 3}, {"run_eagerly": True}],
            {},
        ),
        ids=lambda compiled: next(iter(compiled), "graph"),
    )
    def test_a_callback_may_assign_it(self, compiled):
        """Annealing as it is usually written; the graph is that of the first epoch."""
        model = make_vae(Traced, compiled={"beta": 0.0, **compiled})
        read, traces = [], []

        def anneal(model, epoch):
            model.beta = 0.3 * epoch
            read.append(model.beta)
            traces.append(model.traces)

        history = model.fit(
            X, batch_size=BATCH, epochs=4, validation_data=(X,), verbose=0,
            callbacks=[AtEveryEpoch(anneal)],
        )  # fmt: skip
        for betas in betas_of(history):
            np.testing.assert_allclose(betas, [0.0, 0.3, 0.6, 0.9], atol=1e-3)
        np.testing.assert_allclose(read, [0.0, 0.3, 0.6, 0.9], rtol=1e-7)
        if not compiled.get("run_eagerly"):
            assert model.traces == traces[1], "a later epoch made another graph"

    def test_it_changes_the_gradient(self):
        """With β = 0 and β = 1 the same step moves the encoder elsewhere."""
        moved = []
        for beta in (0.0, 1.0):
            model = make_vae(compiled={"beta": 0.5, "run_eagerly": True})
            model.beta = beta
            model.train_on_batch(X)
            moved.append(model.encoder.get_weights()[0])
        assert np.max(np.abs(moved[0] - moved[1])) > 1e-4

    def test_it_is_kept_as_it_was_assigned(self, tmp_path):
        model = make_vae(compiled={"beta": 0.25, "free_bits": 0.1, **EAGER})
        model.beta, model.free_bits = 0.3, 0.7
        assert (model.beta, model.free_bits) == (0.3, 0.7)
        assert model.get_compile_config()["beta"] == 0.3
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        assert (again.beta, again.free_bits) == (0.3, 0.7)
        assert again.evaluate(X, verbose=0) == model.evaluate(X, verbose=0)

    @pytest.mark.parametrize(
        ("beta", "expected", "final"),
        [
            pytest.param(
                tfvae.schedules.LinearWarmup(2, final=0.6), [0.3, 0.6, 0.6], 0.6, marks=LONG
            ),  # test_vae looks at it every time
            pytest.param(
                keras.optimizers.schedules.PolynomialDecay(1.0, 2, 0.0),
                [1.0, 0.5, 0.0],
                0.0,
                marks=LONG,
            ),
            (halved_every_step, [0.5, 0.25, 0.125], 0.0625),
        ],
        ids=["ours", "Keras's", "function"],
    )
    def test_it_follows_any_function_of_the_step(self, beta, expected, final, tmp_path):
        """A function that names no final value is at the next step in validation."""
        model = make_vae(compiled={"beta": beta, "run_eagerly": True})
        np.testing.assert_allclose(train(model, 3), expected, atol=1e-4)
        logs = model.evaluate(X, verbose=0, return_dict=True)
        beta = (logs["loss"] - logs["reconstruction"]) / logs["kl"]
        assert beta == pytest.approx(final, abs=1e-4)
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        assert again.evaluate(X, verbose=0, return_dict=True)["loss"] == logs["loss"]

    @pytest.mark.parametrize(
        ("beta", "expected"),
        [
            (lambda step: 1, [1.0, 1.0]),
            (lambda step: tf.minimum(1.0, (step + 1) / 4), [0.25, 0.5]),
            (lambda step: tf.where(step < 1, 0, 1), [0.0, 1.0]),
        ],
        ids=["int", "float64", "int32"],
    )
    def test_a_function_may_return_any_type_of_number(self, beta, expected):
        model = make_vae(compiled={"beta": beta, "free_bits": lambda step: 0, "run_eagerly": True})
        np.testing.assert_allclose(train(model, 2), expected, atol=1e-4)

    def test_validation_is_at_the_final_value_of_a_schedule(self):
        schedule = tfvae.schedules.LinearWarmup(100, final=0.5)
        model = make_vae(compiled={"beta": schedule, "free_bits": schedule, "run_eagerly": True})
        same = make_vae(compiled={"beta": 0.5, "free_bits": 0.5, "run_eagerly": True})
        assert model.evaluate(X, verbose=0) == same.evaluate(X, verbose=0)

    def test_each_layer_may_have_its_own(self):
        model = make_ladder(beta=[1.0, 1.0], run_eagerly=True)
        model.beta = [0.5, 2.0]
        assert model.beta == [0.5, 2.0]
        logs = model.train_on_batch(X, return_dict=True)
        expected = logs["reconstruction"] + 0.5 * logs["kl_1"] + 2.0 * logs["kl_2"]
        assert logs["loss"] == pytest.approx(expected, rel=1e-5)
        model.beta = 0.1  # all of them
        assert model.beta == [0.1, 0.1]
        with pytest.raises(InvalidArgument, match=r"`beta` has 3 numbers; .*each of the 2"):
            model.beta = [1, 1, 1]

    def test_one_for_all_layers_takes_no_list(self):
        model = make_ladder()
        with pytest.raises(InvalidArgument, match=r"one number for all layers.*with a list"):
            model.beta = [0.5, 2.0]

    @pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "0.5", None, True, [0.5]])
    @pytest.mark.parametrize("name", ["beta", "free_bits"])
    def test_what_is_no_weight_is_refused(self, model, name, value):
        before = getattr(model, name)
        wrong = [-1.0] if value == [0.5] else value
        with pytest.raises(InvalidArgument, match=f"`{name}` is .*expected a number of at least 0"):
            setattr(model, name, wrong)
        assert getattr(model, name) == before
        with pytest.raises(InvalidArgument, match=f"`{name}` is .*expected a number of at least 0"):
            make_vae(compiled={name: wrong})

    def test_a_schedule_is_not_assigned_to(self):
        model = make_vae(compiled={"beta": tfvae.schedules.LinearWarmup(5)})
        with pytest.raises(InvalidArgument, match=r"follows .*LinearWarmup.*model.compile"):
            model.beta = 0.5

    def test_a_model_that_is_not_compiled_has_nothing_to_assign_to(self):
        model = tfvae.VAE(network(SIZE, 4), network(2, SIZE))
        with pytest.raises(InvalidArgument, match=r"not compiled yet.*model.compile"):
            model.beta = 0.5

    def test_the_objective_exact_has_no_use_for_it(self):
        model = make_vae(
            posterior="bernoulli", compiled={"objective": "exact"}, encoder=network(SIZE, 2)
        )
        with pytest.raises(InvalidArgument, match="no KL term to weigh"):
            model.beta = 0.5


class TestFreeBits:
    def test_a_callback_may_assign_them(self):
        model = make_vae(Traced, compiled={"free_bits": 10.0})

        def change(model, epoch):
            model.free_bits = [10.0, 20.0, 0.0][epoch]

        callbacks = [AtEveryEpoch(change)]
        logs = model.fit(X, batch_size=4, epochs=3, verbose=0, callbacks=callbacks).history
        counted = np.subtract(logs["loss"], logs["reconstruction"])
        expected = [20.0, 40.0, logs["kl"][-1]]  # of two units, whose KL is far below
        np.testing.assert_allclose(counted, expected, rtol=1e-5)

    def test_none_at_all_do_not_become_some(self, model):
        model.free_bits = 0.0
        with pytest.raises(
            InvalidArgument, match=r"free_bits` was 0 .*compile\(..., free_bits=0.5"
        ):
            model.free_bits = 0.5


REFUSED = {
    "kl": {"objective": "iwae", "num_samples": 3, "kl": "exact"},
    "states": {"objective": "iwae", "num_samples": 30, "estimator": "exact"},
    "free bits": {"num_samples": 3, "estimator": "rloo", "free_bits": 1.0},
    "optimizer": {"optimizer": "sdg", "num_samples": 3, "estimator": "rloo"},
    "loss": {"loss": "mse", "num_samples": 3, "estimator": "rloo"},
    "option": {"num_sample": 3, "estimator": "rloo"},
}


class TestRefusedSettings:
    @pytest.mark.parametrize("arguments", REFUSED.values(), ids=REFUSED)
    def test_a_model_stays_as_it_was_compiled(self, arguments):
        options = {"estimator": "disarm", "num_samples": 2, "beta": 0.5, "run_eagerly": True}
        model = make_vae(posterior="bernoulli", encoder=network(SIZE, 2), compiled=options)
        before, optimizer = model.get_compile_config(), model.optimizer
        weights = [*model.weights]
        with pytest.raises(ValueError, match=r"."):
            model.compile(**{"optimizer": "adam", "beta": 0.1} | arguments)
        assert model.get_compile_config() == before
        assert model.optimizer is optimizer
        assert all(a is b for a, b in zip(model.weights, weights, strict=True))
        model.train_on_batch(X)

    def test_a_model_that_is_built_by_its_data_is_refused_again(self):
        """Its states can be counted once the shapes are known, in `fit`."""
        networks = (keras.Sequential([keras.layers.Dense(size)]) for size in (17, SIZE))
        model = tfvae.VAE(*networks, posterior="bernoulli")
        model.compile("sgd", estimator="exact", run_eagerly=True)
        for _ in range(2):
            with pytest.raises(InvalidArgument, match="131,072, but the limit is 65,536"):
                model.fit(X, verbose=0)
        model.compile("sgd", estimator="disarm", run_eagerly=True)
        model.fit(X, verbose=0)

    def test_an_option_that_there_is_not_is_named(self):
        with pytest.raises(InvalidArgument, match="VAE got `num_sample`, which it does not take"):
            make_vae(compiled={"num_sample": 3})


class TestOtherSettings:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("objective", "iwae"),
            ("estimator", "sticking_the_landing"),
            ("estimator", tfvae.estimators.get("nvil")),
            ("num_samples", 5),
            ("kl", "monte_carlo"),
            ("kl_warmup_steps", 100),
        ],
        ids=lambda value: value if isinstance(value, str) else type(value).__name__,
    )
    def test_what_the_graph_has_fixed_is_not_assigned(self, model, name, value):
        before, layers = getattr(model, name), list(model._layers)
        with pytest.raises(
            InvalidArgument, match=rf"`{name}` was assigned .*compile\(..., {name}="
        ):
            setattr(model, name, value)
        assert getattr(model, name) is before
        assert model._layers == layers, "the refused layer is not saved with the model either"

    def test_the_temperature_of_a_relaxation_may_be_annealed(self):
        """At a high temperature a relaxed bit is 1/2 whatever its logit: no gradient is left."""
        model = make_vae(
            Traced, posterior="bernoulli", compiled={"estimator": "gumbel_softmax", "beta": 0.0},
            encoder=network(SIZE, 2),
        )  # fmt: skip
        moved = []

        def change(model, epoch):
            model.estimator.temperature = [0.5, 1e6, 0.5][epoch]
            moved.append(model.encoder.get_weights()[0])

        model.fit(X, batch_size=4, epochs=3, verbose=0, callbacks=[AtEveryEpoch(change)])
        moved.append(model.encoder.get_weights()[0])
        steps = [np.max(np.abs(b - a)) for a, b in itertools.pairwise(moved)]
        assert steps[1] < 1e-3 * min(steps[0], steps[2])
        assert model.get_compile_config()["estimator"]["config"]["temperature"] == 0.5

    def test_a_temperature_is_kept_where_it_was_lowered_to(self, tmp_path):
        options = {"estimator": "gumbel_softmax", "run_eagerly": True}
        model, other = (
            make_vae(posterior="bernoulli", encoder=network(SIZE, 2), compiled=options)
            for _ in range(2)
        )
        model.estimator.temperature = 0.1
        model.save_weights(tmp_path / "it.weights.h5")
        other.load_weights(tmp_path / "it.weights.h5")
        assert other.estimator.temperature == 0.1
        model.compile("sgd", estimator="straight_through")
        model.save_weights(tmp_path / "of_another.weights.h5")
        other.load_weights(tmp_path / "of_another.weights.h5")
        assert other.estimator.temperature == 0.1, "a file without one leaves it as it was"
        model.compile("sgd", **options)
        model.estimator.temperature = 0.1
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert loaded.estimator.temperature == 0.1
        assert loaded.estimator.get_config()["temperature"] == 0.5, "what a training began with"
        del model, loaded

        def run(epochs):
            def lower(model, epoch):
                model.estimator.temperature *= 0.5

            model = make_vae(posterior="bernoulli", encoder=network(SIZE, 2), compiled=options)
            callbacks = [AtEveryEpoch(lower), tfvae.callbacks.Resume(tmp_path / "checkpoints")]
            batches = tfvae.data.shuffled_batches(X, 12)
            model.fit(batches, epochs=epochs, verbose=0, callbacks=callbacks)
            return model.estimator.temperature

        assert [run(1), run(2)] == [0.25, 0.125]


@keras.saving.register_keras_serializable("tests")
class Shifted(tfvae.likelihoods.Likelihood):
    """A normal around the decoder's output plus a learned number."""

    def build(self, params_shape):
        self.shift = self.add_weight(shape=(), initializer="zeros", name="shift", autocast=False)
        super().build(params_shape)

    def distribution(self, params, batch_ndims):
        normal = tfp.distributions.Normal(params + tf.convert_to_tensor(self.shift), 1.0)
        return tfp.distributions.Independent(normal, len(params.shape) - batch_ndims)


@keras.saving.register_keras_serializable("tests")
class OneScale(tfvae.posteriors.Posterior):
    """Normals whose standard deviation is one learned number for all examples."""

    def build(self, params_shape):
        self.log_scale = self.add_weight(shape=(), initializer="zeros", name="log_scale")
        super().build(params_shape)

    def distribution(self, params, batch_ndims):
        normal = tfp.distributions.Normal(params, tf.exp(tf.convert_to_tensor(self.log_scale)))
        return tfp.distributions.Independent(normal, len(params.shape) - batch_ndims)


class HiddenScale(tfvae.posteriors.Posterior):
    """The same number, where Keras does not look for it."""

    def __init__(self, log_scale):
        super().__init__()
        self.log_scale = lambda: log_scale

    def distribution(self, params, batch_ndims):
        normal = tfp.distributions.Normal(params, tf.exp(tf.convert_to_tensor(self.log_scale())))
        return tfp.distributions.Independent(normal, len(params.shape) - batch_ndims)


@keras.saving.register_keras_serializable()
class PlainLikelihood(tfvae.likelihoods.Bernoulli):
    def __init__(self):
        super().__init__()


@keras.saving.register_keras_serializable()
class PlainColumns(tfvae.likelihoods.Columns):
    def __init__(self, blocks=(("normal", 2, {"scale": "shared"}),)):
        super().__init__(blocks)


@keras.saving.register_keras_serializable()
class PlainMissingness(tfvae.likelihoods.Missingness):
    def __init__(self):
        super().__init__()


class TestWeightsOfParts:
    @pytest.mark.parametrize(
        ("options", "part", "name"),
        [
            ({"likelihood": Shifted}, "likelihood", "shift"),
            pytest.param({"posterior": OneScale}, "posterior", "log_scale", marks=LONG),
        ],
        ids=["likelihood", "posterior"],
    )
    def test_they_are_trained_and_saved(self, options, part, name, tmp_path):
        options = {key: make() for key, make in options.items()}
        latents = 2 if part == "posterior" else 4
        model = make_vae(encoder=network(SIZE, latents), compiled=EAGER, **options)
        weight = getattr(getattr(model, part), name)
        assert any(weight is v for v in model.trainable_variables)
        model.fit(X, batch_size=BATCH, verbose=0)
        assert abs(float(weight)) > 1e-3
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        assert float(getattr(getattr(again, part), name)) == float(weight)
        assert again.evaluate(X, verbose=0) == model.evaluate(X, verbose=0)
        assert again.train_on_batch(X) == model.train_on_batch(X)

    def test_a_shared_scale_learns_the_mean_squared_error(self):
        """A decoder that is held at 0.5, whatever z: σ² = E(x − 0.5)² maximizes the likelihood."""
        x = np.random.default_rng(0).normal(0.7, 0.3, (200, SIZE)).astype("float32")
        model = make_vae(likelihood=tfvae.likelihoods.Normal(scale="shared"))
        model.decoder.set_weights([np.zeros((2, SIZE)), np.full(SIZE, 0.5)])
        model.decoder.trainable = False
        model.compile(keras.optimizers.SGD(0.05))
        model.fit(x, epochs=20, batch_size=200, verbose=0)
        expected = np.sqrt(np.mean((x - 0.5) ** 2))
        assert float(model.likelihood.current_scale()) == pytest.approx(expected, rel=1e-3)

    @pytest.mark.parametrize("part", nightly_but(["likelihood", "posterior", "prior"], "prior"))
    def test_those_that_are_frozen_stay_so(self, part, tmp_path):
        model = make_vae(
            likelihood=tfvae.likelihoods.Normal(scale="shared"),
            posterior=tfvae.posteriors.get("flow", num_layers=1, hidden=(3,)),
            prior=tfvae.priors.get("flow", num_layers=1, hidden=(3,)),
        )
        model.compile("adam", run_eagerly=True)
        getattr(model, part).trainable = False
        model.train_on_batch(X)
        model.save(tmp_path / "model.keras")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            again = keras.saving.load_model(tmp_path / "model.keras")
        assert int(again.optimizer.iterations) == model.steps_made
        for other in (again, model.copy()):
            assert len(other.trainable_variables) == len(model.trainable_variables)
        again.train_on_batch(X)
        frozen = getattr(model, part).weights
        for weight, expected in zip(getattr(again, part).weights, frozen, strict=True):
            np.testing.assert_array_equal(weight, expected)

    @pytest.mark.parametrize("part", [PlainLikelihood, PlainColumns, PlainMissingness])
    def test_a_frozen_part_need_not_take_trainable(self, part):
        made = part()
        made.trainable = False
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
        assert type(again) is part
        assert not again.trainable
        inner = again._flatten_layers(include_self=False)
        assert not any(layer.trainable for layer in inner)

    def test_layers_that_the_user_unfroze_in_a_frozen_network_are_trained(self):
        encoder = keras.Sequential(
            [keras.Input((SIZE,)), keras.layers.Dense(3), keras.layers.Dense(4)]
        )
        encoder.trainable = False
        encoder.layers[-1].trainable = True
        model = make_vae(encoder=encoder, compiled={"run_eagerly": True})
        before = [weight.numpy() for weight in encoder.weights]
        model.train_on_batch(X)
        moved = [np.any(a != b) for a, b in zip(before, encoder.weights, strict=True)]
        assert moved == [False, False, True, True]

    def test_what_a_frozen_prior_makes_while_it_is_built_is_frozen(self):
        prior = tfvae.priors.get("flow", num_layers=1, hidden=(3,), trainable=False)
        model = make_vae(prior=prior)
        assert prior.weights
        known = {id(weight) for weight in model.trainable_variables}
        assert not any(id(weight) in known for weight in prior.weights)

    @pytest.mark.parametrize(
        "make",
        [lambda: tf.Variable(0.0, name="hidden"), lambda: keras.Variable(0.0, name="hidden")],
        ids=["tf.Variable", "keras.Variable"],
    )
    @pytest.mark.parametrize("compiled", nightly_but([{}, EAGER, {"jit_compile": True}], {}, EAGER))
    def test_a_variable_that_keras_does_not_find_is_refused(self, make, compiled):
        model = make_vae(encoder=network(SIZE, 2), posterior=HiddenScale(make()), compiled=compiled)
        before = model.decoder.get_weights()
        with pytest.raises(InvalidArgument, match=r"neither trained nor saved: '.*hidden'.*add_w"):
            model.fit(X, verbose=0)
        np.testing.assert_array_equal(before[0], model.decoder.get_weights()[0])

    def test_a_hidden_variable_that_is_to_stay_is_taken(self):
        posterior = HiddenScale(tf.Variable(0.0, trainable=False))
        encoder = network(SIZE, 2)
        make_vae(encoder=encoder, posterior=posterior, compiled=EAGER).fit(X, verbose=0)
