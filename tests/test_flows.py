"""Flows against autodiff Jacobians, quadrature and their own inverses."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfvae import flows
from tfvae.distributions.flow import FlowDistribution
from tfvae.errors import InvalidArgument
from tfvae.random import make_seed

tfd = tfp.distributions

SIZE, CONTEXT = 5, 3
FLOWS = {
    "affine_coupling": lambda dtype: flows.AffineCoupling((8,), "tanh", dtype=dtype),
    "spline_coupling": lambda dtype: flows.SplineCoupling(
        6, 4.0, hidden=(8,), activation="tanh", dtype=dtype
    ),
    "maf": lambda dtype: flows.MaskedAutoregressive("inverse", (9,), "tanh", dtype=dtype),
    "iaf": lambda dtype: flows.MaskedAutoregressive("forward", (9, 7), "tanh", dtype=dtype),
    "permutation": lambda dtype: flows.Permutation(3, dtype=dtype),
    "linear": lambda dtype: flows.Linear(2, dtype=dtype),
    "chain": lambda dtype: flows.stack("affine_coupling", 3, (8,), activation="tanh", dtype=dtype),
}


def build(name, size=SIZE, context_size=0, dtype="float64", spread=0.5):
    """Return a flow whose weights are far from the identity."""
    flow = FLOWS[name](dtype)
    flow.build(size, context_size)
    rng = np.random.default_rng(0)
    for weight in flow.weights:
        weight.assign(rng.normal(0, spread, weight.shape))
    return flow


@pytest.fixture(params=FLOWS)
def name(request):
    return request.param


def values(rng, *shape, dtype="float64"):
    return tf.constant(rng.normal(0, 1.5, shape), dtype)


class TestEveryFlow:
    @pytest.mark.parametrize("context_size", [0, CONTEXT])
    def test_log_det_is_that_of_the_jacobian(self, name, context_size, rng):
        flow = build(name, context_size=context_size)
        context = values(rng, 4, context_size) if context_size else None
        for function in (flow.forward, flow.inverse):
            x = values(rng, 4, SIZE)
            with tf.GradientTape(persistent=True) as tape:
                tape.watch(x)
                y, log_det = function(x, context)
            jacobian = tape.batch_jacobian(y, x, experimental_use_pfor=False)
            expected = np.linalg.slogdet(jacobian)[1]
            np.testing.assert_allclose(log_det, expected, rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize(("dtype", "error"), [("float64", 1e-10), ("float32", 5e-5)])
    def test_the_inverse_undoes_the_forward(self, name, dtype, error, rng):
        flow = build(name, context_size=CONTEXT, dtype=dtype)
        u, context = values(rng, 50, SIZE, dtype=dtype), values(rng, 50, CONTEXT, dtype=dtype)
        z, forward = flow.forward(u, context)
        back, inverse = flow.inverse(z, context)
        assert z.dtype == forward.dtype == dtype
        np.testing.assert_allclose(back, u, rtol=error, atol=error)
        np.testing.assert_allclose(inverse, -forward, rtol=error, atol=error)

    def test_leading_axes_are_kept_and_a_context_is_broadcast(self, name, rng):
        flow = build(name, context_size=CONTEXT)
        u, context = values(rng, 2, 3, SIZE), values(rng, 3, CONTEXT)
        z, log_det = flow.forward(u, context)
        assert z.shape == (2, 3, SIZE)
        assert log_det.shape == (2, 3)
        one, one_det = flow.forward(u[1, 2:], context[2:])
        np.testing.assert_allclose(one[0], z[1, 2], rtol=1e-12)
        np.testing.assert_allclose(one_det[0], log_det[1, 2], rtol=1e-12)

    def test_it_is_the_same_under_xla(self, name, rng):
        flow = build(name, dtype="float32")
        u = values(rng, 6, SIZE, dtype="float32")
        for function in (flow.forward, flow.inverse):
            compiled = tf.function(function, jit_compile=True)
            for ours, theirs in zip(function(u), compiled(u), strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)

    def test_it_starts_at_the_identity_up_to_the_order(self, name, rng):
        flow = FLOWS[name]("float64")
        flow.build(SIZE)
        u = values(rng, 7, SIZE)
        z, log_det = flow.forward(u)
        np.testing.assert_allclose(np.sort(z, axis=-1), np.sort(u, axis=-1), rtol=1e-12)
        np.testing.assert_allclose(log_det, 0, atol=1e-12)

    def test_values_and_gradients_are_finite_far_out(self, name):
        flow = build(name, dtype="float32")
        x = tf.constant([[100.0, -100.0, 0.0, 5.0, -5.0], [4.0, -4.0, 1e-6, 30.0, -30.0]])
        for function in (flow.forward, flow.inverse):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y, log_det = function(x)
                total = tf.reduce_sum(y) + tf.reduce_sum(log_det)
            found = tape.gradient(total, [x, *flow.trainable_variables])
            for part in (y, log_det, *(g for g in found if g is not None)):
                assert np.all(np.isfinite(part))

    def test_a_config_gives_it_back(self, name):
        flow = build(name, dtype="float32")
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(flow))
        if not copy.built:
            copy.build(SIZE)
        copy.set_weights(flow.get_weights())
        u = tf.ones([2, SIZE])
        np.testing.assert_array_equal(copy.forward(u)[0], flow.forward(u)[0])

    @pytest.mark.parametrize("size", [1, 2])
    def test_short_vectors_work(self, name, size, rng):
        flow = build(name, size=size)
        u = values(rng, 3, size)
        np.testing.assert_allclose(flow.inverse(flow.forward(u)[0])[0], u, atol=1e-9)


@pytest.mark.parametrize("name", ["maf", "iaf"])
def test_number_d_depends_on_those_before_it_alone(name, rng):
    flow = build(name)
    x = values(rng, 1, SIZE)
    function = flow.inverse if name == "maf" else flow.forward
    with tf.GradientTape() as tape:
        tape.watch(x)
        y, _ = function(x)
    jacobian = tape.batch_jacobian(y, x)[0].numpy()
    np.testing.assert_array_equal(np.triu(jacobian, 1), 0)
    assert np.all(np.abs(jacobian[np.tril_indices(SIZE)]) > 0)


def test_every_number_is_moved_by_a_stack(rng):
    """After four couplings the Jacobian has no zeros: every number depends on every other."""
    flow = flows.stack("affine_coupling", 4, (16,), activation="tanh", dtype="float64")
    flow.build(6)
    for weight in flow.weights:
        weight.assign(rng.normal(0, 0.5, weight.shape))
    u = values(rng, 1, 6)
    with tf.GradientTape() as tape:
        tape.watch(u)
        z, _ = flow.forward(u)
    assert np.all(np.abs(tape.batch_jacobian(z, u)[0].numpy()) > 0)


def test_a_spline_is_monotone_and_continuous(rng):
    theta = tf.constant(rng.normal(0, 2, (1, 3 * 5 - 1)))
    x = tf.constant(np.linspace(-6, 6, 20_001)[:, np.newaxis])
    y, log_slope = flows.spline_coupling.spline(x, flows.spline_coupling.knots(theta, 5, 4.0))
    steps = np.diff(y[:, 0])
    assert steps.min() > 0
    middle = np.exp(0.5 * (log_slope[1:, 0] + log_slope[:-1, 0]))
    np.testing.assert_allclose(steps, middle * np.diff(x[:, 0]), rtol=0.02)


def law(flow, size=2):
    zeros = tf.zeros([size])
    return FlowDistribution(tfd.Independent(tfd.Normal(zeros, tf.ones([size])), 1), flow)


AXIS = np.linspace(-12, 12, 481, dtype=np.float32)
GRID = np.stack(np.meshgrid(AXIS, AXIS), -1).reshape(-1, 2)


def prove_integral(flow):
    """The density of z integrates to one, by quadrature in two dimensions."""
    density = np.exp(law(flow).log_prob(GRID).numpy().astype(np.float64))
    assert density.sum() * (AXIS[1] - AXIS[0]) ** 2 == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("name", ["affine_coupling", "spline_coupling", "maf", "linear", "chain"])
class TestDistribution:
    def test_the_density_integrates_to_one(self, name):
        prove_integral(build(name, 2, dtype="float32", spread=0.3))

    def test_the_log_density_of_a_draw_is_that_of_its_value(self, name):
        distribution = law(build(name, 2, dtype="float32"))
        z, log_prob = distribution.sample_and_log_prob([100], seed=make_seed(1))
        np.testing.assert_allclose(log_prob, distribution.log_prob(z), rtol=1e-4, atol=1e-4)

    def test_draws_have_the_moments_of_the_density(self, name, assert_mean):
        distribution = law(build(name, 2, dtype="float32", spread=0.3))
        weight = np.exp(distribution.log_prob(GRID).numpy().astype(np.float64))
        weight /= weight.sum()
        drawn = {
            "sample": distribution.sample(20_000, seed=make_seed(2)).numpy(),
            "draw": distribution.draw(make_seed(3), tf.range(20_000)).numpy(),
        }
        for z in drawn.values():
            for power in (1, 2):
                assert_mean(z**power, weight @ GRID.astype(np.float64) ** power)

    def test_a_draw_depends_on_seed_and_index_alone_and_temperature_zero_is_the_centre(self, name):
        distribution = law(build(name, 2, dtype="float32"))
        z = distribution.draw(make_seed(5), tf.range(8)).numpy()
        np.testing.assert_allclose(
            distribution.draw(make_seed(5), tf.constant([6]))[0], z[6], rtol=1e-5
        )
        cold = distribution.draw(make_seed(5), tf.range(2), 0.0)
        np.testing.assert_allclose(cold[1], distribution.representative(), rtol=1e-5)


class WithoutLogDet(flows.AffineCoupling):
    def inverse(self, z, context=None):
        u, log_det = super().inverse(z, context)
        return u, 0.0 * log_det


def test_the_proof_of_the_integral_fails_on_a_flow_that_drops_its_log_det():
    flow = WithoutLogDet((8,), "tanh")
    flow.build(2)
    rng = np.random.default_rng(0)
    for weight in flow.weights:
        weight.assign(rng.normal(0, 0.5, weight.shape))
    with pytest.raises(AssertionError):
        prove_integral(flow)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: flows.get("realnvp"), "Unknown flow 'realnvp'"),
        (lambda: flows.stack("linear"), "Unknown flow 'linear'"),
        (lambda: flows.stack("affine_coupling", 0), "`num_layers` is 0"),
        (lambda: flows.stack("affine_coupling", 2, num_bins=3), "'num_bins'"),
        (lambda: flows.SplineCoupling(bound=0.0), "`bound` is 0.0"),
        (lambda: flows.MaskedAutoregressive("sideways"), "sideways"),
        (lambda: flows.MaskedAutoregressive(hidden=()), "`hidden` is empty"),
        (lambda: flows.Chain([]), "expected at least one"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(InvalidArgument, match=message):
        make()
