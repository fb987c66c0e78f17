import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from tiers import nightly_but

from tfvae import flows
from tfvae.errors import InvalidArgument
from tfvae.flows.conditioner import Conditioner
from tfvae.flows.spline_coupling import SplineCoupling

NETWORKS = {"hidden": (8, 8), "activation": "tanh"}
FLOWS = {
    "affine_coupling": lambda **options: flows.AffineCoupling(**NETWORKS, **options),
    "spline_coupling": lambda **options: flows.SplineCoupling(**NETWORKS, num_bins=4, **options),
    "masked_autoregressive": lambda **options: flows.MaskedAutoregressive(**NETWORKS, **options),
    "inverse_autoregressive": lambda **options: flows.InverseAutoregressive(**NETWORKS, **options),
    "linear": flows.Linear,
    "permutation": lambda **options: flows.Permutation("random", seed=1, **options),
    "chain": lambda **options: flows.FlowChain(
        [flows.AffineCoupling(**NETWORKS, **options), flows.Linear(**options)]
    ),
}
IGNORES_CONTEXT = {"linear", "permutation"}


@pytest.fixture(params=FLOWS)
def name(request):
    return request.param


@pytest.fixture
def make(rng):
    """Return a function that builds a flow, its weights not where they start."""

    def make(name, event_shape=(5,), context_size=0, dtype="float64", scale=0.4):
        flow = FLOWS[name](dtype=dtype)
        flow.build(event_shape, context_size)
        flow.set_weights([scale * rng.normal(size=weight.shape) for weight in flow.weights])
        return flow

    return make


def jacobian(transform, x):
    """Return ∂y/∂x, [N, M, D], of y = transform(x), [N, M], for vectors [N, D]."""
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        units = tf.unstack(transform(x), axis=-1)
    return np.stack([tape.gradient(unit, x, unconnected_gradients="zero") for unit in units], 1)


def jacobian_log_det(transform, x):
    """Return log|det ∂y/∂x| of y = transform(x), for vectors [N, D], by its derivatives."""
    return np.linalg.slogdet(jacobian(transform, x))[1]


class NoLogDet(flows.AffineCoupling):
    """A flow with a fault: what it does to volumes is forgotten."""

    def _forward(self, u, context):
        z, log_det = super()._forward(u, context)
        return z, tf.zeros_like(log_det)


def test_the_list_of_flows_is_complete():
    assert {*flows.REGISTRY.names(), "chain"} == set(FLOWS)


class TestEveryFlow:
    # Measured: 1e-14 and 7e-6, of log-determinants 1e-14 and 2e-5, all by the spline.
    @pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 5e-5)])
    def test_inverse_undoes_forward(self, make, name, rng, dtype, tolerance):
        flow = make(name, dtype=dtype)
        u = tf.constant(2 * rng.normal(size=(500, 5)), dtype)
        z, log_det = flow.forward(u)
        restored, inverse_log_det = flow.inverse(z)
        assert z.dtype == log_det.dtype == dtype
        np.testing.assert_allclose(restored, u, rtol=0, atol=tolerance)
        np.testing.assert_allclose(inverse_log_det, -log_det, rtol=0, atol=10 * tolerance)

    @pytest.mark.parametrize("size", nightly_but([1, 3, 5], 1, 3))
    def test_log_det_is_that_of_the_jacobian(self, make, name, rng, size):
        flow = make(name, (size,), context_size=2)
        x, context = tf.constant(rng.normal(size=(6, size))), tf.constant(rng.normal(size=(6, 2)))
        for transform in (flow.forward, flow.inverse):
            expected = jacobian_log_det(lambda x, t=transform: t(x, context)[0], x)
            np.testing.assert_allclose(transform(x, context)[1], expected, rtol=0, atol=1e-10)

    def test_gradients_are_those_of_the_map(self, make, name, rng):
        flow = make(name)
        x, step = tf.constant(rng.normal(size=(6, 5))), 1e-6 * rng.normal(size=(6, 5))
        for transform in (flow.forward, flow.inverse):
            change = (transform(x + step)[0] - transform(x - step)[0]) / 2
            expected = np.einsum("nmd,nd->nm", jacobian(lambda x, t=transform: t(x)[0], x), step)
            np.testing.assert_allclose(change, expected, rtol=0, atol=1e-11)

    def test_leading_axes_are_free(self, make, name, rng):
        flow = make(name, context_size=2)
        u, context = tf.constant(rng.normal(size=(3, 4, 5))), tf.constant(rng.normal(size=(4, 2)))
        for transform in (flow.forward, flow.inverse):
            y, log_det = transform(u, context)
            assert y.shape == (3, 4, 5)
            assert log_det.shape == (3, 4)
            rows, row_log_det = transform(u[1], context)
            np.testing.assert_allclose(rows, y[1], rtol=1e-12)
            np.testing.assert_allclose(row_log_det, log_det[1], rtol=1e-12)
            one, one_log_det = transform(u[1, 2], context[2])
            np.testing.assert_allclose(one, y[1, 2], rtol=1e-12)
            np.testing.assert_allclose(one_log_det, log_det[1, 2], rtol=1e-12)

    def test_a_grid_is_a_vector(self, make, name, rng):
        flow = make(name, (6,))
        grid = FLOWS[name](dtype="float64")
        grid.build((1, 2, 3))
        grid.set_weights(flow.get_weights())
        u = rng.normal(size=(4, 6))
        for transform, of_grid in ((flow.forward, grid.forward), (flow.inverse, grid.inverse)):
            y, log_det = of_grid(tf.reshape(u, [2, 2, 1, 2, 3]))
            assert y.shape == (2, 2, 1, 2, 3)
            expected, expected_log_det = transform(u)
            np.testing.assert_array_equal(tf.reshape(y, [4, 6]), expected)
            np.testing.assert_array_equal(tf.reshape(log_det, [4]), expected_log_det)
            assert of_grid(tf.reshape(u[0], [1, 2, 3]))[0].shape == (1, 2, 3)

    def test_context_decides(self, make, name, rng):
        flow = make(name, context_size=2)
        u, context = rng.normal(size=(4, 5)), rng.normal(size=(4, 2))
        same = np.allclose(flow.forward(u, context)[0], flow.forward(u, context + 1)[0])
        assert same == (name in IGNORES_CONTEXT)

    def test_another_context_is_refused(self, make, name, rng):
        u = rng.normal(size=(4, 5))
        with pytest.raises(InvalidArgument, match=r"width 2 .* got one of width 0"):
            make(name, context_size=2).forward(u)
        with pytest.raises(InvalidArgument, match=r"width 0 .* got one of width 3"):
            make(name).inverse(u, tf.zeros([4, 3]))

    # The chain is of affine coupling and a linear map.
    @pytest.mark.parametrize(
        "name",
        nightly_but(sorted(set(FLOWS) - {"affine_coupling", *IGNORES_CONTEXT}), "chain"),
    )
    @pytest.mark.slow
    def test_it_is_the_same_under_xla(self, make, name, rng):
        flow = make(name, context_size=2, dtype="float32")
        u = tf.constant(rng.normal(size=(3, 4, 5)), tf.float32)
        context = tf.constant(rng.normal(size=(4, 2)), tf.float32)

        def both(u, context):
            return *flow.forward(u, context), *flow.inverse(u, context)

        compiled = tf.function(both, jit_compile=True, autograph=False)

        for value, expected in zip(compiled(u, context), both(u, context), strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)

    def test_it_starts_with_the_units_as_they_are(self, name, rng):
        flow = FLOWS[name](dtype="float64")
        flow.build((5,), 2)
        u = rng.normal(size=(4, 5))
        z, log_det = flow.forward(u, rng.normal(size=(4, 2)))
        np.testing.assert_allclose(np.sort(z), np.sort(u), rtol=1e-12)
        np.testing.assert_allclose(log_det, 0, atol=1e-12)

    def test_gradients_are_finite_far_out(self, make, name):
        flow = make(name, dtype="float32")
        x = tf.constant([[0.0] * 5, [100.0] * 5, [-100.0] * 5, [5.0] * 5, [-5.0] * 5])
        for transform in (flow.forward, flow.inverse):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y, log_det = transform(x)
                total = tf.reduce_sum(y) + tf.reduce_sum(log_det)
            assert np.all(np.isfinite(y))
            assert np.all(np.isfinite(log_det))
            for gradient in tape.gradient(total, [x, *flow.trainable_weights]):
                assert np.all(np.isfinite(gradient))

    def test_every_weight_is_trained(self, make, name, rng):
        flow = make(name, context_size=2)
        assert flow.trainable_weights or name == "permutation"
        with tf.GradientTape() as tape:
            z, log_det = flow.forward(rng.normal(size=(50, 5)), rng.normal(size=(50, 2)))
            total = tf.reduce_sum(z**2) + tf.reduce_sum(log_det)
        for gradient in tape.gradient(total, flow.trainable_weights):
            assert np.any(gradient)

    def test_it_is_saved_with_a_model(self, make, name, rng, tmp_path):
        model = Holder(make(name, context_size=2, dtype="float32"))
        u, context = rng.normal(size=(4, 5)), rng.normal(size=(4, 2))
        model.save(tmp_path / "model.keras")
        restored = keras.saving.load_model(tmp_path / "model.keras")
        for value, expected in zip(
            restored.flow.forward(u, context), model.flow.forward(u, context), strict=True
        ):
            np.testing.assert_array_equal(value, expected)

    @pytest.mark.parametrize(
        "policy", nightly_but(["mixed_bfloat16", "mixed_float16"], "mixed_bfloat16")
    )
    def test_mixed_precision_leaves_it_alone(self, make, name, rng, policy):
        u = tf.constant(np.round(4 * rng.normal(size=(4, 5))) / 4, tf.float32)  # exact in both
        flow = make(name, dtype="float32")
        expected = flow.forward(u)
        keras.config.set_dtype_policy(policy)
        model = Holder(FLOWS[name](dtype="float32"))
        model.flow.build((5,))
        model.flow.set_weights(flow.get_weights())
        for value, same in zip(model(u), expected, strict=True):
            assert value.dtype == tf.float32
            np.testing.assert_allclose(value, same, rtol=1e-6, atol=1e-6)


@keras.saving.register_keras_serializable("tests")
class Holder(keras.Model):
    """A model that has a flow."""

    def __init__(self, flow, **kwargs):
        super().__init__(**kwargs)
        self.flow = flow
        self.built = True

    def call(self, u):
        return self.flow.forward(u)

    def get_config(self):
        return {"flow": keras.saving.serialize_keras_object(self.flow)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["flow"]))


def test_a_dropped_log_det_is_seen(rng):
    flow = NoLogDet(**NETWORKS, dtype="float64")
    flow.build((5,))
    flow.set_weights([0.4 * rng.normal(size=weight.shape) for weight in flow.weights])
    u = tf.constant(rng.normal(size=(6, 5)))
    expected = jacobian_log_det(lambda u: flow.forward(u)[0], u)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(flow.forward(u)[1], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("hidden", [(), (3,), (7, 7), (6, 9, 4)])
@pytest.mark.parametrize("context_size", [0, 2])
def test_a_parameter_of_a_unit_sees_all_units_before_it_and_no_other(rng, hidden, context_size):
    flow = flows.InverseAutoregressive(hidden, "tanh", dtype="float64")
    flow.build((4,), context_size)
    flow.set_weights([rng.normal(size=weight.shape) for weight in flow.weights])
    u = tf.constant(rng.normal(size=(3, 4)))
    context = tf.constant(rng.normal(size=(3, context_size))) if context_size else None
    before = np.tri(4, k=-1, dtype=bool)
    if hidden == (3,) and context_size:  # degrees 0, 2 and 3: no unit sees the first value alone
        before[1] = False
    for number in (0, 1):
        seen = jacobian(lambda u, n=number: flow._parameters(u, context)[n], u) != 0
        np.testing.assert_array_equal(np.any(seen, axis=0), before)
    if context_size:
        seen = jacobian(lambda c: tf.concat(flow._parameters(u, c), -1), context) != 0
        assert np.all(seen)


@pytest.mark.parametrize("context_size", [0, 2])
def test_narrow_layers_see_values_from_the_first_to_the_last(rng, context_size):
    flow = flows.MaskedAutoregressive((6, 5), dtype="float64")
    flow.build((40,), context_size)
    flow.set_weights([rng.normal(size=weight.shape) for weight in flow.weights])
    z = tf.constant(rng.normal(size=(3, 40)))
    context = tf.constant(rng.normal(size=(3, context_size))) if context_size else None
    seen = np.any(jacobian(lambda z: flow._parameters(z, context)[0], z) != 0, axis=0)
    assert not np.any(seen & ~np.tri(40, k=-1, dtype=bool))
    assert np.all(seen[-1, :-1])  # the last value sees all before it
    unseen = np.arange(40) - seen.sum(axis=1)  # of the values before each
    assert np.max(unseen) <= 39 / 5 + 39 / 4  # a gap between degrees in each of the layers


def test_the_autoregressive_flows_are_each_others_inverse(rng):
    maf, iaf = flows.MaskedAutoregressive((8,)), flows.InverseAutoregressive((8,))
    for flow in (maf, iaf):
        flow.build((4,))
    weights = [0.4 * rng.normal(size=weight.shape) for weight in maf.weights]
    maf.set_weights(weights)
    iaf.set_weights(weights)
    # u·exp(α) + μ and (z − μ)·exp(−α) are inverses; both see the same side, which is z or u.
    z = rng.normal(size=(5, 4)).astype(np.float32)
    loc, log_scale = maf._parameters(z, None)
    np.testing.assert_allclose(maf.inverse(z)[0], (z - loc) * np.exp(-log_scale), rtol=1e-5)
    np.testing.assert_allclose(iaf.forward(z)[0], z * np.exp(log_scale) + loc, rtol=1e-5)
    assert maf.inverse_is_parallel
    assert not maf.forward_is_parallel
    assert iaf.forward_is_parallel
    assert not iaf.inverse_is_parallel


def test_one_maf_layer_has_normal_conditionals(rng):
    flow = flows.MaskedAutoregressive((), dtype="float64")
    flow.build((2,))
    kernel, bias = (rng.normal(size=weight.shape) for weight in flow.weights)
    flow.set_weights([kernel, bias])
    z = rng.normal(size=(5, 2))
    loc = bias[2:] + np.stack([np.zeros(5), z[:, 0] * kernel[0, 3]], 1)
    raw = bias[:2] + np.stack([np.zeros(5), z[:, 0] * kernel[0, 1]], 1)
    u, log_det = flow.inverse(z)
    log_p = np.sum(-0.5 * np.asarray(u) ** 2 - 0.5 * np.log(2 * np.pi), 1) + log_det
    scale = np.exp(2 * np.tanh(raw / 2))
    expected = tfp.distributions.Normal(loc, scale).log_prob(z).numpy().sum(1)
    np.testing.assert_allclose(log_p, expected, rtol=1e-12)


class TestSpline:
    def test_it_is_the_rational_quadratic_spline_of_tfp(self, rng):
        flow = SplineCoupling(num_bins=4, bound=3.0)
        params = rng.normal(size=(200, 2 * flow.params_per_unit))
        u = tf.constant(2.5 * rng.normal(size=(200, 2)))
        widths, heights, slopes = tf.split(tf.reshape(params, [200, 2, -1]), [4, 4, 3], -1)
        sizes = [6.0 * (0.001 + 0.996 * tf.nn.softmax(raw)) for raw in (widths, heights)]
        slopes = 0.001 + tf.nn.softplus(slopes + np.log(np.expm1(0.999)))
        spline = tfp.bijectors.RationalQuadraticSpline(*sizes, slopes, range_min=-3.0)
        z, log_derivative = flow._transform(u, params)
        np.testing.assert_allclose(z, spline.forward(u), rtol=1e-9)
        expected = spline.forward_log_det_jacobian(u, 0)
        np.testing.assert_allclose(log_derivative, expected, rtol=0, atol=1e-9)
        back, log_derivative = flow._transform_back(u, params)
        np.testing.assert_allclose(back, spline.inverse(u), rtol=1e-9)
        expected = spline.inverse_log_det_jacobian(u, 0)
        np.testing.assert_allclose(log_derivative, expected, rtol=0, atol=1e-9)

    def test_it_does_nothing_beyond_its_bound(self, make):
        flow = make("spline_coupling")
        u = np.array([[0.0, 0.0, 5.0, -5.0, 70.0]])
        for transform in (flow.forward, flow.inverse):
            z, log_det = transform(u)
            np.testing.assert_array_equal(z, u)
            np.testing.assert_array_equal(log_det, [0])

    def test_extreme_parameters_leave_it_invertible_in_float32(self, rng):
        flow = SplineCoupling()
        params = tf.constant(20 * rng.normal(size=(500, 4 * 23)), tf.float32)
        z = tf.constant(rng.uniform(-5, 5, size=(500, 4)), tf.float32)
        with tf.GradientTape() as tape:
            tape.watch([z, params])
            u, log_derivative = flow._transform_back(z, params)
            total = tf.reduce_sum(u) + tf.reduce_sum(log_derivative)
        for value in (u, log_derivative, *tape.gradient(total, [z, params])):
            assert np.all(np.isfinite(value))
        # Measured: 5e-4, which is what a slope of up to 1,000 makes of the rounding of u.
        np.testing.assert_allclose(flow._transform(u, params)[0], z, rtol=0, atol=5e-3)


def test_no_raw_value_takes_a_scale_beyond_its_bound():
    raw = np.array([-100.0, -0.5, 0.5, 100.0])
    coupling = flows.AffineCoupling(max_log_scale=1.5)
    params = tf.constant(np.concatenate([raw, np.zeros(4)]))
    expected = 1.5 * np.tanh(raw / 1.5)
    z, log_scale = coupling._transform(tf.ones([4], tf.float64), params)
    np.testing.assert_allclose(log_scale, expected, rtol=1e-12)
    np.testing.assert_allclose(z, np.exp(expected), rtol=1e-12)
    linear = flows.Linear(max_log_scale=1.5, dtype="float64")
    linear.build((4,))
    linear.raw_scale.assign(raw)
    scale = np.exp(expected)[linear.permutation]
    np.testing.assert_allclose(linear.forward(np.ones((1, 4)))[0][0], scale, rtol=1e-12)


class TestChain:
    def test_it_goes_through_its_flows(self, make, rng):
        first, second = make("linear"), make("affine_coupling")
        chain = flows.FlowChain([first, second], dtype="float64")
        chain.build((5,))
        u = rng.normal(size=(4, 5))
        between, log_det = first.forward(u)
        z, more = second.forward(between)
        np.testing.assert_array_equal(chain.forward(u)[0], z)
        np.testing.assert_allclose(chain.forward(u)[1], log_det + more, rtol=1e-12)

    def test_it_is_parallel_where_all_its_flows_are(self):
        chain = flows.FlowChain(["affine_coupling", "masked_autoregressive"])
        assert chain.inverse_is_parallel
        assert not chain.forward_is_parallel

    @pytest.mark.parametrize("mixing", [None, "linear"])
    def test_a_stack_reaches_every_unit(self, mixing, rng):
        flow = flows.stack("affine_coupling", 4, mixing, hidden=(8,), activation="tanh")
        flow.build((5,))
        flow.set_weights([rng.normal(size=weight.shape) for weight in flow.weights])
        u = tf.constant(rng.normal(size=(3, 5)), tf.float32)
        assert np.all(np.any(jacobian(lambda u: flow.forward(u)[0], u) != 0, axis=0))

    def test_the_random_permutations_of_a_stack_differ(self):
        flow = flows.stack("affine_coupling", 4, "random", seed=3)
        flow.build((40,))
        between = [tuple(each.permutation) for each in flow.flows[1::2]]
        assert len(set(between)) == 3

    def test_what_does_not_exist_is_refused(self):
        with pytest.raises(InvalidArgument, match=r"Unknown mixing 'revers'. Did you mean"):
            flows.stack("affine_coupling", mixing="revers")
        with pytest.raises(InvalidArgument, match=r"Unknown flow 'realnvp'.*affine_coupling"):
            flows.stack("realnvp")
        with pytest.raises(InvalidArgument, match="Unknown option of the flow"):
            flows.stack("affine_coupling", num_bins=3)
        with pytest.raises(InvalidArgument, match="of no flows"):
            flows.FlowChain([])

    def test_a_flow_that_is_built_for_other_shapes_is_refused(self, make):
        chain = flows.FlowChain([make("linear", (3,))])
        with pytest.raises(InvalidArgument, match="was built for"):
            chain.build((5,))


def test_a_conditioner_is_a_residual_network(rng):
    """h₁ = W₁ x + V c + b₁, h₂ = h₁ + W₂ tanh(h₁) + b₂, and the outputs W₃ tanh(h₂) + b₃."""
    network = Conditioner((4, 4), "tanh", dtype="float64")
    network.build(3, 4, context_size=2)
    network.set_weights([rng.normal(size=weight.shape) for weight in network.weights])
    x, context = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    (w1, b1), (w2, b2), (w3, b3) = (step.get_weights() for step in network.steps)
    first = x @ w1 + b1 + context @ network.from_context.get_weights()[0]
    second = first + np.tanh(first) @ w2 + b2
    expected = np.tanh(second) @ w3 + b3
    np.testing.assert_allclose(network(x, context), expected, rtol=1e-10)


@pytest.mark.parametrize("number", [0, 1, 2.5])
def test_a_spline_needs_two_bins(number):
    with pytest.raises(InvalidArgument, match="num_bins"):
        SplineCoupling(num_bins=number)


def test_an_event_needs_an_axis():
    with pytest.raises(InvalidArgument, match="event shape"):
        flows.Linear().build(())


def test_a_linear_map_is_its_matrix(make, rng):
    flow = make("linear", (4,))
    z, log_det = flow.forward(np.eye(4))
    matrix = z - flow.bias
    np.testing.assert_allclose(log_det, np.linalg.slogdet(matrix)[1], rtol=1e-10)
    u = rng.normal(size=(3, 4))
    np.testing.assert_allclose(flow.forward(u)[0], u @ matrix + flow.bias, rtol=1e-10)


def test_the_seed_of_a_random_order_is_any_integer():
    for flow in (flows.Permutation("random", seed=-3), flows.Linear("random", seed=-3)):
        flow.build((40,))
        assert sorted(flow.permutation) == list(range(40))
        assert list(flow.permutation) != list(range(40))
