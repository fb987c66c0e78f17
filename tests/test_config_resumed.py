"""The settings with which a training may go on."""

import dataclasses

import pytest

from tfvae.config import Config
from tfvae.config.resumed import RESUMED_WITH, check_resumed
from tfvae.errors import InvalidArgument

SECTIONS = ("data", "training")
BEFORE = Config().override({"training.initial_weights": "first", "training.epochs": 5})


def test_what_says_where_how_fast_and_how_long_may_change():
    faster = {
        "data.data_dir": "elsewhere",
        "data.download": True,
        "data.memory_gb": 3.0,
        "training.epochs": 9,
        "training.steps_per_execution": 1,
        "training.checkpoint_minutes": 1.0,
        "training.distribute": "mirrored",
        "code_prior.epochs": 3,
        "code_prior.distribute": "mirrored",
    }
    now = BEFORE.override(faster)
    check_resumed(BEFORE, now, (*SECTIONS, "code_prior"), "A run")
    assert {*faster, "training.jit_compile"} == set(RESUMED_WITH)


def test_they_are_settings_that_there_are():
    values = dataclasses.asdict(BEFORE)
    for key in RESUMED_WITH:
        section, _, name = key.partition(".")
        assert name in values[section]


def test_all_that_make_it_another_training_are_named():
    now = BEFORE.override({"training.seed": 1, "data.name": "wine", "training.epochs": 6})
    both = (
        r"A run that is resumed cannot change data.name \(from 'digits' to 'wine'\), training.seed"
    )
    with pytest.raises(InvalidArgument, match=both):
        check_resumed(BEFORE, now, SECTIONS, "A run")


def test_sections_that_are_not_read_may_be_others():
    now = BEFORE.override({"code_prior.seed": 4, "model.latent_size": 3})
    check_resumed(BEFORE, now, SECTIONS, "A run")


def test_a_path_is_the_same_from_another_folder(tmp_path, monkeypatch):
    (tmp_path / "x.npy").touch()
    monkeypatch.chdir(tmp_path)
    before = BEFORE.override({"data.name": str((tmp_path / "x.npy").resolve())})
    check_resumed(before, BEFORE.override({"data.name": "x.npy"}), SECTIONS, "A run")
