"""The values that settings may have, and those that go together."""

import pytest

from tfvae import data
from tfvae.config import Config
from tfvae.errors import InvalidArgument

DEFAULTS = Config()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.latent_size", 0),
        ("model.units", -1),
        ("training.num_samples", 0),
        ("training.epochs", 0),
        ("training.epochs", 10**20),
        ("code_prior.epochs", 10**9 + 1),
        ("training.batch_size", -5),
        ("training.learning_rate", 0.0),
        ("training.learning_rate", float("nan")),
        ("training.learning_rate", float("inf")),
        ("training.learning_rate", 3.41e38),
        ("code_prior.learning_rate", 1e300),
        ("training.steps_per_execution", 0),
        ("evaluation.num_samples", 0),
        ("evaluation.num_examples", -1),
    ],
)
def test_a_number_that_makes_no_sense_is_refused(key, value):
    with pytest.raises(InvalidArgument, match=f"^{key} is "):
        DEFAULTS.override({key: value})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model.posterior": "categorical"}, "num_categories is 0; expected at least 2"),
        ({"model.num_categories": 3}, "num_categories is 3, but latents of .*'diagonal_normal'"),
        ({"model.network": "conv", "model.hidden": []}, "model.hidden is .*at least one layer"),
        ({"model.upper_latent_sizes": [3, 0]}, r"model\.upper_latent_sizes\[1\] is 0"),
        ({"model.upper_hidden": [-1]}, r"model\.upper_hidden\[0\] is -1"),
        ({"data.resize": [64]}, r"data\.resize is \[64\]; expected a height and a width"),
        ({"data.crop": [0, 4]}, r"data\.crop\[0\] is 0"),
        ({"training.estimator_options": {"decay": 0.9}}, "no estimator is named"),
        ({"training.seed": -1}, "training.seed is -1; expected a whole number from 0"),
        ({"code_prior.seed": 2**32}, "code_prior.seed is 4294967296"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(values, message):
    with pytest.raises(InvalidArgument, match=message):
        DEFAULTS.override(values)


def test_an_empty_layer_is_named():
    with pytest.raises(InvalidArgument, match=r"model\.hidden\[1\] is 0"):
        DEFAULTS.override({"model.hidden": [3, 0]})


@pytest.mark.parametrize(
    ("key", "value", "closest"),
    [
        ("model.network", "dens", "dense"),
        ("training.schedule", "cosin", "cosine"),
        ("training.precision", "float23", "float32"),
        ("training.precision", "bfloat16", "mixed_bfloat16"),
    ],
)
def test_an_unknown_choice_is_answered_with_the_closest_one(key, value, closest):
    with pytest.raises(InvalidArgument, match=f"{key} '{value}'.*Did you mean '{closest}'"):
        DEFAULTS.override({key: value})


@pytest.mark.parametrize(
    ("setting", "known"),
    [("data.binarization", data.BINARIZATIONS), ("data.layout", data.LAYOUTS)],
)
def test_the_choices_are_those_of_the_data(setting, known):
    for choice in known:
        Config().override({setting: choice})
    with pytest.raises(InvalidArgument, match=f"Valid names: {', '.join(sorted(known))}"):
        Config().override({setting: "another"})
