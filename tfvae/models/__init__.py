"""Models: the shared base (`GenerativeModel`), its two kinds, and their final classes.

`LatentVariableModel`, the base of `VAE`, `HierarchicalVAE` and `LadderVAE`, maximizes a bound on
∫ p(x|z) p(z) dz, as `BoundTraining` says. `CodeModel`, the base of `VQVAE` and `HierarchicalVQVAE`,
has a deterministic encoder to integer codes; `CodeTraining` is its training, and `ReplaceablePrior`
its prior over them.
"""

from tfvae.models.bound_training import BoundTraining
from tfvae.models.code_model import CodeModel
from tfvae.models.code_training import CodeTraining
from tfvae.models.free_posteriors import fit_jointly
from tfvae.models.generative_model import GenerativeModel
from tfvae.models.hierarchical import HierarchicalVAE
from tfvae.models.hierarchical_vqvae import HierarchicalVQVAE
from tfvae.models.ladder import LadderVAE
from tfvae.models.latent_variable_model import LatentVariableModel
from tfvae.models.replaceable_prior import ReplaceablePrior
from tfvae.models.vae import VAE
from tfvae.models.vqvae import VQVAE

__all__ = [
    "VAE",
    "VQVAE",
    "BoundTraining",
    "CodeModel",
    "CodeTraining",
    "GenerativeModel",
    "HierarchicalVAE",
    "HierarchicalVQVAE",
    "LadderVAE",
    "LatentVariableModel",
    "ReplaceablePrior",
    "fit_jointly",
]
