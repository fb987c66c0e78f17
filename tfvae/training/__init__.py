"""What every training loop shares: its settings, checks of its data, and the mean of its loss."""

from tfvae.training.batch import unpack
from tfvae.training.directions import averaging
from tfvae.training.own_loss import COMPILE_OPTIONS, Loss, OwnLoss, bound

__all__ = [
    "COMPILE_OPTIONS",
    "Loss",
    "OwnLoss",
    "averaging",
    "bound",
    "unpack",
]
