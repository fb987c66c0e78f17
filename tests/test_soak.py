"""A short part of `benchmarks/soak.py`: estimators on digits, at rates where others do well."""

import runpy
from pathlib import Path

import numpy as np
import pytest

import tfvae

SOAK = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "soak.py"))


@pytest.fixture(scope="module")
def digits():
    return SOAK["digits"]()


def losses(estimator, optimizer, x, **options):
    """Return the loss at each rate for one estimator, all of which must be finite."""
    rows = SOAK["blame"](list(SOAK["soak"](estimator, optimizer, "float32", x, **options)))
    assert [row["verdict"] for row in rows] == ["finite"] * len(rows)
    return np.array([row["loss"] for row in rows])


@pytest.mark.nightly
@pytest.mark.slow
def test_rebar_and_relax_do_as_disarm_does_in_the_first_steps(digits):
    """Under SGD; with η and τ trained at the model's rate both end in NaN."""
    expected = losses("disarm", "sgd", digits, steps=60, rates=(1e-3, 0.1))
    for name in ("rebar", "relax"):
        found = losses(name, "sgd", digits, steps=60, rates=(1e-3, 0.1))
        np.testing.assert_allclose(found, expected, atol=0.5)


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("name", tfvae.estimators.names())
def test_an_estimator_stays_finite_and_learns(digits, name):
    """Independent pixels at their means have 24.41 nats; plain SGD is not there yet."""
    assert losses(name, "sgd", digits, steps=400, rates=(0.1,)) < 30
    assert losses(name, "adam", digits, steps=400, rates=(0.02,)) < 24.4


def test_the_estimator_is_to_blame_where_a_reference_is_finite():
    def row(estimator, finite, rate):
        setting = {"optimizer": "sgd", "rate": rate, "precision": "float32"}
        return {"estimator": estimator, "finite": finite, "loss": 20.0, **setting}

    expected = {
        ("disarm", True, 0.1): "finite",
        ("nvil", False, 0.1): "NOT FINITE",
        ("disarm", False, 1.0): "NOT FINITE",
        ("exact", True, 1.0): "finite",
        ("disarm", False, 9.0): "model",
        ("nvil", False, 9.0): "model",
        ("vimco", True, 9.0): "finite",
        ("pathwise", False, 0.1): "model",
    }
    rows = SOAK["blame"]([row(*given) for given in expected])
    assert [row["verdict"] for row in rows] == list(expected.values())
    line = next(line for line in SOAK["table"](rows).splitlines() if line.startswith("disarm"))
    assert line.split() == ["disarm", "float32", "20.00", "NOT", "FINITE", "model"]
