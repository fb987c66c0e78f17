"""`tfvae score`: the scores of a file, the threshold of a rate, and what is refused."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from commands import rows_of
from tensorflow_probability import distributions as tfd

import tfvae
from tfvae import paths, recipes, runs
from tfvae.errors import InvalidArgument, InvalidData, TfvaeError, TfvaeWarning
from tfvae.runs import scores as tables
from tfvae.runs.evaluate import load_run
from tfvae.tools.main import cli

pytestmark = pytest.mark.slow  # Runs the command line.

TINY = {"model.hidden": (4,), "model.latent_size": 2, "data.binarization": "static"}
SAMPLES = 20


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run on binarized digits, with a model that was never trained."""
    config = recipes.load("vae-digits").override(TINY)
    run = runs.RunDirectory.create(tmp_path_factory.mktemp("score") / "run", config)
    model = runs.build_model(config, runs.load_data(config))
    model.optimizer.build(model.trainable_variables)
    model.save(run.model_file)
    return run.path


@pytest.fixture(scope="module")
def measured(run, tmp_path_factory):
    """Pictures of noise and their CSV, with a threshold; and what the command printed."""
    folder = tmp_path_factory.mktemp("measured")
    pictures = np.random.default_rng(0).random((6, 8, 8, 1)).astype("f4")
    np.save(folder / "noise.npy", pictures)
    printed = score(
        run,
        folder / "noise.npy",
        "--false-alarm-rate=0.05",
        f"--by-value={folder / 'shares.npy'}",
        f"--output={folder / 'scores.csv'}",
    )
    return folder, printed


def score(run, *arguments):
    """Run the command, and return its JSON; its errors are raised."""
    arguments = ["score", run, *arguments, "--num-samples", SAMPLES, "--json"]
    done = CliRunner().invoke(cli, [*map(str, arguments)], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return json.loads(done.stdout)


def test_a_row_holds_the_scores_of_an_example(run, measured):
    folder, printed = measured
    model, config = runs.open_model(run)
    x = tables.read_as_run(folder / "noise.npy", config).numpy()
    assert set(np.unique(x)) == {0.0, 1.0}, "the file is binarized as the run's data was"
    scores = tfvae.score(model, x, num_samples=SAMPLES, progress=False)
    rows = rows_of(folder / "scores.csv")
    assert [int(row["example"]) for row in rows] == list(range(6))
    for name, values in scores.columns().items():
        np.testing.assert_allclose([float(row[name]) for row in rows], values, rtol=1e-6)
    shares = np.load(folder / "shares.npy")
    np.testing.assert_allclose(shares.sum((1, 2, 3)), scores.reconstruction, rtol=1e-5)
    assert printed["num_examples"] == 6
    assert printed["log_likelihood"] == pytest.approx(scores.log_likelihood.mean())


def test_a_threshold_is_that_of_the_validation_data(run, measured):
    folder, printed = measured
    model, config = runs.open_model(run)
    validation = runs.load_data(config).validation
    ordinary = tfvae.score(model, validation, num_samples=SAMPLES, progress=False).log_likelihood
    assert printed["threshold"] == pytest.approx(np.sort(ordinary)[8])  # ⌊0.05 · 181⌋ = 9
    assert printed["num_validation"] == len(validation) == 180
    rows = rows_of(folder / "scores.csv")
    low = [float(row["log_likelihood"]) < printed["threshold"] for row in rows]
    assert [row["anomaly"] == "1" for row in rows] == low
    assert printed["num_anomalies"] == sum(low)


def test_a_folder_gives_its_names_and_vectors_their_columns(tmp_path):
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "a.png").write_bytes(b"")
    pictures = tfvae.data.Examples(np.zeros((2, 3, 3, 1), np.uint8))
    assert tables.names_of(tmp_path, pictures) == ["a.png", "b.png"]
    rows = tfvae.data.Examples(np.zeros((3, 4), np.float32), kind="vector")  # of tables there
    assert tables.names_of(tmp_path, rows) == tables.names_of(None, rows) == [0, 1, 2]
    values = np.zeros(2, np.float32)
    scores = tfvae.evaluation.Scores(values, values, values, np.ones((2, 2)))
    tables.write_table(tmp_path / "scores.csv", scores, ["a.png", "b.png"])
    names = "example,log_likelihood,elbo,reconstruction,kl,reconstruction_0,reconstruction_1"
    first, row, _ = (tmp_path / "scores.csv").read_text().splitlines()
    assert first == names
    assert row == "a.png,0,-0,0,0,1,1"


def test_a_dark_file_is_read_by_the_range_of_the_run(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((3, 4, 4), np.uint8))
    config = tfvae.config.Config()
    assert tables.read_as_run(tmp_path / "x.npy", config).max_value == 1
    config = config.override({"data.full_range": True})
    with pytest.warns(TfvaeWarning, match=r"All pixels of .* are 0 or 1, of 255 that stand for"):
        assert tables.read_as_run(tmp_path / "x.npy", config).max_value == 255
    np.save(tmp_path / "x.npy", np.full((3, 4, 4), 2, np.uint8))
    assert tables.read_as_run(tmp_path / "x.npy", config).max_value == 255


@pytest.mark.parametrize("binarization", ["none", "static"])
def test_a_run_keeps_that_its_pictures_are_not_binary(tmp_path, rng, binarization, monkeypatch):
    """Its settings are written before it trains."""

    def interrupted(self, *given, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(tfvae.VAE, "fit", interrupted)
    np.save(tmp_path / "x.npy", rng.integers(0, 256, (40, 4, 4), np.uint8))
    settings = {
        "data.name": str(tmp_path / "x.npy"),
        "data.binarization": binarization,
        "model.hidden": (4,),
        "model.latent_size": 1,
        "training.epochs": 1,
        "training.batch_size": 10,
    }
    run = runs.RunDirectory(tmp_path / "run")
    with pytest.raises(TfvaeError, match="Interrupted"):
        runs.train(tfvae.config.Config().override(settings), run.path, progress=False)
    assert run.read_config().data.full_range == (binarization == "none")


def test_data_that_is_named_anew_is_looked_at_anew(tmp_path):
    config = tfvae.config.Config().override({"data.full_range": True})
    run = runs.RunDirectory.create(tmp_path / "run", config)
    run.model_file.touch()
    assert paths.config_of(run.path, {}).data.full_range
    assert not paths.config_of(run.path, {"data.name": "digits"}).data.full_range


def test_without_a_file_it_scores_the_test_split(run):
    printed = score(run, "-n", 3)
    assert printed["num_examples"] == len(rows_of(run / "scores.csv")) == 3
    assert "threshold" not in printed


def test_a_folder_is_not_taken_for_the_dataset_that_a_run_names(run, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(run, tmp_path / "run").parent)
    kept = Path("run/config.toml")
    text = kept.read_text().replace('name = "digits"', 'name = "mnist"')
    kept.write_text(text)
    assert runs.RunDirectory("run").read_config().data.name == "mnist"
    Path("mnist").mkdir()
    with pytest.raises(InvalidData, match=r"the TFDS dataset 'mnist', and .* of that name"):
        score("run")
    with pytest.raises(InvalidData, match="the TFDS dataset 'mnist'"):
        load_run("run", {})


def test_what_cannot_be_scored_is_refused(run, tmp_path):
    with pytest.raises(InvalidData, match="There is no file or folder"):
        score(run, tmp_path / "none.npy")
    with pytest.raises(InvalidData, match=r"at least 999 examples .* there are 180"):
        score(run, "--false-alarm-rate", 0.001)
    model = run / "model.keras"
    with pytest.raises(InvalidArgument, match="a model without a run, hence without its test"):
        score(model)
    np.save(tmp_path / "other.npy", np.zeros((2, 5, 5, 1), "f4"))
    with pytest.raises(InvalidData, match="shape"):
        score(model, tmp_path / "other.npy", "--output", tmp_path / "scores.csv")
    (tmp_path / "rows.csv").write_text("a,b\n" + "".join(f"{n},{n / 3}\n" for n in range(20)))
    of_pictures = r"rows.csv is a table, and the model is one of arrays of shape \(8, 8, 1\)"
    with pytest.raises(InvalidData, match=of_pictures):
        score(run, tmp_path / "rows.csv")
    assert not (tmp_path / "scores.csv").exists()


@keras.saving.register_keras_serializable("tests")
class AsAWhole(tfvae.likelihoods.Likelihood):
    """A likelihood of the user's own that gives log p(x|z) of an example as a whole."""

    def distribution(self, params, batch_ndims):
        return tfd.MultivariateNormalDiag(params)


def test_shares_of_values_that_there_are_none_of_are_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    networks = tfvae.networks
    encoder, decoder = networks.dense_encoder((3,), 2), networks.dense_decoder(1, (3,))
    tfvae.VAE(encoder, decoder, likelihood=AsAWhole()).save("a.keras")
    np.save("x.npy", np.zeros((2, 3), "f4"))
    monkeypatch.setattr(tfvae.evaluation, "score", lambda *_, **__: pytest.fail("the work began"))
    monkeypatch.setattr(tables, "read_as_run", lambda *_: pytest.fail("the data was read"))
    with pytest.raises(InvalidArgument, match="without a share for each value"):
        score("a.keras", "x.npy", "--by-value=shares.npy", "--output=scores.csv")
    assert not Path("shares.npy").exists()
