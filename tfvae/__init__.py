"""Latent-variable models for Keras 3 on TensorFlow: trained, measured, and shipped to devices.

The names in `__init__.pyi` are imported when they are first used, so that the device side and
`tfvae --help` need no TensorFlow.
"""

import ast
import importlib
import pkgutil
import sys
from pathlib import Path

from tfvae.errors import MissingDependency

__version__ = "0.1.0"


def _read_stub():
    """Return the module that each public name is imported from; None for a module itself."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    return {
        alias.name: None if node.module == __name__ else node.module
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


_PUBLIC = _read_stub()
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tfvae' has no attribute {name!r}")
    home = _PUBLIC[name]
    try:
        module = importlib.import_module(home or f"tfvae.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "tfvae":
            raise
        raise MissingDependency(
            f"tfvae.{name} needs the package {error.name!r}, which is not installed. "
            "Install tfvae with its training part: pip install 'tfvae[train]'."
        ) from error
    value = getattr(module, name) if home else module
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)


def _register_with_keras():
    """Make `keras.saving.load_model` know our classes once Keras and TensorFlow are imported.

    Keras finds a class by its registered name, so the class must have been imported; importing it
    here at once would import TensorFlow. Each of the two imports the other midway, and a module of
    ours may be what imports them: all must be complete.
    """
    try:
        import wrapt
    except ModuleNotFoundError:  # installed without the training part
        return

    def register(imported):
        def complete(module):
            spec = getattr(module, "__spec__", None)
            return module is imported or not getattr(spec, "_initializing", False)

        needed = [sys.modules.get(name) for name in ("keras", "tensorflow")]
        if None in needed:
            return
        ours = [module for name, module in list(sys.modules.items()) if name.startswith("tfvae.")]
        if not all(map(complete, needed + ours)):
            return
        for name in (
            "models",
            "optimizers",
            "networks",
            "flows",
            "estimators",
            "quantizers",
            "code_priors",
            "schedules",
        ):
            importlib.import_module(f"tfvae.{name}")

    ours = [f"tfvae.{module.name}" for module in pkgutil.iter_modules(__path__)]
    for name in ("keras", "tensorflow", *ours):
        wrapt.register_post_import_hook(register, name)


_register_with_keras()
