"""Relative paths in a configuration."""

from tfvae.config import Config
from tfvae.config.locations import with_absolute_paths


def test_what_is_there_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("x.npy", "prepared", "first.keras"):
        (tmp_path / name).touch()
    config = Config().override(
        {
            "data.name": "x.npy",
            "data.data_dir": "prepared",
            "training.initial_weights": "first.keras",
        }
    )
    found = with_absolute_paths(config)
    here = tmp_path.resolve()
    assert found.data.name == str(here / "x.npy")
    assert found.data.data_dir == str(here / "prepared")
    assert found.training.initial_weights == str(here / "first.keras")
    assert with_absolute_paths(found) == found


def test_what_is_no_path_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    for name in ("digits", "mnist", "none.npy"):
        config = Config().override({"data.name": name})
        assert with_absolute_paths(config) == config


def test_settings_that_were_not_given_here_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mnist", "prepared"):
        (tmp_path / name).mkdir()
    config = Config().override({"data.name": "mnist", "data.data_dir": "prepared"})
    found = with_absolute_paths(config, ["data.data_dir"])
    assert found.data.name == "mnist"
    assert found.data.data_dir == str(tmp_path.resolve() / "prepared")
