"""Export of trained models: SavedModel and LiteRT, each verified against Keras before it appears.

This package takes a trained model and knows nothing of how it was trained.
"""

from tfvae.export.litert import litert
from tfvae.export.saved_model import saved_model

__all__ = ["litert", "saved_model"]
