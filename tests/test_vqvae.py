"""The loss and its gradients by NumPy; training in all its forms; codes, priors, saving."""

import json
import warnings

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from tiers import LONG, nightly_but

import tfvae
from tfvae import code_priors, likelihoods, quantizers
from tfvae.errors import InvalidArgument, InvalidData, TfvaeWarning
from tfvae.quantizers import EMAVectorQuantizer, VectorQuantizer

pytestmark = pytest.mark.slow  # Compiles graphs of whole models.

D, K = 3, 5
LEVELS = 16
LIKELIHOODS = {
    "bernoulli": likelihoods.Bernoulli(),
    "categorical": likelihoods.Categorical(LEVELS),
    "normal": likelihoods.Normal(scale=0.7),
    "discretized_logistic_mixture": likelihoods.DiscretizedLogisticMixture(2, LEVELS),
}
# Every way for a codebook to learn, with noise where it has any.
QUANTIZERS = {
    "vq": lambda: VectorQuantizer(K, D),
    "vq k-means": lambda: VectorQuantizer(K, D, initializer="kmeans"),
    "ema": lambda: EMAVectorQuantizer(K, D, threshold_ema_dead_code=1.0, seed=3),
    "residual": lambda: quantizers.ResidualQuantizer(
        EMAVectorQuantizer(K, D, initializer="kmeans", threshold_ema_dead_code=1.0), 2, dropout=0.5
    ),
    "product": lambda: quantizers.ProductQuantizer(VectorQuantizer(K, 1), D),
    "fsq": lambda: quantizers.FiniteScalarQuantizer((4, 3, 2)),
    "gumbel": lambda: quantizers.GumbelSoftmaxQuantizer(K, D),
    "lfq": lambda: quantizers.LookupFreeQuantizer(D),
    "simvq": lambda: quantizers.SimVQ(K, D),
}


def networks(likelihood, built=True):
    """Return an encoder of 4×4 images to a 2×2 grid, and its decoder."""
    spread, narrow = (keras.initializers.RandomNormal(stddev=s, seed=1) for s in (1.0, 0.3))
    encoder = [
        keras.layers.Conv2D(6, 2, strides=2, activation="tanh", kernel_initializer=spread),
        keras.layers.Conv2D(D, 1, kernel_initializer=spread),
    ]
    size = likelihood.params_size(1)
    decoder = [keras.layers.Conv2DTranspose(size, 2, strides=2, kernel_initializer=narrow)]
    if built:
        encoder, decoder = [keras.Input((4, 4, 1)), *encoder], [keras.Input((2, 2, D)), *decoder]
    return keras.Sequential(encoder), keras.Sequential(decoder)


def make(likelihood="bernoulli", quantizer="vq", built=True, **options):
    """Return a tiny VQVAE; the same arguments give the same weights."""
    keras.utils.set_random_seed(1)
    likelihood = LIKELIHOODS[likelihood]
    encoder, decoder = networks(likelihood, built)
    quantizer = QUANTIZERS.get(quantizer, lambda: quantizer)()
    model = tfvae.VQVAE(encoder, quantizer, decoder, likelihood=likelihood, **options)
    if built:
        scatter(model)
    return model


def scatter(model):
    """Put the rows of all tables near vectors of the encoder, so that every one is in use."""
    rng = np.random.default_rng(2)
    vectors = model.encoder(rng.integers(0, 2, (9, *model.x_shape)).astype(np.float32)).numpy()
    for weight in model.quantizer.weights:
        if weight.path.endswith("/table"):
            rows = rng.permutation(vectors.reshape(-1, weight.shape[1]))[: weight.shape[0]]
            weight.assign(rows + 0.3 * rng.normal(size=weight.shape))


def state(model):
    """Return all weights of a model, its step and the quantizer's state among them."""
    return np.concatenate([np.ravel(w.numpy()).astype(np.float64) for w in model.weights])


def fit(model, *data, epochs=1, batch_size=4, **options):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The codebook has collapsed", TfvaeWarning)
        return model.fit(*data, epochs=epochs, batch_size=batch_size, verbose=0, **options)


def measure(model, x, **options):
    return model.evaluate(x, verbose=0, return_dict=True, **options)


def in_order(model, x, compiled=None, **options):
    """Train on batches in order, by gradient steps of 0.02, and return the state."""
    model.compile(**{"optimizer": keras.optimizers.SGD(0.02), **(compiled or {})})
    fit(model, x, shuffle=False, **options)
    return state(model)


def grey(images, rng):
    """Return images of the same shape on all levels."""
    return (rng.integers(0, LEVELS, images.shape) / (LEVELS - 1)).astype(np.float32)


@pytest.fixture(scope="module")
def baseline(images):
    return in_order(make(), images, {"run_eagerly": True})


# The loss, by NumPy in float64.


def minus_log_likelihood(name, params, x):
    """Return −log p(x), `[B]` in nats."""
    params, x = params.astype(np.float64), x.astype(np.float64)
    if name == "bernoulli":
        log_p = np.where(x == 1, -np.logaddexp(0, -params), -np.logaddexp(0, params))
    elif name == "normal":
        log_p = scipy.stats.norm(params, 0.7).logpdf(x)
    elif name == "categorical":
        levels = np.rint(x * (LEVELS - 1)).astype(int)
        log_p = np.take_along_axis(scipy.special.log_softmax(params, axis=-1), levels, axis=-1)
    else:
        logits, loc, log_scale = np.split(params, 3, axis=-1)
        value, half = 2 * x - 1, 1 / (LEVELS - 1)
        upper = np.where(x == 1, 1, scipy.special.expit((value + half - loc) / np.exp(log_scale)))
        lower = np.where(x == 0, 0, scipy.special.expit((value - half - loc) / np.exp(log_scale)))
        log_p = np.log(np.sum(scipy.special.softmax(logits, axis=-1) * (upper - lower), axis=-1))
    return -np.sum(log_p.reshape(len(x), -1), axis=1)


def nearest(vectors, table):
    """Return the nearest rows of a table, and their numbers."""
    codes = np.argmin(np.sum((vectors[..., np.newaxis, :] - table) ** 2, axis=-1), axis=-1)
    return table[codes], codes


def expected_terms(model, x, name):
    """Return −log p(x|z_q) and Σ_sites (1 + β)‖z_e − e‖², `[B]` each, and the codes."""
    z = model.encoder(x).numpy().astype(np.float64)
    e, codes = nearest(z, model.quantizer.table.numpy().astype(np.float64))
    reconstruction = minus_log_likelihood(name, model.decoder(e.astype("f4")).numpy(), x)
    beta = model.quantizer.commitment_cost
    return reconstruction, (1 + beta) * np.sum((z - e) ** 2, axis=(1, 2, 3)), codes


class TestLoss:
    @pytest.mark.parametrize(
        "name", nightly_but(LIKELIHOODS, "bernoulli", "discretized_logistic_mixture")
    )
    def test_it_is_its_definition_summed_over_pixels_and_sites(self, images, rng, name):
        x = images if name == "bernoulli" else grey(images, rng)
        model = make(name, VectorQuantizer(K, D, commitment_cost=0.6))
        model.compile(run_eagerly=True)
        reconstruction, quantization, codes = expected_terms(model, x, name)
        assert len(np.unique(codes)) >= 3
        np.testing.assert_array_equal(model.encode(x), codes)
        for n in range(2):
            metrics = measure(model, x[n : n + 1])
            np.testing.assert_allclose(metrics["reconstruction"], reconstruction[n], rtol=1e-5)
            np.testing.assert_allclose(metrics["quantization"], quantization[n], rtol=1e-5)
        expected = reconstruction.mean() + quantization.mean()
        np.testing.assert_allclose(measure(model, x)["loss"], expected, rtol=1e-5)

    @pytest.mark.parametrize("quantizer", nightly_but(["vq", "residual"], "residual"))
    def test_it_does_not_depend_on_the_batch_size(self, images, quantizer):
        model = make(quantizer=quantizer)
        model.compile(run_eagerly=True)
        by_four, whole = (measure(model, images, batch_size=n) for n in (4, 12))
        assert set(by_four) == set(whole)
        for name, value in whole.items():
            np.testing.assert_allclose(by_four[name], value, rtol=2e-6)

    def test_the_gradient_is_the_mean_over_examples(self, images):
        """Steps on two halves, from the same start, average to the step on the whole."""

        def step(x):
            model = make()
            model.compile(keras.optimizers.SGD(1.0), run_eagerly=True)
            before = state(model)
            model.train_on_batch(x)
            return state(model) - before

        first, second = step(images[:6]), step(images[6:])
        np.testing.assert_allclose(step(images), (first + second) / 2, rtol=1e-5, atol=1e-5)
        assert not np.allclose(first, second, atol=1e-3)

    def test_the_loss_of_the_paper_s_code_is_the_same_times_a_constant(self, images, rng):
        """MSE/v + mean of (1 + β)(z − e)², with σ² = n v / (2 S D); see docs/vqvae.md."""
        x = grey(images, rng)
        variance, values, numbers = np.var(x), 16, 4 * D
        likelihood = likelihoods.Normal(scale=float(np.sqrt(values * variance / (2 * numbers))))
        keras.utils.set_random_seed(1)
        encoder, decoder = networks(likelihood)
        model = tfvae.VQVAE(encoder, VectorQuantizer(K, D), decoder, likelihood=likelihood)
        model.compile(run_eagerly=True)
        z, quantized = encoder(x).numpy(), model.quantized(x).vectors.numpy()
        usual = np.mean((x - model(x)) ** 2) / variance + 1.25 * np.mean((z - quantized) ** 2)
        constant = values * np.log(likelihood.scale * np.sqrt(2 * np.pi))
        np.testing.assert_allclose(measure(model, x)["loss"], numbers * usual + constant, rtol=1e-5)

    def test_sample_weights(self, images):
        """Metrics are averages by weight, and a weight scales the gradient."""
        weight = np.repeat([3.0, 0.0], 6)
        model = make()
        model.compile(run_eagerly=True)
        reconstruction, quantization, _ = expected_terms(model, images, "bernoulli")
        loss = measure(model, images, sample_weight=weight)["loss"]
        np.testing.assert_allclose(loss, (reconstruction + quantization)[:6].mean(), rtol=1e-5)
        eager = {"run_eagerly": True}
        others = np.concatenate([images[:6], 1 - images[6:]])
        options = {"sample_weight": weight, "batch_size": 12}
        weighted = in_order(make(), images, eager, **options)
        np.testing.assert_array_equal(in_order(make(), others, eager, **options), weighted)
        # Half of the batch with weights of 3, over 12 examples, is the mean over 6, times 1.5.
        longer = {**eager, "optimizer": keras.optimizers.SGD(0.03)}
        alone = in_order(make(), images[:6], longer, batch_size=6)
        np.testing.assert_allclose(weighted, alone, rtol=0, atol=2e-6)


class Linear:
    """z = x W, x̂ = e V with unit variance, a grid of one site: every gradient in closed form."""

    def __init__(self, beta=0.25):
        rng = np.random.default_rng(5)
        self.beta = beta
        self.x = rng.normal(size=(8, 4)).astype(np.float32)
        self.w, self.v = rng.normal(size=(4, D)) / 2, rng.normal(size=(D, 4))
        z = self.x @ self.w
        self.table = z[[0, 1, 2, 3, 4]] + 0.5 * rng.normal(size=(K, D))
        encoder = keras.Sequential([keras.Input((1, 4)), keras.layers.Dense(D, use_bias=False)])
        decoder = keras.Sequential([keras.Input((1, D)), keras.layers.Dense(4, use_bias=False)])
        quantizer = VectorQuantizer(K, D, commitment_cost=beta)
        self.model = tfvae.VQVAE(encoder, quantizer, decoder, likelihood="normal")
        encoder.set_weights([self.w])
        decoder.set_weights([self.v])
        quantizer.table.assign(self.table)

    def gradients(self):
        """Return the gradients of the mean loss in W, V and the table."""
        z = self.x.astype(np.float64) @ self.w
        e, codes = nearest(z, self.table)
        error = e @ self.v - self.x
        at_z = error @ self.v.T + 2 * self.beta * (z - e)
        at_table = np.zeros_like(self.table)
        np.add.at(at_table, codes, 2 * (e - z))
        assert 3 <= len(np.unique(codes)) < len(codes)
        return [total / len(z) for total in (self.x.T @ at_z, e.T @ error, at_table)]


class TestGradients:
    def test_each_weight_gets_the_terms_meant_for_it(self):
        """The decoder's loss moves W as if e were z, the table nothing but ‖sg[z] − e‖²."""
        linear = Linear()
        model = linear.model
        model.compile(keras.optimizers.SGD(1.0), run_eagerly=True)
        model.train_on_batch(linear.x[:, np.newaxis])
        for start, weight, gradient in zip(
            (linear.w, linear.v, linear.table),
            (model.encoder.weights[0], model.decoder.weights[0], model.quantizer.table),
            linear.gradients(),
            strict=True,
        ):
            np.testing.assert_allclose(start - weight.numpy(), gradient, rtol=1e-4, atol=1e-5)

    def test_reconstruction_passes_straight_through_and_leaves_the_codebook_alone(self, images):
        model = make()
        z = model.encoder(images)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(z)
            vectors = model.quantizer(z).vectors
            log_p = model.p_x_given_vectors(vectors).log_prob(images)
        at_z = tape.gradient(log_p, z).numpy()
        np.testing.assert_array_equal(at_z, tape.gradient(log_p, vectors))
        assert np.all(np.any(at_z, axis=-1))
        assert tape.gradient(log_p, model.quantizer.table.value) is None

    @pytest.mark.parametrize("beta", [0.0, 0.5])
    def test_the_encoder_feels_beta_alone_and_the_codebook_does_not(self, images, beta):
        model = make(quantizer=VectorQuantizer(K, D, commitment_cost=beta))
        z, table = model.encoder(images), model.quantizer.table.value
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(z)
            quantized = model.quantizer(z)
        distance = z - quantized.vectors
        np.testing.assert_allclose(tape.gradient(quantized.loss, z), 2 * beta * distance, atol=1e-6)
        expected = np.zeros((K, D))
        np.add.at(expected, quantized.codes, -2 * distance.numpy())
        at_table = tf.convert_to_tensor(tape.gradient(quantized.loss, table))
        np.testing.assert_allclose(at_table, expected, rtol=1e-5, atol=1e-5)


class TestTraining:
    @pytest.mark.parametrize(
        ("quantizer", "optimizer"),
        [
            ("vq", tfvae.optimizers.Adam),
            pytest.param("vq", keras.optimizers.Adam, marks=LONG),
            pytest.param("ema", tfvae.optimizers.Adam, marks=LONG),
            ("residual", tfvae.optimizers.Adam),  # of moving averages too
        ],
    )
    def test_a_step_is_one_done_by_hand(self, images, quantizer, optimizer):
        model, twin = make(quantizer=quantizer), make(quantizer=quantizer)
        model.compile(optimizer(0.01), run_eagerly=True)
        by_hand = optimizer(0.01)
        twin.start_from_data(images, None)
        for _ in range(2):
            model.train_on_batch(images)
            with tf.GradientTape() as tape:
                z = twin.encoder(images)
                quantized = twin.quantizer(z, training=True)
                log_p = twin.likelihood(twin.decoder(quantized.vectors)).log_prob(images)
                loss = tf.reduce_mean(tf.reduce_sum(quantized.loss, axis=(1, 2)) - log_p)
            trained = [*twin.encoder.weights, *twin.decoder.weights]
            trained += twin.quantizer.trainable_variables
            gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, trained)]
            by_hand.apply_gradients(zip(gradients, trained, strict=True))
            twin.step.assign_add(1)
        np.testing.assert_allclose(state(model), state(twin), rtol=0, atol=1e-6)

    @pytest.mark.parametrize(
        "compiled",
        # The quantizers train under XLA every time, in test_quantizers.
        [{"steps_per_execution": 2}, pytest.param({"jit_compile": True}, marks=LONG)],
        ids=["steps_per_execution", "xla"],
    )
    def test_a_graph_and_xla_train_as_eager_execution_does(self, images, baseline, compiled):
        actual = in_order(make(), images, compiled)
        np.testing.assert_allclose(actual, baseline, rtol=0, atol=2e-5)

    @pytest.mark.nightly
    def test_moving_averages_are_the_same_under_xla(self, images):
        eager, xla = (
            in_order(make(quantizer=EMAVectorQuantizer(K, D)), images, compiled)
            for compiled in ({"run_eagerly": True}, {"jit_compile": True})
        )
        np.testing.assert_allclose(xla, eager, rtol=0, atol=1e-4)

    @pytest.mark.parametrize(
        "form",
        nightly_but(["labels", "tensor", "dataset with labels"], "labels", "dataset with labels"),
    )
    @pytest.mark.filterwarnings("ignore:`fit` got y, which nothing uses")
    def test_data_in_any_form_trains_alike(self, images, baseline, form):
        dataset = tf.data.Dataset.from_tensor_slices
        x = {
            "labels": images,
            "tensor": tf.constant(images),
            "dataset with labels": dataset((images, np.arange(12))).batch(4),
        }[form]
        options = {"y": np.arange(12)} if form == "labels" else {}
        if "dataset" in form:
            options["batch_size"] = None
        actual = in_order(make(), x, {"run_eagerly": True}, **options)
        np.testing.assert_array_equal(actual, baseline)

    @pytest.mark.parametrize("dataset", nightly_but([False, True], True), ids=["array", "dataset"])
    def test_networks_without_an_input_shape_are_built_by_the_data(self, images, dataset):
        model = make(built=False)
        assert not model.built
        model.compile(run_eagerly=True)
        if dataset:
            fit(model, tf.data.Dataset.from_tensor_slices(images).batch(5), batch_size=None)
        else:
            fit(model, images)
        assert (model.x_shape, model.latent_shape) == ((4, 4, 1), (2, 2, D))
        assert model.code_shape == (2, 2)
        assert model.predict(images, verbose=0).shape == images.shape
        assert model.sample(3).shape == (3, 4, 4, 1)

    @pytest.mark.parametrize(
        ("policy", "quantizer"),
        nightly_but([("mixed_bfloat16", "vq"), ("mixed_float16", "ema")], ("mixed_float16", "ema")),
    )
    def test_mixed_precision_computes_in_half_and_stores_in_single(self, images, policy, quantizer):
        keras.config.set_dtype_policy(policy)
        model = make(quantizer=quantizer)
        model.compile(tfvae.optimizers.Adam(0.05), run_eagerly=True)
        assert model.encoder(images).dtype == policy.removeprefix("mixed_")
        losses = fit(model, images, epochs=5, batch_size=12).history["loss"]
        assert losses[-1] < 0.9 * losses[0]
        assert {w.dtype for w in model.trainable_weights} == {"float32"}
        assert model(images).dtype == model.quantized(images).vectors.dtype == tf.float32
        scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        assert scaled is (policy == "mixed_float16")
        assert np.all(np.isfinite(model.predict(images, verbose=0)))

    # Those of the others are what steps by hand give.
    @pytest.mark.parametrize("quantizer", nightly_but(QUANTIZERS, "product", "gumbel", "simvq"))
    def test_training_moves_every_weight(self, images, quantizer):
        model = make(quantizer=quantizer)
        before = [w.numpy() for w in model.trainable_weights]
        model.compile(tfvae.optimizers.Adam(0.02), run_eagerly=True)
        for _ in range(2):
            model.train_on_batch(images)
        for weight, old in zip(model.trainable_weights, before, strict=True):
            assert np.all(np.isfinite(weight))
            assert not np.array_equal(weight, old), weight.path

    @pytest.mark.parametrize(
        "name", nightly_but(["categorical", "normal", "discretized_logistic_mixture"], "normal")
    )
    def test_training_lowers_the_loss(self, images, rng, name):
        x = grey(images, rng)
        model = make(name)
        model.compile(tfvae.optimizers.Adam(0.1), run_eagerly=True)
        losses = [model.train_on_batch(x, return_dict=True)["loss"] for _ in range(5)]
        assert losses[-1] < 0.9 * losses[0]

    def test_metrics_of_training_and_validation(self, images):
        model = make()
        model.compile(run_eagerly=True)
        history = fit(model, images, batch_size=12, validation_data=images[:5]).history
        names = ["loss", "reconstruction", "quantization", "perplexity", "code_usage", "code_bits"]
        assert set(history) == {*names, *(f"val_{name}" for name in names)}
        metrics = measure(model, images)
        assert set(metrics) == set(names)
        assert metrics["loss"] == pytest.approx(
            metrics["reconstruction"] + metrics["quantization"], rel=1e-6
        )
        assert model.evaluate(images, verbose=0) == [metrics[name] for name in names]

    def test_evaluation_changes_nothing(self, images):
        model = make(quantizer="ema")
        model.compile(run_eagerly=True)
        before = state(model)
        first = measure(model, images)
        assert measure(model, images) == first
        np.testing.assert_array_equal(state(model), before)

    def test_a_seed_decides_the_noise(self, images):
        def train(seed):
            model = make(quantizer=quantizers.GumbelSoftmaxQuantizer(K, D, seed=seed))
            model.compile(run_eagerly=True)
            model.train_on_batch(images)
            return state(model)

        np.testing.assert_array_equal(train(1), train(1))
        assert not np.array_equal(train(1), train(2))

    def test_weight_decay_of_a_layer_is_part_of_the_loss(self, images):
        def train(regularizer):
            model = make()
            layer = model.encoder.layers[-1]
            layer.kernel.regularizer = regularizer
            model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
            start = layer.kernel.numpy()
            model.train_on_batch(images)
            return start, layer.kernel.numpy()

        start, plain = train(None)
        _, decayed = train(keras.regularizers.L2(0.5))
        np.testing.assert_allclose(decayed, plain - 0.1 * start, rtol=1e-4, atol=1e-6)


class Epochs(keras.callbacks.Callback):
    """Counts epochs."""

    count = 0

    def on_epoch_end(self, epoch, logs=None):
        self.count += 1


class TestCallbacks:
    def test_they_may_be_given_in_any_form(self, images):
        model, epochs = make(), Epochs()
        model.compile(run_eagerly=True)
        given = [epochs]
        model.fit(images, batch_size=12, verbose=0, callbacks=epochs)
        model.fit(images, batch_size=12, verbose=0, callbacks=given)
        model.fit(images, batch_size=12, verbose=0, callbacks=(epochs,))
        model.fit(images, None, 12, 1, 0, given)
        assert (epochs.count, len(given)) == (4, 1)
        model.fit(images, batch_size=12, verbose=0, callbacks=None)
        model.fit(images, None, 12, 1, 0, None)
        assert epochs.count == 4
        assert int(model.step) == 6

    def test_positional_validation_data_is_checked(self, images):
        model = make()
        model.compile(run_eagerly=True)
        with pytest.raises(InvalidData, match="`validation_data` has values from 2 to 2"):
            model.fit(images, None, 4, 1, 0, None, 0.0, np.full((4, 4, 4, 1), 2.0))


STRATEGY = """
import json
import keras, numpy as np, tensorflow as tf
import tfvae
from tfvae.quantizers import EMAVectorQuantizer, ResidualQuantizer, VectorQuantizer

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
x = np.random.default_rng(0).integers(0, 2, (40, 4, 6)).astype("f4")

def train(replicas, quantizer):
    strategy = tf.distribute.MirroredStrategy(
        [f"cpu:{n}" for n in range(replicas)],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = tfvae.VQVAE(
            keras.Sequential([keras.Input((4, 6)), keras.layers.Dense(3)]),
            quantizer(),
            keras.Sequential([keras.Input((4, 3)), keras.layers.Dense(6)]),
            likelihood="bernoulli",
        )
        model.compile(tfvae.optimizers.Adam(1e-2))
    history = model.fit(
        x, epochs=4, batch_size=20, shuffle=False, verbose=0, validation_data=x[:10]
    ).history
    weights = [np.asarray(w).tolist() for w in model.weights]
    result = {"history": history, "weights": weights, "step": model.steps_made}
    if replicas == 2:  # a last batch of one, so that a replica has none
        ragged = model.fit(x[:21], batch_size=20, verbose=0).history
        result["ragged"] = {k: float(v[0]) for k, v in ragged.items()}
    return result

QUANTIZERS = {
    "vq": lambda: VectorQuantizer(5, 3),
    "ema": lambda: ResidualQuantizer(
        EMAVectorQuantizer(5, 3, initializer="kmeans", threshold_ema_dead_code=12.0), 2, 0.5
    ),
}
print(json.dumps([
    {name: train(replicas, quantizer) for name, quantizer in QUANTIZERS.items()}
    for replicas in (1, 2)
]))
"""


@pytest.mark.nightly
def test_two_replicas_train_as_one_device(run_python):
    """Dense networks: on a CPU, TensorFlow has no gradient of a convolution of no examples."""
    one, two = json.loads(run_python(STRATEGY).splitlines()[-1])
    assert list(one) == ["vq", "ema"]
    for name, expected in one.items():
        assert expected["step"] == two[name]["step"] == 8
        assert np.all(np.isfinite(list(two[name]["ragged"].values())))
        for a, b in zip(expected["weights"], two[name]["weights"], strict=True):
            np.testing.assert_allclose(b, a, rtol=0, atol=1e-5)
        for measure, values in expected["history"].items():
            np.testing.assert_allclose(two[name]["history"][measure], values, rtol=1e-5)


class TestOutputs:
    # The quantizers themselves are all compared in test_quantizers.
    @pytest.mark.parametrize("quantizer", nightly_but(QUANTIZERS, "residual", "product", "lfq"))
    def test_shapes_and_consistency(self, images, quantizer):
        model = make(quantizer=quantizer)
        model.compile(run_eagerly=True)
        per_vector = model.quantizer.codes_per_vector
        codes = model.encode(images)
        assert codes.dtype == tf.int32
        assert codes.shape == (12, *model.code_shape) == (12, 2, 2, *per_vector)
        assert np.min(codes) >= 0
        assert np.max(codes) < model.codebook_size == model.quantizer.codebook_size
        decoded = model.decode(codes)
        np.testing.assert_allclose(model(images), decoded, rtol=0, atol=1e-6)
        predicted = model.predict(images, batch_size=8, verbose=0)
        np.testing.assert_allclose(predicted, decoded, rtol=0, atol=1e-6)
        assert predicted.shape == images.shape
        assert 0 <= predicted.min() < predicted.max() <= 1
        np.testing.assert_array_equal(model.lookup(codes), model.quantized(images).vectors)

    def test_codes_of_any_integer_type_are_decoded_in_a_graph_too(self, images):
        model = make()
        codes = model.encode(images).numpy()
        expected = model.decode(codes)
        for given in (codes.astype(np.uint8), codes.astype(np.int64), codes.tolist()):
            np.testing.assert_array_equal(model.decode(given), expected)
        in_graph = tf.function(model.decode, autograph=False)(tf.constant(codes))
        np.testing.assert_allclose(in_graph, expected, rtol=0, atol=1e-6)
        assert model.decode(codes[:0]).shape == (0, 4, 4, 1)

    def test_samples_are_decoded_codes_of_the_prior(self):
        model = make()
        for options in ({}, {"temperature": 0.5}, {"top_k": 2}):
            codes = model.prior.sample(6, 2**40, **options)
            sample = model.sample(6, seed=2**40, **options)
            np.testing.assert_allclose(sample, model.decode(codes), rtol=0, atol=1e-6)
        assert len(np.unique(model.prior.sample(6))) > 1
        np.testing.assert_allclose(model.sample(2), model.sample(6)[:2], rtol=0, atol=1e-6)
        assert not np.allclose(model.sample(6), model.sample(6, seed=1), atol=1e-3)

    def test_samples_whose_states_memory_does_not_hold_are_refused(self, monkeypatch):
        model = make()
        monkeypatch.setattr(type(model.prior), "state_bytes", lambda self: 1 << 40)
        with pytest.raises(InvalidArgument, match="2 examples would take about 4,398"):
            model.sample(2)

    def test_samples_that_cannot_be_drawn_are_refused(self):
        model = make()
        with pytest.raises(InvalidArgument, match="`n` is 0"):
            model.sample(0)
        with pytest.raises(InvalidArgument, match="temperature"):
            model.sample(2, temperature=-1.0)

    def test_a_quantizer_by_name_takes_the_encoder_s_vectors(self, images):
        for built in (True, False):
            model = make(quantizer="ema", built=built)
            model.build((None, 4, 4, 1))
            assert isinstance(model.quantizer, EMAVectorQuantizer)
            assert model.quantizer.embedding_dim == D
            assert model.encode(images).shape == (12, 2, 2)
            assert sum("table" in weight.path for weight in model.weights) == 1


def learned_prior(model, favourite=None):
    """Return a prior that prefers some codes, `[*code_shape]`."""
    prior = code_priors.CategoricalCodePrior(model.codebook_size)
    prior.build((None, *model.code_shape))
    if favourite is not None:
        one_hot = 30.0 * np.eye(model.codebook_size)[np.ravel(favourite)]
        prior.table.assign(one_hot[np.newaxis])
    return prior


def fitted_prior(model, x):
    prior = learned_prior(model)
    prior.compile(keras.optimizers.SGD(1.0), run_eagerly=True)
    prior.fit(model.encode(x).numpy(), epochs=2, verbose=0)
    return prior


def test_the_first_levels_of_codes_are_decoded_where_there_was_dropout(images):
    model = make(quantizer="residual")
    codes = model.encode(images).numpy()
    first = np.where(np.arange(2) < 1, codes, -1)
    vectors = model.quantizer.parts[0].lookup(codes[..., 0])
    expected = model.p_x_given_vectors(vectors).mean()
    np.testing.assert_allclose(model.decode(first), expected, rtol=0, atol=1e-6)
    with pytest.raises(InvalidData, match="or −1 at levels that are left out"):
        model.decode(first[..., ::-1])
    model = make(quantizer="product")
    with pytest.raises(InvalidData, match=r"from -1 to 0; expected .* 0 to 4\."):
        model.decode(np.minimum(model.encode(images), 0) - np.eye(3, dtype=int)[0])


LOAD = """
import json, sys
import keras, numpy as np
import tfvae

model = keras.saving.load_model(sys.argv[1])
x = np.load(sys.argv[2])
print(json.dumps({
    "class": type(model).__name__,
    "reconstructions": np.asarray(model(x)).ravel().tolist(),
    "codes": np.asarray(model.encode(x)).ravel().tolist(),
    "sample": np.asarray(model.sample(2, seed=3)).ravel().tolist(),
    "log p": np.asarray(model.prior.log_prob(model.encode(x))).tolist(),
    "prior": type(model.prior).__name__,
    "seed": model.seed,
    "step": int(model.step),
    "optimizer": [np.asarray(v).ravel().tolist() for v in model.optimizer.variables],
    "losses": [
        float(model.train_on_batch(x, return_dict=True)["loss"]) for _ in range(3)
    ],
}))
"""


class TestSaving:
    @pytest.mark.nightly
    def test_another_interpreter_goes_on_where_this_one_stopped(self, images, tmp_path, run_python):
        model = make(quantizer="ema", seed=7)
        model.compile(keras.optimizers.Adam(0.02), steps_per_execution=2)
        fit(model, images, epochs=2)
        model.prior = fitted_prior(model, images)
        model.save(tmp_path / "model.keras")
        np.save(tmp_path / "x.npy", images)
        script = LOAD, tmp_path / "model.keras", tmp_path / "x.npy"
        loaded = json.loads(run_python(*script).splitlines()[-1])
        assert (loaded["class"], loaded["prior"]) == ("VQVAE", "CategoricalCodePrior")
        assert (loaded["seed"], loaded["step"]) == (7, int(model.step)) == (7, 6)
        codes = model.encode(images)
        np.testing.assert_array_equal(loaded["codes"], np.ravel(codes))
        np.testing.assert_allclose(loaded["reconstructions"], np.ravel(model(images)), atol=1e-6)
        np.testing.assert_allclose(loaded["sample"], np.ravel(model.sample(2, seed=3)), atol=1e-6)
        np.testing.assert_allclose(loaded["log p"], model.prior.log_prob(codes), rtol=1e-5)
        slots = [np.ravel(variable) for variable in model.optimizer.variables]
        for ours, theirs in zip(loaded["optimizer"], slots, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)
        assert any(np.any(slot) for slot in slots[2:]), "momenta are all zero"
        model.reset_metrics()
        losses = [float(model.train_on_batch(images, return_dict=True)["loss"]) for _ in range(3)]
        np.testing.assert_allclose(loaded["losses"], losses, rtol=1e-6)

    def test_an_epoch_and_one_more_are_two(self, images, tmp_path):
        """With k-means, moving averages, codes that start anew, and quantizer dropout."""

        def train(model, epochs):
            fit(model, images, epochs=epochs, batch_size=12, shuffle=False)
            return model

        whole, half = make(quantizer="residual"), make(quantizer="residual")
        for model in (whole, half):
            model.compile(tfvae.optimizers.Adam(0.02), run_eagerly=True)
        train(half, 1).save(tmp_path / "model.keras")
        resumed = train(keras.saving.load_model(tmp_path / "model.keras"), 1)
        np.testing.assert_array_equal(state(resumed), state(train(whole, 2)))
        for a, b in zip(resumed.optimizer.variables, whole.optimizer.variables, strict=True):
            np.testing.assert_array_equal(a, b)

    # All come back from the file of a Keras model in test_quantizers.
    @pytest.mark.parametrize("quantizer", nightly_but(QUANTIZERS, "residual", "simvq"))
    def test_every_quantizer_comes_back(self, images, tmp_path, quantizer):
        model = make(quantizer=quantizer)
        model.save(tmp_path / "model.keras")
        restored = keras.saving.load_model(tmp_path / "model.keras")
        assert not restored.compiled
        assert restored.quantizer.get_config() == model.quantizer.get_config()
        np.testing.assert_array_equal(state(restored), state(model))
        np.testing.assert_array_equal(restored.encode(images), model.encode(images))

    def test_a_prior_can_be_set_on_a_loaded_model_and_saved_again(self, images, tmp_path):
        make().save(tmp_path / "first.keras")
        model = keras.saving.load_model(tmp_path / "first.keras")
        model.prior = fitted_prior(model, images)
        model.save(tmp_path / "second.keras")
        restored = keras.saving.load_model(tmp_path / "second.keras")
        np.testing.assert_array_equal(restored.prior.table, model.prior.table)
        assert np.any(restored.prior.table)
        assert int(restored.prior.training_step) == int(model.prior.training_step) == 2

    def test_weights_alone_restore_everything(self, images, tmp_path):
        model = make(quantizer="ema")
        model.compile(run_eagerly=True)
        model.train_on_batch(images)
        model.save_weights(tmp_path / "model.weights.h5")
        other = make(quantizer="ema")
        other.load_weights(tmp_path / "model.weights.h5")
        np.testing.assert_array_equal(state(other), state(model))

    def test_a_copy_shares_nothing(self, images):
        model = make(quantizer="ema")
        model.compile(run_eagerly=True)
        model.train_on_batch(images)
        model.prior = learned_prior(model, model.encode(images[:1]))
        twin = model.copy()
        before = state(model)
        np.testing.assert_array_equal(state(twin), before)
        np.testing.assert_array_equal(twin.prior.table, model.prior.table)
        assert not {id(v) for v in twin.variables} & {id(v) for v in model.variables}
        assert not twin.compiled
        twin.compile(run_eagerly=True)
        twin.train_on_batch(images)
        assert not np.array_equal(state(twin), before)
        np.testing.assert_array_equal(state(model), before)


class TestRefusals:
    @pytest.fixture(scope="class")
    def untrained(self):
        """One model for what it refuses before it has learned anything."""
        model = make(quantizer="vq k-means")
        model.compile(run_eagerly=True)
        return model

    @pytest.mark.parametrize(
        ("codes", "message"),
        [
            (np.full((1, 2, 2), K), "from 5 to 5; expected whole numbers from 0 to 4"),
            (np.full((1, 2, 2), -1), "from -1 to -1; expected whole numbers from 0 to 4"),
            (np.full((1, 2, 2), 2**40), "expected whole numbers from 0 to 4"),
            (np.zeros((1, 2, 2)), r"are float64; expected whole.*astype\(\"int32\"\)"),
            (np.zeros((1, 2, 2), bool), "are bool; expected whole numbers from 0 to 4"),
            (np.zeros((2, 2), int), r"shape \(2, 2\); expected \[N, 2, 2\].*codes\[None\]"),
            (np.zeros((1, 2, 3), int), r"shape \(1, 2, 3\); expected \[N, 2, 2\]"),
            (np.int32(1), r"shape \(\); expected \[N, 2, 2\]"),
        ],
        ids=["too large", "negative", "64 bits", "float", "bool", "no batch", "grid", "scalar"],
    )
    def test_codes(self, untrained, codes, message):
        with pytest.raises(InvalidData, match=message):
            untrained.decode(codes)
        with pytest.raises(InvalidData, match=message):
            untrained.decode(tf.constant(codes))

    @pytest.mark.parametrize("built", [True, False])
    def test_an_encoder_whose_vectors_the_quantizer_does_not_take(self, built):
        message = r"vectors of 3 numbers, the last axis of \(2, 2, 3\), but the quantizer takes 4"
        with pytest.raises(InvalidArgument, match=message):
            make(quantizer=VectorQuantizer(K, 4), built=built).build((None, 4, 4, 1))

    @pytest.mark.parametrize(
        ("latents", "layer", "message"),
        [
            ((2, 2, 4), (1, 2, 2), r"decoder takes inputs of shape \(2, 2, 4\).*\(2, 2, 3\)"),
            ((2, 2, D), (2, 2, 2), r"describes values of shape \(4, 4, 2\).*\(4, 4, 1\)"),
            ((2, 2, D), (1, 2, 1), r"describes values of shape \(3, 3, 1\).*\(4, 4, 1\)"),
        ],
        ids=["input", "channels", "size"],
    )
    def test_a_decoder_that_does_not_fit(self, latents, layer, message):
        encoder, _ = networks(LIKELIHOODS["bernoulli"])
        layer = keras.layers.Conv2DTranspose(*layer)
        decoder = keras.Sequential([keras.Input(latents), layer])
        with pytest.raises(InvalidArgument, match=message):
            tfvae.VQVAE(encoder, VectorQuantizer(K, D), decoder, likelihood="bernoulli")

    def test_a_decoder_for_another_likelihood(self):
        encoder, decoder = networks(LIKELIHOODS["normal"])
        with pytest.raises(InvalidArgument, match="feeds Categorical ends in an axis of size 1"):
            tfvae.VQVAE(encoder, VectorQuantizer(K, D), decoder, likelihood="categorical")

    def test_an_encoder_of_a_single_vector(self):
        encoder = keras.Sequential([keras.Input((4,)), keras.layers.Dense(D)])
        decoder = keras.Sequential([keras.Input((D,)), keras.layers.Dense(4)])
        with pytest.raises(InvalidArgument, match=r"a single code.*Reshape\(\(1, 3\)\)"):
            tfvae.VQVAE(encoder, "vq", decoder)

    @pytest.mark.parametrize(
        ("quantizer", "message"),
        [
            ("vqq", "Unknown quantizer 'vqq'. Did you mean 'vq'"),
            (VectorQuantizer, "an instance, not a class"),
            ("residual", "does not take"),
        ],
        ids=str,
    )
    def test_an_unknown_quantizer(self, quantizer, message):
        encoder, decoder = networks(LIKELIHOODS["bernoulli"])
        with pytest.raises(InvalidArgument, match=message):
            tfvae.VQVAE(encoder, quantizer, decoder, likelihood="bernoulli")

    @pytest.mark.parametrize("name", ["loss", "metrics", "weighted_metrics", "loss_weights"])
    def test_settings_of_compile(self, name):
        message = f"got `{name}`, but VQVAE has a loss of its own.*`likelihood`.*`commitment_cost`"
        with pytest.raises(InvalidArgument, match=message):
            make().compile(**{name: "mse"})

    @pytest.mark.parametrize("method", ["fit", "evaluate", "validation_data"])
    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (np.full((4, 4, 4, 1), np.nan), "64 values that are infinite or not a number"),
            (np.full((4, 4, 4, 1), 255, np.uint8), r"expects pixels in \[0, 1\]"),
            (np.zeros((0, 4, 4, 1)), "is empty; expected at least one example"),
            (np.zeros((4, 16)), r"shape \(16,\); the encoder takes \(4, 4, 1\)"),
        ],
        ids=["nan", "8 bits", "empty", "shape"],
    )
    def test_arrays(self, untrained, images, method, x, message):
        call = {
            "fit": lambda: fit(untrained, x),
            "evaluate": lambda: untrained.evaluate(x),
            "validation_data": lambda: fit(untrained, images, validation_data=x),
        }[method]
        with pytest.raises(InvalidData, match=message):
            call()
        assert untrained.steps_made == 0
        assert untrained.quantizer.needs_data


@pytest.fixture(scope="module")
def tiles():
    """96 images of 8×8, each quadrant one of four random patterns."""
    rng = np.random.default_rng(3)
    patterns = rng.integers(0, 2, (4, 4, 4)).astype(np.float32)
    which = rng.integers(0, 4, (96, 2, 2))
    return patterns[which].transpose(0, 1, 3, 2, 4).reshape(96, 8, 8, 1)


@pytest.mark.nightly
@pytest.mark.parametrize(
    "quantizer",
    [VectorQuantizer(8, 4), EMAVectorQuantizer(4, 4, threshold_ema_dead_code=1.0, decay=0.9)],
    ids=lambda quantizer: type(quantizer).__name__,
)
def test_it_learns_images_made_of_patterns(tiles, quantizer):
    """Four patterns a quadrant are 8 bits an image: it finds them, and every pixel comes back."""
    keras.utils.set_random_seed(2)
    conv, up = keras.layers.Conv2D, keras.layers.Conv2DTranspose
    encoder = keras.Sequential(
        [keras.Input((8, 8, 1)), conv(16, 4, strides=4, activation="relu"), conv(4, 1)]
    )
    decoder = keras.Sequential(
        [keras.Input((2, 2, 4)), conv(16, 1, activation="relu"), up(1, 4, strides=4)]
    )
    model = tfvae.VQVAE(encoder, quantizer, decoder, likelihood="bernoulli")
    model.compile(tfvae.optimizers.Adam(0.01), steps_per_execution=6)
    fit(model, tiles, epochs=30, batch_size=16)
    metrics = measure(model, tiles)
    assert np.mean((model.predict(tiles, verbose=0) > 0.5) == (tiles > 0.5)) > 0.999
    assert metrics["reconstruction"] < 1.0, "of 44 nats for coin flips"
    assert metrics["perplexity"] == pytest.approx(4, abs=0.1)
    assert metrics["code_bits"] == pytest.approx(8, abs=0.15)


@pytest.mark.parametrize("name", ["vq", "lfq"])
def test_a_configuration_from_before_the_data_fits_any_encoder(name, rng):
    """A quantizer by name has the size of the encoder's vectors, the prior that of its codes."""
    layers = [keras.layers.Dense(5), keras.layers.Reshape((1, 5))]
    decoder = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
    model = tfvae.VQVAE(keras.Sequential(layers), name, decoder)
    again = tfvae.VQVAE.from_config(model.get_config())
    again.build((None, 3))
    assert again.quantizer.embedding_dim == 5
    assert again.prior.codebook_size == again.codebook_size == (512 if name == "vq" else 32)
    built = tfvae.VQVAE.from_config(again.get_config())
    assert built.built
    assert built.quantizer.embedding_dim == 5
