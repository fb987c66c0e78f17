"""The estimator in scikit-learn's manner: scikit-learn's own checks, and answers known exactly."""

import pickle
import random

import numpy as np
import pytest
import tensorflow as tf
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.decomposition import FactorAnalysis
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator
from tiers import LONG, nightly_but

import tfvae
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.sklearn import VAETransformer

TINY = {"hidden": (4,), "num_steps": 1, "num_score_samples": 3, "random_state": 0}


# What takes longest and differs least from other checks, or from tests below.
SELDOM = {
    "check_fit_score_takes_y",
    "check_methods_subset_invariance",
    "check_pipeline_consistency",
    "check_transformer_data_not_an_array",
    "check_transformer_preserve_dtypes",
}


def checks():
    """Yield the checks of scikit-learn; those with arguments are variants of others."""
    for estimator, check in estimator_checks_generator(VAETransformer(**TINY)):
        name = check.func.__name__
        options = "".join(f"-{key}={value}" for key, value in check.keywords.items())
        marks = LONG if options or name in SELDOM else ()
        yield pytest.param(estimator, check, id=name + options, marks=marks)


@pytest.fixture
def eager(eagerly, monkeypatch):
    """Train without a graph, whose tracing is what takes the time of a few steps; score in one."""
    score = tfvae.sklearn.score

    def in_graph(*args, **options):
        tf.config.run_functions_eagerly(False)
        try:
            return score(*args, **options)
        finally:
            tf.config.run_functions_eagerly(True)

    monkeypatch.setattr(tfvae.sklearn, "score", in_graph)


@pytest.fixture(scope="module")
def wine():
    return load_wine().data


@pytest.fixture(scope="module")
def factors(wine):
    """A VAE with affine networks, which is factor analysis, and whose log p(x) is known."""
    return VAETransformer(
        2, hidden=(), num_steps=500, learning_rate=0.03, num_score_samples=300, random_state=0
    ).fit(wine)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.parametrize(("estimator", "check"), [*checks()])  # none is expected to fail
def test_scikit_learn_checks(estimator, check, eager):
    check(estimator)


def test_an_affine_vae_is_factor_analysis(wine, factors):
    standardized = StandardScaler().fit(wine)
    closest = FactorAnalysis(2).fit(standardized.transform(wine))
    best = closest.score(standardized.transform(wine)) - np.log(standardized.scale_).sum()
    assert best - 0.1 < factors.score(wine) < best + 0.02


def test_score_samples_is_log_p_in_the_units_of_the_table(wine, factors):
    x = ((wine - factors.mean_) / factors.scale_).astype("f4")
    exact = tfvae.exact_log_likelihood(factors.model_, x).per_example
    errors = tfvae.score(factors.model_, x, num_samples=300, progress=False).standard_error
    expected = exact - np.log(wine.std(axis=0)).sum()
    scores = factors.score_samples(wine)
    assert np.all(np.abs(scores - expected) < 5 * errors + 1e-3)
    assert factors.score(wine) == pytest.approx(scores.mean())


def test_latents_and_rows_are_the_means_of_q_and_p(wine, factors):
    x = ((wine - factors.mean_) / factors.scale_).astype("f4")
    z = factors.transform(wine)
    np.testing.assert_allclose(z, factors.model_.encode(x), atol=1e-5)
    back = np.asarray(factors.model_.decode(z)) * wine.std(axis=0) + wine.mean(axis=0)
    np.testing.assert_allclose(factors.inverse_transform(z), back, rtol=1e-4)
    with pytest.raises(InvalidArgument, match="X has 3 columns; expected the 2 latents"):
        factors.inverse_transform(np.zeros((1, 3)))


def test_a_fit_is_a_function_of_the_random_state_and_leaves_that_of_python_alone(wine, eager):
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    state, numpy_state = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (VAETransformer(**TINY).fit(wine).transform(wine) for _ in range(2))
    other = VAETransformer(**TINY | {"random_state": 1}).fit(wine).transform(wine)
    np.testing.assert_array_equal(first, second)
    assert not np.allclose(first, other)
    assert random.getstate() == state
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_it_stands_in_a_pipeline_and_a_grid_search(wine, eager):
    pipeline = make_pipeline(StandardScaler(), VAETransformer(**TINY))
    grid = {"vaetransformer__latent_size": [1, 2]}
    halves = [(np.arange(20), np.arange(20, 40))]
    search = GridSearchCV(pipeline, grid, cv=halves).fit(wine[:40])
    assert search.best_estimator_.transform(wine[:3]).shape[1] in (1, 2)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    names = search.best_estimator_.get_feature_names_out()
    assert list(names[:1]) == ["vaetransformer0"]


def test_a_pickle_and_a_clone_are_the_same(wine, factors):
    twin = pickle.loads(pickle.dumps(factors))
    np.testing.assert_array_equal(twin.score_samples(wine[:5]), factors.score_samples(wine[:5]))
    assert clone(factors).get_params() == factors.get_params()
    assert not hasattr(clone(factors), "model_")


def test_columns_that_are_no_real_numbers_are_left_as_they_are(rng, eager):
    table = np.column_stack([rng.normal(5.0, 3.0, (20, 2)), rng.integers(0, 2, 20)])
    blocks = [("normal", 2), ("bernoulli", 1)]
    mixed = VAETransformer(**TINY, likelihood="columns", likelihood_options={"blocks": blocks})
    mixed.fit(table)
    np.testing.assert_allclose(mixed.mean_, [*table[:, :2].mean(axis=0), 0.0])
    assert mixed.scale_[2] == 1.0
    likeliest = mixed.inverse_transform(mixed.transform(table))[:, 2]
    assert set(np.unique(likeliest)) <= {0.0, 1.0}


@pytest.mark.parametrize("size", nightly_but([2.0**1000, 2.0**-1000], 2.0**1000))
def test_columns_of_any_size_are_standardized(rng, eager, size):
    table = rng.normal(3.0, 2.0, (20, 2))
    usual, fitted = (VAETransformer(**TINY).fit(x) for x in (table, size * table))
    np.testing.assert_array_equal(fitted.mean_, size * usual.mean_)
    np.testing.assert_array_equal(fitted.scale_, size * usual.scale_)
    assert np.isfinite(fitted.score_samples(size * table)).all()


def test_a_constant_column_is_not_divided_by_zero(rng, eager):
    table = np.column_stack([rng.normal(size=20), np.full(20, 0.1)])
    fitted = VAETransformer(**TINY).fit(table)
    assert fitted.scale_[1] == 1.0
    assert np.isfinite(fitted.score_samples(table)).all()


def test_missing_values_are_left_out(wine, rng):
    """Against the closed form of what is observed, of an affine model."""
    holes = np.where(rng.random(wine.shape) < 0.2, np.nan, wine)
    options = {"hidden": (), "learning_rate": 0.02, "num_score_samples": 300, "random_state": 0}
    fitted = VAETransformer(2, num_steps=300, **options).fit(holes)
    np.testing.assert_allclose(fitted.mean_, np.nanmean(holes, axis=0))
    x = ((holes - fitted.mean_) / fitted.scale_).astype("f4")
    exact = tfvae.exact_log_likelihood(fitted.model_, x).per_example
    expected = exact - np.where(np.isnan(holes), 0.0, np.log(fitted.scale_)).sum(axis=1)
    errors = tfvae.score(fitted.model_, x, num_samples=300, progress=False).standard_error
    assert np.all(np.abs(fitted.score_samples(holes) - expected) < 6 * errors + 1e-3)
    assert np.isfinite(fitted.inverse_transform(fitted.transform(holes))).all()


def test_missing_values_that_cannot_be_are_refused(wine, factors):
    holes = wine.copy()
    holes[:, 3] = np.nan
    with pytest.raises(InvalidData, match="Column 3 of X has no observed value"):
        VAETransformer(**TINY).fit(holes)
    for measure in (factors.transform, factors.score_samples):
        with pytest.raises(InvalidData, match="the training rows had no missing values, so"):
            measure(holes)
    holes = np.where(np.eye(*wine.shape, dtype=bool), np.nan, wine)
    with pytest.raises(InvalidData, match=r"X has missing values .*`missing` is False"):
        VAETransformer(**TINY, missing=False).fit(holes)


def test_missing_values_may_be_in_the_test_rows_alone(wine, eager):
    """As in a fold of a cross-validation."""
    holes = np.where(np.eye(*wine.shape, dtype=bool), np.nan, wine)
    fitted = VAETransformer(**TINY, missing=True).fit(wine[20:])
    assert np.isfinite(fitted.transform(holes[:20])).all()
    assert np.isfinite(fitted.score(holes[:20]))


def test_a_table_is_not_a_constant_of_a_graph(rng):
    """A graph holds at most 2 GB."""
    x = rng.normal(size=(1000, 4)).astype("f4")
    batches = tfvae.sklearn._batches(x, 5, 2, seed=0)
    assert next(iter(batches)).shape == (5, 4)
    graph = batches._input_dataset._map_func.function.graph.as_graph_def()
    assert graph.ByteSize() < x.nbytes / 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"latent_size": 0}, "`latent_size` is 0"),
        ({"hidden": (4, 0.5)}, "`hidden` is 0.5"),
        ({"likelihood": "gauss"}, "Unknown likelihood 'gauss'"),
        ({"likelihood": "bernoulli"}, "the Bernoulli likelihood expects pixels"),
        ({"prior": "normal"}, "Unknown prior 'normal'"),
        ({"objective": "vae"}, "Unknown objective 'vae'"),
        ({"num_steps": 0}, "`num_steps` is 0"),
        ({"batch_size": 1.5}, "`batch_size` is 1.5"),
        ({"learning_rate": 0}, "`learning_rate` is 0"),
        ({"missing": "no"}, "`missing` is 'no'; expected 'auto', True or False"),
    ],
)
def test_a_wrong_argument_is_refused_by_fit(wine, wrong, message):
    with pytest.raises(ValueError, match=message):
        VAETransformer(**wrong).fit(wine)
