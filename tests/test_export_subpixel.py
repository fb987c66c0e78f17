"""Transposed convolutions as exports compute them, beside those of Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfvae
from tfvae import export
from tfvae.errors import ExportError
from tfvae.export.signatures import device_copy
from tfvae.export.subpixel import SubpixelConv2D
from tfvae.ondevice import inspect

pytestmark = pytest.mark.slow  # Converts models.

NARROW, WIDE = 3, 16  # channels computed for all residues at once, and for each by itself


def pair(sizes, **config):
    """Return Keras's layer, and ours with its weights."""
    theirs, ours = keras.layers.Conv2DTranspose(**config), SubpixelConv2D(**config)
    rng = np.random.default_rng(0)
    for layer in (theirs, ours):
        layer.build((None, *sizes, 2))
    ours.set_weights([rng.normal(size=w.shape) for w in theirs.get_weights()])
    theirs.set_weights(ours.get_weights())
    return theirs, ours


@pytest.mark.parametrize("filters", [NARROW, WIDE])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("strides", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4, 5, 7, (3, 4), (5, 2)])
def test_it_computes_what_keras_computes(kernel_size, strides, padding, filters, rng):
    options = {"kernel_size": kernel_size, "strides": strides, "padding": padding}
    for sizes in ((5, 4), (1, 1)):
        theirs, ours = pair(sizes, filters=filters, activation="tanh", **options)
        x = rng.normal(size=(2, *sizes, 2)).astype(np.float32)
        expected, actual = theirs(x), ours(x)
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected, atol=2e-6)


@pytest.mark.parametrize("filters", [NARROW, WIDE])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_graph_for_any_number_of_images_computes_the_same(padding, filters, rng):
    _, ours = pair((5, 4), filters=filters, kernel_size=5, strides=2, padding=padding)
    x = rng.normal(size=(3, 5, 4, 2)).astype(np.float32)
    graph = tf.function(ours, input_signature=[tf.TensorSpec((None, 5, 4, 2))], autograph=False)
    np.testing.assert_allclose(graph(x), ours(x), atol=2e-6)


def test_a_layer_without_bias_has_none(rng):
    theirs, ours = pair((4, 4), filters=WIDE, kernel_size=4, strides=2, use_bias=False)
    x = rng.normal(size=(1, 4, 4, 2)).astype(np.float32)
    np.testing.assert_allclose(ours(x), theirs(x), atol=5e-6)


@pytest.mark.parametrize("activation", ["linear", "relu6", "softmax", "log_softmax"])
@pytest.mark.parametrize("filters", [NARROW, WIDE])
def test_an_activation_sees_the_channels_of_its_own_pixel(filters, activation, rng):
    theirs, ours = pair((4, 4), filters=filters, kernel_size=3, strides=2, activation=activation)
    x = rng.normal(size=(2, 4, 4, 2)).astype(np.float32)
    np.testing.assert_allclose(ours(x), theirs(x), atol=5e-6)


@pytest.mark.parametrize("filters", [NARROW, WIDE])
def test_an_activation_sees_the_whole_image_of_its_own_channel(filters, rng):
    def centred(y):
        return y - tf.reduce_mean(y, axis=(1, 2), keepdims=True)

    theirs, ours = pair((4, 4), filters=filters, kernel_size=5, strides=2, activation=centred)
    x = rng.normal(size=(2, 4, 4, 2)).astype(np.float32)
    np.testing.assert_allclose(ours(x), theirs(x), atol=5e-6)


@pytest.mark.parametrize("filters", [NARROW, WIDE])
def test_another_kernel_gives_other_numbers(filters, rng):
    theirs, ours = pair((4, 4), filters=filters, kernel_size=4, strides=2)
    kernel, bias = theirs.get_weights()
    ours.set_weights([kernel[::-1], bias])
    x = rng.normal(size=(1, 4, 4, 2)).astype(np.float32)
    assert np.max(np.abs(ours(x) - theirs(x))) > 0.1


def test_images_of_any_size_are_left_to_keras():
    layer = SubpixelConv2D(NARROW, 3, strides=2)
    graph = (
        tf.function(layer, autograph=False)
        .get_concrete_function(tf.TensorSpec((None, None, None, 2)))
        .graph
    )
    kinds = {operation.type for operation in graph.get_operations()}
    assert "Conv2DBackpropInput" in kinds
    assert "DepthToSpace" not in kinds


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({}, True),
        ({"strides": (2, 2)}, True),
        ({"strides": (1, 2)}, False),
        ({"dilation_rate": 2, "strides": 1}, False),
        ({"output_padding": 1}, False),
        ({"data_format": "channels_first"}, False),
    ],
)
def test_it_stands_in_for_equal_strides_alone(change, fits):
    layer = keras.layers.Conv2DTranspose(**{"filters": 3, "kernel_size": 3, "strides": 2, **change})
    assert SubpixelConv2D.replaces(layer.get_config()) is fits


def vae(layers=(), **options):
    """Return a VAE whose decoder has a transposed convolution with these options, then layers."""
    layers = [
        keras.Input((2,)),
        keras.layers.Dense(4 * 4 * 2),
        keras.layers.Reshape((4, 4, 2)),
        keras.layers.Conv2DTranspose(1, 3, padding="same", **options),
        *layers,
    ]
    decoder = keras.Sequential(layers)
    return tfvae.VAE(tfvae.networks.dense_encoder(decoder.output_shape[1:], 4, (8,)), decoder)


def test_the_copy_for_a_device_has_the_weights_of_the_model(rng):
    model = vae(strides=2)
    copy = device_copy(model)
    kinds = {type(layer).__name__ for layer in copy._flatten_layers()}
    assert "SubpixelConv2D" in kinds
    assert "Conv2DTranspose" not in kinds
    z = rng.normal(size=(3, 2)).astype(np.float32)
    np.testing.assert_allclose(copy.decode(z), model.decode(z), atol=1e-6)
    assert any(type(layer).__name__ == "Conv2DTranspose" for layer in model._flatten_layers())


def test_an_export_is_compared_with_the_model_and_not_with_the_copy(monkeypatch, tmp_path):
    right = SubpixelConv2D.call
    monkeypatch.setattr(SubpixelConv2D, "call", lambda self, x: right(self, x) + 0.5)
    with pytest.raises(ExportError, match="differs from Keras by"):
        export.litert(vae(strides=2), tmp_path / "a.tflite", signatures=["decode"])
    assert not list(tmp_path.iterdir())


def test_exports_have_no_transposed_convolution_that_can_be_rewritten(tmp_path):
    """Of two layers, the one with unequal strides stays as it is."""
    model = vae(strides=2, layers=[keras.layers.Conv2DTranspose(1, 3, strides=(1, 2))])
    export.litert(model, tmp_path / "decoder.tflite", signatures=["decode"])
    operators = inspect(tmp_path / "decoder.tflite").signatures["decode"].operators
    assert (operators["TRANSPOSE_CONV"], operators["DEPTH_TO_SPACE"]) == (1, 1)
