"""Export of trained models: LiteRT, SavedModel and ONNX, each verified against Keras first.

This package takes a trained model and does not depend on how it was trained.
"""

from tfvae.export.c_header import c_header
from tfvae.export.litert import litert
from tfvae.export.onnx import onnx
from tfvae.export.quality import quality
from tfvae.export.report import report
from tfvae.export.saved_model import saved_model

__all__ = ["c_header", "litert", "onnx", "quality", "report", "saved_model"]
