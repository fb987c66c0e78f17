"""Runs of models of codes: trained, given a prior, measured and resumed."""

import contextlib
import dataclasses
import math
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from commands import call
from eager import without_graphs
from PIL import Image
from tiers import nightly_but

from tfvae import recipes, runs
from tfvae._plain import files
from tfvae.code_priors import CategoricalCodePrior
from tfvae.data import Examples, Splits
from tfvae.errors import InvalidArgument, InvalidFile, NonFiniteLoss, TfvaeError, TfvaeWarning
from tfvae.models import VQVAE, HierarchicalVQVAE
from tfvae.runs import RunDirectory, code_prior
from tfvae.runs.code_prior import encode_all

pytestmark = pytest.mark.slow  # Compiles graphs of whole models.

K, SITES, EPOCHS = 8, 16, 2
NETWORK = {"filters": 8, "num_downsamplings": 1, "num_blocks": 1, "block_filters": 4}
CONFIG = recipes.load("vqvae-digits").override(
    {
        "model.network_options": NETWORK,
        "model.quantizer_options": {"num_embeddings": K, "initializer": "kmeans"},
        "model.embedding_dim": 4,
        "training.epochs": EPOCHS,
        "training.batch_size": 200,
        "training.steps_per_execution": 1,
        "code_prior.name": "categorical",
        "code_prior.options": {},
        "code_prior.epochs": 3,
        "code_prior.batch_size": 400,
        "code_prior.learning_rate": 0.3,
    }
)
PICTURES = {"curves.png", "reconstructions.png", "samples.png", "usage.png"}


@contextlib.contextmanager
def quick_steps():
    """Take the few steps of a fit without a graph, and draw no pictures of it."""
    with without_graphs(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(code_prior, "_draw", lambda *_: None)
        yield


@pytest.fixture
def quickly():
    with quick_steps():
        yield


@pytest.fixture(scope="module")
def splits():
    return runs.load_data(CONFIG)


@pytest.fixture(scope="module")
def run(tmp_path_factory, splits):
    """A finished run with a fitted prior; not to be changed."""
    path = tmp_path_factory.mktemp("finished") / "run"
    run = runs.train(CONFIG, path, progress=False, splits=splits)
    run.files_of_training = {file.name for file in path.iterdir()}
    run.codes_before = encode_all(run.load_model(), splits.train)
    files.update_report(path, "exports", {"decoder.tflite": {}})
    run.fitted = runs.train_prior(path, progress=False, splits=splits)
    return run


@pytest.fixture(scope="module")
def model(run):
    return run.load_model()


def assert_same_weights(a, b):
    for left, right in zip(a.weights, b.weights, strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_run_of_codes_holds_the_files_of_any_run_and_the_usage_of_the_codes(run):
    expected = {"config.toml", "model.keras", "history.csv", "report.json", "checkpoints"}
    assert run.files_of_training == expected | PICTURES | {"tensorboard"}
    for name in PICTURES:
        assert np.asarray(Image.open(run.path / name)).std() > 0


def test_the_history_has_the_terms_of_the_loss_and_the_usage(run):
    rows = runs.callbacks.read_history(run)
    assert [row["epoch"] for row in rows] == [1, 2]
    for row in rows:
        for prefix in ("", "val_"):
            terms = row[prefix + "reconstruction"] + row[prefix + "quantization"]
            assert row[prefix + "loss"] == pytest.approx(terms, rel=1e-5)
            assert 1 <= row[prefix + "perplexity"] <= K
            assert 0 < row[prefix + "code_usage"] <= 1


@pytest.mark.nightly
def test_a_run_that_was_interrupted_ends_with_the_same_weights(tmp_path, run, splits):
    interrupted = runs.train(
        CONFIG.override({"training.epochs": 1, "training.schedule": "constant"}),
        tmp_path / "a",
        progress=False,
        splits=splits,
    )
    constant = CONFIG.override({"training.schedule": "constant"})
    resumed = runs.train(constant, interrupted.path, True, progress=False, splits=splits)
    whole = runs.train(constant, tmp_path / "b", progress=False, splits=splits)
    assert_same_weights(resumed.load_model(), whole.load_model())


def test_a_prior_is_fitted_to_the_codes_of_the_training_images(run, model, splits):
    codes = encode_all(model, splits.train)
    np.testing.assert_array_equal(codes, run.codes_before)
    frequencies = np.stack([(codes == k).mean(axis=0) for k in range(K)], axis=-1)
    entropy = -np.sum(frequencies * np.log(np.maximum(frequencies, 1e-30)))
    assert isinstance(model.prior, CategoricalCodePrior)
    # The best that independent codes can do, which nine steps come near to.
    nats = -float(np.mean(model.prior.log_prob(codes)))
    assert entropy <= nats < entropy + 0.1 * (SITES * math.log(K) - entropy)


def test_what_is_reported_of_a_prior_is_its_loss_on_the_validation_images(run, model, splits):
    codes = encode_all(model, splits.validation)
    report = files.read_report(run.path)
    assert "exports" not in report, "they draw from the prior before"
    values = report["code_prior"]
    assert values == run.fitted
    assert values["val_loss"] == pytest.approx(-np.mean(model.prior.log_prob(codes)), rel=1e-5)
    assert values["uniform"] == pytest.approx(SITES * math.log(K))
    bits = values["val_loss"] / SITES / math.log(2)
    assert values["bits_per_code"] == pytest.approx(bits, rel=1e-5)


def test_fitting_a_prior_leaves_the_rest_of_the_model_as_it_was(run, model):
    trained = run.checkpoints.load()[1]["variables"]["model"]
    of_prior = {id(variable) for variable in model.prior.variables}
    rest = [np.asarray(v) for v in model.variables if id(v) not in of_prior]
    assert {value.tobytes() for value in rest} <= {value.tobytes() for value in trained}
    assert len(trained) > 10


def test_the_pictures_of_a_prior_are_written(run):
    names = {file.name for file in run.path.glob("*.png")}
    assert names == PICTURES | {"samples-uniform.png", "prior-curves.png"}


@pytest.mark.usefixtures("quickly")
def test_a_model_of_codes_is_measured_with_its_prior_and_the_uniform_one(run, model, splits):
    values = runs.evaluate(model, splits, 1, progress=False)
    assert values["num_examples"] == len(splits.test)
    gain = values["log_likelihood"] - values["uniform_log_likelihood"]
    assert gain == pytest.approx(SITES * math.log(K) - values["rate"], rel=1e-4)
    assert gain > 0
    x = splits.test.numpy()
    error = np.mean((model.predict(x, verbose=0) - x) ** 2)
    assert values["mse"] == pytest.approx(error, rel=1e-4)


@pytest.mark.usefixtures("quickly")
def test_a_density_is_measured_without_a_log_likelihood(splits):
    normal = {"model.likelihood": "normal", "model.likelihood_options": {}}
    model = runs.build_model(CONFIG.override(normal), splits)
    values = runs.evaluate(model, splits, 1, 20, progress=False)
    assert "log_likelihood" not in values
    assert values["mse_over_variance"] > 0


@pytest.mark.usefixtures("quickly")
def test_a_worker_says_so_where_the_chief_has_ended(run, splits, monkeypatch):
    def lost(strategy):
        raise tf.errors.UnavailableError(None, None, "Socket closed")

    distribute = code_prior.distribute
    for name, found in {"is_chief": False, "is_multi_worker": True}.items():
        monkeypatch.setattr(distribute, name, lambda strategy, found=found: found)
    monkeypatch.setattr(distribute, "wait", lost)
    with pytest.raises(TfvaeError, match=r"Another worker has ended.*Start all of them again\.$"):
        runs.train_prior(run.path, progress=False, splits=splits)


def test_a_prior_of_a_run_without_codes_is_refused(tmp_path):
    config = recipes.load("vae-digits").override({"training.epochs": 1, "model.hidden": [8]})
    run = RunDirectory.create(tmp_path / "vae", config)
    runs.build_model(config, runs.load_data(config)).save(run.model_file)
    with pytest.raises(InvalidArgument, match="VAE, whose latents are not codes"):
        runs.train_prior(run.path, progress=False)


@pytest.fixture
def copied(run, tmp_path):
    """A copy of the finished run, to be changed."""
    return RunDirectory(shutil.copytree(run.path, tmp_path / "copy"))


@pytest.mark.usefixtures("quickly")
def test_a_prior_whose_loss_is_not_finite_leaves_the_run_as_it_was(copied, splits):
    before = copied.model_file.read_bytes()
    config = CONFIG.override({"code_prior.learning_rate": 1e38})
    with pytest.raises(NonFiniteLoss, match="Lower the learning rate"):
        runs.train_prior(copied.path, config, progress=False, splits=splits)
    assert copied.model_file.read_bytes() == before
    assert not list(copied.code_prior.checkpoints.path.glob("epoch-*"))


@pytest.mark.usefixtures("quickly")
def test_weights_that_the_last_step_of_an_epoch_ruins_are_not_kept(copied, splits):
    one_step = {"code_prior.batch_size": len(splits.train), "code_prior.learning_rate": 1e38}
    with pytest.raises(NonFiniteLoss, match=r"validation data became (nan|inf) in epoch 1"):
        runs.train_prior(copied.path, CONFIG.override(one_step), progress=False, splits=splits)
    assert not list(copied.code_prior.checkpoints.path.glob("epoch-*"))


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"code_prior.name": "uniform"}, "nothing to learn"),
        ({"code_prior.options": {"num_classes": 3}}, "num_classes = 3, but the run has no labels"),
    ],
)
def test_a_prior_that_cannot_be_fitted_leaves_the_last_fit(copied, splits, settings, message):
    before = {path: path.read_bytes() for path in copied.code_prior.path.rglob("*.*")}
    with pytest.raises(InvalidArgument, match=message):
        runs.train_prior(copied.path, CONFIG.override(settings), progress=False, splits=splits)
    assert {path: path.read_bytes() for path in copied.code_prior.path.rglob("*.*")} == before


def test_a_run_that_another_process_trains_gets_no_prior(copied, splits):
    before = {path: path.read_bytes() for path in copied.code_prior.path.rglob("*.*")}
    with (
        copied.checkpoints.in_use(),
        pytest.raises(InvalidFile, match="Another training is under way in"),
    ):
        runs.train_prior(copied.path, progress=False, splits=splits)
    assert {path: path.read_bytes() for path in copied.code_prior.path.rglob("*.*")} == before


def test_a_run_is_locked_before_images_are_encoded_for_its_prior(copied, splits, monkeypatch):
    copied.forget_code_prior()  # also where there was no fit before

    def begin_another(*_):
        with pytest.raises(InvalidFile, match="Another training is under way in"):
            RunDirectory(copied.path).forget_code_prior()
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.code_prior, "encode_all", begin_another)
    with pytest.raises(KeyboardInterrupt):
        runs.train_prior(copied.path, CONFIG, progress=False, splits=splits)


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("epochs", nightly_but([1, 2], 2))
def test_a_fit_that_was_interrupted_and_resumed_ends_as_one_that_was_not(
    copied, run, model, splits, interrupted_after, epochs
):
    before = copied.model_file.read_bytes()
    with (
        interrupted_after(epochs),
        pytest.raises(TfvaeError, match=f"before.*train-prior {copied.path} --resume"),
    ):
        runs.train_prior(copied.path, progress=False, splits=splits)
    assert copied.model_file.read_bytes() == before
    if epochs > 1:  # there is a checkpoint, which another fit would replace
        refused = r"came to epoch 1, of 3 epochs.*--resume, or delete"
        with pytest.raises(InvalidArgument, match=refused):
            runs.train_prior(copied.path, progress=False, splits=splits)
    values = runs.train_prior(copied.path, resume=True, progress=False, splits=splits)
    assert_same_weights(copied.load_model().prior, model.prior)
    costs = {"seconds": 0, "checkpoints": 0}
    assert values | costs == run.fitted | costs


@pytest.mark.usefixtures("quickly")
def test_the_prior_of_the_best_epoch_is_kept(copied, splits):
    # Codes of the few training images there are: more epochs fit them better and others worse.
    few = dataclasses.replace(
        splits, train=Examples(splits.train.values[:20], splits.train.max_value)
    )
    options = {"code_prior.learning_rate": 1.0, "code_prior.epochs": 7}
    config, splits = CONFIG.override(options), few
    values = runs.train_prior(copied.path, config, progress=False, splits=splits)
    rows = runs.callbacks.read_history(copied.code_prior)
    losses = [row["val_loss"] for row in rows]
    assert values["epoch"] == np.argmin(losses) + 1
    assert values["val_loss"] == min(losses)
    assert values["epoch"] < 6
    codes = encode_all(copied.load_model(), splits.validation)
    nats = -np.mean(copied.load_model().prior.log_prob(codes))
    assert nats == pytest.approx(min(losses), rel=1e-5)


@pytest.fixture(scope="module")
def longer(run, tmp_path_factory):
    """A copy of the finished run, whose fit the command goes on with; not to be changed.

    The run says other epochs of its training than the fit, which has another learning rate.
    """
    path = shutil.copytree(run.path, tmp_path_factory.mktemp("longer") / "run")
    longer = RunDirectory(path)
    longer.write_config(CONFIG.override({"training.epochs": 50}))
    longer.code_prior.write_config(CONFIG.override({"code_prior.learning_rate": 0.2}))
    goes_on = "learning rate was 0 after epoch 3 and goes on with"
    with quick_steps(), pytest.warns(TfvaeWarning, match=goes_on):
        longer.fitted = call("train-prior", path, "--resume", "--epochs", 5)
    return longer


def test_a_fit_goes_on_with_more_epochs_and_not_with_fewer(longer, run, splits):
    assert longer.fitted["val_loss"] < run.fitted["val_loss"]
    rows = runs.callbacks.read_history(longer.code_prior)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert rows[:3] == runs.callbacks.read_history(run.code_prior)
    assert longer.code_prior.position() == (5, 0)
    fewer = CONFIG.override({"code_prior.learning_rate": 0.2})
    with pytest.raises(InvalidArgument, match="has done 5 epochs already"):
        runs.train_prior(longer.path, fewer, True, progress=False, splits=splits)


def test_the_command_goes_on_with_the_settings_of_the_fit(longer):
    assert 1 <= longer.fitted["epoch"] <= 5
    options = longer.read_config().code_prior
    assert (options.epochs, options.learning_rate) == (5, 0.2)
    with pytest.raises(InvalidArgument, match=r"A fit.*cannot change code_prior.name "):
        call("train-prior", longer.path, "--resume", "--prior", "pixelcnn")


def test_what_the_run_says_of_the_rest_is_not_put_back_by_a_fit(longer):
    assert longer.code_prior.read_config().training.epochs == EPOCHS
    assert longer.read_config().training.epochs == 50


@pytest.mark.nightly
def test_a_run_that_was_not_trained_on_keeps_its_prior(copied, model, splits):
    files.update_report(copied.path, "exports", {"decoder.tflite": {}})
    runs.train(CONFIG, copied.path, True, progress=False, splits=splits)
    assert_same_weights(copied.load_model().prior, model.prior)
    assert files.read_report(copied.path)["exports"] == {"decoder.tflite": {}}
    assert copied.code_prior.position() == (3, 0)


@pytest.mark.nightly
def test_codes_that_are_other_ones_have_no_fit_to_go_on_with(copied, splits):
    longer = CONFIG.override({"training.epochs": EPOCHS + 1})
    with pytest.warns(TfvaeWarning, match=f"learning rate was 0 after epoch {EPOCHS} and goes on"):
        runs.train(longer, copied.path, True, progress=False, splits=splits)
    with pytest.raises(InvalidFile, match=f"no fit of a prior to continue.*{copied.path}"):
        runs.train_prior(copied.path, resume=True, progress=False, splits=splits)


def test_a_prior_for_no_run_is_refused(tmp_path):
    with pytest.raises(InvalidFile, match="not a run"):
        runs.train_prior(tmp_path, progress=False)


@pytest.mark.parametrize(
    ("quantizer", "options"),
    [
        ("fsq", {"levels": [4, 3]}),
        ("residual", {"quantizer": {"name": "ema", "num_embeddings": 8}, "num_quantizers": 2}),
        ("vq", {"num_embeddings": 8, "gradient": "rotation"}),
    ],
)
def test_a_configuration_names_any_quantizer(splits, quantizer, options):
    settings = {"model.quantizer": quantizer, "model.quantizer_options": options}
    model = runs.build_model(CONFIG.override(settings), splits)
    assert isinstance(model, VQVAE)
    assert model(splits.test.numpy(0, 2)).shape == (2, 8, 8, 1)
    assert model.quantizer.embedding_dim == (2 if quantizer == "fsq" else 4)


def test_two_grids_are_built_from_one_configuration(splits):
    model = runs.build_model(CONFIG.override({"model.family": "vqvae2"}), splits)
    assert isinstance(model, HierarchicalVQVAE)
    assert model.grids == ((4, 4), (2, 2))
    assert model.code_shape == (20,)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model.network": "dense"}, "model.network is 'dense' with family = 'vqvae'"),
        ({"model.family": "vqvae3"}, "Unknown model.family 'vqvae3'"),
        ({"model.quantizer": "emma"}, "Unknown quantizer 'emma'"),
        ({"model.network_options": {"width": 3}}, "network_options.*expected names among filters"),
        ({"model.network_options": {"num_downsamplings": 4}}, "cannot be halved 4 times"),
        ({"code_prior.epochs": 0}, "code_prior.epochs is 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(splits, settings, message):
    with pytest.raises(InvalidArgument, match=message):
        runs.build_model(CONFIG.override(settings), splits)


@pytest.mark.nightly
def test_images_of_another_kind_than_a_picture_are_trained_on_all_the_same(tmp_path):
    pixels = np.random.default_rng(0).random((40, 8, 8, 2)).astype(np.float32)
    parts = [Examples(pixels[i : i + 20]) for i in (0, 10, 20)]
    settings = {
        "model.likelihood": "normal",
        "model.likelihood_options": {},
        "training.batch_size": 20,
        "training.epochs": 1,
        "training.steps_per_execution": 1,
    }
    run = runs.train(
        CONFIG.override(settings), tmp_path / "run", progress=False, splits=Splits("two", *parts)
    )
    assert not (run.path / "samples.png").exists()
    assert (run.path / "usage.png").exists()
    assert keras.saving.load_model(run.model_file).x_shape == (8, 8, 2)
