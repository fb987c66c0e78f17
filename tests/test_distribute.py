"""Training on two replicas, two logical CPUs of one process."""

import json

import numpy as np
import pytest

SCRIPT = """
import json, sys
import keras, numpy as np, tensorflow as tf
import tfvae

cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(
    cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

class Anneal(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.model.beta = 0.3 * epoch

def train(replicas, examples=40, bad=False, anneal=False, **settings):
    strategy = tf.distribute.MirroredStrategy(
        [f"cpu:{n}" for n in range(replicas)],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
    x = np.random.default_rng(0).integers(0, 2, (examples, 6)).astype("f4")
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = tfvae.VAE(
            keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)]),
            keras.Sequential([keras.Input((3,)), keras.layers.Dense(6)]),
            posterior="bernoulli",
        )
        model.compile(tfvae.optimizers.Adam(1e-2), **settings)
    if bad:
        x[-1, 0] = -1
        data = tf.data.Dataset.from_tensor_slices(x).batch(20)
        try:
            model.fit(data, verbose=0)
        except tfvae.errors.InvalidData as error:
            return {"refused": str(error)}
    options = {"callbacks": [Anneal()]} if anneal else {}
    history = model.fit(x, epochs=3, batch_size=20, shuffle=False, verbose=0, **options).history
    weights = [np.asarray(w).tolist() for w in model.weights]
    return {"history": history, "weights": weights, "step": int(np.asarray(model.step))}

cases = json.loads(sys.argv[1])
print(json.dumps({name: train(**settings) for name, settings in cases.items()}))
"""
LEARNING = ("nvil", "relax")
CASES = {
    "one": {"replicas": 1, "objective": "exact"},
    "two": {"replicas": 2, "objective": "exact"},
    # The last batch has five examples: three on one replica, two on the other.
    "uneven on one": {"replicas": 1, "objective": "exact", "examples": 25},
    "uneven on two": {"replicas": 2, "objective": "exact", "examples": 25},
    "annealed on one": {"replicas": 1, "estimator": "exact", "anneal": True},
    "annealed on two": {"replicas": 2, "estimator": "exact", "anneal": True},
    "out of range": {"replicas": 2, "objective": "exact", "bad": True},
    # The last batch has one example, so that one replica has none.
    **{
        name: {"replicas": 2, "estimator": name, "num_samples": 2, "examples": 21}
        for name in LEARNING
    },
}


@pytest.fixture(scope="module")
def trained(run_python):
    """What comes of each case, all in one fresh process: devices are set up before the first."""
    return json.loads(run_python(SCRIPT, json.dumps(CASES)).splitlines()[-1])


@pytest.mark.parametrize(
    ("on_one", "on_two"),
    [("one", "two"), ("uneven on one", "uneven on two"), ("annealed on one", "annealed on two")],
)
def test_two_replicas_give_the_weights_of_one(trained, on_one, on_two):
    """With the exact gradient there is no noise, so that nothing but rounding differs."""
    one, two = trained[on_one], trained[on_two]
    assert one["step"] == two["step"] == 6
    for a, b in zip(one["weights"], two["weights"], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)
    np.testing.assert_allclose(one["history"]["loss"], two["history"]["loss"], rtol=1e-5)


def test_beta_is_assigned_on_every_replica(trained):
    logs = {k: np.asarray(v) for k, v in trained["annealed on two"]["history"].items()}
    betas = (logs["loss"] - logs["reconstruction"]) / logs["kl"]
    np.testing.assert_allclose(betas, [0.0, 0.3, 0.6], atol=1e-3)


def test_a_batch_out_of_range_is_seen_on_any_replica(trained):
    assert "1 of the batches" in trained["out of range"]["refused"]


@pytest.mark.parametrize("estimator", LEARNING)
def test_estimators_that_learn_run_on_two_replicas(trained, estimator):
    done = trained[estimator]
    assert np.all(np.isfinite(done["history"]["loss"]))
    assert all(np.all(np.isfinite(weight)) for weight in done["weights"])
    assert done["step"] == 6
