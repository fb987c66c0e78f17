import dataclasses
import tomllib

import pytest

from tfvae import recipes
from tfvae.config import Config, from_dict, load_config
from tfvae.config.configuration import parse_assignment
from tfvae.errors import InvalidArgument, InvalidFile, TfvaeError

DEFAULTS = Config()
SECTIONS = ("data", "model", "training", "code_prior", "evaluation")


def test_the_recipes_are_those_that_are_documented():
    assert recipes.names() == [
        "counts-digits",
        "flow-mnist",
        "iwae-mnist",
        "iwae-mnist-2layer",
        "iwae-mnist-published",
        "ladder-mnist",
        "sbn-mnist-2layer",
        "sbn-mnist-linear",
        "sbn-mnist-nonlinear",
        "series-vowels",
        "table-wine",
        "vae-cells",
        "vae-counts",
        "vae-digits",
        "vae-images",
        "vae-mnist",
        "vae-series",
        "vae-table",
        "vae-tokens",
        "vae-vectors",
        "vamp-2layer-mnist",
        "vamp-mnist",
        "vqvae-cifar10",
        "vqvae-digits",
        "vqvae-images",
        "vqvae-mnist",
        "vqvae-series",
        "vqvae2-cifar10",
    ]


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_is_a_complete_configuration_under_its_own_name(name):
    config = recipes.load(name)
    assert config.name == name
    assert config.description
    written = tomllib.loads(config.to_toml())
    for section in SECTIONS:
        fields = {field.name for field in dataclasses.fields(getattr(config, section))}
        assert set(written[section]) == fields


@pytest.mark.parametrize("name", recipes.names())
def test_a_configuration_survives_toml(tmp_path, name):
    config = recipes.load(name).override({"data.data_dir": 'a "b" \\ ü', "data.resize": [3, 4]})
    (tmp_path / "config.toml").write_text(config.to_toml())
    assert load_config(tmp_path / "config.toml") == config


@pytest.mark.parametrize("name", recipes.names())
def test_the_text_of_a_recipe_is_what_is_loaded(tmp_path, name):
    (tmp_path / "own.toml").write_text(recipes.text(name))
    assert load_config(tmp_path / "own.toml") == recipes.load(name)


@pytest.mark.parametrize("function", [recipes.load, recipes.text])
def test_an_unknown_recipe_is_answered_with_the_closest_one(function):
    with pytest.raises(InvalidArgument, match=r"'vae-digit'.* mean 'vae-digits'.*iwae-mnist"):
        function("vae-digit")


def test_settings_that_a_file_does_not_name_keep_their_defaults(tmp_path):
    (tmp_path / "config.toml").write_text("[training]\nepochs = 7\n")
    training = dataclasses.replace(DEFAULTS.training, epochs=7)
    assert load_config(tmp_path / "config.toml") == dataclasses.replace(DEFAULTS, training=training)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("training.epochs", 3, 3),
        ("training.learning_rate", 0.5, 0.5),
        ("training.learning_rate", 1, 1.0),
        ("training.jit_compile", True, True),
        ("model.hidden", [4, 5, 6], (4, 5, 6)),
        ("model.hidden", [], ()),
        ("model.upper_latent_sizes", [3], (3,)),
        ("training.objective_options", {"alpha": 2.0}, {"alpha": 2.0}),
        ("training.schedule", "iwae", "iwae"),
        ("model.likelihood_options", {"num_levels": 2}, {"num_levels": 2}),
        ("data.name", "mnist", "mnist"),
        ("evaluation.num_examples", 0, 0),
    ],
)
def test_override_replaces_one_setting_with_its_type(key, value, expected):
    section, field = key.split(".")
    changed = DEFAULTS.override({key: value})
    got = getattr(getattr(changed, section), field)
    assert got == expected
    assert type(got) is type(expected)
    assert changed.override({key: getattr(getattr(DEFAULTS, section), field)}) == DEFAULTS


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("traning.epochs", "section 'traning'.*Did you mean 'training'"),
        ("epochs", "'epochs' names no section.*'training.epochs' or 'code_prior.epochs'"),
        ("name", "'name' names no section.*'data.name'"),
        ("training.epoch", r"setting 'training\.epoch'.*Did you mean 'training\.epochs'"),
        ("model.latent_sise", r"Did you mean 'model\.latent_size'"),
        ("nothing", "section 'nothing'"),
        ("training.lr", r"Did you mean 'training\.learning_rate'"),
        ("data.", r"setting 'data\.'"),
    ],
)
def test_an_unknown_key_is_answered_with_the_closest_one(key, message):
    with pytest.raises(InvalidArgument, match=message):
        DEFAULTS.override({key: 1})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trainig": {}}, "'trainig'.*Did you mean 'training'"),
        ({"training": {"epoch": 1}}, r"'training\.epoch'.*Did you mean 'training\.epochs'"),
        ({"training": 3}, r"training is 3; expected a section, \[training\]"),
        ({"name": 3}, "name is 3.*str"),
    ],
)
def test_an_unknown_key_of_a_file_is_refused(values, message):
    with pytest.raises(InvalidArgument, match=message):
        from_dict(values)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("training.epochs", "three", "int"),
        ("training.epochs", 3.0, "int"),
        ("training.epochs", True, "int"),
        ("training.learning_rate", "fast", "float"),
        ("training.learning_rate", True, "float"),
        ("training.jit_compile", 1, "bool"),
        ("training.objective", 1, "str"),
        ("data.name", 5, "str"),
        ("model.hidden", 200, "list of numbers"),
        ("model.hidden", [1.5], "list of numbers"),
        ("model.hidden", [True], "list of numbers"),
        ("model.hidden", "200", "list of numbers"),
        ("model.likelihood_options", "none", "dict"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(key, value, expected):
    with pytest.raises(InvalidArgument, match=rf"^{key} is .*{expected}"):
        DEFAULTS.override({key: value})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training.epochs=3", ("training.epochs", 3)),
        ("training.learning_rate=1e-3", ("training.learning_rate", 1e-3)),
        ("model.hidden=[20, 10]", ("model.hidden", [20, 10])),
        ("training.jit_compile=true", ("training.jit_compile", True)),
        ("model.likelihood=normal", ("model.likelihood", "normal")),
        ('model.likelihood="normal"', ("model.likelihood", "normal")),
        (" data.name = mnist ", ("data.name", "mnist")),
        ("data.data_dir=/a=b", ("data.data_dir", "/a=b")),
        ("data.data_dir=", ("data.data_dir", "")),
        ("model.likelihood_options={scale=0.5}", ("model.likelihood_options", {"scale": 0.5})),
    ],
)
def test_an_assignment_is_read_as_toml_or_else_as_text(text, expected):
    assert parse_assignment(text) == expected


def test_an_assignment_without_a_value_is_refused():
    with pytest.raises(InvalidArgument, match=r"'training\.epochs'.*section\.key=value"):
        parse_assignment("training.epochs")


@pytest.mark.parametrize("value", [None, object(), [1, None], {"inner": None}])
def test_options_that_no_file_can_hold_are_named(value):
    config = DEFAULTS.override({"model.posterior_options": {"scale": value}})
    with pytest.raises(InvalidArgument, match=r"model\.posterior_options is .*config.toml cannot"):
        config.to_toml()


@pytest.mark.parametrize("content", [b"epochs", b"[training]\nepochs = = 3", b"\xff\xfe\x00"])
def test_a_file_that_is_not_toml_is_refused(tmp_path, content):
    (tmp_path / "config.toml").write_bytes(content)
    with pytest.raises(InvalidFile, match=r"config\.toml is not a TOML file"):
        load_config(tmp_path / "config.toml")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidFile, match=r"Cannot read .*nothing\.toml"):
        load_config(tmp_path / "nothing.toml")


class TestWhatAWordStandsFor:
    def test_recipes_files_and_images(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "pictures").mkdir()
        (tmp_path / "vae-mnist").mkdir()
        (tmp_path / "x.npy").touch()
        words = {
            "vae-mnist": "recipe",
            "./vae-mnist": "data",
            "pictures": "data",
            "x.npy": "data",
            "own.toml": "config",
        }
        for word, kind in words.items():
            assert recipes.stands_for(word) == (kind, word)

    @pytest.mark.parametrize(
        ("word", "message"),
        [
            ("vae-minst", "mean 'vae-mnist'.* Or give the path"),
            ("digits", "mean 'vae-digits'.* --dataset DATA"),
            ("nonexist", "There is no file or folder nonexist either. Or give the path"),
            ("no/such/folder", "There is no file or folder no/such/folder"),
            ("none.npz", "There is no file none.npz"),
            ("notes.txt", "notes.txt is not a dataset"),
            ("my run", "my run is a run, not data.* `tfvae train --resume --run-dir 'my run'`"),
        ],
    )
    def test_the_rest_is_refused(self, tmp_path, monkeypatch, word, message):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "my run").mkdir()
        (tmp_path / "my run" / "config.toml").touch()
        (tmp_path / "notes.txt").touch()
        with pytest.raises(TfvaeError, match=message):
            recipes.stands_for(word)
