import dataclasses
import tomllib

import pytest

from tfvae import data, recipes
from tfvae.config import Config, check_names, from_dict, load_config, parse_assignment
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
        ("training.epsilon", 0.0),
        ("training.steps_per_execution", 0),
        ("evaluation.num_samples", 0),
        ("evaluation.num_examples", -1),
    ],
)
def test_a_number_that_makes_no_sense_is_refused(key, value):
    with pytest.raises(InvalidArgument, match=f"^{key} is "):
        DEFAULTS.override({key: value})


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
        ({"model.posterior": "categorical"}, "num_categories is 0; expected at least 2"),
        ({"model.num_categories": 3}, "num_categories is 3, but latents of .*'diagonal_normal'"),
        ({"model.network": "conv", "model.hidden": []}, "model.hidden is .*at least one layer"),
        ({"model.upper_latent_sizes": [3, 0]}, r"model\.upper_latent_sizes\[1\] is 0"),
        ({"model.upper_hidden": [-1]}, r"model\.upper_hidden\[0\] is -1"),
        ({"data.resize": [64]}, r"data\.resize is \[64\]; expected a height and a width"),
        ({"data.crop": [0, 4]}, r"data\.crop\[0\] is 0"),
        ({"training.estimator_options": {"decay": 0.9}}, "no estimator is named"),
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


@pytest.mark.parametrize("content", [b"epochs", b"[training]\nepochs = = 3", b"\xff\xfe\x00"])
def test_a_file_that_is_not_toml_is_refused(tmp_path, content):
    (tmp_path / "config.toml").write_bytes(content)
    with pytest.raises(InvalidFile, match=r"config\.toml is not a TOML file"):
        load_config(tmp_path / "config.toml")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidFile, match=r"Cannot read .*nothing\.toml"):
        load_config(tmp_path / "nothing.toml")


@pytest.mark.parametrize(
    ("setting", "known"),
    [("data.binarization", data.BINARIZATIONS), ("data.layout", data.LAYOUTS)],
)
def test_the_choices_are_those_of_the_data(setting, known):
    for choice in known:
        Config().override({setting: choice})
    with pytest.raises(InvalidArgument, match=f"Valid names: {', '.join(sorted(known))}"):
        Config().override({setting: "another"})


@pytest.mark.parametrize(
    ("setting", "name", "closest"),
    [
        ("training.objective", "beta_vae", "'elbo', with"),
        ("training.estimator", "reinforce", "'score_function'"),
        ("model.posterior", "gaussian", "'diagonal_normal'"),
        ("model.prior", "gaussian", "'standard_normal'"),
        ("model.likelihood", "mse", "'normal'"),
        ("model.quantizer", "rvq", "'residual'"),
        ("code_prior.name", "gpt", "'transformer'"),
    ],
)
def test_a_name_of_no_part_is_refused(setting, name, closest):
    config = Config().override({setting: name, **(OF_CODES if "quantizer" in setting else {})})
    with pytest.raises(InvalidArgument, match=f"{name!r}. Did you mean {closest}"):
        check_names(config)


@pytest.mark.parametrize("name", recipes.names())
def test_the_parts_of_a_recipe_are_known(name):
    check_names(recipes.load(name))


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
            ("no/such/folder", "There is no file or folder no/such/folder"),
            ("none.npz", "There is no file none.npz"),
            ("notes.txt", "notes.txt is not a dataset"),
            ("run", "run is a run, not data"),
        ],
    )
    def test_the_rest_is_refused(self, tmp_path, monkeypatch, word, message):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "config.toml").touch()
        (tmp_path / "notes.txt").touch()
        with pytest.raises(TfvaeError, match=message):
            recipes.stands_for(word)
