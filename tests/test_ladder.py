"""The ladder: against the linear-Gaussian closed form, against the VAE, and layer by layer."""

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from tiers import nightly_but

import tfvae
from tfvae import networks, objectives, priors
from tfvae.bound import Bound
from tfvae.errors import InvalidArgument
from tfvae.joint import replay, sampler
from tfvae.random import make_seed

pytestmark = pytest.mark.slow  # Compiles graphs of whole models.

X_SHAPE = (4, 4, 1)
FORMS = ("residual", "precision")


def dense(form="residual", sizes=(3, 2), likelihood="bernoulli", spread=0.4, **options):
    """Return a small ladder whose weights are far from their start."""
    keras.utils.set_random_seed(1)
    parts = networks.dense_ladder(X_SHAPE, X_SHAPE, sizes, hidden=8, form=form)
    model = tfvae.LadderVAE(*parts, form=form, likelihood=likelihood, **options)
    rng = np.random.default_rng(2)
    for weight in model.trainable_variables:
        weight.assign(rng.normal(0, spread, weight.shape))
    return model


def grids(form="residual", channels=(2, 3, 2), strides=(2, 1, 2), **options):
    keras.utils.set_random_seed(1)
    parts = networks.residual_ladder(X_SHAPE, 1, channels, strides, filters=6, form=form)
    return tfvae.LadderVAE(*parts, form=form, **options)


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).integers(0, 2, (6, *X_SHAPE)).astype("f4")


class LinearGaussian:
    """x = A₁ z₁ + A₂ z₂ + ε with z₁ = B z₂ + s ε′: everything is normal, so log p(x) is known.

    B is diagonal and A₁, A₂ have the same orthogonal rows, so that the true posterior has
    independent units, as q does. In the form "precision" q(z₁|…) sees z₂ through p(z₁|z₂) alone,
    which is enough where A₂ = 0.
    """

    x_scale, z_scale = 0.5, 0.7

    def __init__(self, form):
        rng = np.random.default_rng(3)
        self.form, self.b = form, np.diag([1.2, -0.6])
        rows = np.linalg.qr(rng.normal(size=(4, 2)))[0].T
        self.a1 = np.diag([1.0, 1.5]) @ rows
        self.a2 = np.diag([0.7, -0.4]) @ rows * (form == "residual")
        joint = np.zeros((4, 4))
        joint[2:, 2:] = np.eye(2)
        joint[:2, 2:], joint[2:, :2] = self.b.T, self.b
        joint[:2, :2] = self.b.T @ self.b + self.z_scale**2 * np.eye(2)
        maps = np.concatenate([self.a1, self.a2])
        self.covariance = maps.T @ joint @ maps + self.x_scale**2 * np.eye(4)
        self.x = rng.multivariate_normal(np.zeros(4), self.covariance, 8).astype("f4")

    def log_p(self):
        return scipy.stats.multivariate_normal(np.zeros(4), self.covariance).logpdf(self.x)

    def model(self):
        """Return the ladder of this p; its d₁ is z₂ itself, and q sees x through linear maps."""

        def affine(size, units, kernel=None, bias=None):
            network = keras.Sequential([keras.Input((size,)), keras.layers.Dense(units)])
            if kernel is not None:
                network.set_weights([kernel.astype("f4"), np.zeros(units, "f4") + bias])
            return network

        data = keras.Input((4,))
        features = keras.layers.Identity()(data)
        encoder = keras.Model(data, [features, keras.layers.Identity()(data)])
        raw = np.log(np.expm1(self.z_scale)) - np.log(np.expm1(1.0))
        of_z1 = np.concatenate([self.b, np.zeros((2, 2))], axis=1)
        generation = [affine(2, 4, of_z1, np.array([0, 0, raw, raw]))]
        lower, state = keras.Input((2,)), keras.Input((2,))
        joined = keras.layers.Concatenate()([lower, state])
        last = keras.layers.Dense(4)
        decoder = keras.Model([lower, state], last(joined))
        last.set_weights([np.concatenate([self.a1, self.a2]).astype("f4"), np.zeros(4, "f4")])
        top_down = [decoder, affine(2, 2, np.eye(2), 0.0)]
        inference = [affine(4, 4), affine(4, 4)]
        if self.form == "residual":
            seen = [keras.Input((4,)), keras.Input((2,))]
            values = keras.layers.Dense(4)(keras.layers.Concatenate()(seen))
            inference[0] = keras.Model(seen, values)
        normal = tfvae.likelihoods.Normal(self.x_scale)
        keras.utils.set_random_seed(0)
        model = tfvae.LadderVAE(
            encoder, inference, generation, top_down, form=self.form, likelihood=normal
        )
        for network in (*model.generation_networks, *model.top_down_networks):
            network.trainable = False
        return model


@pytest.fixture(scope="module", params=nightly_but(FORMS, "residual"))
def linear_ladder(request):
    return LinearGaussian(request.param)


def test_the_bound_reaches_the_closed_form(linear_ladder):
    model = linear_ladder.model()
    rate = keras.optimizers.schedules.CosineDecay(0.05, 600)
    model.compile(tfvae.optimizers.Adam(rate), num_samples=8, steps_per_execution=50)
    batches = tf.data.Dataset.from_tensors(linear_ladder.x).repeat(600)
    model.fit(batches, verbose=0, shuffle=False)
    measured = tfvae.log_likelihood(model, linear_ladder.x, num_samples=4000, progress=False)
    off = np.abs(measured.per_example - linear_ladder.log_p())
    assert np.all(off <= 5 * measured.sampling_error + 1e-3)
    assert measured.sampling_error.max() < 0.02
    assert measured.elbo > linear_ladder.log_p().mean() - 0.05


@pytest.mark.nightly
def test_annealed_importance_sampling_agrees(linear_ladder):
    model = linear_ladder.model()
    measured = tfvae.annealed_importance_sampling(
        model, linear_ladder.x, num_chains=16, num_temperatures=200, num_leapfrog=5, progress=False
    )
    off = np.abs(measured.per_example - linear_ladder.log_p())
    assert np.all(off <= 5 * measured.sampling_error + 0.02)


@pytest.mark.parametrize("form", nightly_but(FORMS, "residual"))
def test_one_layer_is_a_vae(x, form):
    keras.utils.set_random_seed(3)
    parts = networks.dense_ladder(X_SHAPE, X_SHAPE, (2,), hidden=8, form=form)
    ladder = tfvae.LadderVAE(*parts, form=form)
    values = parts.inference[0](parts.encoder.output)
    vae = tfvae.VAE(keras.Model(parts.encoder.input, values), parts.top_down[0])
    for objective, estimator in (("elbo", "pathwise"), ("iwae", "dreg")):
        for model in (ladder, vae):
            model.compile("sgd", objective, estimator, num_samples=3, run_eagerly=True)
        logs = [model.evaluate(x, verbose=0, return_dict=True) for model in (ladder, vae)]
        assert logs[0] == pytest.approx(logs[1], rel=1e-6)
    np.testing.assert_allclose(ladder.encode(x), vae.encode(x), rtol=1e-6)
    np.testing.assert_allclose(ladder.sample(3), vae.sample(3), rtol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_the_kl_by_layer_adds_up_and_is_that_of_the_samples(x, form):
    model = dense(form)
    joint = model.inference(x)(sampler(4000, make_seed(0)))
    exact, sampled = (Bound(objectives.elbo, kl=kl).terms(joint) for kl in ("exact", "monte_carlo"))
    for layer in range(2):
        difference = (exact.kls[layer] - sampled.kls[layer]).numpy()
        error = difference.std(axis=0) / np.sqrt(4000)
        assert np.all(np.abs(difference.mean(axis=0)) <= 4 * error)
    np.testing.assert_allclose(exact.kl, exact.kls[0] + exact.kls[1])
    model.compile(num_samples=5, run_eagerly=True)
    logs = model.evaluate(x, verbose=0, return_dict=True)
    assert logs["kl"] == pytest.approx(logs["kl_1"] + logs["kl_2"], rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_replayed_layers_have_the_densities_of_numpy(x, form):
    model = dense(form)
    z = np.random.default_rng(4).normal(size=(5, 6, 5)).astype("f4")
    joint = model.inference(x)(replay(model.split(tf.constant(z))))
    lower, upper = z[..., :3], z[..., 3:]

    def softplus(raw):
        return np.log1p(np.exp(raw + np.log(np.e - 1))) + 1e-6

    def moments(params):
        loc, raw = np.split(np.asarray(params, np.float64), 2, axis=-1)
        return loc, softplus(raw)

    h = [np.broadcast_to(f, (5, 6, 8)).reshape(30, 8) for f in model.bottom_up(x)]
    top = moments(model.inference_networks[1](h[1]))
    log_q = scipy.stats.norm.logpdf(upper.reshape(30, 2), *top).sum(-1)
    state = model.top_down_networks[1](upper.reshape(30, 2))
    p = moments(model.generation_networks[0](state))
    if form == "residual":
        loc, scale = moments(model.inference_networks[0]([tf.constant(h[0]), state]))
        loc, scale = p[0] + loc, p[1] * scale
    else:
        loc, scale = moments(model.inference_networks[0](h[0]))
        variance = 1 / (scale**-2 + p[1] ** -2)
        loc, scale = variance * (loc / scale**2 + p[0] / p[1] ** 2), np.sqrt(variance)
    log_q += scipy.stats.norm.logpdf(lower.reshape(30, 3), loc, scale).sum(-1)
    log_p = scipy.stats.norm.logpdf(upper.reshape(30, 2)).sum(-1)
    log_p += scipy.stats.norm.logpdf(lower.reshape(30, 3), *p).sum(-1)
    np.testing.assert_allclose(np.ravel(joint.log_q()), log_q, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.ravel(joint.log_p()), log_p, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        model.log_joint(x, z), joint.log_likelihood + joint.log_p(), rtol=1e-5
    )


THREE, TWO = ((2, 3, 2), (2, 1, 2)), ((2, 2), (2, 2))


@pytest.mark.parametrize(
    ("form", "sizes"),
    nightly_but([(f, s) for f in FORMS for s in (THREE, TWO)], ("residual", TWO)),
)
def test_grids_train_save_and_sample(x, form, sizes, tmp_path):
    model = grids(form, *sizes)
    count = len(model.layer_shapes)
    assert count == len(sizes[0])
    options = {"free_bits": [0.1, 0.0, 0.2][:count], "beta": [1.0, 0.5, 1.0][:count]}
    model.compile("adam", run_eagerly=True, **options)  # quicker than to trace it
    before = [weight.numpy() for weight in model.trainable_variables]
    for _ in range(2):  # some of the weights have no gradient in the first step
        model.train_on_batch(x[:3])
    assert all(
        np.any(weight.numpy() != old)
        for weight, old in zip(model.trainable_variables, before, strict=True)
    )
    model.save(tmp_path / "ladder.keras")
    again = keras.saving.load_model(tmp_path / "ladder.keras")
    assert again.form == form
    np.testing.assert_array_equal(again.sample(3, seed=1), model.sample(3, seed=1))
    np.testing.assert_array_equal(again.log_weights(x, 2), model.log_weights(x, 2))
    assert model.encode(x).shape == (6, *model.latent_shape)
    np.testing.assert_allclose(model(x), model.decode(model.encode(x)), rtol=1e-5)


def test_a_residual_ladder_starts_with_q_at_p_below_the_top(x):
    model = grids()
    assert model.layer_shapes == ((2, 2, 2), (2, 2, 3), (1, 1, 2))
    assert model.latent_shape == (8 + 12 + 2,)
    assert model.encode(x).shape == (6, 22)
    model.compile(run_eagerly=True)
    logs = model.evaluate(x, verbose=0, return_dict=True)
    assert logs["kl_1"] == pytest.approx(0, abs=1e-4)
    assert logs["kl_2"] == pytest.approx(0, abs=1e-4)


def test_temperatures_go_by_layer():
    model = dense(spread=1.0)
    z = [
        model.split(model.draw(make_seed(2), tf.range(200), temperature)[0])
        for temperature in ([1.0, 0.0], [0.0, 1.0])
    ]
    assert np.std(z[0][1], axis=0).max() == 0
    assert np.std(z[0][0], axis=0).min() > 0.01
    assert np.std(z[1][1], axis=0).min() > 0.5
    with pytest.raises(InvalidArgument, match="3 temperatures; expected one, or one for each"):
        model.sample(1, temperature=[1.0, 1.0, 1.0])


def test_the_signature_draws_what_keras_draws():
    """It is what is exported: the graph that `test_an_export_draws_what_keras_draws` converts."""
    model = dense()
    sample = tfvae.export.signatures.of(model, on_device=True, names=["sample"]).functions["sample"]
    drawn = sample(seed=make_seed(3), index=tf.range(4), temperature=tf.constant(1.0))
    np.testing.assert_allclose(drawn["image"], model.sample(4, seed=3), atol=1e-5)


@pytest.mark.nightly
def test_an_export_draws_what_keras_draws(x, tmp_path):
    model = dense()
    tfvae.export.litert(model, tmp_path / "ladder.tflite", x=x, signatures=["sample"])
    decoder = tfvae.ondevice.Decoder.from_file(tmp_path / "ladder.tflite")
    np.testing.assert_allclose(decoder.sample(4, seed=3), model.sample(4, seed=3), atol=1e-5)


class TestVampPrior:
    """At the top q(z_L|x) sees x alone, so the mixture of it over pseudo-inputs is a prior."""

    @pytest.mark.parametrize("form", FORMS)
    def test_it_is_the_mixture_of_the_top_posteriors_of_its_pseudo_inputs(self, x, form):
        model = dense(form, prior=priors.VampPrior(num_components=4))
        top = model.inference(x)(sampler(5, make_seed(1))).layers[-1]
        h = model.encoder(model.prior.pseudo_inputs)[-1]
        loc, raw = np.split(model.inference_networks[-1](h).numpy(), 2, axis=-1)  # [4, 2] each
        scale = np.log1p(np.exp(raw + np.log(np.expm1(1.0))))
        of_each = scipy.stats.norm(loc, scale).logpdf(top.z.numpy()[..., np.newaxis, :]).sum(-1)
        expected = scipy.special.logsumexp(of_each, axis=-1) - np.log(4)
        np.testing.assert_allclose(top.log_p(), expected, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("make", nightly_but([dense, grids], dense))
    def test_it_starts_at_examples_trains_and_comes_back_from_a_file(self, x, make, tmp_path):
        made = make(prior=priors.VampPrior(num_components=4))
        model = tfvae.LadderVAE.from_config(made.get_config())  # its pseudo-inputs begin anew
        model.compile(keras.optimizers.SGD(1e-9), run_eagerly=True)
        model.fit(x, batch_size=3, shuffle=False, verbose=0)
        np.testing.assert_allclose(model.prior.pseudo_inputs, x[:4], atol=1e-4)
        model.compile("adam", run_eagerly=True)
        before = [weight.numpy() for weight in model.trainable_variables]
        for _ in range(2):  # some of the weights have no gradient in the first step
            model.train_on_batch(x[:3])
        for weight, old in zip(model.trainable_variables, before, strict=True):
            assert np.any(weight.numpy() != old), weight.path
        model.save(tmp_path / "ladder.keras")
        again = keras.saving.load_model(tmp_path / "ladder.keras")
        np.testing.assert_array_equal(again.sample(3, seed=1), model.sample(3, seed=1))
        np.testing.assert_array_equal(again.log_weights(x, 2), model.log_weights(x, 2))

    @pytest.mark.nightly
    def test_an_export_draws_from_it(self, x, tmp_path):
        model = dense(prior=priors.VampPrior(num_components=4))
        tfvae.export.litert(model, tmp_path / "ladder.tflite", x=x, signatures=["sample"])
        decoder = tfvae.ondevice.Decoder.from_file(tmp_path / "ladder.tflite")
        np.testing.assert_allclose(decoder.sample(4, seed=3), model.sample(4, seed=3), atol=1e-5)

    def test_it_is_refused_where_the_way_up_takes_the_condition(self):
        parts = networks.dense_ladder((4,), (4,), (3, 2), hidden=8, condition_size=2)
        with pytest.raises(InvalidArgument, match="VampPrior is made of"):
            tfvae.LadderVAE(*parts, prior="vamp", condition=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p._replace(generation=[]), "2 inference, 0 generation and 2 top-down"),
        (
            lambda p: p._replace(encoder=networks.dense_encoder(X_SHAPE, 8)),
            "The encoder has 1 outputs; expected one for each of the 2",
        ),
        (
            lambda p: p._replace(generation=[networks.dense_encoder((8,), 8)]),
            r"describes latents of shape \(4,\), but the inference network gives \(3,\)",
        ),
        (
            lambda p: p._replace(inference=[p.inference[1], p.inference[1]]),
            r"of z1 has 1 input; expected 2, h_1 and d_1, .* form='residual'",
        ),
    ],
)
def test_networks_that_do_not_fit_are_refused(change, message):
    parts = networks.dense_ladder(X_SHAPE, X_SHAPE, (3, 2), hidden=8)
    with pytest.raises(InvalidArgument, match=message):
        tfvae.LadderVAE(*change(parts))


@pytest.mark.parametrize("condition", [None, 2])
def test_networks_of_the_other_form_are_refused(condition):
    parts = networks.dense_ladder(X_SHAPE, X_SHAPE, (3, 2), 8, condition_size=condition or 0)
    with pytest.raises(InvalidArgument, match=r"of z1 has . inputs; .*h_1.* form='precision'"):
        tfvae.LadderVAE(*parts, form="precision", condition=condition)


@pytest.mark.parametrize("ladder", [networks.dense_ladder, networks.residual_ladder])
def test_a_form_that_does_not_exist_is_refused(ladder):
    with pytest.raises(InvalidArgument, match="Did you mean 'precision'"):
        ladder((8, 8, 1), (8, 8, 1) if ladder is networks.dense_ladder else 1, form="precison")


def test_a_residual_ladder_of_a_series_is_refused():
    with pytest.raises(InvalidArgument, match=r"shape \(8, 1\); expected \(H, W, C\)"):
        networks.residual_ladder((8, 1), 1)


def test_strides_that_do_not_divide_are_refused():
    with pytest.raises(InvalidArgument, match=r"Features of 7×7 cannot be divided by the stride 2"):
        networks.residual_ladder((28, 28, 1), 1, (2, 2, 2), (2, 2, 2))


def test_each_grid_of_a_residual_ladder_has_its_channels():
    options = {"strides": (2, 1, 2), "filters": (3, 4, 5, 6), "activation": "relu"}
    parts = networks.residual_ladder((8, 8, 1), 2, (1, 2, 3), **options)
    assert [tuple(h.shape[1:]) for h in parts.encoder.outputs] == [(4, 4, 4), (4, 4, 5), (2, 2, 6)]
    assert [tuple(n.output.shape[1:]) for n in parts.top_down] == [(8, 8, 2), (4, 4, 4), (4, 4, 5)]
    channels = {layer.filters for layer in parts.top_down[0].layers if hasattr(layer, "filters")}
    assert channels == {2, 3, 4}, "the blocks on the grid of x have its number of channels"
    used = {
        layer.activation.__name__ for layer in parts.encoder.layers if hasattr(layer, "filters")
    }
    assert used == {"relu", "linear"}


def test_filters_that_are_not_one_for_each_grid_are_refused():
    with pytest.raises(InvalidArgument, match=r"`filters` is \[4, 4\] with 2 layers.*, or 3: one"):
        networks.residual_ladder((8, 8, 1), 1, (1, 2), (2, 2), filters=(4, 4))
