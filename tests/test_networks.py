import functools
import inspect
import json
import re
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfvae
from tfvae import likelihoods, networks, posteriors, quantizers
from tfvae.errors import InvalidArgument, TfvaeWarning
from tfvae.networks import wiring

# Builders, and how many of their arguments are shapes and sizes; the others are keywords.
NUM_SIZES = {
    "conv_decoder": 4,
    "conv_encoder": 4,
    "dense_decoder": 3,
    "dense_encoder": 3,
    "dense_ladder": 4,
    "residual_decoder": 6,
    "residual_encoder": 6,
    "residual_ladder": 6,
    "transformer_decoder": 6,
    "transformer_encoder": 6,
}
OPTIONS = ["activation", "form", "dropout", "bias", "condition_size", "missing", "features", "name"]


def test_all_builders_are_looked_at_here():
    functions = {name for name in networks.__all__ if inspect.isfunction(getattr(networks, name))}
    ends = ("_encoder", "_decoder", "_ladder")
    assert {name for name in functions if name.endswith(ends)} == set(NUM_SIZES)


@pytest.mark.parametrize("name", NUM_SIZES)
def test_shapes_and_sizes_are_positional_and_options_are_keywords_of_one_order(name):
    parameters = inspect.signature(getattr(networks, name)).parameters.values()
    positional = [p.name for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD]
    assert len(positional) == NUM_SIZES[name]
    keywords = [p.name for p in parameters if p.kind == p.KEYWORD_ONLY]
    assert keywords == [option for option in OPTIONS if option in keywords]
    assert {"dropout", "condition_size"} <= set(keywords)


@pytest.mark.parametrize("x_shape", [(8, 8, 1), (7, 5, 3), (1, 1, 1)])
@pytest.mark.parametrize("encoder", [networks.dense_encoder, networks.conv_encoder])
def test_an_encoder_maps_images_to_parameters(encoder, x_shape, rng):
    network = encoder(x_shape, 6)
    assert network.input_shape == (None, *x_shape)
    assert network.output_shape == (None, 6)
    x = rng.normal(size=(3, *x_shape)).astype(np.float32)
    params = network(x).numpy()
    np.testing.assert_allclose(network(x[:1]), params[:1], rtol=1e-4, atol=1e-5)
    assert np.all(np.ptp(params, axis=0) > 0)


@pytest.mark.parametrize("output_shape", [(8, 8, 1), (7, 5, 3), (13, 28, 2), (1, 1, 1)])
@pytest.mark.parametrize("decoder", [networks.dense_decoder, networks.conv_decoder])
def test_a_decoder_maps_latents_to_the_shape_asked_for(decoder, output_shape, rng):
    network = decoder(4, output_shape)
    assert network.input_shape == (None, 4)
    assert network.output_shape == (None, *output_shape)
    params = network(rng.normal(size=(3, 4)).astype(np.float32)).numpy()
    assert np.all(np.isfinite(params))
    assert np.ptp(params, axis=0).max() > 0


def test_hidden_layers_have_the_widths_asked_for():
    encoder = networks.dense_encoder((4, 4, 1), 6, hidden=(5, 3))
    assert [w.shape for w in encoder.weights[::2]] == [(16, 5), (5, 3), (3, 6)]
    encoder = networks.conv_encoder((8, 8, 1), 6, filters=(3, 4, 5), units=7)
    kernels = [(3, 3, 1, 3), (3, 3, 3, 4), (3, 3, 4, 5), (5, 7), (7, 6)]
    assert [w.shape for w in encoder.weights[::2]] == kernels
    decoder = networks.conv_decoder(2, (8, 8, 1), filters=(3, 4), units=7)
    assert [w.shape[-1] for w in decoder.weights[1::2]] == [7, 2 * 2 * 4, 4, 3, 1]


def _ladder_part(part):
    return lambda **options: networks.dense_ladder(
        (8,), (8,), (3, 2), hidden=9, **options
    )._asdict()[part][0]


WITH_DROPOUT = {
    "dense": lambda **options: networks.dense_decoder(4, (3,), **options),
    "conv": lambda **options: networks.conv_encoder((8, 8, 1), 6, **options),
    "series": lambda **options: networks.conv_decoder(4, (8, 1), **options),
    "residual ladder": lambda **options: (
        networks.residual_ladder((8, 8, 1), 1, (2, 2), (2, 2), filters=8, **options).encoder
    ),
    "dense ladder": lambda **options: networks.dense_ladder((8,), (8,), **options).encoder,
    "dense ladder, q": _ladder_part("inference"),
    "dense ladder, p": _ladder_part("generation"),
    "dense ladder, x": _ladder_part("top_down"),
    "residual": lambda **options: networks.residual_encoder((8, 8, 1), 3, 8, **options),
    "residual, series": lambda **options: networks.residual_decoder((4, 3), 2, 8, **options),
    "transformer": lambda **options: networks.transformer_encoder(
        (6, 2), 4, hidden_size=8, **options
    ),
    "transformer, x": lambda **options: networks.transformer_decoder(3, (6, 2), **options),
}


@pytest.fixture
def channels_first():
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format("channels_last")


ON_GRIDS = {
    **WITH_DROPOUT,
    "conv, x": lambda **options: networks.conv_decoder(4, (7, 5, 3), **options),
    "residual, x": lambda **options: networks.residual_decoder((4, 4, 3), 2, 8, **options),
    "residual ladder, x": lambda **options: networks.residual_ladder(
        (8, 8, 1), 1, (2, 2), (2, 2), filters=8, **options
    ).top_down[0],
}


@functools.cache
def with_dropout(kind):
    """Return a network for tests that change nothing but its weights."""
    return ON_GRIDS[kind](dropout=0.5)


@pytest.mark.parametrize("kind", ON_GRIDS)
def test_channels_are_last_whatever_keras_takes_by_default(kind, channels_first, rng):
    first = ON_GRIDS[kind](dropout=0.5)
    keras.config.set_image_data_format("channels_last")
    last = with_dropout(kind)
    first.set_weights(last.get_weights())
    x = [rng.normal(size=(5, *each.shape[1:])).astype(np.float32) for each in last.inputs]
    x = x[0] if len(x) == 1 else x
    for expected, found in zip(*map(keras.tree.flatten, (last(x), first(x))), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", WITH_DROPOUT)
def test_dropout_changes_training_alone(kind, rng):
    without, network = WITH_DROPOUT[kind](), with_dropout(kind)
    weights = [rng.normal(size=weight.shape) for weight in network.weights]
    without.set_weights(weights)
    network.set_weights(weights)
    x = [rng.normal(size=(5, *each.shape[1:])).astype(np.float32) for each in network.inputs]
    x = x[0] if len(x) == 1 else x
    expected_outputs, found_outputs = map(keras.tree.flatten, (without(x), network(x)))
    for expected, found in zip(expected_outputs, found_outputs, strict=True):
        np.testing.assert_array_equal(expected, found)
    trained = [keras.tree.flatten(network(x, training=True)) for _ in range(2)]
    for expected, one, other in zip(expected_outputs, *trained, strict=True):
        assert np.abs(one - expected).max() > 0.1
        assert np.abs(one - other).max() > 0.1


@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_latents_may_have_a_shape(kind, rng):
    encoder = getattr(networks, f"{kind}_encoder")((8, 8, 1), (3, 2))
    assert encoder.output_shape == (None, 3, 2)
    decoder = getattr(networks, f"{kind}_decoder")((3, 2), (8, 8, 1))
    assert decoder.input_shape == (None, 3, 2)
    assert decoder.output_shape == (None, 8, 8, 1)
    flat = getattr(networks, f"{kind}_decoder")(6, (8, 8, 1))
    flat.set_weights(decoder.get_weights())
    z = rng.normal(size=(4, 3, 2)).astype(np.float32)
    np.testing.assert_array_equal(decoder(z), flat(z.reshape(4, 6)))


def test_without_hidden_layers_the_networks_are_affine(rng):
    encoder = networks.dense_encoder((2, 3, 1), 4, hidden=())
    kernel, bias = encoder.get_weights()
    x = rng.normal(size=(5, 2, 3, 1)).astype(np.float32)
    np.testing.assert_allclose(encoder(x), x.reshape(5, 6) @ kernel + bias, rtol=1e-5)
    decoder = networks.dense_decoder(4, (2, 3, 1), hidden=())
    assert [w.shape for w in decoder.weights] == [(4, 6), (6,)]


class TestConditional:
    """From a value with any leading axes to a distribution with those axes as its batch."""

    factory = posteriors.get("bernoulli")

    @pytest.mark.parametrize("leading", [(), (5,), (2, 5), (2, 3, 5)])
    @pytest.mark.parametrize("shape", [(3,), (3, 2)])
    def test_leading_axes_are_the_batch(self, leading, shape, rng):
        network = networks.dense_encoder(shape, 4)
        value = rng.normal(size=(*leading, *shape)).astype(np.float32)
        given = wiring.conditional(network, self.factory, shape)(tf.constant(value))
        assert given.batch_shape == leading
        expected = network(value.reshape(-1, *shape)).numpy().reshape(*leading, 4)
        np.testing.assert_allclose(given.logits, expected, rtol=1e-5, atol=1e-6)

    def test_connect_returns_the_shape_of_what_is_described(self):
        factory = posteriors.get("diagonal_normal")
        assert wiring.connect(networks.dense_encoder((3,), 8), (3,), factory, "encoder") == (4,)
        with pytest.raises(InvalidArgument, match=r"decoder takes inputs of shape \(3,\).*\(2,\)"):
            wiring.connect(networks.dense_encoder((3,), 8), (2,), factory, "decoder")


@pytest.mark.parametrize("bias", [np.zeros((8, 8, 1)), np.zeros(3)], ids=len)
def test_a_bias_of_another_size_is_refused(bias):
    with pytest.raises(InvalidArgument, match=r"bias` has \d+ numbers.*1.*per_channel=True"):
        networks.conv_decoder(2, (8, 8, 1), (4,), 4, bias=bias)


DENSE = keras.layers.Dense


def ends_in(*layers):
    """Return a network of three numbers that ends in these layers."""
    return keras.Sequential([keras.Input((3,)), DENSE(5, "relu"), *layers])


def joined(*activations, size=4, after=()):
    """Return a network whose output is joined from one layer for each activation."""
    inputs = keras.Input((3,))
    outputs = keras.layers.Concatenate()([DENSE(size, a)(inputs) for a in activations])
    for layer in after:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


class TestEndings:
    """A decoder that ends in a sigmoid, where logits are expected, and the like."""

    @pytest.mark.parametrize(
        ("likelihood", "network", "expected"),
        [
            ("bernoulli", lambda: ends_in(DENSE(4, "sigmoid")), "'sigmoid'.*logits of Bernoulli"),
            (
                "bernoulli",
                lambda: ends_in(DENSE(4, "tanh"), keras.layers.Reshape((2, 2, 1))),
                "'tanh'",
            ),
            (
                "bernoulli",
                lambda: ends_in(DENSE(4), keras.layers.Activation("hard_sigmoid")),
                "hard_sigm",
            ),
            (
                "bernoulli",
                lambda: ends_in(DENSE(4), keras.layers.ReLU(), keras.layers.Flatten()),
                "'ReLU'",
            ),
            (
                "bernoulli",
                lambda: ends_in(DENSE(4, "elu"), keras.layers.Activation("linear")),
                "'elu'",
            ),
            ("bernoulli", lambda: ends_in(DENSE(3), ends_in(DENSE(4, "sigmoid"))), "'sigmoid'"),
            ("bernoulli", lambda: joined(None, "sigmoid", size=2), "'sigmoid'"),
            (
                "categorical",
                lambda: ends_in(DENSE(512, "softmax")),
                "'softmax'.*logits of Categorical",
            ),
            ("discretized_logistic_mixture", lambda: ends_in(DENSE(15, "sigmoid")), "log-scales"),
            ("bernoulli", lambda: ends_in(DENSE(4)), None),
            ("bernoulli", lambda: ends_in(DENSE(4, "sigmoid"), DENSE(4)), None),
            (
                "bernoulli",
                lambda: ends_in(DENSE(4, "sigmoid"), keras.layers.BatchNormalization()),
                None,
            ),
            ("bernoulli", lambda: ends_in(DENSE(4, "leaky_relu")), None),
            ("bernoulli", lambda: ends_in(DENSE(4), keras.layers.ReLU(negative_slope=0.1)), None),
            ("normal", lambda: ends_in(DENSE(4, "sigmoid")), None),
            (
                likelihoods.Normal("learned"),
                lambda: ends_in(DENSE(4, "sigmoid")),
                "raw scale of Normal",
            ),
            (likelihoods.Normal("learned"), lambda: joined("sigmoid", None), None),
            (
                likelihoods.Normal("learned"),
                lambda: joined("sigmoid", "softplus"),
                "'softplus'.*raw scal",
            ),
        ],
    )
    def test_a_decoder(self, likelihood, network, expected):
        self.check(likelihoods.get(likelihood), network(), "decoder", expected)

    @pytest.mark.parametrize(
        ("posterior", "network", "expected"),
        [
            (
                "diagonal_normal",
                lambda: ends_in(DENSE(4, "softplus")),
                "'softplus'.*raw scale of Diagonal",
            ),
            ("diagonal_normal", lambda: joined(None, "softplus"), "'softplus'"),
            ("diagonal_normal", lambda: joined(None, "exponential"), "'exponential'"),
            ("diagonal_normal", lambda: joined(None, keras.ops.exp), "'exp'"),
            ("diagonal_normal", lambda: joined("tanh", None), None),
            ("diagonal_normal", lambda: joined(None, None), None),
            ("bernoulli", lambda: ends_in(DENSE(4, "sigmoid")), "logits of IndependentBernoulli"),
            (
                "categorical",
                lambda: ends_in(DENSE(4, "softmax")),
                "logits of IndependentCategorical",
            ),
        ],
    )
    def test_an_encoder(self, posterior, network, expected):
        self.check(posteriors.get(posterior), network(), "encoder", expected)

    def test_parts_that_were_moved_are_not_known(self):
        """After joining means and scales, a Reshape that mixes them."""
        network = joined("tanh", None, after=[keras.layers.Reshape((4, 2))])
        self.check(posteriors.get("diagonal_normal"), network, "encoder", None)

    def test_an_operator_of_keras(self):
        inputs = keras.Input((3,))
        network = keras.Model(inputs, keras.ops.sigmoid(DENSE(4)(inputs)))
        self.check(likelihoods.Bernoulli(), network, "decoder", "'Sigmoid'")

    def test_a_network_without_a_shape_and_one_of_unknown_inside(self):
        class Own(keras.Model):
            def call(self, x):
                return keras.ops.sigmoid(x)

            def compute_output_shape(self, input_shape):
                return input_shape

        self.check(likelihoods.Bernoulli(), Own(), "decoder", None)
        unbuilt = keras.Sequential([DENSE(4, "sigmoid")])
        self.check(likelihoods.Bernoulli(), unbuilt, "decoder", "'sigmoid'")

    @staticmethod
    def check(factory, network, role, expected):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            wiring.connect(network, (3,), factory, role)
        messages = [str(w.message) for w in caught if issubclass(w.category, TfvaeWarning)]
        assert len(messages) == (expected is not None), messages
        if expected:
            assert re.search(f"The {role} ends in .*{expected}.*activation=None", messages[0])

    @pytest.mark.parametrize("kind", ["VAE", "HierarchicalVAE", "VQVAE"])
    def test_a_model_warns_when_it_is_made(self, kind):
        """The decoder of the VAE in Keras's own examples."""
        encoder = networks.dense_encoder((4, 4, 1), (1, 2) if kind == "VQVAE" else 4, hidden=())
        latents = (1, 2) if kind == "VQVAE" else (2,)
        decoder = keras.Sequential(
            [
                keras.Input(latents),
                keras.layers.Flatten(),
                DENSE(4 * 4 * 8, "relu"),
                keras.layers.Reshape((4, 4, 8)),
                keras.layers.Conv2DTranspose(1, 3, activation="sigmoid", padding="same"),
            ]
        )
        parts = {
            "VAE": lambda: (encoder, decoder),
            "VQVAE": lambda: (encoder, quantizers.VectorQuantizer(4, 2), decoder),
            "HierarchicalVAE": lambda: (
                [encoder, networks.dense_encoder((2,), 4, hidden=())],
                [decoder, networks.dense_decoder(2, (4,), hidden=())],
            ),
        }[kind]()
        with pytest.warns(TfvaeWarning, match=r"'sigmoid' \(layer 'conv2d_transpose.*logits"):
            getattr(tfvae, kind)(*parts, likelihood="bernoulli")


def test_the_outputs_of_an_encoder_are_joined_by_the_line_in_the_message():
    """The encoder of the VAE in Keras's own examples, whose third output is a drawn z."""
    inputs = keras.Input((4,))
    mean, log_var = DENSE(2)(inputs), DENSE(2)(inputs)
    encoder = keras.Model(inputs, [mean, log_var, keras.layers.Add()([mean, log_var])])
    factory = posteriors.get("diagonal_normal")
    with pytest.raises(InvalidArgument, match=r"has several outputs.*exp_half") as caught:
        wiring.connect(encoder, (4,), factory, "encoder")
    line = re.search(r"makes one: (.*?\))\. ", str(caught.value))[1]
    names = {"encoder": encoder, "keras": keras}
    exec(line, names)
    assert wiring.connect(names["encoder"], (4,), factory, "encoder") == (2,)


def test_logit_bias_is_the_logit_of_the_clipped_mean():
    x = np.array([[0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 1]], np.float32)
    expected = np.log([0.001 / 0.999, 0.25 / 0.75, 0.5 / 0.5, 0.999 / 0.001])
    bias = networks.logit_bias(x.reshape(4, 2, 2, 1))
    assert bias.dtype == np.float32
    np.testing.assert_allclose(bias, expected.reshape(2, 2, 1), rtol=1e-5, atol=1e-6)


def test_logit_bias_of_a_channel_is_that_of_its_mean():
    x = np.stack([np.full((5, 2, 2), 0.25), np.full((5, 2, 2), 0.5)], axis=-1)
    bias = networks.logit_bias(x, per_channel=True)
    np.testing.assert_allclose(bias, [-np.log(3), 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("decoder", "bias_shape"),
    [(networks.dense_decoder, (4, 4, 2)), (networks.conv_decoder, (2,))],
)
def test_an_untrained_decoder_starts_from_its_bias(decoder, bias_shape, rng):
    bias = rng.normal(size=bias_shape).astype(np.float32)
    network = decoder(3, (4, 4, 2), bias=bias)
    layer = network.get_layer("params")
    layer.kernel.assign(np.zeros(layer.kernel.shape))
    expected = np.broadcast_to(bias, (2, 4, 4, 2))
    np.testing.assert_allclose(network(np.ones((2, 3))), expected, rtol=1e-6)


def test_a_bias_is_saved_with_the_weights_and_not_in_the_config(tmp_path, rng):
    bias = rng.normal(size=(16, 16, 1))
    network = networks.dense_decoder(3, (16, 16, 1), hidden=(4,), bias=bias)
    assert (
        len(str(network.get_config()))
        < len(str(networks.dense_decoder(3, (16, 16, 1), hidden=(4,)).get_config())) + 200
    )
    network.save(tmp_path / "decoder.keras")
    restored = keras.saving.load_model(tmp_path / "decoder.keras")
    z = rng.normal(size=(2, 3)).astype(np.float32)
    np.testing.assert_array_equal(restored(z), network(z))


class TestResidual:
    @pytest.mark.parametrize(
        ("halvings", "x_shape"), [(0, (5, 6, 1)), (1, (6, 4, 3)), (3, (16, 8, 1))]
    )
    def test_from_images_to_a_grid_and_back(self, halvings, x_shape, rng):
        height, width, _ = x_shape
        grid = height // 2**halvings, width // 2**halvings
        options = {"filters": 8, "num_blocks": 1, "block_filters": 4}
        encoder = networks.residual_encoder(x_shape, 5, num_downsamplings=halvings, **options)
        decoder = networks.residual_decoder((*grid, 5), 2, num_upsamplings=halvings, **options)
        assert (encoder.input_shape, encoder.output_shape) == ((None, *x_shape), (None, *grid, 5))
        assert decoder.output_shape == (None, height, width, 2)
        x = rng.normal(size=(3, *x_shape)).astype(np.float32)
        z = encoder(x)
        assert np.all(np.ptp(z, axis=0) > 0)
        assert np.all(np.isfinite(decoder(z)))

    @pytest.mark.parametrize(("halvings", "condition_size"), [(0, 0), (1, 3), (3, 0)])
    def test_from_series_to_a_line_and_back(self, halvings, condition_size, rng):
        options = {"filters": 8, "num_blocks": 1, "block_filters": 4}
        options["condition_size"] = condition_size
        encoder = networks.residual_encoder((24, 2), 5, num_downsamplings=halvings, **options)
        line = 24 // 2**halvings
        decoder = networks.residual_decoder((line, 5), 4, num_upsamplings=halvings, **options)
        y = [rng.normal(size=(3, condition_size)).astype(np.float32)] if condition_size else []
        x = rng.normal(size=(3, 24, 2)).astype(np.float32)
        z = np.asarray(encoder([x, *y] if y else x))
        assert z.shape == (3, line, 5)
        back = decoder([z, *y] if y else z)
        assert back.shape == (3, 24, 4)
        assert np.all(np.isfinite(back))
        if y:
            assert np.abs(encoder([x, 1.0 - y[0]]) - z).max() > 1e-3

    def test_series_that_cannot_be_halved_are_refused(self):
        with pytest.raises(InvalidArgument, match="Series of 6 cannot be halved 2 times"):
            networks.residual_encoder((6, 1), 2)

    def test_the_defaults_are_the_network_of_the_authors(self):
        """Kernels of Sonnet's vqvae_example, in its order, for CIFAR-10 and 64 numbers a vector."""
        block = [(3, 3, 128, 32), (1, 1, 32, 128)]
        down = [(4, 4, 3, 64), (4, 4, 64, 128), (3, 3, 128, 128)]
        encoder = networks.residual_encoder((32, 32, 3), 64)
        assert kernels(encoder) == [*down, *block, *block, (1, 1, 128, 64)]
        decoder = networks.residual_decoder((8, 8, 64), 3)
        up = [(4, 4, 64, 128), (4, 4, 3, 64)]  # a transposed kernel has its outputs first
        assert kernels(decoder) == [(3, 3, 64, 128), *block, *block, *up]

    def test_it_computes_what_it_says(self, rng):
        """The same by NumPy: 1×1 images, on which a 3×3 kernel is its middle."""
        encoder = networks.residual_encoder(
            (1, 1, 3), 2, filters=4, num_downsamplings=0, num_blocks=2, block_filters=3
        )
        encoder.set_weights([rng.normal(size=w.shape) for w in encoder.weights])
        weights = [w.numpy().astype(np.float64) for w in encoder.weights]
        pairs = [
            (kernel[kernel.shape[0] // 2, kernel.shape[1] // 2], bias)
            for kernel, bias in zip(weights[::2], weights[1::2], strict=True)
        ]

        def layer(h):
            kernel, bias = pairs.pop(0)
            return h @ kernel + bias

        x = rng.normal(size=(5, 1, 1, 3)).astype(np.float32)
        h = np.maximum(layer(x), 0)
        for _ in range(2):
            h = h + layer(np.maximum(layer(np.maximum(h, 0)), 0))
        np.testing.assert_allclose(encoder(x), layer(np.maximum(h, 0)), rtol=1e-4, atol=1e-5)

    def test_it_may_end_in_features(self):
        encoder = networks.residual_encoder((8, 8, 1), None, filters=8, num_downsamplings=1)
        assert encoder.output_shape == (None, 4, 4, 8)
        assert np.min(encoder(np.random.default_rng(0).normal(size=(2, 8, 8, 1)))) == 0

    @pytest.mark.parametrize("x_shape", [(6, 8, 1), (8, 6, 1)])
    def test_sizes_that_cannot_be_halved_are_refused(self, x_shape):
        with pytest.raises(InvalidArgument, match=r"cannot be halved 2 times.*that 4 divides"):
            networks.residual_encoder(x_shape, 2)

    @pytest.mark.parametrize("upsamplings", [0, 1, 2])
    def test_an_untrained_decoder_starts_from_its_bias(self, upsamplings):
        decoder = networks.residual_decoder(
            (2, 2, 3), 2, filters=4, num_upsamplings=upsamplings, bias=[0.5, -1.0]
        )
        layer = decoder.get_layer("params")
        layer.kernel.assign(np.zeros(layer.kernel.shape))
        size = 2 * 2**upsamplings
        expected = np.broadcast_to([0.5, -1.0], (1, size, size, 2))
        np.testing.assert_allclose(decoder(np.ones((1, 2, 2, 3))), expected, rtol=1e-6)


def kernels(network):
    return [w.shape for w in network.weights if w.path.endswith("kernel")]


def test_features_of_columns():
    layer = networks.ColumnFeatures(["number", "number", "count", 3, 3, "number"])
    x = np.array([[0.5, -1, 7, 0.5, 1, 2], [np.nan, 1, np.nan, np.nan, 0, 0]], np.float32)
    expected = [
        [0.5, -1, np.log(8), 0, 1, 0, 0, 0, 1, 2],
        [0, 1, 0, 0, 0, 0, 1, 0, 0, 0],
    ]
    np.testing.assert_allclose(layer(x), expected, rtol=1e-6)
    assert layer.compute_output_shape((None, 6)) == (None, 10)
    masked = networks.ColumnFeatures(layer.features, append_mask=True)
    np.testing.assert_array_equal(masked(x)[:, 10:], ~np.isnan(x))
    assert masked.compute_output_shape((None, 6)) == (None, 16)
    again = networks.ColumnFeatures.from_config(layer.get_config())
    np.testing.assert_array_equal(again(x[:1]), layer(x[:1]))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_features_of_columns_in_half_precision(policy):
    """Levels of many categories and large counts are read before they are rounded."""
    layer = networks.ColumnFeatures([1000, "count"], dtype=policy)
    x = np.stack([np.arange(1000) / 999, np.full(1000, 1e6)], axis=1).astype(np.float32)
    features = layer(x)
    assert features.dtype == layer.compute_dtype
    np.testing.assert_array_equal(np.argmax(features[:, :1000], axis=1), np.arange(1000))
    np.testing.assert_array_equal(np.sum(features[:, :1000].numpy().astype("f4"), axis=1), 1)
    np.testing.assert_allclose(features[:, 1000].numpy().astype("f4"), np.log(1e6), rtol=4e-3)


def test_features_of_columns_are_checked():
    layer = networks.ColumnFeatures(np.array([2, 3]))
    assert layer.compute_output_shape((None, 2)) == (None, 5)
    json.dumps(layer.get_config())
    for wrong in ("ordinal", 0, 2.0, True, None):
        with pytest.raises(InvalidArgument, match=r"expected 'number', 'count' or"):
            networks.ColumnFeatures(["number", wrong])
