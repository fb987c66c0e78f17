"""Models: one training loop (`LatentVariableModel`) and its final classes."""

from tfvae.models.free_posteriors import fit_jointly
from tfvae.models.hierarchical import HierarchicalVAE
from tfvae.models.latent_variable_model import LatentVariableModel
from tfvae.models.vae import VAE

__all__ = ["VAE", "HierarchicalVAE", "LatentVariableModel", "fit_jointly"]
