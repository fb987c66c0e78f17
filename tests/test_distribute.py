"""Training on two replicas, two logical CPUs of one process."""

import json

import numpy as np
import pytest

SCRIPT = """
import json, sys
import keras, numpy as np, tensorflow as tf
import tfvae

settings = json.loads(sys.argv[1])
replicas = settings.pop("replicas")
cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(
    cpus[0], [tf.config.LogicalDeviceConfiguration()] * replicas
)
devices = [f"cpu:{n}" for n in range(replicas)]
strategy = tf.distribute.MirroredStrategy(
    devices, cross_device_ops=tf.distribute.ReductionToOneDevice()
)
x = np.random.default_rng(0).integers(0, 2, (settings.pop('examples', 40), 6)).astype("f4")
with strategy.scope():
    keras.utils.set_random_seed(0)
    model = tfvae.VAE(
        keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)]),
        keras.Sequential([keras.Input((3,)), keras.layers.Dense(6)]),
        posterior="bernoulli",
    )
    model.compile(tfvae.optimizers.Adam(1e-2), **settings)
history = model.fit(x, epochs=3, batch_size=20, shuffle=False, verbose=0).history
weights = [np.asarray(w).tolist() for w in model.weights]
print(json.dumps({"history": history, "weights": weights, "step": int(np.asarray(model.step))}))
"""


def train(run_python, **settings):
    return json.loads(run_python(SCRIPT, json.dumps(settings)).splitlines()[-1])


def test_two_replicas_give_the_weights_of_one(run_python):
    """With the exact gradient there is no noise, so that nothing but rounding differs."""
    one, two = (train(run_python, replicas=n, objective="exact") for n in (1, 2))
    assert one["step"] == two["step"] == 6
    for a, b in zip(one["weights"], two["weights"], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)
    np.testing.assert_allclose(one["history"]["loss"], two["history"]["loss"], rtol=1e-5)


@pytest.mark.parametrize("estimator", ["nvil", "relax"])
def test_estimators_that_learn_run_on_two_replicas(run_python, estimator):
    """The last batch has one example, so that one replica has none."""
    done = train(run_python, replicas=2, estimator=estimator, num_samples=2, examples=21)
    assert np.all(np.isfinite(done["history"]["loss"]))
    assert all(np.all(np.isfinite(weight)) for weight in done["weights"])
    assert done["step"] == 6
