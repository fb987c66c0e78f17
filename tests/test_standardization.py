"""Standardized vectors and series: undone in what a model gives, and counted in log p."""

import contextlib
import json

import numpy as np
import pytest
import scipy.stats
from commands import call
from eager import without_graphs

import tfvae
from tfvae import data, evaluation
from tfvae.data import Column, Schema, Standardization
from tfvae.data.standardized import StandardizedSource, check_resolution
from tfvae.errors import InvalidArgument, InvalidData, TfvaeError
from tfvae.runs import pictures
from tfvae.runs.evaluate import load_run

pytestmark = pytest.mark.slow  # Runs the command line.

CHANNELS = np.array([20.0, -3000.0]), np.array([2.0, 500.0])  # mean and scale


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """The path of 120 series of 12 steps and two channels in units of their own."""
    rng = np.random.default_rng(0)
    phase, noise = rng.uniform(0, 6, (120, 1, 1)), rng.normal(size=(120, 12, 2))
    x = np.sin(np.arange(12)[:, np.newaxis] / 2 + phase) + 0.2 * noise
    path = tmp_path_factory.mktemp("series") / "x.npy"
    np.save(path, (CHANNELS[0] + CHANNELS[1] * x).astype(np.float32))
    return path


@pytest.fixture(scope="module")
def run(series):
    path = series.parent / "run"
    tiny = ("model.hidden=[16]", "model.latent_size=2", "training.epochs=1", "data.kind=series")
    settings = [part for text in tiny for part in ("--set", text)]
    with without_graphs(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "draw", lambda *_: None)
        call("train", series, "--run-dir", path, "--set", "evaluation.num_samples=10", *settings)
    return path


def test_the_statistics_are_those_of_all_that_is_observed(rng):
    x = rng.normal(100, 3, (50, 4, 2))
    x[rng.uniform(size=x.shape) < 0.3] = np.nan
    x[:, :, 1] = np.where(np.isnan(x[:, :, 1]), np.nan, 7.0)
    found = Standardization.fitted(np.split(x, [7, 7, 30]))
    np.testing.assert_allclose(found.mean, np.nanmean(x, axis=(0, 1)), rtol=1e-12)
    np.testing.assert_allclose(found.scale, [np.nanstd(x[..., 0]), 1.0], rtol=1e-12)
    np.testing.assert_allclose(found.restored(found.standardized(x)), x, rtol=1e-6)
    assert Standardization.of(json.loads(json.dumps(found.get_config()))) == found


def test_data_is_standardized_by_its_training_examples(series):
    splits = data.load(series, kind="series", standardize=True)
    train = splits.train.numpy()
    np.testing.assert_allclose(train.mean((0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(train.std((0, 1)), 1, rtol=1e-5)
    streamed = data.load(series, kind="series", standardize=True, memory_gb=0)
    assert isinstance(streamed.train.values, StandardizedSource)
    np.testing.assert_array_equal(streamed.test.numpy(), splits.test.numpy())
    again = data.read_examples(series, kind="series", standardization=splits.standardization)
    restored = splits.standardization.restored(again.numpy())
    np.testing.assert_allclose(restored, np.load(series), rtol=1e-5)


@pytest.mark.parametrize("memory_gb", [0, 1])
def test_values_far_from_0_keep_their_differences(tmp_path, memory_gb):
    x = 1.7e9 + np.arange(1000.0).reshape(500, 2)
    np.save(tmp_path / "x.npy", x)
    splits = data.load(tmp_path / "x.npy", standardize=True, memory_gb=memory_gb)
    found = splits.standardization
    parts = [getattr(splits, name).numpy() for name in data.SPLITS]
    assert {part.dtype for part in parts} == {np.dtype(np.float32)}
    back = found.restored(np.concatenate(parts))
    assert back.dtype == np.float64
    back = back[np.argsort(back[:, 0])]
    np.testing.assert_allclose(back, x, rtol=0, atol=1e-4)
    message = r"Column 0 of .* goes from 1700000000 to 1700000998, and .* by up to 64\. .*=true"
    with pytest.raises(InvalidData, match=message):
        data.load(tmp_path / "x.npy", memory_gb=memory_gb)
    np.save(tmp_path / "x.npy", x - x.mean(0) + [0, 5e3])
    assert data.load(tmp_path / "x.npy", memory_gb=memory_gb).train.numpy().dtype == np.float32


@pytest.mark.parametrize("memory_gb", [0, 1])
def test_what_float32_holds_exactly_is_not_refused(tmp_path, memory_gb):
    x = 1e6 + np.arange(40.0).reshape(20, 2) % 4
    np.save(tmp_path / "x.npy", x)
    splits = data.load(tmp_path / "x.npy", memory_gb=memory_gb)
    assert set(splits.train.numpy().ravel()) == {1e6, 1e6 + 1, 1e6 + 2, 1e6 + 3}


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.int32])
def test_values_of_a_training_take_32_bits_in_memory(tmp_path, dtype):
    """Those that are read to be filled in keep all of their digits."""
    x = np.arange(40).reshape(20, 2).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    for memory_gb, in_memory in ((160e-9, True), (159e-9, False)):
        splits = data.load(tmp_path / "x.npy", kind="vector", memory_gb=memory_gb)
        again = data.read_examples(tmp_path / "x.npy", kind="vector", memory_gb=memory_gb)
        for examples in (splits.train, splits.test, again):
            assert examples.in_memory is in_memory
        for examples in (splits.train, splits.test):
            assert examples.values.dtype == (np.float32 if in_memory else np.float64)
        assert again.values.dtype == np.float64


def test_a_constant_is_told_apart_from_nothing(tmp_path):
    x = np.stack([np.arange(20.0), np.full(20, 1.7e9 + 0.1)], axis=1)
    np.save(tmp_path / "x.npy", x)
    assert data.load(tmp_path / "x.npy").shape == (2,)


def test_a_run_gives_series_in_their_units(run, series):
    model, _, splits = load_run(run, {})
    assert model.standardization == splits.standardization
    exported = call("export", run, "--signature", "sample", "-o", run / "decoder.tflite")
    assert exported["max_abs_error"] < 1e-4
    call("sample", run, "-n", 50, "--seed", 3, "-o", run / "keras.npy")
    call("decode", run, "--sample", 50, "--seed", 3, "-o", run / "device.npy")
    own, device = np.load(run / "keras.npy"), np.load(run / "device.npy")
    np.testing.assert_allclose(own, device, rtol=1e-3, atol=1e-2)
    drawn = model.sample(50, seed=3).numpy()
    np.testing.assert_allclose((own - own.mean()) / own.std(), _of(drawn, model), atol=1e-5)
    assert abs(own[..., 1].mean() + 3000) < 500
    call("reconstruct", run, "-n", 3, "-o", run / "back.npy")
    assert np.load(run / "back.npy")[..., 1].mean() < -2000
    with pytest.raises(InvalidArgument, match=r"shape \(12, 2\), and the page shows images alone"):
        call("explore", run)


def _of(x, model):
    values = model.standardization.restored(x)
    return (values - values.mean()) / values.std()


def test_log_p_is_that_of_the_data_in_its_units(run, series):
    """It differs from that of x by the logarithms of the scales, for each step."""
    model, _, splits = load_run(run, {})
    measured = call("evaluate", run)
    of_x = tfvae.log_likelihood(model, splits.test, num_samples=10, progress=False).mean
    moved = -12 * np.log(model.standardization.scale).sum()
    assert measured["log_likelihood"] == pytest.approx(of_x + moved, abs=1e-3)
    assert measured["elbo"] == pytest.approx(-measured["reconstruction"] - measured["kl"], abs=1e-3)
    scored = call("score", run, series, "-n", 5, "--num-samples", 10, "-o", run / "scores.csv")
    assert scored["log_likelihood"] == pytest.approx(of_x + moved, abs=15)


def test_the_jacobian_of_a_table_is_that_of_its_columns(rng):
    """log p(v) of a normal in x = (v − mean) / scale, and of a log-normal, as scipy has them."""
    frame = {"a": rng.normal(50, 4, 200), "b": np.exp(rng.normal(2, 0.5, 200)), "n": np.arange(200)}
    schema = Schema.inferred(frame, {"b": "positive", "n": "count"})
    schema = schema.fitted(schema.measured(frame))
    x = schema.encode(frame)
    moved = schema.log_jacobian(x)
    log_p = scipy.stats.norm.logpdf(x[:, :2]) + moved[:, :2]
    a, b = schema["a"], schema["b"]
    of_a = scipy.stats.norm(a.mean, a.scale).logpdf(frame["a"])
    np.testing.assert_allclose(log_p[:, 0], of_a, rtol=1e-4)
    of_b = scipy.stats.lognorm(b.scale, scale=np.exp(b.mean)).logpdf(frame["b"])
    np.testing.assert_allclose(log_p[:, 1], of_b, rtol=1e-4)
    assert not moved[:, 2].any(), "counts have probabilities"
    scores = evaluation.Scores(np.zeros(200), np.ones(200), np.zeros(200), np.zeros((200, 3)))
    found = evaluation.in_units(scores, moved)
    np.testing.assert_allclose(found.log_likelihood, moved.sum(1))
    np.testing.assert_allclose(found.elbo, -1 + moved.sum(1))
    np.testing.assert_allclose(found.reconstruction_by_value, -moved)


def test_a_column_without_a_value_is_refused_by_its_number(tmp_path):
    x = np.random.default_rng(0).normal(size=(30, 4))
    x[:, 2] = np.nan
    np.save(tmp_path / "x.npy", x)
    for standardize in (True, False):
        with pytest.raises(InvalidData, match=r"Column 2 of .*x\.npy has no value"):
            data.load(tmp_path / "x.npy", missing=True, standardize=standardize)


def test_an_example_without_a_value_is_refused_by_number(tmp_path):
    x = np.zeros((30, 4), np.float32)
    x[7] = np.nan
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(InvalidData, match=r"Example 7 of .*x\.npy has no value, but NaN alone"):
        data.load(tmp_path / "x.npy", missing=True)


def test_what_is_not_to_be_standardized_is_refused(series):
    with pytest.raises(InvalidArgument, match="holds images, and only vectors and series"):
        data.load("digits", standardize=True)
    with pytest.raises(InvalidArgument, match="which are not standardized"):
        data.load(series, kind="series", standardize=True, binarization="static")
    settings = ("--set", "data.kind=series", "--set", "model.likelihood=log_normal")
    with pytest.raises(TfvaeError, match=r"Add --set data\.standardize=false"):
        call("train", series, "--run-dir", series.parent / "refused", *settings)
    with pytest.raises(InvalidArgument, match="scales above 0"):
        Standardization([0.0], [0.0])
    with pytest.raises(InvalidArgument, match="scales above 0"):
        Standardization([10**400], [1.0])


def test_a_model_of_other_examples_is_refused(make_vae):
    schema = Schema([Column("a")])
    with pytest.raises(InvalidArgument, match=r"1 columns, and x has the shape \(4, 4, 1\)"):
        make_vae(schema=schema)
    with pytest.raises(InvalidArgument, match=r"of 2 values, and x has the shape \(4, 4, 1\)"):
        make_vae(standardization=Standardization([0.0, 0.0], [1.0, 1.0]))
    with pytest.raises(InvalidArgument, match="No standardization can be made"):
        Standardization.of({"mean": [0.0]})


def test_the_jacobian_is_that_of_the_values_that_are_observed():
    units = Standardization([5.0, 0.0], [2.0, 0.25])
    found = units.log_jacobian(np.array([[0.3, np.nan], [np.nan, 1.0]]))
    np.testing.assert_allclose(found, [[-np.log(2), 0], [0, np.log(4)]], rtol=1e-15)


@pytest.mark.parametrize("at_once", [8, 2**25])
@pytest.mark.parametrize(("largest", "refused"), [(126, True), (128, False)])
def test_float32_may_round_by_the_128th_part_of_the_range(monkeypatch, at_once, largest, refused):
    """It rounds 2^24 + 1 by 1, and the even numbers beside it not at all; however it is read."""
    monkeypatch.setattr("tfvae.data.source._BYTES_AT_ONCE", at_once)
    examples = data.Examples(2.0**24 + np.array([[1], [0], [largest], [2]]), kind="vector")
    splits = data.Splits("made", examples, examples, examples)
    with pytest.raises(InvalidData, match="by up to 1") if refused else contextlib.nullcontext():
        check_resolution(splits)
