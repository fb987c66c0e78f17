import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiers import LONG, nightly_but

import tfvae
from tfvae import estimators, objectives, random
from tfvae.bound import Bound
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.evaluation import diagnosis, gradient_draws
from tfvae.evaluation.gradient_draws import GradientDraws

pytestmark = pytest.mark.slow  # Compiles graphs of whole models.


@pytest.fixture(scope="module")
def bits():
    """A model with three bits, and ten images."""
    keras.utils.set_random_seed(2)
    encoder = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    decoder = keras.Sequential([keras.Input((3,)), keras.layers.Dense(6)])
    model = tfvae.VAE(encoder, decoder, posterior="bernoulli")
    rng = np.random.default_rng(2)
    model.set_weights([rng.normal(0, 1, w.shape).astype("f4") for w in model.get_weights()])
    return model, rng.integers(0, 2, (10, 6)).astype("f4")


@pytest.fixture
def untimed(monkeypatch):
    """Leave out the time of a step, whose graph takes as long as that of the draws."""
    monkeypatch.setattr(GradientDraws, "milliseconds", lambda self: 0.0)


@pytest.fixture
def brief(eagerly, monkeypatch):
    """Make no graphs, three groups of draws, and one step whose time is taken."""
    milliseconds = GradientDraws.milliseconds
    monkeypatch.setattr(GradientDraws, "milliseconds", lambda self: milliseconds(self, repeats=1))
    monkeypatch.setattr(gradient_draws, "_UNTIMED", 0)
    for module in (gradient_draws, diagnosis):
        monkeypatch.setattr(module, "GROUPS", 3)


FEW = ("exact", "rloo", "straight_through")
MANY = (*FEW, "vimco", "score_function")
FITTING = {
    ("elbo", "exact"),
    ("elbo", "rloo"),
    ("elbo", "vimco"),
    ("elbo", "straight_through"),
    ("elbo", "score_function"),
    ("iwae", "exact"),
    ("iwae", "vimco"),
    ("iwae", "straight_through"),
    ("iwae", "score_function"),
}


@pytest.fixture(scope="module", params=[FEW, pytest.param(MANY, marks=LONG)], ids=["few", "many"])
def result(bits, request):
    model, x = bits
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GradientDraws, "milliseconds", lambda self: 0.0)
        names = list(request.param)
        return tfvae.diagnose(model, x, names=names, num_samples=2, num_draws=600, num_warmup=5)


def rows(result, **wanted):
    return [row for row in result.rows if all(getattr(row, k) == v for k, v in wanted.items())]


def test_there_is_a_row_for_each_estimator_that_fits_each_objective(result, request):
    names = request.node.callspec.params["result"]
    expected = {(objective, name) for objective, name in FITTING if name in names}
    assert {(row.objective, row.estimator) for row in result.rows} == expected
    assert result.reference == {"elbo": "exact", "iwae": "exact"}


def test_the_exact_gradient_has_neither_bias_nor_variance(result):
    for row in rows(result, estimator="exact"):
        assert row.scale == pytest.approx(1, abs=1e-12)
        assert row.bias == pytest.approx(0, abs=1e-7)
        assert (row.scale_standard_error, row.variance, row.snr) == (0, 0, np.inf)


def test_unbiased_estimators_stay_within_the_errors_of_scale_and_bias(result):
    unbiased = [row for row in result.rows if row.estimator in ("rloo", "vimco", "score_function")]
    assert unbiased
    for row in unbiased:
        assert abs(row.scale - 1) < 3 * row.scale_standard_error
        assert abs(row.bias) < 3 * row.bias_standard_error
        assert row.bias_standard_error < 0.5


def test_the_bias_of_straight_through_stands_out(result):
    (row,) = rows(result, estimator="straight_through", objective="elbo")
    assert row.bias > 5 * row.bias_standard_error


def test_variance_and_snr_are_those_of_the_draws(bits, result):
    """Recomputed in NumPy from the gradients of the same seeds."""
    model, x = bits
    draws = GradientDraws(model.copy(), tf.constant(x), None, objectives.elbo, "rloo", 2, seed=0)

    @tf.function(autograph=False)
    def gradients_of(numbers):
        seed = lambda n: random.fold_in(draws.seed, int(random.Stream.TEST), n)  # noqa: E731
        return tf.map_fn(lambda n: draws.gradient(seed(n)), numbers, tf.float32)

    gradients = gradients_of(tf.range(600)).numpy().astype("f8")
    variance = gradients.var(axis=0, ddof=1).sum()
    (row,) = rows(result, estimator="rloo")
    assert row.variance == pytest.approx(variance, rel=1e-5)
    squared_norm = np.sum(gradients.mean(axis=0) ** 2) - variance / 600
    assert row.snr == pytest.approx(np.sqrt(squared_norm / variance), rel=1e-4)


@pytest.mark.parametrize(
    ("objective", "reference"),
    [("elbo", "sticking_the_landing"), pytest.param("iwae", "dreg", marks=LONG)],
)
def test_continuous_latents_have_a_reference_of_less_variance(
    linear_gaussian, untimed, objective, reference
):
    """The gradients in the encoder's weights, chosen here, are drawn anew from the same seeds."""
    model, x = linear_gaussian.vae(), linear_gaussian.x
    options = {"objective_names": (objective,), "num_samples": 2, "num_draws": 20}
    result = tfvae.diagnose(model, x, names=["pathwise"], **options)
    assert result.reference == {objective: reference}
    estimator, encoder = estimators.get("pathwise"), model.encoder.trainable_variables
    (row,) = result.rows
    assert abs(row.scale - 1) < 4 * row.scale_standard_error < 1
    assert abs(row.bias) < 4 * row.bias_standard_error < 4
    bound = Bound(objectives.get(objective), 2)

    @tf.function(autograph=False)
    def gradient(number):
        seed = random.fold_in(random.make_seed(0), int(random.Stream.TEST), number)
        with tf.GradientTape() as tape:
            estimate = estimator.estimate(bound, model.inference(x), x, seed, False)
            loss = -tf.reduce_mean(estimate.surrogate)
        return tf.concat([tf.reshape(g, [-1]) for g in tape.gradient(loss, encoder)], 0)

    gradients = [gradient(number) for number in tf.range(20)]
    variance = np.var(gradients, axis=0, ddof=1).sum()
    assert row.variance == pytest.approx(variance, rel=1e-4)


@pytest.mark.parametrize(
    ("objective", "reference"), [("elbo", "sticking_the_landing"), ("iwae", "dreg")]
)
def test_the_reference_of_continuous_latents_is_named(linear_gaussian, objective, reference):
    found = diagnosis._reference_name(linear_gaussian.vae(), objectives.get(objective), 2)
    assert found == reference


def test_the_draws_of_the_reference_are_others_than_those_it_is_compared_with(
    linear_gaussian, untimed, monkeypatch, rng
):
    streams = []

    def groups(self, count, stream):
        streams.append(stream)
        return rng.normal(size=(20, 24)), 24.0, count

    monkeypatch.setattr(GradientDraws, "groups", groups)
    options = {"names": ["sticking_the_landing"], "objective_names": ("elbo",), "num_draws": 20}
    tfvae.diagnose(linear_gaussian.vae(), linear_gaussian.x, num_samples=1, **options)
    assert len(set(streams)) == len(streams) == 2


def test_a_normalized_gradient_has_another_scale_and_no_bias(bits, brief):
    """As that of NVIL, which divides an unbiased gradient by a moving deviation."""
    model, x = bits

    @estimators.REGISTRY.register("a tenth of rloo")
    class Tenth(estimators.RLOO):
        def estimate(self, *arguments):
            estimate = super().estimate(*arguments)
            rest = tf.stop_gradient(estimate.surrogate)
            surrogate = rest + 0.1 * (estimate.surrogate - rest)
            return estimators.Estimate(surrogate, estimate.terms)

    result = tfvae.diagnose(
        model,
        x,
        names=["rloo", "a tenth of rloo"],
        objective_names=("elbo",),
        num_samples=2,
        num_draws=6,
    )
    tenth, plain = sorted(result.rows, key=lambda row: row.estimator)
    assert tenth.scale == pytest.approx(plain.scale / 10, rel=1e-4)
    assert tenth.bias == pytest.approx(plain.bias, abs=1e-4)
    assert tenth.snr == pytest.approx(plain.snr, rel=1e-4)


@pytest.fixture(scope="module")
def twenty_bits():
    """A model whose states are too many to enumerate them."""
    encoder = keras.Sequential([keras.Input((6,)), keras.layers.Dense(20)])
    decoder = keras.Sequential([keras.Input((20,)), keras.layers.Dense(6)])
    return tfvae.VAE(encoder, decoder, posterior="bernoulli")


def test_states_that_are_too_many_have_another_reference_and_no_row_that_is_exact(twenty_bits):
    assert diagnosis._reference_name(twenty_bits, objectives.elbo, 4) == "rloo"
    names = ["disarm", "exact", "gumbel_softmax"]
    fitting = diagnosis._fitting(twenty_bits, objectives.elbo, 4, names)
    assert fitting == ["disarm", "gumbel_softmax"]


@pytest.mark.nightly
def test_where_states_are_too_many_the_reference_is_drawn(bits, twenty_bits, untimed):
    result = tfvae.diagnose(
        twenty_bits,
        bits[1],
        names=["disarm", "exact", "gumbel_softmax"],
        objective_names=("elbo",),
        num_draws=100,
        num_warmup=0,
    )
    assert result.reference == {"elbo": "rloo"}
    assert [row.estimator for row in result.rows] == ["disarm", "gumbel_softmax"]
    assert abs(result.rows[0].bias) < 3 * result.rows[0].bias_standard_error


def test_the_model_is_not_changed(bits, brief):
    model, x = bits
    model.compile("sgd", objective="iwae", estimator="nvil", num_samples=3)
    before = model.get_weights()
    tfvae.diagnose(model, x, names=["nvil"], objective_names=("elbo",), num_draws=3, num_warmup=3)
    assert isinstance(model.estimator, estimators.NVIL)
    assert model.objective is objectives.iwae
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_moving_statistics_of_networks_stay_as_they_are(bits, brief):
    """Rows are measured one after another, in training and out of it, of the same function."""
    _, x = bits
    layers = [keras.layers.BatchNormalization(), keras.layers.Dense(3)]
    encoder = keras.Sequential([keras.Input((6,)), *layers])
    decoder = keras.Sequential([keras.Input((3,)), keras.layers.Dense(6)])
    model = tfvae.VAE(encoder, decoder, posterior="bernoulli")
    names = ["disarm", "nvil", "exact"]
    options = {"names": names, "objective_names": ("elbo",), "num_draws": 3, "num_warmup": 1}
    result = tfvae.diagnose(model, x, num_samples=2, **options)
    (row,) = rows(result, estimator="exact")
    assert row.scale == pytest.approx(1, abs=1e-6)
    assert row.bias == pytest.approx(0, abs=1e-3)


def test_draws_are_rounded_up_to_whole_groups(bits, untimed):
    model, x = bits
    result = tfvae.diagnose(
        model, x, names=["exact"], objective_names=("elbo",), num_samples=1, num_draws=39
    )
    assert result.num_draws == 40


def test_the_summary_is_json(result):
    summary = json.loads(json.dumps(result.summary(), allow_nan=False))
    assert set(summary["rows"][0]) == {
        "estimator",
        "objective",
        "num_samples",
        "scale",
        "scale_standard_error",
        "bias",
        "bias_standard_error",
        "variance",
        "snr",
        "ms_per_step",
    }
    assert summary["reference"]["elbo"] == "exact"


def test_bad_input_is_refused(bits):
    model, x = bits
    with pytest.raises(InvalidArgument, match="at least 20"):
        tfvae.diagnose(model, x, num_draws=5)
    with pytest.raises(InvalidArgument, match=r"`num_draws` is 40\.5; expected a whole number"):
        tfvae.diagnose(model, x, num_draws=40.5)
    with pytest.raises(InvalidArgument, match="`num_warmup` is -1; expected a whole number"):
        tfvae.diagnose(model, x, num_warmup=-1)
    with pytest.raises(InvalidArgument, match="`names` is empty"):
        tfvae.diagnose(model, x, names=[])
    with pytest.raises(InvalidArgument, match="`objective_names` is empty"):
        tfvae.diagnose(model, x, objective_names=())
    with pytest.raises(InvalidArgument, match=r"Unknown estimator 'vimc'.*'vimco'"):
        tfvae.diagnose(model, x, names=["vimc"])
    with pytest.raises(InvalidArgument, match="None of pathwise fits elbo"):
        tfvae.diagnose(model, x, names=["pathwise"], objective_names=("elbo",))
    with pytest.raises(InvalidData, match="shape"):
        tfvae.diagnose(model, x[:, :3])


@keras.saving.register_keras_serializable("tests")
class RowsByPlace(keras.layers.Layer):
    """Adds to each example of a batch of `len(rows)` a row of its own."""

    def __init__(self, rows, **kwargs):
        super().__init__(**kwargs)
        self.rows = rows

    def call(self, inputs):
        places = keras.ops.reshape(inputs, (-1, *np.shape(self.rows)))
        return keras.ops.reshape(places + np.float32(self.rows), keras.ops.shape(inputs))

    def get_config(self):
        return {**super().get_config(), "rows": self.rows}


@pytest.mark.parametrize("y", nightly_but([[1, 0, 0, 1], 1], [1, 0, 0, 1]))
def test_conditions_have_the_gradients_of_networks_in_which_they_are_fixed(y, untimed):
    """Where the decoder alone takes them, whose weights are not differentiated."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (4, 6)).astype("f4")
    encoder = tfvae.networks.dense_encoder((6,), 4, hidden=(3,))
    decoder = tfvae.networks.dense_decoder(2, (6,), (), condition_size=2)
    kernel, bias = 3 * rng.normal(size=(4, 6)), np.ones(6)
    decoder.set_weights([kernel, bias])
    rows = np.broadcast_to(kernel[2:][y], (4, 6)).tolist()
    fixed = keras.Sequential([keras.Input((2,)), keras.layers.Dense(6), RowsByPlace(rows)])
    fixed.set_weights([kernel[:2], bias])
    found, expected = (
        tfvae.diagnose(
            model,
            x,
            condition=condition,
            names=["pathwise"],
            objective_names=("elbo",),
            num_samples=2,
            num_draws=20,
            progress=False,
        ).rows[0]
        for model, condition in (
            (tfvae.VAE(encoder, decoder, condition=2), y),
            (tfvae.VAE(encoder, fixed), None),
        )
    )
    for name in ("scale", "bias", "variance", "snr"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-3), name


def test_a_decoder_may_have_losses_of_its_own(bits, brief):
    """They are no part of a bound, so that no estimator is refused for them."""
    _, x = bits
    encoder = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    regular = keras.layers.Dense(6, activity_regularizer="l2")
    decoder = keras.Sequential([keras.Input((3,)), regular])
    model = tfvae.VAE(encoder, decoder, posterior="bernoulli")
    options = {"names": ["rloo", "disarm"], "num_draws": 3, "num_warmup": 2}
    found = tfvae.diagnose(model, x, num_samples=2, objective_names=["elbo"], **options)
    assert {row.estimator for row in found.rows} == {"rloo", "disarm"}
