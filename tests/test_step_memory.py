"""The memory of a step: what is refused, on which machine, and for numbers of which width."""

import contextlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfvae
from tfvae._plain import memory
from tfvae.errors import InvalidArgument
from tfvae.models import step_memory


@pytest.mark.parametrize(
    ("num_samples", "batch_size", "message"),
    [
        (1, 10**6, r"examples in a batch.*\(batch_size\)"),
        (10**6, 2, r"samples for each of 2 examples.*\(num_samples\)"),
    ],
)
def test_what_is_too_large_is_said(make_vae, monkeypatch, num_samples, batch_size, message):
    model = make_vae()
    monkeypatch.setenv(memory.VARIABLE, "100kB")
    with pytest.raises(InvalidArgument, match=message):
        step_memory.check(model, num_samples, batch_size)


@pytest.mark.parametrize(("policy", "itemsize"), [("float32", 4), ("mixed_bfloat16", 2)])
def test_the_numbers_of_the_decoder_have_the_width_of_its_policy(monkeypatch, policy, itemsize):
    keras.config.set_dtype_policy(policy)
    encoder = tfvae.networks.dense_encoder((3,), 4, hidden=())
    decoder = tfvae.networks.dense_decoder(2, (3,), hidden=(1000,))
    model = tfvae.VAE(encoder, decoder)
    monkeypatch.setenv(memory.VARIABLE, "1MB")
    with pytest.raises(InvalidArgument, match="Use at most") as raised:
        step_memory.check(model, 1, 10**6)
    most = int(re.search(r"at most ([\d,]+)", str(raised.value))[1].replace(",", ""))
    hidden = 2 * 1000 * itemsize  # and its gradient; the rest is less than 4% of it
    assert 0.96 * 1e6 / hidden < most < 1e6 / hidden


@pytest.mark.parametrize(
    ("batches", "options", "size"),
    [
        (lambda x: x, {}, 32),
        (lambda x: x, {"batch_size": 50}, 50),
        (lambda x: x[:5], {"batch_size": 50}, 5),
        (lambda x: tf.data.Dataset.from_tensor_slices(x).batch(7), {}, 7),
    ],
)
def test_fit_refuses_more_samples_than_memory_holds(make_vae, monkeypatch, batches, options, size):
    model = make_vae()
    model.compile("adam", objective="iwae", num_samples=1000)
    monkeypatch.setenv(memory.VARIABLE, "500kB")
    data = batches(np.zeros((60, 4, 4, 1), "float32"))
    message = f"1,000 samples for each of {size} examples would .* at most"
    with pytest.raises(InvalidArgument, match=message):
        model.fit(data, **options)
    assert model.steps_made == 0


@pytest.mark.parametrize(("kind", "is_refused"), [("CPU", True), ("GPU", False)])
def test_the_memory_of_the_machine_is_no_limit_of_a_gpu(make_vae, monkeypatch, kind, is_refused):
    """Unless the user sets one."""
    model = make_vae()
    model.compile("adam")
    devices = [f"/device:{kind}:0"]
    monkeypatch.setattr(
        tf.config, "list_logical_devices", lambda asked: devices if asked == kind else []
    )
    monkeypatch.delenv(memory.VARIABLE, raising=False)
    monkeypatch.setattr(memory, "available", lambda: 1000)
    message = "32 examples in a batch, .* 1.0 kB can be had"
    with pytest.raises(InvalidArgument, match=message) if is_refused else contextlib.nullcontext():
        model.check_step(32)
    monkeypatch.setenv(memory.VARIABLE, "1kB")
    with pytest.raises(InvalidArgument, match=message):
        model.check_step(32)
