"""A model is saved here and loaded in a fresh interpreter, as it would be on another day."""

import json

import keras
import numpy as np
import pytest
from tiers import nightly_but

import tfvae
from tfvae.errors import InvalidArgument

pytestmark = pytest.mark.slow  # Starts processes.

MODELS = {
    "elbo": (
        {"likelihood": tfvae.likelihoods.Categorical(3), "seed": 2**40 + 7},
        {
            "optimizer": lambda: tfvae.optimizers.Adam(0.02, clipnorm=1.0),
            "beta": 0.5,
            "kl_warmup_steps": 20,
            "kl": "monte_carlo",
            "jit_compile": False,
            "steps_per_execution": 2,
        },
    ),
    "iwae": (
        {"likelihood": tfvae.likelihoods.DiscretizedLogisticMixture(2, 16), "latents": 3},
        {
            "optimizer": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
            "objective": "iwae",
            "num_samples": 4,
            "run_eagerly": True,
        },
    ),
}

# The order in which the interpreter that loads the models imports tfvae and Keras.
IMPORTS = ("import keras, tfvae", "import tfvae, keras")

# What a loaded model is asked; the same text is run on the model that was never saved.
QUESTIONS = """
import numpy as np

def train(model, x):
    model.reset_metrics()
    return float(model.train_on_batch(x, return_dict=True)["loss"])

def answers(model, x):
    options = model.get_compile_config()
    optimizer = options.pop("optimizer")
    return {
        "reconstructions": np.asarray(model(x)).ravel().tolist(),
        "sample": np.asarray(model.sample(2, seed=3)).ravel().tolist(),
        "evaluate": model.evaluate(x, verbose=0),
        "optimizer": type(model.optimizer).__name__,
        "optimizer variables": [np.asarray(v).ravel().tolist() for v in model.optimizer.variables],
        "optimizer config": optimizer["config"],
        "compile": options,
        "likelihood": repr(model.likelihood),
        "seed": model.seed,
        "step before": int(model.step),
        "losses": [train(model, x) for _ in range(4)],
        "step after": int(model.step),
    }
"""

LOAD = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
x, given = np.load(folder / "x.npy"), {}
for name in sys.argv[2:]:
    model = keras.saving.load_model(folder / f"{name}.keras")
    assert isinstance(model, tfvae.VAE)
    given[name] = answers(model, x)
print(json.dumps(given))
"""


@pytest.fixture(scope="module")
def saved(make_vae, images, tmp_path_factory):
    """The folder of the trained models, and what each answers without having been saved."""
    folder = tmp_path_factory.mktemp("saved")
    np.save(folder / "x.npy", images)
    namespace = {}
    exec(QUESTIONS, namespace)
    expected = {}
    for name, (arguments, options) in MODELS.items():
        model = make_vae(**arguments)
        model.compile(**{**options, "optimizer": options["optimizer"]()})
        model.fit(images, epochs=3, batch_size=6, verbose=0)
        model.save(folder / f"{name}.keras")
        model.save_weights(folder / f"{name}.weights.h5")
        expected[name] = namespace["answers"](model, images)
    return folder, expected


@pytest.fixture(scope="module", params=nightly_but(IMPORTS, IMPORTS[0]))
def loaded(saved, run_python, request):
    """What each model answers after loading, without custom_objects."""
    folder, _ = saved
    script = "\n".join([request.param, QUESTIONS, LOAD])
    return json.loads(run_python(script, folder, *MODELS).splitlines()[-1])


@pytest.mark.parametrize("name", MODELS)
class TestLoadedModel:
    def test_outputs_are_equal(self, saved, loaded, name):
        for output in ("reconstructions", "sample", "evaluate"):
            np.testing.assert_allclose(loaded[name][output], saved[1][name][output], atol=1e-6)

    def test_settings_come_back(self, saved, loaded, name):
        for setting in ("compile", "optimizer", "optimizer config", "likelihood", "seed"):
            assert loaded[name][setting] == saved[1][name][setting]

    def test_the_optimizer_and_the_step_come_back(self, saved, loaded, name):
        expected = saved[1][name]
        assert loaded[name]["step before"] == expected["step before"] == 6
        for ours, theirs in zip(
            loaded[name]["optimizer variables"], expected["optimizer variables"], strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)
        assert any(np.any(v) for v in expected["optimizer variables"][2:]), "momenta are all zero"

    def test_training_continues_as_if_never_saved(self, saved, loaded, name):
        expected = saved[1][name]
        np.testing.assert_allclose(loaded[name]["losses"], expected["losses"], rtol=1e-6)
        assert loaded[name]["step after"] == expected["step after"] > 6


def test_settings_are_the_ones_given(saved):
    compiled = saved[1]["elbo"]["compile"]
    given = {k: v for k, v in MODELS["elbo"][1].items() if k != "optimizer"}
    assert {k: compiled[k] for k in given} == given
    assert saved[1]["elbo"]["seed"] == 2**40 + 7


@pytest.mark.parametrize("name", MODELS)
def test_weights_alone_restore_outputs_and_step(saved, make_vae, images, name):
    model = make_vae(**MODELS[name][0])
    model.load_weights(saved[0] / f"{name}.weights.h5")
    assert int(model.step) == 6
    expected = saved[1][name]["reconstructions"]
    np.testing.assert_allclose(np.ravel(model(images)), expected, atol=1e-6)


def test_a_model_that_was_never_compiled_is_loaded(make_vae, images, tmp_path):
    model = make_vae()
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    assert not restored.compiled
    np.testing.assert_array_equal(restored(images), model(images))


@pytest.mark.parametrize("name", ["model.h5", "model.hdf5"])
def test_a_file_that_could_not_be_loaded_is_refused(make_vae, tmp_path, name):
    with pytest.raises(InvalidArgument, match=rf"{name} would be .* VAE cannot be loaded\. Save"):
        make_vae().save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_config_round_trip_builds_the_same_architecture(make_vae):
    model = make_vae("normal", latents=3, seed=5)
    copy = tfvae.VAE.from_config(model.get_config())
    assert (copy.seed, copy.name) == (5, model.name)
    assert (copy.x_shape, copy.latent_shape) == ((4, 4, 1), (3,))
    assert [w.shape for w in copy.weights] == [w.shape for w in model.weights]
