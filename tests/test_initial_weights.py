"""Trainings that start from the weights of a trained model."""

import keras
import numpy as np
import pytest

from tfvae import code_priors, quantizers, recipes, runs
from tfvae.errors import InvalidArgument, InvalidFile
from tfvae.models import VQVAE
from tfvae.runs.build import build_model
from tfvae.runs.initial_weights import start_from

CONFIG = recipes.load("vae-digits").override(
    {
        "model.hidden": [16],
        "model.latent_size": 2,
        "training.epochs": 1,
        "training.batch_size": 500,
        "training.steps_per_execution": 1,
        "training.schedule": "constant",
    }
)


pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(scope="module")
def splits():
    return runs.load_data(CONFIG)


@pytest.fixture(scope="module")
def trained(splits, tmp_path_factory):
    """Return a `.keras` file of a model whose steps were counted."""
    model = build_model(CONFIG.override({"training.seed": 7}), splits)
    model.step.assign(500)
    path = tmp_path_factory.mktemp("trained") / "model.keras"
    model.save(path)
    return path


def test_the_weights_are_those_of_the_trained_model_and_the_steps_begin_anew(trained, splits):
    model, source = build_model(CONFIG, splits), runs.load_model(trained)
    start_from(trained, model)
    weights = [v for v in model.weights if v is not model.step]
    theirs = [v for v in source.weights if v is not source.step]
    for ours, other in zip(weights, theirs, strict=True):
        np.testing.assert_array_equal(ours, other)
    assert model.steps_made == 0, "the warm-up of the KL divergence begins anew"


def test_pseudo_inputs_of_the_trained_model_stay(splits, tmp_path):
    config = CONFIG.override({"model.prior": "vamp", "model.prior_options": {"num_components": 3}})
    source = build_model(config, splits)
    source.prior.start(np.full((3, 8, 8, 1), 0.25))
    source.save(tmp_path / "model.keras")
    model = build_model(config.override({"training.learning_rate": 1e-12}), splits)
    start_from(tmp_path / "model.keras", model)
    model.fit(splits.train.numpy(0, 20), batch_size=20, verbose=0)
    np.testing.assert_allclose(model.prior.pseudo_inputs, 0.25, atol=1e-6)


@pytest.mark.slow
def test_a_run_that_stopped_before_its_first_checkpoint_begins_with_the_weights(
    trained, tmp_path, splits, monkeypatch
):
    monkeypatch.setattr(runs.pictures, "draw", lambda *_: None)
    still = {"training.initial_weights": str(trained), "training.learning_rate": 1e-12}
    config = CONFIG.override(still)
    run = runs.RunDirectory.create(tmp_path / "run", config)
    runs.train(config, run.path, resume=True, splits=splits)
    ours, theirs = run.load_model(), runs.load_model(trained)
    for one, other in zip(ours.trainable_weights, theirs.trainable_weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "difference"),
    [
        ({"model.hidden": [20]}, r"a kernel of the shape \(64, 16\), this .* \(64, 20\)"),
        ({"model.hidden": [16, 2]}, "it has a kernel of the shape"),
        ({"model.prior": "mixture"}, "it has 8 arrays of weights, this 11"),
    ],
)
def test_a_model_of_another_kind_is_refused(trained, splits, settings, difference):
    model = build_model(CONFIG.override(settings), splits)
    before = model.get_weights()
    with pytest.raises(InvalidArgument, match=difference):
        start_from(trained, model)
    for now, then in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_a_missing_model_is_refused_before_anything_is_written(tmp_path, splits):
    config = CONFIG.override({"training.initial_weights": str(tmp_path / "none.keras")})
    with pytest.raises(InvalidFile, match="There is no run or model"):
        runs.train(config, tmp_path / "run", splits=splits)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_training_goes_on_from_a_run_and_is_resumed_without_it(tmp_path, splits, monkeypatch):
    monkeypatch.setattr(runs.pictures, "draw", lambda *_: None)
    source = runs.train(CONFIG, tmp_path / "source", splits=splits)
    config = CONFIG.override(
        {
            "training.initial_weights": str(source.path),
            "training.learning_rate": 1e-12,
            "training.seed": 5,
        }
    )
    run = runs.train(config, tmp_path / "run", splits=splits)
    a, b = source.load_model(), run.load_model()
    for ours, other in zip(b.trainable_weights, a.trainable_weights, strict=True):
        np.testing.assert_allclose(ours, other, atol=1e-6)
    source.path.rename(tmp_path / "elsewhere")
    longer = config.override({"training.epochs": 2})
    runs.train(longer, run.path, resume=True, splits=splits)
    assert run.load_model().steps_made == 2 * b.steps_made


@pytest.mark.slow
def test_a_training_that_goes_on_is_judged_by_the_loss_it_began_with(
    trained, tmp_path, splits, monkeypatch
):
    starts = []
    monkeypatch.setattr(runs.pictures, "draw", lambda *_: None)
    monkeypatch.setattr(runs.loop, "check_end", lambda start, *_: starts.append(start))
    config = CONFIG.override({"training.initial_weights": str(trained)})
    run = runs.train(config, tmp_path / "run", splits=splits)
    runs.train(config.override({"training.epochs": 2}), run.path, resume=True, splits=splits)
    model = build_model(CONFIG, splits)
    start_from(trained, model)
    validation = splits.validation.dataset(CONFIG.training.batch_size)
    loss = model.evaluate(validation, verbose=0, return_dict=True)["loss"]
    assert starts == [pytest.approx(loss, rel=1e-6)] * 2


def test_the_table_of_a_vqvae_comes_along_and_its_fitted_prior_does_not(tmp_path, rng, splits):
    def make():
        encoder = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(3, 4, 4)])
        decoder = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Conv2DTranspose(1, 4, 4)])
        quantizer = quantizers.get("ema", num_embeddings=5, embedding_dim=3, initializer="kmeans")
        return VQVAE(encoder, quantizer, decoder, likelihood="normal")

    source, target = make(), make()
    source.quantizer.initialize(rng.normal(size=(50, 3)).astype(np.float32))
    source.prior = code_priors.get("categorical", codebook_size=5)
    source.save(tmp_path / "vq.keras")
    start_from(tmp_path / "vq.keras", target)
    with pytest.raises(InvalidArgument, match="it is a VQVAE, this a VAE"):
        start_from(tmp_path / "vq.keras", build_model(CONFIG, splits))
    np.testing.assert_array_equal(target.quantizer.table, source.quantizer.table)
    assert not target.quantizer.needs_data, "k-means would overwrite the table"
    assert type(target.prior) is code_priors.UniformCodePrior
