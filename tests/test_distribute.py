"""Training on two replicas, logical CPUs of one process, and the choice of devices."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from tfvae import distribute
from tfvae.errors import InvalidArgument

pytestmark = pytest.mark.slow  # Starts processes.

SCRIPT = """
import json, sys
import keras, numpy as np, tensorflow as tf, tensorflow_probability as tfp
import tfvae
from tfvae import distribute

cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(
    cpus[0], [tf.config.LogicalDeviceConfiguration()] * 3
)

class Anneal(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.model.beta = 0.3 * epoch

POSTERIORS = {"bernoulli": 3, "diagonal_normal": 6, "full_normal": 9}

class OwnNormal(tfvae.posteriors.Posterior):  # that draws with the generator of TFP
    params_per_channel = 2

    def distribution(self, params, batch_ndims):
        loc, raw = tf.split(params, 2, axis=-1)
        normal = tfp.distributions.Normal(loc, tf.nn.softplus(raw))
        return tfp.distributions.Independent(normal, len(params.shape) - batch_ndims)

def refusal(function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except tfvae.errors.TfvaeError as error:
        return {"refused": str(error)}

def train(
    replicas,
    examples=40,
    bad=False,
    anneal=False,
    posterior="bernoulli",
    batches=0,
    dropout_seed=None,
    **settings
):
    strategy = tf.distribute.MirroredStrategy(
        [f"cpu:{n}" for n in range(replicas)],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
    x = np.random.default_rng(0).integers(0, 2, (examples, 6)).astype("f4")
    with strategy.scope():
        keras.utils.set_random_seed(0)
        dropout = keras.layers.Dropout(0.5, seed=dropout_seed or 0)
        model = tfvae.VAE(
            keras.Sequential(
                [
                    keras.Input((6,)),
                    *([] if dropout_seed is None else [dropout]),
                    keras.layers.Dense(POSTERIORS.get(posterior, 6)),
                ]
            ),
            keras.Sequential([keras.Input((3,)), keras.layers.Dense(6)]),
            posterior=OwnNormal() if posterior == "own" else posterior,
        )
        if settings.get("jit_compile"):
            return refusal(model.compile, **settings)
        model.compile(tfvae.optimizers.Adam(1e-2), **settings)
    if batches:
        data = tfvae.data.shuffled_batches(x, batches)
        if batches % replicas:
            return refusal(model.fit, data, verbose=0)
        history = model.fit(data, epochs=3, verbose=0).history
        return {"history": history, "step": model.steps_made}
    def fit():
        options = {"epochs": 3, "shuffle": False, "verbose": 0}
        options |= {"callbacks": [Anneal()]} if anneal else {}
        if bad:
            return model.fit(tf.data.Dataset.from_tensor_slices(x).batch(20), **options)
        return model.fit(x, batch_size=20, **options)

    history = fit().history
    weights = [np.asarray(w).tolist() for w in model.weights]
    states = [each.numpy().tolist() for each in dropout.seed_generator.state.value.values]
    found = {"history": history, "weights": weights, "step": model.steps_made, "states": states}
    if bad:  # in the graph of before
        x[-1, 0] = -1
        found |= refusal(fit)
    return found

cases = json.loads(sys.argv[1])
print(json.dumps({name: train(**settings) for name, settings in cases.items()}))
"""
PLACES = """
from tfvae import random, replicas

strategy = distribute.strategy("mirrored")
sizes, x = (2, 0, 3), np.arange(10.0).reshape(5, 2).astype("f4")
ends = np.cumsum((0, *sizes))
parts = strategy.experimental_distribute_values_from_function(
    lambda context: tf.constant(
        x[ends[context.replica_id_in_sync_group]:ends[context.replica_id_in_sync_group + 1]]
    )
)

@tf.function(autograph=False)
def run(parts):
    def on_replica(part):
        size = tf.shape(part)[0]
        replicas.begin_step(size)
        with tf.GradientTape() as tape:
            tape.watch(part)
            everything = replicas.gather(part)
            loss = tf.reduce_sum(part[:, :1] * tf.reduce_sum(everything**2))
        gradient = tape.gradient(loss, part)
        noise = random.stateless_normal([4, size, 3], tf.constant([1, 2]), 1)
        rows = random.stateless_uniform([2 * size, 3], tf.constant([1, 2]), 0)
        own = OwnNormal()(tf.zeros([1, 6]))  # the same distribution on every replica
        drawn, _ = tfvae.distributions.sample_and_log_prob(own, [2], tf.constant([1, 2]))
        noise = tf.transpose(noise, [1, 0, 2])
        return everything, gradient, noise, rows, replicas.place(size), drawn
    return strategy.run(on_replica, args=(parts,))

everything, gradient, noise, rows, places, drawn = run(parts)
local = strategy.experimental_local_results
for value in local(everything):
    np.testing.assert_array_equal(value, x)
with tf.GradientTape() as tape:
    whole = tf.constant(x)
    tape.watch(whole)
    loss = tf.reduce_sum(whole[:, :1] * tf.reduce_sum(whole**2))
np.testing.assert_allclose(tf.concat(local(gradient), 0), tape.gradient(loss, whole), rtol=1e-6)
alone = random.stateless_normal([4, 5, 3], tf.constant([1, 2]))
np.testing.assert_array_equal(tf.transpose(tf.concat(local(noise), 0), [1, 0, 2]), alone)
alone = random.stateless_uniform([10, 3], tf.constant([1, 2]))
np.testing.assert_array_equal(tf.concat(local(rows), 0), alone)
places = [[int(n) for n in local(part)] for part in places]
print(json.dumps({"places": places, "drawn": [z.numpy().tolist() for z in local(drawn)]}))
"""

# The last of these batches has one example, so that one of two replicas has none.
NOISY = {
    "pathwise": {
        "posterior": "diagonal_normal",
        "examples": 21,
        "num_samples": 2,
        "anneal": True,
    },
}
FURTHER = {
    "NVIL": {"estimator": "nvil", "num_samples": 2, "examples": 21},
    "TCVAE": {"posterior": "diagonal_normal", "objective": "beta_tcvae", "examples": 25},
    "InfoVAE": {"posterior": "diagonal_normal", "objective": "info_vae", "examples": 25},
    "RELAX": {"estimator": "relax", "num_samples": 2, "examples": 21},
}


def on_both(settings):
    """Return the cases of one replica and of two."""
    return {
        f"{name} on {word}": {"replicas": count, **own}
        for name, own in settings.items()
        for count, word in ((1, "one"), (2, "two"))
    }


CASES = {
    # The last batch has five examples: three on one replica, two on the other.
    "uneven on one": {"replicas": 1, "objective": "exact", "examples": 25},
    "uneven on two": {"replicas": 2, "objective": "exact", "examples": 25, "bad": True},
    "compiled": {"replicas": 2, "jit_compile": True, "objective": "exact"},
    "odd batches": {"replicas": 2, "batches": 5, "objective": "exact"},
    **on_both(NOISY),
}
NIGHTLY_CASES = {
    "dropout": {"replicas": 2, "dropout_seed": 1, "posterior": "diagonal_normal"},
    "other dropout": {"replicas": 2, "dropout_seed": 2, "posterior": "diagonal_normal"},
    **on_both({"batches": {"batches": 10, "objective": "exact"}}),
}


@pytest.fixture(scope="module")
def printed(run_python):
    """What one fresh process printed, where devices are set up before anything is computed."""
    return [
        json.loads(line) for line in run_python(SCRIPT + PLACES, json.dumps(CASES)).splitlines()
    ]


@pytest.fixture(scope="module")
def trained(printed):
    """What comes of each case."""
    return printed[-2]


@pytest.fixture(scope="module")
def trained_further(run_python):
    cases = {"own noise": {"replicas": 2, "posterior": "own"}, **on_both(FURTHER)}
    return json.loads(run_python(SCRIPT, json.dumps(cases)).splitlines()[-1])


@pytest.fixture(scope="module")
def trained_nightly(run_python):
    return json.loads(run_python(SCRIPT, json.dumps(NIGHTLY_CASES)).splitlines()[-1])


def assert_same(one, two, tolerance):
    for a, b in zip(one["weights"], two["weights"], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


def test_two_replicas_give_the_weights_of_one(trained):
    """With the exact gradient there is no noise, so that nothing but rounding differs."""
    one, two = trained["uneven on one"], trained["uneven on two"]
    assert one["step"] == two["step"] == 6
    assert_same(one, two, 2e-6)
    np.testing.assert_allclose(one["history"]["loss"], two["history"]["loss"], rtol=1e-5)


def test_beta_is_assigned_on_every_replica(trained):
    logs = {k: np.asarray(v) for k, v in trained["pathwise on two"]["history"].items()}
    betas = (logs["loss"] - logs["reconstruction"]) / logs["kl"]
    np.testing.assert_allclose(betas, [0.0, 0.3, 0.6], atol=1e-3)


def test_a_batch_out_of_range_is_seen_on_any_replica(trained):
    assert "1 of the batches" in trained["uneven on two"]["refused"]


def check_noise(trained, name):
    """Two replicas give the weights of one, and all that estimators learn of the batch."""
    one, two = trained[f"{name} on one"], trained[f"{name} on two"]
    assert_same(one, two, 2e-3)  # Adam moves by 1e-2 a step
    for measure, values in one["history"].items():
        np.testing.assert_allclose(two["history"][measure], values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NOISY)
def test_an_example_has_the_same_noise_on_any_replica(trained, name):
    check_noise(trained, name)


@pytest.mark.nightly
@pytest.mark.parametrize("name", FURTHER)
def test_further_noise_is_the_same_on_any_replica(trained_further, name):
    check_noise(trained_further, name)


@pytest.mark.nightly
def test_a_distribution_of_ones_own_trains_on_replicas(trained_further):
    assert np.all(np.isfinite(trained_further["own noise"]["history"]["loss"]))


@pytest.mark.nightly
def test_batches_of_tfvae_are_shared_out_in_their_order(trained_nightly):
    one, two = trained_nightly["batches on one"], trained_nightly["batches on two"]
    np.testing.assert_allclose(two["history"]["loss"], one["history"]["loss"], rtol=1e-5)
    assert one["step"] == two["step"] == 12


def test_a_distribution_of_ones_own_draws_other_noise_on_every_replica(printed):
    drawn = np.asarray(printed[-1]["drawn"])  # [replica, K, B, D]
    assert drawn.shape == (3, 2, 1, 3)
    assert len(np.unique(drawn)) == drawn.size


@pytest.mark.nightly
def test_dropout_has_the_noise_of_the_model_s_seed_and_another_on_every_replica(trained_nightly):
    one, other = trained_nightly["dropout"], trained_nightly["other dropout"]
    assert one["weights"] == other["weights"]
    assert one["states"] == other["states"]
    first, second = one["states"]
    assert first != second


def test_what_does_not_go_is_refused(trained):
    assert "2 replicas, and XLA" in trained["compiled"]["refused"]
    assert "batch size 5 is not divisible by the 2" in trained["odd batches"]["refused"]


@pytest.mark.parametrize(
    ("numbers", "same"), [([2, 2, 2], True), ([1, 2, 3], False), ([1, 1, 2], False)]
)
def test_all_workers_learn_whether_their_numbers_are_the_same(monkeypatch, numbers, same):
    """Three workers as threads; 1, 2 and 3 have the sum of three times the second."""
    barrier, given = threading.Barrier(len(numbers)), {}

    def summed(worker):
        def total(value):
            given[worker] = float(value)
            barrier.wait(10)
            result = sum(given.values())
            barrier.wait(10)
            return tf.constant(result)

        return total

    monkeypatch.setattr(distribute, "_sum", summed)
    monkeypatch.setattr(distribute, "is_multi_worker", lambda worker: True)
    monkeypatch.setattr(distribute, "is_chief", lambda worker: worker == 0)
    with ThreadPoolExecutor(len(numbers)) as pool:
        answers = list(pool.map(distribute.all_same, range(len(numbers)), numbers))
    assert answers == [same] * len(numbers)


def test_a_single_device_is_not_several():
    with pytest.raises(InvalidArgument, match="found no GPU, and 1 CPU"):
        distribute.strategy("mirrored")
    with pytest.raises(InvalidArgument, match="expected one of mirrored, multiworker"):
        distribute.strategy("mirror")
    assert distribute.strategy("") is tf.distribute.get_strategy()
    assert distribute.is_chief(distribute.strategy(""))


def test_places_sums_and_noise_on_replicas_of_different_sizes(printed):
    assert printed[-1]["places"] == [[0, 2, 2], [5, 5, 5]]
