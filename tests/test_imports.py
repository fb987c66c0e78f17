import ast
import configparser
import importlib.util
from pathlib import Path

import pytest

import tfvae

ROOT = Path(__file__).parents[1]

# Imports point from a layer to itself or to one before it.
LAYERS = [
    ["errors", "synonyms", "replicas"],
    ["_plain"],
    ["registry", "random"],
    ["kinds"],
    ["cells"],
    ["tables"],
    ["schema", "standardization"],
    ["checkpoints"],
    ["distribute", "inputs", "averages", "optimizers", "schedules", "conditions"],
    ["training"],
    ["flows"],
    ["distributions"],
    ["joint", "likelihoods", "posteriors", "objectives"],
    ["bound"],
    ["networks", "priors", "quantizers", "code_priors"],
    ["exact"],
    ["estimators"],
    ["models"],
    [
        *("config", "paths", "evaluation", "codec", "data", "export"),
        *("ondevice", "images", "outputs", "sound", "diagnosis"),
    ],
    ["callbacks", "sklearn"],
    ["recipes", "runs", "explore", "hub"],
    ["tools"],
]
LAYER_OF = {part: number for number, layer in enumerate(LAYERS) for part in layer}


def modules():
    """Yield the name and the file of every module, tools/ being installed as tfvae.tools."""
    for folder, package in (("tfvae", "tfvae"), ("tools", "tfvae.tools")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = ".".join([package, *path.relative_to(ROOT / folder).with_suffix("").parts])
            yield name.removesuffix(".__init__"), path


def imported(name, path):
    """Yield the parts of tfvae that a module names, in its imports or as `tfvae.part`."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            source = importlib.util.resolve_name(source, package)
            names = [f"{source}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names = [f"{node.value.id}.{node.attr}"]
        else:
            continue
        for imported_name in names:
            top, *rest = imported_name.split(".")
            if top == "tfvae" and rest and not rest[0].startswith("__"):
                home = tfvae._PUBLIC.get(rest[0]) or f"tfvae.{rest[0]}"
                yield home.split(".")[1]


MODULES = dict(modules())


def test_every_package_is_installed():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    on_disk = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    assert set(setup["options"]["packages"].split()) == on_disk


@pytest.mark.parametrize("name", MODULES)
def test_imports_flow_one_way(name):
    parts = set(imported(name, MODULES[name]))
    if name == "tfvae":
        assert parts <= {"errors"}, "tfvae itself imports the rest only when it is used"
        return
    part = name.split(".")[1]
    assert part in LAYER_OF, f"{part} has no layer: give it one in LAYERS"
    upwards = {p for p in parts if LAYER_OF[p] > LAYER_OF[part]}
    assert not upwards, f"{name} imports {upwards} from a later layer"


def test_the_imports_of_a_module_are_seen():
    assert {"errors", "objectives", "random"} <= set(
        imported(
            "tfvae.models.latent_variable_model", MODULES["tfvae.models.latent_variable_model"]
        )
    )


def test_tensorflow_probability_has_one_home():
    """It may have to be replaced one day, by what that module lists."""
    importing = [
        name for name, path in MODULES.items() if "tensorflow_probability" in path.read_text()
    ]
    assert importing == ["tfvae.distributions.tfd"]


@pytest.mark.parametrize("name", tfvae.__all__)
def test_a_public_name_can_be_used(name):
    assert getattr(tfvae, name) is not None
    assert name in dir(tfvae)


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'tfvae' has no attribute 'VEA'"):
        _ = tfvae.VEA


def test_the_core_and_the_device_side_import_no_tensorflow(run_python):
    script = """
import sys
import tfvae, tfvae.ondevice
heavy = {"tensorflow", "keras", "tensorflow_probability", "tensorflow_datasets", "sklearn"}
print(sorted(heavy & set(sys.modules)))
"""
    assert run_python(script).strip() == "[]"


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["optimizers", "bound"])
@pytest.mark.slow
def test_any_module_may_be_the_first_to_be_imported(name, run_python):
    """It is what imports Keras then, midway; classes are registered all the same."""
    script = f"""
import tfvae.{name}, keras
print(all(keras.saving.get_registered_object(f"tfvae>{{n}}") for n in ("VAE", "LinearWarmup")))
"""
    assert run_python(script).strip() == "True"


def test_without_the_training_part_an_error_says_what_to_install(run_python):
    script = """
import sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            raise ModuleNotFoundError("No module named 'tensorflow'", name=name)

sys.meta_path.insert(0, NotInstalled())
import tfvae
try:
    tfvae.VAE
except tfvae.errors.MissingDependency as error:
    print(error)
"""
    message = run_python(script)
    assert "tfvae.VAE needs the package 'tensorflow', which is not installed" in message
    assert "pip install 'tfvae[train]'" in message
