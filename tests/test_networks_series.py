"""Networks of series and of tokens: shapes, padding, training, and operators of LiteRT."""

import keras
import numpy as np
import pytest
from tiers import nightly_but

import tfvae
from tfvae import likelihoods, networks
from tfvae.errors import InvalidArgument
from tfvae.ondevice import Decoder

pytestmark = pytest.mark.slow  # Compiles graphs of whole models.

NUM_TOKENS = 5
SMALL = {"hidden_size": 8, "num_layers": 1, "num_heads": 2}


def of_series(kind, missing=False, shape=(11, 3), condition_size=0):
    """Return an encoder and a decoder of series, two latents."""
    options = {"condition_size": condition_size}
    if kind == "conv":
        return (
            networks.conv_encoder(shape, 4, (4, 6), 8, missing=missing, **options),
            networks.conv_decoder(2, shape, (4, 6), 8, **options),
        )
    return (
        networks.transformer_encoder(shape, 4, missing=missing, **SMALL, **options),
        networks.transformer_decoder(2, shape, **SMALL, **options),
    )


@pytest.mark.parametrize("kind", ["conv", "transformer"])
@pytest.mark.parametrize("shape", [(11, 3), (1, 1), (8, 2)])
def test_series_have_networks_of_every_length(kind, shape, rng):
    encoder, decoder = of_series(kind, shape=shape)
    assert encoder.output_shape == (None, 4)
    assert decoder.output_shape == (None, *shape)
    x = rng.normal(size=(3, *shape)).astype(np.float32)
    assert np.all(np.ptp(encoder(x), axis=0) > 0)
    z = rng.normal(size=(3, 2)).astype(np.float32)
    assert np.all(np.isfinite(decoder(z)))
    assert np.ptp(decoder(z), axis=0).max() > 0


@pytest.mark.parametrize("kind", nightly_but(["conv", "transformer"], "conv"))
def test_series_train_save_and_run_on_litert(kind, rng, tmp_path):
    t = np.linspace(0, 6, 11)
    phase = rng.uniform(0, 6, (16, 1, 1))
    x = np.sin(t[:, np.newaxis] + phase + np.arange(3)).astype(np.float32)
    model = tfvae.VAE(*of_series(kind), likelihood=likelihoods.Normal("shared"))
    model.compile(tfvae.optimizers.Adam(1e-2), run_eagerly=True)
    losses = model.fit(x, epochs=4, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.encode(x), model.encode(x))
    tfvae.export.litert(model, tmp_path / "series.tflite", x=x, signatures=["encode", "decode"])
    decoder = Decoder.from_file(tmp_path / "series.tflite")
    z = rng.normal(size=(3, 2)).astype(np.float32)
    np.testing.assert_allclose(decoder.decode(z), model.decode(z), rtol=1e-4, atol=1e-5)


@pytest.mark.nightly
def test_tokens_train_and_run_on_litert(rng, tmp_path):
    start = rng.integers(0, NUM_TOKENS, (64, 1))
    tokens = (start + np.arange(6)) % NUM_TOKENS
    x = (tokens / (NUM_TOKENS - 1)).astype(np.float32)
    likelihood = likelihoods.Categorical(NUM_TOKENS)
    model = tfvae.VAE(
        networks.transformer_encoder((6,), 4, NUM_TOKENS, **SMALL),
        networks.transformer_decoder(2, (likelihood.params_size(6),), 6, **SMALL),
        likelihood=likelihood,
    )
    model.compile(tfvae.optimizers.Adam(1e-2), steps_per_execution=4)
    losses = model.fit(x, epochs=8, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    # The parameters of step t are those of the token at step t.
    z = rng.normal(size=(1, 2)).astype(np.float32)
    logits = np.reshape(model.x_parameters(z), (6, NUM_TOKENS))
    p = np.exp(logits - logits.max(-1, keepdims=True))
    mean = (p / p.sum(-1, keepdims=True)) @ np.arange(NUM_TOKENS) / (NUM_TOKENS - 1)
    np.testing.assert_allclose(model.decode(z)[0], mean, rtol=1e-5)
    tfvae.export.litert(model, tmp_path / "tokens.tflite", x=x, signatures=["encode", "decode"])
    decoder = Decoder.from_file(tmp_path / "tokens.tflite")
    np.testing.assert_allclose(decoder.decode(z), model.decode(z), rtol=1e-4, atol=1e-5)


class TestPadding:
    def test_what_is_padded_is_seen_by_none(self, rng):
        """A series is encoded as it would be by a network of its own length."""
        x = rng.normal(size=(2, 7, 3)).astype(np.float32)
        padded = np.concatenate([x, np.full((2, 4, 3), np.nan, np.float32)], 1)
        short, _ = of_series("transformer", missing=True, shape=(7, 3))
        long, _ = of_series("transformer", missing=True, shape=(11, 3))
        weights = [
            w[: s.shape[0]] if w.shape != s.shape else w
            for w, s in zip(long.get_weights(), short.get_weights(), strict=True)
        ]
        short.set_weights(weights)
        np.testing.assert_allclose(long(padded), short(x), rtol=1e-4, atol=1e-5)

    def test_a_missing_token_is_none_of_the_others(self, rng):
        encoder = networks.transformer_encoder((4,), 4, NUM_TOKENS, missing=True, **SMALL)
        x = np.array([[0.0, 0.25, 1.0, np.nan]], np.float32)
        others = np.repeat(x, NUM_TOKENS, 0)
        others[:, 3] = np.arange(NUM_TOKENS) / (NUM_TOKENS - 1)
        assert np.all(np.abs(encoder(others) - encoder(x)).max(-1) > 1e-4)

    @pytest.mark.nightly
    def test_series_of_different_lengths_train(self, rng, tmp_path):
        x = rng.normal(size=(32, 11, 3)).astype(np.float32)
        lengths = rng.integers(1, 12, 32)
        x[np.arange(11) >= lengths[:, np.newaxis]] = np.nan
        model = tfvae.VAE(*of_series("transformer", missing=True), likelihood="observed")
        model.compile("adam")
        assert np.isfinite(model.train_on_batch(x)[0])
        assert all(np.all(np.isfinite(w)) for w in model.get_weights())
        tfvae.export.litert(model, tmp_path / "series.tflite", x=x[:4], signatures=["encode"])
        decoder = Decoder.from_file(tmp_path / "series.tflite")
        mean = decoder.run("encode", image=x[:4])["mean"]
        np.testing.assert_allclose(mean, model.encode(x[:4]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_every_token_is_looked_up_in_half_precision_too(policy):
    """The levels of more than 257 tokens are not told apart by 8 bits."""
    tokens = np.arange(1000)
    x = (tokens / 999).astype(np.float32)[:, np.newaxis]
    layer = networks.TokenEmbedding(1000, 2, dtype=policy)
    model = keras.Sequential([keras.Input((1,)), layer], name="outer")
    table = np.stack([np.arange(1001) // 64, np.arange(1001) % 64], axis=-1)
    layer._table.embeddings.assign(table)
    for lookup in (layer, model):
        np.testing.assert_array_equal(lookup(x)[:, 0], table[:1000])
    missing = layer(np.full((1, 1), np.nan, np.float32))
    np.testing.assert_array_equal(missing[0, 0], table[1000])
    assert layer(x).dtype == layer.compute_dtype


@pytest.mark.parametrize("kind", ["conv", "transformer"])
def test_a_condition_reaches_both(kind, rng):
    model = tfvae.VAE(*of_series(kind, condition_size=2), likelihood="normal", condition=2)
    x = rng.normal(size=(2, 11, 3)).astype(np.float32)
    z = np.zeros((2, 2), np.float32)
    for function, value in ((model.encode, x), (model.decode, z)):
        a, b = (function(value, condition=y) for y in (0, 1))
        assert np.abs(a - b).max() > 1e-4


def test_residual_networks_of_series(rng):
    encoder = networks.residual_encoder((12, 3), 5, 8)
    assert encoder.output_shape == (None, 3, 5)
    decoder = networks.residual_decoder((3, 5), 3, 8, condition_size=2)
    assert decoder.output_shape == (None, 12, 3)
    with pytest.raises(InvalidArgument, match="Series of 10 cannot be halved 2 times"):
        networks.residual_encoder((10, 3), 5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: networks.conv_encoder((8,), 4), "expected .T, C. of a series"),
        (lambda: networks.transformer_encoder((8,), 4), "and num_tokens=0; expected"),
        (lambda: networks.transformer_encoder((8, 2), 4, num_tokens=3), "expected .T, C. of"),
        (
            lambda: networks.transformer_encoder((8, 2), 4, hidden_size=10),
            "a multiple of num_heads=4",
        ),
        (lambda: networks.transformer_decoder(2, (30,)), "cannot be shared out to None steps"),
        (lambda: networks.transformer_decoder(2, (30,), 4), "cannot be shared out to 4 steps"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(InvalidArgument, match=message):
        make()
