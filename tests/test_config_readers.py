"""What a model does not read."""

import dataclasses

import pytest

from tfvae.config import Config
from tfvae.config.readers import READ_BY, unread
from tfvae.errors import InvalidArgument

DEFAULTS = Config()
OF_CODES = {"model.family": "vqvae", "model.network": "residual"}


def test_another_network_forgets_what_it_does_not_read():
    dense = DEFAULTS.override({"model.hidden": [7], "training.num_samples": 5})
    for change in ({"model.network": "transformer"}, OF_CODES):
        changed = dense.override(change)
        assert changed.model.hidden == DEFAULTS.model.hidden
    assert changed.training.num_samples == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"model.units": 8},
            "model.units is 8, but a model of family = 'vae' with network = 'dense'",
        ),
        ({"model.quantizer": "fsq"}, "model.quantizer is 'fsq', but .* does not read it"),
        ({**OF_CODES, "training.num_samples": 5}, "training.num_samples is 5, but .*'vqvae'"),
        ({**OF_CODES, "model.latent_size": 7}, "model.latent_size is 7"),
        (
            {"model.family": "ladder", "model.hidden": [7]},
            r"model.hidden is \(7,\), but .*'ladder'",
        ),
    ],
)
def test_a_setting_that_would_be_ignored_is_refused(values, message):
    with pytest.raises(InvalidArgument, match=message):
        DEFAULTS.override(values)


def test_they_are_settings_that_there_are():
    values = dataclasses.asdict(DEFAULTS)
    for key in READ_BY:
        section, _, name = key.partition(".")
        assert name in values[section]


def test_each_family_has_what_it_does_not_read():
    assert "model.quantizer" in unread({"family": "vae", "network": "dense"})
    assert "model.units" in unread({"family": "vae", "network": "dense"})
    assert "model.units" not in unread({"family": "vae", "network": "conv"})
    assert "training.beta" in unread({"family": "vqvae2", "network": "auto"})
    assert unread({"family": "ladder", "network": "residual"})[:3] == [
        "model.hidden",
        "model.units",
        "model.activation",
    ]
