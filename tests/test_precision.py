"""Copies of models that compute in float32."""

import importlib
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import tfvae
from tfvae.models.precision import HALF, in_float32


def make(policy, prior):
    encoder = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, dtype=policy)])
    decoder = keras.Sequential([keras.Input((2,)), keras.layers.Dense(6, dtype=policy)])
    return tfvae.VAE(encoder, decoder, prior=prior)


@pytest.fixture
def flow():
    return tfvae.priors.get("flow", num_layers=2, hidden=(4,), dtype="float64")


def dtypes(model):
    return {layer.compute_dtype for layer in model._flatten_layers()}


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_copy_computes_in_float32_with_the_same_weights(policy):
    model = make(policy, "standard_normal")
    twin = in_float32(model, HALF)
    assert policy.removeprefix("mixed_") in dtypes(model)
    assert dtypes(twin) == {"float32"}
    for ours, theirs in zip(twin.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    x = np.random.default_rng(0).integers(0, 2, (5, 6)).astype("f4")
    kernel, bias = model.encoder.get_weights()
    np.testing.assert_allclose(twin.encoder(x), x @ kernel + bias, rtol=1e-5)


def test_a_model_in_float32_is_itself():
    model = make("float32", "standard_normal")
    assert in_float32(model) is model


def test_a_flow_in_float64_is_replaced_where_all_are(flow):
    model = make("float32", flow)
    assert "float64" in dtypes(model)
    assert in_float32(model, HALF) is model
    assert dtypes(in_float32(model)) == {"float32"}
    mixed = make("mixed_bfloat16", flow)
    assert dtypes(in_float32(mixed, HALF)) == {"float32", "float64"}


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_call_sees_the_values_that_encode_and_a_training_see(policy):
    """Keras casts what it calls a model on; half precision does not tell 5000 levels apart."""
    keras.config.set_dtype_policy(policy)
    tokens = tfvae.networks.TokenEmbedding(5000, 2)
    encoder = keras.Sequential([keras.Input((1,)), tokens, keras.layers.Flatten()])
    decoder = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model = tfvae.VAE(encoder, decoder, likelihood="bernoulli")
    tokens._table.embeddings.assign(np.random.default_rng(0).normal(size=(5001, 2)))
    x = (np.arange(5000, dtype=np.float32) / 4999)[:, np.newaxis]
    expected = model.decode(model.encode(x))
    np.testing.assert_array_equal(model(x), expected)
    np.testing.assert_array_equal(model.predict(x, batch_size=5000, verbose=0), expected)


def test_the_benchmark_has_medians_and_the_ratio_of_each_round(monkeypatch, capsys):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    precision = importlib.import_module("precision")
    seconds = {
        "float32": iter([0.004, 0.008, 0.006]),
        "mixed_bfloat16": iter([0.002, 0.002, 0.004]),
    }
    monkeypatch.setattr(precision, "measure", lambda recipe, name, options: next(seconds[name]))
    monkeypatch.setattr(sys, "argv", ["precision.py", "vae-digits"])
    precision.main()
    *_, row = capsys.readouterr().out.splitlines()
    assert row == "| `vae-digits` | 6.0 ms | 2.0 ms | 2.00 (1.50 to 4.00) |"


@pytest.mark.slow
@pytest.mark.nightly
def test_the_benchmark_times_a_step(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    precision = importlib.import_module("precision")
    assert 1e-5 < precision.time_step("vae-digits", "mixed_bfloat16", 3, None) < 10
