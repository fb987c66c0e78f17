"""Runs: directories with a trained model, its measures and its pictures."""

from tfvae.runs.build import build_model
from tfvae.runs.code_prior import encode_all, fit_to_resume, train_prior
from tfvae.runs.directory import RunDirectory, load_model, open_model
from tfvae.runs.evaluate import evaluate, export_examples, load_run, of_data
from tfvae.runs.train import load_data, train

__all__ = [
    "RunDirectory",
    "build_model",
    "encode_all",
    "evaluate",
    "export_examples",
    "fit_to_resume",
    "load_data",
    "load_model",
    "load_run",
    "of_data",
    "open_model",
    "train",
    "train_prior",
]
