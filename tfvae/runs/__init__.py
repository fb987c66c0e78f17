"""Runs: directories with a trained model, its measures and its pictures."""

from tfvae.runs.build import build_model
from tfvae.runs.code_prior import train_prior
from tfvae.runs.directory import RunDirectory, load_model, open_model
from tfvae.runs.evaluate import evaluate
from tfvae.runs.train import load_data, train

__all__ = [
    "RunDirectory",
    "build_model",
    "evaluate",
    "load_data",
    "load_model",
    "open_model",
    "train",
    "train_prior",
]
