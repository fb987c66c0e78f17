"""Callbacks for the `fit` of any model of tfvae."""

from tfvae.callbacks.early_stopping import EarlyStopping
from tfvae.callbacks.resume import Resume

__all__ = ["EarlyStopping", "Resume"]
