"""Runs on the Hugging Face Hub: written with a model card, and read as files that run no code."""

from tfvae.hub.transfer import pull, push

__all__ = ["pull", "push"]
