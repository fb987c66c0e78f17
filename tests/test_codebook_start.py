"""Codebooks that start from the data: at its centres, from all of it, once."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_vqvae import D, K, fit, make, measure

from tfvae import quantizers
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.quantizers import VectorQuantizer

pytestmark = pytest.mark.slow  # Compiles graphs of whole models.


@pytest.mark.parametrize("dataset", [False, True], ids=["array", "dataset"])
def test_it_starts_at_the_centres_of_the_encoder_s_vectors(images, dataset):
    """With as many different vectors as codes, the centres are these vectors."""
    model = make(quantizer=VectorQuantizer(2, D, initializer="kmeans"))
    x = np.repeat(np.stack([np.zeros((4, 4, 1)), np.ones((4, 4, 1))]), 5, axis=0).astype("f4")
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    assert model.quantizer.needs_data
    if dataset:
        fit(
            model,
            tf.data.Dataset.from_tensor_slices((x, np.arange(10))).batch(3),
            batch_size=None,
        )
    else:
        fit(model, x)
    vectors = model.encoder(x[[0, -1]]).numpy()[:, 0, 0]
    table = model.quantizer.table.numpy()
    order = np.argsort(table[:, 0])
    np.testing.assert_allclose(table[order], vectors[np.argsort(vectors[:, 0])], atol=1e-5)
    assert measure(model, x)["quantization"] < 1e-8


def test_it_happens_once(images, tmp_path):
    model = make(quantizer="vq k-means")
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    fit(model, images)
    table = np.arange(K * D).reshape(K, D)
    assert not np.array_equal(model.quantizer.table, table)
    model.quantizer.table.assign(table)
    model.save(tmp_path / "model.keras")
    for same in (model, keras.saving.load_model(tmp_path / "model.keras"), model.copy()):
        assert not same.quantizer.needs_data
        same.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
        fit(same, images)
        np.testing.assert_array_equal(same.quantizer.table, table)


@pytest.mark.parametrize("wrapper", ["residual", "product"])
def test_quantizers_of_several_start_all_of_them(images, wrapper):
    part = VectorQuantizer(2, D if wrapper == "residual" else 1, initializer="kmeans")
    model = make(
        quantizer=quantizers.get(
            wrapper,
            quantizer=part,
            **{"residual": {"num_quantizers": 2}, "product": {"num_heads": D}}[wrapper],
        )
    )
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    before = measure(model, images)["quantization"]
    fit(model, images)
    assert not any(part.needs_data for part in model.quantizer.parts)
    assert measure(model, images)["quantization"] < 0.5 * before


def test_examples_come_from_all_over_an_array(images, monkeypatch):
    """Sorted data: the first examples alone would give centres for one kind."""
    monkeypatch.setattr("tfvae.models.codebook_start._VECTORS", 16)
    model = make(quantizer=VectorQuantizer(2, D, initializer="kmeans"))
    x = np.repeat(np.stack([np.zeros((4, 4, 1)), np.ones((4, 4, 1))]), [7, 3], axis=0)
    x = x.astype(np.float32)
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    fit(model, x, batch_size=10)
    assert measure(model, x)["quantization"] < 1e-8


def test_a_first_step_by_itself_starts_it_too(images):
    model, other = (make(quantizer=VectorQuantizer(2, D, initializer="kmeans")) for _ in "12")
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    assert model.test_on_batch(images)[0] > 0
    assert model.quantizer.needs_data
    model.train_on_batch(images)
    assert not model.quantizer.needs_data
    other.quantizer.initialize(other.encoder(images))
    np.testing.assert_array_equal(model.quantizer.table, other.quantizer.table)


def test_what_a_loop_of_one_s_own_has_trained_is_not_started_anew(images):
    model = make(quantizer=VectorQuantizer(2, D, initializer="kmeans"))
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    before = model.quantizer.table.numpy()
    model.train_step(tf.constant(images))
    fit(model, images)
    np.testing.assert_array_equal(model.quantizer.table, before)


def test_too_little_data_is_refused(images):
    model = make(quantizer=VectorQuantizer(30, D, initializer="kmeans"))
    model.compile(run_eagerly=True)
    with pytest.raises(InvalidData, match="num_embeddings = 30"):
        model.fit(images, verbose=0)


def test_data_that_can_be_read_only_once_is_refused(images):
    model = make(quantizer="vq k-means")
    model.compile(run_eagerly=True)
    with pytest.raises(InvalidArgument, match="got a generator; expected an array"):
        model.fit((images for _ in range(3)), verbose=0)
