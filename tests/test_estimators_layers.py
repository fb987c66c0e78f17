"""Each estimator of two stochastic layers against the exact gradient, by sums over all draws.

Bits are enumerated, and the noise of normals is integrated by Gauss–Hermite quadrature. The exact
gradient is that of the expectation of the objective, with log w written out from the networks. The
last tests show both proofs failing where one of the two layers is forgotten.
"""

import functools
import itertools
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from test_estimators import FAMILIES, PlainWeights, gaussian_nodes, moved_from_zero

import tfvae
from tfvae import estimators, exact, networks, objectives
from tfvae.bound import Bound, by_layer
from tfvae.random import make_seed

tfd = tfp.distributions

PIXELS = 4
X = np.array([[1.0, 0.0, 1.0, 1.0]], np.float32)
BETAS = [0.7, 0.4]  # of z1 and z2
OBJECTIVES = {
    "elbo": objectives.elbo,
    "iwae": objectives.iwae,
    "ciwae": objectives.CIWAE(0.3),
    "piwae": objectives.PIWAE(2),
}


class Layered(NamedTuple):
    """A model with its weights, which are not those of an estimator, and which of them are q's."""

    model: keras.Model
    weights: list
    are_of_q: list


def with_random_weights(model, spread, q):
    """Return the model with weights far from zero, so that no gradient is small by accident."""
    rng = np.random.default_rng(5)
    weights = list(model.trainable_variables)
    for weight in weights:
        weight.assign(rng.normal(0, spread, weight.shape))
    of_q = {id(weight) for network in q for weight in network.trainable_variables}
    return Layered(model, weights, [id(weight) in of_q for weight in weights])


@functools.cache
def bits():
    """Return a model with two bits z1 and one bit z2."""
    encoders = [networks.dense_encoder((PIXELS,), 2, ()), networks.dense_encoder((2,), 1, (3,))]
    decoders = [networks.dense_decoder(2, (PIXELS,), ()), networks.dense_decoder(1, (2,), (3,))]
    model = tfvae.HierarchicalVAE(encoders, decoders, posteriors="bernoulli")
    return with_random_weights(model, 0.8, encoders)


@functools.cache
def normals(form):
    """Return a model with a normal z1 and a normal z2: with q "bottom_up", or a ladder of a form.

    Its weights are small enough for few nodes of quadrature.
    """
    if form == "bottom_up":
        encoders = [networks.dense_encoder((PIXELS,), 2, ()), networks.dense_encoder((1,), 2, (3,))]
        decoders = [networks.dense_decoder(1, (PIXELS,), ()), networks.dense_decoder(1, (2,), (3,))]
        return with_random_weights(tfvae.HierarchicalVAE(encoders, decoders), 0.3, encoders)
    parts = networks.dense_ladder((PIXELS,), (PIXELS,), (1, 1), hidden=3, form=form)
    return with_random_weights(tfvae.LadderVAE(*parts, form=form), 0.3, [])


def gradient(layered, total):
    """Return the gradient of `total()`, a scalar, in the weights of the model."""
    with tf.GradientTape() as tape:
        value = total()
    weights = layered.weights
    grads = tape.gradient(value, weights)
    return [
        np.zeros(w.shape) if g is None else g.numpy() for w, g in zip(weights, grads, strict=True)
    ]


# The exact gradient.


def at(network, *values):
    """Return the output of a network at `[K, N, D]` values, which are broadcast to one shape."""
    leading = functools.reduce(tf.broadcast_static_shape, (v.shape[:-1] for v in values))
    rows = [
        tf.reshape(tf.broadcast_to(v, [*leading, v.shape[-1]]), [-1, v.shape[-1]]) for v in values
    ]
    output = network(rows if len(rows) > 1 else rows[0])
    return tf.reshape(output, [*leading, -1])


def normal(params):
    loc, raw = tf.split(params, 2, -1)
    return tfd.Normal(loc, tf.nn.softplus(raw + np.log(np.e - 1)) + 1e-6)


def log_prob(distribution, value):
    return tf.reduce_sum(distribution.log_prob(value), -1)


def terms_of_bits(model, z1, z2, through_q=True):
    """Return log q of each layer, log p of each layer and log p(x|z1), `[K, N]`."""
    keep = tf.identity if through_q else tf.stop_gradient
    q1 = tfd.Bernoulli(keep(at(model.encoders[0], X[np.newaxis])))
    q2 = tfd.Bernoulli(keep(at(model.encoders[1], z1)))
    p1 = tfd.Bernoulli(at(model.decoders[1], z2))
    p2 = tfd.Bernoulli(tf.convert_to_tensor(model.prior.logits))
    log_likelihood = log_prob(tfd.Bernoulli(at(model.decoders[0], z1)), X)
    log_q = log_prob(q1, z1), log_prob(q2, z2)
    return log_q, (log_prob(p1, z1), log_prob(p2, z2)), log_likelihood


def terms_of_normals(model, form, noise1, noise2):
    """Return the same terms at z = μ + σ ε, through which they are differentiated."""
    x, p2 = X[np.newaxis], tfd.Normal(0.0, 1.0)
    if form == "bottom_up":
        q1 = normal(at(model.encoders[0], x))
        z1 = q1.loc + q1.scale * noise1
        q2 = normal(at(model.encoders[1], z1))
        z2 = q2.loc + q2.scale * noise2
        p1, pixels = normal(at(model.decoders[1], z2)), at(model.decoders[0], z1)
    else:
        h1, h2 = (h[tf.newaxis] for h in model.encoder(X))
        q2 = normal(at(model.inference_networks[1], h2))
        z2 = q2.loc + q2.scale * noise2
        d1 = at(model.top_down_networks[1], z2)
        p1 = normal(at(model.generation_networks[0], d1))
        if form == "residual":
            change = normal(at(model.inference_networks[0], h1, d1))
            q1 = tfd.Normal(p1.loc + change.loc, p1.scale * change.scale)
        else:
            seen = normal(at(model.inference_networks[0], h1))
            precision = 1 / seen.variance() + 1 / p1.variance()
            loc = (seen.loc / seen.variance() + p1.loc / p1.variance()) / precision
            q1 = tfd.Normal(loc, precision**-0.5)
        z1 = q1.loc + q1.scale * noise1
        pixels = at(model.top_down_networks[0], z1, d1)
    log_q = log_prob(q1, z1), log_prob(q2, z2)
    log_p = log_prob(p1, z1), log_prob(p2, z2)
    return log_q, log_p, log_prob(tfd.Bernoulli(pixels), X)


def log_weights(log_q, log_p, log_likelihood, betas):
    kls = (b * (p - q) for b, p, q in zip(betas, log_p, log_q, strict=True))
    return log_likelihood + sum(kls)


def states(model, num_samples):
    """Return z1 and z2 of all K-tuples of states, `[K, S^K, D]`."""
    by_layer = exact.states_by_layer(model)
    index = np.array(list(itertools.product(range(len(by_layer[0])), repeat=num_samples))).T
    return [tf.constant(of_layer[index]) for of_layer in by_layer]


@functools.cache
def exact_gradient_of_bits(objective, num_samples):
    layered = bits()
    z1, z2 = states(layered.model, num_samples)

    def expectation(objective, through_q):
        log_q, *others = terms_of_bits(layered.model, z1, z2, through_q)
        probability = tf.exp(tf.reduce_sum(sum(log_q), 0))
        return tf.reduce_sum(probability * objective(log_weights(log_q, *others, BETAS)))

    of_q = gradient(layered, lambda: expectation(objectives.for_encoder(objective), True))
    of_p = gradient(layered, lambda: expectation(objective, False))
    return [q if is_q else p for q, p, is_q in zip(of_q, of_p, layered.are_of_q, strict=True)]


@functools.cache
def exact_gradient_of_normals(form, objective, num_samples, betas):
    layered = normals(form)
    noise1, noise2, probability = noises(num_samples)

    def expectation():
        terms = terms_of_normals(layered.model, form, noise1, noise2)
        return tf.reduce_sum(probability * objective(log_weights(*terms, betas)))

    return gradient(layered, expectation)


def noises(num_samples):
    """Return nodes `[K, N, 1]` for the noise of z1 and of z2, and their weights `[N]`."""
    noise, probability = gaussian_nodes(2 * num_samples, nodes={1: 20, 2: 9}[num_samples])
    return noise[:num_samples], noise[num_samples:], probability


# The expectation of the estimator.


def antithetic_cells(model, num_samples):
    """Return what stands for each joint outcome of all pairs of both layers, and probabilities.

    For a bit with probability p the pair (z, z̃) changes at u = p and u = 1 − p. DisARM also draws
    z2 anew, given z̃1.

    Returns:
        u of z1 and of z2 and the other z2, `[K, N, D]`, and probabilities `[N]`.
    """
    sizes = [shape[0] for shape in model.layer_shapes]
    choices = [3] * (num_samples * sizes[0]) + [3, 2] * (num_samples * sizes[1])
    cells = np.array(list(itertools.product(*map(range, choices))))
    first, later = np.split(cells, [num_samples * sizes[0]], axis=1)
    first, second, anew = (
        part.reshape(-1, num_samples, size).transpose(1, 0, 2)
        for part, size in ((first, sizes[0]), (later[:, ::2], sizes[1]), (later[:, 1::2], sizes[1]))
    )

    def chosen(p, cell):
        edges = np.stack([0 * p, np.minimum(p, 1 - p), np.maximum(p, 1 - p), 1 + 0 * p])
        low, high = (np.choose(cell + add, edges) for add in (0, 1))
        return (low + high) / 2, np.prod(high - low, axis=(0, 2))

    def p_of_z2(z1):
        return tf.sigmoid(at(model.encoders[1], tf.constant(z1, tf.float32))).numpy()

    p1 = tf.sigmoid(model.encoders[0](X)).numpy() + np.zeros(first.shape)
    u1, probability1 = chosen(p1, first)
    u2, probability2 = chosen(p_of_z2(u1 > 1 - p1), second)
    p_anew = p_of_z2(u1 < p1)
    probability = np.prod(np.where(anew, p_anew, 1 - p_anew), axis=(0, 2))
    probability = probability * probability1 * probability2
    return *(tf.constant(part, tf.float32) for part in (u1, u2, anew)), probability


def expected_gradient(layered, bound, probability, inject):
    """Return the estimator's gradient, summed over draws with their probabilities.

    Args:
        layered: its model is compiled.
        bound: what is estimated.
        probability: of the draws, which lie along the batch, `[N]`.
        inject: function of (number, q) that replaces what q draws.
    """
    model = layered.model
    x = tf.constant(np.repeat(X, len(probability), axis=0))
    probability = tf.stop_gradient(tf.cast(probability, tf.float32))

    def total():
        infer = model.inference(x)

        def with_given_draws(draw):
            def given(number, q):
                inject(number, q)
                return draw(number, q)

            return infer(given)

        estimate = model.estimator.estimate(bound, with_given_draws, x, make_seed(0), True)
        return tf.reduce_sum(probability * estimate.surrogate)

    return gradient(layered, total)


def compare(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert np.abs(b).max() > 1e-3, "nothing to compare"
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5)


# The proofs.


def prove_of_bits(estimator, objective, num_samples=2, forgotten=None):
    """The gradient, summed over all draws of both layers, is the exact one."""
    layered = bits()
    model = layered.model
    model.compile(objective=objective, estimator=estimator, num_samples=num_samples, beta=BETAS)
    moved_from_zero(model.estimator)
    values, uniforms, probability = states(model, num_samples), None, [1.0]
    if isinstance(model.estimator, estimators.DisARM):
        *uniforms, anew, probability = antithetic_cells(model, num_samples)
        values = [None, anew]
        assert np.sum(probability) == pytest.approx(1, abs=1e-5)
    elif not isinstance(model.estimator, estimators.Enumeration):
        log_q, *_ = terms_of_bits(model, *values)
        probability = tf.exp(tf.reduce_sum(sum(log_q), 0))

    def inject(number, q):
        q.sample = lambda shape=(), seed=None: values[number]
        if uniforms is not None:
            q.draw_noise = lambda shape, seed: uniforms[number]
        if number == forgotten:
            q.logits = tf.stop_gradient(q.logits)

    bound = Bound(objective, num_samples, BETAS)
    found = expected_gradient(layered, bound, probability, inject)
    compare(found, exact_gradient_of_bits(objective, num_samples))


def prove_of_normals(form, estimator, objective, num_samples, forgotten=None):
    """The integral of the gradient over the noise of both layers is the exact one."""
    layered = normals(form)
    model = layered.model
    beta = BETAS if estimators.get(estimator).takes_betas else 0.7
    model.compile(
        objective=objective,
        estimator=estimator,
        num_samples=num_samples,
        beta=beta,
        kl="monte_carlo",
    )
    moved_from_zero(model.estimator)
    *noise, probability = noises(num_samples)

    def inject(number, q):
        keep = tf.stop_gradient if number == forgotten else tf.identity
        loc, scale = q.distribution.loc, q.distribution.scale
        q.sample = lambda shape, seed: keep(loc + scale * noise[number])

    bound = Bound(objective, num_samples, beta)
    found = expected_gradient(layered, bound, probability, inject)
    betas = tuple(by_layer(beta, 2))
    compare(found, exact_gradient_of_normals(form, objective, num_samples, betas))


def fits(name, label):
    """Whether the proof is one of the estimator, with two layers of bits."""
    cls = estimators.REGISTRY.part(name)
    if not cls.is_unbiased or issubclass(cls, estimators.REBAR):  # the noise of REBAR is uniform
        return False
    return cls.misfit([FAMILIES["bernoulli"]] * 2, OBJECTIVES[label], 2) is None


# One for each way in which layers are counted: by the score, by pairs, by enumeration.
WAYS = ("score_function", "disarm", "exact")
OF_BITS = [
    (name, label)
    for name, label in itertools.product(estimators.REGISTRY.names(), OBJECTIVES)
    if fits(name, label) and (name in WAYS or label in ("iwae", "ciwae") or name == "rloo")
]
OF_NORMALS = [
    ("sticking_the_landing", "elbo", 1),
    ("score_function", "elbo", 1),
    ("dreg", "iwae", 2),
]


@pytest.mark.parametrize(("name", "label"), OF_BITS)
def test_the_expected_gradient_of_two_layers_of_bits_is_the_exact_one(name, label):
    prove_of_bits(name, OBJECTIVES[label])


@pytest.mark.parametrize(("name", "label", "num_samples"), OF_NORMALS)
@pytest.mark.parametrize("form", ["bottom_up", "residual", "precision"])
def test_the_expected_gradient_of_two_normal_layers_is_the_exact_one(
    form, name, label, num_samples
):
    prove_of_normals(form, name, OBJECTIVES[label], num_samples)


@pytest.mark.parametrize("forgotten", [0, 1])
@pytest.mark.parametrize("name", WAYS)
def test_the_proof_of_bits_fails_where_a_layer_has_no_gradient(name, forgotten):
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        prove_of_bits(name, objectives.iwae, forgotten=forgotten)


@pytest.mark.parametrize("forgotten", [0, 1])
@pytest.mark.parametrize("form", ["bottom_up", "residual"])
def test_the_proof_of_normals_fails_where_a_layer_has_no_gradient(form, forgotten):
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        prove_of_normals(form, "sticking_the_landing", objectives.elbo, 1, forgotten)


def test_the_proof_of_normals_fails_on_the_plain_weights():
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        prove_of_normals("bottom_up", PlainWeights(), objectives.iwae, 2)
