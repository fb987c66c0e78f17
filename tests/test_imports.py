import ast
import configparser
import importlib.util
import re
from pathlib import Path

import pytest

import tfvae

ROOT = Path(__file__).parents[1]


def places():
    """Return the parts in the order of the table of CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split("\n## Where things are\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    return [name.rstrip("/") for cell in cells for name in re.findall(r"`([^`]*)`", cell)]


PLACES = places()


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


def test_every_part_has_one_place_in_the_table():
    parts = {name.split(".")[1] for name in MODULES if name != "tfvae"}
    assert sorted(PLACES) == sorted(parts), "name each part once in the table of CONTRIBUTING.md"


def test_a_package_is_named_as_a_folder():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for part in PLACES:
        is_package = MODULES[f"tfvae.{part}"].name == "__init__.py"
        assert f"`{part}/`" in text if is_package else f"`{part}`" in text


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_what_is_named_before_it(name):
    parts = set(imported(name, MODULES[name]))
    if name == "tfvae":
        assert parts <= {"errors"}, "tfvae itself imports the rest only when it is used"
        return
    part = name.split(".")[1]
    later = parts - set(PLACES[: PLACES.index(part) + 1])
    assert not later, f"{name} imports {later}, which the table of CONTRIBUTING.md names after it"


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
