"""What every training loop shares: its settings, checks of its data, and the mean of its loss."""

from tfvae.training.batch import unpack
from tfvae.training.directions import averaging, learning_rate_of
from tfvae.training.own_loss import COMPILE_OPTIONS, Loss, OwnLoss, bound

__all__ = [
    "COMPILE_OPTIONS",
    "Loss",
    "OwnLoss",
    "averaging",
    "bound",
    "learning_rate_of",
    "unpack",
]
