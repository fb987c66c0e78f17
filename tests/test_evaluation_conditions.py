"""What all measures have in common: their arguments, and conditions in the same forms.

A conditional model of one condition is the model without any in whose networks it is fixed.
"""

import contextlib
import dataclasses
import functools
import inspect

import keras
import numpy as np
import pytest
import rich.progress
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from eager import without_graphs
from tiers import nightly_but

import tfvae
from tfvae import evaluation, likelihoods, networks
from tfvae.errors import InvalidArgument, InvalidData

pytestmark = pytest.mark.slow  # Compiles graphs of whole models.

tfd = tfp.distributions

SHAPE = (2, 2, 1)
CLASSES = 2
LABELS = np.array([1, 0, 0, 1, 1, 0])
# Measures of a model and x, and what they are called with here; the others are of scores.
OPTIONS = {
    "active_units": {"threshold": 0.1},
    "amortization_gap": {"num_samples": 40},
    "annealed_importance_sampling": {"num_chains": 3, "num_temperatures": 4, "num_leapfrog": 2},
    "code_log_likelihood": {},
    "code_measures": {},
    "exact_log_likelihood": {},
    "fit_posterior": {"num_steps": 5, "num_samples": 2, "num_fresh_samples": 40},
    "impute": {"num_samples": 7, "draws": 2},
    "log_likelihood": {"num_samples": 6},
    "mutual_information": {"num_samples": 3},
    "posterior_means": {},
    "score": {"num_samples": 6},
}
# Those of all examples together, in which an example has no share of its own.
OF_ALL = ("active_units", "code_measures", "mutual_information")
WITHOUT_NOISE = (
    "active_units",
    "code_log_likelihood",
    "code_measures",
    "exact_log_likelihood",
    "posterior_means",
)
KIND_OF = {"code_log_likelihood": "codes", "code_measures": "codes", "amortization_gap": "bits"}
CASES = [
    *((name, KIND_OF.get(name, "normal")) for name in OPTIONS),
    *((name, "bits") for name in ("exact_log_likelihood", "fit_posterior")),  # over all states
]


def dense_networks(kind, condition_size=0):
    """Return an encoder and a decoder, affine so that log p(x) is known, of one kind of latent."""
    given = {"hidden": (), "condition_size": condition_size}
    of_z = {"normal": 4, "bits": 2, "codes": (2, 3)}[kind]
    latents = (2, 3) if kind == "codes" else 2
    encoder = networks.dense_encoder(SHAPE, of_z, missing=kind != "codes", **given)
    return encoder, networks.dense_decoder(latents, SHAPE, **given)


def model_of(kind, encoder, decoder, condition=None):
    if kind == "codes":
        quantizer = tfvae.quantizers.VectorQuantizer(4, 3, seed=1)
        return tfvae.VQVAE(encoder, quantizer, decoder, likelihood="bernoulli", condition=condition)
    normal = kind == "normal"
    likelihood = likelihoods.Observed(likelihoods.Normal(0.5) if normal else "bernoulli")
    posterior = "diagonal_normal" if normal else "bernoulli"
    return tfvae.VAE(
        encoder, decoder, posterior=posterior, likelihood=likelihood, condition=condition
    )


@functools.cache
def models(kind):
    """Return a conditional model, and for each label the model in which it is fixed."""
    rng = np.random.default_rng(3)
    parts = dense_networks(kind, CLASSES)
    for network in parts:
        network.set_weights([rng.normal(size=w.shape) for w in network.get_weights()])
    conditional = model_of(kind, *parts, condition=CLASSES)
    fixed = []
    for label in range(CLASSES):
        others = dense_networks(kind)
        for network, other in zip(parts, others, strict=True):
            kernel, bias = network.get_weights()
            size = len(kernel) - CLASSES
            other.set_weights([kernel[:size], bias + kernel[size + label]])
        fixed.append(model_of(kind, *others))
        if kind == "codes":
            fixed[-1].quantizer.set_weights(conditional.quantizer.get_weights())
    return conditional, fixed


def examples(kind):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(len(LABELS), *SHAPE)).astype(np.float32)
    return x if kind == "normal" else (x > 0).astype(np.float32)


def incomplete(name, kind):
    """Return examples, of which some values are missing where something is to be filled in."""
    x = examples(kind)
    if name == "impute":
        x[::2, 0, 1] = np.nan
    return x


@tf.autograph.experimental.do_not_convert  # as in the graphs, also where there is none
def measure(name, model, x, **options):
    return arrays(getattr(evaluation, name)(model, x, **OPTIONS[name], **options))


def arrays(result):
    """Return the numbers of a result, by name."""
    if dataclasses.is_dataclass(result):
        fields = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
        for of_the_model in ("family", "is_conditional"):
            fields.pop(of_the_model, None)
        result = {name: value for name, value in fields.items() if value is not None}
    return result if isinstance(result, dict) else {"": result}


def assert_same(found, expected, rtol=2e-4):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        message = f"{name}: {found[name]} is not {values}"
        np.testing.assert_allclose(found[name], values, rtol, 2e-4, err_msg=message)


def public():
    """Return all public functions of (model, x), by name."""
    found = {name: getattr(evaluation, name) for name in evaluation.__all__}
    found |= {"fit_jointly": tfvae.fit_jointly}
    return {
        name: function
        for name, function in found.items()
        if inspect.isfunction(function)
        and list(inspect.signature(function).parameters)[:2] == ["model", "x"]
    }


def test_all_measures_are_looked_at_here():
    assert set(public()) == {*OPTIONS, "diagnose", "fit_jointly"}


@pytest.mark.parametrize("name", public())
def test_all_measures_have_their_arguments_in_one_order(name):
    _, _, *others = inspect.signature(public()[name]).parameters.values()
    assert {p.kind for p in others} == {inspect.Parameter.KEYWORD_ONLY}
    defaults = {p.name: p.default for p in others}
    names = list(defaults)
    assert names[0] == "condition"
    assert defaults["condition"] is None
    noisy = name not in WITHOUT_NOISE
    assert ("seed" in names) == noisy
    if noisy:
        assert defaults["seed"] == 0
    if name != "fit_jointly":  # which returns the loss of every epoch
        assert defaults["progress"] is True
        assert names[-2:] == ["seed", "progress"] if noisy else names[-1] == "progress"
    if "num_samples" in names:
        assert names[1] == "num_samples"


@pytest.mark.parametrize("name", public())
def test_labels_as_the_third_argument_are_refused(name):
    with pytest.raises(TypeError, match=rf"{name}\(\) takes 2 positional arguments but 3"):
        public()[name](None, None, LABELS)


@pytest.fixture
def batches_of_three(monkeypatch):
    """Make all measures read half of the examples at a time."""
    for name in ("_batches", "_pairs"):
        read = getattr(evaluation.batches, name)
        monkeypatch.setattr(
            evaluation.batches, name, lambda model, x, size, read=read: read(model, x, min(size, 3))
        )
    monkeypatch.setattr(evaluation.information, "_BATCH_SIZE", 3)


@pytest.fixture
def bars(monkeypatch):
    """Return a list that grows by one with every bar of progress."""
    shown = []
    monkeypatch.setattr(rich.progress, "track", lambda parts, *_, **__: shown.append(1) or parts)
    return shown


# These take longest; below chains are compared with log p(x|y), and gaps with closed forms.
LONGEST = ("annealed_importance_sampling", "amortization_gap")
# All measures read their data by the same functions, which the others look at every time.
FORMS_NIGHTLY = (*LONGEST, "fit_posterior", "impute", "mutual_information", "score")


def every_time(*nightly):
    """Return the cases, of which those of some measures run nightly."""
    return nightly_but(CASES, *(c for c in CASES if c[0] not in nightly and c not in nightly))


def quickest(name):
    """Return the context for a few calls of a measure, which other tests may have a graph of."""
    without_graph = name in FORMS_NIGHTLY and name not in LONGEST
    return without_graphs() if without_graph else contextlib.nullcontext()


@functools.cache
def measured_at(name, kind, label):
    """Return what the conditional model gives where all examples have one label."""
    with quickest(name):
        return measure(name, models(kind)[0], incomplete(name, kind), condition=label)


@pytest.mark.parametrize(("name", "kind"), every_time(*LONGEST, ("fit_posterior", "normal")))
def test_one_condition_gives_what_networks_give_in_which_it_is_fixed(
    name, kind, batches_of_three, bars
):
    measured_at.cache_clear()
    found = measured_at(name, kind, 1)
    assert bars
    bars.clear()
    _, fixed = models(kind)
    with without_graphs() if name not in LONGEST else contextlib.nullcontext():
        expected = measure(name, fixed[1], incomplete(name, kind), progress=False)
    assert_same(found, expected)
    assert not bars


@pytest.mark.parametrize(("name", "kind"), every_time(*FORMS_NIGHTLY))
def test_conditions_have_the_same_forms_everywhere(name, kind, batches_of_three):
    conditional, _ = models(kind)
    x = incomplete(name, kind)
    quiet = functools.partial(measure, name, conditional, progress=False)
    found = quiet(x, condition=LABELS)
    assert_same(quiet(tf.constant(x), condition=tf.constant(LABELS)), found)
    pairs = tf.data.Dataset.from_tensor_slices((x, LABELS)).batch(3)
    assert_same(quiet(pairs), found)
    assert_same(quiet(pairs.map(lambda x, y: x), condition=LABELS), found)
    split = tfvae.data.Examples(x, conditions=LABELS.astype(np.int32))
    assert_same(quiet(split), found)
    assert_same(quiet(tfvae.data.Examples(x), condition=LABELS), found)


# What `score` gives an example with its condition is looked at in test_evaluation_scores.
@pytest.mark.parametrize(("name", "kind"), every_time(*LONGEST, "fit_posterior", "score"))
def test_every_example_has_its_own_condition(name, kind, batches_of_three):
    conditional, _ = models(kind)
    x = incomplete(name, kind)
    quiet = functools.partial(measure, name, conditional, progress=False)
    with quickest(name):
        found = quiet(x, condition=LABELS)
    if name not in OF_ALL:
        each = [measured_at(name, kind, label) for label in range(CLASSES)]
        for part, values in found.items():
            by_label = [other[part] for other in each]
            axis = 1 if part == "draws" else 0
            if np.ndim(values) > axis and np.shape(values)[axis] == len(LABELS):
                moved = [np.moveaxis(values_of, axis, 0) for values_of in (*by_label, values)]
                expected = [moved[label][n] for n, label in enumerate(LABELS)]
                np.testing.assert_allclose(moved[-1], expected, 2e-4, 2e-4, err_msg=part)
    if name not in WITHOUT_NOISE and kind != "bits":
        with quickest(name):
            other = quiet(x, condition=LABELS, seed=1)
        assert any(not np.array_equal(other[part], found[part]) for part in found)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_conditions_that_are_missing_or_not_wanted_or_do_not_fit_are_refused(name, kind):
    conditional, fixed = models(kind)
    x = examples(kind)
    with pytest.raises(InvalidArgument, match="The model has a condition, a label from 0 to 1"):
        measure(name, conditional, x, progress=False)
    with pytest.raises(InvalidArgument, match="got a condition and has none"):
        measure(name, fixed[0], x, condition=1, progress=False)
    with pytest.raises(InvalidData, match=r"expected \[6\], a label"):
        measure(name, conditional, x, condition=LABELS[:3], progress=False)
    pairs = tf.data.Dataset.from_tensor_slices((x, LABELS)).batch(3)
    with pytest.raises(InvalidArgument, match="expected one of the two"):
        measure(name, conditional, pairs, condition=LABELS, progress=False)
    split = tfvae.data.Examples(x, conditions=LABELS.astype(np.int32))
    with pytest.raises(InvalidArgument, match="have conditions of their own"):
        measure(name, conditional, split, condition=LABELS, progress=False)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_no_examples_are_refused_in_all_forms(name, kind):
    conditional, _ = models(kind)
    x = examples(kind)
    none = tf.data.Dataset.from_tensor_slices((x, LABELS)).take(0).batch(3)
    split = tfvae.data.Examples(x[:0], conditions=LABELS[:0])
    for data, y in ((none, None), (none.map(lambda x, y: x), 1), (split, None)):
        with pytest.raises(InvalidData, match="There are no examples to measure; expected at"):
            measure(name, conditional, data, condition=y, progress=False)
    with pytest.raises(InvalidData, match="`x` is empty; expected at least one example"):
        measure(name, conditional, x[:0], condition=1, progress=False)


def test_a_proposal_is_given_the_conditions():
    """With the exact posterior p(z|x, y) as proposal, every weight is p(x|y)."""
    conditional, fixed = models("normal")
    x = examples("normal")
    kernel, bias = conditional.decoder.get_weights()
    w, v = kernel[:2], kernel[2:]
    covariance = np.linalg.inv(np.eye(2) + w @ w.T / 0.25)

    def proposal(x, y):
        error = tf.reshape(x, [-1, 4]) - bias - tf.gather(v, y)
        mean = error @ (w.T @ covariance / 0.25).astype("f4")
        return tfd.MultivariateNormalTriL(mean, np.linalg.cholesky(covariance).astype("f4"))

    found = tfvae.log_likelihood(
        conditional, x, condition=LABELS, num_samples=3, proposal=proposal, progress=False
    )
    exact = [tfvae.exact_log_likelihood(m, x, progress=False).per_example for m in fixed]
    np.testing.assert_allclose(found.per_example, np.where(LABELS, *exact[::-1]), rtol=1e-4)


def test_vectors_have_a_closed_form_each():
    """x = W z + V y + b + σ ε with another y for every example."""
    rng = np.random.default_rng(5)
    decoder = networks.dense_decoder(2, SHAPE, hidden=(), condition_size=3)
    kernel, bias = rng.normal(size=(5, 4)), rng.normal(size=4)
    decoder.set_weights([kernel, bias])
    model = tfvae.VAE(
        networks.dense_encoder(SHAPE, 4),
        decoder,
        likelihood=likelihoods.Normal(0.5),
        condition=(3,),
    )
    x, y = rng.normal(size=(6, *SHAPE)), rng.normal(size=(6, 3))
    y[3] = y[0]
    found = tfvae.exact_log_likelihood(model, x, condition=y, batch_size=4, progress=False)
    covariance = kernel[:2].T @ kernel[:2] + 0.25 * np.eye(4)
    error = x.reshape(6, 4) - bias - y @ kernel[2:]
    quadratic = np.sum(error * np.linalg.solve(covariance, error.T).T, -1)
    expected = -0.5 * (quadratic + np.linalg.slogdet(2 * np.pi * covariance)[1])
    np.testing.assert_allclose(found.per_example, expected, rtol=1e-4)


@pytest.mark.parametrize(("kept", "found"), [(2, 4), (3, 3)])
def test_closed_forms_are_found_once_for_a_condition_as_far_as_there_is_memory(
    kept, found, monkeypatch
):
    model = model_of("normal", *dense_networks("normal", 3), condition=3)
    count, linear_gaussian = [], tfvae.exact.linear_gaussian
    monkeypatch.setattr(evaluation.enumeration, "CHUNK_SIZE", kept * 4 * 2)
    monkeypatch.setattr(
        tfvae.exact, "linear_gaussian", lambda *args: count.append(1) or linear_gaussian(*args)
    )
    x = np.random.default_rng(0).normal(size=(6, *SHAPE))
    y = [0, 1, 2, 0, 0, 2]
    tfvae.exact_log_likelihood(model, x, condition=y, batch_size=1, progress=False)
    assert len(count) == found


def test_the_gaps_find_a_closed_form_once_for_a_condition(monkeypatch):
    model = model_of("normal", *dense_networks("normal", 3), condition=3)
    count, linear_gaussian = [], tfvae.exact.linear_gaussian
    monkeypatch.setattr(
        tfvae.exact, "linear_gaussian", lambda *args: count.append(1) or linear_gaussian(*args)
    )
    x = np.random.default_rng(0).normal(size=(6, *SHAPE))
    given = {"condition": [0, 1, 2, 0, 0, 2], "progress": False}
    with without_graphs():
        posterior = tfvae.fit_posterior(model, x, num_steps=0, num_fresh_samples=2, **given)
    assert tfvae.amortization_gap(model, x, posterior=posterior, **given).is_exact
    assert len(count) == 3


@pytest.mark.parametrize("affine", nightly_but([0.0, 1.0], 1.0))
def test_a_decoder_may_be_affine_given_some_conditions_alone(affine):
    """x = W z + b + V (y − y₀) z² + σ ε, of which log p(x|y) is known where y = y₀."""
    z, c = keras.Input((1,)), keras.Input((1,))
    shift = keras.layers.Dense(1)
    square = keras.layers.Multiply()([shift(c), z, z])
    affine_part, other = keras.layers.Dense(2), keras.layers.Dense(2, use_bias=False)
    decoder = keras.Model([z, c], keras.layers.Add()([affine_part(z), other(square)]))
    shift.set_weights([np.ones((1, 1)), np.array([-affine])])
    w, b = np.array([[1.0, -2.0]]), np.array([0.5, 0.0])
    affine_part.set_weights([w, b])
    other.set_weights([np.array([[0.7, 0.3]])])
    model = tfvae.VAE(
        networks.dense_encoder((2,), 2, hidden=()),
        decoder,
        likelihood=likelihoods.Normal(0.5),
        condition=(1,),
    )
    x = np.random.default_rng(0).normal(size=(4, 2)).astype("f4")
    normal = scipy.stats.multivariate_normal(b, w.T @ w + 0.25 * np.eye(2))
    options = {"num_steps": 1, "num_fresh_samples": 10, "progress": False}
    with without_graphs():
        posterior = tfvae.fit_posterior(model, x, condition=[affine], **options)
    gap = functools.partial(tfvae.amortization_gap, model, x, posterior=posterior, progress=False)
    known = gap(condition=[affine])
    assert known.is_exact
    np.testing.assert_allclose(known.log_likelihood, normal.logpdf(x), rtol=1e-4)
    mixed = np.array([[affine], [1 - affine], [affine], [affine]])
    assert not gap(condition=mixed).is_exact
    with pytest.raises(InvalidArgument, match="no closed form"):
        tfvae.exact_log_likelihood(model, x, condition=mixed, progress=False)


# From the prior straight to the posterior, and by temperatures between them.
CHAINS = [(1, 20_000, 0.03), (20, 300, 0.2)]


@pytest.mark.parametrize(
    ("num_temperatures", "num_chains", "error"), nightly_but(CHAINS, CHAINS[0])
)
@pytest.mark.parametrize("prior", nightly_but(["conditional_normal", "flow"], "conditional_normal"))
def test_chains_start_at_the_prior_of_each_condition(prior, num_temperatures, num_chains, error):
    """Against quadrature over the two latents of log p(x|y) = log ∫ p(x|z) p(z|y) dz."""
    rng = np.random.default_rng(6)
    model = tfvae.VAE(
        networks.dense_encoder(SHAPE, 4, hidden=()),
        networks.dense_decoder(2, SHAPE, hidden=()),
        prior=prior,
        likelihood=likelihoods.Normal(1.0),
        condition=CLASSES,
    )
    model.set_weights([_small(rng, weight) for weight in model.get_weights()])
    x = rng.normal(size=(2, *SHAPE)).astype(np.float32)
    line = np.linspace(-12, 12, 120)
    grid = np.stack(np.meshgrid(line, line), -1).reshape(-1, 1, 2).astype(np.float32)
    log_joint = model.log_joint(x, tf.constant(grid), condition=[0, 1])
    expected = scipy.special.logsumexp(log_joint, axis=0) + 2 * np.log(line[1] - line[0])
    found = tfvae.annealed_importance_sampling(
        model,
        x,
        condition=[0, 1],
        num_chains=num_chains,
        num_temperatures=num_temperatures,
        num_leapfrog=2,
        progress=False,
    )
    assert found.sampling_error.max() < error
    assert np.all(np.abs(found.per_example - expected) < 5 * found.sampling_error)
    log_joint = model.log_joint(x, tf.constant(grid), condition=[1, 0])
    other = scipy.special.logsumexp(log_joint, axis=0) + 2 * np.log(line[1] - line[0])
    assert np.abs(other - expected).max() > 0.15  # 5 standard errors


def _small(rng, weight):
    """Return other weights of p(z|y) and p(x|z), but no other settings, which have no shape."""
    return 0.3 * rng.normal(size=weight.shape) if np.shape(weight) else weight
