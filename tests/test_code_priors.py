import itertools

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from tiers import nightly_but

import tfvae
from tfvae import code_priors
from tfvae.code_priors import sampling
from tfvae.code_priors.attention import CausalSelfAttention
from tfvae.code_priors.dropout import Dropout, keep_mask
from tfvae.code_priors.gated_convolution import gate
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.random import gumbel, make_seed, uniform

pytestmark = pytest.mark.slow  # Compiles graphs of whole models.

K, SHAPE, CLASSES = 3, (2, 3), 2
TINY = {
    "pixelcnn": {"num_filters": 6, "num_layers": 2, "kernel_size": 3},
    "transformer": {"num_layers": 2, "num_heads": 2, "hidden_size": 8},
}
NETWORKS = sorted(TINY)  # those in which codes depend on each other
SHALLOW = {name: {"num_layers": 1} for name in TINY}  # where compiling takes most of the time
LEARNED = ["categorical", *NETWORKS]
NAMES = code_priors.REGISTRY.names()


def make(name, num_classes=0, shape=SHAPE, scale=1.0, **options):
    """Return a built prior; unless `scale` is 0, with weights drawn anew, biases included."""
    options = {"num_classes": num_classes, "seed": 3} | TINY.get(name, {}) | options
    prior = code_priors.REGISTRY.part(name)(K, **options)
    prior.build((None, *shape))
    rng = np.random.default_rng(1)
    for weight in prior.trainable_weights if scale else []:
        fan_in = np.prod(weight.shape[:-1])
        weight.assign(scale / np.sqrt(fan_in) * rng.normal(size=weight.shape))
    return prior


def all_codes(shape=SHAPE):
    states = itertools.product(range(K), repeat=int(np.prod(shape)))
    return np.array(list(states), np.int32).reshape(-1, *shape)


def run_steps(prior, codes, condition=None):
    """Return the logits of all positions by `start` and `step`, `[B, positions, K]`."""
    flat = codes.reshape(len(codes), -1)
    state = prior.start(len(codes), condition)
    previous, logits = tf.fill([len(codes)], -1), []  # at position 0 it may be anything
    for position in range(flat.shape[1]):
        here, state = prior.step(state, tf.constant(position), previous)
        logits.append(here.numpy())
        previous = tf.constant(flat[:, position])
    return np.stack(logits, axis=1)


def numpy_choice(logits, temperature=1.0, top_k=None, top_p=None):
    """Return the probabilities of a choice from logits `[K]`, by plain NumPy."""
    order = sorted(range(len(logits)), key=lambda code: (-logits[code], code))[:top_k]
    mass = scipy.special.softmax(np.float64(logits)[order] / max(temperature, 1e-6))
    if top_p is not None:
        size = 1 + int(np.sum(np.cumsum(mass)[:-1] < top_p))
        order, mass = order[:size], mass[:size] / mass[:size].sum()
    probabilities = np.zeros(len(logits))
    probabilities[order] = mass
    return probabilities


def dependence(prior, shape):
    """Return `[j, i]`: whether the logits of position i change with the code at position j."""
    count = int(np.prod(shape))
    codes = np.random.default_rng(4).integers(0, K, count)
    changed = np.where(np.eye(count, dtype=bool), (codes + 1) % K, codes)
    both = np.concatenate([codes[None], changed]).reshape(-1, *shape)
    logits = prior.logits(both.astype(np.int32)).numpy().reshape(count + 1, count, K)
    return np.abs(logits[1:] - logits[0]).max(axis=-1) > 1e-6


def test_attention_is_the_softmax_of_scaled_products(rng):
    """Two heads of size 3, by NumPy."""
    attention = CausalSelfAttention(2, 6)
    attention.build((None, 4, 6))
    attention.set_weights([rng.normal(size=w.shape) for w in attention.get_weights()])
    kernel, bias, mixing, shift = attention.get_weights()
    x = rng.normal(size=(2, 4, 6)).astype("f4")
    queries, keys, values = np.split(x @ kernel + bias, 3, axis=-1)
    heads = []
    for head in (slice(0, 3), slice(3, 6)):
        scores = queries[..., head] @ keys[..., head].transpose(0, 2, 1) / np.sqrt(3)
        scores = np.where(np.tri(4, dtype=bool), scores, -np.inf)
        heads.append(scipy.special.softmax(scores, axis=-1) @ values[..., head])
    expected = np.concatenate(heads, axis=-1) @ mixing + shift
    np.testing.assert_allclose(attention(x), expected, rtol=1e-4, atol=1e-4)


def test_a_pixelcnn_gates_its_features_and_takes_logits_of_what_is_above_0(rng):
    """tanh(a) ⊙ σ(b) of two halves, and W₂ relu(W₁ relu(h) + b₁) + b₂."""
    a, b = rng.normal(size=(2, 5))
    expected = np.tanh(a) * scipy.special.expit(b)
    np.testing.assert_allclose(gate(tf.constant(np.concatenate([a, b]))), expected, rtol=1e-6)
    prior, h = make("pixelcnn"), rng.normal(size=(2, 1, 1, 6)).astype("f4")
    (w1, b1), (w2, b2) = (layer.get_weights() for layer in (prior.hidden, prior.head))
    expected = np.maximum(np.maximum(h, 0) @ w1 + b1, 0) @ w2 + b2
    np.testing.assert_allclose(prior._logits(h), expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(params=[0, CLASSES], ids=["", "classes"])
def num_classes(request):
    return request.param


@pytest.mark.parametrize("name", NAMES)
class TestProbabilities:
    def test_shapes_and_types(self, name, rng):
        for shape in [(2, 3)] if name == "pixelcnn" else [(5,), (2, 3), (2, 2, 2)]:
            prior, codes = make(name, shape=shape), rng.integers(0, K, (4, *shape))
            logits, log_p = prior.logits(codes), prior.log_prob(codes.astype(np.uint16))
            assert logits.shape == prior(codes).shape == (4, *shape, K)
            assert log_p.shape == (4,)
            assert logits.dtype == log_p.dtype == tf.float32

    def test_they_sum_to_one(self, name, num_classes):
        prior = make(name, num_classes)
        for label in range(num_classes) if num_classes else [None]:
            log_p = prior.log_prob(all_codes(), label)
            np.testing.assert_allclose(np.exp(log_p).sum(), 1, rtol=1e-4)

    def test_steps_give_the_logits_of_the_full_pass(self, name, rng):
        prior, codes = make(name, CLASSES, (3, 3)), rng.integers(0, K, (7, 3, 3), np.int32)
        labels = rng.integers(0, CLASSES, 7)
        full = prior.logits(codes, labels).numpy().reshape(7, -1, K)
        np.testing.assert_allclose(run_steps(prior, codes, labels), full, atol=1e-5)

    def test_a_class_has_a_distribution_of_its_own(self, name):
        prior, codes = make(name, CLASSES), all_codes()
        zero, one = (prior.log_prob(codes, label).numpy() for label in range(CLASSES))
        assert (np.abs(zero - one).max() > 0.1) == (name != "uniform")
        both = prior.log_prob(codes[[5, 5]], [0, 1])
        np.testing.assert_allclose(both, [zero[5], one[5]], atol=1e-5)

    def test_a_position_depends_on_those_before_it_alone(self, name):
        """All of them, for a network: there is no blind spot."""
        deep = {"num_layers": 4} if name == "pixelcnn" else {}
        changes = dependence(make(name, shape=(4, 5), **deep), (4, 5))
        before = np.triu(np.ones((20, 20), bool), k=1)
        np.testing.assert_array_equal(changes, before if name in NETWORKS else before & False)

    def test_saved_and_loaded(self, name, tmp_path):
        prior = make(name, CLASSES)
        prior.save(tmp_path / "prior.keras")
        loaded = keras.saving.load_model(tmp_path / "prior.keras")
        assert type(loaded) is type(prior)
        assert loaded.get_config() == prior.get_config()
        assert loaded.code_shape == SHAPE
        expected = prior.log_prob(all_codes(), 1)
        np.testing.assert_allclose(loaded.log_prob(all_codes(), 1), expected, atol=1e-6)


@pytest.mark.parametrize("name", nightly_but(NAMES, "categorical", "transformer"))
class TestWhatAllShare:
    """What every prior has from its base class, given its logits and its steps."""

    def test_log_prob_is_the_sum_of_the_log_softmax_of_the_steps(self, name):
        prior, codes = make(name, CLASSES), all_codes()
        log_p = scipy.special.log_softmax(run_steps(prior, codes, 1), axis=-1)
        of_codes = np.take_along_axis(log_p, codes.reshape(len(codes), -1, 1), axis=-1)
        np.testing.assert_allclose(prior.log_prob(codes, 1), of_codes.sum(axis=(1, 2)), atol=1e-5)

    def test_predict_takes_batches_of_codes_and_labels(self, name):
        prior, codes, labels = make(name, CLASSES), all_codes()[:6], np.arange(6) % CLASSES
        prior.compile("sgd", run_eagerly=True)
        batches = tf.data.Dataset.from_tensor_slices((codes, labels)).batch(4)
        predicted = prior.predict(batches, verbose=0)
        np.testing.assert_allclose(predicted, prior.logits(codes, labels), atol=1e-5)
        with pytest.raises(InvalidArgument, match="none beside `x`"):
            prior.predict(codes, verbose=0)

    def test_half_precision(self, name, rng):
        prior, codes = make(name, dtype="mixed_bfloat16"), rng.integers(0, K, (4, *SHAPE), np.int32)
        full = prior.logits(codes).numpy()
        assert full.dtype == np.float32
        np.testing.assert_allclose(full, make(name).logits(codes), atol=0.1)
        np.testing.assert_allclose(run_steps(prior, codes), full.reshape(4, -1, K), atol=0.1)


@pytest.mark.parametrize(("num_layers", "kernel_size"), [(1, 3), (2, 3), (1, 5)])
def test_a_pixelcnn_sees_as_far_as_it_says(num_layers, kernel_size):
    sizes = {"num_layers": num_layers, "kernel_size": kernel_size, "num_filters": 16}
    changes = dependence(make("pixelcnn", shape=(5, 7), **sizes), (5, 7))
    reach = num_layers * (kernel_size // 2)
    row, column = np.divmod(np.arange(35), 7)
    up, left = row - row[:, None], column - column[:, None]  # [j, i]: the way from i to j
    beside = (up == 0) & (left >= 1) & (left <= reach + 1)
    above = (up >= 1) & (up <= reach + 1) & (left >= -reach)
    assert np.all(changes[beside | (above & (left <= reach))])
    assert not np.any(changes[~(beside | above)])


# All of it is made of the steps of a prior, which are compared above.
@pytest.mark.parametrize("name", nightly_but(LEARNED, "categorical"))
class TestSampling:
    def test_frequencies_are_the_probabilities(self, name):
        options = {"temperature": 1.5, "top_p": 0.9} if name == "transformer" else {}
        prior, codes, count = make(name, CLASSES, (2, 2)), all_codes((2, 2)), 4000
        each = [numpy_choice(row, **options) for row in np.reshape(prior.logits(codes, 1), (-1, K))]
        of_codes = np.take_along_axis(np.reshape(each, (-1, 4, K)), codes.reshape(-1, 4, 1), -1)
        expected = of_codes.prod(axis=(1, 2))
        drawn = prior.sample(count, seed=5, condition=1, **options).numpy().reshape(count, -1)
        number = drawn @ K ** np.arange(4)[::-1]
        frequencies = np.bincount(number, minlength=len(codes)) / count
        error = np.sqrt(expected * (1 - expected) / count)
        often = expected * count >= 5
        assert often.sum() > 5
        assert np.all(np.abs(frequencies - expected)[often] <= 4 * error[often])
        assert not np.any(frequencies[expected == 0])

    def test_temperature_zero_takes_the_most_probable_code_each_time(self, name):
        prior = make(name)
        codes = prior.sample(3, seed=1, temperature=0).numpy()
        np.testing.assert_array_equal(codes, prior.sample(3, seed=2, temperature=0))
        np.testing.assert_array_equal(codes, prior.logits(codes).numpy().argmax(axis=-1))

    def test_a_draw_depends_on_the_seed_and_its_index_only(self, name):
        prior = make(name, shape=(4, 5), **SHALLOW.get(name, {}))
        codes = prior.sample(10, seed=5)
        assert codes.shape == (10, 4, 5)
        assert codes.dtype == tf.int32
        np.testing.assert_array_equal(prior.sample(3, seed=5), codes[:3])
        np.testing.assert_array_equal(prior.draw(make_seed(5), tf.constant([7])), codes[7:8])
        other = prior.sample(10, seed=6)
        assert len(np.unique(np.concatenate([codes, other]), axis=0)) == 20


@pytest.mark.parametrize("name", nightly_but(LEARNED, "pixelcnn"))
def test_cached_sampling_gives_the_codes_of_uncached(name):
    prior, options = make(name, CLASSES), {"seed": 2, "condition": [0, 1, 1]}
    codes = prior.sample(3, **options).numpy()
    np.testing.assert_array_equal(codes, prior.sample(3, **options, cached=False))
    assert len(np.unique(codes)) == K


@pytest.mark.parametrize("name", nightly_but(LEARNED, "categorical"))
def test_xla_draws_the_same_codes(name):
    prior = make(name, **SHALLOW.get(name, {}))
    draw = tf.function(prior.draw, jit_compile=True, autograph=False)
    expected = prior.sample(6, seed=5, temperature=0.8)
    np.testing.assert_array_equal(draw(make_seed(5), tf.range(6), 0.8), expected)


@pytest.mark.parametrize("name", nightly_but(LEARNED, "pixelcnn"))
def test_a_device_draws_the_codes_of_keras(name, tmp_path):
    """As a `.tflite` of builtin operators, and as a SavedModel."""
    prior = make(name, CLASSES, **SHALLOW.get(name, {}))
    options = {} if name == "transformer" else {"top_k": 2, "top_p": 0.8}
    saved, device = export(prior, options, tmp_path)
    for count in (1, 40):
        inputs = {
            "seed": tf.constant([3, -4]),
            "index": tf.range(5, 5 + count),
            "temperature": tf.constant(0.8),
            "condition": tf.range(count) % CLASSES,
        }
        expected = prior.draw(**inputs, **options)
        on_device = device(**{key: value.numpy() for key, value in inputs.items()})
        np.testing.assert_array_equal(on_device["codes"], expected)
        np.testing.assert_array_equal(saved(**inputs)["codes"], expected)


def export(prior, options, folder):
    """Return `draw` with these options, as a SavedModel has it and as LiteRT runs it."""

    def draw(seed, index, temperature, condition):
        return {"codes": prior.draw(seed, index, temperature, condition, **options)}

    inputs = [
        tf.TensorSpec([2], tf.int32, "seed"),
        tf.TensorSpec([None], tf.int32, "index"),
        tf.TensorSpec([], tf.float32, "temperature"),
        tf.TensorSpec([None], tf.int32, "condition"),
    ]
    module, function = tf.Module(), tf.function(draw, inputs, autograph=False)
    module.draw = function.get_concrete_function()
    module.weights = list(module.draw.variables)
    tf.saved_model.save(module, str(folder), signatures={"draw": module.draw})
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=["draw"])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    device = Interpreter(model_content=converter.convert()).get_signature_runner("draw")
    return tf.saved_model.load(str(folder)).signatures["draw"], device


class TestUniform:
    """A codebook of any size, without a number for each of its codes."""

    @pytest.fixture
    def large(self, monkeypatch):
        prior = code_priors.UniformCodePrior(2**30)
        prior.build((None, 2, 2))
        for name in ("network", "step"):  # of K numbers for each position
            monkeypatch.setattr(prior, name, None)
        return prior

    def test_log_p_is_a_constant(self, large):
        codes = np.full((3, 2, 2), 2**30 - 1)
        np.testing.assert_allclose(large.log_prob(codes), 3 * [-4 * 30 * np.log(2)], rtol=1e-6)
        with pytest.raises(InvalidArgument, match="got a condition"):
            large.log_prob(codes, 1)

    def test_draws_are_uniform(self, large):
        codes = large.sample(2000, seed=1).numpy()
        share = (codes.ravel() + 0.5) / 2**30
        assert scipy.stats.kstest(share, "uniform").pvalue > 0.01
        np.testing.assert_array_equal(large.sample(3, seed=1), codes[:3])
        draw = tf.function(large.draw, jit_compile=True, autograph=False)
        np.testing.assert_array_equal(draw(make_seed(1), tf.constant([7, 5])), codes[[7, 5]])

    @pytest.mark.parametrize(
        "options",
        [{"temperature": 3.0}, {"top_k": 2}, {"top_p": 0.4}, {"top_k": 2, "top_p": 0.5}],
        ids=str,
    )
    def test_options_are_those_of_a_choice_among_equal_logits(self, options):
        codes = make("uniform", CLASSES).sample(500, seed=2, condition=1, **options)
        expected = numpy_choice(np.zeros(K), **options) > 0
        np.testing.assert_array_equal(np.bincount(np.ravel(codes), minlength=K) > 0, expected)
        assert not np.any(make("uniform").sample(9, temperature=0.0))  # the first of equal ones


def test_every_position_has_noise_of_its_own():
    draws, positions = 2000, 16
    codes = make("uniform", shape=(4, 4)).sample(draws, seed=8).numpy().reshape(draws, -1)
    agree = (codes[:, :, None] == codes[:, None, :]).mean(axis=0)
    agree = agree[np.triu_indices(positions, k=1)]
    assert np.all(np.abs(agree - 1 / K) < 4 * np.sqrt(1 / K * (1 - 1 / K) / draws))


class TestChoices:
    """`choose` against plain NumPy, ties included."""

    LOGITS = np.array([[0.0, 2.0, 1.0, 2.0, -1.0], [0.0, 0.0, 0.0, 0.0, 0.0]], np.float32)

    @pytest.mark.parametrize("options", [{"top_k": 2}, {"top_p": 0.5}, {"temperature": 0.5}])
    def test_numbers_may_be_of_numpy(self, options):
        prior = make("categorical")
        expected = prior.sample(5, **options)
        for as_type in (np.float64, np.float32) if "top_k" not in options else (np.int64, np.int8):
            of_numpy = {name: as_type(value) for name, value in options.items()}
            np.testing.assert_array_equal(prior.sample(5, **of_numpy), expected)

    @pytest.mark.parametrize("k", [1, 2, 3, 5])
    def test_top_k(self, k):
        kept = sampling.most_probable(tf.constant(self.LOGITS), k)
        expected = [numpy_choice(row, top_k=k) > 0 for row in self.LOGITS]
        np.testing.assert_array_equal(kept, expected)

    @pytest.mark.parametrize("p", [1e-6, 0.3, 0.5, 0.9, 0.999])
    @pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 3.0])
    def test_top_p(self, p, temperature):
        kept = sampling.nucleus(tf.constant(self.LOGITS), p, temperature)
        expected = [numpy_choice(row, temperature, top_p=p) > 0 for row in self.LOGITS]
        np.testing.assert_array_equal(kept, expected)

    @pytest.mark.parametrize(
        "options",
        [
            {"temperature": 1.0},
            {"temperature": 0.7, "top_k": 4, "top_p": 0.9},
            {"temperature": 3.0, "top_k": 1},
            {"temperature": 0.0, "top_p": 1.0},
        ],
        ids=str,
    )
    def test_a_choice_follows_the_probabilities(self, options, assert_mean):
        noise = gumbel(uniform(make_seed(1), tf.range(20_000), 5))
        same = options if options["temperature"] else {"top_k": 1}
        for row in self.LOGITS:
            chosen = sampling.choose(tf.tile(row[None], [20_000, 1]), noise, **options)
            assert_mean(np.eye(5)[chosen], numpy_choice(row, **same))


def markov_chain(codes, label):
    """Return the probabilities of the states of a chain in raster order, for each class one."""
    flat = codes.reshape(len(codes), -1)
    first = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])[label]
    then = np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.7, 0.2, 0.1]])
    then = then if label == 0 else then.T / then.T.sum(axis=1, keepdims=True)
    return first[flat[:, 0]] * then[flat[:, :-1], flat[:, 1:]].prod(axis=1)


@pytest.mark.parametrize("name", nightly_but(LEARNED, "categorical"))
def test_training_reaches_the_entropy(name):
    """On all states of a chain for each class, weighted by probability: there is no noise."""
    codes = all_codes((2, 2))
    p = np.concatenate([markov_chain(codes, label) / CLASSES for label in range(CLASSES)])
    labels, codes = np.repeat(np.arange(CLASSES), len(codes)), np.tile(codes, (CLASSES, 1, 1))
    if name == "categorical":  # the best there is without dependence
        given = np.eye(CLASSES)[labels] * p[:, None] * CLASSES
        marginals = np.einsum("nc,npk->cpk", given, np.eye(K)[codes.reshape(-1, 4)])
        entropy = -np.sum(marginals * np.log(marginals)) / CLASSES
    else:
        entropy = -np.sum(p * np.log(p * CLASSES))
    prior = make(name, CLASSES, (2, 2), scale=0, **SHALLOW.get(name, {}))
    assert np.sum(p * -prior.log_prob(codes, labels)) > entropy + 0.2
    prior.compile(tfvae.optimizers.Adam(0.02), steps_per_execution=50)
    batch = tf.data.Dataset.from_tensors((codes, labels, p * len(codes)))
    prior.fit(batch.repeat(), steps_per_epoch=250, shuffle=False, verbose=0)
    assert entropy - 1e-4 < np.sum(p * -prior.log_prob(codes, labels)) < entropy + 0.03


def test_metrics_are_means_over_the_examples(rng):
    prior, codes, weights = make("categorical"), rng.integers(0, K, (10, *SHAPE)), rng.random(10)
    prior.compile()
    expected = np.average(-prior.log_prob(codes), weights=weights)
    logs = prior.evaluate(codes, sample_weight=weights, batch_size=4, verbose=0)
    np.testing.assert_allclose(logs, [expected, expected / (6 * np.log(2))], rtol=1e-5)


@pytest.mark.parametrize(("size", "dtype"), [(256, np.uint8), (512, np.uint8), (128, np.int8)])
def test_codes_may_have_a_type_that_does_not_hold_the_size_of_the_codebook(size, dtype, rng):
    codes = rng.integers(0, 128, (10, *SHAPE))
    prior = code_priors.get("categorical", codebook_size=size)
    prior.build((None, *SHAPE))
    prior.compile("adam", run_eagerly=True)
    logs = prior.evaluate(codes.astype(dtype), verbose=0, return_dict=True)
    assert logs == prior.evaluate(codes, verbose=0, return_dict=True)


@pytest.mark.parametrize("num_classes", nightly_but([0, CLASSES], CLASSES))
def test_a_dataset_builds_the_prior(num_classes, rng):
    codes = rng.integers(0, K, (10, *SHAPE)).astype(np.uint16)
    labels = rng.integers(0, num_classes, 10) if num_classes else None
    options = {"num_classes": num_classes} | TINY["transformer"] | SHALLOW["transformer"]
    prior = code_priors.get("transformer", codebook_size=K, **options)
    prior.compile(tfvae.optimizers.Adam(1e-3), run_eagerly=True)
    data = tf.data.Dataset.from_tensor_slices((codes, labels) if num_classes else codes).batch(5)
    prior.fit(data, validation_data=data, shuffle=False, verbose=0)
    assert prior.code_shape == SHAPE
    expected = prior.evaluate(codes, labels, batch_size=5, verbose=0)
    np.testing.assert_allclose(prior.evaluate(data, verbose=0), expected, rtol=1e-5)


@pytest.mark.parametrize("name", nightly_but(LEARNED, "categorical", "transformer"))
def test_a_prior_inside_another_model(name, tmp_path):
    holder = Holder(make(name, **SHALLOW.get(name, {})))
    holder.prior.compile()
    holder.prior.optimizer.build(holder.prior.trainable_variables)
    for number, variable in enumerate(holder.prior.optimizer.variables[2:]):
        variable.assign(number * tf.ones(variable.shape))
    holder.prior.training_step.assign(2)
    holder.save(tmp_path / "holder.keras")
    inner = keras.saving.load_model(tmp_path / "holder.keras").prior
    assert int(inner.training_step) == 2
    assert_same(inner.weights, holder.prior.weights)
    assert_same(inner.optimizer.variables, holder.prior.optimizer.variables)


@keras.saving.register_keras_serializable("test_code_priors")
class Holder(keras.Model):
    def __init__(self, prior, **kwargs):
        super().__init__(**kwargs)
        self.prior = prior
        self.built = True

    def get_config(self):
        return {"prior": keras.saving.serialize_keras_object(self.prior)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["prior"]))


def train(prior, steps=2, optimizer=None, **options):
    """Make the next steps of a training run of four; `options` go to `compile`."""
    if not prior.compiled:
        prior.compile(optimizer or tfvae.optimizers.Adam(0.01), **options)
    batches = np.random.default_rng(6).integers(0, K, (4, 8, *SHAPE))
    done = int(prior.training_step)
    for codes in batches[done : done + steps]:
        prior.train_on_batch(codes)
    return prior


def assert_same(ours, theirs, atol=1e-6):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=atol)


@pytest.mark.nightly
@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_under_xla_is_the_same(name):
    # Not Adam: where a gradient is 0 but for rounding, it makes a whole step of it.
    plain, compiled = (
        train(make(name, **SHALLOW[name]), 1, keras.optimizers.SGD(0.1), jit_compile=jit)
        for jit in (False, True)
    )
    assert_same(compiled.weights, plain.weights, atol=1e-5)


@pytest.mark.parametrize("name", nightly_but(NETWORKS, "transformer"))
class TestDropout:
    def test_training_resumes_exactly(self, name, tmp_path):
        options, eager = SHALLOW[name] | {"dropout": 0.4}, {"run_eagerly": True}
        whole = train(make(name, **options), steps=2, **eager)
        train(make(name, **options), steps=1, **eager).save(tmp_path / "half.keras")
        resumed = keras.saving.load_model(tmp_path / "half.keras")
        assert resumed.get_compile_config().keys() == whole.get_compile_config().keys()
        train(resumed, steps=1)
        assert_same(resumed.weights, whole.weights)
        assert_same(resumed.optimizer.variables, whole.optimizer.variables)

    def test_the_noise_is_that_of_the_step(self, name):
        prior, codes = make(name, dropout=0.4), all_codes()[:5]
        first = prior.logits(codes, training=True).numpy()
        np.testing.assert_array_equal(prior.logits(codes, training=True), first)
        assert np.abs(prior.logits(codes) - first).max() > 0.01
        prior.training_step.assign_add(1)
        assert np.abs(prior.logits(codes, training=True) - first).max() > 0.01

    def test_a_training_step_is_of_the_loss_with_its_dropout_and_a_measure_without(self, name):
        prior, codes = make(name, dropout=0.4), all_codes()[:5]
        flat = codes.reshape(5, -1, 1)
        expected = {}
        for training in (True, False):
            logits = prior.logits(codes, training=training).numpy().reshape(5, -1, K)
            log_p = np.take_along_axis(scipy.special.log_softmax(logits, axis=-1), flat, -1)
            expected[training] = -log_p.sum(axis=(1, 2)).mean()
        assert abs(expected[True] - expected[False]) > 0.01, "nothing to compare"
        found = -np.mean(prior.log_prob(codes, training=True))
        assert found == pytest.approx(expected[True], rel=1e-5)
        prior.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
        assert prior.evaluate(codes, verbose=0)[0] == pytest.approx(expected[False], rel=1e-5)
        assert prior.train_on_batch(codes)[0] == pytest.approx(expected[True], rel=1e-5)

    def test_every_call_of_a_pass_has_a_seed_of_its_own(self, name):
        prior = make(name, dropout=0.4)
        seeds = {tuple(prior._dropout_seed(number).numpy()) for number in range(1, 9)}
        assert len(seeds) == 8

    def test_it_acts_on_every_branch(self, name):
        """Of each block both, and the first input; or of each layer of both stacks its features."""
        layers = {"num_layers": 3} if name == "pixelcnn" else {}
        prior, codes = make(name, dropout=0.4, **layers), all_codes()[:2]
        dropout = Dropout(0.4, make_seed)
        prior.network(tf.constant(codes), tf.zeros([2], tf.int32), dropout)
        assert dropout.calls == {"transformer": 1 + 2 * 2, "pixelcnn": 2 * 3}[name]

    def test_a_step_run_eagerly_is_the_same(self, name):
        options = SHALLOW[name] | {"dropout": 0.4}
        graph, eager = (
            train(make(name, **options), 1, keras.optimizers.SGD(0.1), run_eagerly=eagerly)
            for eagerly in (False, True)
        )
        assert_same(eager.weights, graph.weights, atol=1e-5)


def test_dropout_keeps_the_mean_and_masks_every_call_anew(assert_mean):
    dropout = Dropout(0.3, make_seed)
    once, twice = (dropout(tf.ones([20_000])).numpy() for _ in range(2))
    np.testing.assert_allclose(np.unique(once), [0, 1 / 0.7], rtol=1e-6)
    assert_mean(once, 1.0)
    assert_mean((once > 0) & (twice > 0), 0.7**2)


@pytest.mark.parametrize("rate", [0.0, 1e-12, 0.9999999999])
def test_the_ends_of_dropout_rates(rate):
    assert np.mean(keep_mask([100], rate, make_seed(1))) == round(1 - rate)


GOOD = np.zeros((2, *SHAPE), np.int32)


class TestRefusals:
    @pytest.mark.parametrize(
        ("codes", "message"),
        [
            (np.zeros((4, 2, 3)), "holds float64"),
            (np.zeros((4, 2, 3), bool), "holds bool"),
            (np.zeros((0, 2, 3), int), "at least one example"),
            (np.zeros(3, int), r"shape \(3,\)"),
            (np.zeros((4, 3, 2), int), r"shape \(3, 2\).*\(2, 3\)"),
            (np.full((4, 2, 3), K), "from 3 to 3; expected 0 to 2"),
            (np.full((4, 2, 3), -1), "from -1 to -1"),
        ],
    )
    def test_codes(self, codes, message):
        prior = make("categorical")
        prior.compile()
        for use in (
            lambda: prior.check_codes(codes),
            lambda: prior.fit(codes, verbose=0),
            lambda: prior.fit(GOOD, validation_data=(codes, None), verbose=0),
            lambda: prior.evaluate(codes, verbose=0),
        ):
            with pytest.raises(InvalidData, match=message):
                use()

    def test_codes_that_logits_cannot_take(self):
        prior = make("categorical")
        with pytest.raises(InvalidData, match="float32"):
            prior.logits(GOOD.astype(np.float32))
        with pytest.raises(InvalidData, match=r"\(3, 2\)"):
            prior.log_prob(GOOD.reshape(2, 3, 2))

    @pytest.mark.parametrize(
        ("name", "code"),
        nightly_but(
            itertools.product(["uniform", "categorical", "transformer"], [K, -1, 2**32]),
            *(("categorical", code) for code in (K, -1, 2**32)),
            ("uniform", K),
            ("transformer", K),
        ),
    )
    def test_what_is_no_code_has_no_probability(self, name, code):
        prior = make(name, **SHALLOW.get(name, {}))
        codes = GOOD.astype(np.int64)
        expected = prior.log_prob(codes).numpy()
        codes[0, 1, 2] = code
        with pytest.raises(InvalidData, match=rf"{code}.*; expected 0 to 2|to {code}; expected"):
            prior.log_prob(codes)
        with pytest.raises(InvalidData, match="expected 0 to 2"):
            prior.logits(codes)
        found = tf.function(prior.log_prob, autograph=False)(tf.constant(codes))
        np.testing.assert_allclose(found, [-np.inf, *expected[1:]], rtol=1e-5)

    @pytest.mark.parametrize(
        ("labels", "error", "message"),
        [
            (None, InvalidArgument, "a label from 0 to 1, and"),
            (np.array([0.0, 1.0]), InvalidData, "float64"),
            (np.array([0, 1, 1]), InvalidData, r"shape \(3,\); expected \[2\]"),
            (np.array([[0, 1], [1, 0]]), InvalidData, "shape"),
            (np.array([0, 2]), InvalidData, "from 0 to 2; expected each to be a label from 0 to 1"),
        ],
    )
    def test_labels(self, labels, error, message):
        prior = make("categorical", CLASSES)
        prior.compile()
        for use in (
            lambda: prior.log_prob(GOOD, labels),
            lambda: prior.sample(2, condition=labels),
            lambda: prior.start(2, labels),
            lambda: prior.fit(GOOD, labels, verbose=0),
        ):
            with pytest.raises(error, match=message):
                use()

    def test_labels_that_are_not_wanted(self):
        prior, labels = make("categorical"), np.array([0, 1])
        prior.compile()
        data = tf.data.Dataset.from_tensor_slices((GOOD, labels)).batch(2)
        for use in (
            lambda: prior.log_prob(GOOD, labels),
            lambda: prior.sample(2, condition=1),
            lambda: prior.fit(GOOD, labels, verbose=0),
            lambda: prior.fit(GOOD, labels, sample_weight=np.ones(2), verbose=0),
            lambda: prior.fit(data, verbose=0),
        ):
            with pytest.raises(InvalidArgument, match="has none"):
                use()

    def test_a_dataset_without_the_labels_it_needs(self):
        prior = make("categorical", CLASSES)
        prior.compile()
        with pytest.raises(InvalidArgument, match="there is none beside `x`"):
            prior.fit(tf.data.Dataset.from_tensor_slices(GOOD).batch(2), verbose=0)

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("temperature", -0.1),
            ("temperature", float("nan")),
            ("temperature", float("inf")),
            ("top_k", 0),
            ("top_k", K + 1),
            ("top_k", 1.5),
            ("top_p", 0.0),
            ("top_p", 1.1),
            ("top_p", "all"),
        ],
    )
    def test_options_of_a_choice(self, option, value):
        prior = make("categorical")
        for use in (
            lambda: prior.sample(2, **{option: value}),
            lambda: prior.draw(make_seed(0), tf.range(2), **{option: value}),
        ):
            with pytest.raises(InvalidArgument, match=f"`{option}` is {value!r}"):
                use()

    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            ("categorical", {"codebook_size": 0}, "`codebook_size` is 0"),
            ("uniform", {"codebook_size": 2**31}, "expected below 2\\^31"),
            ("categorical", {"num_classes": -1}, "`num_classes` is -1"),
            ("transformer", {"num_heads": 3, "hidden_size": 8}, "expected a multiple.* 9"),
            ("transformer", {"dropout": 1.0}, "`dropout` is 1.0"),
            ("transformer", {"num_layers": 0}, "`num_layers` is 0"),
            ("pixelcnn", {"kernel_size": 4}, "`kernel_size` is 4; expected an odd number"),
            ("pixelcnn", {"kernel_size": 1}, "`kernel_size` is 1; expected an odd number"),
            ("pixelcnn", {"dropout": -0.1}, "`dropout` is -0.1"),
        ],
    )
    def test_constructor_arguments(self, name, options, message):
        with pytest.raises(InvalidArgument, match=message):
            code_priors.get(name, **{"codebook_size": K} | options)

    @pytest.mark.parametrize("shape", [(6,), (2, 2, 2)])
    def test_a_pixelcnn_of_what_is_no_grid(self, shape):
        with pytest.raises(InvalidArgument, match=r"takes grids.*'transformer'"):
            make("pixelcnn", shape=shape)

    @pytest.mark.parametrize("shape", [(None,), (None, None, 3), (None, 0)])
    def test_a_shape_that_is_not_known(self, shape):
        with pytest.raises(InvalidArgument, match="known sizes"):
            code_priors.CategoricalCodePrior(K).build(shape)

    def test_use_before_the_shape_is_known(self):
        prior = code_priors.CategoricalCodePrior(K)
        for use in (
            lambda: prior.sample(2),
            lambda: prior.start(2),
            lambda: prior.draw(make_seed(0), tf.range(2)),
        ):
            with pytest.raises(InvalidArgument, match="does not know the shape"):
                use()

    def test_a_loss_from_outside(self):
        with pytest.raises(InvalidArgument, match="`loss`"):
            make("categorical").compile("adam", loss="mse")

    def test_a_prior_with_nothing_to_learn(self):
        prior = make("uniform")
        prior.compile()
        with pytest.raises(InvalidArgument, match="nothing to learn"):
            prior.fit(GOOD, verbose=0)

    def test_no_draws(self):
        with pytest.raises(InvalidArgument, match="`n` is 0"):
            make("categorical").sample(0)


def test_pixelcnn_has_channels_last_whatever_keras_takes_by_default(rng):
    options = {"num_layers": 1, "num_filters": 4, "num_classes": 3}
    codes = rng.integers(0, 5, (2, 4, 6))
    keras.config.set_image_data_format("channels_first")
    try:
        first = code_priors.PixelCNN(5, **options)
        first.build((None, 4, 6))
    finally:
        keras.config.set_image_data_format("channels_last")
    last = code_priors.PixelCNN(5, **options)
    last.build((None, 4, 6))
    last.set_weights(first.get_weights())
    np.testing.assert_array_equal(first.logits(codes, 1), last.logits(codes, 1))
