"""Latent-variable models for Keras 3 on TensorFlow: trained, measured, and shipped to devices.

Names are imported when they are first used, so that the device side and `tfvae --help` need no
TensorFlow.
"""

import importlib
import pkgutil
import sys

from tfvae.errors import MissingDependency

__version__ = "0.1.0"

# Where each public name lives: to add one, add its line here.
_PUBLIC = {
    "VAE": "tfvae.models",
    "HierarchicalVAE": "tfvae.models",
    "LadderVAE": "tfvae.models",
    "VQVAE": "tfvae.models",
    "HierarchicalVQVAE": "tfvae.models",
    "GenerativeModel": "tfvae.models",
    "LatentVariableModel": "tfvae.models",
    "CodeModel": "tfvae.models",
    "log_likelihood": "tfvae.evaluation",
    "LogLikelihood": "tfvae.evaluation",
    "exact_log_likelihood": "tfvae.evaluation",
    "annealed_importance_sampling": "tfvae.evaluation",
    "fit_posterior": "tfvae.evaluation",
    "amortization_gap": "tfvae.evaluation",
    "mutual_information": "tfvae.evaluation",
    "active_units": "tfvae.evaluation",
    "score": "tfvae.evaluation",
    "impute": "tfvae.evaluation",
    "diagnose": "tfvae.diagnosis",
    "fit_jointly": "tfvae.models",
    "bound": None,
    "callbacks": None,
    "checkpoints": None,
    "code_priors": None,
    "codec": None,
    "conditions": None,
    "config": None,
    "data": None,
    "distribute": None,
    "distributions": None,
    "errors": None,
    "estimators": None,
    "evaluation": None,
    "exact": None,
    "export": None,
    "flows": None,
    "joint": None,
    "likelihoods": None,
    "models": None,
    "networks": None,
    "objectives": None,
    "ondevice": None,
    "optimizers": None,
    "posteriors": None,
    "priors": None,
    "quantizers": None,
    "random": None,
    "replicas": None,
    "recipes": None,
    "runs": None,
    "schedules": None,
    "sklearn": None,
    "sound": None,
}
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
