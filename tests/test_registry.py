import dataclasses
import importlib
import re
import runpy
import sys
import types
from pathlib import Path

import keras
import pytest

from tfvae import (
    code_priors,
    config,
    estimators,
    flows,
    likelihoods,
    objectives,
    posteriors,
    priors,
    quantizers,
)
from tfvae import recipes as recipe_library
from tfvae.errors import InvalidArgument, command, unknown_name
from tfvae.registry import Registry, names_in_source
from tfvae.synonyms import SYNONYMS

REGISTRIES = [
    objectives.REGISTRY,
    estimators.REGISTRY,
    flows.REGISTRY,
    posteriors.REGISTRY,
    likelihoods.REGISTRY,
    likelihoods.MISSINGNESS,
    priors.REGISTRY,
]
NAMES = {registry.kind: registry.names() for registry in REGISTRIES} | {
    "quantizer": quantizers.REGISTRY.names(),
    "code prior": code_priors.REGISTRY.names(),
    "model.family": ["vae", "vqvae", "vqvae2"],
    "recipe": recipe_library.names(),
    "setting": [
        f"{section}.{name}"
        for section, values in dataclasses.asdict(config.Config()).items()
        if isinstance(values, dict)
        for name in values
    ],
}


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_an_unknown_name_is_refused_with_the_closest_one(registry):
    for name in registry.names():
        misspelt = name[0] + name[2:]
        with pytest.raises(InvalidArgument, match=f"Did you mean '{name}'") as error:
            registry.get(misspelt)
        assert registry.kind in str(error.value)
        assert repr(misspelt) in str(error.value)


def test_a_name_like_no_other_gets_the_list_without_a_guess():
    with pytest.raises(InvalidArgument, match="Valid names: beta_tcvae, ciwae, elbo") as error:
        objectives.get("qqqqqqqq")
    assert "Did you mean" not in str(error.value)


def test_options_reach_the_constructor_and_misspelt_ones_are_refused():
    assert likelihoods.REGISTRY.get("categorical", num_levels=7).num_levels == 7
    with pytest.raises(InvalidArgument, match="Did you mean 'num_levels'"):
        likelihoods.REGISTRY.get("categorical", num_level=7)


def test_an_object_is_returned_as_it_is():
    factory = likelihoods.Categorical(5)
    assert likelihoods.REGISTRY.get(factory) is factory


@pytest.mark.parametrize("identifier", [None, 3, likelihoods.Categorical])
def test_what_is_neither_a_name_nor_an_instance_is_refused(identifier):
    with pytest.raises(InvalidArgument, match="an instance, not a class"):
        likelihoods.REGISTRY.get(identifier)


@pytest.mark.parametrize(
    ("registry", "name", "suggestion"),
    [
        (posteriors.REGISTRY, "gaussian", "'diagonal_normal'"),
        (posteriors.REGISTRY, "gaussian_diag", "'diagonal_normal'"),
        (likelihoods.REGISTRY, "Gaussian", "'normal'"),
        (likelihoods.REGISTRY, "mse", "'normal', whose −log p"),
        (likelihoods.REGISTRY, "bce", "'bernoulli'"),
        (priors.REGISTRY, "gaussian", "'standard_normal'"),
        (objectives.REGISTRY, "beta_vae", "'elbo', with `beta=`"),
        (objectives.REGISTRY, "vae", "'elbo'"),
        (objectives.REGISTRY, "IWAE", "'iwae'"),
        (estimators.REGISTRY, "reinforce", "'score_function'"),
        (estimators.REGISTRY, "sticking-the-landing", "'sticking_the_landing'"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.kind,
)
def test_a_name_from_elsewhere_is_refused_with_its_name_here(registry, name, suggestion):
    with pytest.raises(InvalidArgument) as error:
        registry.get(name)
    assert f"Unknown {registry.kind} {name!r}. Did you mean {suggestion}" in str(error.value)


@pytest.mark.parametrize("kind", SYNONYMS)
def test_every_name_from_elsewhere_stands_for_one_that_is_there(kind):
    names = NAMES[kind]
    letters = {re.sub(r"[\W_]", "", name) for name in names}
    for name, meant in SYNONYMS[kind].items():
        assert re.fullmatch("[a-z0-9]+", name)
        assert name not in letters, f"{name!r} is a name here"
        here = re.match(r"[\w.-]+", meant)[0]
        assert here in names
        assert f"Did you mean {here!r}" in str(unknown_name(kind, name, names))


def test_a_command_of_a_message_can_be_pasted():
    assert command("evaluate", Path("runs/mine ü")) == "tfvae evaluate 'runs/mine ü'"
    assert command("evaluate", Path("runs/vq-1")) == "tfvae evaluate runs/vq-1"


def test_the_names_in_the_source_are_those_of_the_registries():
    kinds = names_in_source()
    assert kinds == {kind: names for kind, names in NAMES.items() if kind in kinds}
    assert {registry.kind for registry in REGISTRIES} | {"quantizer", "code prior"} == set(kinds)


@pytest.fixture
def own_parts():
    """A registry with a part of the module "library", named "mean" and in Python `average`."""
    before = dict(keras.saving.get_custom_objects())
    registry = Registry("objective")
    registry.register("mean")(named("average", "library"))
    yield registry
    custom = keras.saving.get_custom_objects()
    for name in set(custom) - set(before):
        del custom[name]


def named(name, module):
    def part(log_weights):
        return log_weights[0]

    part.__name__, part.__module__ = name, module
    return part


@pytest.mark.parametrize(("name", "in_python"), [("mean", "mine"), ("mine", "average")])
def test_a_part_of_another_module_is_not_replaced(own_parts, name, in_python):
    taken = name if name == "mean" else in_python
    message = f"The objective '{taken}' of notebook cannot be registered, since library has"
    before = own_parts.part("mean")
    with pytest.raises(InvalidArgument, match=message):
        own_parts.register(name)(named(in_python, "notebook"))
    assert own_parts.names() == ["mean"]
    assert own_parts.part("mean") is keras.saving.get_registered_object("tfvae>average") is before


def test_a_part_is_replaced_by_one_of_the_same_module(own_parts):
    again = named("average", "library")
    own_parts.register("mean")(again)
    assert own_parts.part("mean") is keras.saving.get_registered_object("tfvae>average") is again


PART = """
from tfvae import objectives

@objectives.REGISTRY.register("mine")
class Mine(objectives.Objective):
    pass
"""


@pytest.fixture
def package(own_parts, tmp_path, monkeypatch):
    """A folder of a package `ours`, which imports its module `parts`; that registers a part."""
    folder = tmp_path / "ours"
    folder.mkdir()
    (folder / "__init__.py").write_text("from ours import parts")
    (folder / "parts.py").write_text(PART)
    monkeypatch.setattr(objectives, "REGISTRY", own_parts)
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in ("ours", "ours.parts"):
        sys.modules.pop(name, None)


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")  # Python says so of `python -m`, too
@pytest.mark.parametrize("way", ["python -m", "python"])
def test_a_module_that_runs_may_be_imported_too(package, own_parts, way):
    if way == "python -m":
        ran = runpy.run_module("ours.parts", run_name="__main__", alter_sys=True)
    else:
        importlib.import_module("ours")
        ran = runpy.run_path(str(package / "parts.py"), run_name="__main__")
    assert "ours.parts" in sys.modules
    assert ran["Mine"].__module__ == "__main__"
    assert own_parts.part("mine") is ran["Mine"]


def test_a_module_of_another_file_is_another_one(own_parts, tmp_path, monkeypatch):
    for name in ("library", "notebook"):
        module = types.ModuleType(name)
        module.__file__ = str(tmp_path / f"{name}.py")
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(InvalidArgument, match="'mean' of notebook cannot be registered"):
        own_parts.register("mean")(named("mine", "notebook"))
