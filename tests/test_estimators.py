"""Each estimator against the exact gradient, by enumeration or quadrature rather than by sampling.

Every proof is a function that takes an estimator and raises AssertionError; the last part of the
file shows each of them failing on an estimator that is broken on purpose.
"""

import functools
import itertools

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
import tensorflow_probability as tfp
from tiers import LONG, nightly_but

import tfvae
from tfvae import estimators, objectives
from tfvae.bound import Bound
from tfvae.distributions import all_states
from tfvae.errors import InvalidArgument
from tfvae.estimators import pathwise
from tfvae.estimators.score_function import Centred, fixed_sampler
from tfvae.random import make_seed
from tfvae.surrogates import gradient_only

tfd = tfp.distributions

PIXELS = 5
POSTERIORS = {
    "continuous": "diagonal_normal",
    "bernoulli": "bernoulli",
    "categorical": "categorical",
}
FAMILIES = {kind: tfvae.posteriors.get(name) for kind, name in POSTERIORS.items()}
SHAPES = {"continuous": (1,), "bernoulli": (2,), "categorical": (2, 3)}
OBJECTIVES = {
    "elbo": (objectives.elbo, 2),
    "elbo of one sample": (objectives.elbo, 1),
    "iwae": (objectives.iwae, 2),
    "renyi": (objectives.Renyi(0.5), 2),
    "piwae": (objectives.PIWAE(2), 2),
    "piwae of four samples": (objectives.PIWAE(2), 4),
}


def make_model(kind, shape=None, pixels=PIXELS):
    """Return a small model with weights far from zero, so that no gradient is small by accident."""
    shape = shape or SHAPES[kind]
    params = (2 * shape[0],) if kind == "continuous" else shape
    encoder = keras.Sequential(
        [
            keras.Input((pixels,)),
            keras.layers.Dense(int(np.prod(params))),
            keras.layers.Reshape(params),
        ]
    )
    decoder = keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Flatten(),
            keras.layers.Dense(4, "tanh"),
            keras.layers.Dense(pixels),
        ]
    )
    model = tfvae.VAE(encoder, decoder, posterior=POSTERIORS[kind])
    rng = np.random.default_rng(5)
    model.set_weights([rng.normal(0, 0.6, w.shape).astype("f4") for w in model.get_weights()])
    return model


@functools.cache
def shared_model(kind):
    """Return the one model of a kind for proofs, which compile it anew and do not train it."""
    return make_model(kind)


@functools.cache
def exact_gradient_of_shared(kind, objective, num_samples, beta):
    return exact_gradient(shared_model(kind), kind, objective, num_samples, beta)


def weights_of(model):
    """Return the weights of encoder, decoder and prior: not those of the estimator."""
    parts = (model.encoder, model.decoder, model.prior)
    return [variable for part in parts for variable in part.trainable_variables]


def example(pixels=PIXELS):
    return np.array([[1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0][:pixels]], np.float32)


def estimate(model, bound, x, seed=0, training=True, sample=None, noises=()):
    """Return the estimate of the model's estimator.

    Args:
        model: compiled.
        bound: a `Bound`.
        x: the batch.
        seed: an integer.
        training: whether the estimator's own parts are trained.
        sample: function from q to the samples that it gives in place of random ones.
        noises: what `draw_noise` gives, one after the other.
    """
    infer, noises = model.inference(x, training), list(noises)
    left = iter(noises)

    def with_given_noise(draw):
        def given(number, q):
            if sample is not None:
                q.sample = lambda n, seed=None: sample(q)
            if noises:
                q.draw_noise = lambda shape, seed: next(left)
            return draw(number, q)

        return infer(given)

    context = tf.cast(x, tf.float32)
    return model.estimator.estimate(bound, with_given_noise, context, make_seed(seed), training)


# Configurations: what the expectation runs over. All tuples of K samples lie along the batch.


def discrete_tuples(model, kind, num_samples):
    """Return all K-tuples of states, `[K, S^K, *latent_shape]`."""
    states = all_states(kind, model.latent_shape)
    index = np.array(list(itertools.product(range(len(states)), repeat=num_samples))).T
    return states[index]


def gaussian_nodes(num_samples, nodes=40):
    """Return Gauss–Hermite nodes for K standard normals `[K, N, 1]`, and their weights `[N]`."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    index = np.array(list(itertools.product(range(len(points)), repeat=num_samples))).T
    weights = np.prod((weights / weights.sum())[index], axis=0)
    return points[index][..., np.newaxis].astype(np.float32), weights.astype(np.float32)


def gradient(model, total):
    """Return the gradient of `total()`, a scalar, in the weights of encoder, decoder and prior."""
    with tf.GradientTape() as tape:
        value = total()
    weights = weights_of(model)
    grads = tape.gradient(value, weights)
    return [
        np.zeros(w.shape) if g is None else g.numpy() for w, g in zip(weights, grads, strict=True)
    ]


def exact_gradient(model, kind, objective, num_samples, beta):
    """Return the gradient of E[objective], by enumeration or quadrature, and by autodiff alone.

    Nothing of the estimators is used: log w is written out here.
    """

    def expectation(objective, through_q, through_p):
        def stop_unless(keep, value):
            return value if keep else tf.stop_gradient(value)

        params = stop_unless(through_q, model.encoder(example()))
        if kind == "continuous":
            noise, probability = gaussian_nodes(num_samples)
            loc, raw = tf.split(params, 2, -1)
            scale = tf.nn.softplus(raw + np.log(np.e - 1)) + 1e-6
            z = loc + scale * noise
            log_q = tf.reduce_sum(tfd.Normal(loc, scale).log_prob(z), -1)
            log_prior = tf.reduce_sum(tfd.Normal(0.0, 1.0).log_prob(z), -1)
        else:
            z = discrete_tuples(model, kind, num_samples)
            logits = tf.convert_to_tensor(model.prior.logits)
            if kind == "bernoulli":
                log_q = tf.reduce_sum(tfd.Bernoulli(params).log_prob(z), -1)
                log_prior = tf.reduce_sum(tfd.Bernoulli(logits).log_prob(z), -1)
            else:
                log_q = tf.reduce_sum(tfd.OneHotCategorical(params).log_prob(z), -1)
                log_prior = tf.reduce_sum(tfd.OneHotCategorical(logits).log_prob(z), -1)
            probability = tf.exp(tf.reduce_sum(log_q, 0))
        pixels = model.decoder(tf.reshape(z, [-1, *model.latent_shape]))
        log_px = tf.reduce_sum(tfd.Bernoulli(pixels).log_prob(example()), -1)
        log_p = tf.reshape(log_px, log_q.shape) + beta * log_prior
        if not through_p and kind != "continuous":
            log_p = tf.stop_gradient(log_p)
        return tf.reduce_sum(probability * objective(log_p - beta * log_q))

    encoder_objective = objectives.for_encoder(objective)
    if encoder_objective is objective:
        return gradient(model, lambda: expectation(objective, True, True))
    for_p = gradient(model, lambda: expectation(objective, False, True))
    for_q = gradient(model, lambda: expectation(encoder_objective, True, True))
    count = len(model.encoder.trainable_variables)
    return for_q[:count] + for_p[count:]


def expected_gradient(model, kind, estimator, objective, num_samples, beta):
    """Return the estimator's gradient, summed over all configurations with their probabilities."""
    if isinstance(estimator, estimators.Enumeration):
        configurations, probability, injected = 1, [1.0], {}
    elif kind == "continuous":
        noise, probability = gaussian_nodes(num_samples)
        configurations = noise.shape[1]

        def sample(q):
            return q.distribution.loc + q.distribution.scale * noise

        injected = {"sample": sample}
    elif isinstance(estimator, estimators.DisARM):
        noise, probability = antithetic_cells(model, num_samples)
        configurations, injected = noise.shape[1], {"noises": [noise]}
    else:
        z = tf.constant(discrete_tuples(model, kind, num_samples))
        configurations = z.shape[1]
        q = model.q_z_given_x(np.repeat(example(), configurations, axis=0))
        probability = tf.exp(tf.reduce_sum(q.log_prob(z), 0))
        injected = {"sample": lambda q: z}
    x = tf.constant(np.repeat(example(), configurations, axis=0))

    def total():
        bound = Bound(objective, num_samples, beta)
        drawn = estimate(model, bound, x, **injected)
        if not isinstance(estimator, estimators.Enumeration):
            assert_value_of_objective(estimator, drawn, bound)
        return tf.reduce_sum(tf.stop_gradient(probability) * drawn.surrogate)

    return gradient(model, total)


def assert_value_of_objective(estimator, drawn, bound):
    """Compare the surrogate of each example with the objective at the log-weights it reports."""
    log_w, count = drawn.terms.log_weights(bound.beta), bound.num_samples
    if isinstance(estimator, estimators.DisARM):  # of both halves of the pairs
        expected = 0.5 * (bound.objective(log_w[:count]) + bound.objective(log_w[count:]))
    else:
        expected = bound.objective(log_w)
    assert drawn.surrogate.shape == log_w.shape[1:]
    np.testing.assert_allclose(drawn.surrogate, expected, rtol=1e-5, atol=1e-5)


def antithetic_cells(model, num_samples):
    """Return noise `[K, N, D]` that stands for each joint outcome of all pairs, and probabilities.

    For a bit with probability p the pair (z, z̃) changes at u = p and u = 1 − p.
    """
    p = tf.sigmoid(model.encoder(example())).numpy().astype(np.float64)[0]
    noises, probabilities = [], []
    for bit in p:
        edges = np.array([0.0, min(bit, 1 - bit), max(bit, 1 - bit), 1.0])
        noises.append((edges[1:] + edges[:-1]) / 2)
        probabilities.append(np.diff(edges))
    cells = list(itertools.product(range(3), repeat=num_samples * len(p)))
    index = np.array(cells).reshape(-1, num_samples, len(p))
    bits = np.arange(len(p))
    noise = np.array(noises)[bits, index].transpose(1, 0, 2)
    probability = np.prod(np.array(probabilities)[bits, index], axis=(1, 2))
    return tf.constant(noise, tf.float32), tf.constant(probability, tf.float32)


# The proofs.


def prepared(model, estimator, objective=objectives.elbo, num_samples=1):
    """Return the estimator, with the model compiled for it."""
    model.compile(
        objective=objective, estimator=estimator, num_samples=num_samples, kl="monte_carlo"
    )
    return model.estimator


def moved_from_zero(estimator):
    """Return the estimator with random values in the parts of its own that start at zero.

    The variance of the signal stays below 1, by which NVIL would divide.
    """
    rng = np.random.default_rng(7)
    own = [*getattr(estimator, "_networks", []), getattr(estimator, "_network", None)]
    for network in filter(None, own):
        network.set_weights([rng.normal(0, 0.7, w.shape) for w in network.get_weights()])
    if isinstance(estimator, (estimators.MovingAverage, estimators.NVIL)):
        estimator.update(tf.constant([-3.0, 9.5, 1.0]))
    return estimator


def prove_value(kind, estimator, objective, num_samples, beta=0.7):
    """The surrogate has the value of the objective at the log-weights it reports."""
    model = shared_model(kind)
    estimator = moved_from_zero(prepared(model, estimator, objective, num_samples))
    x = np.random.default_rng(2).integers(0, 2, (6, PIXELS)).astype("f4")
    bound = Bound(objective, num_samples, beta)
    drawn = estimate(model, bound, x, seed=1)
    assert drawn.surrogate.shape == (6,)
    assert_value_of_objective(estimator, drawn, bound)


def prove_unbiased(kind, estimator, objective, num_samples, beta=0.7):
    """The expectation of the gradient, over all configurations, is the exact gradient.

    The surrogate has the value of the objective at each of them.
    """
    model = shared_model(kind)
    estimator = moved_from_zero(prepared(model, estimator, objective, num_samples))
    expected = exact_gradient_of_shared(kind, objective, num_samples, beta)
    found = expected_gradient(model, kind, estimator, objective, num_samples, beta)
    assert max(np.abs(part).max() for part in expected) > 0.05, "nothing to compare"
    for a, b in zip(found, expected, strict=True):
        # Sums of thousands of float32 terms, whose order is up to the threads.
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5)


def prove_unbiased_by_quadrature(estimator, nodes=80):
    """One sample of one bit: a double integral over the uniform noise."""
    model = make_model("bernoulli", (1,))
    estimator = moved_from_zero(prepared(model, estimator))
    expected = exact_gradient(model, "bernoulli", objectives.elbo, 1, 0.7)

    points, weights = np.polynomial.legendre.leggauss(nodes)
    points, weights = (points + 1) / 2, weights / 2
    # z changes where u = 1 − p: the nodes lie on either side of it.
    edge = 1 - float(tf.sigmoid(model.encoder(example())).numpy()[0, 0])
    u = np.concatenate([edge * points, edge + (1 - edge) * points])
    u_weights = np.concatenate([edge * weights, (1 - edge) * weights])
    index = np.array(list(itertools.product(range(len(u)), range(nodes))))
    noises = [u[index[:, 0]].reshape(1, -1, 1), points[index[:, 1]].reshape(1, -1, 1)]
    probability = u_weights[index[:, 0]] * weights[index[:, 1]]
    x = tf.constant(np.repeat(example(), len(index), axis=0))
    noises = [tf.constant(noise, tf.float32) for noise in noises]

    def total():
        bound = Bound(objectives.elbo, beta=0.7)
        surrogate = estimate(model, bound, x, training=False, noises=noises).surrogate
        return tf.reduce_sum(tf.constant(probability, tf.float32) * surrogate)

    for a, b in zip(gradient(model, total), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def prove_unbiased_by_sampling(kind, estimator, objective, num_samples, batches=40, size=2000):
    """The mean gradient of a large seeded sample lies within 4 standard errors of the exact one."""
    model = make_model(kind)
    estimator = moved_from_zero(prepared(model, estimator, objective, num_samples))
    expected = exact_gradient(model, kind, objective, num_samples, 0.7)
    x = tf.constant(np.repeat(example(), size, axis=0))

    @tf.function(autograph=False)
    def draw(seed):
        with tf.GradientTape() as tape:
            bound, infer = Bound(objective, num_samples, 0.7), model.inference(x)
            total = tf.reduce_mean(estimator.estimate(bound, infer, x, seed, False).surrogate)
        return tape.gradient(total, weights_of(model))

    draws = [draw(make_seed(seed)) for seed in range(batches)]
    for part, exact in zip(zip(*draws, strict=True), expected, strict=True):
        part = np.stack(part).astype(np.float64)
        error = part.std(axis=0, ddof=1) / np.sqrt(batches)
        off = np.abs(part.mean(axis=0) - exact)
        worst = np.max(off / np.maximum(error, 1e-12))
        assert np.all(off <= 4 * error + 1e-6), f"off by {worst:.1f} standard errors"


def fits(name, kind, objective, num_samples):
    return estimators.REGISTRY.part(name).misfit([FAMILIES[kind]], objective, num_samples) is None


def is_for_every_run(kind, name, label):
    """Return whether a combination is one of every run: all but Rényi's for one kind of latent.

    An estimator sees another kind by its samples and log-probabilities alone, which one objective
    looks at, IWAE if it fits; REBAR and RELAX, which take longest, make of any objective the same
    terms.
    """
    first = "bernoulli" if fits(name, "bernoulli", *OBJECTIVES[label]) else "continuous"
    if kind == first:
        return label in ("elbo", "iwae") or (name not in QUADRATURE and label != "renyi")
    return label == ("iwae" if fits(name, kind, *OBJECTIVES["iwae"]) else "elbo")


QUADRATURE = ("rebar", "relax")
COMBINATIONS = [
    pytest.param(
        kind,
        name,
        *OBJECTIVES[label],
        id=f"{kind}-{name}-{label}",
        marks=() if is_for_every_run(kind, name, label) else LONG,
    )
    for kind in POSTERIORS
    for name in estimators.REGISTRY.names()
    for label in OBJECTIVES
    if fits(name, kind, *OBJECTIVES[label])
]
# With normalization NVIL's gradient has another scale, a constant that is tested below.
BY_ENUMERATION = [
    combination
    for combination in COMBINATIONS
    if combination.values[1] not in QUADRATURE
    and estimators.REGISTRY.part(combination.values[1]).is_unbiased
    and (combination.values[0] == "bernoulli" or combination.values[3] < 4)
]


# The value of the others is compared at each of their configurations.
BY_VALUE = [c for c in COMBINATIONS if c not in BY_ENUMERATION or c.values[1] == "exact"]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name", "objective", "num_samples"), BY_VALUE)
def test_an_estimator_never_changes_the_value_of_the_objective(kind, name, objective, num_samples):
    if name == "exact":  # it reports expectations; its value is compared below
        model = shared_model(kind)
        prepared(model, "exact", objective, num_samples)
        x = tf.constant(example())
        surrogate, terms, *_ = estimate(model, Bound(objective, num_samples, 0.7), x)
        z = tf.constant(discrete_tuples(model, kind, num_samples))
        q = model.q_z_given_x(np.repeat(example(), z.shape[1], axis=0))
        log_q = q.log_prob(z)
        log_likelihood, log_p = model.log_joint_terms(example(), z)
        log_w = log_likelihood + 0.7 * (log_p - log_q)
        probability = tf.exp(tf.reduce_sum(log_q, 0))
        expected = tf.reduce_sum(probability * objective(log_w))
        np.testing.assert_allclose(surrogate[0], expected, rtol=1e-5)
        for found, part in ((terms.log_likelihood, log_likelihood), (terms.kl, log_q - log_p)):
            assert found.shape == (1, 1)
            expected = tf.reduce_sum(probability * tf.reduce_mean(part, 0))
            np.testing.assert_allclose(found[0, 0], expected, rtol=1e-5)
        return
    prove_value(kind, name, objective, num_samples)


@pytest.mark.parametrize(("kind", "name", "objective", "num_samples"), BY_ENUMERATION)
def test_the_expected_gradient_over_all_configurations_is_the_exact_one(
    kind, name, objective, num_samples
):
    prove_unbiased(kind, name, objective, num_samples)


@pytest.mark.parametrize("name", QUADRATURE)
def test_the_integral_of_the_gradient_over_the_noise_is_the_exact_one(name):
    prove_unbiased_by_quadrature(name)


SAMPLED = list(itertools.product(QUADRATURE, ["elbo", "iwae"], ["bernoulli", "categorical"]))
SAMPLED_FIRST = [("relax", "iwae", "categorical")]  # REBAR with a network besides


@pytest.mark.slow
@pytest.mark.parametrize(("name", "label", "kind"), nightly_but(SAMPLED, *SAMPLED_FIRST))
def test_the_mean_gradient_of_a_large_sample_is_the_exact_one(name, label, kind):
    prove_unbiased_by_sampling(kind, name, *OBJECTIVES[label])


# What an estimator is for: less variance.


@pytest.fixture(scope="module", params=nightly_but(["bernoulli", "categorical"], "bernoulli"))
def trained(request):
    """A model that has learned something, and its data: 6-bit images of two kinds."""
    kind = request.param
    keras.utils.set_random_seed(3)
    rng = np.random.default_rng(3)
    prototypes = rng.integers(0, 2, (4, 8))
    x = prototypes[rng.integers(0, 4, 500)]
    x = np.where(rng.random(x.shape) < 0.05, 1 - x, x).astype("f4")
    model = make_model(kind, {"bernoulli": (4,), "categorical": (2, 3)}[kind], pixels=8)
    options = {"estimator": "exact", "kl": "monte_carlo", "steps_per_execution": 5}
    model.compile(tfvae.optimizers.Adam(2e-2), **options)
    model.fit(x, epochs=20, batch_size=100, verbose=0)
    return kind, model, x[:20]


def gradient_variance(model, x, estimator, objective, num_samples, train_estimator=0, draws=100):
    """Return the variance of the encoder's gradient, summed over its weights."""
    keras.utils.set_random_seed(0)
    model.compile(
        tfvae.optimizers.Adam(1e-2),
        objective=objective,
        estimator=estimator,
        num_samples=num_samples,
        kl="monte_carlo",
    )
    estimator = model.estimator
    optimizer = tfvae.optimizers.Adam(1e-2)
    weights = model.encoder.trainable_variables

    train = train_estimator > 0  # also by the draws, so that there is one graph

    @tf.function(autograph=False)
    def draw(seed):
        with tf.GradientTape() as tape:
            infer = model.inference(x, training=True)
            drawn = estimator.estimate(Bound(objective, num_samples), infer, x, seed, True)
            loss = -tf.reduce_mean(drawn.surrogate)
        own = estimator.trainable_variables if train else []
        grads = tape.gradient(loss, [*weights, *own])
        if own:
            optimizer.apply_gradients(zip(grads[len(weights) :], own, strict=True))
        if train and drawn.statistics is not None:
            estimator.update(drawn.statistics)
        return tf.concat([tf.reshape(g, [-1]) for g in grads[: len(weights)]], 0)

    for seed in range(train_estimator):
        draw(make_seed(10_000 + seed))
    return np.stack([draw(make_seed(seed)) for seed in range(draws)]).var(axis=0).sum()


@pytest.fixture(scope="module")
def plain_variance(trained):
    """Return a function that gives the variance of the plain estimator of the ELBO, or of IWAE."""
    _, model, x = trained
    return functools.cache(
        lambda objective, num_samples: gradient_variance(
            model, x, "score_function", objective, num_samples
        )
    )


LOWER_VARIANCE = {
    # name: (objective, K, training steps of its own, at most this fraction of the plain variance)
    "moving_average": (objectives.elbo, 2, 60, 0.6),
    "nvil": (objectives.elbo, 2, 60, 0.6),
    "rloo": (objectives.elbo, 2, 0, 0.6),
    "vimco": (objectives.iwae, 4, 0, 0.5),
    "disarm": (objectives.elbo, 1, 0, 0.5),
    "rebar": (objectives.elbo, 2, 60, 0.5),
    "relax": (objectives.elbo, 2, 60, 0.5),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    # Of baselines, pairs and control variates one each; the gradient of all is compared above.
    nightly_but(LOWER_VARIANCE, "vimco", "disarm", "rebar"),
)
def test_variance_reduction_has_lower_gradient_variance_than_the_plain_estimator(
    trained, plain_variance, name
):
    kind, model, x = trained
    objective, num_samples, steps, fraction = LOWER_VARIANCE[name]
    if not fits(name, kind, objective, num_samples):
        pytest.skip(f"{name} does not take {kind} latents")
    options = {"normalize": False} if name == "nvil" else {}
    estimator = estimators.get(name, **options)
    variance = gradient_variance(model, x, estimator, objective, num_samples, steps)
    # A pair of DisARM costs two runs of the decoder, as two plain samples do.
    plain_samples = 2 * num_samples if name == "disarm" else num_samples
    assert variance < fraction * plain_variance(objective, plain_samples)


def test_dreg_has_lower_encoder_gradient_variance_than_pathwise_for_iwae(linear_gaussian):
    model, x = linear_gaussian.vae(), tf.constant(linear_gaussian.x)
    plain = gradient_variance(model, x, "pathwise", objectives.iwae, 20)
    assert gradient_variance(model, x, "dreg", objectives.iwae, 20) < 0.5 * plain


# Bounds.


def expectation_of(objective, num_samples, model, kind):
    x = tf.constant(example())
    model.compile(objective=objective, estimator="exact", num_samples=num_samples, kl="monte_carlo")
    return float(estimate(model, Bound(objective, num_samples), x).surrogate[0])


@pytest.mark.parametrize("kind", ["bernoulli", "categorical"])
def test_the_bounds_rise_with_k_towards_the_exact_log_likelihood(kind):
    model = make_model(kind)
    log_p = expectation_of(objectives.exact, 1, model, kind)
    bounds = [expectation_of(objectives.elbo, 1, model, kind)]
    bounds += [expectation_of(objectives.iwae, k, model, kind) for k in (1, 2, 3, 4)]
    assert bounds[0] == pytest.approx(bounds[1], abs=1e-5)
    assert np.all(np.diff(bounds[1:]) > 1e-3)
    assert bounds[-1] < log_p - 1e-3


def test_the_bounds_are_log_p_where_q_is_the_true_posterior():
    """With a decoder that ignores z, the true posterior is the prior."""
    model = make_model("bernoulli")
    model.decoder.layers[-1].set_weights(
        [np.zeros((4, PIXELS), "f4"), np.linspace(-1, 1, PIXELS).astype("f4")]
    )
    kernel, _ = model.encoder.get_weights()
    model.encoder.set_weights([0 * kernel, model.prior.logits.numpy()])
    log_p = expectation_of(objectives.exact, 1, model, "bernoulli")
    for objective, k in OBJECTIVES.values():
        bound = expectation_of(objective, k, model, "bernoulli")
        assert bound == pytest.approx(log_p, abs=1e-5), objective


def test_the_objective_exact_trains_the_log_likelihood_and_the_posterior():
    keras.utils.set_random_seed(0)
    x = np.eye(4, dtype="f4")
    model = make_model("bernoulli", (2,), pixels=4)
    model.compile(tfvae.optimizers.Adam(0.03), objective="exact", steps_per_execution=50)
    model.fit(tf.data.Dataset.from_tensors(x).repeat(800), verbose=0, shuffle=False)
    model.run_eagerly = True
    losses = dict(zip(("loss", "elbo"), model.evaluate(x, verbose=0)[:2], strict=True))
    # Four images, told apart by two bits: log p = −log 4, and the encoder finds the true posterior.
    assert losses["loss"] == pytest.approx(np.log(4), abs=0.05)
    assert losses["elbo"] == pytest.approx(-losses["loss"], abs=0.05)


def prove_zero_at_the_true_posterior(linear_gaussian, estimator, objective):
    """Every draw of the encoder's gradient is zero where q is the true posterior."""
    model = linear_gaussian.vae("posterior")
    prepared(model, estimator, objective, 3)
    with tf.GradientTape() as tape:
        surrogate = estimate(model, Bound(objective, 3), linear_gaussian.x, seed=1).surrogate
        total = tf.reduce_sum(surrogate)
    for part in tape.gradient(total, model.encoder.trainable_variables):
        np.testing.assert_allclose(part, np.zeros(part.shape), atol=2e-4)


@pytest.mark.parametrize(
    ("estimator", "objective"),
    [
        ("sticking_the_landing", objectives.elbo),
        ("dreg", objectives.elbo),
        ("dreg", objectives.iwae),
    ],
)
def test_the_gradient_is_zero_at_the_true_posterior(linear_gaussian, estimator, objective):
    prove_zero_at_the_true_posterior(linear_gaussian, estimator, objective)


@pytest.mark.slow
@pytest.mark.nightly  # 500 steps; the objective "exact" is trained to its maximum every time
def test_the_trained_elbo_reaches_the_maximum_of_probabilistic_pca():
    """Tipping and Bishop 1999: the maximum-likelihood W is known, and so is its log-likelihood."""
    rng = np.random.default_rng(0)
    scale, x_size, latents = 0.5, 4, 2
    x = (rng.normal(size=(400, latents)) @ rng.normal(size=(latents, x_size)) * 1.5).astype("f4")
    x += scale * rng.normal(size=x.shape).astype("f4")
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    w = vectors[:, -latents:] * np.sqrt(values[-latents:] - scale**2)
    covariance = w @ w.T + scale**2 * np.eye(x_size)
    gaussian = tfd.MultivariateNormalFullCovariance(x.mean(0).astype("f8"), covariance)
    maximum = float(np.mean(gaussian.log_prob(x.astype("f8"))))

    keras.utils.set_random_seed(0)
    model = tfvae.VAE(
        keras.Sequential([keras.Input((x_size,)), keras.layers.Dense(2 * latents)]),
        keras.Sequential([keras.Input((latents,)), keras.layers.Dense(x_size)]),
        likelihood=tfvae.likelihoods.Normal(scale),
    )
    rate = keras.optimizers.schedules.CosineDecay(0.1, 500)
    model.compile(tfvae.optimizers.Adam(rate), num_samples=10, steps_per_execution=50)
    model.fit(tf.data.Dataset.from_tensors(x).repeat(500), verbose=0, shuffle=False)
    model.compile(num_samples=500)
    elbo = model.evaluate(x, batch_size=400, verbose=0, return_dict=True)["elbo"]
    assert maximum - 0.03 < elbo < maximum + 0.02
    exact = tfvae.exact.linear_gaussian(model).log_prob(x.astype("f8"))
    assert np.mean(exact) == pytest.approx(maximum, abs=5e-3)


# State, settings, refusals.


def test_the_moving_average_follows_the_signal():
    model = make_model("bernoulli")
    estimator = prepared(model, estimators.MovingAverage(decay=0.5))
    for value in (-4.0, -6.0):
        estimator.update(tf.constant([2 * value, 2 * value**2, 2.0]))
    # Weights of decay 0.5, debiased: (−4·0.25 − 6·0.5) / 0.75.
    np.testing.assert_allclose(estimator._moments.mean, (-4 * 0.25 - 6 * 0.5) / 0.75, rtol=1e-6)


@pytest.mark.parametrize("label", ["elbo", "iwae"])
@pytest.mark.parametrize("name", ["moving_average", "nvil"])
def test_a_baseline_follows_the_signal_in_nats_of_an_example_whatever_k_is(name, label):
    """The moments are of log w, or of the objective, less what the network of "nvil" explains."""
    objective, num_samples = OBJECTIVES[label]
    model = shared_model("bernoulli")
    options = {"normalize": False} if name == "nvil" else {}
    estimator = moved_from_zero(
        prepared(model, estimators.get(name, **options), objective, num_samples)
    )
    x = np.random.default_rng(2).integers(0, 2, (6, PIXELS)).astype("f4")
    _, terms, statistics, _ = estimate(model, Bound(objective, num_samples, 0.7), x)
    log_w = terms.log_weights(0.7)
    bound = tf.broadcast_to(objective(log_w), log_w.shape)
    explained = estimator._network(x)[:, 0] if name == "nvil" else 0.0
    values = (log_w if label == "elbo" else bound) - explained
    expected = [np.sum(values), np.sum(values**2), 2 * 6]
    np.testing.assert_allclose(statistics, expected, rtol=1e-5)

    signal = log_w / 2 if label == "elbo" else bound
    scale = 0.5 if label == "elbo" else 1.0
    centred = estimator.centre(objective, log_w, signal, x)
    expected = scale * (values - estimator._moments.mean)
    np.testing.assert_allclose(centred.signal, expected, rtol=1e-4, atol=1e-4)
    if name == "nvil":
        squares = np.mean((values - estimator._moments.mean) ** 2, axis=0)
        np.testing.assert_allclose(centred.own_loss, squares, rtol=1e-4)


@pytest.mark.parametrize("label", ["elbo of one sample", "iwae"])
def test_normalization_divides_the_encoders_gradient_by_the_deviation(label):
    objective, num_samples = OBJECTIVES[label]
    model = make_model("bernoulli")
    grads = []
    for normalize in (True, False):
        estimator = prepared(model, estimators.NVIL(normalize=normalize), objective, num_samples)
        estimator.update(tf.constant([-5.0, 34.0, 1.0]))  # mean −5, standard deviation 3
        grads.append(expected_gradient(model, "bernoulli", estimator, objective, num_samples, 1.0))
    count = len(model.encoder.trainable_variables)
    for normalized, plain in zip(*grads, strict=True):
        scale = 3.0 if count > 0 else 1.0
        np.testing.assert_allclose(scale * normalized, plain, atol=1e-5)
        count -= 1


@pytest.mark.parametrize(
    ("name", "label"),
    nightly_but(
        itertools.product(["rebar", "relax"], ["elbo of one sample", "iwae"]),
        ("relax", "iwae"),
    ),
)
def test_the_control_variate_is_trained_to_lower_the_squared_gradient(name, label):
    """The slopes of η, τ and the weights of r are those of E[g²], here by central differences."""
    objective, num_samples = OBJECTIVES[label]
    model = make_model("bernoulli")
    estimator = estimators.get(name, temperature=0.7, scale=0.6)
    estimator = moved_from_zero(prepared(model, estimator, objective, num_samples))
    x = tf.constant(np.repeat(example(), 50, axis=0))

    def squares_and_slopes():
        with tf.GradientTape() as tape:
            params = model.bottom_up(x)
            tape.watch(params)
            infer, bound = model.inference(x, h=params), Bound(objective, num_samples, 0.7)
            drawn = estimator.estimate(bound, infer, x, make_seed(3), True)
            total = tf.reduce_sum(drawn.surrogate)
        by_params = tape.gradient(total, params)
        return float(tf.reduce_sum(by_params**2)), drawn.statistics

    def change(variables, directions, step):
        for variable, direction in zip(variables, directions, strict=True):
            variable.assign(variable + step * direction)

    variables = estimator.control_variables
    assert len(variables) == {"rebar": 2, "relax": 2 + 4}[name]
    rng = np.random.default_rng(1)
    of_r = [rng.normal(0, 0.1, v.shape).astype("f4") for v in variables[2:]]
    still = [np.zeros(v.shape, "f4") for v in variables[2:]]
    _, slopes = squares_and_slopes()
    for directions in ([1.0, 0.0, *still], [0.0, 1.0, *still], [0.0, 0.0, *of_r])[: len(slopes)]:
        slope = sum(np.sum(a * b) for a, b in zip(slopes, directions, strict=True))
        change(variables, directions, 1e-2)
        above, _ = squares_and_slopes()
        change(variables, directions, -2e-2)
        below, _ = squares_and_slopes()
        change(variables, directions, 1e-2)
        assert slope == pytest.approx((above - below) / 2e-2, rel=0.02, abs=1e-4)


def test_the_network_of_relax_sees_each_z_beside_its_own_x():
    """r(soften(ζ, 1), x)/K of [K, B] pairs, by the network for one of them at a time."""
    model = shared_model("bernoulli")
    estimator = moved_from_zero(prepared(model, "relax", objectives.elbo, 2))
    rng = np.random.default_rng(0)
    soft, x = rng.random((2, 3, 2)).astype("f4"), rng.integers(0, 2, (3, PIXELS)).astype("f4")
    found = estimator._r(0, tf.constant(soft), tf.constant(x))
    for k, n in itertools.product(range(2), range(3)):
        pair = np.concatenate([soft[k, n], x[n]])[np.newaxis]
        expected = estimator._networks[0](pair)[0, 0] / 2
        np.testing.assert_allclose(found[k, n], expected, rtol=1e-5)


def test_a_step_changes_the_weights_of_relax():
    model = make_model("bernoulli")
    estimator = moved_from_zero(prepared(model, "relax"))
    before = [w for network in estimator._networks for w in network.get_weights()]
    estimator.update(estimate(model, Bound(objectives.elbo), tf.constant(example())).statistics)
    after = [w for network in estimator._networks for w in network.get_weights()]
    for old, new in zip(before, after, strict=True):
        assert np.any(old != new)


@pytest.mark.parametrize("name", ["nvil", "relax"])
def test_an_estimator_for_data_of_another_shape_is_refused(name):
    estimator = prepared(make_model("bernoulli"), name)
    dense = lambda size, units: keras.Sequential(  # noqa: E731
        [keras.Input((size,)), keras.layers.Dense(units)]
    )
    other = tfvae.VAE(dense(PIXELS + 1, 2), dense(2, PIXELS + 1), posterior="bernoulli")
    with pytest.raises(InvalidArgument, match=rf"'{name}' has weights for.*x_shape \({PIXELS},\)"):
        other.compile("sgd", estimator=estimator)
    other.compile("sgd", estimator=name)


def test_a_file_without_an_estimator_is_not_called_an_old_one(tmp_path):
    model = make_model("bernoulli")
    model.copy().save_weights(tmp_path / "it.weights.h5")
    prepared(model, "rebar")
    with pytest.raises(ValueError, match="variables") as raised:
        model.load_weights(tmp_path / "it.weights.h5")
    assert "development version" not in str(raised.value)


def test_freezing_a_model_for_a_while_leaves_what_relax_trains_to_it():
    model = make_model("bernoulli")
    estimator = prepared(model, "relax")
    before = [id(variable) for variable in model.trainable_variables]
    model.trainable = False
    model.trainable = True
    assert [id(variable) for variable in model.trainable_variables] == before
    assert len(estimator.control_variables) == 2 + 4


@pytest.mark.parametrize("name", ["moving_average", "nvil"])
def test_signals_that_are_not_finite_change_no_moment(name):
    estimator = prepared(make_model("bernoulli"), name)
    estimator.update(tf.constant([2.0, 6.0, 4.0]))
    mean, variance = estimator._moments.mean, estimator._moments.variance
    np.testing.assert_allclose([mean, variance], [0.5, 1.25], rtol=1e-5)
    for statistics in ([np.inf, np.inf, 4.0], [np.nan, 1.0, 4.0]):
        estimator.update(tf.constant(statistics, tf.float32))
    assert [estimator._moments.mean, estimator._moments.variance] == [mean, variance]


def test_the_baseline_of_a_sample_is_the_objective_at_the_mean_of_the_others(rng):
    log_w = rng.normal(-90, 3, (3, 4)).astype("f4")
    for_iwae = estimators.VIMCO().centre(objectives.iwae, log_w, None, None).signal
    for_elbo = estimators.RLOO().centre(objectives.elbo, log_w, None, None).signal
    for k in range(3):
        others = np.delete(log_w, k, axis=0).mean(axis=0)
        replaced = log_w.copy()
        replaced[k] = others
        expected = objectives.iwae(log_w) - objectives.iwae(replaced)
        np.testing.assert_allclose(for_iwae[k], expected, rtol=1e-5, atol=2e-5)
        np.testing.assert_allclose(for_elbo[k], (log_w[k] - others) / 3, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("temperature", [0.4, 1.3])
@pytest.mark.parametrize("kind", ["bernoulli", "categorical"])
def test_the_gradient_of_gumbel_softmax_is_that_at_the_relaxed_samples(kind, temperature):
    """In the weights of encoder, decoder and prior, with log w written out for known noise."""
    model = shared_model(kind)
    prepared(model, estimators.GumbelSoftmax(temperature), objectives.iwae, 2)
    noise = np.random.default_rng(0).uniform(0.05, 0.95, (2, 1, *model.latent_shape)).astype("f4")

    def written_out():
        logits, prior = model.encoder(example()), tf.convert_to_tensor(model.prior.logits)
        if kind == "bernoulli":
            z = tf.sigmoid((logits + scipy.special.logit(noise)) / temperature)
            log_q, log_p = (z * a - tf.math.softplus(a) for a in (logits, prior))
        else:
            z = tf.nn.softmax((logits - np.log(-np.log(noise))) / temperature)
            log_q, log_p = (z * tf.nn.log_softmax(a) for a in (logits, prior))
        pixels = model.decoder(tf.reshape(z, [2, *model.latent_shape]))
        log_px = tf.reduce_sum(tfd.Bernoulli(pixels).log_prob(example()), -1, keepdims=True)
        kl = tf.reduce_sum(log_q - log_p, range(2, len(z.shape)))
        return tf.reduce_sum(objectives.iwae(log_px - 0.7 * kl))

    def surrogate():
        bound = Bound(objectives.iwae, 2, 0.7)
        return estimate(model, bound, tf.constant(example()), noises=[noise] * 2).surrogate[0]

    for found, expected in zip(
        gradient(model, surrogate), gradient(model, written_out), strict=True
    ):
        assert np.abs(expected).max() > 1e-3, "nothing to compare"
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def gradient_of_straight_through(x, decoder, logits, kl):
    """Return its expected gradient in the logits of bits, by the sum over all states, and q(z).

    The likelihood is a normal of σ = 1 behind an affine decoder.
    """
    (kernel, bias), bits = decoder, len(logits)
    networks = [
        keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(outputs)])
        for inputs, outputs in ((len(bias), bits), (bits, len(bias)))
    ]
    model = tfvae.VAE(*networks, posterior="bernoulli", likelihood="normal")
    networks[1].set_weights([kernel, bias])
    model.compile(estimator="straight_through", kl=kl)
    states = all_states("bernoulli", (bits,))
    noise = np.where(states > 0, 1 - 1e-6, 1e-6).astype("f4")  # far enough for any logit here
    batch = tf.constant(np.tile(x, (len(states), 1)), tf.float32)
    with tf.GradientTape() as tape:
        params = tf.constant(np.tile(logits, (len(states), 1)), tf.float32)
        tape.watch(params)

        def infer(draw):
            def given(number, q):
                q.draw_noise = lambda shape, seed: noise[np.newaxis]
                return draw(number, q)

            return model.inference(batch, h=params)(given)

        bound = Bound(objectives.elbo, kl=kl)
        drawn = model.estimator.estimate(bound, infer, batch, make_seed(0), True)
        total = tf.reduce_sum(drawn.surrogate)
    p = scipy.special.expit(logits)
    q = np.prod(np.where(states > 0, p, 1 - p), axis=1)
    return q @ tape.gradient(total, params).numpy(), states, q


@pytest.mark.parametrize("kl", ["exact", "monte_carlo"])
def test_straight_through_takes_the_slope_for_the_difference(kl):
    """p(1 − p) (E[∂ log p(x|z)/∂z] − (α − α₀)): nothing is counted twice, sampled KL or not."""
    rng = np.random.default_rng(0)
    kernel, bias, x = rng.normal(size=(2, 3)), rng.normal(size=3), rng.normal(size=3)
    logits = np.array([0.8, -1.3])
    found, states, q = gradient_of_straight_through(x, (kernel, bias), logits, kl)
    slope = (x - states @ kernel - bias) @ kernel.T  # [S, D]
    p = scipy.special.expit(logits)
    np.testing.assert_allclose(found, p * (1 - p) * (q @ slope - logits), atol=1e-5)


@pytest.mark.parametrize("logit", [-1.0, 1.0])
def test_straight_through_may_lead_away_from_the_bound(logit):
    """x = 0.6, and one bit is decoded to 0 or 1: f(1) − f(0) = 0.1, but f′(0) = 0.6, f′(1) = −0.4.

    The gradient of the likelihood is 6 − 10 p times the true one.
    """
    decoder = np.ones((1, 1)), np.zeros(1)
    found, *_ = gradient_of_straight_through(np.array([0.6]), decoder, np.array([logit]), "exact")
    p = scipy.special.expit(logit)
    of_likelihood = found[0] / (p * (1 - p)) + logit
    assert of_likelihood / 0.1 == pytest.approx(6 - 10 * p, abs=1e-4)
    assert (of_likelihood < 0) == (logit > 0)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("bernoulli", {"estimator": "pathwise"}, "of bernoulli latents.*that fit: disarm, exact"),
        ("bernoulli", {}, "pathwise.*of bernoulli latents.*that fit: disarm, exact"),
        ("continuous", {"estimator": "disarm"}, "of continuous latents.*fit: dreg, moving_average"),
        ("continuous", {"estimator": "exact"}, "of continuous latents"),
        ("continuous", {"objective": "exact"}, "of continuous latents.*that fit: none"),
        ("categorical", {"estimator": "disarm"}, "of categorical latents"),
        ("bernoulli", {"estimator": "vimco", "objective": "iwae"}, "at least 2, got 1"),
        ("bernoulli", {"estimator": "rloo"}, "at least 2, got 1.*that fit: disarm"),
        (
            "bernoulli",
            {"estimator": "rloo", "objective": "iwae", "num_samples": 3},
            "mean of log-weights",
        ),
        (
            "continuous",
            {"estimator": "sticking_the_landing", "objective": "iwae"},
            "mean of log-weights.*that fit: dreg",
        ),
        ("bernoulli", {"objective": "exact", "estimator": "rebar"}, "'exact' alone"),
        ("bernoulli", {"objective": "exact", "beta": 0.5}, "no KL term to weigh"),
        ("continuous", {"objective": "miwae", "num_samples": 7}, "expected a multiple of 5"),
        ("continuous", {"num_samples": 0}, "at least 1"),
        ("continuous", {"beta": -1.0}, "at least 0"),
        ("continuous", {"free_bits": -1.0}, "at least 0"),
        ("continuous", {"free_bits": 0.1, "objective": "iwae"}, "linear in the log-weights"),
        ("bernoulli", {"free_bits": 0.1, "estimator": "rebar"}, "gumbel_softmax, pathwise"),
        ("bernoulli", {"kl": "exact", "estimator": "rebar"}, "in closed form"),
        (
            "bernoulli",
            {"objective": objectives.PIWAE(2), "num_samples": 2, "estimator": "gumbel_softmax"},
            "a gradient of its own",
        ),
    ],
)
def test_what_does_not_fit_is_refused_at_compile_with_what_does(kind, options, message):
    with pytest.raises(InvalidArgument, match=message):
        shared_model(kind).compile(**options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: estimators.REBAR(temperature=0), "`temperature` is 0"),
        (lambda: estimators.REBAR(temperature=20), "`temperature` is 20; .* from 0.05 to 10"),
        (lambda: estimators.RELAX(scale=1e-4), "`scale` is 0.0001; .* from 0.001 to 10"),
        (lambda: estimators.RELAX(temperature="a"), "`temperature` is 'a'; expected a finite"),
        (lambda: estimators.REBAR(scale=float("nan")), "`scale` is nan"),
        (lambda: estimators.RELAX(hidden=0), "`hidden` is 0"),
        (lambda: estimators.NVIL(hidden=0), "`hidden` is 0"),
        (lambda: estimators.NVIL(normalize="no"), "True or False"),
        (lambda: estimators.NVIL(decay=1.0), "from 0 to below 1"),
        (lambda: estimators.MovingAverage(decay="slow"), "`decay` is 'slow'"),
        (lambda: estimators.GumbelSoftmax(temperature=float("inf")), "`temperature` is inf"),
    ],
)
def test_options_out_of_range_are_refused(make, message):
    with pytest.raises(InvalidArgument, match=message):
        make()


def test_compiling_again_keeps_the_weights_of_the_estimator_tracked():
    """Keras skips a layer whose id it has seen, and ids are used again."""
    model = make_model("bernoulli")
    for n in range(30):
        model.compile("adam", estimator=("rebar", "nvil")[n % 2])
        assert {id(v) for v in model.estimator.trainable_variables} <= {
            id(v) for v in model.trainable_variables
        }
    model.compile("adam", estimator=model.estimator)
    assert len(model._attached._layers) == 1
    assert len(model.trainable_variables) == 7 + 4


@pytest.mark.parametrize(
    ("units", "options", "message"),
    [
        (17, {"objective": "exact"}, r"of the latent: 131,072, but the limit is 65,536"),
        (400, {"estimator": "exact"}, r"about 10\^120"),
        (
            9,
            {"objective": "iwae", "estimator": "exact", "num_samples": 2},
            r"of 2 samples of the latent: 262,144",
        ),
    ],
)
def test_too_many_states_are_refused_with_their_number_and_the_limit(units, options, message):
    model = make_model("bernoulli", (units,))
    with pytest.raises(InvalidArgument, match=message):
        model.compile(**options)


def test_a_posterior_that_cannot_be_reparameterized_is_refused():
    class Bits(tfvae.posteriors.Posterior):
        def distribution(self, params, batch_ndims):
            return tfd.Independent(tfd.Bernoulli(params, dtype=tf.float32), 1, name="Bits")

    networks = [keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)]) for _ in range(2)]
    model = tfvae.VAE(*networks, posterior=Bits(), likelihood="normal")
    model.compile(kl="monte_carlo")
    with pytest.raises(InvalidArgument, match=r"Bits cannot. Use a Gaussian posterior"):
        model.evaluate(np.zeros((2, 3), "f4"), verbose=0)


RELAXED = ("rebar", "relax", "gumbel_softmax", "straight_through")  # by a map of their own per kind
TRAINED = [
    (name, kind)
    for name in estimators.REGISTRY.names()
    for kind in [k for k in POSTERIORS if fits(name, k, objectives.elbo, 2)][
        : None if name in RELAXED else 1
    ]
]


TRAINED_FIRST = [("relax", "categorical")]  # which has most to train and to save


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), nightly_but(TRAINED, *TRAINED_FIRST))
def test_every_estimator_trains_in_a_graph_and_comes_back_from_a_file(name, kind, tmp_path):
    num_samples = 2
    x = np.random.default_rng(0).integers(0, 2, (40, PIXELS)).astype("f4")
    model = make_model(kind)
    model.compile("adam", estimator=name, num_samples=num_samples)
    for batch in (x[:20], x[20:]) * 2:
        model.train_on_batch(batch)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.estimator) is type(model.estimator)
    for a, b in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    loaded.run_eagerly = True  # quicker than to trace it again
    before, after = (m.train_on_batch(x[:20]) for m in (model, loaded))
    np.testing.assert_allclose(before, after, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.nightly  # test_vae compares a training under XLA with one in Python every time
@pytest.mark.parametrize("name", ["dreg", "vimco", "nvil", "disarm", "relax", "gumbel_softmax"])
def test_an_estimator_runs_under_xla(name):
    kind = "continuous" if name == "dreg" else "bernoulli"
    x = np.random.default_rng(0).integers(0, 2, (40, PIXELS)).astype("f4")
    model = make_model(kind)
    model.compile("sgd", objective="iwae", estimator=name, num_samples=2, jit_compile=True)
    for batch in (x[:20], x[20:]):
        assert np.isfinite(model.train_on_batch(batch, return_dict=True)["loss"])


# The proofs can fail: each, on an estimator that is broken on purpose.


class ShiftedValue(estimators.ScoreFunction):
    def estimate(self, *arguments, **options):
        estimate = super().estimate(*arguments, **options)
        return estimate._replace(surrogate=estimate.surrogate + 0.01)


class BaselineOfItsOwnSample(estimators.VIMCO):
    """The mean of all samples as the baseline, its own among them."""

    def centre(self, objective, log_weights, learning_signal, context):
        return Centred(learning_signal - tf.reduce_mean(learning_signal, 0))


class WithoutScoreTerm(estimators.ScoreFunction):
    """IWAE without the derivative through log q at fixed z."""

    def estimate(self, bound, infer, context, seed, training):
        joint = infer(fixed_sampler(bound.num_samples, seed))
        terms = bound.terms(joint)
        log_w = bound.log_weights(terms)
        value = bound.objective(log_w + gradient_only(bound.weighted_log_q(joint)))
        score = tf.stop_gradient(value) * joint.log_q()
        return estimators.Estimate(value + gradient_only(tf.reduce_sum(score, 0)), terms)


class UnweightedPairs(estimators.DisARM):
    """Antithetic pairs whose difference does not count sigmoid(|logit|)."""

    def estimate(self, *arguments, **options):
        estimate = super().estimate(*arguments, **options)
        value = tf.stop_gradient(estimate.surrogate)
        return estimate._replace(surrogate=value + 1.5 * (estimate.surrogate - value))


class UncorrectedRelaxation(estimators.REBAR):
    """The control variate is subtracted twice and corrected for once."""

    def _control(self, *arguments):
        by_sample, total = super()._control(*arguments)
        return 2.0 * by_sample, total


class PlainWeights(estimators.DoublyReparameterized):
    """The doubly reparameterized form with w̃ in place of w̃²."""

    def estimate(self, bound, infer, context, seed, training):
        return pathwise.two_gradients(bound, infer, seed, pathwise.path_derivative)


class NoisyBaseline(estimators.ScoreFunction):
    def centre(self, objective, log_weights, learning_signal, context):
        noise = 30.0 * tf.random.stateless_normal(tf.shape(context)[:1], [1, 2])
        return Centred(learning_signal + noise)


@pytest.mark.parametrize(
    ("proof", "arguments"),
    [
        (prove_value, ("bernoulli", ShiftedValue(), objectives.elbo, 2)),
        (prove_unbiased, ("bernoulli", ShiftedValue(), objectives.elbo, 2)),
        (prove_unbiased, ("bernoulli", BaselineOfItsOwnSample(), objectives.elbo, 2)),
        (prove_unbiased, ("categorical", BaselineOfItsOwnSample(), objectives.iwae, 2)),
        (prove_unbiased, ("categorical", WithoutScoreTerm(), objectives.iwae, 2)),
        (prove_unbiased, ("bernoulli", UnweightedPairs(), objectives.elbo, 1)),
        (prove_unbiased, ("continuous", PlainWeights(), objectives.iwae, 2)),
        (prove_unbiased, ("bernoulli", "straight_through", objectives.elbo, 1)),
        (prove_unbiased_by_quadrature, (UncorrectedRelaxation(),)),
        pytest.param(
            prove_unbiased_by_sampling,
            ("categorical", UncorrectedRelaxation(), objectives.elbo, 2),
            marks=LONG,
        ),
        (prove_unbiased_by_sampling, ("bernoulli", "gumbel_softmax", objectives.elbo, 2)),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_proofs_fail_on_broken_estimators(proof, arguments):
    with pytest.raises(AssertionError):
        proof(*arguments)


def test_the_proof_of_the_zero_gradient_fails_on_the_plain_pathwise_estimator(linear_gaussian):
    with pytest.raises(AssertionError):
        prove_zero_at_the_true_posterior(linear_gaussian, "pathwise", objectives.elbo)


def test_the_proof_of_lower_variance_fails_on_a_noisy_baseline(trained, plain_variance):
    _, model, x = trained
    noisy = gradient_variance(model, x, NoisyBaseline(), objectives.elbo, 2)
    assert noisy > plain_variance(objectives.elbo, 2)
